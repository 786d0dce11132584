//! Keeping a client with the endpoint it met first.
//!
//! A cookie names the member of a pool that served the client, or a cookie of the application's is
//! hashed. Which member a name stands for, and whether it may be used now, is for balancing to say:
//! what cannot be followed is balanced as if there were no cookie.
//!
//! What always holds: the cookie shows no address, port or number of a member, and only a cookie
//! that was made for this pool with this secret is believed, so a client can stay where it was sent
//! but not choose where it goes. Ravelin's cookie is for Ravelin: it is taken out of what goes
//! upstream. Nothing here reads a clock or a file; on the path of a request nothing is allocated.

mod cookies;
mod secret;
mod value;

use std::time::Duration;

use config::model::{SameSite, Sticky as Settings, StickyMode};
use xxhash_rust::xxh3::xxh3_64;

pub(crate) use self::cookies::{values as cookie_values, write_without as write_cookies_without};
pub use self::secret::{SECRET_BYTES_MIN, Secret, SecretError};
pub use self::value::Tag;
use self::value::{Sealer, Token};

/// Most cookies of Ravelin's name looked at in a request, since each costs an HMAC. A browser sends
/// several only if they were set with different paths or domains.
pub const COOKIES_TRIED_MAX: usize = 4;

/// What the names of Ravelin's cookies begin with, where none is configured.
const NAME: &str = "RAVELIN_ROUTE";

/// How a pool keeps its clients.
#[derive(Debug)]
pub struct Sticky {
    mode: StickyMode,
    /// Of Ravelin's cookie; empty where there is none.
    name: String,
    sealer: Sealer,
    secure: Option<bool>,
    /// `Secure` is what browsers ask of this cookie in any case.
    secure_by_kind: bool,
    /// "; Path=/; HttpOnly; …": the attributes that are the same in every response.
    attributes: Vec<u8>,
}

/// What a request says of the member it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// There is no cookie of Ravelin's.
    None,
    /// There is one that is not believed: forged, of another pool, or expired.
    Invalid,
    /// The client belongs to a member.
    Valid {
        /// Its name, as [`Sticky::member_tag`] makes it; a member that is gone has none.
        tag: Tag,
        /// The cookie should be replaced at the next occasion: half of its time is over, or
        /// lifetimes were configured differently when it was set.
        aged: bool,
    },
    /// There is a cookie of the application's, by which clients are kept, and this is the hash of its
    /// value; the same on every machine.
    Hash(u64),
}

/// What leads to the member that keeps a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Its name, as [`Sticky::member_tag`] makes it.
    Member(Tag),
    /// A place on the ring of the members.
    Hash(u64),
}

impl Found {
    /// What leads to the client's member, if there is anything.
    #[must_use]
    pub fn tag(self) -> Option<Mark> {
        match self {
            Self::Valid { tag, .. } => Some(Mark::Member(tag)),
            Self::Hash(hash) => Some(Mark::Hash(hash)),
            Self::None | Self::Invalid => None,
        }
    }
}

impl Sticky {
    /// Keeps clients of the pool called `pool`. Pools of one name and secret understand each other's
    /// cookies, so that a client keeps its member from `http` to `https` and from proxy to proxy.
    ///
    /// The names, the path and the domain in `settings` are written as they are: reading the
    /// configuration made sure that they hold no control character and no ";".
    #[must_use]
    pub fn new(settings: &Settings, secret: &Secret, pool: &str) -> Self {
        let name = match &settings.mode {
            StickyMode::Cookie { name, .. } | StickyMode::ApplicationCookie { name, .. } => {
                name.clone().unwrap_or_else(|| name_for(pool))
            }
            StickyMode::ConsistentHash { .. } => String::new(),
        };
        Self {
            mode: settings.mode.clone(),
            sealer: Sealer::new(secret, pool),
            secure: settings.secure,
            secure_by_kind: settings.same_site == SameSite::None
                || name.starts_with("__Secure-")
                || name.starts_with("__Host-"),
            name,
            attributes: attributes(settings).into_bytes(),
        }
    }

    /// The name of a member in cookies. `url` is whatever tells it from the other members of the
    /// pool and is the same after a restart and on another proxy.
    #[must_use]
    pub fn member_tag(&self, url: &str) -> Tag {
        self.sealer.member_tag(url.as_bytes())
    }

