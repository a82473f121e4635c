//! The brain's decisions, pure: told what happened and when, it says what is to be done.
//!
//! No clock, no randomness, no thread, no log, no text; the same events give the same effects in the
//! same order. The [`brain`](crate::brain) performs them.
//!
//! A request is admitted (`admission`), waits in its conversation's queue (`turns`), is placed with
//! an actor (`placement`) and comes to something (`outcomes`) or meets a deadline or its actor's
//! death (`deaths`). One job of a conversation is with an actor at a time, and what it did counts when it commits: until
//! then the conversation's `state`, its tokens and the pages of their keys and values, is what it was. So a job that
//! fails, dies or is taken back is undone by forgetting it, and any actor can go on. What conversations have in common
//! they share (`prefixes`, `sharing`), and forks and several answers are states that do (`moves`, `several`).
//!
//! Invariants: see [`Policy::check_invariants`].

mod actors;
mod admission;
mod arrivals;
mod config;
mod conversations;
mod deaths;
mod event;
mod invariants;
mod moves;
mod outcomes;
mod parts;
mod placement;
mod prefixes;
mod requests;
mod several;
mod sharing;
mod shutdown;
mod state;
mod stats;
mod turns;

use std::collections::{BTreeMap, BTreeSet};

pub use admission::{LOGIT_BIAS_MAX, NAME_BYTES_MAX, TOP_MAX};
pub use config::{Limits, PolicyConfig, Supervision};
pub use event::{
    ActorIndex, Answer, Arrival, Ask, Assignment, Chaos, Effect, Epoch, Event, Given, Incarnation, Notice, ObservedRun,
    StepAsk, Time,
};
pub use stats::{ActorState, ActorStats, Stats};

use crate::{
    engine::{EngineInfo, LoadError, PageSize},
    job::{Report, RequestId},
    message::{BrainError, ConversationId},
};
use actors::{Actor, Life};
use conversations::Conversation;
use prefixes::Prefixes;
use requests::{Deadline, Pending, Stage};

/// Where the brain is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No actor was ready yet.
    Starting,
    /// At least one was.
    Serving,
    /// Nothing new is taken; what was accepted is finished.
    Draining,
    /// Everything is answered; the actors are stopping, awaited until this time.
    Stopping(Time),
    /// Nothing more will happen.
    Over,
}

/// The one state machine. See the module's page.
#[derive(Debug)]
pub struct Policy {
    config: PolicyConfig,
    now: Time,
    phase: Phase,
    /// Why no actor was ever ready, and none will be.
    start_failed: Option<LoadError>,
    /// What the first ready actor loaded.
    model: Option<EngineInfo>,
    actors: Vec<Actor>,
    conversations: BTreeMap<ConversationId, Conversation>,
    /// What conversations share; `None` until it is known that engines have pages.
    prefixes: Option<Prefixes>,
    /// Every request that is not finished, those among them that only await the end of a job, and parts of requests.
    requests: BTreeMap<RequestId, Pending>,
    /// How many answers all of them ask for, parts aside: what counts against the limit.
    asked: usize,
    /// Requests without a conversation, and parts, that wait for an actor.
    loose: BTreeSet<RequestId>,
    deadlines: BTreeSet<(Time, RequestId)>,
    /// Jobs that serve no request are numbered downwards from the top.
    next_own_job: u64,
}

impl Policy {
    /// A brain that has not started; an actor less than one is one.
    pub fn new(config: PolicyConfig) -> Self {
        Self {
            actors: vec![Actor::new(); config.actors.max(1)],
            config,
            now: Time::default(),
            phase: Phase::Starting,
            start_failed: None,
            model: None,
            conversations: BTreeMap::new(),
            prefixes: None,
            asked: 0,
            requests: BTreeMap::new(),
            loose: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            next_own_job: u64::MAX,
        }
    }

    /// Takes note of what happened and appends what is to be done. `now` never goes back; if it
    /// does, the later time stands.
    pub fn handle(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        match event {
            Event::Start => self.start(effects),
            Event::Arrived(arrival) => self.arrived(arrival, effects),
            Event::Tokenised { request, result } => self.tokenised(request, result, effects),
            Event::Gone(request) => self.gone(request, effects),
            Event::Reported { actor, incarnation, report } => {
                if self.is_current(actor, incarnation) {
                    self.reported(actor, report, effects);
                }
            }
            Event::Died { actor, incarnation, running } => {
                if self.is_current(actor, incarnation) {
                    self.died(actor, &running, effects);
                }
            }
            Event::Observed { actor, incarnation, run } => {
                if self.is_current(actor, incarnation) {
                    self.observed(actor, run, effects);
                }
            }
            Event::Chaos { request, actor, chaos } => self.inflict(request, actor, chaos, effects),
            Event::Timer => self.timer(effects),
            Event::Shutdown => self.shut_down(),
        }
        self.even_out(effects);
        self.stop_when_drained(effects);
    }

    /// The pages that engines have, once that is known.
    fn page_size(&self) -> Option<PageSize> {
        self.model.as_ref().and_then(|model| model.pages)
    }

