//! What an operator says of a member at run time: whether it is to be used, and with what weight.
//!
//! It is kept with the member's state and so outlives a reload, until the operator takes it back.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use config::model::UpstreamState;

/// It holds only as long as the member is at the address it has.
const HERE: u8 = 0x80;

/// What was said; nothing at first.
#[derive(Debug, Default)]
pub(super) struct Steering {
    /// 0: nothing, else one more than the state's number; with [`HERE`].
    state: AtomicU8,
    /// 0: nothing, else one more than the weight.
    weight: AtomicU64,
}

impl Steering {
    /// True if that changes what is to happen. `here`: until the member gets another address.
    pub(super) fn steer(&self, state: Option<UpstreamState>, here: bool) -> bool {
        let before = self.state();
        let bits = number(state) | if here && state.is_some() { HERE } else { 0 };
        self.state.store(bits, Ordering::Relaxed);
        before != state
    }

    pub(super) fn state(&self) -> Option<UpstreamState> {
        match self.state.load(Ordering::Relaxed) & !HERE {
            1 => Some(UpstreamState::Up),
            2 => Some(UpstreamState::Drain),
            3 => Some(UpstreamState::Down),
            _ => None,
        }
    }

    /// The member has another address.
    pub(super) fn forget_here(&self) {
        if self.state.load(Ordering::Relaxed) & HERE != 0 {
            self.state.store(0, Ordering::Relaxed);
        }
    }

    /// True if that changes anything.
    pub(super) fn set_weight(&self, weight: Option<u32>) -> bool {
        let bits = weight.map_or(0, |weight| u64::from(weight) + 1);
        self.weight.swap(bits, Ordering::Relaxed) != bits
    }

    pub(super) fn weight(&self) -> Option<u32> {
        let bits = self.weight.load(Ordering::Relaxed);
        bits.checked_sub(1).and_then(|weight| u32::try_from(weight).ok())
    }
}

fn number(state: Option<UpstreamState>) -> u8 {
    match state {
        None => 0,
        Some(UpstreamState::Up) => 1,
        Some(UpstreamState::Drain) => 2,
        Some(UpstreamState::Down) => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [Option<UpstreamState>; 4] =
        [None, Some(UpstreamState::Up), Some(UpstreamState::Drain), Some(UpstreamState::Down)];

    #[test]
    fn what_was_said_last_holds() {
        let steering = Steering::default();
        assert_eq!((steering.state(), steering.weight()), (None, None));
        for state in STATES.iter().chain(STATES.iter().rev()) {
            let changes = steering.state() != *state;
            assert_eq!(steering.steer(*state, false), changes);
            assert_eq!(steering.state(), *state);
        }
        for weight in [Some(0), Some(7), Some(u32::MAX), None] {
            assert!(steering.set_weight(weight) && !steering.set_weight(weight));
            assert_eq!(steering.weight(), weight);
        }
    }

    #[test]
    fn what_was_said_of_an_address_ends_with_it() {
        for here in [false, true] {
            let steering = Steering::default();
            steering.steer(Some(UpstreamState::Drain), here);
            steering.forget_here();
            assert_eq!(steering.state().is_none(), here);
        }
    }
}
