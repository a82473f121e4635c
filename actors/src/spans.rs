//! What is told of a request on its way through the actors: `tracing` spans, for logs and for whoever collects traces.
//!
//! A `request` lasts from its admission to its answer, inside the span in which its caller made it: that one travels in the
//! message. Inside it a `queue` lasts until an actor lets the request ride, and `work` as long as that actor has it; what
//! goes on elsewhere has both again. They are recorded by whoever records the caller's span, on whichever thread.
//!
//! Numbers, names and codes are told, never texts or tokens, and nothing for a single token: it is counted. Where nobody
//! records a request its spans are none, and cost nothing. Numbers are signed: collectors know no others.

use std::{mem, ops::Deref};

use tracing::{Id, Span, debug, debug_span, dispatcher::with_default, field::Empty};

use crate::{
    job::Outcome,
    message::{ConversationId, ErrorCode, Party},
    policy::{ActorIndex, Answer, Incarnation},
};

/// A span that is let go of where it is recorded, whoever holds it last: the registry of `tracing-subscriber` lets go of a
/// span's parent in the subscriber of the thread that it is on (0.3, `registry/sharded.rs`), which may be another.
#[derive(Clone, Debug)]
pub(crate) struct Recorded(Span);

impl From<Span> for Recorded {
    fn from(span: Span) -> Self {
        Self(span)
    }
}

impl Deref for Recorded {
    type Target = Span;

    fn deref(&self) -> &Span {
        &self.0
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        let span = mem::replace(&mut self.0, Span::none());
        if let Some(subscriber) = span.with_subscriber(|(_, subscriber)| subscriber.clone()) {
            with_default(&subscriber, || drop(span));
        }
    }
}

/// A job's spans, which travel with it to its actor's thread: it waits in one and is worked on in the other.
#[derive(Clone, Debug)]
pub struct JobSpans {
    request: Recorded,
    /// Until it rides.
    queue: Recorded,
    /// From then on.
    work: Recorded,
    /// By whom, where that is known.
    actor: Option<(ActorIndex, Incarnation)>,
    read: u64,
    sampled: u64,
}

impl JobSpans {
    /// A job of this request, which begins to wait.
    pub fn new(request: Span) -> Self {
        Self::of(&request.into())
    }

    /// The same of one that others hold as well.
    pub(crate) fn of(request: &Recorded) -> Self {
        let queue = inside(request, || debug_span!(parent: request.id(), "queue"));
        Self { request: request.clone(), queue, work: Span::none().into(), actor: None, read: 0, sampled: 0 }
    }

    /// The same at an actor.
    pub(crate) fn at(self, actor: ActorIndex, incarnation: Incarnation) -> Self {
        Self { actor: Some((actor, incarnation)), ..self }
    }

    /// An actor lets it ride.
    pub(crate) fn begin(&mut self) {
        self.queue = Span::none().into();
        let (actor, incarnation) = self.actor.unzip();
        self.work = inside(&self.request, || {
            debug_span!(
                parent: self.request.id(),
                "work",
                actor = actor.map(|actor| actor.0 as i64),
                incarnation = incarnation.map(|incarnation| incarnation.0 as i64),
                read = Empty,
                sampled = Empty,
            )
        });
    }

    /// A row of it has read so many tokens and sampled one or none.
    pub(crate) fn ran(&mut self, read: usize, sampled: bool) {
        self.read += read as u64;
        if sampled {
            self.sampled += 1;
            if self.sampled == 1 {
                let tell = |id: &Id| debug!(parent: id, "first token");
                self.work.with_subscriber(|(id, subscriber)| with_default(subscriber, || tell(id)));
            }
        }
    }

    /// What is done for it is done inside this.
    pub(crate) fn work(&self) -> &Span {
        if self.work.is_none() { &self.request.0 } else { &self.work.0 }
    }

    /// The actor has done with it.
    pub(crate) fn end(&mut self) {
        self.queue = Span::none().into();
        let work = mem::replace(&mut self.work, Span::none().into());
        work.record("read", self.read as i64).record("sampled", self.sampled as i64);
        end(&work);
    }
}

/// A request that has come.
pub(crate) fn request(
    caller: &Span,
    op: &'static str,
    conversation: Option<&ConversationId>,
    party: &Party,
) -> Recorded {
    let make = || {
        debug_span!(
            parent: caller.id(),
            "request",
            request = Empty,
            op,
            conversation = conversation.map(ConversationId::as_str),
            client = party.client.as_str(),
            actor = Empty,
            incarnation = Empty,
            tokens = Empty,
            reused = Empty,
            sampled = Empty,
            context_len = Empty,
            "error.type" = Empty,
            otel.status_code = Empty,
        )
    };
    if caller.is_disabled() { make().into() } else { inside(caller, make) }
}

/// What is tidied up behind an asker who is gone. Inside this and not in his own span, which is over.
pub(crate) fn tidy(asker: &Span) -> Recorded {
    inside(asker, || debug_span!(parent: asker.id(), "tidy"))
}

/// An actor is given the request.
pub(crate) fn given(request: &Span, actor: ActorIndex, incarnation: Incarnation) {
    request.record("actor", actor.0 as i64).record("incarnation", incarnation.0 as i64);
}

/// It is answered.
pub(crate) fn answered(request: &Span, answer: &Answer) {
    request
        .record("tokens", answer.tokens as i64)
        .record("reused", answer.reused as i64)
        .record("sampled", sampled(&answer.outcome) as i64)
        .record("context_len", answer.context_len as i64);
    end(request);
}

/// It is not, since it failed.
pub(crate) fn failed(request: &Span, code: ErrorCode) {
    request.record("error.type", code.as_str()).record("otel.status_code", "ERROR");
    end(request);
}

fn sampled(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Stepped { sampled, .. } => sampled.len(),
        Outcome::Several(choices) => choices.iter().map(|choice| choice.sampled.len()).sum(),
        _ => 0,
    }
}

/// Makes a span inside another, where that one is recorded: its subscriber may be another than this thread's, which would
/// not know it.
fn inside(parent: &Span, make: impl FnOnce() -> Span) -> Recorded {
    let made = parent.with_subscriber(|(_, subscriber)| with_default(subscriber, make));
    made.unwrap_or_else(Span::none).into()
}

/// A span that ends now, also where somebody holds it a little longer: collectors take it to end when it was left last.
pub(crate) fn end(span: &Span) {
    span.in_scope(|| {});
}
