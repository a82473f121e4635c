//! A chat's answers as their caller holds them: what the brain's streams give, in the order in which it comes.

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use motorbrain_actors::{
    brain::{StepItem, StepStream, Temporary},
    message::{BrainError, Stepped},
    tokens::TokenId,
};

use super::{
    Answered, ChatError, ChatItem, Choice,
    choice::Coming,
    turn::{Brought, Turn},
};

/// Where an answer is sampled.
pub(super) enum Place {
    /// In a conversation of the caller's.
    Named(#[expect(dead_code, reason = "held until the answer is over")] Turn),
    /// In one of its own.
    Fresh(Temporary),
}

/// Answers that were asked for.
pub(super) struct Awaited {
    /// The answers, which are cancelled before their conversations are closed.
    pub(super) coming: Vec<(StepStream, Coming)>,
    pub(super) places: Vec<Place>,
    pub(super) prompt: Vec<TokenId>,
    pub(super) brought: Brought,
    /// Whether the first of them is in a conversation of the caller's.
    pub(super) is_named: bool,
    pub(super) end_tokens: Vec<TokenId>,
    /// Where the prompt was read apart: how many of its tokens others had read.
    pub(super) read: Option<usize>,
}

/// A chat's answers as they come. Dropping it cancels what is left, and lets go of its conversations.
pub struct ChatStream {
    coming: Vec<Option<(StepStream, Coming)>>,
    places: Vec<Place>,
    prompt: usize,
    brought: Brought,
    is_named: bool,
    end_tokens: Vec<TokenId>,
    deadline: Option<Duration>,
    /// Told to nobody yet.
    items: VecDeque<ChatItem>,
    choices: Vec<Option<Choice>>,
    reused: Option<usize>,
    /// Which stream is looked at first.
    next: usize,
    is_over: bool,
}

impl ChatStream {
    pub(super) fn new(awaited: Awaited, deadline: Option<Duration>) -> Self {
        let Awaited { coming, places, prompt, brought, is_named, end_tokens, read } = awaited;
        Self {
            choices: coming.iter().map(|_| None).collect(),
            coming: coming.into_iter().map(Some).collect(),
            places,
            prompt: prompt.len(),
            brought,
            is_named,
            end_tokens,
            deadline,
            items: VecDeque::new(),
            reused: read,
            next: 0,
            is_over: false,
        }
    }

    /// The next item; `None` after the last, which is [`ChatItem::Done`] or [`ChatItem::Failed`].
    pub async fn next(&mut self) -> Option<ChatItem> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Some(item);
            }
            if self.is_over {
                return None;
            }
            match poll_fn(|context| self.poll(context)).await {
                Some((index, item)) => self.take(index, item),
                None => self.end(),
            }
        }
    }

    /// Lets go of its conversations, and returns when that is done.
    pub(super) async fn close(mut self) {
        self.coming.clear();
        for place in mem::take(&mut self.places) {
            if let Place::Fresh(fresh) = place {
                fresh.close().await;
            }
        }
    }

    /// What comes next of any answer; `None`: all are over.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, StepItem)>> {
        let count = self.coming.len();
        let mut waits = false;
        for offset in 0..count {
            let index = (self.next + offset) % count;
            let Some((stream, _)) = &mut self.coming[index] else { continue };
            // A stream that gives nothing now remembers whom to wake.
            let polled = pin!(stream.next()).poll(context);
            match polled {
                Poll::Ready(Some(item)) => {
                    self.next = index + 1;
                    return Poll::Ready(Some((index, item)));
                }
                Poll::Ready(None) => self.coming[index] = None,
                Poll::Pending => waits = true,
            }
        }
        if waits { Poll::Pending } else { Poll::Ready(None) }
    }

    fn take(&mut self, index: usize, item: StepItem) {
        match item {
            StepItem::Token { sampled, text } => {
                let is_end = self.end_tokens.contains(&sampled.token);
                if let Some((_, coming)) = &mut self.coming[index] {
                    coming.token(&sampled, &text, is_end, &mut self.items);
                }
            }
            StepItem::Stepped(stepped) => self.over(index, &stepped),
            StepItem::Failed { error, .. } => self.fail(match (error, self.deadline) {
                // Whoever asked knows of one deadline.
                (BrainError::Timeout { .. }, Some(deadline)) => BrainError::Timeout { deadline }.into(),
                (error, _) => error.into(),
            }),
        }
    }

    /// An answer is whole.
    fn over(&mut self, index: usize, stepped: &Stepped) {
        let Some((_, coming)) = self.coming[index].take() else { return };
        let count = stepped.token_ids.len();
        if index == 0 {
            self.reused.get_or_insert(stepped.context.reused);
            let (found, expected) = (stepped.context.context_len, self.prompt + count);
            if self.is_named && found != expected {
                return self.fail(ChatError::Disturbed { found, expected });
            }
        }
        self.choices[index] = Some(coming.over(stepped.finished, count, &mut self.items));
    }

    fn fail(&mut self, error: ChatError) {
        self.let_go();
        self.items.push_back(ChatItem::Failed(error));
    }

    /// All answers are whole.
    fn end(&mut self) {
        let choices: Vec<Choice> = mem::take(&mut self.choices).into_iter().flatten().collect();
        let answered = Answered {
            prompt_tokens: self.prompt,
            reused: self.brought.reused(self.reused.unwrap_or(0), self.prompt),
            completion_tokens: choices.iter().map(|choice| choice.completion_tokens).sum(),
            choices,
        };
        self.is_over = true;
        // Whose turn it is next need not wait until this is dropped.
        self.places.retain(|place| matches!(place, Place::Fresh(_)));
        self.items.push_back(ChatItem::Done(answered));
    }

    /// Cancels what is left.
    fn let_go(&mut self) {
        self.is_over = true;
        self.coming.clear();
        self.places.clear();
    }
}

impl std::fmt::Debug for ChatStream {
    /// Without what users have said.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatStream").field("prompt", &self.prompt).finish_non_exhaustive()
    }
}
