//! What a model is worth: its perplexity on two texts, and its speed.
//!
//! Both through the engine that serves it. Perplexity is read in chunks, as a conversation is.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use motorbrain_actors::{
    engine::{Engine, EngineError, EngineLoader, Row, RowOutput, Sampling, SlotIndex, Want},
    tokens::{TokenId, Tokenizer as _},
};
use serde::Serialize;

use super::PrepareError;
use crate::{
    engine::{EngineOptions, FormOptions, OnnxLoader, Overflow, Runtime, SessionOptions, WindowOptions},
    model::Model,
};

const CODE: &str = include_str!("texts/code.txt");
const ENGLISH: &str = include_str!("texts/english.txt");

/// Tokens read at once while a text is scored.
const CHUNK_LEN: usize = 64;
/// Tokens of the prefill that is timed, and how often it is; the best time counts.
const PREFILL_LEN: usize = 256;
const PREFILL_ROUNDS: usize = 3;
/// Tokens of context before the decode that is timed, and steps of it; the median counts.
const PROMPT_LEN: usize = 64;
const DECODE_STEPS: usize = 33;
const NEXT: Want<'static> = Want::Next { sampling: &Sampling::GREEDY, seed: 0, number: 0, top: 0, guide: None };

/// Of each token but the first, given all before it; smaller is better.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Perplexity {
    /// On a page of Python.
    pub code: f64,
    /// On a page of prose.
    pub english: f64,
}

/// What was measured of one model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Bytes of its weights.
    pub weight_bytes: u64,
    /// How well it predicts.
    pub perplexity: Perplexity,
    /// Tokens a second of one conversation that decodes.
    pub decode_tokens_per_s: f64,
    /// Tokens a second of a prompt of 256 tokens.
    pub prefill_tokens_per_s: f64,
}

/// The two texts as a model's tokens.
pub(super) struct Texts {
    code: Vec<TokenId>,
    english: Vec<TokenId>,
}

impl Texts {
    /// Cuts the texts into tokens of a model.
    pub(super) fn of(model: &Model) -> Result<Self, PrepareError> {
        Ok(Self { code: model.tokenizer.encode(CODE)?, english: model.tokenizer.encode(ENGLISH)? })
    }
}

/// Measures models on the same texts and in the same way.
pub(super) struct Measurer<'a> {
    /// Whose library runs the model.
    pub(super) runtime: &'a Runtime,
    /// How it uses the machine: as it will be used.
    pub(super) session: SessionOptions,
    /// What is predicted.
    pub(super) texts: Texts,
}

impl Measurer<'_> {
    /// Loads a model, measures it and unloads it again.
    pub(super) fn measure(&self, model: &Arc<Model>, weight_bytes: u64) -> Result<Measured, PrepareError> {
        let window = WindowOptions { overflow: Overflow::Error, ..WindowOptions::default() };
        let options = EngineOptions { session: self.session, window, form: FormOptions::default() };
        let mut engine = OnnxLoader::new(self.runtime.clone(), Arc::clone(model), options)?.load()?;
        let Texts { code, english } = &self.texts;
        let perplexity =
            Perplexity { code: perplexity(&mut *engine, code)?, english: perplexity(&mut *engine, english)? };
        Ok(Measured {
            weight_bytes,
            perplexity,
            decode_tokens_per_s: decode(&mut *engine, english)?,
            prefill_tokens_per_s: prefill(&mut *engine, english)?,
        })
    }
}

/// The perplexity of a text, or of as much of it as the window holds.
fn perplexity(engine: &mut dyn Engine, tokens: &[TokenId]) -> Result<f64, PrepareError> {
    let tokens = &tokens[..tokens.len().min(engine.info().window.size)];
    let slot = engine.open()?;
    let mut logprobs = Vec::new();
    for (index, chunk) in tokens.chunks(CHUNK_LEN).enumerate() {
        let next = tokens.get((index + 1) * CHUNK_LEN).copied();
        logprobs.extend(run(engine, slot, chunk, Want::Scores { first: index == 0, next, top: 0 })?.scores);
    }
    engine.close(slot);
    if logprobs.is_empty() {
        return Err(PrepareError::NoScores { window: engine.info().window.size });
    }
    let sum: f64 = logprobs.iter().map(|&logprob| f64::from(logprob)).sum();
    Ok((-sum / logprobs.len() as f64).exp())
}

fn decode(engine: &mut dyn Engine, tokens: &[TokenId]) -> Result<f64, PrepareError> {
    let steps = DECODE_STEPS.min(engine.info().window.size / 2);
    let prompt = PROMPT_LEN.min(engine.info().window.size - steps);
    let slot = engine.open()?;
    run(engine, slot, &tokens[..prompt.min(tokens.len())], Want::Nothing)?;
    let mut times = Vec::new();
    for _ in 0..steps {
        let began = Instant::now();
        run(engine, slot, &[], NEXT)?;
        times.push(began.elapsed());
    }
    engine.close(slot);
    times.sort();
    Ok(per_second(1, times.get(times.len() / 2)))
}

fn prefill(engine: &mut dyn Engine, tokens: &[TokenId]) -> Result<f64, PrepareError> {
    let prompt = &tokens[..PREFILL_LEN.min(tokens.len()).min(engine.info().window.size - 1)];
    let mut times = Vec::new();
    for _ in 0..PREFILL_ROUNDS {
        let slot = engine.open()?;
        let began = Instant::now();
        run(engine, slot, prompt, NEXT)?;
        times.push(began.elapsed());
        engine.close(slot);
    }
    Ok(per_second(prompt.len(), times.iter().min()))
}

fn run(engine: &mut dyn Engine, slot: SlotIndex, tokens: &[TokenId], want: Want<'_>) -> Result<RowOutput, EngineError> {
    Ok(engine.run(&[Row { slot, tokens, want }])?.next().unwrap_or_default())
}

fn per_second(tokens: usize, time: Option<&Duration>) -> f64 {
    time.map_or(0.0, |time| tokens as f64 / time.as_secs_f64())
}
