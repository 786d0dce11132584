//! `[dns]`: how the host names of upstreams are looked up.

use std::time::Duration;

use crate::decode::Table;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::Dns;
use crate::schema::{Kind, Section, now};
use crate::syntax::name_server;

pub(super) static DNS: Section = Section {
    path: "dns",
    list: false,
    about: "How the host names of upstreams are looked up, again whenever the answer's time to live is over. `/etc/hosts` comes first. A name that name servers do not know is asked of the system every 30 seconds (`nsswitch.conf`: mDNS, containers), unless `servers` says who is to be asked. While no answer comes, the last addresses stay in use.",
    keys: &[
        now(
            "servers",
            Kind::Texts,
            "those of `/etc/resolv.conf`",
            "Name servers, each an address with a port if it is not 53: `[\"10.0.0.53\", \"[2001:db8::53]:5353\"]`. `/etc/resolv.conf` is not read then, and names are complete as they are.",
        ),
        now(
            "min_ttl",
            Kind::Duration(false),
            "1",
            "An answer is good for so long, even if its time to live is shorter.",
        ),
        now(
            "max_ttl",
            Kind::Duration(false),
            "300",
            "A name is looked up again after this at the latest, even if the answer's time to live is longer.",
        ),
    ],
};

pub(super) fn decode(table: Option<Table<'_>>) -> Dns {
    let mut dns = Dns {
        servers: Vec::new(),
        min_ttl: Duration::from_secs(1),
        max_ttl: Duration::from_secs(300),
    };
    let Some(table) = table else { return dns };
    for text in table.texts("servers").unwrap_or_default() {
        match name_server(text.value) {
            Ok(server) if dns.servers.contains(&server) => {
                let message = format!("the name server {} is named twice", text.value);
                table
                    .context()
                    .push(Diagnostic::warning(Code::Unused, text.span, message).label("again"));
            }
            Ok(server) => dns.servers.push(server),
            Err(hint) => table.context().push_hint("servers", text.span, hint),
        }
    }
    let (min, max) = (table.duration("min_ttl"), table.duration("max_ttl"));
    dns.min_ttl = min.unwrap_or(dns.min_ttl.min(max.unwrap_or(dns.min_ttl)));
    dns.max_ttl = max.unwrap_or(dns.max_ttl.max(dns.min_ttl));
    if let (true, Some(least), Some(most)) =
        (dns.min_ttl > dns.max_ttl, table.peek("min_ttl"), table.peek("max_ttl"))
    {
        table.context().push(
            Diagnostic::error(Code::Conflict, least.node.span, "`min_ttl` above `max_ttl`")
                .label("longer")
                .also(most.node.span, "than this")
                .help("a name cannot be looked up again before its answer is over"),
        );
    }
    table.finish();
    dns
}
