//! The static files of a site: `static_dir` and the keys beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::decode::{Context, Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::Files;
use crate::schema::{Kind, Section, later, now};
use crate::source::Span;
use crate::syntax::field_value;

pub(super) static CACHE: Section = Section {
    path: "sites.cache",
    list: false,
    about: "What responses with static files say about caching.",
    keys: &[
        now(
            "enabled",
            Kind::Bool,
            "true",
            "`false`: send no `Cache-Control`, `ETag` and `Last-Modified`.",
        ),
        now("cache_control", Kind::Text, "none", "`Cache-Control` of static files."),
        now("etag_enabled", Kind::Bool, "true", "Send `ETag`."),
        now("last_modified_enabled", Kind::Bool, "true", "Send `Last-Modified`."),
        later("max_age_static", Kind::Duration(true), "3600", "Age limit of static files."),
        later("max_age_dynamic", Kind::Duration(true), "300", "Age limit of other responses."),
    ],
};

/// Decodes the file keys of a site; `None` without `static_dir`.
pub(super) fn decode(site: &Table<'_>) -> Option<Files> {
    let context = site.context();
    let root = site.text("static_dir").and_then(|text| root(context, "static_dir", text));
    let index = site.texts("index_files").unwrap_or_default();
    let index: Vec<String> =
        index.into_iter().filter_map(|text| below(context, "index_files", text)).collect();
    let spa = site.text("spa_fallback");
    let spa_fallback = spa.and_then(|text| below(context, "spa_fallback", text));
    let spa_exclude = excluded(site, spa.is_some());
    let error_pages = error_pages(site);
    let follow_symlinks = site.boolean("follow_symlinks").unwrap_or(false);
    let mut files = Files {
        root: root.unwrap_or_default(),
        index: if index.is_empty() { vec!["index.html".into(), "index.htm".into()] } else { index },
        error_pages: error_pages
            .iter()
            .map(|(status, (page, _))| (*status, page.clone()))
            .collect(),
        spa_fallback,
        spa_exclude,
        follow_symlinks,
        cache_control: None,
        etag: true,
        last_modified: true,
    };
    cache(site, &mut files);
    if !site.has("static_dir") {
        unused(site);
        return None;
    }
    let mut pages: Vec<(&str, Span)> =
        error_pages.values().map(|(page, span)| (page.as_str(), *span)).collect();
    if let (Some(page), Some(text)) = (&files.spa_fallback, spa) {
        pages.push((page, text.span));
    }
    missing_pages(context, &files.root, &pages);
    Some(files)
}

/// The files of a route with `root`: as those of its site but for what it says itself.
pub(super) fn of_a_route(route: &Table<'_>, site: Option<&Files>) -> Option<Files> {
    let context = route.context();
    let root = route.text("root");
    let index = route.texts("index_files").unwrap_or_default();
    let index: Vec<String> =
        index.into_iter().filter_map(|text| below(context, "index_files", text)).collect();
    let spa = route.text("spa_fallback");
    let spa_fallback = spa.and_then(|text| below(context, "spa_fallback", text));
    let spa_exclude = excluded(route, spa.is_some());
    let cache_control = route.text("cache_control").and_then(|text| said(context, text));
    if root.is_none() {
        for key in ["index_files", "spa_fallback", "cache_control"] {
            if let Some(entry) = route.peek(key).filter(|_| !route.has("root")) {
                context.push(
                    Diagnostic::warning(
                        Code::Unused,
                        entry.key_span,
                        format!("`{key}` does nothing without `root`"),
                    )
                    .label("there are no files to serve"),
                );
            }
        }
        return None;
    }
    let root = self::root(context, "root", root?)?;
    Some(Files {
        root,
        index: match (index.is_empty(), site) {
            (false, _) => index,
            (true, Some(site)) => site.index.clone(),
            (true, None) => vec!["index.html".into(), "index.htm".into()],
        },
        error_pages: BTreeMap::new(),
        spa_fallback,
        spa_exclude,
        follow_symlinks: site.is_some_and(|site| site.follow_symlinks),
        cache_control: cache_control.or_else(|| site.and_then(|site| site.cache_control.clone())),
        etag: site.is_none_or(|site| site.etag),
        last_modified: site.is_none_or(|site| site.last_modified),
    })
}

/// A value of `Cache-Control`.
fn said(context: &Context<'_>, text: Spanned<&str>) -> Option<String> {
    match field_value(text.value) {
        Ok(value) => Some(value.to_owned()).filter(|value| !value.is_empty()),
        Err(reason) => {
            context.push(context.bad("cache_control", text.span, &reason));
            None
        }
    }
}

