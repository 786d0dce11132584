//! What a running process is asked to do: by signals, by the admin socket, by files that change.
//!
//! Orders are carried out one at a time, by the main loop of the process, so that no two of them ever
//! work against each other. What always holds: an order that is refused has changed nothing, and whoever
//! gave it is told why, if there is somebody to be told.

use std::fmt;
use std::time::Duration;

use config::model::Level;
use config::{Diagnostic, Loaded};
use tokio::sync::{mpsc, oneshot};

/// Orders that wait; whoever has more is told that there are too many.
const ORDERS_MAX: usize = 32;

/// Who gave an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// `uid 0 pid 123`, `signal`, `token`, `file watch`, `upgrade`, `start`.
    pub who: String,
}

/// Something to do.
#[derive(Debug)]
pub enum Order {
    /// Read the files again and serve what they say.
    Reload {
        /// Serve it to a share of connections first.
        canary: Option<Canary>,
        /// Who asks.
        author: Author,
        /// What came of it. With a canary: that it has begun.
        reply: Reply<Applied>,
    },
    /// Serve what these texts say. The files are not touched: what they say is served again by the next
    /// reload.
    Apply {
        /// Names and texts, as of files.
        files: Vec<(String, String)>,
        /// Serve it to a share of connections first.
        canary: Option<Canary>,
        /// Who asks.
        author: Author,
        /// Only find out whether it could be served, and what would change.
        dry_run: bool,
        /// What came of it.
        reply: Reply<Applied>,
    },
    /// Serve again what was served before.
    Rollback {
        /// Which generation; `None`: the one before the one in force.
        to: Option<u64>,
        /// Who asks.
        author: Author,
        /// What came of it.
        reply: Reply<Applied>,
    },
    /// Hand over to a new process.
    Upgrade {
        /// Who asks.
        author: Author,
        /// What came of it.
        reply: Reply<()>,
    },
    /// Finish what is under way and end.
    Stop {
        /// How long that may take; `None`: as long as with SIGTERM.
        grace: Option<Duration>,
        /// Who asks.
        author: Author,
    },
    /// Open the log files anew, after a rotation.
    ReopenLogs,
    /// From now on the error log has lines of this severity and above, until the next reload says otherwise.
    SetLogLevel(Level),
}

/// Where the answer to an order goes.
pub type Reply<T> = oneshot::Sender<Result<T, Refused>>;

/// A new snapshot is tried out on some connections first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Canary {
    /// The share of new connections that get it, above 0 and below 100.
    pub percent: f64,
    /// For how long, before it is for all or for none.
    pub lasts: Duration,
}

/// A snapshot is in force, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Its number. That of the one in force if nothing was applied.
    pub generation: u64,
    /// What is different from the one before, one sentence each.
    pub changes: Vec<String>,
    /// What speaks against it, and what of it needs a restart.
    pub warnings: Vec<String>,
}

/// Why an order was not carried out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Refused {
    /// Findings about the configuration, each rendered as `ravelin check` does.
    pub diagnostics: Vec<String>,
    /// The same for tools.
    pub json: Vec<serde_json::Value>,
    /// In one sentence.
    pub reason: String,
}

/// Gives orders. Clones give them to the same process.
#[derive(Debug, Clone)]
pub struct Orders(mpsc::Sender<Order>);

impl Author {
    /// One that is called so.
    pub fn new(who: impl Into<String>) -> Self {
        Self { who: who.into() }
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.who)
    }
}

impl Refused {
    /// With the findings about a configuration, worst first if there are errors; the reason says how many.
    pub fn of_findings(loaded: &Loaded) -> Self {
        let json = loaded.render_json();
        let json = json.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let mut one =
            Loaded { model: None, diagnostics: Vec::new(), sources: loaded.sources.clone() };
        let mut rendered = |finding: &Diagnostic| {
            one.diagnostics = vec![finding.clone()];
            one.render(false)
        };
        let errors = loaded.errors();
        let plural = if errors == 1 { "" } else { "s" };
        Self {
            diagnostics: loaded.diagnostics.iter().map(&mut rendered).collect(),
            json,
            reason: format!("the configuration has {errors} error{plural}"),
        }
    }

    /// For this reason, without findings.
    pub fn because(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), ..Self::default() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Orders {
    /// A queue of orders, and where they come out.
    pub fn channel() -> (Self, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(ORDERS_MAX);
        (Self(sender), receiver)
    }

    /// Gives an order that nobody waits for.
    ///
    /// # Errors
    /// There are too many, or the process is about to end.
    pub fn give(&self, order: Order) -> Result<(), Refused> {
        self.0.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::because("too many orders are waiting"),
            mpsc::error::TrySendError::Closed(_) => Refused::because("the process is about to end"),
        })
    }

    /// Gives the order that `make` makes and waits for the answer.
    ///
    /// # Errors
    /// What the answer says, or there is none because the process ends.
    pub async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> Order) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        self.give(make(reply))?;
        answer.await.unwrap_or_else(|_| Err(Refused::because("the process is about to end")))
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// What they say cannot be served; the snapshot that is in force stays.
    pub async fn reload(&self, canary: Option<Canary>, author: Author) -> Result<Applied, Refused> {
        self.ask(|reply| Order::Reload { canary, author, reply }).await
    }

    /// Serves these texts; with `dry_run` only says whether they could be.
    ///
    /// # Errors
    /// As for [`Orders::reload`].
    pub async fn apply(
        &self,
        files: Vec<(String, String)>,
        canary: Option<Canary>,
        author: Author,
        dry_run: bool,
    ) -> Result<Applied, Refused> {
        self.ask(|reply| Order::Apply { files, canary, author, dry_run, reply }).await
    }

    /// Serves again what was served before.
    ///
    /// # Errors
    /// It is not known any more, or cannot be served any more.
    pub async fn rollback(&self, to: Option<u64>, author: Author) -> Result<Applied, Refused> {
        self.ask(|reply| Order::Rollback { to, author, reply }).await
    }
}
