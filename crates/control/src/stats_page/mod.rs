//! The stats page: the numbers of all sites, pools and endpoints on one page without scripts, at an
//! address of its own, as HAProxy has one.
//!
//! Behind the page's address, `;csv` is the same as CSV, `;json` as JSON, `;norefresh` the page that is
//! not loaded again, `;up` the page without what is down.
//!
//! What always holds: only the users of the configuration in force see anything, if it has some;
//! passwords are compared in constant time; endpoints are steered by forms of the page itself only, and
//! only if the configuration allows it; a page of another name that leads here sees nothing on a machine's own
//! address, nor where endpoints can be steered.

mod form;
mod page;

use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;

use aws_lc_rs::{constant_time, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use config::model::StatsPage;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap,
    HeaderName, HeaderValue, LOCATION, REFERRER_POLICY, REFRESH, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::admin::places::{Asked, Seat};
use crate::admin::{Running, bounds, gate};
use crate::text_commands::stat::{self, Form};

/// Longest form: it names endpoints of one pool.
const FORM_MAX: usize = 64 * 1024;

/// The page loads its own style and nothing else, and forms go nowhere else.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; \
     base-uri 'none'; frame-ancestors 'none'";

type Answer = Response<Full<Bytes>>;

/// The addresses of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    /// The client's.
    pub(crate) peer: IpAddr,
    /// This machine's.
    pub(crate) local: IpAddr,
}

/// Answers requests until the connection ends.
pub(crate) async fn serve<S>(running: Running, ends: Ends, stream: S, seat: Rc<Seat>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let running = Rc::new(running);
    let service = service_fn(move |request| {
        let (running, asked) = (Rc::clone(&running), seat.ask());
        async move {
            let answer = answer(&running, ends, request, &asked).await;
            Ok::<_, Infallible>(answer.map(|body| asked.answering(body)))
        }
    });
    let connection = bounds::http().serve_connection(TokioIo::new(stream), service);
    // That a client breaks off is its own affair.
    let _ = connection.await;
}

async fn answer(
    running: &Running,
    ends: Ends,
    request: Request<Incoming>,
    asked: &Asked,
) -> Answer {
    let (settings, hosts) = {
        let management = &running.model.borrow().management;
        (management.stats.clone(), management.allowed_hosts.clone())
    };
    let Some(settings) = settings else { return plain(StatusCode::NOT_FOUND, "") };
    if let Err(reason) = known_host(&settings, &hosts, ends.local, request.headers()) {
        return plain(StatusCode::MISDIRECTED_REQUEST, &reason);
    }
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let Some(options) = behind(target, &settings.uri) else {
        let uri = &settings.uri;
        return plain(StatusCode::NOT_FOUND, &format!("the stats page is at {uri}\n"));
    };
    let options = Options::new(options);
    let Some(user) = user(&settings, request.headers()) else { return unauthorized() };
    match *request.method() {
        Method::GET | Method::HEAD => {
            asked.is_whole();
            shown(running, &settings, options).await
        }
        Method::POST => {
            let done = post(running, &settings, &user, ends.peer, request).await;
            let location = format!("{};st={}", settings.uri, done.code());
            let mut answer = plain(StatusCode::SEE_OTHER, "");
            put(&mut answer, LOCATION, &location);
            answer
        }
        _ => {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "");
            put(&mut answer, ALLOW, "GET, HEAD, POST");
            answer
        }
    }
}

/// Whether `Host` is a name of this server, as at the admin API: a page whose name was made to lead here has
/// its own. Where nothing can be changed, and it is not for this machine alone, every name is.
fn known_host(
    settings: &StatsPage,
    allowed: &[String],
    local: IpAddr,
    fields: &HeaderMap,
) -> Result<(), String> {
    if !settings.admin && !local.to_canonical().is_loopback() {
        return Ok(());
    }
    // Browsers always say it, and once; what else asks need not.
    let mut hosts = fields.get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let unknown = hosts.find(|host| !gate::is_known(host, allowed, local));
    unknown.map_or(Ok(()), |host| Err(format!("{}\n", gate::unknown(host))))
}

