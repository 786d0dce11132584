//! What a worker remembers of credentials, so that the same are not checked again and again.
//!
//! What always holds: nothing of a password or a token is kept, only a keyed hash; what is remembered
//! is bounded in number and time, and belongs to the users or keys it was checked with: when those
//! change it is not found any more.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use aws_lc_rs::{hmac, rand};
use net::timer::Tick;
use tokio::sync::Notify;

use super::Verified;

/// Right passwords that one worker remembers, at some 100 bytes each.
const RIGHT_MAX: usize = 4096;
/// Wrong ones.
const WRONG_MAX: usize = 1024;
/// Tokens that one worker remembers, at some 200 bytes each and what they tell the upstream.
const TOKENS_MAX: usize = 4096;

/// A right password need not be hashed again for so long; nor does it stop being right before.
const RIGHT_FOR: Duration = Duration::from_secs(300);
/// A wrong one is wrong for so long without being hashed.
const WRONG_FOR: Duration = Duration::from_secs(5);

/// A keyed hash of credentials and of what they are checked with.
pub(super) type Digest = [u8; 32];

/// What one worker remembers.
#[derive(Debug)]
pub struct Memory {
    right: RefCell<Bounded<Tick>>,
    wrong: RefCell<Bounded<Tick>>,
    under_way: RefCell<HashMap<Digest, Rc<Notify>>>,
    tokens: RefCell<Bounded<Known>>,
    /// What is remembered without end in tests that stop the clock.
    now: Cell<Option<Tick>>,
}

/// What is known of a password.
#[derive(Debug)]
pub(super) enum Password {
    /// It was hashed lately, and was right or not.
    Known(bool),
    /// It is being hashed for another request.
    UnderWay(Rc<Notify>),
    /// It has to be hashed.
    Unknown,
}

/// A token that was good.
#[derive(Debug, Clone)]
struct Known {
    /// Milliseconds since 1970 at which it stops being good.
    until: u64,
    verified: Rc<Verified>,
}

/// A map that forgets what came first when it is full.
#[derive(Debug)]
struct Bounded<V> {
    entries: HashMap<Digest, V>,
    order: VecDeque<Digest>,
    max: usize,
}

impl<V> Bounded<V> {
    fn new(max: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), max }
    }

    fn get(&self, key: &Digest) -> Option<&V> {
        self.entries.get(key)
    }

    fn insert(&mut self, key: Digest, value: V) {
        if self.entries.insert(key, value).is_some() {
            return;
        }
        self.order.push_back(key);
        while self.order.len() > self.max {
            let Some(first) = self.order.pop_front() else { break };
            self.entries.remove(&first);
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            right: RefCell::new(Bounded::new(RIGHT_MAX)),
            wrong: RefCell::new(Bounded::new(WRONG_MAX)),
            under_way: RefCell::default(),
            tokens: RefCell::new(Bounded::new(TOKENS_MAX)),
            now: Cell::new(None),
        }
    }
}

impl Memory {
    fn now(&self) -> Tick {
        self.now.get().unwrap_or_else(Tick::now)
    }

    /// What is known of a password.
    pub(super) fn password(&self, key: &Digest) -> Password {
        let now = self.now();
        let fresh =
            |since: Option<&Tick>, time| since.is_some_and(|since| now.since(*since) < time);
        if fresh(self.right.borrow().get(key), RIGHT_FOR) {
            return Password::Known(true);
        }
        if fresh(self.wrong.borrow().get(key), WRONG_FOR) {
            return Password::Known(false);
        }
        match self.under_way.borrow().get(key) {
            Some(notify) => Password::UnderWay(Rc::clone(notify)),
            None => Password::Unknown,
        }
    }

    /// A password is about to be hashed: others that come with it wait until what this returns is
    /// dropped.
    pub(super) fn begin(&self, key: Digest) -> UnderWay<'_> {
        self.under_way.borrow_mut().insert(key, Rc::default());
        UnderWay { memory: self, key }
    }

    /// What a token proves, if it was good and still is at `now`, in milliseconds since 1970.
    pub(super) fn token(&self, key: &Digest, now: u64) -> Option<Rc<Verified>> {
        let tokens = self.tokens.borrow();
        let known = tokens.get(key).filter(|known| now < known.until)?;
        Some(Rc::clone(&known.verified))
    }

    /// A token proves this until then.
    pub(super) fn remember_token(&self, key: Digest, until: u64, verified: &Rc<Verified>) {
        let known = Known { until, verified: Rc::clone(verified) };
        self.tokens.borrow_mut().insert(key, known);
    }
}

