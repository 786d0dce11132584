//! `ravelin run`: serve a configuration until told to stop.

use std::time::Duration;

use crate::cli::{Common, RunArguments};
use crate::configuration;
use crate::service::Service;
use crate::terminal::Failure;

/// After SIGTERM requests under way may take this long. Process supervisors kill after 30 s
/// (Kubernetes) to 90 s (systemd), so that waiting longer would not help.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Serves; returns when everything has ended in order.
pub(crate) fn run(arguments: &RunArguments, common: &Common) -> Result<(), Failure> {
    let loaded = configuration::load(&arguments.config, common)?;
    let model = configuration::model_to_serve(loaded, common)?;
    let runtime = crate::service::control_runtime()?;
    let service = runtime.block_on(Service::start(&model))?;
    runtime.block_on(service.until_stopped(DRAIN_MAX));
    // A name look-up that hangs must not hold up the end.
    runtime.shutdown_background();
    Ok(())
}
