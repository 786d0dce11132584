//! The two text formats: that of Prometheus, version 0.0.4, and OpenMetrics 1.0.
//!
//! They differ in little: OpenMetrics names a counter without `_total` where it describes it, says units,
//! escapes quotes in descriptions, and ends with `# EOF`.

use std::fmt::Write as _;

use proxy::metrics::Histogram;

use super::table::{Family, Type};

/// A format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What a request with this `Accept` field gets: OpenMetrics if it asks for that and does not like
    /// plain text better.
    pub fn accepted(accept: &str) -> Self {
        let mut best = (Self::Prometheus, 0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let format = match parts.next().unwrap_or_default() {
                "application/openmetrics-text" => Self::OpenMetrics,
                "text/plain" | "text/*" | "*/*" => Self::Prometheus,
                _ => continue,
            };
            let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1000, thousandths);
            if quality > best.1 || quality == best.1 && quality > 0 && format == Self::OpenMetrics {
                best = (format, quality);
            }
        }
        best.0
    }

    /// The type of the content.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

fn thousandths(quality: &str) -> u32 {
    let quality: f64 = quality.parse().unwrap_or(0.0);
    (quality.clamp(0.0, 1.0) * 1000.0) as u32
}

/// A page of metrics while it is written: families one after the other, each with all its samples.
#[derive(Debug)]
pub struct Page {
    format: Format,
    text: String,
}

/// Values of a sample's labels, in the order of its family's.
pub type Values<'a> = &'a [&'a str];

impl Page {
    /// An empty page.
    pub fn new(format: Format) -> Self {
        Self { format, text: String::new() }
    }

    /// The whole page.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    /// Describes `family`, whose samples `write` is to write. A family without samples is left out.
    pub fn family<'a>(&'a mut self, family: &'a Family, write: impl FnOnce(&mut Samples<'a>)) {
        let begin = self.text.len();
        self.describe(family);
        let described = self.text.len();
        let text = &mut self.text;
        let mut samples = Samples { text, family };
        write(&mut samples);
        if samples.text.len() == described {
            samples.text.truncate(begin);
        }
    }

    fn describe(&mut self, family: &Family) {
        let text = &mut self.text;
        let suffix = match (self.format, family.of) {
            (Format::Prometheus, Type::Counter) => "_total",
            _ => "",
        };
        let (name, of) = (family.name, family.of.as_str());
        // Writing to a String does not fail.
        let _ = writeln!(text, "# TYPE {name}{suffix} {of}");
        if self.format == Format::OpenMetrics && !family.unit.is_empty() {
            let _ = writeln!(text, "# UNIT {name} {}", family.unit);
        }
        let _ = write!(text, "# HELP {name}{suffix} ");
        escape(text, family.help, self.format == Format::OpenMetrics);
        text.push('\n');
    }
}

/// Takes the samples of one family.
#[derive(Debug)]
pub struct Samples<'p> {
    text: &'p mut String,
    family: &'p Family,
}

impl Samples<'_> {
    /// A counter or a gauge that counts.
    pub fn number(&mut self, values: Values<'_>, number: u64) {
        self.begin(values);
        let _ = writeln!(self.text, " {number}");
    }

    /// A gauge that says yes or no.
    pub fn flag(&mut self, values: Values<'_>, flag: bool) {
        self.number(values, u64::from(flag));
    }

    /// One that is no whole number.
    pub fn real(&mut self, values: Values<'_>, number: f64) {
        self.begin(values);
        let _ = writeln!(self.text, " {number:?}");
    }

    /// A histogram; one that nothing was observed in is left out.
    pub fn histogram(&mut self, values: Values<'_>, histogram: &Histogram) {
        let count = histogram.count();
        if count == 0 {
            return;
        }
        for (bound, cumulative) in histogram.cumulative() {
            self.name_and_labels("_bucket", values, Some(bound));
            let _ = writeln!(self.text, " {cumulative}");
        }
        self.name_and_labels("_bucket", values, Some(u64::MAX));
        let _ = writeln!(self.text, " {count}");
        self.name_and_labels("_sum", values, None);
        let _ = writeln!(self.text, " {:?}", histogram.sum_micros() as f64 / 1e6);
        self.name_and_labels("_count", values, None);
        let _ = writeln!(self.text, " {count}");
    }

    fn begin(&mut self, values: Values<'_>) {
        let suffix = if self.family.of == Type::Counter { "_total" } else { "" };
        self.name_and_labels(suffix, values, None);
    }

    /// `le`: the upper bound of a bucket in microseconds; [`u64::MAX`] for none.
    fn name_and_labels(&mut self, suffix: &str, values: Values<'_>, le: Option<u64>) {
        let (text, family) = (&mut *self.text, self.family);
        debug_assert_eq!(values.len(), family.labels.len(), "{}", family.name);
        text.push_str(family.name);
        text.push_str(suffix);
        if values.is_empty() && le.is_none() {
            return;
        }
        text.push('{');
        for (index, (label, value)) in family.labels.iter().zip(values).enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(label);
            text.push_str("=\"");
            escape(text, value, true);
            text.push('"');
        }
        if let Some(bound) = le {
            if !values.is_empty() {
                text.push(',');
            }
            let _ = match bound {
                u64::MAX => write!(text, "le=\"+Inf\""),
                bound => write!(text, "le=\"{:?}\"", bound as f64 / 1e6),
            };
        }
        text.push('}');
    }
}

/// Backslashes and ends of lines, and quotes where they would end something.
fn escape(text: &mut String, value: &str, quotes: bool) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quotes => text.push_str("\\\""),
            character => text.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    #[test]
    fn who_asks_for_openmetrics_gets_it() {
        for (accept, format) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain", Format::Prometheus),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.9", Format::Prometheus),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("text/html, */*;q=0.1", Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }

    #[test]
    fn labels_cannot_end_a_line_or_a_value() {
        let mut page = Page::new(Format::Prometheus);
        page.family(&table::RATE_LIMITED, |samples| samples.number(&["a\"b\\c\nd"], 3));
        let text = page.finish();
        assert!(
            text.ends_with("ravelin_http_rate_limited_total{site=\"a\\\"b\\\\c\\nd\"} 3\n"),
            "{text}"
        );
    }

    #[test]
    fn a_family_without_samples_is_left_out() {
        let mut page = Page::new(Format::OpenMetrics);
        page.family(&table::ACCEPT, |samples| samples.histogram(&["a"], &Histogram::default()));
        assert_eq!(page.finish(), "# EOF\n");
    }
}
