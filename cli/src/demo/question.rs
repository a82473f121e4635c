//! The first word: a question, and its answer as it is made.

use std::time::{Duration, Instant};

use motorbrain::{Brain, Step, StepItem};

use super::{broken, terminal};
use crate::{failure::Failure, output};

const QUESTION: &str = "What is the capital of France?";

/// More than the answer takes.
const COUNT: usize = 48;

/// Asks, and shows the answer token by token; returns how long after `began` its first word was there.
pub(super) async fn ask(brain: &Brain, began: Instant) -> Result<Duration, Failure> {
    output::print(QUESTION)?;
    terminal::write("> ")?;
    let mut answer = brain.step_stream(Step::greedy("question", chat(QUESTION), COUNT)).await.map_err(broken)?;
    let mut first_word = None;
    while let Some(item) = answer.next().await {
        match item {
            StepItem::Token { text, .. } => {
                first_word.get_or_insert_with(|| began.elapsed());
                terminal::write(&text)?;
            }
            StepItem::Stepped(_) => break,
            StepItem::Failed { error, .. } => return Err(broken(error)),
        }
    }
    output::print("\n")?;
    brain.close("question").await.map_err(broken)?;
    Ok(first_word.unwrap_or_else(|| began.elapsed()))
}

/// A user's words in the form that SmolLM2 and Qwen were trained on, and the start of the answer.
fn chat(words: &str) -> String {
    format!("<|im_start|>user\n{words}<|im_end|>\n<|im_start|>assistant\n")
}
