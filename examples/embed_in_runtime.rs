//! An orchestrator owns the brain inside its own tokio runtime, uses it from several tasks and shuts
//! it down gracefully.
//!
//! ```text
//! cargo xtask setup
//! cargo run --example embed_in_runtime
//! ```
//!
//! Nothing here starts a second runtime: the brain and its supervision are tasks of this one, and
//! only the models run on threads of their own.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::{error::Error, process::ExitCode};

use motorbrain::{Brain, BrainError, Embed, Settings, Step, StepItem};
use tokio::{runtime::Builder, task::JoinSet};

const NOTES: [&str; 4] = [
    "The parser turns text into a syntax tree.",
    "A syntax tree is what the parser gives back.",
    "The cat sleeps on the warm roof.",
    "Bread rises slowly in a cold kitchen.",
];

fn main() -> ExitCode {
    // The orchestrator's runtime; MotorBrain only asks for tokio's time driver.
    let outcome = Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(orchestrate()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn orchestrate() -> Result<(), Box<dyn Error>> {
    let brain = motorbrain::start(&Settings::default()).await.map_err(|error| match error.hint() {
        Some(hint) => format!("{error}\n{hint}"),
        None => error.to_string(),
    })?;
    let info = brain.info().await?;
    println!("A brain of {} layers, vectors of {} numbers.\n", info.layers, info.hidden);

    let vectors = embed_all(&brain).await?;
    println!("How near each note is to the first one:");
    for (note, vector) in NOTES.iter().zip(&vectors) {
        println!("  {:.3}  {note}", dot(&vectors[0], vector));
    }

    // A request that was accepted before the shutdown is finished, not dropped.
    let mut last_words = brain.step_stream(Step::greedy("last words", "In the end,", 12)).await?;
    brain.shutdown().await;
    print!("\nShut down. What was under way: ");
    while let Some(item) = last_words.next().await {
        match item {
            StepItem::Token { text, .. } => print!("{text}"),
            StepItem::Stepped(stepped) => println!(" ({} tokens)", stepped.token_ids.len()),
            StepItem::Failed { error, .. } => return Err(error.into()),
        }
    }
    match brain.step(Step::greedy("too late", "Hello", 1)).await {
        Err(BrainError::Unavailable { reason }) => println!("What comes later: unavailable, {reason}."),
        other => return Err(format!("a brain that was shut down answered {other:?}").into()),
    }
    Ok(())
}

/// Each note by a task of its own; the handle is cheap to clone.
async fn embed_all(brain: &Brain) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let mut tasks = JoinSet::new();
    for (index, note) in NOTES.into_iter().enumerate() {
        let brain = brain.clone();
        tasks.spawn(async move {
            let embed = Embed::of(note);
            (index, brain.embed(embed).await)
        });
    }
    let mut vectors = vec![Vec::new(); NOTES.len()];
    while let Some(done) = tasks.join_next().await {
        let (index, embedded) = done?;
        vectors[index] = embedded?.embedding;
    }
    Ok(vectors)
}

/// Vectors have length 1 by default, so their dot product is their cosine.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
