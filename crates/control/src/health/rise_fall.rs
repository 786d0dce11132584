//! From the outcomes of probes to up and down: so many in a row, `fall` to go down and `rise` to come
//! back.
//!
//! What always holds: one outcome changes the state at most once; an outcome of the other kind begins
//! the count anew.

use config::model::StartState;

/// What the outcomes of one check say of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RiseFall {
    rise: u32,
    fall: u32,
    up: bool,
    /// Outcomes in a row that speak against the state.
    against: u32,
    /// The next outcome alone decides.
    undecided: bool,
}

/// A state that has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// From down to up, after so many successes in a row.
    Up(u32),
    /// From up to down, after so many failures in a row.
    Down(u32),
}

impl RiseFall {
    /// The state before the first outcome. `rise` and `fall` of 0 are taken for 1.
    pub(super) fn new(rise: u32, fall: u32, start: StartState) -> Self {
        let up = start != StartState::Down;
        let undecided = start != StartState::Up;
        Self { rise: rise.max(1), fall: fall.max(1), up, against: 0, undecided }
    }

    /// As it was found to be by other checks.
    pub(super) fn found(rise: u32, fall: u32, up: bool) -> Self {
        let known = Self::new(rise, fall, StartState::Up);
        Self { up, ..known }
    }

    /// The present state.
    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    /// Outcomes in a row that speak against the state, and how many of them change it.
    pub(super) fn against(&self) -> (u32, u32) {
        (self.against, if self.up { self.fall } else { self.rise })
    }

    /// Takes the next outcome.
    pub(super) fn record(&mut self, success: bool) -> Option<Change> {
        let undecided = std::mem::take(&mut self.undecided);
        if success == self.up {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = if self.up { self.fall } else { self.rise };
        if self.against < needed && !undecided {
            return None;
        }
        self.up = success;
        let count = std::mem::take(&mut self.against);
        Some(if success { Change::Up(count) } else { Change::Down(count) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays outcomes (`+` success, `-` failure) and gives the state after each (`U`, `d`).
    fn states(mut machine: RiseFall, outcomes: &str) -> String {
        let state = |outcome| {
            machine.record(outcome == '+');
            if machine.is_up() { 'U' } else { 'd' }
        };
        outcomes.chars().map(state).collect()
    }

    #[track_caller]
    fn assert_table(rise: u32, fall: u32, start: StartState, table: &[(&str, &str)]) {
        for (outcomes, expected) in table {
            let machine = RiseFall::new(rise, fall, start);
            assert_eq!(states(machine, outcomes), *expected, "{outcomes}");
        }
    }

    /// `health_check fails=2 passes=3`: up at first; only what comes in a row counts.
    #[test]
    fn as_nginx() {
        let table = [
            ("--", "Ud"),
            ("-+-+--", "UUUUUd"),
            ("--++-+++", "UddddddU"),
            ("--+++-+--", "UdddUUUUd"),
            ("++++--", "UUUUUd"),
        ];
        assert_table(3, 2, StartState::Up, &table);
        // The directive alone: fails=1 passes=1.
        assert_table(1, 1, StartState::Up, &[("-+-", "dUd"), ("+--+", "UddU")]);
    }

    /// `mandatory`: nothing is sent to it before its first check, which decides.
    #[test]
    fn as_nginx_mandatory() {
        assert!(!RiseFall::new(3, 2, StartState::Down).is_up());
        let table = [("+", "U"), ("+-+--", "UUUUd"), ("-++", "ddd"), ("-+++", "dddU")];
        assert_table(3, 2, StartState::Down, &table);
    }

    /// `check fall 3 rise 2`, the defaults: up at first, but the first failure is enough; a success
    /// at any time while it is up makes good all failures before.
    #[test]
    fn as_haproxy() {
        let table = [
            ("-", "d"),
            ("-+-+", "dddd"),
            ("-++", "ddU"),
            ("+---", "UUUd"),
            ("+--+--+---", "UUUUUUUUUd"),
            ("-++--+---", "ddUUUUUUd"),
        ];
        assert_table(2, 3, StartState::UpUntilFailure, &table);
        // `init-state fully-up` needs `fall` failures from the start.
        assert_table(2, 3, StartState::Up, &[("---++", "UUddU")]);
    }

    /// `fails: 1, passes: 1` is the default; the counters begin anew with the other outcome.
    #[test]
    fn as_easegress() {
        assert_table(1, 1, StartState::Up, &[("-", "d"), ("-+-+", "dUdU"), ("+", "U")]);
        assert_table(2, 2, StartState::Up, &[("-+--++", "UUUddU"), ("--+-++", "UddddU")]);
        assert_table(3, 2, StartState::Up, &[("----+++", "UdddddU")]);
    }

    #[test]
    fn a_change_says_how_many_checks_it_took() {
        let mut machine = RiseFall::new(2, 3, StartState::Up);
        let changes = [false, false, false, false, true, true].map(|one| machine.record(one));
        let (down, up) = (Some(Change::Down(3)), Some(Change::Up(2)));
        assert_eq!(changes, [None, None, down, None, None, up]);
        let mut fragile = RiseFall::new(2, 3, StartState::UpUntilFailure);
        assert_eq!(fragile.record(false), Some(Change::Down(1)));
    }

    #[test]
    fn what_was_found_before_needs_its_full_count() {
        assert_eq!(states(RiseFall::found(2, 3, false), "-+-++"), "ddddU");
        assert_eq!(states(RiseFall::found(2, 3, true), "--+---"), "UUUUUd");
    }

    #[test]
    fn zero_is_one() {
        assert_table(0, 0, StartState::Up, &[("-+-", "dUd")]);
    }
}
