//! One order (RFC 8555 §7.4): prove every name, then get the certificate.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationHandle, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error,
    Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use net::tls::{Identity, acme_server_config};
use proxy::challenges::{self, Challenges, Offer};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use super::client::Refusal;
use super::failure::{self, Failure, Remedy};
use super::store;

/// How often the authority is asked whether it has finished a step, and how long it may take.
const POLL: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(180));

/// How control of a name is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// A file at port 80 (RFC 8555 §8.3).
    Http01,
    /// A certificate at port 443 (RFC 8737).
    TlsAlpn01,
}

/// What is ordered.
pub(super) struct Request<'a> {
    /// DNS names and IP addresses in the certificate.
    pub(super) names: &'a [String],
    /// The authority's profile.
    pub(super) profile: Option<&'a str>,
    /// The certificate that the new one replaces, for authorities that want to know (RFC 9773 §5).
    pub(super) replaces: Option<CertificateIdentifier<'a>>,
    /// How to prove names where both methods are offered.
    pub(super) first: Method,
    /// Names to prove by the other method, since the first has failed.
    pub(super) otherwise: &'a HashSet<String>,
    /// Directory for challenge files.
    pub(super) challenge_dir: Option<&'a Path>,
}

impl Request<'_> {
    /// How to prove this name.
    fn method(&self, name: &str) -> Method {
        // TLS-ALPN-01 wants a name to ask for; for addresses that is one made up (RFC 8738 §6).
        match name.parse::<IpAddr>().is_ok() {
            true => Method::Http01,
            false if self.otherwise.contains(name) => self.first.other(),
            false => self.first,
        }
    }
}

/// What the authority gave.
pub(super) struct Issued {
    /// PEM, leaf first.
    pub(super) chain: String,
    /// PEM, PKCS#8.
    pub(super) key: String,
}

/// Orders a certificate and waits for it.
pub(super) async fn obtain(
    account: &Account,
    request: Request<'_>,
    challenges: &Arc<Challenges>,
) -> Result<Issued, Failure> {
    check_profile(account, request.profile)?;
    let mut order = place(account, &request).await?;
    // Answers are given until the order is done with; dropping them ends that.
    let mut answers = Vec::new();
    let proved = prove(&mut order, &request, challenges, &mut answers).await;
    drop(answers);
    proved?;
    collect(&mut order, request.names).await
}

fn check_profile(account: &Account, profile: Option<&str>) -> Result<(), Failure> {
    let Some(profile) = profile else { return Ok(()) };
    let offered: Vec<&str> = account.profiles().map(|offer| offer.name).collect();
    if offered.contains(&profile) {
        return Ok(());
    }
    let advice = if offered.is_empty() {
        "this authority has no profiles: take `profile` out of `[sites.ssl.acme]`".to_owned()
    } else {
        format!("`profile` in `[sites.ssl.acme]` can be: {}", offered.join(", "))
    };
    Err(Failure::new(format!("the authority has no profile \"{profile}\""), advice))
}

async fn place(account: &Account, request: &Request<'_>) -> Result<Order, Failure> {
    let identifiers: Vec<Identifier> = request.names.iter().map(|name| identifier(name)).collect();
    let order = || {
        let order = NewOrder::new(&identifiers);
        match request.profile {
            Some(profile) => order.profile(profile),
            None => order,
        }
    };
    let failed = |error| Failure::of("order", &error);
    if let Some(replaces) = request.replaces.clone() {
        match account.new_order(&order().replaces(replaces)).await {
            // Without the hint the order may still be taken: the certificate may count as replaced
            // already (RFC 9773 §5), or the authority may not follow the hint.
            Err(Error::Unsupported(_)) => {}
            Err(Error::Api(problem)) if hint_refused(failure::kind(&problem)) => {}
            // The library's own: the order does not repeat the hint.
            Err(Error::Other(error)) if !error.is::<Refusal>() => {}
            placed => return placed.map_err(failed),
        }
    }
    account.new_order(&order()).await.map_err(failed)
}

fn hint_refused(kind: &str) -> bool {
    matches!(kind, "alreadyReplaced" | "malformed" | "unauthorized" | "conflict")
}