/// What stands in a target behind the page's own.
fn behind<'t>(target: &'t str, uri: &str) -> Option<&'t str> {
    let rest = target.strip_prefix(uri)?;
    (rest.is_empty() || rest.starts_with([';', '&', '?'])).then_some(rest)
}

/// What of the page is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Options<'a> {
    form: Option<Form>,
    style: bool,
    no_refresh: bool,
    up: bool,
    /// How the last form ended.
    done: Option<&'a str>,
}

impl<'a> Options<'a> {
    fn new(text: &'a str) -> Self {
        let mut options = Self::default();
        for word in text.split([';', '&', '?']) {
            match word {
                "csv" => options.form = Some(Form::Csv),
                "json" => options.form = Some(Form::Json),
                "typed" => options.form = Some(Form::Typed),
                "css" => options.style = true,
                "norefresh" => options.no_refresh = true,
                "up" => options.up = true,
                _ => options.done = word.strip_prefix("st=").or(options.done),
            }
        }
        options
    }
}

async fn shown(running: &Running, settings: &StatsPage, options: Options<'_>) -> Answer {
    if options.style {
        let mut answer = whole("text/css; charset=utf-8", page::STYLE.into());
        put(&mut answer, CACHE_CONTROL, "max-age=300");
        return answer;
    }
    let mut answer = match options.form {
        Some(form) => {
            let media_type =
                if form == Form::Json { "application/json" } else { "text/plain; charset=utf-8" };
            whole(media_type, stat::all(running, form).await)
        }
        None => whole("text/html; charset=utf-8", page::render(running, settings, options).await),
    };
    if let (Some(refresh), false) = (settings.refresh, options.no_refresh) {
        put(&mut answer, REFRESH, &refresh.as_secs().max(1).to_string());
    }
    answer
}

/// Carries out what a form says.
async fn post(
    running: &Running,
    settings: &StatsPage,
    user: &str,
    peer: IpAddr,
    request: Request<Incoming>,
) -> form::Done {
    if !settings.admin || !is_own(request.headers()) {
        return form::Done::Denied;
    }
    let body = Limited::new(request.into_body(), FORM_MAX).collect();
    match timeout(bounds::BODY_TIME, body).await {
        Ok(Ok(body)) => form::carry_out(running, user, peer, &body.to_bytes()),
        Ok(Err(_)) => form::Done::TooLong,
        Err(_) => form::Done::Unknown,
    }
}

/// The form is one of this page: browsers say where a form was.
fn is_own(fields: &HeaderMap) -> bool {
    let text = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
    let site = text("sec-fetch-site").is_none_or(|site| site == "same-origin");
    let host = text("host").unwrap_or_default();
    let origin = text("origin").is_none_or(|origin| {
        origin.split_once("://").is_some_and(|(_, authority)| authority == host)
    });
    site && origin
}

/// The user who asks, if it is one who may; nobody in particular where everybody may.
fn user(settings: &StatsPage, fields: &HeaderMap) -> Option<String> {
    if settings.auth.is_empty() {
        return Some("anybody".to_owned());
    }
    let value = fields.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let pair = STANDARD.decode(rest.trim()).ok()?;
    let digest = |bytes: &[u8]| digest::digest(&digest::SHA256, bytes);
    let given = digest(&pair);
    let mut found = None;
    // All of them, so that it does not tell which come close.
    for (name, password) in &settings.auth {
        let pair = [name.as_bytes(), b":", &password.0].concat();
        let same = constant_time::verify_slices_are_equal(given.as_ref(), digest(&pair).as_ref());
        if same.is_ok() {
            found = Some(name.clone());
        }
    }
    found.filter(|_| scheme.eq_ignore_ascii_case("basic"))
}

fn unauthorized() -> Answer {
    let text = "<html><body><h1>401 Unauthorized</h1>\nYou need a valid user and password to \
                access this content.\n</body></html>\n";
    let mut answer = whole("text/html", text.to_owned());
    *answer.status_mut() = StatusCode::UNAUTHORIZED;
    put(&mut answer, WWW_AUTHENTICATE, "Basic realm=\"HAProxy Statistics\"");
    answer
}

fn plain(status: StatusCode, text: &str) -> Answer {
    let mut answer = whole("text/plain; charset=utf-8", text.to_owned());
    *answer.status_mut() = status;
    answer
}

