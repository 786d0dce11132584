//! What an OCSP response says of a certificate (RFC 6960): enough to know whether clients would take
//! it when it is stapled.
//!
//! Its signature is not looked at: the file is the operator's, and every client checks it.

use std::fmt;

use aws_lc_rs::digest::{self, Algorithm};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// When a response counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// From when, in seconds since the Unix epoch.
    pub from: i64,
    /// Until when, in seconds since the Unix epoch; `None` if it does not say.
    pub until: Option<i64>,
}

/// Why a response is not to be stapled. The text is the end of "the response ...".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OcspError {
    /// It is no OCSP response, or one of a kind that no client knows.
    Damaged,
    /// The responder had no answer; this is its status.
    NoAnswer(u8),
    /// It is about other certificates.
    OtherCertificate,
    /// The certificate is revoked.
    Revoked,
    /// The responder does not know the certificate.
    Unknown,
}

impl fmt::Display for OcspError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Damaged => "is not an OCSP response in DER",
            Self::NoAnswer(1) => "says that the request was malformed, and nothing else",
            Self::NoAnswer(2) => "says that the responder had an internal error, and nothing else",
            Self::NoAnswer(3) => "says to try again later, and nothing else",
            Self::NoAnswer(_) => "says that the request was refused, and nothing else",
            Self::OtherCertificate => "is about another certificate",
            Self::Revoked => "says that the certificate is revoked",
            Self::Unknown => "says that the responder does not know the certificate",
        })
    }
}

impl std::error::Error for OcspError {}

/// id-pkix-ocsp-basic, the only kind of response that clients have to know (RFC 6960 §4.2.1).
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];

