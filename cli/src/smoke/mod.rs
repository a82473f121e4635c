//! `motorbrain smoke`: a model is tried through the whole path, from text to vector and back.
//!
//! One conversation is given a text a turn until its window has slid, then it is reset. The table
//! shows how the cache grew and how far each vector lies from the one before; the checks below it say
//! whether that is as it should be. The checks are pure and live in `checks.rs`.

mod checks;

use std::{sync::Arc, time::Instant};

use comfy_table::CellAlignment;
use motorbrain::{
    Brain, BrainError, ConversationId, Embed, Embedded, Parts, Settings, StartError, Step, engine::OnnxLoader,
};
use serde::Serialize;

use crate::{args::Common, exit::Exit, failure::Failure, output};
use checks::{Again, Check, Seen, Turn, cosine};

/// The window where the settings name none: soon full, and enough for a turn.
const WINDOW_SIZE: usize = 96;

/// The most turns; enough for a window of several hundred tokens.
const TURNS_MAX: usize = 64;

/// Tokens to sample at the end.
const STEP_COUNT: usize = 8;

/// What is said, turn by turn, over and over: different things, so that vectors differ.
const TEXTS: [&str; 4] = [
    "def add(a, b):\n    return a + b\n",
    "The river rises in the hills and ends in the sea. ",
    "fn main() { println!(\"hello\"); }\n",
    "Once upon a time there was a lamp that never went out. ",
];

#[derive(Serialize)]
struct Outcome<'a> {
    passed: bool,
    turns: &'a [Turn],
    checks: &'a [Check],
    text: &'a str,
}

/// Tries the model, prints, and gives [`Exit::Smoke`] where a check failed.
pub(crate) async fn run(common: &Common, json: bool) -> Result<Exit, Failure> {
    let mut settings = common.settings()?;
    let parts = with_small_window(Parts::find(&settings).await?, &mut settings)?;
    let brain = parts.start(&settings, None).await?;
    let tried = conversation(&brain).await;
    brain.shutdown().await;
    let seen = tried.map_err(|error| Failure::new(Exit::Smoke, error, None))?;
    let checks = checks::all(&seen, settings.embedding.normalize);
    let passed = checks.iter().all(|check| check.passed);
    if json {
        output::print_json(&Outcome { passed, turns: &seen.turns, checks: &checks, text: &seen.text })?;
    } else {
        output::print(&report(&seen, &checks))?;
    }
    Ok(if passed { Exit::Fine } else { Exit::Smoke })
}

/// Without a `window.size` the parts get a small window, so that it is full after a few turns.
fn with_small_window(parts: Parts, settings: &mut Settings) -> Result<Parts, StartError> {
    if settings.window.size.is_some() {
        return Ok(parts);
    }
    settings.window.size = Some(WINDOW_SIZE.min(parts.model.context.tokens));
    let options = motorbrain::engine_options(settings);
    let loader = OnnxLoader::new(parts.runtime.clone(), Arc::clone(&parts.model), options)?;
    Ok(Parts { loader: Arc::new(loader), ..parts })
}

/// Holds the conversation; it ends early where the window is full and does not slide.
async fn conversation(brain: &Brain) -> Result<Seen, BrainError> {
    let info = brain.info().await?;
    let name = ConversationId::from("smoke");
    let mut turns = Vec::new();
    let mut vectors: Vec<Vec<f32>> = Vec::new();
    let mut refused = false;
    for (number, text) in (1..=TURNS_MAX).zip(TEXTS.iter().cycle()) {
        let began = Instant::now();
        let embedded = match embed(brain, &name, text).await {
            Err(BrainError::ContextFull { .. }) => {
                refused = true;
                break;
            }
            embedded => embedded?,
        };
        turns.push(Turn {
            turn: number,
            tokens: embedded.tokens,
            context_len: embedded.context.context_len,
            ms: began.elapsed().as_secs_f64() * 1e3,
            kv_bytes: embedded.context.context_len * info.kv_bytes_per_token,
            cosine: vectors.last().map(|previous| cosine(previous, &embedded.embedding)),
            length: checks::length(&embedded.embedding),
        });
        vectors.push(embedded.embedding);
        // One turn more than the first slide, so that a vector behind it is seen, too.
        if checks::turns_since_slide(&turns) >= 2 {
            break;
        }
    }
    let resident = brain.stats().await?.kv_bytes;
    brain.reset(name.clone()).await?;
    let embedded = embed(brain, &name, TEXTS[0]).await?;
    let again = Again {
        cosine: vectors.first().map_or(0.0, |first| cosine(first, &embedded.embedding)),
        tokens: embedded.tokens,
        context_len: embedded.context.context_len,
    };
    let goes_on = Step { input: None, ..Step::greedy(name.clone(), "", STEP_COUNT) };
    let stepped = brain.step(goes_on).await?;
    brain.close(name).await?;
    Ok(Seen {
        window: info.window,
        resident,
        turns,
        refused,
        again,
        sampled: stepped.token_ids.len(),
        text: stepped.text,
    })
}

async fn embed(brain: &Brain, name: &ConversationId, text: &str) -> Result<Embedded, BrainError> {
    brain.embed(Embed { conversation: Some(name.clone()), ..Embed::of(text) }).await
}

fn report(seen: &Seen, checks: &[Check]) -> String {
    let mut turns = output::table(["turn", "tokens", "context", "KV KiB", "cosine to the last", "ms"]);
    for turn in &seen.turns {
        turns.add_row([
            turn.turn.to_string(),
            turn.tokens.to_string(),
            turn.context_len.to_string(),
            (turn.kv_bytes / 1024).to_string(),
            turn.cosine.map_or("-".into(), |cosine| format!("{cosine:.4}")),
            format!("{:.1}", turn.ms),
        ]);
    }
    for column in turns.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut verdicts = output::table(["", "check", "seen"]);
    for check in checks {
        verdicts.add_row([if check.passed { "ok" } else { "FAILED" }, check.name, &check.seen]);
    }
    format!("{turns}\n\n{verdicts}")
}