    /// What the `Cookie` field values of a request say at `now`, in seconds since 1970. Of several
    /// cookies the first valid one counts; of the application's, the first that is not empty.
    #[must_use]
    pub fn find<'a>(&self, cookie_fields: impl Iterator<Item = &'a [u8]>, now: u64) -> Found {
        let name = match &self.mode {
            StickyMode::ConsistentHash { application } => {
                let mut values = cookies::values(cookie_fields, application.as_bytes());
                let value = values.find(|value| !value.is_empty());
                return value.map_or(Found::None, |value| Found::Hash(xxh3_64(value)));
            }
            StickyMode::Cookie { .. } | StickyMode::ApplicationCookie { .. } => &self.name,
        };
        let own = cookies::values(cookie_fields, name.as_bytes());
        let mut found = Found::None;
        for value in own.take(COOKIES_TRIED_MAX) {
            found = Found::Invalid;
            if let Some(token) = self.sealer.open(value).filter(|token| token.is_valid(now)) {
                return Found::Valid { tag: token.tag, aged: self.is_aged(token, now) };
            }
        }
        found
    }

    /// Appends a `Cookie` field line with the cookies in the value `cookies` except Ravelin's, as
    /// they were; nothing if there are no others. Only a request in which [`find`](Self::find) has
    /// found something needs it.
    pub fn write_cookie_line(&self, cookies: &[u8], out: &mut Vec<u8>) {
        let before = out.len();
        out.extend_from_slice(b"Cookie: ");
        let others = match self.sets_cookie() {
            true => cookies::write_without(cookies, self.name.as_bytes(), out),
            false => {
                out.extend_from_slice(cookies);
                true
            }
        };
        match others {
            true => out.extend_from_slice(b"\r\n"),
            false => out.truncate(before),
        }
    }

    /// The response of the member named `served_by` has to set the cookie, to a request in which
    /// `found` was found. `set_cookie_fields` are the values of the response's `Set-Cookie` fields.
    #[must_use]
    pub fn needs_cookie<'a>(
        &self,
        found: Found,
        served_by: Tag,
        set_cookie_fields: impl Iterator<Item = &'a [u8]>,
    ) -> bool {
        let has_it = found == Found::Valid { tag: served_by, aged: false };
        match &self.mode {
            StickyMode::Cookie { .. } => !has_it,
            StickyMode::ApplicationCookie { application, .. } => {
                let mut fields = set_cookie_fields;
                !has_it && fields.any(|field| cookies::sets(field, application.as_bytes()))
            }
            StickyMode::ConsistentHash { .. } => false,
        }
    }

    /// Appends the `Set-Cookie` field line that names member `tag` at `now`, in seconds since 1970,
    /// to a client whose connection has TLS or has not (`https`).
    pub fn set_cookie(&self, tag: Tag, https: bool, now: u64, out: &mut Vec<u8>) {
        if !self.sets_cookie() {
            return;
        }
        let expiry = self.lifetime().map(|seconds| now.saturating_add(seconds));
        out.extend_from_slice(b"Set-Cookie: ");
        out.extend_from_slice(self.name.as_bytes());
        out.push(b'=');
        out.extend_from_slice(&self.sealer.seal(Token { tag, expiry }));
        out.extend_from_slice(&self.attributes);
        if self.secure.unwrap_or(https || self.secure_by_kind) {
            out.extend_from_slice(b"; Secure");
        }
        out.extend_from_slice(b"\r\n");
    }

    fn sets_cookie(&self) -> bool {
        !matches!(self.mode, StickyMode::ConsistentHash { .. })
    }

    fn is_aged(&self, token: Token, now: u64) -> bool {
        match (token.expiry, self.lifetime()) {
            (None, None) => false,
            (Some(expiry), Some(lifetime)) => {
                let left = expiry.saturating_sub(now);
                left <= lifetime / 2 || left > lifetime
            }
            (None, Some(_)) | (Some(_), None) => true,
        }
    }

    /// Seconds for which a cookie is valid; `None`: as long as the browser has it.
    fn lifetime(&self) -> Option<u64> {
        lifetime(&self.mode)
    }
}

/// The name of Ravelin's cookie for a pool, where none is configured. Browsers keep one cookie for a
/// name, path and host (RFC 6265 §5.3), so pools of one site must not share it. It follows from the
/// pool's name and does not tell it.
fn name_for(pool: &str) -> String {
    format!("{NAME}_{:08x}", xxh3_64(pool.as_bytes()) >> 32)
}

/// A `Max-Age` of 0 would delete the cookie, so a part of a second is a whole one.
fn lifetime(mode: &StickyMode) -> Option<u64> {
    match mode {
        StickyMode::Cookie { duration, .. } => {
            duration.as_ref().map(Duration::as_secs).map(|seconds| seconds.max(1))
        }
        StickyMode::ApplicationCookie { .. } | StickyMode::ConsistentHash { .. } => None,
    }
}

fn attributes(settings: &Settings) -> String {
    let same_site = match settings.same_site {
        SameSite::Strict => "Strict",
        SameSite::Lax => "Lax",
        SameSite::None => "None",
    };
    let mut text = format!("; Path={}; HttpOnly; SameSite={same_site}", settings.path);
    if let Some(domain) = &settings.domain {
        text.push_str(&format!("; Domain={domain}"));
    }
    if let Some(seconds) = lifetime(&settings.mode) {
        text.push_str(&format!("; Max-Age={seconds}"));
    }
    text
}

#[cfg(test)]
mod tests;
