//! The small languages inside of values: durations, sizes, host names, listen addresses, upstream
//! URLs, paths, header fields. Pure functions; an `Err` is the reason, worded to stand below the value.

use std::fmt::Write as _;

use wire::text::steers;

mod address;
mod field;
mod quantity;
mod status;
mod url;

pub(crate) use address::{Hint, host_name, host_pattern, listen, name_server, network};
pub(crate) use field::{field_name, field_value, managed_field, method_name};
pub use quantity::size_unit;
pub(crate) use quantity::{duration, seconds, size};
pub(crate) use status::{status, statuses};
pub(crate) use url::{UpstreamUrl, authority, path, request_target, upstream};

/// A text as a TOML string, for a suggestion.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\t' | '\n' | '\r' => quoted.extend(c.escape_default()),
            c if steers(c) => _ = write!(quoted, "\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}
