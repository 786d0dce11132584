//! Tables whose functions are not built yet. They are checked like every other, so that a
//! configuration that is accepted now still is when they are.

use crate::schema::{Kind, Section, later};

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
