//! Spans on their way to an OpenTelemetry collector.
//!
//! Workers hand over what is to be told of an exchange by a bounded queue ([`proxy::traces`]); a task on the
//! control runtime sends it on ([`otlp`]). What always holds: nobody waits for a collector; what it
//! does not take is counted and dropped.
//!
//! The part that speaks OTLP is behind the feature `otel`. Without it an endpoint is told of in the log and
//! nothing is sent.

#[cfg(feature = "otel")]
mod otlp;
#[cfg(feature = "otel")]
mod send;

use std::sync::Arc;

use config::model::Tracing;
use proxy::live::Live;
use proxy::log::ErrorLog;
use proxy::traces::SpanCounts;

/// Sends spans where the configuration says.
pub struct Exporter {
    log: ErrorLog,
    counts: Arc<SpanCounts>,
    /// What is in force.
    tracing: Tracing,
    #[cfg(feature = "otel")]
    sending: Option<send::Sending>,
}

impl Exporter {
    /// One that sends nothing yet.
    pub fn new(log: ErrorLog) -> Self {
        Self {
            log,
            counts: Arc::default(),
            tracing: Tracing::default(),
            #[cfg(feature = "otel")]
            sending: None,
        }
    }

    /// What `tracing` says holds for the snapshots that are compiled with `live` from now on. Call on the
    /// control runtime.
    ///
    /// # Errors
    /// The authorities for the collector cannot be read; nothing changes then.
    pub fn set(&mut self, tracing: &Tracing, live: &Live) -> Result<(), String> {
        let same = |one: &Tracing| (one.endpoint.clone(), one.ca_file.clone(), one.service.clone());
        if same(tracing) != same(&self.tracing) {
            self.begin(tracing, live)?;
        }
        self.tracing = tracing.clone();
        Ok(())
    }

    #[cfg(not(feature = "otel"))]
    fn begin(&mut self, tracing: &Tracing, _: &Live) -> Result<(), String> {
        if let Some(endpoint) = &tracing.endpoint {
            self.log.warn(format_args!(
                "tracing: nothing is sent to {endpoint}: this Ravelin was built without the feature `otel`"
            ));
        }
        let _ = &self.counts;
        Ok(())
    }

    /// The task before ends when the last snapshot that knows it is gone, and has sent everything then.
    #[cfg(feature = "otel")]
    fn begin(&mut self, tracing: &Tracing, live: &Live) -> Result<(), String> {
        let Some(endpoint) = &tracing.endpoint else {
            live.set_spans(None);
            self.sending = None;
            return Ok(());
        };
        let (sink, queue) = proxy::traces::spans(Arc::clone(&self.counts));
        let ca_file = tracing.ca_file.as_deref();
        let collector = send::Collector::new(endpoint, ca_file, &tracing.service)?;
        let (counts, log) = (Arc::clone(&self.counts), self.log.clone());
        self.sending = Some(send::Sending::start(collector, queue, counts, log));
        live.set_spans(Some(sink));
        Ok(())
    }

    /// Sends what is there and ends; a collector that does not answer is not waited for.
    pub async fn finish(&mut self) {
        #[cfg(feature = "otel")]
        if let Some(sending) = self.sending.take() {
            sending.finish().await;
        }
    }
}
