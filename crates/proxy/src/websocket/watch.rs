//! When a WebSocket is pinged and when it is closed for its age, its silence or a stop of Ravelin:
//! decided at a few looks, never for a frame.
//!
//! What always holds: no clock and no I/O here; each look says when the next one is due at the latest;
//! a side is never blamed for a silence that it cannot help, because Ravelin does not read from it or
//! it has not got the ping yet, as long as it takes anything.

use std::time::Duration;

use config::model::WebSocket;
use net::timer::Tick;

use super::Side;

/// The idle time is watched in so many parts: a socket is closed at most one part late.
const IDLE_PARTS: u32 = 8;
/// The same for the time after which a silent side is sent a ping.
const PING_PARTS: u32 = 4;
/// A look comes at the latest after this.
const LOOK_MAX: Duration = Duration::from_secs(24 * 3600);

/// The times of one WebSocket.
#[derive(Debug)]
pub(super) struct Watch {
    idle: Duration,
    /// How much of the peers' frames had passed at the last look, and since when it is so much.
    passed: u64,
    passed_at: Tick,
    client: Takes,
    upstream: Takes,
    expires: Option<Tick>,
    drain_window: Duration,
    /// When it is closed because Ravelin stops.
    drains: Option<Tick>,
    /// In a box, because few WebSockets have them, and all are to cost little memory.
    pings: Option<Box<Pings>>,
    random: u64,
}

#[derive(Debug)]
struct Pings {
    interval: Duration,
    timeout: Duration,
    client: Pinged,
    upstream: Pinged,
}

/// What is known of one side.
#[derive(Debug)]
struct Pinged {
    read: u64,
    read_at: Tick,
    /// Its answer to a ping is waited for since then.
    pinged_at: Option<Tick>,
    /// It had not got all that is before its answer at the last look.
    was_behind: bool,
}

/// How far one side has come with what is sent to it.
#[derive(Debug, Default)]
struct Takes {
    taken: u64,
}

impl Takes {
    /// It has taken something since the last look.
    fn goes_on(&mut self, seen: &SideSeen) -> bool {
        std::mem::replace(&mut self.taken, seen.taken) != seen.taken
    }
}

/// What has happened on a WebSocket so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// Grows while bytes of the peers' frames are taken or are written.
    pub(super) passed: u64,
    /// At the client's side.
    pub(super) client: SideSeen,
    /// At the upstream's side.
    pub(super) upstream: SideSeen,
    /// Ravelin is to end.
    pub(super) stopping: bool,
}

/// What has happened at one side.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SideSeen {
    /// Bytes that came from it.
    pub(super) read: u64,
    /// A number that changes whenever its system takes something of what is sent to it.
    pub(super) taken: u64,
    /// Nothing is read from it now, because the other side does not take what came before.
    pub(super) is_unread: bool,
    /// What is to be written for it now finds no room.
    pub(super) is_full: bool,
    /// A ping for it has not been written yet.
    pub(super) ping_waits: bool,
    /// When the last ping for it was written.
    pub(super) ping_written: Option<Tick>,
    /// Its system has not taken that ping yet.
    pub(super) ping_is_under_way: bool,
    /// Its system has not taken all of the other side's frames that were written.
    pub(super) frames_are_under_way: bool,
}

/// What a look asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Send the client a ping.
    pub(super) ping_client: bool,
    /// Send the upstream a ping.
    pub(super) ping_upstream: bool,
    /// Close it.
    pub(super) close: Option<Why>,
    /// Look again after this at the latest.
    pub(super) next: Duration,
}

/// Why Ravelin closes a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// No frame passed for the idle time.
    Idle,
    /// It is as old as one may become.
    Age,
    /// Ravelin is to end.
    Stop,
    /// An operator says so, with this status.
    Asked(u16),
    /// This side has not answered a ping.
    Silent(Side),
}

