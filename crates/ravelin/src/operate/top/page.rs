//! The numbers as a page of text, for a terminal or for a script.

use super::numbers::{Row, Traffic};
use crate::operate::tail::duration;
use crate::operate::{duration as long, table::Table};

/// Columns behind the names.
const NUMBERS: [&str; 8] = ["req/s", "requests", "4xx", "errors", "p50", "p90", "p99", "sent"];

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// The page, cut to `size` if there is one.
pub(super) fn page(traffic: &Traffic, size: Option<Size>, color: bool) -> String {
    let (bold, off) = if color { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let since = match traffic.is_all {
        true => format!("since the start {} ago", long(traffic.uptime)),
        false => format!("in {:.1} s, up for {}", traffic.time, long(traffic.uptime)),
    };
    let keys = if size.is_some() { "    q ends" } else { "" };
    let mut lines = vec![
        format!("{bold}ravelin{off}  {since}{keys}"),
        format!(
            "{} connections, {} requests under way, {} WebSockets",
            traffic.connections, traffic.active, traffic.all.websockets
        ),
    ];
    let parts = [
        (&["all"][..], std::slice::from_ref(&traffic.all)),
        (&["site"][..], &traffic.sites[..]),
        (&["site", "route"][..], &traffic.routes[..]),
        (&["site", "pool", "endpoint"][..], &traffic.endpoints[..]),
    ];
    let mut room = size.map(|size| size.rows.saturating_sub(lines.len()));
    for (at, (names, rows)) in parts.into_iter().enumerate() {
        // Each part gets what is its share of what is left, and its headings.
        let share = room.map(|room| (room / (4 - at)).saturating_sub(2));
        let count = share.map_or(rows.len(), |share| rows.len().min(share));
        let rows = rows.get(..count).unwrap_or_default();
        if rows.is_empty() {
            continue;
        }
        lines.push(String::new());
        let table = table(names, rows, traffic.time);
        let mut table = table.lines();
        lines.extend(table.next().map(|headings| format!("{bold}{headings}{off}")));
        lines.extend(table.map(str::to_owned));
        room = room.map(|room| room.saturating_sub(count + 2));
    }
    match size {
        None => lines.join("\n") + "\n",
        Some(size) => {
            let lines = lines.iter().take(size.rows).map(|line| cut(line, size.columns));
            lines.collect::<Vec<_>>().join("\n")
        }
    }
}

fn table(names: &[&str], rows: &[Row], time: f64) -> String {
    let headings: Vec<&str> = names.iter().copied().chain(NUMBERS).collect();
    let mut table = Table::new(&headings);
    for row in rows {
        let name = |at: usize| row.name.get(at).map_or("", String::as_str);
        let names = (0..names.len()).map(|at| match name(at) {
            "" => "-".to_owned(),
            name => name.to_owned(),
        });
        let share =
            |which: usize| row.percentiles.map_or("-".to_owned(), |all| duration(all[which]));
        let numbers = [
            format!("{:.1}", row.requests as f64 / time),
            row.requests.to_string(),
            row.refused.to_string(),
            row.errors.to_string(),
            share(0),
            share(1),
            share(2),
            size_of(row.bytes),
        ];
        table.cells(names.chain(numbers).collect());
    }
    table.render()
}

/// "512 B", "1.5 MB"; each step is 1024.
fn size_of(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KB", "MB", "GB", "TB", "PB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut size, mut unit) = (bytes as f64 / 1024.0, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        (size, unit) = (size / 1024.0, unit + 1);
    }
    format!("{size:.1} {}", UNITS.get(unit).copied().unwrap_or_default())
}

/// The beginning of a line that is too long; the sequences that change colours take no column.
fn cut(line: &str, columns: usize) -> String {
    let (mut out, mut column, mut is_sequence) = (String::new(), 0, false);
    for c in line.chars() {
        is_sequence |= c == '\x1b';
        if !is_sequence {
            column += 1;
        }
        if is_sequence || column <= columns {
            out.push(c);
        }
        is_sequence &= c != 'm';
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &[&str], requests: u64) -> Row {
        let name = name.iter().map(|&name| name.to_owned()).collect();
        Row { name, requests, percentiles: Some([0.001, 0.01, 1.0]), bytes: 2048, ..Row::default() }
    }

    fn traffic() -> Traffic {
        Traffic {
            time: 2.0,
            uptime: 61.0,
            connections: 3,
            all: row(&[], 30),
            sites: vec![row(&["main"], 30)],
            routes: vec![row(&["main", "/a"], 20), row(&["main", ""], 10)],
            endpoints: (0..50).map(|n| row(&["main", "p", &format!("http://e{n}")], 1)).collect(),
            ..Traffic::default()
        }
    }

    #[test]
    fn a_script_gets_every_row() {
        let text = page(&traffic(), None, false);
        assert!(text.contains("in 2.0 s, up for 1 min 1 s\n3 connections, 0 requests"), "{text}");
        let line = text.lines().find(|line| line.starts_with("main  /a")).unwrap();
        let cells: Vec<&str> = line.split_whitespace().collect();
        let expected =
            ["main", "/a", "10.0", "20", "0", "0", "1.0ms", "10ms", "1.00s", "2.0", "KB"];
        assert_eq!(cells, expected);
        assert!(text.contains("\nmain  -      5.0"), "{text}");
        assert!(text.contains("http://e49"));
    }

    #[test]
    fn a_page_fits_into_its_terminal_whatever_its_size() {
        for (rows, columns) in [(24, 80), (10, 40), (4, 10), (1, 1), (0, 0), (200, 300)] {
            let text = page(&traffic(), Some(Size { rows, columns }), true);
            assert!(text.lines().count() <= rows, "{rows}: {text}");
            for line in text.lines() {
                let plain = line.replace("\x1b[1m", "").replace("\x1b[0m", "");
                assert!(plain.chars().count() <= columns, "{columns}: {plain}");
                assert_eq!(line.contains("\x1b[1m"), line.contains("\x1b[0m"), "{line:?}");
            }
        }
        let text = page(&traffic(), Some(Size { rows: 24, columns: 80 }), false);
        for name in ["all", "main  ", "/a", "http://e0"] {
            assert!(text.contains(name), "{name}: {text}");
        }
    }

    #[test]
    fn sizes_have_units() {
        let told = [0, 1023, 1024, 1_572_864].map(size_of);
        assert_eq!(told, ["0 B", "1023 B", "1.0 KB", "1.5 MB"]);
    }
}
