//! `[reload]`: when a changed configuration is taken.

use crate::decode::Table;
use crate::model::Reload;
use crate::schema::{Kind, Section, now};

pub(super) static RELOAD: Section = Section {
    path: "reload",
    list: false,
    about: "When a changed configuration is taken. `ravelin reload` and SIGHUP always do that.",
    keys: &[now(
        "watch",
        Kind::Bool,
        "false",
        "Also when the configuration files have changed and are at rest: they are looked at every three seconds. A configuration with a mistake is reported in the log, and what is served stays.",
    )],
};

pub(super) fn decode(table: Option<Table<'_>>) -> Reload {
    let mut reload = Reload::default();
    let Some(table) = table else { return reload };
    reload.watch = table.boolean("watch").unwrap_or(reload.watch);
    table.finish();
    reload
}
