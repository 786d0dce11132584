//! The terminal: taken over for a while, and given back as it was, whatever happens.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::page::Size;

/// Another page beside what was there, no cursor, no wrapped lines.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
/// The reverse.
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// To the upper left corner; each line is cleared behind its end, and so is what is below the last.
const HOME: &str = "\x1b[H";

/// A key that was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// `q`, Ctrl-C, or nothing will be typed any more.
    Quit,
    /// One that means nothing here.
    Other,
}

/// The terminal, for as long as this is kept.
pub(super) struct Screen {
    before: Termios,
    told_to_end: Arc<AtomicBool>,
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn open() -> io::Result<Self> {
        let told_to_end = Arc::new(AtomicBool::new(false));
        take_signals(Arc::clone(&told_to_end))?;
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        write(ENTER);
        Ok(Self { before, told_to_end })
    }

    /// How large it is now.
    pub(super) fn size(&self) -> Size {
        let size = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_row > 0);
        let (rows, columns) = size.map_or((24, 80), |size| (size.ws_row, size.ws_col));
        Size { rows: usize::from(rows), columns: usize::from(columns) }
    }

    /// A signal asks for the end.
    pub(super) fn is_told_to_end(&self) -> bool {
        self.told_to_end.load(Ordering::Relaxed)
    }

    /// Shows a page in the place of the last one.
    pub(super) fn show(&self, page: &str) {
        let lines: Vec<String> = page.lines().map(|line| format!("{line}\x1b[K")).collect();
        write(&format!("{HOME}{}\x1b[J", lines.join("\r\n")));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        write(LEAVE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}

/// Sets `told` when a signal asks for the end, in place of ending at once.
fn take_signals(told: Arc<AtomicBool>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let kinds = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()];
    let signals: io::Result<Vec<_>> = kinds.into_iter().map(signal).collect();
    let mut signals = signals?;
    drop(entered);
    thread::spawn(move || {
        runtime.block_on(poll_fn(|cx| {
            match signals.iter_mut().any(|signal| signal.poll_recv(cx).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }));
        told.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// Hands keys to `take` until it wants no more, on a thread that ends with the process.
pub(super) fn read_keys(take: impl Fn(Key) -> bool + Send + 'static) {
    thread::spawn(move || {
        let mut byte = [0];
        loop {
            let key = match io::stdin().read(&mut byte) {
                Ok(1) if !matches!(byte, [b'q' | b'Q' | 3]) => Key::Other,
                _ => Key::Quit,
            };
            if !take(key) || key == Key::Quit {
                return;
            }
        }
    });
}

fn write(text: &str) {
    // A terminal that is gone needs nothing.
    let mut stdout = io::stdout();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
