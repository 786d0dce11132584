//! Which sessions resume, and which must not.

use config::model::{TlsPolicy, TlsVersion};
use net::tls::Tickets;

use crate::common::on_worker;
use crate::support::{Place, asking_clients, only, policy, resumes, shake};

#[test]
fn a_session_resumes_at_another_worker_after_a_reload_and_with_a_new_certificate() {
    on_worker(async {
        for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
            let place = Place::new();
            let client = place.client();
            let first = place.server(&only(version));
            assert!(!resumes(&first, &client).await);
            assert!(resumes(&first, &client).await);
            assert!(resumes(&place.server(&only(version)), &client).await);
            place.identity.store(place.authority.server(&[crate::support::NAME]).identity());
            assert!(resumes(&place.server(&only(version)), &client).await);
        }
    });
}

#[test]
fn the_keys_of_another_process_do_not_open_a_ticket() {
    on_worker(async {
        let mut place = Place::new();
        let client = place.client();
        assert!(!resumes(&place.server(&policy()), &client).await);
        place.tickets = Tickets::new();
        assert!(!resumes(&place.server(&policy()), &client).await);
    });
}

#[test]
fn a_session_under_one_policy_does_not_resume_under_another() {
    on_worker(async {
        let place = Place::new();
        let client = place.client();
        let (one, other) = (policy(), TlsPolicy { http2: false, ..policy() });
        assert_ne!(place.server(&one).policy(), place.server(&other).policy());
        assert_eq!(place.server(&one).policy(), place.server(&policy()).policy());
        assert!(!resumes(&place.server(&one), &client).await);
        assert!(!resumes(&place.server(&other), &client).await);
    });
}

#[test]
fn cve_2025_23419_a_session_without_a_certificate_does_not_get_in_where_one_is_required() {
    on_worker(async {
        let place = Place::new();
        let client = place.client();
        assert!(!resumes(&place.server(&policy()), &client).await);
        let (server, _) = shake(&place.server(&asking_clients(true)), &client).await;
        let said = server.unwrap_err().to_string();
        assert!(said.contains("showed no certificate"), "{said}");
    });
}

#[test]
fn cve_2025_23419_where_clients_show_certificates_nothing_resumes() {
    on_worker(async {
        let place = Place::new();
        for required in [true, false] {
            let server = place.server(&asking_clients(required));
            let client = place.client_with(&place.authority.client("somebody"));
            for _ in 0..3 {
                assert!(!resumes(&server, &client).await);
            }
        }
    });
}

#[test]
fn the_authorities_for_clients_are_part_of_the_policy() {
    let (one, other) = (Place::new(), Place::new());
    let policy = asking_clients(true);
    assert_ne!(one.server(&policy).policy(), other.server(&policy).policy());
    assert_ne!(one.server(&policy).policy(), one.server(&asking_clients(false)).policy());
}

#[test]
fn no_tickets_are_given_where_they_are_turned_off() {
    on_worker(async {
        for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
            let place = Place::new();
            let client = place.client();
            let server = place.server(&TlsPolicy { tickets: false, ..only(version) });
            for _ in 0..3 {
                assert!(!resumes(&server, &client).await);
            }
        }
    });
}

#[test]
fn a_session_resumes_at_a_process_that_was_passed_the_keys() {
    on_worker(async {
        for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
            let mut place = Place::new();
            let client = place.client();
            assert!(!resumes(&place.server(&only(version)), &client).await);
            let passed = place.tickets.pass();
            place.tickets = Tickets::new();
            for key in &passed {
                place.tickets.take(key.bytes());
            }
            assert!(resumes(&place.server(&only(version)), &client).await);
        }
    });
}