fn whole(media_type: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    let fields = answer.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, media_type),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "same-origin"),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn put(answer: &mut Answer, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use config::model::SecretBytes;

    use super::*;

    fn settings(auth: &[(&str, &str)]) -> StatsPage {
        let user = |(name, password): &(&str, &str)| {
            ((*name).to_owned(), SecretBytes(password.as_bytes().to_vec()))
        };
        StatsPage {
            listen: "127.0.0.1:8404".parse().unwrap(),
            uri: "/haproxy?stats".to_owned(),
            refresh: None,
            auth: auth.iter().map(user).collect(),
            admin: false,
        }
    }

    fn fields(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )])
    }

    #[test]
    fn the_page_is_at_its_address_with_options_behind_it() {
        let rest = |target| behind(target, "/haproxy?stats");
        assert_eq!(rest("/haproxy?stats"), Some(""));
        assert_eq!(rest("/haproxy?stats;csv"), Some(";csv"));
        assert_eq!(rest("/haproxy?statistics"), None);
        assert_eq!(rest("/haproxy"), None);
        assert_eq!(Options::new(";csv").form, Some(Form::Csv));
        assert_eq!(Options::new(";json;norefresh").form, Some(Form::Json));
        assert!(Options::new(";norefresh;up").no_refresh && Options::new(";norefresh;up").up);
        assert_eq!(Options::new(";st=DONE").done, Some("DONE"));
        assert_eq!(Options::new(";nonsense"), Options::default());
    }

    #[test]
    fn only_users_of_the_configuration_are_let_in() {
        let settings = settings(&[("admin", "changeme"), ("ops", "a:b")]);
        let ask = |value: &str| user(&settings, &fields("authorization", value));
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert_eq!(ask(&basic("admin:changeme")).as_deref(), Some("admin"));
        assert_eq!(ask(&basic("ops:a:b")).as_deref(), Some("ops"));
        assert_eq!(
            ask(&basic("admin:changeme").replace("Basic", "basic")).as_deref(),
            Some("admin")
        );
        for pair in ["admin:changem", "admin:changeme2", "admin", "", ":", "ops:changeme"] {
            assert_eq!(ask(&basic(pair)), None, "{pair}");
        }
        assert_eq!(ask(&basic("admin:changeme").replace("Basic", "Bearer")), None);
        assert_eq!(ask("Basic ???"), None);
        assert_eq!(user(&settings, &HeaderMap::new()), None);
        assert!(user(&self::settings(&[]), &HeaderMap::new()).is_some());
    }

    #[test]
    fn names_that_lead_here_are_looked_at_where_it_matters() {
        let own = ["Stats.example.com".to_owned()];
        let answered = |admin, local: &str, host: &str| {
            let settings = StatsPage { admin, ..settings(&[]) };
            let fields = fields("host", host);
            known_host(&settings, &own, local.parse().unwrap(), &fields).is_ok()
        };
        for (host, here, there) in [
            ("127.0.0.1:8404", true, false),
            ("localhost:8404", true, false),
            ("10.0.0.7:8404", false, true),
            ("stats.example.com", true, true),
            ("evil.example", false, false),
        ] {
            assert_eq!(answered(false, "127.0.0.1", host), here, "{host}");
            assert_eq!(answered(true, "127.0.0.1", host), here, "{host}");
            assert_eq!(answered(true, "10.0.0.7", host), there, "{host}");
            assert!(answered(false, "10.0.0.7", host), "{host}");
        }
        let local = "127.0.0.1".parse().unwrap();
        assert!(known_host(&settings(&[]), &own, local, &HeaderMap::new()).is_ok(), "no browser");
    }

    #[test]
    fn forms_of_other_pages_are_not_taken() {
        let mut own = fields("host", "127.0.0.1:8404");
        assert!(is_own(&own), "curl");
        own.insert("origin", HeaderValue::from_static("http://127.0.0.1:8404"));
        own.insert("sec-fetch-site", HeaderValue::from_static("same-origin"));
        assert!(is_own(&own));
        for (name, value) in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let mut other = own.clone();
            other.insert(name, HeaderValue::from_static(value));
            assert!(!is_own(&other), "{name}: {value}");
        }
    }
}
