//! Thousands of histories of the brain on one thread: a virtual clock, callers who ask, flood, cancel, leave and lose
//! patience, the real policy, the real worker, and engines that die, hang, slow down, err and refuse memory at any call.
//!
//! After every event the policy's and the workers' invariants are checked, and that no request is answered twice, that
//! nobody waits beside an idle actor, that what hangs is found out in time, who is charged with deaths, when actors are
//! started again, and whose permits are held. When the faults are over, every accepted request must have been answered,
//! each conversation in the order of arrival, and every answer must equal that of a model that knows nothing of actors: it
//! does what was answered, one request after the other. At last each conversation is asked where it stands, and closed.
//!
//! Half of the histories have engines with pages. There, nothing that was read is ever read again, all pages that there
//! are belong to somebody, and each holds what its conversation says, though abandoned lives write wherever they can.
//!
//! A seed is a history. One that fails is made as short as it can be (what callers do is drawn for each thing anew, so
//! that leaving one out changes none of the others) and written down. `SIMULATION_SEED=7` runs one alone,
//! `SIMULATION_SEEDS=100000 SIMULATION_FROM=5000` so many from there on.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test prints and panics, and measures its own time"
)]

mod company;
mod engine;
mod forks;
mod life;
mod model;
mod rng;
mod seldom;
mod shrink;
mod spread;
mod stopping;
mod tally;
mod terms;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use self::tally::Tally;
use self::world::{Plan, World};

/// Histories where the environment says nothing else.
const SEEDS: u64 = 5_000;

/// So many are told of at a time.
const PROGRESS: u64 = 5_000;

/// Runs one history.
fn run(plan: Plan) -> (Result<(), String>, World) {
    let mut world = World::new(plan);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()))
        .unwrap_or_else(|panic| Err(format!("panicked: {}", life::words(&*panic))));
    (result, world)
}

/// Runs one history; where it fails, all that is left of it when it is made short.
fn check(seed: u64) -> Result<Tally, String> {
    match run(Plan { seed, ..Plan::default() }) {
        (Ok(()), world) => Ok(world.tally),
        (Err(_), _) => Err(shrink::told(seed)),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn whatever_dies_when_every_request_is_answered_once_and_rightly() {
    if let Some(seed) = number("SIMULATION_SEED") {
        let tally = check(seed).unwrap_or_else(|broken| panic!("{broken}"));
        println!("{tally:?}");
        return;
    }
    let (seeds, from) = (number("SIMULATION_SEEDS").unwrap_or(SEEDS), number("SIMULATION_FROM").unwrap_or(0));
    let began = Instant::now();
    let next = AtomicU64::new(from);
    let work = || {
        let mut sum = Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds {
                return Ok(sum);
            }
            match check(seed) {
                Ok(tally) => sum.add(&tally),
                Err(broken) => {
                    next.store(from + seeds, Ordering::Relaxed);
                    return Err(broken);
                }
            }
            let done = seed + 1 - from;
            if done.is_multiple_of(PROGRESS) {
                println!("progress {done} {seeds} histories in {:.0} s", began.elapsed().as_secs_f64());
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut sum = Tally::default();
    let sums: Vec<Result<Tally, String>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    for tally in sums {
        sum.add(&tally.unwrap_or_else(|broken| panic!("{broken}")));
    }
    let took = began.elapsed().as_secs_f64();
    println!("{seeds} histories from {from} in {took:.1} s, {:.0} a second: {sum:?}", seeds as f64 / took);
    // A simulation in which nothing went wrong shows nothing; of a few histories that cannot be said.
    for (what, count) in sum.counts() {
        assert!(seeds < SEEDS || count > seeds / 100, "only {count} {what} in {seeds} histories");
    }
}

#[test]
fn one_seed_gives_one_history() {
    for seed in 0..40 {
        let log = |_: u64| {
            let (result, world) = run(Plan { seed, log: true, ..Plan::default() });
            (result, world.log)
        };
        let (one, other) = (log(seed), log(seed));
        assert_eq!(one.0, other.0);
        assert!(one.1.len() > 10);
        let differs = one.1.iter().zip(&other.1).find(|(one, other)| one != other);
        assert!(differs.is_none() && one.1.len() == other.1.len(), "{differs:?}");
    }
}