impl Why {
    /// The status to close with.
    pub(super) fn status(self) -> u16 {
        match self {
            Self::Idle | Self::Age => 1001,
            Self::Stop => 1012,
            Self::Asked(status) => status,
            Self::Silent(_) => 1011,
        }
    }

    /// The reason to close with.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Idle => "idle for too long",
            Self::Age => "maximum age reached",
            Self::Stop => "service restart",
            Self::Asked(_) => "closed by an operator",
            Self::Silent(Side::Client) => "no answer from the client",
            Self::Silent(Side::Upstream) => "no answer from the upstream",
        }
    }
}

impl Watch {
    /// Of a WebSocket that begins `now`. `idle` is its idle time; `random` spreads what is to be spread.
    pub(super) fn new(settings: &WebSocket, idle: Duration, now: Tick, random: u64) -> Self {
        let expires = settings.max_age.map(|age| {
            let most = age / 100 * settings.max_age_jitter;
            now.after(age.saturating_sub(share(most, random)))
        });
        let pinged = || Pinged { read: 0, read_at: now, pinged_at: None, was_behind: false };
        let pings = settings.ping_interval.map(|interval| {
            let timeout = settings.pong_timeout;
            Box::new(Pings { interval, timeout, client: pinged(), upstream: pinged() })
        });
        Self {
            idle,
            passed: 0,
            passed_at: now,
            client: Takes::default(),
            upstream: Takes::default(),
            expires,
            drain_window: settings.drain_window.unwrap_or(WebSocket::DRAIN_WINDOW),
            drains: None,
            pings,
            random,
        }
    }

    /// Knows that Ravelin is to end.
    pub(super) fn is_draining(&self) -> bool {
        self.drains.is_some()
    }

    /// What is due `now`.
    pub(super) fn look(&mut self, now: Tick, seen: &Seen) -> Look {
        let mut look =
            Look { ping_client: false, ping_upstream: false, close: None, next: LOOK_MAX };
        if seen.stopping && self.drains.is_none() {
            self.drains = Some(now.after(share(self.drain_window, self.random >> 32)));
        }
        let client_takes = self.client.goes_on(&seen.client);
        let upstream_takes = self.upstream.goes_on(&seen.upstream);
        let frames_arrive = client_takes && seen.client.has_frames_to_take()
            || upstream_takes && seen.upstream.has_frames_to_take();
        if self.passed != seen.passed || frames_arrive {
            (self.passed, self.passed_at) = (seen.passed, now);
        }
        for (due, why) in [
            (self.drains, Why::Stop),
            (self.expires, Why::Age),
            (Some(self.passed_at.after(self.idle)), Why::Idle),
        ] {
            let Some(left) = due.map(|due| due.since(now)) else { continue };
            match left.is_zero() {
                true => look.close = look.close.or(Some(why)),
                false => look.next = look.next.min(left),
            }
        }
        look.next = look.next.min((self.idle / IDLE_PARTS).max(Duration::from_millis(1)));
        if let Some(pings) = &mut self.pings {
            let (interval, timeout) = (pings.interval, pings.timeout);
            let client = pings.client.look(now, &seen.client, client_takes, interval, timeout);
            let upstream =
                pings.upstream.look(now, &seen.upstream, upstream_takes, interval, timeout);
            for (side, due, ping) in [
                (Side::Client, client, &mut look.ping_client),
                (Side::Upstream, upstream, &mut look.ping_upstream),
            ] {
                match due {
                    Due::In(left) => look.next = look.next.min(left),
                    Due::Ping => {
                        *ping = true;
                        look.next = look.next.min(timeout);
                    }
                    Due::Close => look.close = look.close.or(Some(Why::Silent(side))),
                }
            }
        }
        look
    }
}

enum Due {
    In(Duration),
    Ping,
    Close,
}

impl SideSeen {
    fn has_frames_to_take(&self) -> bool {
        self.is_full || self.frames_are_under_way
    }
}

