//! Certificates from a real ACME authority: Pebble, which looks for the answers to its challenges at
//! small servers of these tests.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../../../../tests/harness/pebble.rs"]
mod pebble;
mod renewal_info;
mod run;
mod web;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use config::model::{Acme, ExternalAccount};
use net::tls::Identity;
use pebble::Settings;
use renewal_info::Front;
use run::{Run, Test};

/// Nothing here takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_certificate_is_ordered_shown_stored_and_there_after_a_restart() {
    let mut test = Test::new(Settings::default());
    let mut run = test.load(&["a.test", "www.a.test"]);
    let stand_in = run.shown();
    assert_eq!(stand_in.names(), ["a.test", "www.a.test"]);
    assert_eq!(run.http_ports, [80]);

    run.start();
    let told = run.told("info acme: a.test, www.a.test: certificate from 127.0.0.1");
    assert!(told.contains("valid until") && told.contains("renewal about"), "{told}");
    let issued = run.shown();
    assert_eq!(sorted(issued.names()), ["a.test", "www.a.test"]);
    assert!(issued.chain_der().len() >= 2, "no chain");
    assert_ne!(issued.chain_der(), stand_in.chain_der());
    assert!(test.challenges.is_empty(), "an answer is still offered");
    run.stop();

    let files = test.files();
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    for ((name, mode), end) in
        files.iter().zip(["a.test/certificate.pem", "a.test/key.pem", "a.test.json", "acme/lock"])
    {
        assert!(name.ends_with(end) && *mode == 0o600, "{name} {mode:o}");
    }

    // The authority is gone now; the certificate is there.
    test.pebble = None;
    let acme = Acme { ca_file: None, ..test.acme.clone() };
    let again = Run::load(&test.state, &test.challenges, acme, &["a.test"]);
    assert_eq!(again.shown().chain_der(), issued.chain_der());
}

