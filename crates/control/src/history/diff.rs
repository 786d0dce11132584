//! What is different between two texts, as `diff -u` writes it.
//!
//! What always holds: time and memory are bounded by [`CELLS_MAX`], length by [`LINES_MAX`]; only texts
//! without secrets are looked at.

use std::fmt::Write as _;
use std::path::Path;

use super::{Text, Texts};

/// Lines around a change that are the same.
const CONTEXT: usize = 3;

/// Cells of the table that finds what two texts have in common: two thousand lines that are all different
/// in the midst of others that are not. Where more would be needed, all of them are shown as changed.
const CELLS_MAX: usize = 4_000_000;

/// Lines of one difference; the rest is counted.
const LINES_MAX: usize = 400;

/// One line of a difference, by its number in the old and the new text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Same(usize, usize),
    Gone(usize),
    New(usize),
}

/// The differences of all files, those that came or went too.
pub(super) fn of_texts(old: &Texts, new: &Texts) -> String {
    let mut out = String::new();
    for text in new.iter() {
        let before = old.iter().find(|one| one.path == text.path);
        of_file(&text.path, before, Some(text), &mut out);
    }
    for text in old.iter().filter(|text| !new.iter().any(|one| one.path == text.path)) {
        of_file(&text.path, Some(text), None, &mut out);
    }
    bounded(out)
}

fn of_file(path: &Path, old: Option<&Text>, new: Option<&Text>, out: &mut String) {
    if let (Some(old), Some(new)) = (old, new)
        && old.content == new.content
    {
        return;
    }
    let path = path.display();
    let shown = |text: Option<&Text>| match text {
        Some(text) => text.shown.clone(),
        None => Some("".into()),
    };
    let (Some(before), Some(after)) = (shown(old), shown(new)) else {
        let _ = writeln!(out, "{path} has changed, and cannot be shown because it cannot be read");
        return;
    };
    if before == after {
        let _ = writeln!(out, "{path}: something secret has changed");
        return;
    }
    let name =
        |text: Option<&Text>| text.map_or_else(|| "/dev/null".to_owned(), |_| path.to_string());
    let _ = writeln!(out, "--- {}\n+++ {}", name(old), name(new));
    unified(&before, &after, out);
}

/// Cuts what is too long.
fn bounded(text: String) -> String {
    let lines = text.lines().count();
    if lines <= LINES_MAX {
        return text;
    }
    let mut short: String = text.split_inclusive('\n').take(LINES_MAX).collect();
    let _ = writeln!(short, "... and {} more lines", lines - LINES_MAX);
    short
}

fn unified(old: &str, new: &str, out: &mut String) {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let steps = steps(&old, &new);
    let is_change = |step: &Step| !matches!(step, Step::Same(..));
    let mut next = 0;
    while let Some(first) = steps.iter().skip(next).position(is_change).map(|at| at + next) {
        // A hunk goes on as long as changes are no further apart than their context.
        let mut last = first;
        while let Some(more) = steps.iter().skip(last + 1).take(2 * CONTEXT + 1).position(is_change)
        {
            last += more + 1;
        }
        let end = (last + 1 + CONTEXT).min(steps.len());
        let hunk = steps.get(first.saturating_sub(CONTEXT)..end).unwrap_or_default();
        write_hunk(hunk, &old, &new, out);
        next = last + 1;
    }
}

fn write_hunk(hunk: &[Step], old: &[&str], new: &[&str], out: &mut String) {
    let before = hunk.iter().filter_map(|step| match step {
        Step::Same(at, _) | Step::Gone(at) => Some(*at),
        Step::New(_) => None,
    });
    let after = hunk.iter().filter_map(|step| match step {
        Step::Same(_, at) | Step::New(at) => Some(*at),
        Step::Gone(_) => None,
    });
    let range = |lines: Vec<usize>| match lines.first() {
        Some(first) => format!("{},{}", first + 1, lines.len()),
        None => "0,0".to_owned(),
    };
    let _ = writeln!(out, "@@ -{} +{} @@", range(before.collect()), range(after.collect()));
    for step in hunk {
        let (sign, line) = match step {
            Step::Same(at, _) => (' ', old.get(*at)),
            Step::Gone(at) => ('-', old.get(*at)),
            Step::New(at) => ('+', new.get(*at)),
        };
        let _ = writeln!(out, "{sign}{}", line.copied().unwrap_or_default());
    }
}

/// How the old lines become the new ones, with as many of them kept as can be.
fn steps(old: &[&str], new: &[&str]) -> Vec<Step> {
    let begin = old.iter().zip(new).take_while(|(one, other)| one == other).count();
    let (old_rest, new_rest) = (old.get(begin..).unwrap_or(&[]), new.get(begin..).unwrap_or(&[]));
    let ends = old_rest.iter().rev().zip(new_rest.iter().rev());
    let end = ends.take_while(|(one, other)| one == other).count();
    let old_mid = old_rest.get(..old_rest.len() - end).unwrap_or(&[]);
    let new_mid = new_rest.get(..new_rest.len() - end).unwrap_or(&[]);
    let mut steps: Vec<Step> = (0..begin).map(|at| Step::Same(at, at)).collect();
    between(old_mid, new_mid, begin, &mut steps);
    let (old_end, new_end) = (begin + old_mid.len(), begin + new_mid.len());
    steps.extend((0..end).map(|at| Step::Same(old_end + at, new_end + at)));
    steps
}

