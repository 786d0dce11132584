//! Where each thing of a configuration is written, beside the model that says what it means.
//!
//! A [`Places`] is made of the same trees as the model, with nothing of their values but the names that
//! things are found by: no secret is in it. It belongs to a model without being a part of what that
//! says: two models that say the same are equal wherever that is written.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::schema::{Kind, Section};
use crate::source::{Sources, Span};
use crate::tree::{Entry, Node, Value};

/// Where the parts of a model are written; equal to every other.
#[derive(Clone, Default)]
pub struct Places(Arc<All>);

/// Where something is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// In the sources it was loaded from.
    pub span: Span,
    /// The file's name.
    pub file: Arc<str>,
    /// The line, from 1 on.
    pub line: usize,
}

#[derive(Default)]
struct All {
    files: Vec<Arc<str>>,
    /// The top level of each file.
    roots: Vec<Written>,
    sites: Vec<SiteWritten>,
    tests: Vec<Written>,
}

struct SiteWritten {
    table: Written,
    /// Those of its model, in the same order.
    routes: Vec<Written>,
    /// Entries, each with its pool.
    upstreams: Vec<(String, Written)>,
    /// Tables of single pools.
    pools: Vec<(String, Written)>,
}

/// Something that is written, and what is in it.
#[derive(Debug, Clone)]
struct Written {
    span: Span,
    line: u32,
    /// By the key's own name, whatever other name for it is written.
    keys: Vec<(String, Written)>,
}

impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Places of {} sites", self.0.sites.len())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl Places {
    /// The places in these native trees.
    pub(crate) fn of(roots: &[Node], sources: &Sources) -> Self {
        let reader = Reader { sources };
        let name = |path: &Path| Arc::from(path.to_string_lossy().as_ref());
        let items = |key: &'static str| {
            roots.iter().flat_map(move |root| entry(root, key)).flat_map(|found| items(&found.node))
        };
        let section = |key: &str| crate::native::ROOT.key(key).and_then(|key| key.kind.section());
        let sites = items("sites").map(|node| reader.site(node, section("sites")));
        let tests = items("tests").map(|node| reader.written(node, section("tests")));
        Self(Arc::new(All {
            files: sources.iter().map(|source| name(source.path())).collect(),
            sites: sites.collect(),
            tests: tests.collect(),
            roots: roots.iter().map(|root| reader.root(root)).collect(),
        }))
    }

    /// A table or key outside of sites and tests: `["security", "trusted_proxies"]`.
    pub fn top(&self, keys: &[&str]) -> Option<Place> {
        self.0.roots.iter().find_map(|root| self.below(root, keys))
    }

    /// A site, or what is written below it, by the site's index in the model.
    pub fn site(&self, site: usize, keys: &[&str]) -> Option<Place> {
        self.below(&self.0.sites.get(site)?.table, keys)
    }

    /// A route, or what is written below it, by the indices of the model. `None` for the one that a
    /// single pool has for nothing.
    pub fn route(&self, site: usize, route: usize, keys: &[&str]) -> Option<Place> {
        self.below(self.0.sites.get(site)?.routes.get(route)?, keys)
    }

    /// A pool: its first entry. With keys what holds for it, where that is written: in a table of its
    /// own, else in that of the site's proxy.
    pub fn pool(&self, site: usize, pool: &str, keys: &[&str]) -> Option<Place> {
        let site = self.0.sites.get(site)?;
        let Some(table) = keys.first() else { return self.at(site.entries(pool).next()?) };
        let own = site.pools.iter().find(|(name, _)| name == pool);
        let own = own.filter(|(_, own)| own.get(table).is_some());
        match own {
            // Nothing of the proxy's table holds then.
            Some((_, own)) => self.below(own, keys),
            None => self.below(site.table.get("proxy")?, keys),
        }
    }

    /// The nth entry of a pool, or what is written in it.
    pub fn upstream(&self, site: usize, pool: &str, nth: usize, keys: &[&str]) -> Option<Place> {
        self.below(self.0.sites.get(site)?.entries(pool).nth(nth)?, keys)
    }

    /// A test, or what is written in it, by its index in the model.
    pub fn test(&self, test: usize, keys: &[&str]) -> Option<Place> {
        self.below(self.0.tests.get(test)?, keys)
    }

    fn below(&self, written: &Written, keys: &[&str]) -> Option<Place> {
        let mut found = written;
        for key in keys {
            found = found.get(key)?;
        }
        self.at(found)
    }

    fn at(&self, written: &Written) -> Option<Place> {
        let file = Arc::clone(self.0.files.get(written.span.file)?);
        Some(Place { span: written.span, file, line: written.line as usize })
    }
}

