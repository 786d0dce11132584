//! `ravelin check`: every mistake of a configuration, for people or for tools.

use std::io;

use config::Model;

use crate::cli::{CheckArguments, Common, Format};
use crate::configuration::{count, load};
use crate::terminal::{self, Failure};

/// Reports what is wrong on standard output; fails when there is an error among it.
pub(crate) fn check(arguments: &CheckArguments, common: &Common) -> Result<(), Failure> {
    let loaded = load(&arguments.files, common)?;
    let stdout = io::stdout();
    let report = match arguments.format {
        Format::Json => loaded.render_json(),
        Format::Human => {
            let mut text = loaded.render(terminal::colored(common.color, &stdout));
            text.push_str(&conclusion(&loaded));
            text
        }
    };
    terminal::print(stdout, &report);
    if loaded.model.is_some() { Ok(()) } else { Err(Failure::Told) }
}

/// The last line: how many findings there are, or what the configuration would serve.
fn conclusion(loaded: &config::Loaded) -> String {
    let warnings = match loaded.warnings() {
        0 => String::new(),
        number => format!(", {}", count(number, "warning")),
    };
    match &loaded.model {
        Some(model) => format!("ok{warnings}: {}\n", summary(model)),
        None => format!("{}{warnings}\n", count(loaded.errors(), "error")),
    }
}

fn summary(model: &Model) -> String {
    let proxies = || model.sites.iter().filter_map(|site| site.proxy.as_ref());
    let routes = proxies().map(|proxy| proxy.routes.len()).sum();
    let upstreams = proxies().flat_map(|proxy| &proxy.pools).map(|pool| pool.upstreams.len()).sum();
    format!(
        "{}, {}, {}",
        count(model.sites.len(), "site"),
        count(routes, "route"),
        count(upstreams, "upstream")
    )
}
