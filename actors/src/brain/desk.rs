//! One open request as the shell holds it: who waits for its answer, and how the policy's answer,
//! made of tokens, becomes a reply with text.

use std::time::Duration;

use ractor::RpcReplyPort;

use super::{
    cuts::Cut,
    gate::Permit,
    message::{QueuePort, StepItem, StreamPort, Ticket},
    meters::Op,
    recipes::{Label, Vector},
    tokenizing::Made,
};
use crate::{
    engine::Sampled,
    job::{Choice, Outcome},
    message::{
        BrainError, Context, Embedded, Finished, Input, Party, Reply, Scored, Several, Stepped, check_vocabulary,
    },
    policy::{Answer, Time},
    spans::{self, JobSpans, Recorded},
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
    /// One who asks for tokens and nothing else.
    Tokens(RpcReplyPort<Result<Vec<TokenId>, BrainError>>),
    /// One who asks for text and nothing else.
    Text(RpcReplyPort<Result<String, BrainError>>),
}

/// A request that is not answered yet.
pub(super) struct Open {
    /// Who is answered.
    pub(super) caller: Caller,
    /// What is told of it stands in this.
    pub(super) span: Recorded,
    /// Its first job's, until an actor is given that.
    pub(super) waits: Option<JobSpans>,
    /// Whose it is.
    pub(super) party: Party,
    /// Under which it can be taken back.
    pub(super) ticket: Option<Ticket>,
    /// Until it is tokenised.
    pub(super) input: Option<Input>,
    /// A thread is to make tokens or text for it.
    pub(super) makes: bool,
    /// When it is to be answered, if the policy does not know of it.
    pub(super) until: Option<Until>,
    /// Where a step's text ends.
    pub(super) stops: StopTexts,
    /// What is said of a vector.
    pub(super) made: Option<Label>,
    /// Each piece of so many tokens is to have a vector, at most.
    pub(super) each: Option<usize>,
    /// Where those were cut.
    pub(super) cuts: Vec<Cut>,
    /// The text of a step, from the first time that an actor has it.
    pub(super) text: Option<StepText>,
    /// It is being taken back, since its text is broken.
    pub(super) broken: bool,
    /// The policy was told that nobody waits for it.
    pub(super) gone: bool,
    /// An actor has had it.
    pub(super) begun: bool,
    /// What is asked, as it is counted; `None`: it is not.
    pub(super) op: Option<Op>,
    /// When it came, of a streamed step, and when it showed its last token.
    pub(super) came: Time,
    pub(super) shown_last: Option<Time>,
    /// Given back when it is done.
    pub(super) permit: Option<Permit>,
}

/// A moment, and how long that was from a request's arrival.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until {
    pub(super) at: Time,
    pub(super) allowed: Duration,
}

/// What became of a token that was to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// The caller has it.
    Done,
    /// The caller went away.
    Gone,
    /// It has no text.
    Broken,
}

impl Open {
    /// One of which nothing is known but who asks.
    pub(super) fn new(caller: Caller, span: Recorded) -> Self {
        Self {
            caller,
            span,
            waits: None,
            party: Party::default(),
            ticket: None,
            input: None,
            makes: false,
            until: None,
            stops: StopTexts::default(),
            made: None,
            each: None,
            cuts: Vec::new(),
            text: None,
            broken: false,
            gone: false,
            begun: false,
            op: None,
            came: Time::default(),
            shown_last: None,
            permit: None,
        }
    }

    /// Whether the caller went away.
    pub(super) fn is_abandoned(&self) -> bool {
        match &self.caller {
            Caller::Nobody => false,
            Caller::Reply(port) => port.is_closed(),
            Caller::Queue(port) | Caller::QueuedStream(port) => port.is_closed(),
            Caller::Done(port) => port.is_closed(),
            Caller::Stream(port) => port.is_closed(),
            Caller::Tokens(port) => port.is_closed(),
            Caller::Text(port) => port.is_closed(),
        }
    }

    /// Whether it wants nothing but tokens or text, which is no business of the policy's.
    pub(super) fn is_ask(&self) -> bool {
        matches!(self.caller, Caller::Tokens(_) | Caller::Text(_))
    }

    /// Shows the next token of a streamed step.
    pub(super) fn show(&mut self, sampled: Sampled, last: bool, end_tokens: &[TokenId]) -> Shown {
        let mut shown = String::new();
        if let Some(text) = &mut self.text {
            if !end_tokens.contains(&sampled.token) && text.push(&[sampled.token]).is_err() {
                return Shown::Broken;
            }
            shown = text.take(last);
        }
        let arrives = match &self.caller {
            Caller::Stream(port) => port.send(StepItem::Token { sampled, text: shown }).is_ok(),
            Caller::QueuedStream(port) => port.show(sampled, shown),
            _ => true,
        };
        if arrives { Shown::Done } else { Shown::Gone }
    }