    /// When [`Event::Timer`] is due; `None`: not before another event.
    pub fn next_deadline(&self) -> Option<Time> {
        let request = self.deadlines.first().map(|&(at, _)| at);
        let actor = self.actors.iter().filter_map(Actor::next_deadline).min();
        let phase = match self.phase {
            Phase::Stopping(until) => Some(until),
            _ => None,
        };
        [request, actor, phase].into_iter().flatten().min()
    }

    fn start(&mut self, effects: &mut Vec<Effect>) {
        for (index, state) in self.actors.iter_mut().enumerate() {
            let incarnation = state.begin(self.now, &self.config.supervision);
            effects.push(Effect::Spawn { actor: ActorIndex(index), incarnation });
        }
    }

    /// Whether that life of the actor still counts.
    fn is_current(&self, actor: ActorIndex, incarnation: Incarnation) -> bool {
        self.actors.get(actor.0).is_some_and(|actor| actor.incarnation == incarnation && actor.lives())
    }

    fn reported(&mut self, actor: ActorIndex, report: Report, effects: &mut Vec<Effect>) {
        match report {
            Report::Ready(model) => self.ready(actor, model, effects),
            Report::LoadFailed(error) => self.load_failed(actor, error, effects),
            Report::Token { request, sampled, stopped, commit, .. } => {
                self.token(actor, request, sampled, stopped, &commit, effects);
            }
            Report::Done(done) => self.done(actor, done, effects),
            Report::Returned { request, carried } => self.returned(actor, request, carried, effects),
            Report::Memory { kv_bytes } => self.actors[actor.0].kv_bytes = kv_bytes,
        }
    }

    fn inflict(&mut self, request: RequestId, actor: ActorIndex, chaos: Chaos, effects: &mut Vec<Effect>) {
        let Some(victim) = self.actors.get(actor.0) else {
            let expected = format!("below {}", self.actors.len());
            let error = BrainError::BadRequest { what: "actor", found: actor.0.to_string(), expected };
            effects.push(Effect::Fail { request, error, committed: 0 });
            return;
        };
        if victim.life != Life::Ready {
            let error = BrainError::Unavailable { reason: format!("actor {} is not running now", actor.0) };
            effects.push(Effect::Fail { request, error, committed: 0 });
            return;
        }
        effects.push(Effect::Inflict { actor, incarnation: victim.incarnation, chaos });
        effects.push(Effect::Answer { request, answer: Answer::done() });
    }

    fn timer(&mut self, effects: &mut Vec<Effect>) {
        while let Some(&(at, request)) = self.deadlines.first()
            && at <= self.now
        {
            self.expire(request, effects);
        }
        self.tend_actors(effects);
    }

    /// The request's caller is told at once, wherever the request is.
    fn expire(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        let Some(pending) = self.requests.get_mut(&request) else {
            return;
        };
        let Some(deadline) = pending.deadline.take() else {
            return;
        };
        self.deadlines.remove(&(deadline.at, request));
        let error = BrainError::Timeout { deadline: deadline.allowed };
        if matches!(pending.stage, Stage::Assigned(_)) {
            pending.told = true;
            let committed = pending.shown.len();
            effects.extend([Effect::Cancel(request), Effect::Fail { request, error, committed }]);
            return;
        }
        if pending.stage == Stage::Parted {
            return self.fail_parted(request, error, effects);
        }
        let names = pending.names();
        self.fail(request, error, effects);
        self.advance_each(names, effects);
    }

    /// Ends a request with an error, unless its caller already has one.
    fn fail(&mut self, request: RequestId, error: BrainError, effects: &mut Vec<Effect>) {
        if let Some(pending) = self.remove(request)
            && !pending.told
            && pending.part.is_none()
        {
            effects.push(Effect::Fail { request, error, committed: pending.shown.len() });
        }
    }

    /// Takes a request out of everything.
    fn remove(&mut self, request: RequestId) -> Option<Pending> {
        let pending = self.requests.remove(&request)?;
        if let Some(deadline) = pending.deadline {
            self.deadlines.remove(&(deadline.at, request));
        }
        if let Stage::Assigned(actor) = pending.stage {
            self.actors[actor.0].let_go(request);
        }
        for name in pending.conversation.iter().chain(&pending.other) {
            if let Some(conversation) = self.conversations.get_mut(name) {
                conversation.queue.remove(&request);
            }
        }
        self.loose.remove(&request);
        match &pending.part {
            None => self.asked -= pending.answers(),
            Some(part) => {
                if let Some(several) = self.requests.get_mut(&part.whole).and_then(|whole| whole.several.as_mut()) {
                    several.parts.remove(&request);
                }
            }
        }
        Some(pending)
    }
}

fn all_down() -> BrainError {
    BrainError::Unavailable { reason: "every actor is down".to_owned() }
}

fn broken_commit() -> BrainError {
    BrainError::Engine { message: "the engine dropped more tokens than its context holds".to_owned() }
}