impl Pinged {
    /// `takes` says that the side has taken something since the last look.
    fn look(
        &mut self,
        now: Tick,
        seen: &SideSeen,
        takes: bool,
        interval: Duration,
        timeout: Duration,
    ) -> Due {
        // Its answer may be in what is not read from it.
        if self.read != seen.read || seen.is_unread {
            (self.read, self.read_at, self.pinged_at) = (seen.read, now, None);
        }
        if let Some(at) = self.pinged_at {
            let is_behind = seen.is_full || seen.ping_is_under_way;
            let may_answer = !seen.ping_waits || seen.is_full;
            // A ping that the other side's unfinished frame keeps waiting cannot be answered, and one
            // behind bytes of which the side takes some not yet.
            let since = match may_answer && !(takes && (is_behind || self.was_behind)) {
                true => seen.ping_written.map_or(at, |written| at.max(written)),
                false => now,
            };
            (self.pinged_at, self.was_behind) = (Some(since), is_behind);
        }
        let part = (interval / PING_PARTS).max(Duration::from_millis(1));
        match self.pinged_at {
            Some(at) => match at.after(timeout).since(now) {
                Duration::ZERO => Due::Close,
                // Any byte is an answer, so there is no hurry to see it.
                left => Due::In(left),
            },
            None => match self.read_at.after(interval).since(now) {
                Duration::ZERO => {
                    self.pinged_at = Some(now);
                    self.was_behind = seen.has_frames_to_take();
                    Due::Ping
                }
                left => Due::In(left.min(part)),
            },
        }
    }
}

