//! Whether a password is the one that a hash was made from.
//!
//! What always holds: hashes are compared in constant time; what is computed here takes as long as the
//! hash says, which the configuration's bounds keep to some seconds, and a long password does not make
//! it longer.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{constant_time, digest};
use config::password::{Argon2Hash, Argon2Variant, PasswordHash, ShaCryptHash};
use md5::{Digest, Md5};
use sha_crypt::{sha256_crypt, sha512_crypt};

use super::same;

/// Longest password in bytes. SHA-crypt takes time that grows with the square of it.
pub(super) const PASSWORD_MAX: usize = 512;

/// Whether `password` is what `hash` was made from. May take seconds: not for a worker, unless the hash
/// is not slow.
pub(super) fn matches(hash: &PasswordHash, password: &[u8]) -> bool {
    if password.len() > PASSWORD_MAX {
        return false;
    }
    match hash {
        PasswordHash::Plain(secret) => same(password, secret.as_bytes()),
        PasswordHash::Sha1(hash) => {
            let made = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, password);
            equal(made.as_ref(), hash)
        }
        PasswordHash::Bcrypt { text, .. } => bcrypt::verify(password, text).unwrap_or(false),
        PasswordHash::Argon2(hash) => argon2(hash, password),
        PasswordHash::Sha256Crypt(hash) => crypt_parameters(hash).is_some_and(|parameters| {
            let made = sha256_crypt(password, hash.salt.as_bytes(), parameters);
            equal(&written(&made, SHA256_ORDER), &hash.hash)
        }),
        PasswordHash::Sha512Crypt(hash) => crypt_parameters(hash).is_some_and(|parameters| {
            let made = sha512_crypt(password, hash.salt.as_bytes(), parameters);
            equal(&written(&made, SHA512_ORDER), &hash.hash)
        }),
        PasswordHash::Apr1 { salt, hash } => equal(&apr1(password, salt.as_bytes()), hash),
    }
}

fn equal(made: &[u8], known: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(made, known).is_ok()
}

fn argon2(hash: &Argon2Hash, password: &[u8]) -> bool {
    let algorithm = match hash.variant {
        Argon2Variant::D => Algorithm::Argon2d,
        Argon2Variant::I => Algorithm::Argon2i,
        Argon2Variant::Id => Algorithm::Argon2id,
    };
    let version = if hash.current { Version::V0x13 } else { Version::V0x10 };
    let length = hash.hash.len();
    let Ok(params) = Params::new(hash.memory, hash.passes, hash.lanes, Some(length)) else {
        return false;
    };
    let mut made = vec![0; length];
    let argon2 = Argon2::new(algorithm, version, params);
    argon2.hash_password_into(password, &hash.salt, &mut made).is_ok() && equal(&made, &hash.hash)
}

fn crypt_parameters(hash: &ShaCryptHash) -> Option<sha_crypt::Params> {
    sha_crypt::Params::new(hash.rounds).ok()
}

/// The order in which the bytes of a digest are written, which is as it is.
const SHA256_ORDER: [usize; 32] = [
    20, 10, 0, 11, 1, 21, 2, 22, 12, 23, 13, 3, 14, 4, 24, 5, 25, 15, 26, 16, 6, 17, 7, 27, 8, 28,
    18, 29, 19, 9, 30, 31,
];
const SHA512_ORDER: [usize; 64] = [
    42, 21, 0, 1, 43, 22, 23, 2, 44, 45, 24, 3, 4, 46, 25, 26, 5, 47, 48, 27, 6, 7, 49, 28, 29, 8,
    50, 51, 30, 9, 10, 52, 31, 32, 11, 53, 54, 33, 12, 13, 55, 34, 35, 14, 56, 57, 36, 15, 16, 58,
    37, 38, 17, 59, 60, 39, 18, 19, 61, 40, 41, 20, 62, 63,
];
const APR1_ORDER: [usize; 16] = [12, 6, 0, 13, 7, 1, 14, 8, 2, 15, 9, 3, 5, 10, 4, 11];

fn written<const N: usize>(digest: &[u8], order: [usize; N]) -> [u8; N] {
    order.map(|at| digest.get(at).copied().unwrap_or_default())
}

/// Apache's MD5-crypt (`apr_md5_encode`), in the order in which it is written.
fn apr1(password: &[u8], salt: &[u8]) -> [u8; 16] {
    const ROUNDS: usize = 1000;
    let once: [u8; 16] = Md5::new()
        .chain_update(password)
        .chain_update(salt)
        .chain_update(password)
        .finalize()
        .into();
    let mut first = Md5::new().chain_update(password).chain_update(b"$apr1$").chain_update(salt);
    let mut left = password.len();
    while left > 0 {
        let taken = left.min(once.len());
        first.update(once.get(..taken).unwrap_or_default());
        left -= taken;
    }
    let mut bits = password.len();
    while bits > 0 {
        match bits & 1 {
            1 => first.update([0]),
            _ => first.update(password.get(..1).unwrap_or_default()),
        }
        bits >>= 1;
    }
    let mut hash: [u8; 16] = first.finalize().into();
    for round in 0..ROUNDS {
        let mut next = Md5::new();
        let odd = round % 2 == 1;
        next.update(if odd { password } else { &hash });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if odd { &hash } else { password });
        hash = next.finalize().into();
    }
    written(&hash, APR1_ORDER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hash: &str, password: &str) -> bool {
        let parsed = PasswordHash::parse(hash).unwrap_or_else(|why| panic!("{hash}: {why}"));
        matches(&parsed, password.as_bytes())
    }

    #[test]
    fn published_hashes_are_recognised() {
        for (hash, password) in [
            // The reference implementation of Argon2, README.
            (
                "$argon2i$v=19$m=65536,t=2,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaJObG",
                "password",
            ),
            // From crypt_blowfish and others.
            ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"),
            (
                "$2b$04$EGdrhbKUv8Oc9vGiXX0HQOxSg445d458Muh7DAHskb6QbtCvdxcie",
                "correctbatteryhorsestapler",
            ),
            // Ulrich Drepper's specification of SHA-crypt.
            (
                "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
                "Hello world!",
            ),
            (
                "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA",
                "Hello world!",
            ),
            ("$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!"),
            // Apache's documentation of password formats.
            ("$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/", "myPassword"),
            ("{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=", "myPassword"),
            ("plain:a:b", "a:b"),
        ] {
            assert!(check(hash, password), "{hash}");
            assert!(!check(hash, &format!("{password}x")), "{hash}");
            assert!(!check(hash, ""), "{hash}");
        }
    }

    #[test]
    fn long_passwords_are_never_right() {
        let long = "a".repeat(PASSWORD_MAX + 1);
        assert!(!check(&format!("plain:{long}"), &long));
        let fits = "a".repeat(PASSWORD_MAX);
        assert!(check(&format!("plain:{fits}"), &fits));
    }
}
