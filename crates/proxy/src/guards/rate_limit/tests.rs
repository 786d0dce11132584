use config::model::{PathMatch, RateLimit};
use wire::head::{HeadLimits, RequestHead, Upgrade};

use super::*;
use crate::routes::Fields;

const SECOND: u64 = 1_000_000_000;

fn limit(requests: u32, per: u64, key: RateKey) -> RateLimit {
    RateLimit {
        name: None,
        requests,
        per: Duration::from_secs(per),
        burst: requests,
        key,
        zone: None,
        whitelist: Vec::new(),
        wait: Duration::ZERO,
        methods: Vec::new(),
        path: None,
        status: 429,
        fields: true,
        keys: RateLimit::KEYS,
    }
}

fn compile(limits: &[RateLimit]) -> RateLimits {
    let scope = Scope { called: "site", site: "test", route: "" };
    RateLimits::compile(&[(limits, scope)], |id| Arc::new(Counts::new(id.keys)))
}

/// One request, and what the client is told.
struct Asked {
    head: RequestHead,
    text: String,
    client: Option<IpAddr>,
}

impl Asked {
    fn by(client: &str, line: &str, fields: &str) -> Self {
        let text = format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut head = RequestHead::default();
        let _ = head.parse(text.as_bytes(), 0, &HeadLimits::default()).unwrap();
        Self { head, text, client: client.parse().ok() }
    }

    fn request(&self) -> Request<'_> {
        let bytes = self.text.as_bytes();
        Request {
            listener: 0,
            method: self.head.method.of(bytes),
            host: "a",
            authority: b"",
            path: self.head.target.of(bytes),
            query: None,
            fields: Fields::of(&self.head, bytes),
            secure: false,
            policy: None,
            upgrade: Upgrade::None,
        }
    }
}

fn get(client: &str) -> Asked {
    Asked::by(client, "GET /", "")
}

/// 0, or the seconds after which to come again.
fn ask(limits: &RateLimits, asked: &Asked, now: u64) -> (u64, String) {
    let mut lines = Vec::new();
    let admission = admit(&[limits], &asked.request(), asked.client, now, &mut lines);
    let again = match admission {
        Admission::Admitted => 0,
        Admission::Refused { retry_after, .. } => retry_after,
        Admission::Held(hold) => panic!("held for {:?}", hold.wait()),
    };
    (again, String::from_utf8(lines).unwrap().replace("\r\n", "\n"))
}

fn admitted(limits: &RateLimits, asked: &Asked, times: usize) -> usize {
    (0..times).filter(|_| ask(limits, asked, SECOND).0 == 0).count()
}

#[test]
fn addresses_count_apart_and_ipv6_by_its_network() {
    let limits = compile(&[limit(3, 60, RateKey::Address)]);
    assert_eq!(admitted(&limits, &get("192.0.2.1"), 5), 3);
    assert_eq!(admitted(&limits, &get("192.0.2.2"), 5), 3);
    assert_eq!(admitted(&limits, &get("::ffff:192.0.2.2"), 5), 0, "the same address");
    assert_eq!(admitted(&limits, &get("2001:db8:0:1::1"), 2), 2);
    assert_eq!(admitted(&limits, &get("2001:db8:0:1:ffff::"), 5), 1, "the same network");
    assert_eq!(admitted(&limits, &get("2001:db8:0:2::1"), 5), 3);
    assert_eq!(admitted(&limits, &get(""), 5), 3, "without an address");
}

#[test]
fn values_count_apart_and_where_there_is_none_the_address() {
    for (key, field) in [
        (RateKey::Header("X-Key".to_owned()), |value: &str| format!("x-key: {value}\r\n")),
        (RateKey::Cookie("id".to_owned()), |value: &str| format!("Cookie: a=b; id={value}\r\n")),
    ] as [(_, fn(&str) -> String); 2]
    {
        let limits = compile(&[limit(2, 60, key)]);
        let with = |client: &str, value: &str| Asked::by(client, "GET /", &field(value));
        assert_eq!(admitted(&limits, &with("192.0.2.1", "one"), 1), 1);
        assert_eq!(admitted(&limits, &with("192.0.2.2", "one"), 5), 1, "whoever sends it");
        assert_eq!(admitted(&limits, &with("192.0.2.1", "other"), 5), 2);
        assert_eq!(admitted(&limits, &with("192.0.2.1", ""), 1), 1);
        assert_eq!(admitted(&limits, &get("192.0.2.1"), 5), 1, "no value is an empty one");
        assert_eq!(admitted(&limits, &get("192.0.2.3"), 5), 2);
    }
}

