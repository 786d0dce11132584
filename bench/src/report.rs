//! The tables. Columns are explained in `bench/README.md`.

use std::fmt::Write as _;
use std::fs;

use crate::measure::{Row, Sample};
use crate::scenario::Scenario;
use crate::{Options, Result};

/// Most that looking at traffic may cost, against not looking.
const OBSERVED_MAX: f64 = 1.05;

/// Controls that move more than this over the rounds say that the machine was not quiet.
const SPREAD_MAX: f64 = 1.10;

/// What has been printed, and what is left to print at the end.
pub(crate) struct Report<'a> {
    options: &'a Options,
    counter: Option<&'static str>,
    csv: String,
    /// Scenario and ratio of each peer that is not a control.
    ratios: Vec<(&'static str, f64)>,
    warnings: Vec<String>,
    failed: bool,
}

impl<'a> Report<'a> {
    pub(crate) fn new(options: &'a Options, counter: Option<&'static str>) -> Report<'a> {
        let csv = "scenario,round,peer,requests,seconds,cpu_us,user_us,system_us,\
                   requests_per_second,p50_us,p99_us,switches_per_request,errors\n";
        Report {
            options,
            counter,
            csv: csv.to_owned(),
            ratios: Vec::new(),
            warnings: Vec::new(),
            failed: false,
        }
    }

    /// Where and with what it was measured.
    pub(crate) fn environment(&self, versions: &[String]) {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model =
            cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        println!("- machine: {} ({})", model.map_or("?", |(_, name)| name.trim()), memory());
        println!("- kernel: {}", read("/proc/sys/kernel/osrelease").trim());
        println!("- peers: {}", versions.join("; "));
        let Options { rounds, seconds, proxy_core, load_core, .. } = self.options;
        let origin_core = self.options.origin_core.unwrap_or(*load_core);
        println!(
            "- {rounds} rounds of {seconds} s; proxy on core {proxy_core}, origin on \
             {origin_core}, load on {load_core}"
        );
        match self.counter {
            Some(name) => println!("- system calls counted by {name} in a run of their own"),
            None => println!(
                "- system calls not counted: neither perf (linux-perf) nor strace works here"
            ),
        }
    }

    /// What each peer adds to a request: it has to be the same for the work to be equal.
    pub(crate) fn fields(&mut self, added: &[(&'static str, Vec<String>)]) {
        for (peer, fields) in added {
            println!("- {peer} adds: {}", fields.join(", "));
        }
        if added.windows(2).any(|pair| matches!(pair, [(_, one), (_, other)] if one != other)) {
            self.failed = true;
            self.warnings.push("the peers do not add the same fields: unequal work".to_owned());
        }
    }

    /// The rows of one scenario.
    pub(crate) fn scenario(&mut self, scenario: &Scenario, rows: Vec<Row>) -> Result<()> {
        println!("\n## {}: {}\n", scenario.name, scenario.about);
        self.failed |= rows.iter().any(|row| row.failure.is_some());
        if scenario.load.is_idle() {
            self.print_idle(scenario, &rows);
        } else {
            self.print_requests(scenario, &rows);
        }
        for row in &rows {
            for (round, sample) in row.samples.iter().enumerate() {
                self.add_to_csv(scenario, row, round + 1, sample)?;
            }
        }
        if let Some(path) = &self.options.csv {
            fs::write(path, &self.csv).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// The ratios of all scenarios once more, and what to beware of; false if a row is not valid.
    pub(crate) fn end(&self) -> Result<bool> {
        if !self.ratios.is_empty() {
            println!("\n## CPU per request, ravelin against the better control\n");
            println!("| scenario | ratio |\n|---|---|");
            for (scenario, ratio) in &self.ratios {
                println!("| {scenario} | {ratio:.2} |");
            }
        }
        if !self.warnings.is_empty() {
            println!();
        }
        for warning in &self.warnings {
            println!("**Warning**: {warning}");
        }
        Ok(!self.failed)
    }

    fn print_requests(&mut self, scenario: &Scenario, rows: &[Row]) {
        let best = rows
            .iter()
            .filter(|row| row.variant.is_control() && row.failure.is_none())
            .min_by(|a, b| cpu(a).total_cmp(&cpu(b)));
        println!(
            "| peer | CPU µs | user | system | ratio | req/s | busy | p50 ms | p99 ms | calls | \
             switches | spread | errors |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
        for row in rows {
            let ratio = best.and_then(|best| ratio(row, best));
            println!("{}", request_line(row, ratio));
            if row.failure.is_some() {
                continue;
            }
            if !row.variant.is_control() {
                self.ratios.extend(ratio.map(|ratio| (scenario.name, ratio)));
                if scenario.observed && ratio.is_some_and(|ratio| ratio > OBSERVED_MAX) {
                    self.failed = true;
                    let name = scenario.name;
                    self.warnings.push(format!("{name}: looking costs more than {OBSERVED_MAX}"));
                }
            } else if spread(row) > SPREAD_MAX {
                self.warnings.push(format!(
                    "in {} the control {} moved by {:.0} % over the rounds: do not read this \
                     scenario's ratio",
                    scenario.name,
                    row.variant.name(),
                    (spread(row) - 1.0) * 100.0
                ));
            }
        }
    }

    fn print_idle(&mut self, scenario: &Scenario, rows: &[Row]) {
        println!(
            "| peer | RSS MiB after start | PSS MiB after start | bytes each | connections | errors |"
        );
        println!("|---|---|---|---|---|---|");
        let mebibytes = |bytes: u64| bytes as f64 / (1 << 20) as f64;
        for row in rows {
            let name = row.variant.name();
            let failure = row.failure.as_deref().unwrap_or("none");
            let Some(idle) = &row.idle else {
                println!("| {name} | - | - | - | - | {failure} |");
                continue;
            };
            println!(
                "| {name} | {:.1} | {:.1} | {:.0} | {} | {failure} |",
                mebibytes(idle.start.resident),
                mebibytes(idle.start.proportional),
                idle.bytes_each,
                idle.connections,
            );
            let max = scenario.load.memory_max().filter(|_| !row.variant.is_control());
            if let Some(max) = max
                && idle.bytes_each > max
            {
                self.failed = true;
                self.warnings
                    .push(format!("{}: each costs more than {max:.0} bytes", scenario.name));
            }
        }
    }

    fn add_to_csv(
        &mut self,
        scenario: &Scenario,
        row: &Row,
        round: usize,
        sample: &Sample,
    ) -> Result<()> {
        let load = &sample.load;
        writeln!(
            self.csv,
            "{},{round},{},{},{:.3},{:.3},{:.3},{:.3},{:.1},{},{},{:.4},\"{}\"",
            scenario.name,
            row.variant.name(),
            load.requests,
            load.seconds,
            sample.cpu_us(),
            sample.user_us(),
            sample.cpu_us() - sample.user_us(),
            sample.rate(),
            load.p50_us,
            load.p99_us,
            sample.switches(),
            load.errors.join("; ").replace('"', "'"),
        )?;
        Ok(())
    }
}

impl Sample {
    fn requests(&self) -> f64 {
        self.load.requests.max(1) as f64
    }

    fn cpu_us(&self) -> f64 {
        self.used.cpu_ns as f64 / 1e3 / self.requests()
    }

    fn user_us(&self) -> f64 {
        self.cpu_us() * self.used.user_share()
    }

    fn rate(&self) -> f64 {
        self.load.requests as f64 / self.load.seconds
    }

    /// The part of its core that the proxy used.
    fn busy(&self) -> f64 {
        self.used.cpu_ns as f64 / 1e9 / self.load.seconds
    }

    fn switches(&self) -> f64 {
        self.used.switches as f64 / self.requests()
    }
}

fn request_line(row: &Row, ratio: Option<f64>) -> String {
    let name = row.variant.name();
    if row.samples.is_empty() {
        let failure = row.failure.as_deref().unwrap_or("not measured");
        return format!("| {name} | - | - | - | - | - | - | - | - | - | - | - | {failure} |");
    }
    let of = |figure: fn(&Sample) -> f64| median(row.samples.iter().map(figure));
    let ratio = match (&row.failure, ratio) {
        (Some(_), _) => "invalid".to_owned(),
        (None, Some(ratio)) => format!("{ratio:.2}"),
        (None, None) => "-".to_owned(),
    };
    format!(
        "| {name} | {:.2} | {:.2} | {:.2} | {ratio} | {:.0} | {:.0} % | {:.2} | {:.2} | {} | {:.3} | \
         {:.2} | {} |",
        of(Sample::cpu_us),
        of(Sample::user_us),
        of(|sample| sample.cpu_us() - sample.user_us()),
        of(Sample::rate),
        of(Sample::busy) * 100.0,
        of(|sample| sample.load.p50_us as f64) / 1e3,
        of(|sample| sample.load.p99_us as f64) / 1e3,
        row.calls_per_request.map_or("-".to_owned(), |calls| format!("{calls:.2}")),
        of(Sample::switches),
        spread(row),
        row.failure.as_deref().unwrap_or("none"),
    )
}

/// CPU per request against another row's, round by round, so that a machine that changes its speed
/// between rounds changes both.
fn ratio(row: &Row, best: &Row) -> Option<f64> {
    let rounds = row.samples.iter().zip(&best.samples);
    let ratios = rounds.map(|(ours, theirs)| ours.cpu_us() / theirs.cpu_us());
    (!row.samples.is_empty()).then(|| median(ratios))
}

fn cpu(row: &Row) -> f64 {
    median(row.samples.iter().map(Sample::cpu_us))
}

/// The largest CPU per request of all rounds over the smallest.
fn spread(row: &Row) -> f64 {
    let all = row.samples.iter().map(Sample::cpu_us);
    all.clone().fold(0.0, f64::max) / all.fold(f64::INFINITY, f64::min)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    match values.len() % 2 {
        0 => (upper + values.get((values.len() / 2).wrapping_sub(1)).unwrap_or(&upper)) / 2.0,
        _ => upper,
    }
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = text.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
    kibibytes.map_or("?".to_owned(), |kib| format!("{:.0} GiB", kib as f64 / (1 << 20) as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }
}