    /// Gives the caller its answer, once and for all.
    pub(super) fn answer(self, answer: Answer, end_tokens: &[TokenId], tokenizer: TokenizerKind) {
        let Self { caller, span, text, made, each, cuts, permit, .. } = self;
        spans::answered(&span, &answer);
        let cuts = each.map(|_| cuts);
        // First, so that whoever has the answer may ask again.
        drop(permit);
        let committed = match &answer.outcome {
            Outcome::Stepped { sampled, .. } => sampled.len(),
            _ => 0,
        };
        let reply = || reply(answer, text, made, cuts, end_tokens, tokenizer);
        // A caller that went away wants nothing.
        match caller {
            Caller::Nobody | Caller::Tokens(_) | Caller::Text(_) => {}
            Caller::Reply(port) => drop(port.send(reply())),
            Caller::Queue(port) | Caller::QueuedStream(port) => port.send(reply()),
            Caller::Done(port) => drop(port.send(Ok(()))),
            Caller::Stream(port) => match reply() {
                Ok(Reply::Stepped(stepped)) => drop(port.send(StepItem::Stepped(stepped))),
                Ok(_) => {}
                Err(error) => drop(port.send(StepItem::Failed { error, committed })),
            },
        }
    }

    /// Gives the caller the tokens or the text that it asked for.
    pub(super) fn give(self, made: Result<Made, BrainError>, vocab: usize) {
        let made = match made {
            Ok(made) => made,
            Err(error) => return self.fail(error, 0),
        };
        let Self { caller, span, permit, .. } = self;
        spans::end(&span);
        drop(permit);
        // As everywhere: who went away wants no answer.
        match (caller, made) {
            (Caller::Tokens(port), Made::Tokens(tokens)) => {
                drop(port.send(check_vocabulary(&tokens, vocab).map(|()| tokens)));
            }
            (Caller::Text(port), Made::Text(text)) => drop(port.send(Ok(text))),
            _ => debug_assert!(false, "something else was made than was asked for"),
        }
    }

    /// Tells the caller why there is no answer; of a stream, how many tokens were committed before.
    pub(super) fn fail(self, error: BrainError, committed: usize) {
        let Self { caller, span, permit, .. } = self;
        drop(permit);
        let code = error.code();
        span.in_scope(|| tracing::debug!(code = code.as_str(), committed, "a request failed"));
        spans::failed(&span, code);
        caller.fail(error, committed);
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
            Caller::Tokens(port) => drop(port.send(Err(error))),
            Caller::Text(port) => drop(port.send(Err(error))),
        }
    }
}

fn reply(
    answer: Answer,
    text: Option<StepText>,
    made: Option<Label>,
    cuts: Option<Vec<Cut>>,
    end_tokens: &[TokenId],
    tokenizer: TokenizerKind,
) -> Result<Reply, BrainError> {
    let Answer { context_len, rebuilt, reused, .. } = answer;
    let context = Context { context_len, rebuilt, reused, tokenizer };
    Ok(match answer.outcome {
        Outcome::Embedded(vector) => embedded(vec![vector], made, cuts, answer.tokens, context),
        Outcome::Pieces(vectors) => embedded(vectors, made, cuts, answer.tokens, context),
        Outcome::Stepped { sampled, stopped } => Reply::Stepped(stepped(sampled, stopped, text, end_tokens, context)?),
        Outcome::Scored { logprobs, top } => Reply::Scored(Scored { logprobs, top, context }),
        Outcome::Several(choices) => {
            let choice = |Choice { sampled, stopped, context_len }| {
                stepped(sampled, stopped, text.clone(), end_tokens, Context { context_len, ..context })
            };
            Reply::Several(Several { choices: choices.into_iter().map(choice).collect::<Result<_, _>>()?, context })
        }
        Outcome::Moved => Reply::Stands(context),
        Outcome::Exported(states) => Reply::Exported(states),
        Outcome::Forgotten => Reply::Done,
    })
}

fn embedded(
    vectors: Vec<Vec<f32>>,
    made: Option<Label>,
    cuts: Option<Vec<Cut>>,
    tokens: usize,
    context: Context,
) -> Reply {
    let made = made.unwrap_or_default();
    if let Some(cuts) = cuts {
        return Reply::EmbeddedPieces(made.of_each(vectors, cuts, tokens, context));
    }
    let Vector { embedding, codes, by: recipe, calibrated, pieces } = made.of(vectors);
    Reply::Embedded(Embedded { embedding, codes, recipe, calibrated, pieces, tokens, context })
}

/// `text` knows the tokens that were shown.
fn stepped(
    sampled: Vec<Sampled>,
    stopped: bool,
    text: Option<StepText>,
    end_tokens: &[TokenId],
    context: Context,
) -> Result<Stepped, BrainError> {
    let token_ids: Vec<TokenId> = sampled.iter().map(|sampled| sampled.token).collect();
    // The end token is no part of the text.
    let ends = token_ids.last().is_some_and(|last| end_tokens.contains(last));
    let text = text.map(|mut text| {
        let new = token_ids.get(text.tokens()..token_ids.len() - usize::from(ends));
        text.push(new.unwrap_or_default()).map(|_| text.into_text())
    });
    let text = text.transpose()?.unwrap_or_default();
    let logprobs = sampled.iter().map(|sampled| sampled.logprob).collect();
    let top = sampled.into_iter().map(|sampled| sampled.top).collect();
    let finished = if stopped { Finished::Stop } else { Finished::Count };
    Ok(Stepped { token_ids, text, logprobs, top, finished, context })
}
