//! The languages a configuration may be written in, and how they are told apart.

use std::path::Path;

pub(crate) mod toml;

/// A configuration language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Ravelin's own TOML.
    Native,
}

impl Dialect {
    /// Every dialect with its name, as `--dialect` takes it.
    pub const ALL: &'static [(&'static str, Dialect)] = &[("native", Dialect::Native)];

    /// Finds the dialect by the file's name; `None` if it is not one that can be read.
    pub fn detect(path: &Path) -> Option<Dialect> {
        let extension = path.extension()?.to_str()?;
        extension.eq_ignore_ascii_case("toml").then_some(Dialect::Native)
    }
}
