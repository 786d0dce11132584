//! Answers to the challenges of certificate authorities (RFC 8555 §8), while an order is under way.
//!
//! The side that orders certificates puts them here and the path of requests looks them up: a plain
//! listener before it routes, a TLS listener before it chooses a certificate. Nearly always there is
//! nothing here, and then a request pays one atomic load. What is offered is withdrawn when its
//! [`Offer`] is dropped, so an order that is given up leaves nothing behind.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net::tls::ServerConfig;

/// Where an authority asks for the answer to HTTP-01 (RFC 8555 §8.3); the token follows.
pub const PATH: &str = "/.well-known/acme-challenge/";

/// Most answers at once. An order has one for each of its names, and few orders run at once.
pub const MAX: usize = 4096;

/// The answers that are offered now. Shared by all workers and by whoever orders certificates.
#[derive(Default)]
pub struct Challenges {
    open: AtomicUsize,
    next: AtomicU64,
    http: Mutex<HashMap<String, (u64, String)>>,
    tls: Mutex<HashMap<String, (u64, ServerConfig)>>,
}

impl Challenges {
    /// Whether there is nothing to answer: the usual case.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    /// The answer to an HTTP-01 request for this path, if one is offered: the body of a 200 of type
    /// `application/octet-stream`.
    #[must_use]
    pub fn answer(&self, path: &[u8]) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let token = std::str::from_utf8(path.strip_prefix(PATH.as_bytes())?).ok()?;
        held(&self.http).get(token).map(|(_, answer)| answer.clone())
    }

    /// What to accept a TLS-ALPN-01 connection (RFC 8737) for this server name with.
    #[must_use]
    pub fn tls(&self, server_name: &str) -> Option<ServerConfig> {
        if self.is_empty() {
            return None;
        }
        let name = server_name.to_ascii_lowercase();
        held(&self.tls).get(&name).map(|(_, config)| config.clone())
    }

    /// Offers `key_authorization` at [`PATH`] followed by `token`, until the offer is dropped.
    ///
    /// # Errors
    /// There are [`MAX`] answers already.
    pub fn offer_http(
        self: &Arc<Self>,
        token: &str,
        key_authorization: &str,
    ) -> Result<Offer, TooMany> {
        let offer = self.offer(Key::Http(token.to_owned()))?;
        held(&self.http).insert(token.to_owned(), (offer.number, key_authorization.to_owned()));
        Ok(offer)
    }

    /// Offers a certificate made for TLS-ALPN-01 to connections that ask for `name`, until the offer
    /// is dropped.
    ///
    /// # Errors
    /// There are [`MAX`] answers already.
    pub fn offer_tls(self: &Arc<Self>, name: &str, config: ServerConfig) -> Result<Offer, TooMany> {
        let name = name.to_ascii_lowercase();
        let offer = self.offer(Key::Tls(name.clone()))?;
        held(&self.tls).insert(name, (offer.number, config));
        Ok(offer)
    }

    fn offer(self: &Arc<Self>, key: Key) -> Result<Offer, TooMany> {
        let room = |open: usize| (open < MAX).then_some(open + 1);
        let counted = self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, room);
        counted.map_err(|_| TooMany)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(Offer { challenges: Arc::clone(self), key, number })
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.open.load(Ordering::Relaxed);
        f.debug_struct("Challenges").field("open", &open).finish_non_exhaustive()
    }
}

/// An answer that is offered as long as this lives.
#[derive(Debug)]
#[must_use = "the answer is withdrawn when this is dropped"]
pub struct Offer {
    challenges: Arc<Challenges>,
    key: Key,
    /// Tells this offer from a later one with the same key.
    number: u64,
}

#[derive(Debug)]
enum Key {
    Http(String),
    Tls(String),
}

impl Drop for Offer {
    fn drop(&mut self) {
        match &self.key {
            Key::Http(token) => withdraw(&self.challenges.http, token, self.number),
            Key::Tls(name) => withdraw(&self.challenges.tls, name, self.number),
        }
        self.challenges.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// There are [`MAX`] answers already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MAX} challenges are being answered already")
    }
}

impl std::error::Error for TooMany {}

fn withdraw<T>(answers: &Mutex<HashMap<String, (u64, T)>>, key: &str, number: u64) {
    let mut answers = held(answers);
    if answers.get(key).is_some_and(|(offered, _)| *offered == number) {
        answers.remove(key);
    }
}

/// A panic of another holder leaves a map that is still whole.
fn held<T>(answers: &Mutex<T>) -> MutexGuard<'_, T> {
    answers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use net::tls::{Identity, acme_server_config};

    use super::*;

    fn config(name: &str) -> ServerConfig {
        acme_server_config(Identity::acme_tls_alpn(name, "token.thumb").unwrap()).unwrap()
    }

    #[test]
    fn an_answer_is_there_as_long_as_its_offer() {
        let challenges = Arc::new(Challenges::default());
        assert!(challenges.is_empty());
        let offer = challenges.offer_http("abc", "abc.thumb").unwrap();
        assert!(!challenges.is_empty());
        let answer = |path: &str| challenges.answer(path.as_bytes());
        assert_eq!(answer("/.well-known/acme-challenge/abc").unwrap(), "abc.thumb");
        assert_eq!(answer("/.well-known/acme-challenge/abd"), None);
        assert_eq!(answer("/.well-known/acme-challenge/"), None);
        assert_eq!(answer("/abc"), None);
        assert_eq!(challenges.answer(b"/.well-known/acme-challenge/\xff"), None);
        drop(offer);
        assert!(challenges.is_empty());
        assert_eq!(answer("/.well-known/acme-challenge/abc"), None);
    }

    #[test]
    fn rfc8737_3_a_server_name_is_found_in_any_case() {
        let challenges = Arc::new(Challenges::default());
        let offer = challenges.offer_tls("Example.test", config("example.test")).unwrap();
        assert!(challenges.tls("eXample.test").is_some());
        assert!(challenges.tls("other.test").is_none());
        drop(offer);
        assert!(challenges.tls("example.test").is_none());
    }

    #[test]
    fn a_later_offer_for_the_same_name_outlives_the_earlier() {
        let challenges = Arc::new(Challenges::default());
        let first = challenges.offer_tls("a.test", config("a.test")).unwrap();
        let second = challenges.offer_tls("a.test", config("a.test")).unwrap();
        drop(first);
        assert!(challenges.tls("a.test").is_some());
        drop(second);
        assert!(challenges.is_empty() && challenges.tls("a.test").is_none());
    }

    #[test]
    fn answers_are_bounded() {
        let challenges = Arc::new(Challenges::default());
        let offers: Vec<Offer> = (0..MAX)
            .map(|number| challenges.offer_http(&number.to_string(), "x").unwrap())
            .collect();
        assert_eq!(challenges.offer_http("more", "x").err(), Some(TooMany));
        assert_eq!(challenges.answer(b"/.well-known/acme-challenge/more"), None);
        drop(offers);
        assert!(challenges.is_empty());
    }
}
