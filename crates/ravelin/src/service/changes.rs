//! What is different between two configurations, in sentences for people.

use std::collections::HashMap;

use config::Model;
use config::model::{Listen, Pool, Site};

/// Differences that are told; the rest is counted.
const TOLD_MAX: usize = 32;

/// The differences, sites first. Empty if there are none.
pub(super) fn changes(old: &Model, new: &Model) -> Vec<String> {
    let mut changes = listeners(old, new);
    let mut before: HashMap<&str, &Site> = by_name(old);
    for site in &new.sites {
        match before.remove(&*site.name) {
            None => changes.push(format!("new site \"{}\"", site.name)),
            Some(same) if same == site => {}
            Some(other) => of_site(other, site, &mut changes),
        }
    }
    let gone = old.sites.iter().filter(|site| before.contains_key(&*site.name));
    changes.extend(gone.map(|site| format!("site \"{}\" is gone", site.name)));
    let rest = [
        ("server", old.server != new.server),
        ("logging", old.logging != new.logging),
        ("performance", old.performance != new.performance),
        ("dns", old.dns != new.dns),
        ("security", old.security != new.security),
        ("limits", old.limits != new.limits),
        ("management", old.management != new.management),
        ("process", old.process != new.process),
        ("reload", old.reload != new.reload),
    ];
    let differs = rest.iter().filter(|(_, differs)| *differs);
    changes.extend(differs.map(|(name, _)| format!("`[{name}]` is different")));
    if let Some(more) = changes.len().checked_sub(TOLD_MAX + 1) {
        changes.truncate(TOLD_MAX);
        changes.push(format!("and {} more differences", more + 1));
    }
    changes
}

fn by_name(model: &Model) -> HashMap<&str, &Site> {
    model.sites.iter().map(|site| (&*site.name, site)).collect()
}

fn listeners(old: &Model, new: &Model) -> Vec<String> {
    let all = |model: &Model| {
        let mut all: Vec<Listen> =
            model.sites.iter().flat_map(|site| site.listen.clone()).collect();
        all.dedup();
        all
    };
    let (before, after) = (all(old), all(new));
    let mut changes: Vec<String> = Vec::new();
    let mut say = |what: &str, one: &Listen| {
        let change = format!("{what} {}", name(one));
        if !changes.contains(&change) {
            changes.push(change);
        }
    };
    after.iter().filter(|one| !before.contains(one)).for_each(|one| say("listens at", one));
    before
        .iter()
        .filter(|one| !after.contains(one))
        .for_each(|one| say("no longer listens at", one));
    changes
}

fn name(listen: &Listen) -> String {
    match listen {
        Listen::Port(port) => format!("port {port}"),
        Listen::Address(address) => address.to_string(),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn of_site(old: &Site, new: &Site, changes: &mut Vec<String>) {
    let site = &new.name;
    let before = changes.len();
    let pools = |site: &'_ Site| -> Vec<Pool> {
        site.proxy.as_ref().map(|proxy| proxy.pools.clone()).unwrap_or_default()
    };
    let (old_pools, new_pools) = (pools(old), pools(new));
    for pool in &new_pools {
        let name = &pool.name;
        match old_pools.iter().find(|other| other.name == *name) {
            None => changes.push(format!("site \"{site}\": new upstream \"{name}\"")),
            Some(other) if other == pool => {}
            Some(other) => of_pool(site, other, pool, changes),
        }
    }
    for pool in &old_pools {
        if !new_pools.iter().any(|other| other.name == pool.name) {
            changes.push(format!("site \"{site}\": upstream \"{}\" is gone", pool.name));
        }
    }
    if old.routes != new.routes {
        let count = new.routes.iter().filter(|route| !old.routes.contains(route)).count();
        let gone = old.routes.iter().filter(|route| !new.routes.contains(route)).count();
        changes.push(match (count, gone) {
            (0, 0) => format!("site \"{site}\": routes in another order"),
            _ => format!("site \"{site}\": {count} new or different routes, {gone} gone"),
        });
    }
    if old.tls != new.tls {
        changes.push(format!("site \"{site}\": TLS is different"));
    }
    let elsewhere = Site { listen: new.listen.clone(), ..old.clone() };
    if changes.len() == before && elsewhere != *new {
        changes.push(format!("site \"{site}\" is different"));
    }
}

fn of_pool(site: &str, old: &Pool, new: &Pool, changes: &mut Vec<String>) {
    let name = &new.name;
    let mut moved = false;
    let urls = |pool: &Pool| -> Vec<String> {
        pool.upstreams.iter().map(|upstream| upstream.url.clone()).collect()
    };
    let (before, after) = (urls(old), urls(new));
    for url in after.iter().filter(|url| !before.contains(url)) {
        changes.push(format!("site \"{site}\": upstream \"{name}\" has {url}"));
        moved = true;
    }
    for url in before.iter().filter(|url| !after.contains(url)) {
        changes.push(format!("site \"{site}\": upstream \"{name}\" has {url} no longer"));
        moved = true;
    }
    if !moved {
        changes.push(format!("site \"{site}\": upstream \"{name}\" is different"));
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn model(text: &str) -> Model {
        let file = (PathBuf::from("ravelin.toml"), text);
        let loaded = config::load(&[file], &config::Options::default());
        let findings = loaded.render(false);
        loaded.model.unwrap_or_else(|| panic!("{findings}"))
    }

    const BASE: &str = "[[sites]]\nname = \"a\"\nhostname = \"a.test\"\nport = 8080\n\
                        [sites.proxy]\nenabled = true\n\
                        [[sites.proxy.upstreams]]\nname = \"b\"\nurl = \"http://127.0.0.1:1\"\n\
                        [[sites.proxy.routes]]\npath = \"/\"\nupstream = \"b\"\n";

    #[test]
    fn differences_are_told_in_sentences() {
        let old = model(BASE);
        assert!(changes(&old, &old).is_empty());
        let expect = |from: &str, to: &str, expected: &[&str]| {
            assert_eq!(changes(&old, &model(&BASE.replace(from, to))), expected, "{from} -> {to}");
        };
        expect("8080", "8081", &["listens at port 8081", "no longer listens at port 8080"]);
        expect(
            "127.0.0.1:1",
            "127.0.0.1:2",
            &[
                "site \"a\": upstream \"b\" has http://127.0.0.1:2",
                "site \"a\": upstream \"b\" has http://127.0.0.1:1 no longer",
            ],
        );
        expect("path = \"/\"", "path = \"/x\"", &["site \"a\": 1 new or different routes, 1 gone"]);
        expect("name = \"a\"\n", "name = \"c\"\n", &["new site \"c\"", "site \"a\" is gone"]);
        let with = model(&format!("{BASE}\n[limits]\nfields = 50\n"));
        assert_eq!(changes(&old, &with), ["`[limits]` is different"]);
    }
}
