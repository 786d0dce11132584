//! Endpoints that stand out from their pool get no requests for a while.

use std::time::Duration;

use crate::harness::*;

fn before(backends: &[Backend], keys: &str) -> Ravelin {
    let urls: Vec<String> = backends.iter().map(Backend::url).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    Ravelin::start(&site(&urls, &format!("[sites.proxy.outlier]\n{keys}\n")))
}

fn ejections(ravelin: &Ravelin) -> usize {
    ravelin.stderr.all().iter().filter(|line| line.contains(": ejected ")).count()
}

#[test]
fn one_that_fails_in_a_row_is_ejected_and_comes_back() {
    let backends = ["a", "b", "c"].map(Backend::new);
    let ravelin = before(&backends, "consecutive = 3\nbase_time = 3");
    let mut client = ravelin.client();
    backends[0].set_status(500);
    (0..9).for_each(|_| _ = client.get("/"));
    let url = backends[0].url();
    let line = ravelin.stderr.line_with(&["warn pool \"backend\": ejected ", &url]);
    assert!(line.contains(" for 3s: 3 error responses in "), "{line}");
    assert_eq!(backends[0].asked(), 3);
    backends[0].set_status(200);
    until("its return", || client.get("/").expect(200).text() == "a");
    let order = order(&mut client, 9);
    assert_eq!(order.matches('a').count(), 3, "{order}");
    assert_eq!(ejections(&ravelin), 1);
}

#[test]
fn a_second_ejection_takes_longer() {
    let backends = ["a", "b"].map(Backend::new);
    let ravelin = before(&backends, "consecutive = 2\nbase_time = 1\nmax_time = 60");
    let mut client = ravelin.client();
    backends[0].set_status(500);
    let url = backends[0].url();
    ravelin.stderr.line_with_after(&mut || drop(client.get("/")), &["ejected ", &url, " for 1s: "]);
    ravelin.stderr.line_with_after(&mut || drop(client.get("/")), &["ejected ", &url, " for 2s: "]);
}

#[test]
fn one_that_fails_too_often_is_ejected() {
    let backends = ["a", "b"].map(Backend::new);
    let keys = "consecutive = 0\nfailures = 50\nminimum = 4\nwindow = 1\nbase_time = \"1h\"";
    let ravelin = before(&backends, keys);
    let mut client = ravelin.client();
    backends[0].set_status(500);
    let url = backends[0].url();
    let line = ["warn pool \"backend\": ejected ", &url, " requests failed"];
    ravelin.stderr.line_with_after(&mut || drop(client.get("/")), &line);
    assert_eq!(order(&mut client, 10), "b".repeat(10));
}

#[test]
fn one_that_is_far_slower_than_the_others_is_ejected() {
    let slow = Origin::serve(|_| {
        // What makes it slow; nothing waits for it.
        std::thread::sleep(Duration::from_millis(50));
        ok("s")
    });
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let keys = "consecutive = 0\nfailures = 0\nlatency = 500\nminimum = 4\nwindow = 1\n\
                base_time = \"1h\"";
    let more = format!("[sites.proxy.outlier]\n{keys}\n");
    let ravelin = Ravelin::start(&site(&[&slow.url(), &a.url(), &b.url()], &more));
    let mut client = ravelin.client();
    let line = ["warn pool \"backend\": ejected ", &slow.url(), "latency ", "median of the others"];
    ravelin.stderr.line_with_after(&mut || drop(client.get("/").expect(200)), &line);
    assert!(!order(&mut client, 20).contains('s'));
}

#[test]
fn no_more_than_max_ejected_are_ejected_at_once() {
    let backends = ["a", "b", "c", "d"].map(Backend::new);
    let ravelin = before(&backends, "consecutive = 2\nbase_time = \"1h\"\nmax_ejected = 50");
    let mut client = ravelin.client();
    backends[..3].iter().for_each(|backend| backend.set_status(500));
    (0..60).for_each(|_| _ = client.get("/"));
    assert_eq!(ejections(&ravelin), 2);
    let asked = backends[..3].iter().filter(|backend| backend.asked() > 2).count();
    assert_eq!(asked, 1, "the third is asked as before");
}

#[test]
fn the_only_one_is_never_ejected() {
    let backends = [Backend::new("a")];
    let ravelin = before(&backends, "consecutive = 2\nbase_time = \"1h\"");
    let mut client = ravelin.client();
    backends[0].set_status(500);
    (0..20).for_each(|_| _ = client.get("/").expect(500));
    assert_eq!((backends[0].asked(), ejections(&ravelin)), (20, 0));
}