/// Hash algorithms of a CertID by their object identifiers.
const HASHES: [(&[u8], &Algorithm); 4] = [
    (&[0x2b, 0x0e, 3, 2, 0x1a], &digest::SHA1_FOR_LEGACY_USE_ONLY),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1], &digest::SHA256),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2], &digest::SHA384),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3], &digest::SHA512),
];

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OBJECT: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]` around something: what is optional, and the version.
const EXPLICIT_0: u8 = 0xa0;
/// The three states of a certificate.
const GOOD: u8 = 0x80;
const REVOKED: u8 = 0xa1;

/// What `response` says of the first certificate of `chain`, a DER certificate each. Without its
/// issuer in the chain the issuer's key is not compared, its name is.
pub(super) fn judge<'a>(
    response: &[u8],
    chain: impl Iterator<Item = &'a [u8]>,
) -> Result<Freshness, OcspError> {
    let certificates: Vec<X509Certificate<'_>> =
        chain.filter_map(|der| X509Certificate::from_der(der).ok()).map(|(_, one)| one).collect();
    let leaf = certificates.first().ok_or(OcspError::OtherCertificate)?;
    let name = leaf.issuer().as_raw();
    // One that signed itself is its own issuer.
    let issuer = certificates.iter().find(|one| one.subject().as_raw() == name);
    let key = issuer.map(|issuer| &issuer.public_key().subject_public_key.data[..]);
    let expected = Expected { serial: leaf.raw_serial(), name, key };
    let mut singles = singles(response)?;
    let mut verdict = Err(OcspError::OtherCertificate);
    while !singles.0.is_empty() {
        let mut single = singles.sequence().ok_or(OcspError::Damaged)?;
        let of_it =
            single.sequence().and_then(|id| expected.is_in(id)).ok_or(OcspError::Damaged)?;
        if of_it {
            verdict = verdict.or_else(|_| freshness(single));
        }
    }
    verdict
}

/// The single responses of a whole response.
fn singles(response: &[u8]) -> Result<Der<'_>, OcspError> {
    let damaged = OcspError::Damaged;
    let mut whole = Der(response);
    let mut outer = whole.sequence().filter(|_| whole.0.is_empty()).ok_or(damaged)?;
    match outer.take(ENUMERATED).ok_or(damaged)? {
        [0] => {}
        [status] => return Err(OcspError::NoAnswer(*status)),
        _ => return Err(damaged),
    }
    let mut basic = || {
        let mut bytes = Der(outer.take(EXPLICIT_0)?).sequence()?;
        let kind = bytes.take(OBJECT)?;
        let mut basic = Der(bytes.take(OCTETS).filter(|_| kind == BASIC)?).sequence()?;
        let mut data = basic.sequence()?;
        data.skip_if(EXPLICIT_0)?;
        // Who answers, by name or key, and when that was.
        data.any()?;
        data.take(TIME)?;
        data.sequence()
    };
    basic().ok_or(damaged)
}

/// What the identifier of the certificate (CertID) has to say.
struct Expected<'a> {
    serial: &'a [u8],
    /// DER of the issuer's name.
    name: &'a [u8],
    /// Bytes of the issuer's key, if they are known.
    key: Option<&'a [u8]>,
}

impl Expected<'_> {
    /// Whether this CertID means the certificate; `None` if it is none.
    fn is_in(&self, mut id: Der<'_>) -> Option<bool> {
        let algorithm = id.sequence()?.take(OBJECT)?;
        let (name, key, serial) = (id.take(OCTETS)?, id.take(OCTETS)?, id.take(INTEGER)?);
        let hash = HASHES.iter().find(|(object, _)| *object == algorithm).map(|(_, hash)| hash);
        let Some(hash) = hash else { return Some(false) };
        let is = |bytes: &[u8], digest: &[u8]| digest::digest(hash, bytes).as_ref() == digest;
        let same_key = self.key.is_none_or(|bytes| is(bytes, key));
        Some(serial == self.serial && is(self.name, name) && same_key)
    }
}

/// The rest of a single response, behind the identifier.
fn freshness(mut single: Der<'_>) -> Result<Freshness, OcspError> {
    match single.any() {
        Some((GOOD, _)) => {}
        Some((REVOKED, _)) => return Err(OcspError::Revoked),
        Some(_) => return Err(OcspError::Unknown),
        None => return Err(OcspError::Damaged),
    }
    let mut times = || {
        let from = unix_time(single.take(TIME)?)?;
        let until = match single.take(EXPLICIT_0) {
            Some(until) => Some(unix_time(Der(until).take(TIME)?)?),
            None => None,
        };
        Some(Freshness { from, until })
    };
    times().ok_or(OcspError::Damaged)
}

/// A GeneralizedTime as RFC 5280 §4.1.2.5.2 wants it, `YYYYMMDDHHMMSSZ`.
fn unix_time(text: &[u8]) -> Option<i64> {
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.len() == 14)?;
    let number = |from: usize, to: usize| -> Option<i64> {
        let part = digits.get(from..to).filter(|part| part.iter().all(u8::is_ascii_digit))?;
        std::str::from_utf8(part).ok()?.parse().ok()
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hours, minutes, seconds) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970-01-01, with years that begin in March.
    let shifted = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = shifted.div_euclid(4) - shifted.div_euclid(100) + shifted.div_euclid(400);
    let days = shifted * 365 + leap_days + of_year - 719_468;
    Some(days * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

/// DER, read from the front (X.690). Lengths beyond 64 KiB are not taken.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element: its tag and its contents.
    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (length, rest) = match rest {
            [0x82, high, low, rest @ ..] => (usize::from(*high) << 8 | usize::from(*low), rest),
            [0x81, length, rest @ ..] => (usize::from(*length), rest),
            [length @ ..=0x7f, rest @ ..] => (usize::from(*length), rest),
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, contents))
    }

    /// The contents of the next element, if it has this tag; else it stays the next one.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let (found, contents) = ahead.any()?;
        (found == tag).then(|| {
            *self = ahead;
            contents
        })
    }

    fn sequence(&mut self) -> Option<Self> {
        self.take(SEQUENCE).map(Der)
    }

    /// Leaves the next element out if it has this tag.
    fn skip_if(&mut self, tag: u8) -> Option<()> {
        if self.0.first() == Some(&tag) {
            self.any()?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SerialNumber};

    use super::*;

    fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
        let length = contents.len();
        let head = match length {
            0..=0x7f => vec![tag, length as u8],
            0x80..=0xff => vec![tag, 0x81, length as u8],
            _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        };
        [&head[..], contents].concat()
    }

    /// A certificate and its issuer's.
    fn chain(serial: u64) -> [Vec<u8>; 2] {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let root = authority.self_signed(&key).unwrap();
        let mut leaf = CertificateParams::new(["a.test".to_owned()]).unwrap();
        leaf.serial_number = Some(SerialNumber::from(serial));
        let leaf =
            leaf.signed_by(&KeyPair::generate().unwrap(), &Issuer::new(authority, key)).unwrap();
        [leaf.der().to_vec(), root.der().to_vec()]
    }

    /// A CertID for the first certificate, by this hash.
    fn id(chain: &[Vec<u8>], (object, hash): (&[u8], &'static Algorithm)) -> Vec<u8> {
        let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
        let (_, issuer) = X509Certificate::from_der(&chain[1]).unwrap();
        let hashed = |bytes: &[u8]| element(OCTETS, digest::digest(hash, bytes).as_ref());
        let algorithm = element(SEQUENCE, &[element(OBJECT, object), vec![5, 0]].concat());
        let name = hashed(leaf.issuer().as_raw());
        let key = hashed(&issuer.public_key().subject_public_key.data);
        let serial = element(INTEGER, leaf.raw_serial());
        element(SEQUENCE, &[algorithm, name, key, serial].concat())
    }

    fn single(id: &[u8], state: &[u8], times: &[&str]) -> Vec<u8> {
        let time = |text: &str| element(TIME, text.as_bytes());
        let mut parts = [id, state].concat();
        parts.extend(times.first().map(|from| time(from)).unwrap_or_default());
        parts.extend(
            times.get(1).map(|until| element(EXPLICIT_0, &time(until))).unwrap_or_default(),
        );
        element(SEQUENCE, &parts)
    }

    fn response(singles: &[Vec<u8>]) -> Vec<u8> {
        let responder = element(0xa2, &element(OCTETS, &[7; 20]));
        let produced = element(TIME, b"20260101000000Z");
        let data = [responder, produced, element(SEQUENCE, &singles.concat())].concat();
        let signature = element(0x03, &[0; 65]);
        let basic = [element(SEQUENCE, &data), element(SEQUENCE, &[]), signature].concat();
        let bytes = [element(OBJECT, BASIC), element(OCTETS, &element(SEQUENCE, &basic))].concat();
        let bytes = element(EXPLICIT_0, &element(SEQUENCE, &bytes));
        element(SEQUENCE, &[element(ENUMERATED, &[0]), bytes].concat())
    }

    fn judged(response: &[u8], chain: &[Vec<u8>]) -> Result<Freshness, OcspError> {
        judge(response, chain.iter().map(Vec::as_slice))
    }

    const TIMES: [&str; 2] = ["20260101000000Z", "20260108120000Z"];
    const FRESH: Freshness = Freshness { from: 1_767_225_600, until: Some(1_767_873_600) };

    #[test]
    fn rfc6960_4_1_1_a_certificate_is_known_by_serial_and_issuer_under_every_hash() {
        let chain = chain(7);
        for hash in HASHES {
            let response = response(&[single(&id(&chain, hash), &[GOOD, 0], &TIMES)]);
            assert_eq!(judged(&response, &chain), Ok(FRESH));
            // Without the issuer its name has to do.
            assert_eq!(judged(&response, &chain[..1]), Ok(FRESH));
            let strangers = self::chain(8);
            assert_eq!(judged(&response, &strangers), Err(OcspError::OtherCertificate));
            // Same serial, same name, another key.
            let same = self::chain(7);
            assert_eq!(judged(&response, &same), Err(OcspError::OtherCertificate));
            let others = single(&id(&strangers, hash), &[REVOKED, 0], &TIMES);
            let both = self::response(&[others, single(&id(&chain, hash), &[GOOD, 0], &TIMES)]);
            assert_eq!(judged(&both, &chain), Ok(FRESH));
        }
    }

    #[test]
    fn rfc6960_2_2_only_good_is_good() {
        let chain = chain(300);
        let of = |state: &[u8]| {
            let response = response(&[single(&id(&chain, HASHES[0]), state, &TIMES)]);
            judged(&response, &chain)
        };
        assert_eq!(of(&[GOOD, 0]), Ok(FRESH));
        assert_eq!(
            of(&element(REVOKED, &element(TIME, b"20250101000000Z"))),
            Err(OcspError::Revoked)
        );
        assert_eq!(of(&[0x82, 0]), Err(OcspError::Unknown));
    }

    #[test]
    fn times_are_read_and_must_be_times() {
        let chain = chain(1);
        let of = |times: &[&str]| {
            let response = response(&[single(&id(&chain, HASHES[1]), &[GOOD, 0], times)]);
            judged(&response, &chain)
        };
        assert_eq!(of(&TIMES[..1]), Ok(Freshness { until: None, ..FRESH }));
        for odd in ["", "20260101000000", "2026010100000Z", "20261301000000Z", "2026-1-1000000Z"] {
            assert_eq!(of(&[odd]), Err(OcspError::Damaged), "{odd}");
        }
        assert_eq!(unix_time(b"19700101000000Z"), Some(0));
        assert_eq!(unix_time(b"20000229235959Z"), Some(951_868_799));
        assert_eq!(unix_time(b"20240301000000Z"), Some(1_709_251_200));
    }

    #[test]
    fn what_is_cut_or_changed_anywhere_is_an_error_and_no_panic() {
        let chain = chain(9);
        let whole = response(&[single(&id(&chain, HASHES[0]), &[GOOD, 0], &TIMES)]);
        for length in 0..whole.len() {
            assert!(judged(&whole[..length], &chain).is_err(), "{length}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            let _no_panic = judged(&changed, &chain);
        }
        assert_eq!(judged(&[0x30, 3, 0x0a, 1, 3], &chain), Err(OcspError::NoAnswer(3)));
        let trailing = [&whole[..], b"x"].concat();
        assert_eq!(judged(&trailing, &chain), Err(OcspError::Damaged));
        assert_eq!(judged(&whole, &[]), Err(OcspError::OtherCertificate));
    }
}
