//! One open request as the shell holds it: who waits for its answer, and how the policy's answer,
//! made of tokens, becomes a reply with text.

use ractor::RpcReplyPort;
use tokio::sync::OwnedSemaphorePermit;

use super::message::{QueuePort, StepItem, StreamPort};
use crate::{
    engine::Sampled,
    job::{Cancel, Choice, Outcome},
    message::{BrainError, Context, Embedded, Finished, Input, Reply, Scored, Several, Stepped},
    policy::Answer,
    text::{StepText, StopTexts},
    tokens::{TokenId, TokenizerKind},
};

/// Who waits for an answer.
pub(super) enum Caller {
    /// Nobody: the request is done for its effect on the conversation.
    Nobody,
    /// One who waits for the whole reply.
    Reply(RpcReplyPort<Result<Reply, BrainError>>),
    /// One who takes the replies to many requests in the order of their ends.
    Queue(QueuePort),
    /// One who only wants to know that it is done.
    Done(RpcReplyPort<Result<(), BrainError>>),
    /// One who is shown a step's tokens as they come.
    Stream(StreamPort),
    /// One who is shown them among the replies to many requests.
    QueuedStream(QueuePort),
}

/// A request that is not answered yet.
pub(super) struct Open {
    /// Who is answered.
    pub(super) caller: Caller,
    /// Stops the job behind it between two runs.
    pub(super) cancel: Cancel,
    /// What its log lines stand in.
    pub(super) span: tracing::Span,
    /// Until it is tokenised.
    pub(super) input: Option<Input>,
    /// Where a step's text ends.
    pub(super) stops: StopTexts,
    /// The text of a step, from the first time that an actor has it.
    pub(super) text: Option<StepText>,
    /// Given back with the answer.
    pub(super) _permit: Option<OwnedSemaphorePermit>,
}

impl Open {
    /// Whether the caller went away.
    pub(super) fn is_abandoned(&self) -> bool {
        match &self.caller {
            Caller::Nobody => false,
            Caller::Reply(port) => port.is_closed(),
            Caller::Queue(port) | Caller::QueuedStream(port) => port.is_closed(),
            Caller::Done(port) => port.is_closed(),
            Caller::Stream(port) => port.is_closed(),
        }
    }

    /// Shows the next token of a streamed step; false if the caller went away.
    pub(super) fn show(&mut self, sampled: Sampled, last: bool, end_tokens: &[TokenId]) -> bool {
        let text = self.text.as_mut().map(|text| {
            if !end_tokens.contains(&sampled.token) {
                text.push(&[sampled.token]);
            }
            text.take(last)
        });
        let text = text.unwrap_or_default();
        match &self.caller {
            Caller::Stream(port) => port.send(StepItem::Token { sampled, text }).is_ok(),
            Caller::QueuedStream(port) => port.show(sampled, text),
            Caller::Nobody | Caller::Reply(_) | Caller::Queue(_) | Caller::Done(_) => true,
        }
    }

    /// Gives the caller its answer, once and for all.
    pub(super) fn answer(self, answer: Answer, end_tokens: &[TokenId], tokenizer: TokenizerKind) {
        let reply = || reply(answer, self.text, end_tokens, tokenizer);
        // A caller that went away wants nothing.
        match self.caller {
            Caller::Nobody => {}
            Caller::Reply(port) => drop(port.send(Ok(reply()))),
            Caller::Queue(port) | Caller::QueuedStream(port) => port.send(Ok(reply())),
            Caller::Done(port) => drop(port.send(Ok(()))),
            Caller::Stream(port) => {
                if let Reply::Stepped(stepped) = reply() {
                    drop(port.send(StepItem::Stepped(stepped)));
                }
            }
        }
    }
}

impl Caller {
    /// Tells the caller why there is no answer; of a stream, how many tokens were committed before.
    pub(super) fn fail(self, error: BrainError, committed: usize) {
        match self {
            Caller::Nobody => {}
            Caller::Reply(port) => drop(port.send(Err(error))),
            Caller::Queue(port) | Caller::QueuedStream(port) => port.send(Err(error)),
            Caller::Done(port) => drop(port.send(Err(error))),
            Caller::Stream(port) => drop(port.send(StepItem::Failed { error, committed })),
        }
    }
}

fn reply(answer: Answer, text: Option<StepText>, end_tokens: &[TokenId], tokenizer: TokenizerKind) -> Reply {
    let Answer { context_len, rebuilt, reused, .. } = answer;
    let context = Context { context_len, rebuilt, reused, tokenizer };
    match answer.outcome {
        Outcome::Embedded(embedding) => Reply::Embedded(Embedded { embedding, tokens: answer.tokens, context }),
        Outcome::Stepped { sampled, stopped } => Reply::Stepped(stepped(sampled, stopped, text, end_tokens, context)),
        Outcome::Scored(logprobs) => Reply::Scored(Scored { logprobs, context }),
        Outcome::Several(choices) => {
            let choice = |Choice { sampled, stopped, context_len }| {
                stepped(sampled, stopped, text.clone(), end_tokens, Context { context_len, ..context })
            };
            Reply::Several(Several { choices: choices.into_iter().map(choice).collect(), context })
        }
        Outcome::Moved => Reply::Stands(context),
        Outcome::Forgotten => Reply::Done,
    }
}

/// `text` knows the tokens that were shown.
fn stepped(
    sampled: Vec<Sampled>,
    stopped: bool,
    text: Option<StepText>,
    end_tokens: &[TokenId],
    context: Context,
) -> Stepped {
    let token_ids: Vec<TokenId> = sampled.iter().map(|sampled| sampled.token).collect();
    // The end token is no part of the text.
    let ends = token_ids.last().is_some_and(|last| end_tokens.contains(last));
    let text = text.map(|mut text| {
        let new = token_ids.get(text.tokens()..token_ids.len() - usize::from(ends));
        text.push(new.unwrap_or_default());
        text.into_text()
    });
    let logprobs = sampled.iter().map(|sampled| sampled.logprob).collect();
    let top = sampled.into_iter().map(|sampled| sampled.top).collect();
    let finished = if stopped { Finished::Stop } else { Finished::Count };
    Stepped { token_ids, text: text.unwrap_or_default(), logprobs, top, finished, context }
}