/// The longest common subsequence of lines, by the table of its lengths.
fn between(old: &[&str], new: &[&str], begin: usize, steps: &mut Vec<Step>) {
    let width = new.len() + 1;
    if (old.len() + 1).saturating_mul(width) > CELLS_MAX {
        steps.extend((0..old.len()).map(|at| Step::Gone(begin + at)));
        steps.extend((0..new.len()).map(|at| Step::New(begin + at)));
        return;
    }
    // How many lines the rests from here on have in common.
    let mut common = vec![0_u32; (old.len() + 1) * width];
    let at = |common: &[u32], row: usize, column: usize| {
        common.get(row * width + column).copied().unwrap_or(0)
    };
    for (row, one) in old.iter().enumerate().rev() {
        for (column, other) in new.iter().enumerate().rev() {
            let longest = match one == other {
                true => at(&common, row + 1, column + 1) + 1,
                false => at(&common, row + 1, column).max(at(&common, row, column + 1)),
            };
            if let Some(cell) = common.get_mut(row * width + column) {
                *cell = longest;
            }
        }
    }
    let (mut row, mut column) = (0, 0);
    while row < old.len() || column < new.len() {
        if row < old.len() && column < new.len() && old.get(row) == new.get(column) {
            steps.push(Step::Same(begin + row, begin + column));
            row += 1;
            column += 1;
        } else if column >= new.len()
            || row < old.len() && at(&common, row + 1, column) >= at(&common, row, column + 1)
        {
            steps.push(Step::Gone(begin + row));
            row += 1;
        } else {
            steps.push(Step::New(begin + column));
            column += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(old: &str, new: &str) -> String {
        let mut out = String::new();
        unified(old, new, &mut out);
        out
    }

    fn numbered(count: usize) -> Vec<String> {
        (1..=count).map(|number| format!("line {number}")).collect()
    }

    #[test]
    fn equal_texts_have_no_difference() {
        assert_eq!(diff("a\nb\n", "a\nb\n"), "");
    }

    #[test]
    fn a_change_stands_between_three_lines_of_context() {
        let old = numbered(10);
        let mut new = old.clone();
        new[4] = "other".to_owned();
        let expected = "@@ -2,7 +2,7 @@\n line 2\n line 3\n line 4\n-line 5\n+other\n line 6\n line 7\n line 8\n";
        assert_eq!(diff(&old.join("\n"), &new.join("\n")), expected);
    }

    #[test]
    fn changes_far_apart_are_hunks_of_their_own_and_near_ones_are_one() {
        let old = numbered(30);
        let mut far = old.clone();
        far[2] = "x".to_owned();
        far[20] = "y".to_owned();
        assert_eq!(diff(&old.join("\n"), &far.join("\n")).matches("@@ -").count(), 2);
        let mut near = old.clone();
        near[2] = "x".to_owned();
        near[9] = "y".to_owned();
        assert_eq!(diff(&old.join("\n"), &near.join("\n")).matches("@@ -").count(), 1);
    }

    #[test]
    fn lines_that_come_or_go_leave_the_others() {
        assert_eq!(diff("a\nb\nc", "a\nc"), "@@ -1,3 +1,2 @@\n a\n-b\n c\n");
        assert_eq!(diff("a\nc", "a\nb\nc"), "@@ -1,2 +1,3 @@\n a\n+b\n c\n");
        assert_eq!(diff("", "a"), "@@ -0,0 +1,1 @@\n+a\n");
    }

    #[test]
    fn applying_the_steps_makes_the_new_text() {
        let words = ["a", "b", "c", "b", "d", "a", "c", "c"];
        for (from, to) in (0..8).flat_map(|from| (0..8).map(move |to| (from, to))) {
            let old: Vec<&str> = words[from..].to_vec();
            let new: Vec<&str> = words[..to].iter().rev().copied().collect();
            let (mut kept, mut made) = (Vec::new(), Vec::new());
            for step in steps(&old, &new) {
                match step {
                    Step::Same(one, other) => {
                        assert_eq!(old[one], new[other]);
                        kept.push(one);
                        made.push(other);
                    }
                    Step::Gone(at) => kept.push(at),
                    Step::New(at) => made.push(at),
                }
            }
            assert_eq!(kept, (0..old.len()).collect::<Vec<_>>());
            assert_eq!(made, (0..new.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_too_large_is_shown_as_changed_and_cut() {
        let old: Vec<String> = (0..3000).map(|number| format!("old {number}")).collect();
        let new: Vec<String> = (0..3000).map(|number| format!("new {number}")).collect();
        let out = bounded(diff(&old.join("\n"), &new.join("\n")));
        assert_eq!(out.lines().count(), LINES_MAX + 1);
        assert!(out.ends_with("more lines\n"), "{out}");
    }
}
