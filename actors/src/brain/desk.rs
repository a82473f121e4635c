//! One open request as the shell holds it: who waits for its answer, and how the policy's answer,
//! made of tokens, becomes a reply with text.

use ractor::RpcReplyPort;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    message::{QueuePort, StepItem, StreamPort},
    stream::Pieces,
};
use crate::{
    engine::Sampled,
    job::{Cancel, Outcome},
    message::{BrainError, Context, Embedded, Finished, Reply, Scored, Stepped},
    policy::Answer,
    tokens::{TokenId, Tokenizer},
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
    Stream(StreamPort, Pieces),
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
    pub(super) text: Option<String>,
    /// Given back with the answer.
    pub(super) _permit: Option<OwnedSemaphorePermit>,
}

impl Open {
    /// Whether the caller went away.
    pub(super) fn is_abandoned(&self) -> bool {
        match &self.caller {
            Caller::Nobody => false,
            Caller::Reply(port) => port.is_closed(),
            Caller::Queue(port) => port.is_closed(),
            Caller::Done(port) => port.is_closed(),
            Caller::Stream(port, _) => port.is_closed(),
        }
    }

    /// Shows the next token of a streamed step; false if the caller went away.
    pub(super) fn show(&mut self, sampled: Sampled, end_tokens: &[TokenId], tokenizer: &dyn Tokenizer) -> bool {
        let Caller::Stream(port, pieces) = &mut self.caller else {
            return true;
        };
        let is_end = end_tokens.contains(&sampled.token);
        let text = if is_end { String::new() } else { pieces.push(sampled.token, tokenizer) };
        port.send(StepItem::Token { sampled, text }).is_ok()
    }

    /// Gives the caller its answer, once and for all.
    pub(super) fn answer(self, answer: Answer, tokenizer: &dyn Tokenizer) {
        let reply = || reply(answer, tokenizer);
        // A caller that went away wants nothing.
        match self.caller {
            Caller::Nobody => {}
            Caller::Reply(port) => drop(port.send(Ok(reply()))),
            Caller::Queue(port) => port.send(Ok(reply())),
            Caller::Done(port) => drop(port.send(Ok(()))),
            Caller::Stream(port, _) => {
                if let Reply::Stepped(stepped) = reply() {
                    drop(port.send(StepItem::Stepped(stepped)));
                }
            }
        }
    }

    /// Tells the caller why there is no answer; of a stream, how many tokens were committed before.
    pub(super) fn fail(self, error: BrainError, committed: usize) {
        match self.caller {
            Caller::Nobody => {}
            Caller::Reply(port) => drop(port.send(Err(error))),
            Caller::Queue(port) => port.send(Err(error)),
            Caller::Done(port) => drop(port.send(Err(error))),
            Caller::Stream(port, _) => drop(port.send(StepItem::Failed { error, committed })),
        }
    }
}

fn reply(answer: Answer, tokenizer: &dyn Tokenizer) -> Reply {
    let context = Context { context_len: answer.context_len, rebuilt: answer.rebuilt, tokenizer: tokenizer.kind() };
    match answer.outcome {
        Outcome::Embedded(embedding) => Reply::Embedded(Embedded { embedding, tokens: answer.tokens, context }),
        Outcome::Stepped { sampled, stopped } => Reply::Stepped(stepped(sampled, stopped, context, tokenizer)),
        Outcome::Scored(logprobs) => Reply::Scored(Scored { logprobs, context }),
        Outcome::Forgotten => Reply::Done,
    }
}

fn stepped(sampled: Vec<Sampled>, stopped: bool, context: Context, tokenizer: &dyn Tokenizer) -> Stepped {
    let token_ids: Vec<TokenId> = sampled.iter().map(|sampled| sampled.token).collect();
    // The end token is no part of the text.
    let text = tokenizer.decode(&token_ids[..token_ids.len() - usize::from(stopped)]);
    let logprobs = sampled.iter().map(|sampled| sampled.logprob).collect();
    let top = sampled.into_iter().map(|sampled| sampled.top).collect();
    let finished = if stopped { Finished::Stop } else { Finished::Count };
    Stepped { token_ids, text, logprobs, top, finished, context }
}
