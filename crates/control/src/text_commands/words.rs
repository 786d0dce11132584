//! A line taken apart as HAProxy does: commands by `;`, words by spaces, and a backslash before what
//! is to mean itself.

use std::time::Duration;

/// Words of one command; what comes after is not looked at.
const WORDS_MAX: usize = 64;

/// One line.
pub(super) struct Line<'a>(&'a str);

impl<'a> Line<'a> {
    pub(super) fn new(line: &'a str) -> Self {
        Self(line)
    }

    /// The words of each of its commands.
    pub(super) fn commands(&self) -> impl Iterator<Item = Vec<String>> + use<'a> {
        let mut rest = Some(self.0);
        std::iter::from_fn(move || {
            let (command, after) = split(rest?);
            rest = after;
            Some(words(command))
        })
    }
}

/// The first command of a line, and what comes after it; `None` if there is nothing after.
fn split(line: &str) -> (&str, Option<&str>) {
    let mut escaped = false;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b';' => {
                let (command, after) = line.split_at(at);
                return (command, after.get(1..));
            }
            _ => {}
        }
    }
    (line, None)
}

fn words(command: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        let meant = match character {
            ' ' | '\t' => {
                words.extend(word.take());
                if words.len() >= WORDS_MAX {
                    return words;
                }
                continue;
            }
            '\\' => characters.next().unwrap_or('\\'),
            character => character,
        };
        word.get_or_insert_default().push(meant);
    }
    words.extend(word);
    words
}

/// A length of time as HAProxy writes it: a number, of seconds here, or with a unit.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|one: char| !one.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u32 = number.parse().ok()?;
    let unit = match unit {
        "us" => Duration::from_micros(1),
        "ms" => Duration::from_millis(1),
        "s" | "" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(60 * 60),
        "d" => Duration::from_secs(24 * 60 * 60),
        _ => return None,
    };
    unit.checked_mul(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_apart(line: &str) -> Vec<Vec<String>> {
        Line::new(line).commands().collect()
    }

    #[test]
    fn commands_are_split_at_semicolons_and_words_at_spaces() {
        assert_eq!(taken_apart(" show  backend\t; help"), [vec!["show", "backend"], vec!["help"]]);
        assert_eq!(taken_apart(r"get weight a\ b/c\;d"), [["get", "weight", "a b/c;d"]]);
        assert_eq!(taken_apart(r"a\\ \"), [["a\\", "\\"]]);
        assert_eq!(taken_apart(";"), [Vec::<String>::new(), Vec::new()]);
        assert_eq!(taken_apart(""), [Vec::<String>::new()]);
        assert_eq!(taken_apart(&"a ".repeat(1000))[0].len(), WORDS_MAX);
    }

    #[test]
    fn durations_have_the_units_of_haproxy() {
        for (text, expected) in [
            ("10", Some(Duration::from_secs(10))),
            ("10s", Some(Duration::from_secs(10))),
            ("250ms", Some(Duration::from_millis(250))),
            ("2m", Some(Duration::from_secs(120))),
            ("1d", Some(Duration::from_secs(86_400))),
            ("", None),
            ("s", None),
            ("1x", None),
            ("-1", None),
            ("99999999999", None),
        ] {
            assert_eq!(duration(text), expected, "{text:?}");
        }
    }
}
