//! Every key of PyServe, as its documentation has them.

use crate::schema::{Kind, Section, later, now};

/// Highest number that counters can hold.
const COUNT_MAX: i64 = u32::MAX as i64;
/// Highest backlog that `listen(2)` takes.
const BACKLOG_MAX: i64 = i32::MAX as i64;

pub(super) const LEVELS: &[&str] = &["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];

pub(super) static ROOT: Section = Section {
    path: "",
    list: false,
    about: "The top level has tables and the version.",
    keys: &[
        now("version", Kind::Integer(1, 2), "1", "2 turns `extensions` on."),
        now("server", Kind::Table(&SERVER), "", "Where to listen, and what becomes of requests."),
        now("http", Kind::Table(&HTTP), "", "Files."),
        now("ssl", Kind::Table(&SSL), "", "TLS with clients."),
        now("logging", Kind::Table(&LOGGING), "", "The log."),
        now("extensions", Kind::Tables(&EXTENSIONS), "[]", "Extensions, with `version: 2`."),
    ],
};

pub(super) static SERVER: Section = Section {
    path: "server",
    list: false,
    about: "Where to listen, and what becomes of requests.",
    keys: &[
        now("host", Kind::Text, "127.0.0.1", "Address to listen at."),
        now("port", Kind::Integer(1, 65535), "8000", "Port to listen at."),
        now(
            "backlog",
            Kind::Integer(1, BACKLOG_MAX),
            "4096",
            "Connections that wait to be accepted.",
        ),
        now("reverse_proxy", Kind::Tables(&REVERSE_PROXY), "[]", "Which requests go where."),
        now(
            "redirect_instructions",
            Kind::Tables(&REDIRECTS),
            "[]",
            "Paths and the URLs that clients are sent to.",
        ),
        now("locations", Kind::Table(&LOCATIONS), "{}", "Paths that ask for a password."),
        now("default_root", Kind::Bool, "true", "A page of welcome at `/`."),
    ],
};

pub(super) static REVERSE_PROXY: Section = Section {
    path: "server.reverse_proxy",
    list: true,
    about: "Requests whose path begins with `path` go to the backend, without it.",
    keys: &[
        now("host", Kind::Text, "localhost", "Host name or address of the backend."),
        now("path", Kind::Text, "/", "Prefix of the paths it takes, which is taken off."),
        now("port", Kind::Integer(1, 65535), "80", "Port of the backend."),
        now("ssl", Kind::Bool, "false", "TLS to the backend."),
        now("websocket", Kind::Bool, "removed", "WebSocket is always on."),
    ],
};

pub(super) static REDIRECTS: Section = Section {
    path: "server.redirect_instructions",
    list: true,
    about: "A path and the URL that clients are sent to.",
    keys: &[],
};

pub(super) static LOCATIONS: Section =
    Section { path: "server.locations", list: false, about: "Paths, each with `auth`.", keys: &[] };

pub(super) static LOCATION: Section = Section {
    path: "server.locations.<path>",
    list: false,
    about: "What holds for one path.",
    keys: &[now("auth", Kind::Table(&AUTH), "none", "Ask for a password.")],
};

pub(super) static AUTH: Section = Section {
    path: "server.locations.<path>.auth",
    list: false,
    about: "Who may come in.",
    keys: &[
        now("type", Kind::Choice(&["basic"], &[]), "required", "How clients say who they are."),
        now("username", Kind::Text, "required", "The user's name."),
        now("password", Kind::Text, "required", "The user's password."),
    ],
};

pub(super) static HTTP: Section = Section {
    path: "http",
    list: false,
    about: "Files.",
    keys: &[
        now("static_dir", Kind::Text, "./static", "Directory of files to serve."),
        later("templates_dir", Kind::Text, "./templates", "Directory of error pages."),
    ],
};

pub(super) static SSL: Section = Section {
    path: "ssl",
    list: false,
    about: "TLS with clients.",
    keys: &[
        now("enabled", Kind::Bool, "false", "Speak TLS."),
        now("cert_file", Kind::Text, "./ssl/cert.pem", "PEM file with the certificate chain."),
        now("key_file", Kind::Text, "./ssl/key.pem", "PEM file with the private key."),
    ],
};

pub(super) static LOGGING: Section = Section {
    path: "logging",
    list: false,
    about: "The log.",
    keys: &[
        now("level", Kind::Choice(LEVELS, &["WARN"]), "INFO", "Least severe line."),
        now("log_file", Kind::Text, "./logs/pyserve.log", "File for all lines."),
        now("console_output", Kind::Bool, "true", "Lines on the terminal as well."),
        now("use_colors", Kind::Bool, "true", "Colours on the terminal."),
        now("use_rotation", Kind::Bool, "false", "Begin a new file when one is full."),
        now("max_log_size", Kind::Integer(1, i64::MAX), "10485760", "Bytes of a full file."),
        now("backup_count", Kind::Integer(0, COUNT_MAX), "5", "Full files that are kept."),
        now("structured_logs", Kind::Bool, "false", "Lines in JSON."),
    ],
};

pub(super) static EXTENSIONS: Section = Section {
    path: "extensions",
    list: true,
    about: "One extension.",
    keys: &[
        now("type", Kind::Text, "required", "Which one."),
        now("config", Kind::Table(&ROUTING), "{}", "Its configuration."),
        now("source", Kind::Text, "none", "File with its configuration."),
    ],
};

pub(super) static ROUTING: Section = Section {
    path: "extensions.config",
    list: false,
    about: "The extension `routing`.",
    keys: &[now("regex_locations", Kind::Table(&PATTERNS), "{}", "Patterns, and what they do.")],
};

pub(super) static PATTERNS: Section = Section {
    path: "extensions.config.regex_locations",
    list: false,
    about: "Patterns of paths, each with what becomes of requests.",
    keys: &[],
};

pub(super) static PATTERN: Section = Section {
    path: "regex_locations.<pattern>",
    list: false,
    about: "What becomes of requests for the paths of a pattern.",
    keys: &[
        now("proxy_pass", Kind::Text, "none", "URL of a backend."),
        now("root", Kind::Text, "none", "Directory of files."),
        now("index_file", Kind::Text, "index.html", "File that answers for a directory."),
        now("return", Kind::Text, "none", "A status and a text: `200 OK`."),
        now("content_type", Kind::Text, "text/plain", "What `return` is."),
        now("headers", Kind::Texts, "[]", "Fields, each `Name: value`."),
        now("cache_control", Kind::Text, "none", "`Cache-Control` of responses."),
        now("spa_fallback", Kind::Bool, "false", "Answer with `index_file` what does not exist."),
        now(
            "exclude_patterns",
            Kind::Texts,
            "/api/, /admin/",
            "Beginnings of paths that `spa_fallback` is not for.",
        ),
    ],
};