/// A part of `whole`, by the lower half of `random`.
fn share(whole: Duration, random: u64) -> Duration {
    let millis = (u128::from(random & 0xffff_ffff) * whole.as_millis()) >> 32;
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(millis: u64) -> Tick {
        Tick::from(5_000_000 + millis)
    }

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    fn watch(settings: WebSocket, idle: Duration) -> Watch {
        Watch::new(&settings, idle, at(0), 0x8000_0000_8000_0000)
    }

    /// Looks whenever a look is due, until something has to be done or `until` is over.
    fn run(watch: &mut Watch, from: u64, until: u64, seen: Seen) -> (u64, Look) {
        let mut now = from;
        loop {
            let look = watch.look(at(now), &seen);
            if now >= until || look.close.is_some() || look.ping_client || look.ping_upstream {
                return (now, look);
            }
            assert!(!look.next.is_zero(), "a look that asks for itself");
            now += look.next.as_millis() as u64;
        }
    }

    #[test]
    fn it_is_idle_when_no_frame_passes() {
        let mut watch = watch(WebSocket::default(), Duration::from_secs(8));
        let (now, look) = run(&mut watch, 0, 100_000, Seen::default());
        assert_eq!((now, look.close), (8000, Some(Why::Idle)));
        // What moved just after a look is seen at the next one.
        let moved = Seen { passed: 1, ..Seen::default() };
        let (now, look) = run(&mut watch, 7900, 100_000, moved);
        assert_eq!((now, look.close), (15_900, Some(Why::Idle)));
    }

    #[test]
    fn its_age_is_at_most_what_was_said_and_a_jitter_less_at_least() {
        let settings = WebSocket { max_age: seconds(100), ..WebSocket::default() };
        for (random, jitter, due) in [
            (0, 10, 100_000),
            (0x8000_0000, 10, 95_000),
            (0xffff_ffff, 10, 90_001),
            (u64::MAX, 0, 100_000),
            (u64::MAX, 100, 1),
        ] {
            let settings = WebSocket { max_age_jitter: jitter, ..settings.clone() };
            let mut watch = Watch::new(&settings, HOUR, at(0), random);
            let (now, look) = run(&mut watch, 0, 200_000, Seen::default());
            assert_eq!((now, look.close), (due, Some(Why::Age)), "{random:x} {jitter}");
        }
    }

    #[test]
    fn a_stop_closes_it_within_the_window() {
        let mut stopped = watch(WebSocket::default(), HOUR);
        assert_eq!(run(&mut stopped, 0, 50_000, Seen::default()).1.close, None);
        assert!(!stopped.is_draining());
        let seen = Seen { stopping: true, ..Seen::default() };
        let (now, look) = run(&mut stopped, 60_000, 100_000, seen);
        assert_eq!((now, look.close), (65_000, Some(Why::Stop)));
        assert!(stopped.is_draining());
        let at_once = WebSocket { drain_window: seconds(0), ..WebSocket::default() };
        assert_eq!(watch(at_once, HOUR).look(at(1), &seen).close, Some(Why::Stop));
    }

    #[test]
    fn a_side_that_sends_nothing_is_pinged_and_then_given_up() {
        let settings = WebSocket {
            ping_interval: seconds(20),
            pong_timeout: Duration::from_secs(5),
            ..WebSocket::default()
        };
        let mut watch = watch(settings, HOUR);
        let (now, look) = run(&mut watch, 0, 100_000, Seen::default());
        assert_eq!((now, look.ping_client, look.ping_upstream), (20_000, true, true));
        // The upstream answers, with whatever.
        let upstream = SideSeen { read: 1, ..SideSeen::default() };
        let seen = Seen { upstream, ..Seen::default() };
        let (now, look) = run(&mut watch, 20_100, 100_000, seen);
        assert_eq!((now, look.close), (25_000, Some(Why::Silent(Side::Client))));
        // The client does as well, late.
        let seen = Seen { client: SideSeen { read: 2, ..SideSeen::default() }, ..seen };
        let (now, look) = run(&mut watch, 25_000, 100_000, seen);
        assert_eq!((look.close, look.ping_client, look.ping_upstream), (None, false, true));
        assert_eq!(now, 40_100);
    }

    fn pinging() -> Watch {
        let settings = WebSocket {
            ping_interval: seconds(20),
            pong_timeout: Duration::from_secs(5),
            ..WebSocket::default()
        };
        watch(settings, HOUR)
    }

    /// The client as `client` says, and an upstream that sends all the time.
    fn beside(now: u64, client: SideSeen) -> Seen {
        let upstream = SideSeen { read: now, ..SideSeen::default() };
        Seen { client, upstream, ..Seen::default() }
    }

    const SILENT_CLIENT: Option<Why> = Some(Why::Silent(Side::Client));

    #[test]
    fn a_side_that_takes_what_is_before_a_ping_slowly_is_not_silent() {
        for (is_full, ping_is_under_way) in [(true, false), (false, true)] {
            let mut watch = pinging();
            assert!(watch.look(at(20_000), &beside(1, SideSeen::default())).ping_client);
            let client = |taken| {
                let ping_written = Some(at(20_000)).filter(|_| !is_full);
                SideSeen {
                    taken,
                    is_full,
                    ping_waits: is_full,
                    ping_written,
                    ping_is_under_way,
                    ..SideSeen::default()
                }
            };
            let mut close = |now, taken| watch.look(at(now), &beside(now, client(taken))).close;
            assert_eq!(close(24_000, 1000), None);
            assert_eq!(close(28_000, 2000), None);
            assert_eq!(close(32_999, 2000), None, "it takes nothing since 28 s");
            assert_eq!(close(33_000, 2000), SILENT_CLIENT);
        }
    }

    #[test]
    fn it_has_its_time_from_when_the_ping_was_written_and_taken() {
        let mut pinged = pinging();
        let full = SideSeen { is_full: true, ping_waits: true, ..SideSeen::default() };
        assert!(pinged.look(at(20_000), &beside(1, full)).ping_client);
        let late = SideSeen { ping_written: Some(at(23_000)), taken: 9, ..SideSeen::default() };
        // What was in its way at the last look it has taken since.
        assert_eq!(pinged.look(at(25_000), &beside(2, late)).close, None);
        assert_eq!(pinged.look(at(29_999), &beside(3, late)).close, None);
        assert_eq!(pinged.look(at(30_000), &beside(4, late)).close, SILENT_CLIENT);
        // A ping that had nothing in its way was taken by a system that lives, not by who is to answer.
        let mut pinged = pinging();
        assert!(pinged.look(at(20_000), &beside(1, SideSeen::default())).ping_client);
        let taken = SideSeen { ping_written: Some(at(20_500)), taken: 10, ..SideSeen::default() };
        assert_eq!(pinged.look(at(25_000), &beside(2, taken)).close, None);
        let more = SideSeen { taken: 90, ..taken };
        assert_eq!(pinged.look(at(25_500), &beside(3, more)).close, SILENT_CLIENT);
    }

    #[test]
    fn a_ping_that_an_unfinished_frame_of_the_other_side_keeps_waiting_is_not_unanswered() {
        let mut watch = pinging();
        assert!(watch.look(at(20_000), &beside(1, SideSeen::default())).ping_client);
        let waits = SideSeen { ping_waits: true, ..SideSeen::default() };
        let (now, look) = run(&mut watch, 20_000, 300_000, beside(1, waits));
        assert_eq!((now, look.close), (40_000, None), "the upstream is silent by now");
        let waits = |now| beside(now, waits);
        for now in [45_000, 50_000, 55_000] {
            assert_eq!(watch.look(at(now), &waits(now)).close, None);
        }
        let written = SideSeen { ping_written: Some(at(56_000)), ..SideSeen::default() };
        assert_eq!(watch.look(at(60_000), &beside(60_000, written)).close, None);
        assert_eq!(watch.look(at(61_000), &beside(61_000, written)).close, SILENT_CLIENT);
    }

    #[test]
    fn a_side_that_is_not_read_from_is_not_silent() {
        let mut watch = pinging();
        let unread = SideSeen { is_unread: true, ..SideSeen::default() };
        for now in [10_000, 20_000, 40_000, 60_000] {
            let look = watch.look(at(now), &beside(now, unread));
            assert_eq!((look.close, look.ping_client), (None, false));
        }
        let look = watch.look(at(79_999), &beside(79_999, SideSeen::default()));
        assert!(!look.ping_client);
        assert!(watch.look(at(80_000), &beside(80_000, SideSeen::default())).ping_client);
        // It may be that the answer waits.
        assert_eq!(watch.look(at(84_000), &beside(84_000, unread)).close, None);
        assert_eq!(watch.look(at(86_000), &beside(86_000, SideSeen::default())).close, None);
    }

    #[test]
    fn it_is_not_idle_while_a_side_takes_frames() {
        let seen = |taken, is_full, frames_are_under_way| {
            let client = SideSeen { taken, is_full, frames_are_under_way, ..SideSeen::default() };
            Seen { client, ..Seen::default() }
        };
        for (is_full, under_way) in [(true, false), (false, true)] {
            let mut watch = watch(WebSocket::default(), Duration::from_secs(8));
            for now in 1..50 {
                let look = watch.look(at(now * 1000), &seen(now, is_full, under_way));
                assert_eq!(look.close, None);
            }
            let stuck = seen(49, is_full, under_way);
            let (now, look) = run(&mut watch, 50_000, 100_000, stuck);
            assert_eq!((now, look.close), (57_000, Some(Why::Idle)), "it takes nothing since 49 s");
        }
        // Ravelin's pings are no frames that pass.
        let mut watch = watch(WebSocket::default(), Duration::from_secs(8));
        assert_eq!(watch.look(at(4000), &seen(1, false, false)).close, None);
        assert_eq!(watch.look(at(8000), &seen(2, false, false)).close, Some(Why::Idle));
    }
}
