//! What fuzzing has found and what it began with (`fuzz/corpus`), through what it calls: nothing panics, and nothing
//! takes long.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{common::root, fuzz};

/// None takes a second where the compiler optimises.
const PATIENCE: Duration = Duration::from_secs(10);

fn replay(target: &str, call: fn(&[u8])) {
    let mut inputs: Vec<_> =
        fs::read_dir(root().join("fuzz/corpus").join(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty());
    for input in inputs {
        let began = Instant::now();
        call(&fs::read(&input).unwrap());
        assert!(began.elapsed() < PATIENCE, "{} takes {:?}", input.display(), began.elapsed());
    }
}

#[test]
fn what_was_fuzzed_is_read_or_refused_again() {
    replay("graph", fuzz::graph);
    replay("edits", fuzz::edits);
    replay("tokenizer", fuzz::tokenizer);
    replay("configs", fuzz::configs);
    replay("lines", fuzz::lines);
}