fn identifier(name: &str) -> Identifier {
    match name.parse::<IpAddr>() {
        Ok(address) => Identifier::Ip(address),
        Err(_) => Identifier::Dns(name.to_owned()),
    }
}

/// Answers a challenge for each name that is not proved yet and waits for the authority's verdict.
async fn prove(
    order: &mut Order,
    request: &Request<'_>,
    challenges: &Arc<Challenges>,
    answers: &mut Vec<Answer>,
) -> Result<(), Failure> {
    let failed = |error| Failure::of("order", &error);
    let mut tried = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(failed)?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => {
                let name = authorization.identifier();
                let what = format!("the authority holds the proof for {name} to be {status:?}");
                return Err(Failure { remedy: Remedy::Again, ..Failure::new(what, "") });
            }
        }
        let name = authorization.identifier().to_string();
        let method = choose(&authorization, request.method(&name))?;
        let kind = method.challenge_type();
        let Some(mut challenge) = authorization.challenge(kind) else { continue };
        let secret = challenge.key_authorization();
        let answer = match method {
            Method::Http01 => {
                Answer::http(&challenge.token, secret.as_str(), request.challenge_dir, challenges)?
            }
            Method::TlsAlpn01 => Answer::tls(&name, secret.as_str(), challenges)?,
        };
        answers.push(answer);
        tried.push((name, method));
        challenge.set_ready().await.map_err(|error| Failure::of("challenge", &error))?;
    }
    match order.poll_ready(&POLL).await {
        Ok(OrderStatus::Ready) => Ok(()),
        Err(error @ Error::Timeout(_)) => Err(failed(error)),
        verdict => {
            let refused = refusals(order, &tried).await;
            Err(match (refused.is_empty(), verdict) {
                (false, _) => Refused::failure(&refused, request.otherwise),
                (true, Err(error)) => failed(error),
                (true, Ok(status)) => Failure::new(format!("the order is {status:?}"), ""),
            })
        }
    }
}

