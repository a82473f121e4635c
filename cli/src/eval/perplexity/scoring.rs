//! Log-probabilities of a text's tokens, through the brain: slid in one conversation, or read again in many.

use std::time::Duration;

use motorbrain::{Brain, BrainError, ConversationId, Score, Sharing, Step, Terms, TokenId};
use tokio::task::JoinSet;

use super::plan::{Piece, Shape};
use crate::eval::embed::panicked;

/// How many pieces are read at once, so that they ride together.
const AT_ONCE: usize = 8;
/// How many tokens of a conversation are asked for at once: others' and our progress need not wait for all.
const ASKED: usize = 1024;
/// A minute is longer than whatever rides before.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of each token given all that the window holds as it slides. That of the first, which nothing predicts, is NaN.
pub(super) async fn slid(
    brain: &Brain,
    tokens: &[TokenId],
    mut tell: impl FnMut(usize),
) -> Result<Vec<f64>, BrainError> {
    let conversation = ConversationId::from("slid");
    let mut logprobs = Vec::with_capacity(tokens.len());
    for asked in tokens.chunks(ASKED) {
        logprobs.extend(score(brain, &conversation, asked.to_vec()).await?);
        tell(logprobs.len());
    }
    brain.close(conversation).await?;
    Ok(logprobs)
}

/// The same of a window whose tokens are read again wherever it slides.
pub(super) async fn read_again(
    brain: &Brain,
    tokens: &[TokenId],
    shape: Shape,
    mut tell: impl FnMut(usize),
) -> Result<Vec<f64>, BrainError> {
    let brain = brain.waiting(PATIENCE);
    let mut logprobs = vec![f64::NAN; tokens.len()];
    let mut waiting = shape.pieces(tokens.len()).into_iter();
    let (mut riding, mut done) = (JoinSet::new(), 0);
    loop {
        for piece in waiting.by_ref().take(AT_ONCE - riding.len()) {
            let before = [&tokens[..piece.sinks], &tokens[piece.kept.clone()]].concat();
            let new = tokens[piece.new.clone()].to_vec();
            let brain = brain.clone();
            riding.spawn(async move { alone(&brain, piece, before, new).await });
        }
        let Some(joined) = riding.join_next().await else { return Ok(logprobs) };
        let (new, found) = joined.map_err(panicked)??;
        done += new.len();
        logprobs[new].copy_from_slice(&found);
        tell(done);
    }
}

/// A piece in a conversation of its own.
async fn alone(
    brain: &Brain,
    piece: Piece,
    before: Vec<TokenId>,
    new: Vec<TokenId>,
) -> Result<(std::ops::Range<usize>, Vec<f64>), BrainError> {
    let conversation = ConversationId::from(format!("read again from {}", piece.new.start));
    if !before.is_empty() {
        brain.step(Step { terms: unshared(), ..Step::greedy(conversation.clone(), before, 0) }).await?;
    }
    let found = score(brain, &conversation, new).await?;
    brain.close(conversation).await?;
    Ok((piece.new, found))
}

async fn score(brain: &Brain, conversation: &ConversationId, tokens: Vec<TokenId>) -> Result<Vec<f64>, BrainError> {
    let score = Score { terms: unshared(), ..Score::of(conversation.clone(), tokens) };
    let logprobs = brain.score(score).await?.logprobs;
    Ok(logprobs.into_iter().map(|logprob| logprob.map_or(f64::NAN, f64::from)).collect())
}

/// What is measured is read anew.
fn unshared() -> Terms {
    Terms { sharing: Some(Sharing::Nobody), ..Terms::default() }
}