#[test]
fn a_name_is_proved_by_tls_alpn_01_if_http_01_fails() {
    let test = Test::new(Settings::default());
    test.web.silent.store(true, Ordering::Relaxed);
    let mut run = test.load(&["a.test"]);
    run.start();
    let told = run.told("warn acme: a.test: the authority refuses the proof for a.test by http-01");
    assert!(told.contains("Trying tls-alpn-01"), "{told}");
    run.told("certificate from");
    assert_eq!(run.shown().names(), ["a.test"]);
    assert!(test.web.handshakes.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_name_is_proved_by_tls_alpn_01_first_if_the_http_port_is_another_processs() {
    let test = Test::new(Settings::default());
    test.web.silent.store(true, Ordering::Relaxed);
    let mut run = test.load(&["a.test"]);
    run.without_http();
    run.start();
    let told = run.told("acme: a.test: ");
    assert!(told.contains("certificate from"), "{told}");
    assert!(test.web.handshakes.load(Ordering::Relaxed) > 0);
    // Whoever has the port may answer it after all.
    let test = Test::new(Settings::default());
    test.web.deaf.store(true, Ordering::Relaxed);
    let mut run = test.load(&["a.test"]);
    run.without_http();
    run.start();
    let told = run.told("warn acme: a.test: the authority refuses the proof for a.test by tls-");
    assert!(told.contains("Trying http-01"), "{told}");
    run.told("certificate from");
}

#[test]
fn a_failure_says_whose_it_is_and_the_stand_in_stays() {
    let test = Test::new(Settings::default());
    test.web.silent.store(true, Ordering::Relaxed);
    test.web.deaf.store(true, Ordering::Relaxed);
    let mut run = test.load(&["a.test"]);
    let stand_in = run.shown();
    run.start();
    let told =
        run.told("error acme: a.test: the authority refuses the proof for a.test by tls-alpn-01");
    for part in ["shows a self-signed stand-in", "trying again in 1 min"] {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(run.shown().chain_der(), stand_in.chain_der());
    assert!(test.challenges.is_empty());

    // What was in the way is gone, and somebody says so.
    test.web.silent.store(false, Ordering::Relaxed);
    run.look_now();
    run.told("certificate from");
}

#[test]
fn a_name_more_in_the_configuration_is_ordered_at_the_next_start() {
    let test = Test::new(Settings::default());
    let mut run = test.load(&["a.test"]);
    run.start();
    run.told("certificate from");
    let first = run.shown();
    run.stop();

    let mut run = test.load(&["a.test", "b.test"]);
    // Better the old one than a stand-in, until the new one is there.
    assert_eq!(run.shown().chain_der(), first.chain_der());
    run.start();
    run.told("certificate from");
    assert_eq!(sorted(run.shown().names()), ["a.test", "b.test"]);
    run.stop();

    // One name less is no reason to bother the authority.
    let mut run = test.load(&["a.test"]);
    let before = run.shown();
    run.start();
    run.look_now();
    run.stop();
    assert_eq!(run.shown().chain_der(), before.chain_der());
    assert!(!run.lines().iter().any(|line| line.contains("certificate from")));
}

#[test]
fn a_certificate_is_renewed_in_time_again_and_again() {
    let test = Test::new(Settings { validity: 6, ..Settings::default() });
    let mut run = test.load(&["a.test"]);
    run.start();
    let mut seen: Vec<Arc<Identity>> = Vec::new();
    for _ in 0..3 {
        run.told("certificate from");
        let shown = run.shown();
        assert!(seen.iter().all(|before| before.chain_der() != shown.chain_der()));
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        // The one before was still valid when this one came.
        assert!(seen.last().is_none_or(|before| before.not_after() >= now as i64));
        seen.push(shown);
    }
}

#[test]
fn rfc9773_4_2_a_certificate_is_renewed_when_the_authority_wants_that() {
    let test = Test::new(Settings::default());
    let pebble = test.pebble.as_ref().unwrap();
    let front = Front::start(pebble.port(), &pebble.ca_file(), &test.state);
    let (directory_url, ca_file) = (front.url(), Some(front.ca_file()));
    let acme = Acme { directory_url, ca_file, ..test.acme.clone() };
    let mut run = Run::load(&test.state, &test.challenges, acme, &["a.test"]);
    run.start();
    run.told("certificate from");
    let first = run.shown();
    let told = run.told("the authority wants the certificate to be renewed now");
    assert!(told.contains("https://a.test/why"), "{told}");
    run.told("certificate from");
    assert_ne!(run.shown().chain_der(), first.chain_der());
    // The second one has time, and so it is left alone.
    until("it is asked about the second one", || front.seen().asked.len() == 2);
    run.stop();
    assert!(!run.lines().iter().any(|line| line.contains("certificate from")));

    let seen = front.seen();
    assert_ne!(seen.asked[0], seen.asked[1]);
    // RFC 9773 §5: the order says which certificate the new one is to replace.
    assert!(!seen.orders[0].contains("replaces"), "{:?}", seen.orders);
    assert!(seen.orders[1].contains(&format!("\"replaces\":\"{}\"", seen.asked[0])));
}

#[test]
fn an_external_account_is_used_where_one_is_wanted() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let external_account = Some(("kid-1".to_owned(), key.to_owned()));
    let test = Test::new(Settings { external_account, ..Settings::default() });
    let mut run = test.load(&["a.test"]);
    run.start();
    let told = run.told("error acme: a.test: account: the authority says");
    assert!(told.contains("externalAccountRequired") && told.contains("HMAC key"), "{told}");
    run.stop();

    let external = ExternalAccount { key_id: "kid-1".to_owned(), hmac_key: key.to_owned() };
    let acme = Acme { external_account: Some(external), ..test.acme.clone() };
    let mut run = Run::load(&test.state, &test.challenges, acme, &["a.test"]);
    run.start();
    run.told("certificate from");
    run.stop();
    assert!(run.lines().iter().all(|line| !line.contains(key)));
}

#[test]
fn an_authority_that_forgot_the_account_gets_a_new_one() {
    let mut test = Test::new(Settings::default());
    let mut run = test.load(&["a.test"]);
    run.start();
    run.told("info acme: new account at 127.0.0.1");
    run.told("certificate from");
    run.stop();

    // At the same port, because the account is kept by URL.
    let port = test.pebble.as_ref().unwrap().port();
    test.pebble = None;
    test.start_pebble(Settings { port, ..Settings::default() });
    let mut run = test.load(&["a.test", "b.test"]);
    run.start();
    run.told("does not know the stored account any more");
    run.told("info acme: new account at 127.0.0.1");
    run.told("certificate from");
}

#[test]
fn challenge_files_are_written_for_another_web_server_and_removed() {
    let test = Test::new(Settings::default());
    let directory = test.state.join("challenges");
    // Ravelin answers nothing itself: the files do.
    test.web.silent.store(true, Ordering::Relaxed);
    test.web.deaf.store(true, Ordering::Relaxed);
    *test.web.files.lock().unwrap() = Some(directory.clone());
    let acme = Acme { challenge_dir: Some(directory.clone()), ..test.acme.clone() };
    let mut run = Run::load(&test.state, &test.challenges, acme, &["a.test"]);
    // Whoever has the HTTP port reads them.
    run.without_http();
    run.start();
    // Nobody would read a directory that is made here.
    let told = run.told("challenges is not a directory");
    assert!(told.contains("error acme: a.test: `challenge_dir` "), "{told}");
    assert!(!directory.exists());
    fs::create_dir(&directory).unwrap();
    run.look_now();
    run.told("certificate from");
    let left = fs::read_dir(directory.join(".well-known/acme-challenge")).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn of_two_processes_one_orders_and_the_other_shows_what_it_stores() {
    let test = Test::new(Settings::default());
    test.web.silent.store(true, Ordering::Relaxed);
    test.web.deaf.store(true, Ordering::Relaxed);
    let mut first = test.load(&["a.test"]);
    first.start();
    first.told("trying again");
    let mut second = test.load(&["a.test"]);
    second.start();
    second.told("another process uses");
    test.web.silent.store(false, Ordering::Relaxed);
    first.look_now();
    first.told("certificate from");
    second.look_now();
    let shown = || second.shown().chain_der() == first.shown().chain_der();
    until("the other process shows it, too", shown);
    // And takes over when the first one has ended.
    first.stop();
    second.look_now();
    second.told("this process orders from now on");
}

#[test]
fn an_authority_whose_certificate_is_not_trusted_leads_to_ca_file() {
    let test = Test::new(Settings::default());
    let acme = Acme { ca_file: None, ..test.acme.clone() };
    let mut run = Run::load(&test.state, &test.challenges, acme, &["a.test"]);
    run.start();
    let told = run.told("error acme: a.test: account: the authority cannot be reached");
    assert!(told.contains("`ca_file`"), "{told}");
}

#[test]
fn a_name_with_a_star_needs_what_is_not_there() {
    let test = Test::new(Settings::default());
    let mut run = test.load(&["*.a.test"]);
    run.start();
    let told = run.told("takes neither http-01 nor tls-alpn-01 as proof for *.a.test");
    assert!(told.contains("list the names one by one"), "{told}");
}

fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names
}

/// Waits until it is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not so: {what}");
        thread::yield_now();
    }
}
