//! Spans on their way to an OpenTelemetry collector.
//!
//! Workers hand over what is to be told of an exchange by a bounded queue ([`proxy::traces`]); a task on the
//! control runtime sends it on (`send`, `otlp`). What always holds: nobody waits for a collector; what it
//! does not take is counted and dropped; the queue outlives configurations, only its end is another one
//! after a reload.
//!
//! The part that speaks OTLP is behind the feature `otel`. Without it an endpoint is told of in the log and
//! nothing is recorded.

#[cfg(feature = "otel")]
mod otlp;
#[cfg(feature = "otel")]
mod send;

use config::model::Tracing;
use proxy::live::Live;
use proxy::log::ErrorLog;

/// Sends spans where the configuration says.
pub struct Exporter {
    #[cfg(feature = "otel")]
    sending: Option<send::Sending>,
    #[cfg(not(feature = "otel"))]
    log: ErrorLog,
}

/// Where spans are to be sent, ready to be used.
pub struct Prepared {
    #[cfg(feature = "otel")]
    collector: Option<send::Collector>,
    #[cfg(not(feature = "otel"))]
    endpoint: Option<String>,
}

impl Exporter {
    /// One that sends nothing yet. Snapshots that are compiled with `live` from now on record what it can
    /// send. Call on the control runtime.
    #[cfg(feature = "otel")]
    pub fn start(live: &Live, log: ErrorLog) -> Self {
        let counts = std::sync::Arc::default();
        let (sink, queue) = proxy::traces::spans(std::sync::Arc::clone(&counts));
        live.set_spans(Some(sink));
        Self { sending: Some(send::Sending::start(queue, counts, log)) }
    }

    /// One that can send nothing.
    #[cfg(not(feature = "otel"))]
    pub fn start(_: &Live, log: ErrorLog) -> Self {
        Self { log }
    }

    /// Makes ready what `tracing` says.
    ///
    /// # Errors
    /// The authorities that may vouch for the collector cannot be read.
    pub fn prepare(&self, tracing: &Tracing) -> Result<Prepared, String> {
        #[cfg(feature = "otel")]
        let prepared = {
            let ca_file = tracing.ca_file.as_deref();
            let collector = |endpoint| send::Collector::new(endpoint, ca_file, &tracing.service);
            Prepared { collector: tracing.endpoint.as_deref().map(collector).transpose()? }
        };
        #[cfg(not(feature = "otel"))]
        let prepared = Prepared { endpoint: tracing.endpoint.clone() };
        Ok(prepared)
    }

    /// From now on spans are sent there.
    pub fn set(&mut self, prepared: Prepared) {
        #[cfg(feature = "otel")]
        if let Some(sending) = &self.sending {
            sending.set(prepared.collector);
        }
        #[cfg(not(feature = "otel"))]
        if let Some(endpoint) = prepared.endpoint {
            self.log.warn(format_args!(
                "tracing: nothing is sent to {endpoint}: this Ravelin was built without the feature `otel`"
            ));
        }
    }

    /// Sends what is there and ends; a collector that does not answer is not waited for.
    pub async fn finish(&mut self) {
        #[cfg(feature = "otel")]
        if let Some(sending) = self.sending.take() {
            sending.finish().await;
        }
    }
}
