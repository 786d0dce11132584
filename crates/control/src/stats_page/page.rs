//! The page itself: a table a pool, endpoints as rows.

use std::fmt::Write as _;
use std::sync::Arc;

use config::model::StatsPage;

use super::{Options, form};
use crate::admin::Running;
use crate::text_commands::stat::{self, Of, Row};

/// How it looks.
pub(super) const STYLE: &str = include_str!("style.css");

/// Columns: groups of them, each with its columns and their headings.
const GROUPS: &[(&str, &[(&str, &str)])] = &[
    ("Queue", &[("qcur", "Cur")]),
    ("Sessions", &[("scur", "Cur"), ("slim", "Limit"), ("stot", "Total")]),
    ("Bytes", &[("bin", "In"), ("bout", "Out")]),
    (
        "Responses",
        &[("hrsp_2xx", "2xx"), ("hrsp_3xx", "3xx"), ("hrsp_4xx", "4xx"), ("hrsp_5xx", "5xx")],
    ),
    ("Errors", &[("econ", "Conn"), ("eresp", "Resp")]),
    ("Warnings", &[("wretr", "Retr")]),
    (
        "Server",
        &[
            ("status", "Status"),
            ("check", "LastChk"),
            ("weight", "Wght"),
            ("act", "Act"),
            ("bck", "Bck"),
            ("chkfail", "Chk"),
            ("chkdown", "Dwn"),
            ("downtime", "Dwntme"),
        ],
    ),
];

/// The page.
pub(super) async fn render(
    running: &Running,
    settings: &StatsPage,
    options: Options<'_>,
) -> String {
    let snapshot = Arc::clone(&running.snapshot.borrow());
    let rows = stat::rows(running, &snapshot).await;
    let mut page = Page { text: String::with_capacity(16 * 1024), settings, up: options.up };
    page.head(running, options);
    let (sites, pools): (Vec<&Row>, Vec<&Row>) =
        rows.iter().partition(|row| row.of == Of::Frontend);
    page.sites(&sites);
    for rows in pools.chunk_by(|one, other| one.proxy == other.proxy) {
        page.pool(rows);
    }
    page.text.push_str("</main>\n</body></html>\n");
    page.text
}

struct Page<'a> {
    text: String,
    settings: &'a StatsPage,
    /// What is down is left out.
    up: bool,
}

impl Page<'_> {
    fn head(&mut self, running: &Running, options: Options<'_>) {
        let uri = escaped(&self.settings.uri);
        let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
        let up = running.started.elapsed().as_secs();
        let counters = running.workers.counters();
        let connections: usize = counters.iter().map(|one| one.connections).sum();
        let refresh = match (self.settings.refresh, options.no_refresh) {
            (Some(_), false) => format!("<a href=\"{uri};norefresh\">Disable refresh</a>"),
            (Some(_), true) => format!("<a href=\"{uri}\">Enable refresh</a>"),
            (None, _) => String::new(),
        };
        let down = match self.up {
            true => format!("<a href=\"{uri}\">Show all endpoints</a>"),
            false => format!("<a href=\"{uri};up\">Hide endpoints that are down</a>"),
        };
        self.put(format_args!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <link rel=\"icon\" href=\"data:,\">\
             <title>Statistics Report for Ravelin</title>\
             <link rel=\"stylesheet\" href=\"{uri};css\"></head>\n<body><header>\
             <h1>Statistics Report for pid {pid}</h1>\
             <p>Ravelin {version}, up {}, {} workers, {connections} connections</p>\
             <nav>{down}{refresh}<a href=\"{uri}\">Refresh now</a>\
             <a href=\"{uri};csv\">CSV export</a><a href=\"{uri};json\">JSON export</a></nav>",
            duration(up),
            counters.len(),
        ));
        if let Some(words) = options.done.and_then(form::in_words) {
            self.put(format_args!("<p class=\"done\" role=\"status\">{words}</p>"));
        }
        self.text.push_str("</header>\n<main>\n");
    }

    fn sites(&mut self, rows: &[&Row]) {
        self.text.push_str("<section><h2>Sites</h2>\n");
        self.table(rows, false, "Sites");
        self.text.push_str("</section>\n");
    }

    fn pool(&mut self, rows: &[&Row]) {
        let Some(first) = rows.first() else { return };
        let name = first.get("pxname");
        let kept = |row: &&&Row| !self.up || !is_down(&row.get("status"));
        let rows: Vec<&Row> = rows.iter().filter(kept).copied().collect();
        self.put(format_args!("<section><h2>{}</h2>\n", escaped(&name)));
        if self.settings.admin {
            self.put(format_args!(
                "<form method=\"post\" action=\"{}\"><input type=\"hidden\" name=\"b\" value=\"#{}\">\n",
                escaped(&self.settings.uri),
                first.proxy
            ));
        }
        self.table(&rows, self.settings.admin, &name);
        if self.settings.admin {
            self.text.push_str(
                "<p class=\"act\"><label>Of those marked: <select name=\"action\">\
                 <option value=\"\"></option><option value=\"ready\">Set state to READY</option>\
                 <option value=\"drain\">Set state to DRAIN</option>\
                 <option value=\"maint\">Set state to MAINT</option></select></label>\
                 <button>Apply</button></p></form>\n",
            );
        }
        self.text.push_str("</section>\n");
    }

    fn table(&mut self, rows: &[&Row], marks: bool, name: &str) {
        let name = escaped(name);
        self.put(format_args!(
            "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{name}\"><table><thead><tr>"
        ));
        self.text.push_str("<td></td>");
        for (group, columns) in GROUPS {
            let span = columns.len();
            self.put(format_args!("<th scope=\"colgroup\" colspan=\"{span}\">{group}</th>"));
        }
        self.text.push_str("</tr><tr><td></td>");
        for (column, heading) in GROUPS.iter().flat_map(|(_, columns)| *columns) {
            let class = if is_text(column) { " class=\"text\"" } else { "" };
            self.put(format_args!("<th scope=\"col\"{class}>{heading}</th>"));
        }
        self.text.push_str("</tr></thead><tbody>\n");
        for row in rows {
            self.row(row, marks);
        }
        self.text.push_str("</tbody></table></div>\n");
    }

    fn row(&mut self, row: &Row, marks: bool) {
        let status = row.get("status");
        let class = match row.of {
            Of::Frontend => "frontend",
            Of::Backend => "backend",
            Of::Server => class(&status, &row.get("bck")),
        };
        let name = match row.of {
            Of::Frontend => row.get("pxname"),
            Of::Backend => "Backend".to_owned(),
            Of::Server => row.get("svname"),
        };
        let name = escaped(&name);
        self.put(format_args!("<tr class=\"{class}\"><th scope=\"row\">"));
        match (marks, row.of) {
            (true, Of::Server) => self.put(format_args!(
                "<label><input type=\"checkbox\" name=\"s\" value=\"{name}\"> {name}</label>"
            )),
            _ => self.text.push_str(&name),
        }
        self.text.push_str("</th>");
        for (column, _) in GROUPS.iter().flat_map(|(_, columns)| *columns) {
            let text = match *column {
                "status" => state(row),
                "check" => check(row),
                "act" | "bck" if row.of == Of::Server => {
                    if row.get(column) == "1" { "Y" } else { "-" }.to_owned()
                }
                "downtime" => {
                    let seconds = row.get("downtime").parse();
                    seconds.map_or_else(|_| String::new(), duration)
                }
                column => grouped(&row.get(column)),
            };
            let class = if is_text(column) { " class=\"text\"" } else { "" };
            self.put(format_args!("<td{class}>{}</td>", escaped(&text)));
        }
        self.text.push_str("</tr>\n");
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        let _infallible = self.text.write_fmt(text);
    }
}

