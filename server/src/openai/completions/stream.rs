//! Completions as they come: the prompts one behind the other, each token as soon as it is there.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use motorbrain::{Brain, BrainError, Finished, Sampled, StepItem, StepStream, Temporary, Terms, TokenId};

use super::{
    Answer, Choice, finish,
    request::{Asking, Prompt},
    scored, tokens,
    written::{Logprobs, Writer},
};
use crate::{
    app::{App, Caller},
    error::ApiError,
    openai::{head::Head, usage::Usage},
    spans,
    sse::{self, Source},
};

/// A streamed answer.
pub(super) struct Completions {
    app: App,
    brain: Brain,
    /// When all of it is to be done, and how long that was.
    until: Option<(Instant, Duration)>,
    terms: Terms,
    head: Head,
    asking: Arc<Asking>,
    /// Those that are not begun.
    prompts: VecDeque<Prompt>,
    /// Which choice is being written.
    index: usize,
    now: Option<Writing>,
    usage: Usage,
    /// Why each choice ended.
    reasons: Vec<&'static str>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Writing,
    /// The usage is told next, if it is told.
    Behind,
    Done,
}

/// One prompt's answer.
struct Writing {
    /// `None`: nothing is sampled of a prompt that is read.
    stream: Option<StepStream>,
    /// Of the prompt, tokens that need not be read: known at once where it is scored.
    cached: Option<usize>,
    conversation: Temporary,
    /// All tokens so far that the tokenizer knows.
    known: Vec<TokenId>,
    /// Tokens of the prompt.
    prompt: usize,
    /// Characters that were written, those of the prompt where it is written as well among them.
    chars: usize,
    /// What goes out before the first token.
    first: Option<(String, Option<Logprobs>)>,
}

/// Begins with the first prompt, so that what it is refused for has a status of its own.
pub(super) async fn begin(app: &App, caller: &Caller, head: Head, asking: Asking) -> Result<Completions, ApiError> {
    let mut completions = Completions {
        app: app.clone(),
        brain: app.brain(caller),
        until: app.request_max().map(|most| (Instant::now() + most, most)),
        terms: Terms { sharing: app.sharing(caller), ..Terms::default() },
        head,
        prompts: asking.prompts.iter().cloned().collect(),
        asking: Arc::new(asking),
        index: 0,
        now: None,
        usage: Usage::default(),
        reasons: Vec::new(),
        state: State::Writing,
    };
    completions.turn().await?;
    Ok(completions)
}

impl Source for Completions {
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            match self.state {
                State::Done => return Ok(None),
                State::Behind => {
                    self.state = State::Done;
                    spans::finished(&self.head.id, &self.reasons, self.usage);
                    return Ok(Some(self.last()));
                }
                State::Writing => {
                    if let Some(bytes) = self.token().await? {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}

impl Completions {
    /// What stands behind all choices.
    fn last(&self) -> Bytes {
        let usage = self.asking.usage.then(|| Answer::new(&self.head, vec![], Some(self.usage)));
        let usage = usage.map(|usage| sse::data(&usage)).unwrap_or_default();
        [usage, sse::DONE].concat().into()
    }

    /// The next event of the choice that is being written; `None`: it is over, and the next one has begun.
    async fn token(&mut self) -> Result<Option<Bytes>, ApiError> {
        let Some(writing) = &mut self.now else { return self.turn().await.map(|()| None) };
        if let Some((text, logprobs)) = writing.first.take() {
            return Ok(Some(self.event(text, logprobs, None)));
        }
        let Some(stream) = &mut writing.stream else {
            return self.ended(Finished::Count, 0, 0).await.map(Some);
        };
        match stream.next().await {
            Some(StepItem::Token { sampled, text }) => {
                let logprobs = self.listed(&sampled);
                Ok((!text.is_empty() || logprobs.is_some()).then(|| self.event(text, logprobs, None)))
            }
            Some(StepItem::Stepped(stepped)) => {
                self.ended(stepped.finished, stepped.context.reused, stepped.token_ids.len()).await.map(Some)
            }
            Some(StepItem::Failed { error, .. }) => Err(error.into()),
            None => Err(BrainError::Unavailable { reason: "the stream broke off".to_owned() }.into()),
        }
    }

    /// The entry of one token, where those are asked for.
    fn listed(&mut self, sampled: &Sampled) -> Option<Logprobs> {
        let writing = self.now.as_mut()?;
        self.asking.logprobs?;
        let mut logprobs = Logprobs::default();
        let tokenizer = self.app.tokenizer();
        let mut writer = Writer::behind(tokenizer, &writing.known);
        writer.list(sampled.token, Some(sampled.logprob), &sampled.top, writing.chars, &mut logprobs);
        writing.chars += writer.chars();
        writing.known.extend(Some(sampled.token).filter(|token| tokenizer.knows(*token)));
        Some(logprobs)
    }

    /// One choice is over.
    async fn ended(&mut self, finished: Finished, reused: usize, sampled: usize) -> Result<Bytes, ApiError> {
        let reason = finish(finished);
        let event = self.event(String::new(), None, Some(reason));
        self.reasons.push(reason);
        if let Some(writing) = self.now.take() {
            let took = Usage::new(writing.prompt, writing.cached.unwrap_or(reused), sampled);
            self.usage = self.usage.and(took);
            writing.conversation.close().await;
        }
        self.index += 1;
        Ok(event)
    }

    fn event(&self, text: String, logprobs: Option<Logprobs>, finish_reason: Option<&'static str>) -> Bytes {
        let choice = Choice { text, index: self.index, logprobs, finish_reason };
        sse::data(&Answer::new(&self.head, vec![choice], None))
    }

    /// The brain for the next of the requests, which has what is left of the time.
    fn brain(&self) -> Result<Brain, ApiError> {
        let Some((until, deadline)) = self.until else { return Ok(self.brain.clone()) };
        match until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(BrainError::Timeout { deadline }.into()),
            left => Ok(self.brain.within(left)),
        }
    }

    /// Begins with the next prompt, if there is one.
    async fn turn(&mut self) -> Result<(), ApiError> {
        let Some(prompt) = self.prompts.pop_front() else {
            self.state = State::Behind;
            return Ok(());
        };
        let tokens = tokens(&self.app, &self.brain()?, prompt).await?;
        let conversation = Temporary::new(&self.brain, "http");
        let mut first = None;
        let mut cached = None;
        if self.asking.echo {
            let writer = Writer::new(self.app.tokenizer(), &tokens);
            let mut logprobs = None;
            if self.asking.is_scored() {
                let scored = scored(&self.brain()?, &conversation, &self.terms, &tokens, &self.asking).await?;
                writer.scored(&tokens, &scored, logprobs.insert(Logprobs::default()));
                cached = Some(scored.context.reused);
            }
            first = Some((writer.prompt(), logprobs));
        }
        let unread = cached.is_none().then(|| tokens.clone());
        let stream = match unread.is_some() || self.asking.count > 0 {
            true => {
                let step = self.asking.step(conversation.name().clone(), &self.terms, unread);
                Some(self.brain()?.step_stream(step).await?)
            }
            false => None,
        };
        let chars = first.as_ref().map_or(0, |(text, _)| text.chars().count());
        let prompt = tokens.len();
        let tokenizer = self.app.tokenizer();
        let known = tokens.into_iter().filter(|token| tokenizer.knows(*token)).collect();
        self.now = Some(Writing { stream, cached, conversation, prompt, known, chars, first });
        Ok(())
    }
}
