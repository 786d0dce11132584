//! The path that goes to an upstream, made of the canonical path.
//!
//! A canonical path has no dot segments, but what is left of one may: `/files../x` without `/files`
//! would lead out of where the upstream's paths begin, past every rule for what lies there. So what
//! changes may bring about is judged like what a client sends, before anything is sent anywhere.

use config::model::{self, PathMatch, Rewrite};
use regex_automata::meta::Regex;
use wire::target::{TargetError, canonical_path};

/// Longest path that a rewrite may make, in bytes: groups can repeat what a client sent.
const PATH_MAX: usize = 64 << 10;

/// What a route makes of a path.
#[derive(Debug, Default)]
pub struct PathRewrite {
    /// Taken off the beginning.
    strip: Option<String>,
    /// It is only taken off before a slash or the end, so what is left has whole segments.
    whole_segments: bool,
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
            whole_segments: matches!(route.path, PathMatch::Prefix(_)),
            target: route.rewrite_target.clone(),
            steps: steps.collect(),
        }
    }

    /// The prefix that is taken off.
    pub fn stripped(&self) -> Option<&str> {
        self.strip.as_deref().filter(|_| self.target.is_none())
    }

    /// Why what becomes of a canonical path must go nowhere: it has dot segments, or is no path.
    ///
    /// Whether encoded slashes may stand there is not asked: the client's were let in already, others
    /// are the configuration's.
    pub fn fault(&self, path: &[u8]) -> Option<TargetError> {
        let cuts_segments = self.target.is_none() && self.strip.is_some() && !self.whole_segments;
        if self.steps.is_empty() && !cuts_segments {
            return None;
        }
        let mut made = Vec::new();
        self.write(path, &mut made);
        let made = made.split(|byte| *byte == b'?').next().unwrap_or_default();
        let is_dots = |segment: &[u8]| matches!(segment, b"." | b"..");
        match made.split(|byte| *byte == b'/').any(is_dots) {
            true => Some(TargetError::HiddenDots),
            false => canonical_path(made, true).err(),
        }
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
            // Another route may have passed on what is not below this one's prefix.
            Some(prefix) => match path.strip_prefix(prefix.as_bytes()) {
                Some(rest) if !self.whole_segments || begins_whole(prefix, rest) => rest,
                _ => path,
            },
            None => path,
        };
        if !rest.starts_with(b"/") {
            out.push(b'/');
        }
        out.extend_from_slice(rest);
    }
}

/// What is behind a prefix begins with a whole segment.
pub(super) fn begins_whole(prefix: &str, rest: &[u8]) -> bool {
    rest.is_empty() || prefix.ends_with('/') || rest.starts_with(b"/")
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
