//! What engines and conversations cost in resident memory, as the system counts it: of a model in f32,
//! whose weights are the runtime's to keep. Alone in its process, since that is what is counted.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "what was measured is shown")]

use std::{fs, path::Path};

use crate::common::{in_own_process, loader, run, window};
use motorbrain_actors::{
    engine::{Engine, EngineLoader, Sampling, Want},
    tokens::TokenId,
};

/// Actors, and what they may hold in all and each further one, as parts of what one holds.
const ENGINES: usize = 4;
const ALL_MAX: f64 = 2.0;
const FURTHER_MAX: f64 = 0.35;

/// Conversations, their tokens, and what they may hold beside their rows: a page of 32 tokens is begun, and
/// the allocator adds a little.
const CONVERSATIONS: usize = 5;
const TOKENS: usize = 1000;
const CONVERSATION_MAX: f64 = 1.1;

/// Resident bytes of this process.
pub(crate) fn resident() -> f64 {
    let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let rss = text.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    rss.trim().strip_suffix(" kB").unwrap().trim().parse::<f64>().unwrap() * 1024.0
}

/// Resident bytes of this process that are pages of a file of weights.
fn mapped() -> usize {
    let (mut weights, mut kilobytes) = (false, 0);
    for line in fs::read_to_string("/proc/self/smaps").unwrap().lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["Rss:", size, "kB"] if weights => kilobytes += size.parse::<usize>().unwrap(),
            [range, ..] if range.contains('-') => weights = line.ends_with("model.onnx.data"),
            _ => {}
        }
    }
    kilobytes << 10
}

/// Opens a conversation that has read so much.
fn read(engine: &mut dyn Engine, tokens: usize) {
    let slot = engine.open().unwrap();
    let tokens: Vec<_> = (0..tokens).map(|place| TokenId((1000 + place * 7919 % 40_000) as u32)).collect();
    for piece in tokens.chunks(500) {
        run(engine, slot, piece, Want::Nothing);
    }
    run(engine, slot, &[], Want::Next { sampling: &Sampling::GREEDY, seed: 0, number: 0, top: 0, guide: None });
}

#[test]
fn further_engines_and_conversations_cost_little() {
    in_own_process("memory::further_engines_and_conversations_cost_little", || {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(".motorbrain/models/smollm2-135m-f32");
        assert!(dir.is_dir(), "{} is missing; run `cargo xtask setup` first", dir.display());
        let window = window(2048, 4, 512);
        // Whatever else was learnt by a first load of this process or an earlier one is gone by then.
        drop(loader(&dir, window).load().unwrap());
        let loader = loader(&dir, window);
        let mut engines: Vec<Box<dyn Engine>> = Vec::new();
        let mut held = Vec::new();
        for _ in 0..ENGINES {
            let mut engine = loader.load().unwrap();
            read(&mut *engine, 64);
            engines.push(engine);
            held.push(resident());
        }
        println!(
            "engines: {:?} MiB",
            held.iter().map(|bytes| (bytes / f64::from(1 << 20)).round()).collect::<Vec<_>>()
        );
        assert_eq!(mapped(), 0, "a matrix that was packed is not looked at again");
        let first = held[0];
        assert!(held[ENGINES - 1] <= ALL_MAX * first, "{held:?}");
        for pair in held.windows(2) {
            assert!(pair[1] - pair[0] <= FURTHER_MAX * first, "{held:?}");
        }

        let engine = &mut *engines[0];
        // What a run of this size takes is there before.
        read(engine, TOKENS);
        let before = resident();
        (0..CONVERSATIONS).for_each(|_| read(engine, TOKENS));
        let each = (resident() - before) / CONVERSATIONS as f64;
        let rows = (TOKENS * engine.info().kv_bytes_per_token) as f64;
        println!("a conversation: {:.2} of its rows", each / rows);
        assert!(each <= CONVERSATION_MAX * rows, "{each} bytes for {rows}");
    });
}
