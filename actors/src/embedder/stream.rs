//! A streamed step of an embedder actor used alone, as its caller holds it.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use tokio::{sync::mpsc, time::Sleep};

use super::client::{Answer, CancelOnDrop, gone};
use crate::{
    engine::Sampled,
    job::{Done, JobError, Outcome},
    message::BrainError,
};

/// What a job shows on its way.
pub(super) enum Shown {
    Token { sampled: Sampled, stopped: bool, context_len: usize },
    Done(Box<Done>),
}

/// What a [`TokenStream`] gives.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenItem {
    /// A token that is committed: it stays, whatever happens to the step.
    Token {
        /// The token.
        sampled: Sampled,
        /// Whether it is an end token.
        stopped: bool,
        /// Tokens in the context with it.
        context_len: usize,
    },
    /// The last item of a step that is done: all its tokens, as [`Embedder::step`](super::Embedder::step) gives them.
    Stepped(Answer<(Vec<Sampled>, bool)>),
    /// The last item of one that is not. The conversation is as it was, but for what was shown.
    Failed {
        /// Why.
        error: JobError,
        /// How many tokens were committed, the step's input before the first of them.
        committed: usize,
    },
}

/// What the caller of a streamed step holds. Dropping it cancels the step; tokens that were shown stay.
pub struct TokenStream {
    shown: mpsc::UnboundedReceiver<Shown>,
    /// When it is too late, and how long was allowed.
    deadline: Option<(Pin<Box<Sleep>>, Duration)>,
    committed: usize,
    /// Gone when the step has ended.
    cancel: Option<CancelOnDrop>,
}

impl TokenStream {
    pub(super) fn new(
        shown: mpsc::UnboundedReceiver<Shown>,
        deadline: Option<(Pin<Box<Sleep>>, Duration)>,
        cancel: CancelOnDrop,
    ) -> Self {
        Self { shown, deadline, committed: 0, cancel: Some(cancel) }
    }

    /// The next item; `None` after the last, which is [`TokenItem::Stepped`] or [`TokenItem::Failed`].
    pub async fn next(&mut self) -> Option<TokenItem> {
        self.cancel.as_ref()?;
        let item = match self.shown().await {
            Ok(Some(Shown::Token { sampled, stopped, context_len })) => {
                self.committed += 1;
                return Some(TokenItem::Token { sampled, stopped, context_len });
            }
            Ok(Some(Shown::Done(done))) => {
                let Done { outcome, context_len, rebuilt, .. } = *done;
                match outcome {
                    Ok(Outcome::Stepped { sampled, stopped }) => {
                        TokenItem::Stepped(Answer { value: (sampled, stopped), context_len, rebuilt })
                    }
                    outcome => self.failed(outcome.err().unwrap_or_else(|| gone().into())),
                }
            }
            Ok(None) => self.failed(gone().into()),
            Err(deadline) => self.failed(BrainError::Timeout { deadline }.into()),
        };
        self.cancel = None;
        Some(item)
    }

    fn failed(&self, error: JobError) -> TokenItem {
        TokenItem::Failed { error, committed: self.committed }
    }

    /// What is shown next, or how long was allowed where it comes too late.
    async fn shown(&mut self) -> Result<Option<Shown>, Duration> {
        poll_fn(|context| {
            // What is shown before the deadline counts, also where its reader comes later.
            if let Poll::Ready(shown) = self.shown.poll_recv(context) {
                return Poll::Ready(Ok(shown));
            }
            match &mut self.deadline {
                Some((deadline, allowed)) => deadline.as_mut().poll(context).map(|()| Err(*allowed)),
                None => Poll::Pending,
            }
        })
        .await
    }
}
