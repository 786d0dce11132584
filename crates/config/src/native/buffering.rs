//! `[sites.proxy.buffering]`: bodies that are taken whole before they are passed on.

use crate::decode::Table;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::Buffering;
use crate::schema::{Kind, Section, now};

use super::ssl::wanted_directory;

/// More memory for one body would be more than a process has.
const MEMORY_MAX: u64 = 1 << 30;

pub(super) static SECTION: Section = Section {
    path: "sites.proxy.buffering",
    list: false,
    about: "Bodies that are taken as fast as they come before they are passed on: in memory first, then in a temporary file.",
    keys: &[
        now(
            "request",
            Kind::Bool,
            "false",
            "Take the whole request body before the upstream is asked, so that slow clients do not hold it.",
        ),
        now(
            "response",
            Kind::Bool,
            "false",
            "Take the response as fast as the upstream gives it. `X-Accel-Buffering: yes` or `no` of a response decides for that response.",
        ),
        now(
            "memory",
            Kind::Size(0, MEMORY_MAX),
            "\"1MB\"",
            "Bytes of one body kept in memory; what is more goes to a temporary file.",
        ),
        now(
            "max",
            Kind::Size(1, u64::MAX),
            "\"1GB\"",
            "Bytes of one body in memory and file together. A longer request body is 413; a longer response is read as slowly as the client takes it.",
        ),
        now(
            "directory",
            Kind::Text,
            "the system's for temporary files",
            "Directory of the temporary files, which have no names.",
        ),
    ],
};

/// Decodes the table of a proxy.
pub(super) fn decode(proxy: &Table<'_>) -> Buffering {
    let mut buffering = Buffering::default();
    let Some(table) = proxy.table("buffering") else { return buffering };
    buffering.request = table.boolean("request").unwrap_or(false);
    buffering.response = table.boolean("response").unwrap_or(false);
    let memory = table.size("memory");
    buffering.memory =
        memory.and_then(|size| usize::try_from(size).ok()).unwrap_or(buffering.memory);
    buffering.max = table.size("max").unwrap_or(buffering.max);
    buffering.directory =
        wanted_directory(&table, "directory", true, "bodies could not be kept without it");
    let in_memory = u64::try_from(buffering.memory).unwrap_or(u64::MAX);
    if let (Some(memory), Some(max)) = (table.peek("memory"), table.peek("max"))
        && in_memory > buffering.max
    {
        let message = "more is kept in memory than in memory and file together";
        table.context().push(
            Diagnostic::error(Code::Conflict, memory.node.span, message)
                .label("larger")
                .also(max.node.span, "the bound of both"),
        );
    }
    buffering.memory = buffering.memory.min(usize::try_from(buffering.max).unwrap_or(usize::MAX));
    table.finish();
    buffering
}