/// What stands in a column is no number.
fn is_text(column: &str) -> bool {
    matches!(column, "status" | "check" | "act" | "bck" | "downtime")
}

/// For how long, and what it is: `1h2m UP`.
fn state(row: &Row) -> String {
    let since = row.get("lastchg").parse().map(duration);
    match since {
        Ok(since) => format!("{since} {}", row.get("status")),
        Err(_) => row.get("status"),
    }
}

/// The last check: `L7STS/503 in 2ms: status 503 …`.
fn check(row: &Row) -> String {
    let (code, status) = (row.get("check_status"), row.get("check_code"));
    if code.is_empty() {
        return String::new();
    }
    let status = if status.is_empty() { status } else { format!("/{status}") };
    let why = row.get("last_chk");
    let why = if why.is_empty() { why } else { format!(": {why}") };
    format!("{code}{status} in {}ms{why}", row.get("check_duration"))
}

fn is_down(status: &str) -> bool {
    status.starts_with("DOWN") || status.starts_with("MAINT")
}

/// The colour of a row, by HAProxy's legend.
fn class(status: &str, backup: &str) -> &'static str {
    match status {
        _ if status.starts_with("MAINT") => "maint",
        "DRAIN" => "drain",
        "DOWN" => "down",
        _ if status.starts_with("DOWN") => "going-up",
        "no check" => "unchecked",
        _ if status.starts_with("UP ") => "going-down",
        _ if backup == "1" => "backup",
        _ => "up",
    }
}

/// Digits in groups of three, as in `1 234 567`.
fn grouped(number: &str) -> String {
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return number.to_owned();
    }
    let mut out = String::with_capacity(number.len() + number.len() / 3);
    for (index, digit) in number.char_indices() {
        if index > 0 && (number.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// The two largest units of a length of time: `3d4h`, `5m6s`.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

/// Text as it may stand in a page and in its attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            character => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_cannot_become_markup() {
        let text = escaped("<script>alert(\"1\" & '2')</script>");
        assert!(!text.contains(['<', '>', '"', '\'']), "{text}");
        assert_eq!(escaped("a&b"), "a&amp;b");
    }

    #[test]
    fn numbers_and_times_are_for_people() {
        for (number, expected) in [
            ("", ""),
            ("999", "999"),
            ("1000", "1\u{202f}000"),
            ("1234567", "1\u{202f}234\u{202f}567"),
            ("a,b", "a,b"),
        ] {
            assert_eq!(grouped(number), expected);
        }
        for (seconds, expected) in
            [(0, "0s"), (59, "59s"), (61, "1m1s"), (3_720, "1h2m"), (200_000, "2d7h")]
        {
            assert_eq!(duration(seconds), expected);
        }
    }
}