#[test]
fn a_value_is_no_address() {
    let limits = compile(&[limit(1, 60, RateKey::Header("X-Key".to_owned()))]);
    // The bytes of "192.0.2.1" as an address are those of this value.
    assert_eq!(admitted(&limits, &get("65.66.67.68"), 2), 1);
    assert_eq!(admitted(&limits, &Asked::by("192.0.2.1", "GET /", "X-Key: ABCD\r\n"), 2), 1);
}

#[test]
fn a_route_counts_all_together() {
    let limits = compile(&[limit(3, 60, RateKey::Route)]);
    assert_eq!(admitted(&limits, &get("192.0.2.1"), 2), 2);
    assert_eq!(admitted(&limits, &get("192.0.2.2"), 2), 1);
}

#[test]
fn who_is_on_the_whitelist_is_not_counted() {
    let list = vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    let limits = compile(&[RateLimit { whitelist: list, ..limit(1, 60, RateKey::Route) }]);
    assert_eq!(admitted(&limits, &get("192.0.2.7"), 9), 9);
    assert_eq!(admitted(&limits, &get("2001:db8::1"), 9), 9);
    assert_eq!(ask(&limits, &get("192.0.2.7"), 0).1, "", "nor told");
    assert_eq!(admitted(&limits, &get("198.51.100.1"), 9), 1);
}

#[test]
fn methods_and_paths_choose_what_is_counted() {
    let limits = compile(&[RateLimit {
        methods: vec!["GET".to_owned(), "POST".to_owned()],
        path: Some(PathMatch::Prefix("/login".to_owned())),
        ..limit(1, 60, RateKey::Address)
    }]);
    for line in ["PUT /login", "GET /", "POST /loginx"] {
        assert_eq!(admitted(&limits, &Asked::by("192.0.2.1", line, ""), 5), 5, "{line}");
    }
    assert_eq!(admitted(&limits, &Asked::by("192.0.2.1", "POST /login/x", ""), 5), 1);
    for line in ["GET /login", "HEAD /login", "POST /login"] {
        assert_eq!(admitted(&limits, &Asked::by("192.0.2.1", line, ""), 5), 0, "{line}");
    }
}

#[test]
fn clients_are_told() {
    let limits = compile(&[limit(2, 60, RateKey::Address)]);
    let (again, lines) = ask(&limits, &get("192.0.2.1"), SECOND);
    assert_eq!(again, 0);
    assert_eq!(lines, "RateLimit-Policy: \"site\";q=2;w=60\nRateLimit: \"site\";r=1;t=30\n");
    let (_, lines) = ask(&limits, &get("192.0.2.1"), 2 * SECOND);
    assert!(lines.ends_with("RateLimit: \"site\";r=0;t=29\n"), "{lines}");
    let (again, lines) = ask(&limits, &get("192.0.2.1"), 3 * SECOND);
    assert_eq!(again, 28);
    assert!(lines.ends_with("RateLimit: \"site\";r=0;t=28\n"), "{lines}");
}

#[test]
fn several_limits_are_told_of_together() {
    let named =
        RateLimit { name: Some("daily".to_owned()), ..limit(1000, 86_400, RateKey::Address) };
    let silent = RateLimit { fields: false, ..limit(7, 60, RateKey::Address) };
    let half = RateLimit { per: Duration::from_millis(500), ..limit(5, 1, RateKey::Route) };
    let limits = compile(&[named, silent, limit(2, 60, RateKey::Address), half]);
    let (_, lines) = ask(&limits, &get("192.0.2.1"), SECOND);
    assert_eq!(
        lines,
        "RateLimit-Policy: \"daily\";q=1000;w=86400, \"site-2\";q=2;w=60, \"site-3\";q=10;w=1\n\
         RateLimit: \"daily\";r=999;t=87, \"site-2\";r=1;t=30, \"site-3\";r=4;t=1\n"
    );
}

