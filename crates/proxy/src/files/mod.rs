//! Static files: a canonical path to an [`Answer`].
//!
//! Stands where a request would otherwise be forwarded. [`FileServer`] is a site's files and part
//! of the snapshot; [`FileCache`] is what one worker remembers of all of them. Nothing here writes
//! to a connection: an answer is a status, field lines and a body in memory or in an open file.
//!
//! What always holds:
//! - Nothing outside of the root is opened, by any encoding of a path (`path`) and, unless the
//!   site allows it, by any symbolic link (`root`).
//! - An answer that is in the cache and has neither a condition nor a range costs one look-up: no
//!   system call, no allocation, no formatting.
//! - A change on disk is visible a second later (`cache`).
//!
//! Where the specifications leave a choice: a directory without an index file is 404, like one
//! that does not exist; names that begin with a dot are served; a precompressed neighbour older
//! than its file is ignored; `Range` counts for `GET` only.

mod answer;
mod cache;
mod conditional;
mod lookup;
mod media_type;
mod path;
mod precompressed;
mod ranges;
mod resource;
mod root;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Body, Fields, Part};
pub use cache::FileCache;

use cache::Key;
use conditional::Outcome;
use config::model::Files;
use lookup::Resolution;
use resource::{Representation, Sayings, push_line};
use root::Root;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// Milliseconds on a coarse clock that never goes backward.
pub type ClockMs = u64;

/// What a request says that matters to a file. The method is `GET` or `HEAD`.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileRequest<'a> {
    /// The method is `HEAD`.
    pub head_only: bool,
    /// The canonical path: percent-encoded, beginning with a slash.
    pub path: &'a [u8],
    /// The canonical path that the client asked for, where `path` is what a route has made of it.
    pub asked: Option<&'a [u8]>,
    /// The query without its question mark.
    pub query: Option<&'a [u8]>,
    /// `If-Match`.
    pub if_match: Option<&'a [u8]>,
    /// `If-None-Match`.
    pub if_none_match: Option<&'a [u8]>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<&'a [u8]>,
    /// `If-Unmodified-Since`.
    pub if_unmodified_since: Option<&'a [u8]>,
    /// `If-Range`.
    pub if_range: Option<&'a [u8]>,
    /// `Range`.
    pub range: Option<&'a [u8]>,
    /// `Accept-Encoding`.
    pub accept_encoding: Option<&'a [u8]>,
    /// `Accept`.
    pub accept: Option<&'a [u8]>,
}

/// What an operator should know about a site's files; serving goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The files of one site.
#[derive(Debug)]
pub struct FileServer {
    /// Tells this server's entries in a cache from those of others, also of earlier snapshots.
    id: u64,
    root: Root,
    index: Vec<CString>,
    error_pages: BTreeMap<u16, CString>,
    spa_fallback: Option<CString>,
    spa_exclude: Vec<String>,
    sayings: Sayings,
}

impl FileServer {
    /// The directory that files are looked up in.
    pub fn root_path(&self) -> &std::path::Path {
        self.root.path()
    }

    /// Opens the root. One that is not there is a warning: every path is 404 until it is.
    pub fn open(files: &Files) -> (Self, Option<Warning>) {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let mut warnings = Vec::new();
        let (root, error) = Root::open(&files.root, files.follow_symlinks);
        if let Some(error) = error {
            let root = files.root.display();
            let error = std::io::Error::from(error);
            warnings.push(format!(
                "static files: {root} cannot be opened: {error}; until it can, the answer is 404"
            ));
        }
        let mut below = |what: &str, name: &String| {
            let path = path::configured(name);
            if path.is_none() {
                warnings.push(format!(
                    "static files: {what} \"{name}\" is not a path below the root; it is ignored"
                ));
            }
            path
        };
        let index = files.index.iter().filter_map(|name| below("index file", name)).collect();
        let error_pages = files.error_pages.iter();
        let error_pages = error_pages
            .filter_map(|(status, name)| Some((*status, below("error page", name)?)))
            .collect();
        let spa_fallback = files.spa_fallback.as_ref().and_then(|name| below("fallback", name));
        let cache_control = files.cache_control.clone().filter(|value| {
            let is_valid = value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
            if !is_valid {
                warnings.push(
                    "static files: the Cache-Control value has control characters; it is not sent"
                        .to_owned(),
                );
            }
            is_valid
        });
        let sayings =
            Sayings { etag: files.etag, last_modified: files.last_modified, cache_control };
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let spa_exclude = files.spa_exclude.clone();
        let server = Self { id, root, index, error_pages, spa_fallback, spa_exclude, sayings };
        (server, (!warnings.is_empty()).then(|| Warning(warnings.join("; "))))
    }

