//! `ravelin run`: serve a configuration until told to stop.

use std::time::Duration;

use config::Model;
use control::history::Texts;
use net::worker::worker_count;
use proxy::listener::addresses;

use crate::cli::{Common, RunArguments};
use crate::configuration::{self, Source};
use crate::expectations;
use crate::privileges;
use crate::service::{Configuration, Service};
use crate::terminal::Failure;
use crate::upgrade::{Inheritance, Program};

/// After SIGTERM requests under way may take this long. Process supervisors kill after 30 s
/// (Kubernetes) to 90 s (systemd), so that waiting longer would not help.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Serves; returns when everything has ended in order.
pub(crate) fn run(arguments: &RunArguments, common: &Common) -> Result<(), Failure> {
    // Before anything can change what it finds.
    let program = Program::running().ok();
    let mut inheritance = Inheritance::take()?;
    let mut findings = String::new();
    let done = serve(arguments, common, program, &mut inheritance, &mut findings);
    if let Err(failure) = &done {
        inheritance.failed(failure, &findings);
    }
    done
}

fn serve(
    arguments: &RunArguments,
    common: &Common,
    program: Option<Program>,
    inheritance: &mut Inheritance,
    findings: &mut String,
) -> Result<(), Failure> {
    let source = Source::new(&arguments.config, common);
    let files = source.texts()?;
    let loaded = source.load(&files);
    if loaded.model.is_none() {
        *findings = loaded.render(false);
    }
    let texts = Texts::new(files, Some(&loaded.sources));
    let sources = loaded.sources.clone();
    let model = configuration::model_to_serve(loaded, common)?;
    give_up_privileges(&model, inheritance)?;
    expectations::insist(&model, sources, common, findings)?;
    let configuration = Configuration { model, texts, source };
    let runtime = crate::service::control_runtime()?;
    runtime.block_on(async {
        let mut service = Service::start(configuration, inheritance).await?;
        service.take_over(inheritance, program).await;
        service.until_stopped(DRAIN_MAX).await;
        Ok::<(), Failure>(())
    })?;
    // A name look-up that hangs must not hold up the end.
    runtime.shutdown_background();
    Ok(())
}

/// Binds while there is the right to, and gives it up. No thread has been started yet.
fn give_up_privileges(model: &Model, inheritance: &mut Inheritance) -> Result<(), Failure> {
    if privileges::are_given_up(&model.process) {
        let workers = worker_count(model.performance.worker_threads);
        for (listen, backlog) in addresses(model) {
            inheritance.stock.prepare(&listen, workers, backlog);
        }
    }
    privileges::give_up(&model.process)
}
