//! A check made ready to be carried out again and again.

use bytes::Bytes;
use config::model::{HealthCheck, Probe, Transport, UpstreamHttp, UpstreamTls};
use net::tls::ClientConfig;
use proxy::live::Endpoint;
use tokio::time::timeout;

use super::connect::Progress;
use super::http::Question;
use super::{grpc, http, tcp, tls, websocket};

/// A check of one endpoint.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) check: HealthCheck,
    work: Work,
    tls: Option<ClientConfig>,
}

#[derive(Debug)]
enum Work {
    Tcp,
    Tls,
    Http(Question),
    Grpc(Bytes),
    WebSocket(Question),
    /// The settings are of no use; every probe fails for this reason.
    Impossible(String),
}

impl Prepared {
    /// Makes `check` ready for an endpoint to which traffic goes with `tls`.
    pub(super) fn new(
        check: &HealthCheck,
        transport: &Transport,
        tls: Option<&ClientConfig>,
    ) -> Self {
        let prepared = Work::new(&check.probe)
            .and_then(|work| Ok((work, settings(&check.probe, transport, tls)?)));
        let (work, tls) = prepared.unwrap_or_else(|reason| (Work::Impossible(reason), None));
        Self { check: check.clone(), work, tls }
    }

    /// Carries it out once, within its time.
    ///
    /// # Errors
    /// Why the endpoint has not passed, in words.
    pub(super) async fn run(&self, endpoint: &Endpoint) -> Result<(), String> {
        let progress = Progress::new();
        let limit = self.check.timeout;
        timeout(limit, self.run_unlimited(endpoint, &progress))
            .await
            .unwrap_or_else(|_| Err(format!("not done within {limit:?}, {}", progress.phase())))
    }

    async fn run_unlimited(&self, endpoint: &Endpoint, progress: &Progress) -> Result<(), String> {
        let (port, tls) = (self.check.port, self.tls.as_ref());
        match &self.work {
            Work::Tcp => tcp::probe(endpoint, port, progress).await,
            Work::Tls => tls::probe(endpoint, port, tls, progress).await,
            Work::Http(question) => http::probe(question, endpoint, port, tls, progress).await,
            Work::Grpc(message) => grpc::probe(message, endpoint, port, tls, progress).await,
            Work::WebSocket(question) => {
                websocket::probe(question, endpoint, port, tls, progress).await
            }
            Work::Impossible(reason) => Err(reason.clone()),
        }
    }
}

impl Work {
    fn new(probe: &Probe) -> Result<Self, String> {
        Ok(match probe {
            Probe::Tcp => Self::Tcp,
            Probe::Tls => Self::Tls,
            Probe::Http(probe) => Self::Http(Question::new(probe)?),
            Probe::Grpc(service) => Self::Grpc(grpc::message(service)),
            Probe::WebSocket(probe) => Self::WebSocket(Question::new(probe)?),
        })
    }
}

/// The TLS that a probe speaks: that of traffic, but for the version of HTTP that the probe needs.
fn settings(
    probe: &Probe,
    transport: &Transport,
    traffic: Option<&ClientConfig>,
) -> Result<Option<ClientConfig>, String> {
    let version = match probe {
        Probe::Grpc(_) => UpstreamHttp::Http2,
        Probe::WebSocket(_) => UpstreamHttp::Http1,
        Probe::Tcp | Probe::Tls | Probe::Http(_) => transport.http,
    };
    let settings = match (&transport.tls, probe) {
        (Some(settings), _) => settings.clone(),
        // Traffic has none: a certificate of an authority that this system trusts is asked for.
        (None, Probe::Tls) => {
            UpstreamTls { verify: true, ca_file: None, server_name: None, client_certificate: None }
        }
        (None, _) => return Ok(None),
    };
    match traffic.filter(|_| version == transport.http) {
        Some(traffic) => Ok(Some(traffic.clone())),
        None => ClientConfig::new(&settings, version).map(Some).map_err(|error| error.to_string()),
    }
}
