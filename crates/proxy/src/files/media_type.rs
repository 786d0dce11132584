//! Media types by file name.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Where the table of `mime_guess` is older than the registration, or names a type that no
/// browser runs.
const NEWER: [(&str, &str); 2] = [("mjs", "text/javascript"), ("map", "application/json")];

/// The value of `Content-Type` for a file. Text is taken to be UTF-8, except for XML, which says
/// so itself; what is not known is `application/octet-stream`.
pub(super) fn of(path: &[u8]) -> (&'static str, Option<&'static str>) {
    let extension = Path::new(OsStr::from_bytes(path)).extension().and_then(OsStr::to_str);
    let Some(extension) = extension else { return ("application/octet-stream", None) };
    let newer = NEWER.iter().find(|(name, _)| name.eq_ignore_ascii_case(extension));
    let media_type = newer
        .map(|(_, media_type)| *media_type)
        .or_else(|| mime_guess::from_ext(extension).first_raw())
        .unwrap_or("application/octet-stream");
    let is_text = media_type.starts_with("text/") && media_type != "text/xml";
    (media_type, is_text.then_some("utf-8"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn files_have_the_type_a_browser_expects() {
        for (name, media_type, charset) in [
            ("index.html", "text/html", Some("utf-8")),
            ("a/B.HTML", "text/html", Some("utf-8")),
            ("style.css", "text/css", Some("utf-8")),
            ("app.js", "text/javascript", Some("utf-8")),
            ("app.mjs", "text/javascript", Some("utf-8")),
            ("app.js.map", "application/json", None),
            ("data.json", "application/json", None),
            ("notes.txt", "text/plain", Some("utf-8")),
            ("feed.xml", "text/xml", None),
            ("logo.svg", "image/svg+xml", None),
            ("photo.jpg", "image/jpeg", None),
            ("font.woff2", "font/woff2", None),
            ("module.wasm", "application/wasm", None),
            ("Makefile", "application/octet-stream", None),
            (".htaccess", "application/octet-stream", None),
            ("x.unheard-of", "application/octet-stream", None),
        ] {
            assert_eq!(super::of(name.as_bytes()), (media_type, charset), "{name}");
        }
    }
}
