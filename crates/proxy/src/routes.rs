//! The routes of a site: the longest prefix of a path, on whole segments.
//!
//! Routes are sorted by path and each knows the longest other route that is a prefix of it, so a
//! look-up is one binary search and a walk up that chain, however many routes there are.

/// A route as the exchange uses it.
#[derive(Debug)]
pub struct Target {
    /// The prefix; starts with "/". `/api` takes `/api` and `/api/x`, not `/apix`; `/api/` takes
    /// what starts with it.
    pub path: String,
    /// Index of the pool requests go to.
    pub pool: usize,
    /// Take the prefix off before forwarding.
    pub strip_prefix: bool,
    /// Replaces the whole path.
    pub rewrite_target: Option<String>,
    /// Takes WebSocket upgrades.
    pub websocket: bool,
    /// A request for the path without its final "/" is redirected to it.
    pub redirect_slash: bool,
}

/// The routes of one site.
#[derive(Debug)]
pub struct RouteTable {
    /// Sorted by path, byte for byte.
    entries: Vec<Entry>,
    /// Some route asks for a redirect to its final slash.
    redirects: bool,
}

#[derive(Debug)]
struct Entry {
    target: Target,
    /// The longest other route whose path is a (byte) prefix of this one.
    parent: Option<usize>,
}

/// What a path met.
#[derive(Debug)]
pub enum Found<'a> {
    /// This route takes it.
    Route(&'a Target),
    /// The path lacks only the final "/" of a route that asks for a redirect.
    AddSlash,
}

impl RouteTable {
    /// A table of `routes` in declared order; of two with one path the first counts.
    pub fn new(routes: impl Iterator<Item = Target>) -> Self {
        let mut targets: Vec<Target> = routes.collect();
        targets.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
        targets.dedup_by(|later, first| later.path == first.path);
        let mut entries: Vec<Entry> = Vec::with_capacity(targets.len());
        for target in targets {
            let mut parent = entries.len().checked_sub(1);
            while let Some(index) = parent {
                if target.path.starts_with(&entries[index].target.path) {
                    break;
                }
                parent = entries[index].parent;
            }
            entries.push(Entry { target, parent });
        }
        let redirects = entries.iter().any(|entry| entry.target.redirect_slash);
        Self { entries, redirects }
    }

    /// The route for a canonical path.
    pub fn find(&self, path: &[u8]) -> Option<Found<'_>> {
        // Every route that is a prefix of `path` sorts before it, and so does nothing between the
        // longest of them and `path` that is not an extension of that longest: walking up the
        // prefixes of the last entry not after `path` meets it first.
        if self.redirects && self.asks_for_slash(path) {
            return Some(Found::AddSlash);
        }
        let after = self.entries.partition_point(|entry| entry.target.path.as_bytes() <= path);
        let mut candidate = after.checked_sub(1);
        while let Some(entry) = candidate.and_then(|index| self.entries.get(index)) {
            if entry.target.takes(path) {
                return Some(Found::Route(&entry.target));
            }
            candidate = entry.parent;
        }
        None
    }

    fn asks_for_slash(&self, path: &[u8]) -> bool {
        let found = self.entries.binary_search_by(|entry| {
            entry.target.path.bytes().cmp(path.iter().copied().chain([b'/']))
        });
        found.is_ok_and(|index| self.entries[index].target.redirect_slash)
    }
}

impl Target {
    fn takes(&self, path: &[u8]) -> bool {
        match path.strip_prefix(self.path.as_bytes()) {
            Some(rest) => rest.is_empty() || self.path.ends_with('/') || rest.starts_with(b"/"),
            None => false,
        }
    }

    /// Appends the path to forward for a canonical `path` this route takes.
    pub fn write_path(&self, path: &[u8], out: &mut Vec<u8>) {
        if let Some(target) = &self.rewrite_target {
            return out.extend_from_slice(target.as_bytes());
        }
        let rest = match self.strip_prefix {
            true => path.strip_prefix(self.path.as_bytes()).unwrap_or(path),
            false => path,
        };
        if !rest.starts_with(b"/") {
            out.push(b'/');
        }
        out.extend_from_slice(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> Target {
        Target {
            path: path.to_owned(),
            pool: 0,
            strip_prefix: false,
            rewrite_target: None,
            websocket: false,
            redirect_slash: false,
        }
    }

    fn find<'a>(table: &'a RouteTable, path: &str) -> Option<&'a str> {
        match table.find(path.as_bytes())? {
            Found::Route(target) => Some(&target.path),
            Found::AddSlash => Some("redirect"),
        }
    }

    #[test]
    fn the_longest_prefix_wins_whatever_the_order() {
        let paths = ["/", "/api/", "/api/v1", "/api/v1/users", "/ws"];
        let table = RouteTable::new(paths.into_iter().rev().map(target));
        for (path, expected) in [
            ("/", "/"),
            ("/x", "/"),
            ("/api/x", "/api/"),
            ("/api/v1", "/api/v1"),
            ("/api/v1/u", "/api/v1"),
            ("/api/v10", "/api/"),
            ("/api/v1/users/7", "/api/v1/users"),
            ("/api/v1/users7", "/api/v1"),
            ("/ws/chat", "/ws"),
            ("/wsx", "/"),
            ("/zzz", "/"),
        ] {
            assert_eq!(find(&table, path), Some(expected), "{path}");
        }
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        let table = RouteTable::new(["/api"].into_iter().map(target));
        assert_eq!(find(&table, "/apix"), None);
        assert_eq!(find(&table, "/api-v2"), None);
        assert_eq!(find(&table, "/api"), Some("/api"));
        assert_eq!(find(&table, "/api/"), Some("/api"));
    }

    #[test]
    fn the_slash_is_added_only_when_asked() {
        let table = RouteTable::new(["/api/"].into_iter().map(target));
        assert_eq!(find(&table, "/api"), None);
        let redirecting = Target { redirect_slash: true, ..target("/api/") };
        let table = RouteTable::new([redirecting, target("/api-v2")].into_iter());
        assert_eq!(find(&table, "/api"), Some("redirect"));
        assert_eq!(find(&table, "/ap"), None);
    }

    #[test]
    fn of_two_equal_paths_the_first_declared_counts() {
        let second = Target { pool: 1, ..target("/a") };
        let table = RouteTable::new([target("/a"), second].into_iter());
        assert!(matches!(table.find(b"/a"), Some(Found::Route(route)) if route.pool == 0));
    }

    #[test]
    fn stripping_leaves_a_path_that_starts_with_a_slash() {
        let written = |route: &Target, path: &str| {
            let mut out = Vec::new();
            route.write_path(path.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        let strip = |path| Target { strip_prefix: true, ..target(path) };
        assert_eq!(written(&strip("/admin/"), "/admin/users"), "/users");
        assert_eq!(written(&strip("/ws"), "/ws/chat"), "/chat");
        assert_eq!(written(&strip("/ws"), "/ws"), "/");
        let rewrite = Target { rewrite_target: Some("/new".to_owned()), ..strip("/ws") };
        assert_eq!(written(&rewrite, "/ws/chat"), "/new");
    }
}