/// A password that is being hashed.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    memory: &'a Memory,
    key: Digest,
}

impl UnderWay<'_> {
    /// It has been hashed.
    pub(super) fn found(self, right: bool) {
        let memory = if right { &self.memory.right } else { &self.memory.wrong };
        memory.borrow_mut().insert(self.key, self.memory.now());
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let notify = self.memory.under_way.borrow_mut().remove(&self.key);
        if let Some(notify) = notify {
            notify.notify_waiters();
        }
    }
}

/// The keyed hash of these parts, each told from the next; the key is of this process alone.
///
/// # Errors
/// The system gives no random numbers.
pub(super) fn digest(parts: &[&[u8]]) -> Result<Digest, &'static str> {
    static KEY: OnceLock<hmac::Key> = OnceLock::new();
    let key = match KEY.get() {
        Some(key) => key,
        None => {
            let mut bytes = [0; 32];
            rand::fill(&mut bytes).map_err(|_| "the system gives no random numbers")?;
            KEY.get_or_init(|| hmac::Key::new(hmac::HMAC_SHA256, &bytes))
        }
    };
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Digest {
        digest(&[text.as_bytes()]).unwrap()
    }

    fn known(memory: &Memory, text: &str) -> Option<bool> {
        match memory.password(&key(text)) {
            Password::Known(right) => Some(right),
            _ => None,
        }
    }

    #[test]
    fn parts_are_told_from_each_other() {
        let of = |parts: &[&[u8]]| digest(parts).unwrap();
        assert_eq!(of(&[b"a", b"b"]), of(&[b"a", b"b"]));
        assert_ne!(of(&[b"a", b"b"]), of(&[b"ab", b""]));
        assert_ne!(of(&[b"a", b"b"]), of(&[b"ab"]));
    }

    #[test]
    fn right_and_wrong_passwords_are_remembered_for_their_time() {
        let memory = Memory::default();
        let at = |memory: &Memory, millis: u64| memory.now.set(Some(Tick::from(millis)));
        at(&memory, 1_000);
        memory.begin(key("right")).found(true);
        memory.begin(key("wrong")).found(false);
        assert_eq!((known(&memory, "right"), known(&memory, "wrong")), (Some(true), Some(false)));
        at(&memory, 1_000 + 5_000);
        assert_eq!((known(&memory, "right"), known(&memory, "wrong")), (Some(true), None));
        at(&memory, 1_000 + 300_000);
        assert_eq!(known(&memory, "right"), None);
    }

    #[test]
    fn what_was_given_up_is_unknown_again() {
        let memory = Memory::default();
        let under_way = memory.begin(key("a"));
        assert!(matches!(memory.password(&key("a")), Password::UnderWay(_)));
        drop(under_way);
        assert!(matches!(memory.password(&key("a")), Password::Unknown));
    }

    #[test]
    fn guesses_drive_out_guesses_only() {
        let memory = Memory::default();
        memory.begin(key("right")).found(true);
        for guess in 0..2 * WRONG_MAX {
            memory.begin(key(&guess.to_string())).found(false);
        }
        assert_eq!(known(&memory, "right"), Some(true));
        assert_eq!(known(&memory, "0"), None);
        assert_eq!(memory.wrong.borrow().entries.len(), WRONG_MAX);
        assert_eq!(memory.wrong.borrow().order.len(), WRONG_MAX);
        assert!(memory.under_way.borrow().is_empty());
    }

    #[test]
    fn a_token_is_good_until_it_expires() {
        let memory = Memory::default();
        memory.remember_token(key("a"), 1000, &Rc::default());
        assert!(memory.token(&key("a"), 999).is_some());
        assert!(memory.token(&key("a"), 1000).is_none());
        assert!(memory.token(&key("b"), 0).is_none());
    }
}