impl SiteWritten {
    fn entries(&self, pool: &str) -> impl Iterator<Item = &Written> {
        self.upstreams.iter().filter(move |(name, _)| name == pool).map(|(_, written)| written)
    }
}

impl Written {
    fn get(&self, key: &str) -> Option<&Written> {
        self.keys.iter().find(|(name, _)| name == key).map(|(_, written)| written)
    }
}

/// Makes places of nodes.
struct Reader<'s> {
    sources: &'s Sources,
}

impl Reader<'_> {
    fn written(&self, node: &Node, section: Option<&'static Section>) -> Written {
        self.without(node, section, &[])
    }

    /// The same without these keys.
    fn without(
        &self,
        node: &Node,
        section: Option<&'static Section>,
        left_out: &[&str],
    ) -> Written {
        let Value::Table(entries) = &node.value else { return self.leaf(node.span) };
        let there = entries.iter().filter(|entry| !matches!(entry.node.value, Value::Null));
        let keys = there.filter_map(|entry| {
            let key = section.and_then(|section| section.key(&entry.key));
            let name = key.map_or(entry.key.as_str(), |key| key.name);
            if left_out.contains(&name) {
                return None;
            }
            let below = key.map(|key| key.kind);
            Some((name.to_owned(), self.value(entry, below)))
        });
        Written { keys: keys.collect(), ..self.leaf(node.span) }
    }

    /// What stands behind a key. A value is shown by its key, which is what one looks for; of several
    /// tables only the first is looked into.
    fn value(&self, entry: &Entry, kind: Option<Kind>) -> Written {
        let section = kind.and_then(|kind| kind.section());
        let keys = match &entry.node.value {
            Value::Table(_) => self.written(&entry.node, section).keys,
            Value::Array(items) if entry.node.value.is_list_of_tables() => {
                items.first().map(|item| self.written(item, section).keys).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        Written { keys, ..self.leaf(entry.key_span) }
    }

    fn root(&self, node: &Node) -> Written {
        self.without(node, Some(&crate::native::ROOT), &["sites", "tests"])
    }

    fn site(&self, node: &Node, section: Option<&'static Section>) -> SiteWritten {
        let of = |section: Option<&'static Section>, key: &str| {
            section.and_then(|section| section.key(key)).and_then(|key| key.kind.section())
        };
        let of_proxy = of(section, "proxy");
        let proxy = entry(node, "proxy").map(|found| &found.node);
        let in_proxy = |key| {
            let found = proxy.and_then(|proxy| entry(proxy, key));
            found.into_iter().flat_map(|found| items(&found.node))
        };
        let proxies = proxy.and_then(|proxy| entry(proxy, "enabled"));
        let proxies = proxies.is_some_and(|on| matches!(on.node.value, Value::Bool(true)));
        let own = entry(node, "routes").into_iter().flat_map(|found| items(&found.node));
        // Those of a proxy that is off are not in the model.
        let routes = in_proxy("routes")
            .chain(own)
            .filter(|route| proxies || entry(route, "upstream").is_none());
        let named = |key: &'static str| {
            let section = of(of_proxy, key);
            in_proxy(key).filter_map(move |node| {
                let name = entry(node, "name")?;
                let Value::String(name) = &name.node.value else { return None };
                Some((name.clone(), self.written(node, section)))
            })
        };
        let mut table = self.without(node, section, &["routes", "proxy"]);
        if let (Some(found), Some(proxy)) = (entry(node, "proxy"), proxy) {
            let keys = self.without(proxy, of_proxy, &["routes", "upstreams", "pools"]).keys;
            let proxy = Written { keys, ..self.leaf(found.key_span) };
            table.keys.push(("proxy".to_owned(), proxy));
        }
        SiteWritten {
            table,
            routes: routes.map(|route| self.written(route, of(section, "routes"))).collect(),
            upstreams: named("upstreams").collect(),
            pools: named("pools").collect(),
        }
    }

    fn leaf(&self, span: Span) -> Written {
        let source = self.sources.get(span.file);
        let line = source.map_or(0, |source| source.line_of(span.start) + 1);
        Written { span, line: u32::try_from(line).unwrap_or(u32::MAX), keys: Vec::new() }
    }
}

/// The entry of a table by its name, which has no other here.
fn entry<'n>(node: &'n Node, key: &str) -> Option<&'n Entry> {
    match &node.value {
        Value::Table(entries) => entries.iter().find(|entry| entry.key == key),
        _ => None,
    }
}

fn items(node: &Node) -> &[Node] {
    match &node.value {
        Value::Array(items) => items,
        _ => &[],
    }
}
