//! `[process]`: as whom the process runs, and how it gives way to another.

use crate::decode::Table;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::Process;
use crate::schema::{Kind, Section, now};

pub(super) static PROCESS: Section = Section {
    path: "process",
    list: false,
    about: "As whom the process runs, and how it gives way to another. A change of `user`, `group` or `keep_bind` needs a restart.",
    keys: &[
        now(
            "user",
            Kind::Text,
            "whoever started it",
            "Once its addresses are bound, the process becomes this user for good: a name of `/etc/passwd` or a number. It has to be started as root. Files are read and logs opened as this user, so what works at the start works at a reload.",
        ),
        now(
            "group",
            Kind::Text,
            "those of the user",
            "A name of `/etc/group` or a number; then the process is in no other group.",
        ),
        now(
            "keep_bind",
            Kind::Bool,
            "false",
            "Keep the right to bind ports below 1024 (`CAP_NET_BIND_SERVICE`), so that a reload or an upgrade can add some. All other capabilities are given up by a process that is not root.",
        ),
        now(
            "drain_timeout",
            Kind::Duration(true),
            "\"10m\"",
            "After an upgrade, requests and WebSockets of the old process may go on for so long; what is left then is closed as at a stop.",
        ),
    ],
};

pub(super) fn decode(table: Option<Table<'_>>) -> Process {
    let mut process = Process::default();
    let Some(table) = table else { return process };
    let name = |key| {
        let name = table.text(key)?;
        let fits = !name.value.is_empty() && !name.value.contains([':', '\n', '\0']);
        if !fits {
            let hint = "expected a name or a number";
            table.context().push(table.context().bad(key, name.span, hint));
        }
        fits.then(|| name.value.to_owned())
    };
    process.user = name("user");
    process.group = name("group");
    if let (Some(group), false) = (table.peek("group"), table.has("user")) {
        table.context().push(
            Diagnostic::error(Code::MissingKey, group.node.span, "`group` needs `user`")
                .label("nobody becomes a member of it")
                .help("name the user too: `user = \"ravelin\"`"),
        );
    }
    process.keep_bind = table.boolean("keep_bind").unwrap_or(process.keep_bind);
    process.drain_timeout = table.duration("drain_timeout").unwrap_or(process.drain_timeout);
    table.finish();
    process
}