    /// Answers a `GET` or `HEAD`.
    pub fn answer(&self, cache: &mut FileCache, now: ClockMs, request: &FileRequest<'_>) -> Answer {
        match self.resolve(cache, now, request.path) {
            Resolution::File(resource) => {
                let answer = serve(resource.select(request.accept_encoding), request, cache);
                if answer.status < 400 {
                    answer
                } else {
                    self.with_page(cache, now, request, answer)
                }
            }
            Resolution::Directory => self.redirect(cache, now, request),
            Resolution::Refused(404) => self.not_found(cache, now, request),
            Resolution::Refused(status) => {
                self.with_page(cache, now, request, Answer::empty(status, Vec::new()))
            }
        }
    }

    /// The site's own page for a status, if it has one and the file is there. Of the request only
    /// `Accept-Encoding` counts: a page is not subject to conditions and ranges.
    pub fn error_page(
        &self,
        cache: &mut FileCache,
        now: ClockMs,
        status: u16,
        request: &FileRequest<'_>,
    ) -> Option<Answer> {
        match self.resolve_page(cache, now, self.error_pages.get(&status)?) {
            Resolution::File(resource) => {
                let mut fields = Vec::new();
                if !resource.coded.is_empty() {
                    push_line(&mut fields, "Vary", b"Accept-Encoding");
                }
                let page = resource.select(request.accept_encoding).as_page(status);
                Some(add_fields(page, &fields))
            }
            _ => None,
        }
    }

    fn resolve(&self, cache: &mut FileCache, now: ClockMs, path: &[u8]) -> Resolution {
        let key = Key { server: self.id, path };
        if let Some(resolution) = cache.fresh(key, now) {
            return resolution;
        }
        let Some(below) = path::below_root(path) else { return Resolution::Refused(404) };
        let Some(directory) = self.root.directory(now) else { return Resolution::Refused(404) };
        if let Some(resolution) = cache.renewed(key, &directory, now) {
            return resolution;
        }
        let found = lookup::find(&directory, &below, &self.index, &self.sayings);
        let resolution = found.resolution.clone();
        cache.insert(key, found, now);
        resolution
    }

    fn resolve_page(&self, cache: &mut FileCache, now: ClockMs, path: &CString) -> Resolution {
        let key = Key { server: self.id, path: path.as_bytes() };
        if let Some(resolution) = cache.fresh(key, now) {
            return resolution;
        }
        let Some(directory) = self.root.directory(now) else { return Resolution::Refused(404) };
        if let Some(resolution) = cache.renewed(key, &directory, now) {
            return resolution;
        }
        let found = lookup::find_page(&directory, path, &self.sayings);
        let resolution = found.resolution.clone();
        cache.insert(key, found, now);
        resolution
    }

