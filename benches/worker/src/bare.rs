//! The engine in a bare loop: no actor, no mailbox, no tokio. What it is faster by is what they cost.

use std::time::Instant;

use motorbrain::Sampling;
use motorbrain_actors::engine::{Engine, Row, SlotIndex, Want};
use serde_json::{Value, json};

use crate::{Outcome, Tokens};

/// Tokens of a prefill that share a run.
const CHUNK: usize = 512;

/// An engine and its open slots.
pub(crate) struct Bare {
    engine: Box<dyn Engine>,
    open: Vec<SlotIndex>,
    sampled: u64,
}

impl Bare {
    pub(crate) fn new(engine: Box<dyn Engine>) -> Self {
        Self { engine, open: Vec::new(), sampled: 0 }
    }

    pub(crate) fn open(&mut self, conversations: usize, context: usize) -> Outcome<Value> {
        for slot in self.open.drain(..) {
            self.engine.close(slot);
        }
        let began = Instant::now();
        for row in 0..conversations {
            let slot = self.engine.open()?;
            self.open.push(slot);
            let tokens = Tokens { vocab: self.engine.info().vocab }.of(row, 0, context);
            for piece in tokens.chunks(CHUNK) {
                self.engine.run(&[Row { slot, tokens: piece, want: Want::Nothing }])?;
            }
        }
        self.step(conversations)?;
        Ok(json!({ "seconds": began.elapsed().as_secs_f64() }))
    }

    pub(crate) fn decode(&mut self, conversations: usize, tokens: usize) -> Outcome<Value> {
        self.step(conversations)?;
        let began = Instant::now();
        for _ in 0..tokens {
            self.step(conversations)?;
        }
        Ok(json!({ "seconds": began.elapsed().as_secs_f64() }))
    }

    /// The next token of each of the first slots.
    fn step(&mut self, conversations: usize) -> Outcome<()> {
        let want = Want::Next { sampling: &Sampling::GREEDY, seed: 0, number: self.sampled, top: 0, guide: None };
        let rows: Vec<_> = self.open[..conversations].iter().map(|&slot| Row { slot, tokens: &[], want }).collect();
        self.engine.run(&rows)?;
        self.sampled += 1;
        Ok(())
    }
}
