//! Everything that decides over a request, together: balancing, active and passive health, retry
//! budget, breaker, limits and queue, with the pools of `proxy` as they are, under virtual time.
//!
//! A seed draws a configuration, endpoints that die, stall, fail, get slow and come back, and
//! requests. Each request makes its steps one at a time, in an order that is drawn, too, so that
//! whatever can come between two steps on another worker does. What always has to hold is looked at
//! in every step; in the end all faults are over, and all has to be as if there had been none.
//!
//! `RAVELIN_SEED=n` runs one seed only, `RAVELIN_SEEDS=n` so many.

mod chance;
mod request;
mod run;
mod scenario;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use self::chance::Chance;
use self::run::Run;
use self::scenario::Scenario;
use self::world::World;

/// Seeds, where the environment says nothing else.
const SEEDS: u64 = 10_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Runs one seed; how many requests were answered and how many were not.
fn play(seed: u64) -> (usize, usize) {
    let mut chance = Chance::new(seed);
    let (mut world, pools) = World::new(Scenario::new(&mut chance));
    let mut run = Run::new(&pools, chance);
    run.run(&mut world);
    run.check_shares(&world);
    (run.answered, run.failed)
}

#[test]
fn ten_thousand_seeds_lose_no_request_that_could_be_saved() {
    if let Some(seed) = number("RAVELIN_SEED") {
        play(seed);
        return;
    }
    let seeds = number("RAVELIN_SEEDS").unwrap_or(SEEDS);
    let threads = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let share = |first: u64| {
        let mut ended = (0, 0);
        for seed in (first..seeds).step_by(threads as usize) {
            match catch_unwind(AssertUnwindSafe(|| play(seed))) {
                Ok((answered, failed)) => ended = (ended.0 + answered, ended.1 + failed),
                Err(_) => panic!("run it again with RAVELIN_SEED={seed}"),
            }
        }
        ended
    };
    let ended = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|first| scope.spawn(move || share(first))).collect();
        let ended = threads.into_iter().map(|thread| thread.join().expect("no seed fails"));
        ended.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    // Both happen, or nothing was shown.
    assert!(ended.0 > ended.1 && ended.1 > 0, "{ended:?}");
}
