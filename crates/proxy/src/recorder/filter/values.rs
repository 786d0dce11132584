//! What a field is compared with: numbers, sizes, times, statuses, networks.

use std::net::IpAddr;

use config::size_unit;
use ipnet::IpNet;

/// Units of time, in microseconds.
const TIMES: &[(&str, u64)] = &[
    ("us", 1),
    ("ms", 1000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

/// A whole number.
pub(super) fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| "expected a whole number".to_owned())
}

/// Two numbers `a..b`, or one, as the range that they are; `one` reads each.
pub(super) fn range(
    word: &str,
    one: impl Fn(&str) -> Result<u64, String>,
) -> Result<(u64, u64), String> {
    match word.split_once("..") {
        None => one(word).map(|number| (number, number)),
        Some((from, to)) => {
            let (from, to) = (one(from)?, one(to.trim_start_matches('='))?);
            match from <= to {
                true => Ok((from, to)),
                false => Err("the first of a range is the smaller one".to_owned()),
            }
        }
    }
}

/// A status, or a class of them: `404`, `5xx`.
pub(super) fn status(word: &str) -> Result<(u64, u64), String> {
    let class = word.strip_suffix("xx").or_else(|| word.strip_suffix("XX"));
    match class.map(str::parse) {
        Some(Ok(class @ 1..=9)) => Ok((class * 100, class * 100 + 99)),
        _ => range(word, |word| match number(word) {
            Ok(status) if status < 1000 => Ok(status),
            _ => Err("expected a status such as 404, or a class such as 5xx".to_owned()),
        }),
    }
}

/// A number of bytes: `512`, `10KB`, `1MiB`; each step is 1024, however it is spelt.
pub(super) fn bytes(word: &str) -> Result<u64, String> {
    let (number, unit) = split(word).ok_or("expected a size such as 512, 10KB or 1MB")?;
    scaled(number, size_unit(unit)?)
}

/// A time in microseconds: `250ms`, `1.5s`.
pub(super) fn time(word: &str) -> Result<u64, String> {
    let (number, unit) = split(word).ok_or("expected a time such as 250ms or 1.5s")?;
    if unit.is_empty() {
        return Err(format!("a unit is missing: {number}ms if milliseconds are meant"));
    }
    let unit = if unit == "µs" || unit == "μs" { "us" } else { unit };
    let scale = TIMES.iter().find(|(name, _)| *name == unit);
    let Some((_, scale)) = scale else {
        return Err(format!("`{unit}` is no unit of time; there are us, ms, s, m, h and d"));
    };
    scaled(number, *scale)
}

/// A network, or an address, which is the smallest network with it.
pub(super) fn net(word: &str) -> Result<IpNet, String> {
    let net = word.parse().map(|net: IpNet| net.trunc());
    let net = net.or_else(|_| word.parse().map(|ip: IpAddr| IpNet::from(ip.to_canonical())));
    net.map_err(|_| "expected an address or a network such as 10.0.0.0/8".to_owned())
}

/// Digits with at most one point among them, and the letters behind them.
fn split(word: &str) -> Option<(&str, &str)> {
    let end = word.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(word.len());
    let (number, unit) = word.split_at_checked(end)?;
    number.starts_with(|c: char| c.is_ascii_digit()).then_some((number, unit))
}

fn scaled(number: &str, scale: u64) -> Result<u64, String> {
    const TOO_LARGE: &str = "the number is too large";
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().map_err(|_| TOO_LARGE)?;
    let whole = whole.checked_mul(scale).ok_or(TOO_LARGE)?;
    if part.is_empty() {
        return Ok(whole);
    }
    if part.len() > 9 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("expected a number with at most nine digits behind its point".to_owned());
    }
    let of = 10u64.pow(part.len() as u32);
    let part: u64 = part.parse().map_err(|_| TOO_LARGE)?;
    let part = u128::from(part) * u128::from(scale) / u128::from(of);
    whole.checked_add(u64::try_from(part).unwrap_or(u64::MAX)).ok_or_else(|| TOO_LARGE.to_owned())
}
