//! Keys for session tickets (RFC 5077, RFC 8446 §4.6.1).
//!
//! What always holds: all workers use the same keys, which roll every six hours and are forgotten
//! after twelve; connections under different policies have different keys, so that no session gets
//! from one to the other; where clients show certificates there are no tickets at all; keys leave the
//! process only as a [`PassedKey`], for the process that takes its place.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use super::PolicyId;

/// Seconds for which one key makes tickets.
const PERIOD: u64 = 6 * 60 * 60;
/// Seconds for which a client may come back: the period of a key, and the one after it.
const LIFETIME: u32 = 2 * PERIOD as u32;
/// Bytes of the name in front of a ticket, by which its key is found.
const NAME_LEN: usize = 16;
const SECRET_LEN: usize = 32;
/// Policies whose keys are taken over; more than any configuration has.
const PASSED_MAX: usize = 4096;

/// The ticket keys of a process. Keep it across reloads, or returning clients shake hands in full.
#[derive(Debug, Default)]
pub struct Tickets {
    keys: Mutex<HashMap<PolicyId, Arc<Ticketer>>>,
}

/// The ticket keys of one policy on their way to the process that takes this one's place. To be sent
/// to nobody else; wiped when dropped.
pub struct PassedKey(Zeroizing<Vec<u8>>);

impl Tickets {
    /// No keys yet; they are made as policies ask for them.
    pub fn new() -> Self {
        Self::default()
    }

    /// The keys, for the process that takes this one's place.
    pub fn pass(&self) -> Vec<PassedKey> {
        let keys = self.lock();
        keys.iter().map(|(policy, ticketer)| PassedKey::new(*policy, &ticketer.ring())).collect()
    }

    /// Goes on with a key that the process before this one has passed, if it can be read. To be called
    /// before there are keys.
    pub fn take(&self, passed: &[u8]) {
        let Some((policy, ring)) = read_passed(passed) else { return };
        let mut keys = self.lock();
        if keys.len() < PASSED_MAX {
            keys.entry(policy).or_insert_with(|| Arc::new(Ticketer::new(ring)));
        }
    }

    /// The keys for a policy. `None` if there is no randomness to be had.
    pub(super) fn for_policy(&self, policy: PolicyId) -> Option<Arc<dyn ProducesTickets>> {
        let mut keys = self.lock();
        if let Some(known) = keys.get(&policy) {
            return Some(Arc::<Ticketer>::clone(known));
        }
        let ring = Ring::new(Key::random()?, None, now());
        let made = Arc::new(Ticketer::new(ring));
        keys.insert(policy, Arc::clone(&made));
        Some(made)
    }

    /// A panic while this is held leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, HashMap<PolicyId, Arc<Ticketer>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes and opens the tickets of one policy.
struct Ticketer {
    ring: ArcSwap<Ring>,
    /// Held by the one that makes the next key.
    rolling: Mutex<()>,
}

/// The keys at one time.
#[derive(Clone)]
struct Ring {
    /// Makes tickets, and opens them.
    current: Arc<Key>,
    /// The one before, which only opens them.
    previous: Option<Arc<Key>>,
    /// When the current one becomes the previous, in seconds of Unix time.
    rolls_at: u64,
}

struct Key {
    name: [u8; NAME_LEN],
    secret: Zeroizing<[u8; SECRET_LEN]>,
    cipher: RandomizedNonceKey,
}

impl Ticketer {
    fn new(ring: Ring) -> Self {
        Self { ring: ArcSwap::from_pointee(ring), rolling: Mutex::new(()) }
    }

    fn ring(&self) -> Ring {
        Ring::clone(&self.ring.load())
    }

