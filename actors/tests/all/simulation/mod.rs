//! Thousands of histories of the policy: a virtual clock, callers who ask, leave and lose patience,
//! and actors that die, hang, slow down, answer late and fail to load.
//!
//! After every event the policy's invariants are checked, and that no request is answered twice. When
//! the faults are over, every accepted request must have been answered, each conversation in the
//! order of arrival, and every answer must equal that of a model that knows nothing of actors: it does
//! what was answered, one request after the other. At last each conversation is asked where it stands.
//!
//! Half of the histories have engines with pages. There, nothing that was read is ever read again, all pages that there
//! are belong to somebody, and each holds what its conversation says, though abandoned lives write wherever they can.
//!
//! A seed is a history. One that fails is run again with its events written down; `SIMULATION_SEED=7`
//! runs one alone.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test prints and panics, and measures its own time"
)]

mod actor;
mod forks;
mod job;
mod model;
mod pages;
mod rng;
mod slot;
mod spread;
mod tally;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use self::tally::Tally;
use self::world::World;

const SEEDS: u64 = 5_000;

/// Runs one history; its log too, where it fails.
fn check(seed: u64) -> Result<Tally, String> {
    let run = |log: bool| {
        let mut world = World::new(seed, log);
        let result = catch_unwind(AssertUnwindSafe(|| world.run()))
            .unwrap_or_else(|panic| Err(format!("panicked: {:?}", panic.downcast_ref::<String>())));
        (result, world)
    };
    let (result, world) = run(false);
    result.map(|()| world.tally).map_err(|broken| {
        let (_, world) = run(true);
        format!("seed {seed}: {broken}\n{}", world.log.join("\n"))
    })
}

#[test]
fn whatever_dies_when_every_request_is_answered_once_and_rightly() {
    if let Ok(seed) = std::env::var("SIMULATION_SEED") {
        let tally = check(seed.parse().unwrap()).unwrap_or_else(|broken| panic!("{broken}"));
        println!("{tally:?}");
        return;
    }
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let work = || {
        let mut sum = Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return sum;
            }
            sum.add(&check(seed).unwrap_or_else(|broken| panic!("{broken}")));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut sum = Tally::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            sum.add(&worker.join().unwrap());
        }
    });
    println!("{SEEDS} histories in {:.1} s: {sum:?}", began.elapsed().as_secs_f64());
    // A simulation in which nothing went wrong shows nothing.
    for (what, count) in sum.counts() {
        assert!(count > SEEDS / 50, "only {count} {what} in {SEEDS} histories");
    }
}
