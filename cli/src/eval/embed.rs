//! Vectors of many texts, through the brain as any caller gets them: so many at once that they ride together.

use std::time::Duration;

use motorbrain::{Brain, BrainError, ConversationId, Embed, Embedded, Input, VectorTerms};
use tokio::task::JoinSet;

/// A vector a text.
pub(crate) type Vectors = Vec<Vec<f32>>;

/// How many texts wait at once: enough to fill runs, and far from any limit.
const AT_ONCE: usize = 64;

/// A minute is longer than whatever rides before; a permit comes sooner.
const PATIENCE: Duration = Duration::from_secs(60);

/// A vector a text, in their order; `tell` is called with how many are done.
pub(crate) async fn all<T: Clone + Into<Input>>(
    brain: &Brain,
    texts: &[T],
    vector: VectorTerms,
    mut tell: impl FnMut(usize),
) -> Result<Vectors, BrainError> {
    let brain = brain.waiting(PATIENCE);
    let mut vectors = vec![Vec::new(); texts.len()];
    let mut waiting = texts.iter().cloned().enumerate();
    let (mut riding, mut done) = (JoinSet::new(), 0);
    loop {
        for (place, text) in waiting.by_ref().take(AT_ONCE - riding.len()) {
            let (brain, embed) = (brain.clone(), Embed { vector, ..Embed::of(text) });
            riding.spawn(async move { (place, brain.embed(embed).await) });
        }
        let Some(joined) = riding.join_next().await else { return Ok(vectors) };
        let (place, embedded) = joined.map_err(panicked)?;
        vectors[place] = embedded?.embedding;
        done += 1;
        tell(done);
    }
}

/// The vector of a text by itself.
pub(super) async fn alone(brain: &Brain, text: String) -> Result<Embedded, BrainError> {
    brain.embed(Embed::of(text)).await
}

/// The vector of what a conversation reads next.
pub(super) async fn next(
    brain: &Brain,
    conversation: &ConversationId,
    input: impl Into<Input>,
) -> Result<Embedded, BrainError> {
    brain.embed(Embed { conversation: Some(conversation.clone()), ..Embed::of(input) }).await
}

/// What a task of ours that has died is told as.
pub(super) fn panicked(panic: tokio::task::JoinError) -> BrainError {
    BrainError::Unavailable { reason: panic.to_string() }
}