    /// The keys that are good `now`: rolls them if that is due. `None` if there is no randomness.
    fn ring_at(&self, now: u64) -> Option<Arc<Ring>> {
        let ring = self.ring.load_full();
        if !ring.is_due(now) {
            return Some(ring);
        }
        let _alone = self.rolling.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = self.ring.load_full();
        if !ring.is_due(now) {
            return Some(ring);
        }
        // One that nobody has used for a whole period more is too old to open anything.
        let is_recent = now < ring.rolls_at.saturating_add(PERIOD);
        let previous = is_recent.then(|| Arc::clone(&ring.current));
        let rolled = Arc::new(Ring::new(Key::random()?, previous, now));
        self.ring.store(Arc::clone(&rolled));
        Some(rolled)
    }

    fn seal(&self, plain: &[u8], now: u64) -> Option<Vec<u8>> {
        self.ring_at(now)?.current.seal(plain)
    }

    fn open(&self, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        let ring = self.ring_at(now)?;
        let (name, sealed) = ticket.split_first_chunk::<NAME_LEN>()?;
        let keys = [Some(&ring.current), ring.previous.as_ref()];
        keys.into_iter().flatten().find(|key| key.name == *name)?.open(sealed)
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, now())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.open(ticket, now())
    }
}

impl Ring {
    fn new(current: Key, previous: Option<Arc<Key>>, now: u64) -> Self {
        Self { current: Arc::new(current), previous, rolls_at: now.saturating_add(PERIOD) }
    }

    /// Also when the clock was set back: no key is to last longer than its period.
    fn is_due(&self, now: u64) -> bool {
        now >= self.rolls_at || self.rolls_at - now > PERIOD
    }
}

impl Key {
    fn random() -> Option<Self> {
        let (mut name, mut secret) = ([0; NAME_LEN], Zeroizing::new([0; SECRET_LEN]));
        rand::fill(&mut name).ok()?;
        rand::fill(&mut secret[..]).ok()?;
        Self::new(name, secret)
    }

    fn new(name: [u8; NAME_LEN], secret: Zeroizing<[u8; SECRET_LEN]>) -> Option<Self> {
        // A random nonce each time: at most 2^32 tickets a key are safe, which is 198,000 a second.
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, &secret[..]).ok()?;
        Some(Self { name, secret, cipher })
    }

    /// Name, nonce, ciphertext, tag.
    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let nonce =
            self.cipher.seal_in_place_append_tag(Aad::from(&self.name), &mut sealed).ok()?;
        Some([&self.name[..], nonce.as_ref(), &sealed].concat())
    }

    /// What follows the name.
    fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut opened = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain =
            self.cipher.open_in_place(nonce, Aad::from(&self.name), &mut opened).ok()?.len();
        opened.truncate(plain);
        Some(opened)
    }
}

impl PassedKey {
    fn new(policy: PolicyId, ring: &Ring) -> Self {
        let mut bytes = Vec::with_capacity(16 + 2 * (NAME_LEN + SECRET_LEN));
        bytes.extend_from_slice(&policy.0.to_be_bytes());
        bytes.extend_from_slice(&ring.rolls_at.to_be_bytes());
        for key in [Some(&ring.current), ring.previous.as_ref()].into_iter().flatten() {
            bytes.extend_from_slice(&key.name);
            bytes.extend_from_slice(&key.secret[..]);
        }
        Self(Zeroizing::new(bytes))
    }

    /// As [`Tickets::take`] reads it.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Policy, time, current key, and perhaps the previous one.
fn read_passed(bytes: &[u8]) -> Option<(PolicyId, Ring)> {
    let (policy, rest) = bytes.split_first_chunk()?;
    let (rolls_at, rest) = rest.split_first_chunk()?;
    let (current, rest) = read_key(rest)?;
    let previous = match rest {
        [] => None,
        rest => match read_key(rest)? {
            (previous, []) => Some(Arc::new(previous)),
            _ => return None,
        },
    };
    let rolls_at = u64::from_be_bytes(*rolls_at);
    Some((
        PolicyId(u64::from_be_bytes(*policy)),
        Ring { current: Arc::new(current), previous, rolls_at },
    ))
}

fn read_key(bytes: &[u8]) -> Option<(Key, &[u8])> {
    let (name, rest) = bytes.split_first_chunk()?;
    let (secret, rest) = rest.split_first_chunk()?;
    Some((Key::new(*name, Zeroizing::new(*secret))?, rest))
}

/// Seconds of Unix time. A clock before 1970 is at 0.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Shows no secret.
impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticketer")
    }
}