/// The method that is wanted if it is offered, else the other.
fn choose(authorization: &AuthorizationHandle<'_>, wanted: Method) -> Result<Method, Failure> {
    let offered = |method: Method| {
        let kind = method.challenge_type();
        authorization.challenges.iter().any(|challenge| challenge.r#type == kind)
    };
    match (offered(Method::Http01), offered(Method::TlsAlpn01)) {
        (true, true) => Ok(wanted),
        (true, false) => Ok(Method::Http01),
        (false, true) => Ok(Method::TlsAlpn01),
        (false, false) => {
            let name = authorization.identifier();
            Err(Failure::new(
                format!("the authority takes neither http-01 nor tls-alpn-01 as proof for {name}"),
                "names with `*` need dns-01, which Ravelin does not do: list the names one by one, or \
                 get that certificate by other means and use `cert_file`",
            ))
        }
    }
}

/// What was refused and why, as the authority tells it.
async fn refusals(order: &mut Order, tried: &[(String, Method)]) -> Vec<Refused> {
    let mut refused = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.refresh().await.is_err() {
            continue;
        }
        let name = authorization.identifier().to_string();
        let Some((_, method)) = tried.iter().find(|(tried, _)| *tried == name) else { continue };
        let kind = method.challenge_type();
        let problem = authorization.challenges.iter().find_map(|challenge| {
            (challenge.r#type == kind).then_some(challenge.error.as_ref()).flatten()
        });
        if let Some(problem) = problem {
            let (kind, reason) = (failure::kind(problem).to_owned(), failure::said(problem));
            refused.push(Refused { name, method: *method, kind, reason });
        }
    }
    refused
}

/// A name the authority did not believe.
struct Refused {
    name: String,
    method: Method,
    /// Type of the problem.
    kind: String,
    reason: String,
}

impl Refused {
    /// All of them as one failure; those that have been tried by one method only can be proved by the
    /// other.
    fn failure(all: &[Self], otherwise: &HashSet<String>) -> Failure {
        let told = |one: &Self| {
            format!(
                "the authority refuses the proof for {} by {}: {}",
                one.name, one.method, one.reason
            )
        };
        let what: Vec<String> = all.iter().map(told).collect();
        let advice = all.first().map_or("", |one| failure::advice(&one.kind));
        let other: Vec<String> = all
            .iter()
            .filter(|one| !otherwise.contains(&one.name))
            .filter(|one| one.name.parse::<IpAddr>().is_err())
            .map(|one| one.name.clone())
            .collect();
        let failure = Failure::new(what.join("; "), advice);
        if other.len() < all.len() {
            return failure;
        }
        Failure { remedy: Remedy::OtherMethod(other), ..failure }
    }
}

/// Sends the request for the certificate and fetches it.
async fn collect(order: &mut Order, names: &[String]) -> Result<Issued, Failure> {
    let ours = |error: rcgen::Error| Failure::new(format!("no key or request made: {error}"), "");
    let mut parameters = CertificateParams::new(names.to_vec()).map_err(ours)?;
    parameters.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate().map_err(ours)?;
    let request = parameters.serialize_request(&key).map_err(ours)?;
    let failed = |error| Failure::of("certificate", &error);
    order.finalize_csr(request.der()).await.map_err(failed)?;
    let chain = order.poll_certificate(&POLL).await.map_err(failed)?;
    Ok(Issued { chain, key: key.serialize_pem() })
}

/// An answer to a challenge, given as long as this lives.
struct Answer {
    _offer: Offer,
    file: Option<PathBuf>,
}

impl Answer {
    fn http(
        token: &str,
        key_authorization: &str,
        directory: Option<&Path>,
        challenges: &Arc<Challenges>,
    ) -> Result<Self, Failure> {
        // RFC 8555 §8.3: base64url. It becomes part of a path here.
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if token.is_empty() || token.len() > 256 || !token.bytes().all(fits) {
            return Err(Failure::new("the authority gave a token that is not base64url", ""));
        }
        // Made here it would hide that the web server reads another one.
        if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
            return Err(Failure::new(
                format!("`challenge_dir` {} is not a directory", directory.display()),
                "name, or make, the directory that the web server in Ravelin's place reads, or leave \
                 `challenge_dir` out",
            ));
        }
        let offer = challenges.offer_http(token, key_authorization).map_err(too_many)?;
        let file = directory
            .map(|directory| directory.join(challenges::PATH.trim_matches('/')).join(token));
        if let Some(file) = &file {
            write_challenge(file, key_authorization).map_err(|error| {
                Failure::new(
                    format!("challenge file {} cannot be written: {error}", file.display()),
                    "let the user that runs Ravelin write to `challenge_dir`, or leave it out",
                )
            })?;
        }
        Ok(Self { _offer: offer, file })
    }

    fn tls(
        name: &str,
        key_authorization: &str,
        challenges: &Arc<Challenges>,
    ) -> Result<Self, Failure> {
        let unmade = |error: &dyn fmt::Display| {
            Failure::new(format!("no certificate for tls-alpn-01: {error}"), "")
        };
        let identity =
            Identity::acme_tls_alpn(name, key_authorization).map_err(|error| unmade(&error))?;
        let config = acme_server_config(identity).map_err(|error| unmade(&error))?;
        let offer = challenges.offer_tls(name, config).map_err(too_many)?;
        Ok(Self { _offer: offer, file: None })
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // It is of no use to anybody any more; if it stays it does no harm.
            let _left = store::remove(file);
        }
    }
}

/// A challenge is no secret, and the web server that reads it may run as another user.
fn write_challenge(file: &Path, key_authorization: &str) -> std::io::Result<()> {
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory)?;
    }
    store::replace(file, key_authorization.as_bytes(), 0o644)
}

fn too_many(error: challenges::TooMany) -> Failure {
    Failure::new(error.to_string(), "")
}

impl Method {
    /// The method that is left.
    pub(super) fn other(self) -> Self {
        match self {
            Self::Http01 => Self::TlsAlpn01,
            Self::TlsAlpn01 => Self::Http01,
        }
    }

    fn challenge_type(self) -> ChallengeType {
        match self {
            Self::Http01 => ChallengeType::Http01,
            Self::TlsAlpn01 => ChallengeType::TlsAlpn01,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        })
    }
}
