//! Tables whose functions are not built yet. They are checked like every other, so that a
//! configuration that is accepted now still is when they are.

use crate::schema::{Kind, Section, later};

/// Highest number that the formats behind these keys can hold.
const COUNT_MAX: i64 = u32::MAX as i64;

pub(super) static COMPRESSION: Section = Section {
    path: "sites.compression",
    list: false,
    about: "Compression of responses.",
    keys: &[
        later("enabled", Kind::Bool, "true", "Compress at all."),
        later("types", Kind::Texts, "text types", "Media types to compress."),
        later("level", Kind::Integer(0, 9), "6", "From fast to small."),
        later("min_size", Kind::Size(0, u64::MAX), "1024", "Smaller bodies are not compressed."),
    ],
};

pub(super) static ACCESS_CONTROL: Section = Section {
    path: "sites.access_control",
    list: false,
    about: "Cross-origin requests (CORS).",
    keys: &[
        later("allow_methods", Kind::Texts, "GET, HEAD, OPTIONS", "Methods other origins may use."),
        later(
            "allow_headers",
            Kind::Texts,
            "Content-Type, Authorization",
            "Fields other origins may send.",
        ),
        later("allow_origins", Kind::Texts, "*", "Origins that may make requests."),
        later("allow_credentials", Kind::Bool, "false", "Whether they may send cookies."),
        later(
            "max_age",
            Kind::Duration(true),
            "86400",
            "How long a browser may remember the answer.",
        ),
    ],
};

pub(super) static RATE_LIMITING: Section = Section {
    path: "security.rate_limiting",
    list: false,
    about: "Limits on requests of one client.",
    keys: &[
        later("requests_per_minute", Kind::Integer(1, COUNT_MAX), "required", "Requests a minute."),
        later("burst_size", Kind::Integer(1, COUNT_MAX), "required", "Requests at once."),
        later("whitelist", Kind::Texts, "[]", "Addresses without a limit."),
    ],
};

pub(super) static MANAGEMENT: Section = Section {
    path: "management",
    list: false,
    about: "The admin API.",
    keys: &[
        later("enabled", Kind::Bool, "false", "Serve it."),
        later("host", Kind::Text, "\"127.0.0.1\"", "Address to listen at."),
        later("port", Kind::Integer(1, 65535), "7654", "Port to listen at."),
        later("api_key", Kind::Text, "none", "Key that callers must send in `X-API-Key`."),
    ],
};