fn root(context: &Context<'_>, key: &str, text: Spanned<&str>) -> Option<PathBuf> {
    if text.value.is_empty() || text.value.contains('\0') {
        context.push(context.bad(key, text.span, "expected the path of a directory"));
        return None;
    }
    let root = PathBuf::from(text.value);
    // What stands at no place is a default of another system, and nobody's mistake.
    let is_written = text.span.start < text.span.end;
    if is_written && !context.exists(&root) {
        let message = format!("the directory \"{}\" does not exist", text.value.escape_debug());
        context.push(
            Diagnostic::warning(Code::MissingFile, text.span, message)
                .label("requests for files are answered 404")
                .help("relative paths start at the working directory"),
        );
    }
    Some(root)
}

/// A file name that stays below the root.
fn below(context: &Context<'_>, key: &str, text: Spanned<&str>) -> Option<String> {
    let name = text.value.trim_start_matches('/');
    let reason = if name.is_empty() || name.ends_with('/') {
        "expected the name of a file in `static_dir`"
    } else if name.contains('\0') || name.split('/').any(|segment| segment == "..") {
        "must stay below `static_dir`"
    } else {
        return Some(name.to_owned());
    };
    context.push(context.bad(key, text.span, reason));
    None
}

fn error_pages(site: &Table<'_>) -> BTreeMap<u16, (String, Span)> {
    let context = site.context();
    let mut pages = BTreeMap::new();
    for entry in site.map("error_pages") {
        let status = entry.key.parse::<u16>().ok().filter(|status| (400..=599).contains(status));
        if status.is_none() {
            let message = format!("`{}` is no status of an error", entry.key.escape_debug());
            context.push(
                Diagnostic::error(Code::BadValue, entry.key_span, message)
                    .label("expected a number from 400 to 599"),
            );
        }
        let text = context.text(&entry.key, &entry.node);
        let page = text.and_then(|text| Some((below(context, &entry.key, text)?, text.span)));
        if let (Some(status), Some(page)) = (status, page) {
            pages.insert(status, page);
        }
    }
    pages
}

fn missing_pages(context: &Context<'_>, root: &Path, pages: &[(&str, Span)]) {
    if !context.exists(root) {
        return;
    }
    for (page, span) in pages {
        let path = root.join(page);
        if !context.exists(&path) {
            let message = format!("the file \"{}\" does not exist", path.display());
            context.push(
                Diagnostic::warning(Code::MissingFile, *span, message)
                    .label("looked for below `static_dir`"),
            );
        }
    }
}

/// Beginnings of paths that the page of `spa_fallback` is not for.
fn excluded(table: &Table<'_>, has_fallback: bool) -> Vec<String> {
    let context = table.context();
    let written = table.texts("spa_exclude");
    if let (Some(entry), false) = (table.peek("spa_exclude"), has_fallback) {
        context.push(
            Diagnostic::warning(
                Code::Unused,
                entry.key_span,
                "`spa_exclude` does nothing without `spa_fallback`",
            )
            .label("there is no page that it could be for"),
        );
    }
    let path = |text: Spanned<&str>| {
        let is_path = text.value.starts_with('/');
        if !is_path {
            context.push(context.bad(
                "spa_exclude",
                text.span,
                "expected the beginning of a path: \"/api/\"",
            ));
        }
        is_path.then(|| text.value.to_owned())
    };
    written.unwrap_or_default().into_iter().filter_map(path).collect()
}

fn cache(site: &Table<'_>, files: &mut Files) {
    let Some(table) = site.table("cache") else { return };
    let enabled = table.boolean("enabled").unwrap_or(true);
    let etag = table.boolean("etag_enabled").unwrap_or(true);
    let last_modified = table.boolean("last_modified_enabled").unwrap_or(true);
    let control = table.text("cache_control").and_then(|text| said(table.context(), text));
    files.cache_control = control.filter(|_| enabled);
    files.etag = etag && enabled;
    files.last_modified = last_modified && enabled;
    if enabled { table.finish() } else { table.finish_quietly() }
}

/// Keys that do nothing without `static_dir`.
fn unused(site: &Table<'_>) {
    for key in ["index_files", "error_pages", "spa_fallback", "follow_symlinks", "cache"] {
        if let Some(entry) = site.peek(key).filter(|entry| !entry.node.value.is_off()) {
            let message = format!("`{key}` does nothing without `static_dir`");
            site.context().push(
                Diagnostic::warning(Code::Unused, entry.key_span, message)
                    .label("there are no files to serve"),
            );
        }
    }
}