    /// To the path with a slash at its end. A canonical path begins with exactly one slash, so the
    /// reference cannot name another host.
    fn redirect(&self, cache: &mut FileCache, now: ClockMs, request: &FileRequest<'_>) -> Answer {
        // One with a slash at its end already would lead here again.
        let asked = request.asked.filter(|asked| !asked.ends_with(b"/"));
        let path = asked.unwrap_or(request.path);
        if !is_printable(path) {
            return self.not_found(cache, now, request);
        }
        let mut location = [path, b"/"].concat();
        if let Some(query) = request.query.filter(|query| is_printable(query)) {
            location.push(b'?');
            location.extend_from_slice(query);
        }
        let mut fields = Vec::with_capacity(location.len().saturating_add(16));
        push_line(&mut fields, "Location", &location);
        Answer::empty(301, fields)
    }

    /// 404, or the page that a single-page application shows for a path of its own. Such a path
    /// has no dot in its last segment: a missing script is not answered with a page. Neither is a
    /// client that does not accept one.
    fn not_found(&self, cache: &mut FileCache, now: ClockMs, request: &FileRequest<'_>) -> Answer {
        let mut fields = Vec::new();
        if let Some(fallback) = &self.spa_fallback
            && is_page(request.path)
            && !self.is_excluded(request.asked.unwrap_or(request.path))
            && let Resolution::File(resource) = self.resolve_page(cache, now, fallback)
        {
            push_line(&mut fields, "Vary", b"Accept");
            if accepts_html(request.accept) {
                let answer = serve(resource.select(request.accept_encoding), request, cache);
                let answer = add_fields(answer, &fields);
                return if answer.status < 400 {
                    answer
                } else {
                    self.with_page(cache, now, request, answer)
                };
            }
        }
        self.with_page(cache, now, request, Answer::empty(404, fields))
    }

    /// The fallback does not answer for this path.
    fn is_excluded(&self, asked: &[u8]) -> bool {
        self.spa_exclude.iter().any(|begin| asked.starts_with(begin.as_bytes()))
    }

    /// Gives an error the site's own page, if there is one.
    fn with_page(
        &self,
        cache: &mut FileCache,
        now: ClockMs,
        request: &FileRequest<'_>,
        answer: Answer,
    ) -> Answer {
        match self.error_page(cache, now, answer.status, request) {
            Some(page) => add_fields(page, &answer.fields),
            None => answer,
        }
    }
}

/// Conditions first, then ranges (RFC 9110 §13.2.2, §14.2).
fn serve(
    representation: &Representation,
    request: &FileRequest<'_>,
    cache: &mut FileCache,
) -> Answer {
    let validators = representation.validators();
    match conditional::evaluate(request, validators) {
        Outcome::Proceed => {}
        Outcome::NotModified => return representation.not_modified(),
        Outcome::Failed => return Answer::empty(412, Vec::new()),
    }
    if let Some(range) = request.range
        && !request.head_only
        && (request.if_range.is_none()
            || conditional::range_applies(request.if_range, validators, SystemTime::now()))
        && let Some(answer) = ranges::answer(representation, range, || cache.boundary())
    {
        return answer;
    }
    representation.whole()
}

fn add_fields(answer: Answer, more: &[u8]) -> Answer {
    if more.is_empty() {
        return answer;
    }
    Answer { fields: Fields::Owned([&answer.fields, more].concat()), ..answer }
}

/// Whether bytes can stand in a `Location` as they are.
fn is_printable(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_graphic)
}

fn is_page(path: &[u8]) -> bool {
    path::below_root(path)
        .and_then(|path| path.rsplit(|&byte| byte == b'/').next().map(|last| !last.contains(&b'.')))
        .unwrap_or(false)
}

/// Whether `Accept` has a member that HTML satisfies; weights are not compared, as there is
/// nothing to choose from.
fn accepts_html(accept: Option<&[u8]>) -> bool {
    let Some(accept) = accept else { return true };
    accept.split(|&byte| byte == b',').any(|member| {
        let media_range =
            member.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        [&b"text/html"[..], b"text/*", b"*/*"]
            .iter()
            .any(|html| media_range.eq_ignore_ascii_case(html))
    })
}
