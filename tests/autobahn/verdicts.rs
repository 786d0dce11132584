//! What the suite says of each case, from its report.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::Json;

/// How one case went.
struct Verdict {
    /// Whether the messages were as they should be: `OK`, `NON-STRICT`, `INFORMATIONAL`, `FAILED`, …
    behavior: String,
    /// Whether the connection was closed as it should be.
    close: String,
    /// How long it took.
    time: Duration,
    /// More about it.
    report: PathBuf,
}

/// All of one run, by the case's number.
pub struct Verdicts(BTreeMap<String, Verdict>);

impl Verdicts {
    #[track_caller]
    pub fn read(dir: &Path, name: &str) -> Verdicts {
        let index = dir.join("index.json");
        let text = fs::read_to_string(&index)
            .unwrap_or_else(|e| panic!("wstest wrote no {}: {e}", index.display()));
        let Json::Object(all) = Json::parse(&text) else { panic!("{text}") };
        let Some(Json::Object(cases)) = all.get(name) else {
            panic!("nothing about {name}: {text}")
        };
        let verdict = |(case, said): (&String, &Json)| {
            let verdict = Verdict {
                behavior: said.get("behavior").text().to_owned(),
                close: said.get("behaviorClose").text().to_owned(),
                time: Duration::from_millis(said.get("duration").number() as u64),
                report: dir.join(said.get("reportfile").text()),
            };
            (case.clone(), verdict)
        };
        Verdicts(cases.iter().map(verdict).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How often what was said.
    pub fn summary(&self) -> String {
        let mut counts = BTreeMap::new();
        for verdict in self.0.values() {
            *counts.entry((&verdict.behavior, &verdict.close)).or_insert(0) += 1;
        }
        let words = counts.iter().map(|((behavior, close), n)| format!("{n} {behavior}/{close}"));
        words.collect::<Vec<_>>().join(", ")
    }

    /// Two that failed alike would be the same: what others are compared with must have passed.
    #[track_caller]
    pub fn assert_good(&self) {
        assert!(!self.0.is_empty(), "no case was run");
        let bad =
            |v: &&Verdict| [&v.behavior, &v.close].iter().any(|word| !GOOD.contains(&&word[..]));
        let bad: Vec<_> = self.0.values().filter(bad).map(Verdict::explain).collect();
        assert!(bad.is_empty(), "the echo server itself fails:\n{}", bad.join("\n"));
    }

    /// A line for every case of which not the same is said, or which takes as long as if somebody
    /// waited for what does not come.
    pub fn differing(&self, other: &Verdicts) -> Vec<String> {
        let cases: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let line = |case: &String| match (self.0.get(case), other.0.get(case)) {
            (Some(a), Some(b)) if a.is_like(b) => None,
            (Some(a), Some(b)) => Some(format!("{case}: {} without, {}", a.explain(), b.explain())),
            (Some(_), None) => Some(format!("{case} was not run through Ravelin")),
            (None, _) => Some(format!("{case} was only run through Ravelin")),
        };
        cases.into_iter().filter_map(line).collect()
    }
}

/// What it says of who keeps to the RFC.
const GOOD: &[&str] = &["OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED"];

/// What a case may take longer, and how many times as long, on a machine that does other things too.
const DELAY: Duration = Duration::from_secs(10);
const SLOWER: u32 = 10;

impl Verdict {
    fn is_like(&self, other: &Verdict) -> bool {
        let most = self.time * SLOWER + DELAY;
        (&self.behavior, &self.close) == (&other.behavior, &other.close) && other.time <= most
    }

    fn explain(&self) -> String {
        let report = fs::read_to_string(&self.report).unwrap_or_default();
        let words = |name: &str| {
            let begin = format!("   \"{name}\": ");
            report.lines().find_map(|line| line.strip_prefix(&begin)).unwrap_or("?,").to_owned()
        };
        format!(
            "{}/{} in {:?} ({} {} see {})",
            self.behavior,
            self.close,
            self.time,
            words("result"),
            words("resultClose"),
            self.report.display()
        )
    }
}
