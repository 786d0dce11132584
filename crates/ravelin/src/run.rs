//! `ravelin run`: serve a configuration until told to stop.

use std::time::Duration;

use control::history::Texts;

use crate::cli::{Common, RunArguments};
use crate::configuration::{self, Source};
use crate::service::{Configuration, Service};
use crate::terminal::Failure;

/// After SIGTERM requests under way may take this long. Process supervisors kill after 30 s
/// (Kubernetes) to 90 s (systemd), so that waiting longer would not help.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Serves; returns when everything has ended in order.
pub(crate) fn run(arguments: &RunArguments, common: &Common) -> Result<(), Failure> {
    let source = Source::new(&arguments.config, common);
    let files = source.texts()?;
    let loaded = source.load(&files);
    let texts = Texts::new(files, Some(&loaded.sources));
    let model = configuration::model_to_serve(loaded, common)?;
    let configuration = Configuration { model, texts, source };
    let runtime = crate::service::control_runtime()?;
    let service = runtime.block_on(Service::start(configuration))?;
    runtime.block_on(service.until_stopped(DRAIN_MAX));
    // A name look-up that hangs must not hold up the end.
    runtime.shutdown_background();
    Ok(())
}
