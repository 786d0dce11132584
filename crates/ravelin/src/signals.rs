//! Signals as events.

use std::io;
use std::task::{Context, Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// SIGTERM, SIGINT: finish what is under way and end.
    Drain,
    /// SIGQUIT: end at once.
    Quit,
    /// SIGUSR1: open the log files anew.
    ReopenLogs,
    /// SIGHUP: take what has changed.
    Reload,
    /// SIGUSR2: give way to a new process.
    Upgrade,
}

/// Takes signals from the moment it is made.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hang_up: Signal,
    user_1: Signal,
    user_2: Signal,
}

impl Signals {
    /// Replaces what the signals do by default. Call on a runtime.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next signal. Several of one kind that come together may be one event.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let signals = [
            (&mut self.quit, Event::Quit),
            (&mut self.terminate, Event::Drain),
            (&mut self.interrupt, Event::Drain),
            (&mut self.user_1, Event::ReopenLogs),
            (&mut self.hang_up, Event::Reload),
            (&mut self.user_2, Event::Upgrade),
        ];
        for (signal, event) in signals {
            if signal.poll_recv(context).is_ready() {
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }
}
