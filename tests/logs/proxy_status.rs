//! `Proxy-Status` (RFC 9209), where a site asks for it.

use crate::harness::*;

fn start(key: &str, urls: &[&str]) -> Ravelin {
    Ravelin::start(&site_with(&format!("proxy_status = {key}\n"), urls, ""))
}

#[test]
fn rfc9209_2_a_response_that_is_passed_on_has_ravelin_at_the_end_of_the_list() {
    let origin = Origin::serve(|_| {
        b"HTTP/1.1 201 Created\r\nProxy-Status: cdn; received-status=200\r\nContent-Length: 0\r\n\r\n"
            .to_vec()
    });
    let ravelin = start("true", &[&origin.url()]);
    let answer = ravelin.get("/").expect(201);
    let own = format!("ravelin; next-hop=\"127.0.0.1:{}\"; received-status=201", origin.port());
    assert_eq!(answer.head.all("proxy-status"), ["cdn; received-status=200", &own]);
}

#[test]
fn rfc9209_2_1_1_an_error_made_here_has_its_kind() {
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let hop = nobody.trim_start_matches("http://");
    for (key, details) in [("true", ""), ("\"details\"", "; details=\"connect_refused\"")] {
        let ravelin = start(key, &[&nobody]);
        let answer = ravelin.get("/").expect(502);
        let expected = format!("ravelin; error=connection_refused; next-hop=\"{hop}\"{details}");
        assert_eq!(answer.head.all("proxy-status"), [expected]);
    }
}

#[test]
fn who_does_not_ask_for_it_gets_none() {
    let origin = Origin::saying("");
    let ravelin = start("false", &[&origin.url()]);
    assert!(ravelin.get("/").expect(200).get("proxy-status").is_none());
}

#[test]
fn rules_that_refuse_say_so() {
    let origin = Origin::saying("");
    let keys = "proxy_status = true\naccess = { deny = [\"127.0.0.0/8\"] }\n";
    let ravelin = Ravelin::start(&site_with(keys, &[&origin.url()], ""));
    let answer = ravelin.get("/").expect(403);
    assert_eq!(answer.get("proxy-status"), Some("ravelin; error=http_request_denied"));
}
