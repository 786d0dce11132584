//! Certificates of clients.

use rcgen::DnType;

use crate::common::{on_worker, read};
use crate::support::{Authority, Place, asking_clients, connected, shake, talk};

#[test]
fn a_client_with_a_certificate_gets_in_and_is_known() {
    on_worker(async {
        let place = Place::new();
        let pair = place.authority.sign(&[], |params| {
            params.distinguished_name.push(DnType::OrganizationName, "Ravelin");
            params.distinguished_name.push(DnType::CommonName, "alice, OU=admins");
            params.not_after = rcgen::date_time_ymd(2099, 1, 1);
            params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0xab, 0xcd]));
        });
        for required in [true, false] {
            let server = place.server(&asking_clients(required));
            let (server, client) = connected(&server, &place.client_with(&pair)).await;
            talk(&server, &client).await;
            let facts = server.tls().unwrap().clone();
            let certificate = facts.client.unwrap();
            assert_eq!(certificate.subject, "CN=alice\\, OU=admins,O=Ravelin");
            assert_eq!(certificate.issuer, "CN=authority");
            assert_eq!(certificate.serial, "abcd");
            assert_eq!(certificate.not_after, 4_070_908_800);
            assert_eq!(certificate.fingerprint.len(), 64);
            assert!(client.tls().unwrap().client.is_none());
        }
    });
}

#[test]
fn a_client_without_a_certificate_gets_in_where_none_is_required_only() {
    on_worker(async {
        let place = Place::new();
        let client = place.client();
        let (server, far) = connected(&place.server(&asking_clients(false)), &client).await;
        talk(&server, &far).await;
        assert!(server.tls().unwrap().client.is_none());

        let (server, far) = shake(&place.server(&asking_clients(true)), &client).await;
        let said = server.unwrap_err().to_string();
        assert!(said.contains("the client showed no certificate"), "{said}");
        // Only its first read tells a client of TLS 1.3.
        let error = read(&far.unwrap(), &mut [0; 16]).await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains("wants another client certificate, or one at all"), "{said}");
    });
}

#[test]
fn a_certificate_of_another_authority_or_time_is_refused_even_where_none_is_required() {
    on_worker(async {
        let place = Place::new();
        let stranger = Authority::new("authority").client("mallory");
        let expired = place.authority.sign(&[], |params| {
            params.distinguished_name.push(DnType::CommonName, "late");
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        });
        for (pair, expected) in [(stranger, "certificate"), (expired, "expired")] {
            for required in [true, false] {
                let server = place.server(&asking_clients(required));
                let (server, _) = shake(&server, &place.client_with(&pair)).await;
                let said = server.unwrap_err().to_string();
                assert!(said.contains("the client's certificate is refused"), "{said}");
                assert!(said.contains(expected), "{said}");
            }
        }
    });
}
