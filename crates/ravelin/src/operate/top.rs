//! `ravelin top`: what traffic there is now, by site, route and endpoint.
//!
//! The process is asked what it has counted, once a second; what is shown is what came in between. What is
//! measured and how it is shown is in [`numbers`] and [`page`]; here is what concerns the terminal.

mod numbers;
mod page;
mod screen;

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use self::numbers::{Sample, Traffic};
use self::page::page;
use self::screen::{Key, Screen};
use super::json_line;
use crate::cli::{Common, Format};
use crate::client::{Client, Target};
use crate::terminal::{self, Failure, colored};

/// How often numbers are shown.
const PERIOD: Duration = Duration::from_secs(1);
/// How soon a change of the terminal's size, or a signal, is noticed.
const GLANCE: Duration = Duration::from_millis(100);

/// Arguments of `top`.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Print one table of everything since the start, and end
    #[arg(long)]
    once: bool,

    #[command(flatten)]
    target: Target,

    /// How to report, with --once
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Human, requires = "once")]
    format: Format,
}

pub(super) fn top(arguments: &Top, common: &Common) -> Result<(), Failure> {
    let client = Client::find(&arguments.target, common)?;
    let stdout = io::stdout();
    let color = colored(common.color, &stdout);
    if arguments.once {
        let value = client.get("/v1/traffic")?;
        let text = match arguments.format {
            Format::Json => json_line(&value),
            Format::Human => page(&Traffic::since_start(&Sample::of(&value)), None, color),
        };
        return terminal::show(&text);
    }
    if !stdout.is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::new("this is no terminal", "`ravelin top --once` prints one table"));
    }
    watch(client, color)
}

/// Something to react to.
enum Event {
    Sample(Result<Value, Failure>),
    Key(Key),
}

fn watch(client: Client, color: bool) -> Result<(), Failure> {
    // The first answer before the terminal changes: who asks in vain is told so as usual.
    let mut last = Sample::of(&client.get("/v1/traffic")?);
    let mut traffic = Traffic::since_start(&last);
    let screen = Screen::open().map_err(|error| {
        Failure::new(
            format!("cannot use this terminal: {error}"),
            "`ravelin top --once` prints one table",
        )
    })?;
    let (sender, events) = mpsc::sync_channel(4);
    sample_each_second(client, sender.clone());
    screen::read_keys(move |key| sender.send(Event::Key(key)).is_ok());
    let mut shown_for = None;
    loop {
        let size = screen.size();
        if shown_for != Some(size) {
            shown_for = Some(size);
            screen.show(&page(&traffic, Some(size), color));
        }
        match next(&events) {
            Next::Event(Event::Key(Key::Quit)) | Next::Over => return Ok(()),
            Next::Event(Event::Sample(sample)) => {
                let sample = Sample::of(&sample?);
                traffic = Traffic::between(&last, &sample);
                last = sample;
                shown_for = None;
            }
            Next::Event(Event::Key(Key::Other)) | Next::Nothing => {}
        }
        if screen.is_told_to_end() {
            return Ok(());
        }
    }
}

enum Next {
    Event(Event),
    Nothing,
    Over,
}

fn next(events: &Receiver<Event>) -> Next {
    match events.recv_timeout(GLANCE) {
        Ok(event) => Next::Event(event),
        Err(mpsc::RecvTimeoutError::Timeout) => Next::Nothing,
        Err(mpsc::RecvTimeoutError::Disconnected) => Next::Over,
    }
}

/// Asks on a thread of its own, so that keys are heard while an answer is waited for.
fn sample_each_second(client: Client, events: SyncSender<Event>) {
    thread::spawn(move || {
        let mut due = Instant::now();
        loop {
            due = (due + PERIOD).max(Instant::now());
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let sample = client.get("/v1/traffic").map_err(Failure::from);
            let is_last = sample.is_err();
            if events.send(Event::Sample(sample)).is_err() || is_last {
                return;
            }
        }
    });
}
