//! The path that goes to an upstream, made of the canonical path.

use config::model::{self, Rewrite};
use regex_automata::meta::Regex;

/// Longest path that a rewrite may make, in bytes: groups can repeat what a client sent.
const PATH_MAX: usize = 64 << 10;

/// What a route makes of a path.
#[derive(Debug, Default)]
pub struct PathRewrite {
    /// Taken off the beginning.
    strip: Option<String>,
    /// In the place of the whole path.
    target: Option<String>,
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Trim(String),
    Add(String),
    ReplacePrefix(String, String),
    Replace(String),
    Regex(Regex, String),
}

impl PathRewrite {
    /// The rewriting of a route with this prefix, if its path has one.
    pub fn compile(route: &model::Route, prefix: Option<&str>) -> Self {
        let steps = route.rewrite.iter().filter_map(|rewrite| {
            Some(match rewrite {
                Rewrite::TrimPrefix(prefix) => Step::Trim(prefix.clone()),
                Rewrite::AddPrefix(prefix) => Step::Add(prefix.clone()),
                Rewrite::ReplacePrefix(from, to) => Step::ReplacePrefix(from.clone(), to.clone()),
                Rewrite::Replace(path) => Step::Replace(path.clone()),
                Rewrite::Regex(pattern, to) => {
                    Step::Regex(config::pattern::compile(pattern).ok()?, to.clone())
                }
            })
        });
        Self {
            strip: prefix.filter(|_| route.strip_prefix).map(str::to_owned),
            target: route.rewrite_target.clone(),
            steps: steps.collect(),
        }
    }

    /// The prefix that is taken off.
    pub fn stripped(&self) -> Option<&str> {
        self.strip.as_deref().filter(|_| self.target.is_none())
    }

    /// Appends what becomes of a canonical path. It begins with a slash.
    pub fn write(&self, path: &[u8], out: &mut Vec<u8>) {
        if self.steps.is_empty() {
            return self.write_first(path, out);
        }
        let mut current = Vec::new();
        self.write_first(path, &mut current);
        for step in &self.steps {
            step.apply(&mut current);
            current.truncate(PATH_MAX);
        }
        if !current.starts_with(b"/") {
            out.push(b'/');
        }
        out.extend_from_slice(&current);
    }

    fn write_first(&self, path: &[u8], out: &mut Vec<u8>) {
        if let Some(target) = &self.target {
            return out.extend_from_slice(target.as_bytes());
        }
        let rest = match &self.strip {
            Some(prefix) => path.strip_prefix(prefix.as_bytes()).unwrap_or(path),
            None => path,
        };
        if !rest.starts_with(b"/") {
            out.push(b'/');
        }
        out.extend_from_slice(rest);
    }
}

impl Step {
    fn apply(&self, path: &mut Vec<u8>) {
        match self {
            Self::Trim(prefix) => {
                if path.starts_with(prefix.as_bytes()) {
                    path.drain(..prefix.len());
                }
            }
            Self::Add(prefix) => {
                path.splice(..0, prefix.bytes());
            }
            Self::ReplacePrefix(from, to) => {
                if path.starts_with(from.as_bytes()) {
                    path.splice(..from.len(), to.bytes());
                }
            }
            Self::Replace(whole) => {
                path.clear();
                path.extend_from_slice(whole.as_bytes());
            }
            Self::Regex(regex, to) => replace_all(regex, to, path),
        }
    }
}

/// Replaces every match; `$1` in `to` is a group.
pub fn replace_all(regex: &Regex, to: &str, text: &mut Vec<u8>) {
    let mut captures = regex.create_captures();
    let mut replaced = Vec::with_capacity(text.len());
    let mut at = 0;
    while at <= text.len() && replaced.len() <= PATH_MAX {
        let input = regex_automata::Input::new(text.as_slice()).range(at..);
        regex.search_captures(&input, &mut captures);
        let Some(found) = captures.get_match() else { break };
        replaced.extend_from_slice(text.get(at..found.start()).unwrap_or_default());
        captures.interpolate_bytes_into(text, to.as_bytes(), &mut replaced);
        at = found.end();
        if found.is_empty() {
            replaced.extend(text.get(at));
            at += 1;
        }
    }
    replaced.extend_from_slice(text.get(at..).unwrap_or_default());
    *text = replaced;
}
