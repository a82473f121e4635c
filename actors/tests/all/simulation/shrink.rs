//! A history that fails, made short: what callers do is left out, much of it at once at first, as long as it still fails.

use std::collections::BTreeSet;

use super::{
    run,
    world::{ACTIONS, Plan},
};

/// The fewest things that callers must do for it to fail, nearly (Zeller, Hildebrandt 2002, "Simplifying and Isolating
/// Failure-Inducing Input").
fn shrunk(seed: u64) -> BTreeSet<u64> {
    let fails = |dropped: &BTreeSet<u64>| run(Plan { seed, dropped: dropped.clone(), log: false }).0.is_err();
    let mut dropped = BTreeSet::new();
    let mut size = ACTIONS / 2;
    loop {
        let before = dropped.len();
        let left: Vec<u64> = (0..ACTIONS).filter(|action| !dropped.contains(action)).collect();
        // From the end, where most is done that comes too late to matter.
        for some in left.rchunks(size as usize) {
            let more: BTreeSet<u64> = dropped.iter().chain(some).copied().collect();
            if fails(&more) {
                dropped = more;
            }
        }
        match size {
            1 if dropped.len() == before => return dropped,
            1 => {}
            _ => size /= 2,
        }
    }
}

/// What happens in the shortest history of a seed that fails, and what is wrong with it.
pub(crate) fn told(seed: u64) -> String {
    let dropped = shrunk(seed);
    let left = ACTIONS - dropped.len() as u64;
    let (result, world) = run(Plan { seed, dropped, log: true });
    let broken = result.err().unwrap_or_else(|| "it does not fail when it is written down".to_owned());
    format!("{}\nseed {seed}, {left} of {ACTIONS} things that callers do: {broken}", world.log.join("\n"))
}
