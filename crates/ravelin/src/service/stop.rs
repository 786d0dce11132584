//! Ending, in the reverse order of starting.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::Service;
use crate::announce;
use crate::configuration::count;
use crate::signals::{Event, Signals};

impl Service {
    /// Finishes what is under way within `grace`, or as soon as another signal says so.
    pub(super) async fn stop(mut self, grace: Duration) {
        self.succession.ends().await;
        let connections = self.workers.connections();
        if connections > 0 && !grace.is_zero() {
            let seconds = grace.as_secs();
            self.log.info(format_args!(
                "stopping: {} open, waiting up to {seconds} s for requests under way",
                count(connections, "connection")
            ));
        }
        self.workers.stop(grace);
        let workers = Arc::clone(&self.workers);
        let mut ended = tokio::task::spawn_blocking(move || workers.join());
        while let Some(event) = ended_or_signal(&mut ended, &mut self.signals).await {
            if matches!(event, Event::Drain | Event::Quit) {
                self.log.info(format_args!("stopping at once"));
                self.workers.stop(Duration::ZERO);
            }
        }
        self.log.info(format_args!("{}", announce::end(&self.workers, self.started.elapsed())));
        self.spans.finish().await;
        self.writers.finish();
    }
}

/// The next signal, or `None` as soon as the task has ended.
async fn ended_or_signal(ended: &mut JoinHandle<()>, signals: &mut Signals) -> Option<Event> {
    poll_fn(|context| match Pin::new(&mut *ended).poll(context) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => signals.poll_next(context).map(Some),
    })
    .await
}