/// Shows no secret.
impl fmt::Debug for PassedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PassedKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000;

    fn ticketer() -> Ticketer {
        Ticketer::new(Ring::new(Key::random().unwrap(), None, START))
    }

    #[test]
    fn a_ticket_opens_in_the_period_of_its_key_and_in_the_next_only() {
        let keys = ticketer();
        let ticket = keys.seal(b"session", START).unwrap();
        for (later, opens) in
            [(0, true), (PERIOD - 1, true), (PERIOD, true), (2 * PERIOD - 1, true)]
        {
            assert_eq!(keys.open(&ticket, START + later).is_some(), opens, "{later}");
        }
        assert_eq!(keys.open(&ticket, START + PERIOD).unwrap(), b"session");
        assert!(keys.open(&ticket, START + 2 * PERIOD).is_none());
    }

    #[test]
    fn keys_that_nobody_asked_for_grow_old_all_the_same() {
        let keys = ticketer();
        let ticket = keys.seal(b"session", START).unwrap();
        assert!(keys.open(&ticket, START + 2 * PERIOD).is_none());
        let keys = ticketer();
        let ticket = keys.seal(b"session", START).unwrap();
        assert!(keys.open(&ticket, START + 2 * PERIOD - 1).is_some());
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_key_last() {
        let keys = ticketer();
        let before = keys.ring().current.name;
        assert!(keys.seal(b"session", START - 1).is_some());
        assert_ne!(keys.ring().current.name, before);
    }

    #[test]
    fn a_ticket_that_was_changed_does_not_open() {
        let keys = ticketer();
        let ticket = keys.seal(b"session", START).unwrap();
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert!(keys.open(&changed, START).is_none(), "byte {at}");
            assert!(keys.open(&ticket[..at], START).is_none(), "{at} bytes");
        }
        assert_ne!(keys.seal(b"session", START), keys.seal(b"session", START));
    }

    #[test]
    fn passed_keys_open_the_tickets_of_both_periods_and_roll_when_they_would_have() {
        let policy = PolicyId(7);
        let old = ticketer();
        let first = old.seal(b"first", START).unwrap();
        let second = old.seal(b"second", START + PERIOD).unwrap();
        let passed = PassedKey::new(policy, &old.ring());
        let (id, ring) = read_passed(passed.bytes()).unwrap();
        assert_eq!(id, policy);
        let new = Ticketer::new(ring);
        let now = START + PERIOD + 1;
        assert_eq!(new.open(&first, now).unwrap(), b"first");
        assert_eq!(new.open(&second, now).unwrap(), b"second");
        let third = new.seal(b"third", now).unwrap();
        assert_eq!(old.open(&third, now).unwrap(), b"third");
        assert!(new.open(&first, START + 2 * PERIOD).is_none());
        assert!(new.open(&second, START + 2 * PERIOD).is_some());
    }

    #[test]
    fn what_is_no_key_is_not_taken() {
        let tickets = Tickets::new();
        let passed = PassedKey::new(PolicyId(1), &ticketer().ring());
        for end in 0..passed.bytes().len() {
            tickets.take(&passed.bytes()[..end]);
        }
        tickets.take(&[passed.bytes(), b"more"].concat());
        assert!(tickets.pass().is_empty());
        tickets.take(passed.bytes());
        assert_eq!(tickets.pass().len(), 1);
        assert_eq!(tickets.pass()[0].bytes(), passed.bytes());
        assert_eq!(format!("{tickets:?} {passed:?}").matches("PassedKey").count(), 1);
    }
}