#[test]
fn what_one_limit_refuses_the_others_do_not_count() {
    let (one, other) = (limit(1, 60, RateKey::Address), limit(5, 600, RateKey::Route));
    let limits = compile(&[other, one]);
    assert_eq!(admitted(&limits, &get("192.0.2.1"), 100), 1);
    let rest = (2..50).filter(|n| admitted(&limits, &get(&format!("192.0.2.{n}")), 1) == 1);
    assert_eq!(rest.count(), 4);
    // Nor do clients hear that they did.
    let limits = compile(&[limit(5, 600, RateKey::Route), limit(1, 60, RateKey::Address)]);
    for (client, left) in [("192.0.2.1", "r=4"), ("192.0.2.1", "r=4"), ("192.0.2.2", "r=3")] {
        let (_, lines) = ask(&limits, &get(client), SECOND);
        assert!(lines.contains(&format!("RateLimit: \"site\";{left};")), "{lines}");
    }
    let (one, other) = (limit(1, 60, RateKey::Address), limit(5, 600, RateKey::Route));
    let limits = compile(&[other, one]);
    (1..50).for_each(|n| drop(ask(&limits, &get(&format!("192.0.2.{n}")), SECOND)));
    // Now both would refuse: the one that holds out longer is told of.
    assert_eq!(ask(&limits, &get("192.0.2.1"), SECOND).0, 120);
}

#[test]
fn requests_are_held_and_only_so_many() {
    let wait = Duration::from_secs(3600);
    let limits = compile(&[RateLimit { wait, burst: 1, ..limit(1, 1, RateKey::Address) }]);
    let asked = get("192.0.2.1");
    let mut lines = Vec::new();
    let request = asked.request();
    assert!(matches!(
        admit(&[&limits], &request, asked.client, 0, &mut lines),
        Admission::Admitted
    ));
    let mut held = Vec::new();
    for turn in 1..=WAITING_MAX as u64 {
        match admit(&[&limits], &request, asked.client, 0, &mut lines) {
            Admission::Held(hold) => {
                assert_eq!(hold.wait(), Duration::from_secs(turn));
                held.push(hold);
            }
            other => panic!("{other:?}"),
        }
    }
    for _ in 0..2 {
        let refused = admit(&[&limits], &request, asked.client, 0, &mut lines);
        assert!(matches!(refused, Admission::Refused { retry_after: 1025, .. }), "{refused:?}");
    }
    held.pop();
    assert!(matches!(admit(&[&limits], &request, asked.client, 0, &mut lines), Admission::Held(_)));
    drop(held);
    // Nobody waits longer than allowed.
    let late = get("192.0.2.2");
    let short = compile(&[RateLimit {
        wait: Duration::from_secs(2),
        burst: 1,
        ..limit(1, 1, RateKey::Address)
    }]);
    let waits: Vec<bool> = (0..5)
        .map(|_| {
            matches!(
                admit(&[&short], &late.request(), late.client, 0, &mut lines),
                Admission::Refused { .. }
            )
        })
        .collect();
    // Their places are free again at once here, but not their times.
    assert_eq!(waits, [false, false, false, true, true]);
}

#[test]
fn counts_are_known_by_their_site_route_and_name() {
    let ids = std::cell::RefCell::new(Vec::new());
    let scope = Scope { called: "route", site: "shop", route: "/api" };
    let limits = [limit(1, 1, RateKey::Address), limit(1, 1, RateKey::Route)];
    RateLimits::compile(&[(&limits, scope)], |id| {
        let counts = Arc::new(Counts::new(id.keys));
        ids.borrow_mut().push((id, counts.table.capacity()));
        counts
    });
    let ids = ids.into_inner();
    assert_eq!((ids[0].0.name.as_str(), ids[0].1), ("route", 65_536));
    assert_eq!((ids[1].0.name.as_str(), ids[1].1), ("route-2", 8));
    assert!(ids.iter().all(|(id, _)| id.site == "shop" && id.route == "/api"));
}
