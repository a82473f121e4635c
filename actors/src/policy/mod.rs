//! The brain's decisions, pure: told what happened and when, it says what is to be done.
//!
//! No clock, no randomness, no thread, no log, no text; the same events give the same effects in the
//! same order. The [`brain`](crate::brain) performs them.
//!
//! A request is admitted (`arrivals`, `admission`), waits in its conversation's queue (`turns`), is given to an actor
//! (`placement`, `jobs`) and comes to something (`outcomes`), or ends before (`endings`). Actors load (`loads`), are watched and
//! started again (`watch`), and die, with which somebody may be charged (`deaths`, `blame`); how all that is, `health` says,
//! and how it ends, `shutdown`.
//!
//! One job of a conversation is with an actor at a time, and what it did counts when it commits: until
//! then the conversation's `state`, its tokens and the pages of their keys and values, is what it was. So a job that
//! fails, dies or is taken back is undone by forgetting it, and any actor can go on. What conversations have in common
//! they share (`prefixes`, `sharing`), and forks and several answers are states that do (`moves`, `several`).
//!
//! Invariants: see [`Policy::check_invariants`].

mod actors;
mod admission;
mod arrivals;
mod blame;
mod config;
mod conversations;
mod deaths;
mod endings;
mod event;
mod health;
mod inspect;
mod invariants;
mod jobs;
mod keeping;
mod line;
mod loads;
mod memory;
mod moves;
mod outcomes;
mod parts;
mod placement;
mod prefixes;
mod present;
mod requests;
mod several;
mod sharing;
mod shutdown;
mod state;
mod stats;
mod turns;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

pub use admission::{LISTED_MAX, LOGIT_BIAS_MAX, NAME_BYTES_MAX, TOP_MAX};
pub use config::{Limits, Memory, PolicyConfig, Supervision, WhenDown};
pub use event::{
    ActorIndex, Answer, Arrival, Ask, Assignment, Chaos, Effect, EmbedAsk, Event, Given, Incarnation, Notice, StepAsk,
};
pub use health::Health;
pub use inspect::{Dwelling, Inspected, LIST_MAX, ListAsk, Listed, SharingKind};
pub use stats::{ActorState, ActorStats, Stats};

pub use crate::clock::Time;
use crate::{
    engine::{EngineInfo, LoadError, PageSize},
    job::{Report, RequestId},
    keep::KeptId,
    message::{BrainError, ConversationId},
};
use actors::{Actor, Life};
use blame::Blame;
use conversations::Conversations;
use line::Line;
use memory::Resting;
use prefixes::Prefixes;
use requests::{Caller, Deadline, Pending, Stage};

/// Where the brain is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No actor was ready yet.
    Starting,
    /// At least one was.
    Serving,
    /// Nothing new is taken; what was accepted is finished, until this time at most.
    Draining(Time),
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
    conversations: Conversations,
    /// Those of which nothing is asked.
    resting: Resting,
    /// Bytes of all pages, as last told.
    pages_held: usize,
    /// Bytes of pages that are being written to files, and free when they are.
    going: usize,
    /// What is being written or read, by when it is given up; some of it may be over.
    under_way: VecDeque<(Time, ConversationId, KeptId)>,
    /// What was given up and has not come to an end.
    stuck: BTreeSet<KeptId>,
    /// What is kept is numbered.
    next_kept: u64,
    /// Bytes of keys and values that the jobs under way may come to take.
    reserved: usize,
    /// What conversations share; `None` until it is known that engines have pages.
    prefixes: Option<Prefixes>,
    /// Every request that is not finished, those among them that only await the end of a job, and parts of requests.
    /// Boxed, since a tree moves its values about.
    requests: BTreeMap<RequestId, Box<Pending>>,
    /// Requests whose turn it is and that wait for an actor.
    waiting: Line,
    deadlines: BTreeSet<(Time, RequestId)>,
    /// Who is charged with deaths.
    blame: Blame,
    /// Lives whose threads were left to themselves and have not ended.
    abandoned: BTreeSet<(ActorIndex, Incarnation)>,
    /// Requests whose parts are being done.
    parted: usize,
    /// How long a request takes, from its arrival to its answer, the latest counting most.
    takes: Duration,
    /// Requests that were told and are over now, since the last event.
    over: Vec<RequestId>,
    /// Jobs that serve no request are numbered downwards from the top.
    next_own_job: u64,
}

impl Policy {
    /// A brain that has not started; an actor less than one is one.
    pub fn new(config: PolicyConfig) -> Self {
        Self {
            actors: vec![Actor::new(); config.actors.max(1)],
            blame: Blame::new(config.supervision.quarantine),
            config,
            now: Time::default(),
            phase: Phase::Starting,
            start_failed: None,
            model: None,
            conversations: Conversations::default(),
            resting: Resting::default(),
            pages_held: 0,
            going: 0,
            under_way: VecDeque::new(),
            stuck: BTreeSet::new(),
            next_kept: 0,
            reserved: 0,
            prefixes: None,
            requests: BTreeMap::new(),
            waiting: Line::default(),
            deadlines: BTreeSet::new(),
            abandoned: BTreeSet::new(),
            parted: 0,
            takes: Duration::ZERO,
            over: Vec::new(),
            next_own_job: u64::MAX,
        }
    }

    /// Takes note of what happened and appends what is to be done. `now` never goes back; if it
    /// does, the later time stands.
    pub fn handle(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        if self.phase == Phase::Over {
            return self.come_too_late(event, effects);
        }
        match event {
            Event::Start => self.start(effects),
            Event::Arrived(arrival) => self.arrived(arrival, effects),
            Event::Tokenised { request, result, ends } => self.tokenised(request, result, ends, effects),
            Event::Gone(request) => self.gone(request, effects),
            Event::Cancelled(request) => self.give_up(request, BrainError::Cancelled, effects),
            Event::CancelledAll(name) => self.cancel_all(&name, effects),
            Event::Reported { actor, incarnation, report } => {
                if self.is_current(actor, incarnation) {
                    self.reported(actor, report, effects);
                }
            }
            Event::Died { actor, incarnation, running } => {
                if self.abandoned.remove(&(actor, incarnation)) {
                    self.freed(actor, incarnation, effects);
                } else if self.is_current(actor, incarnation) {
                    self.died(actor, &running, effects);
                }
            }
            Event::Observed { actor, incarnation, run } => {
                if self.is_current(actor, incarnation) {
                    self.observed(actor, run, effects);
                }
            }
            Event::Put { id, conversation, result } => self.put(id, &conversation, result, effects),
            Event::Fetched { id, conversation, result } => self.fetched(id, &conversation, result, effects),
            Event::Chaos { request, actor, chaos } => self.inflict(request, actor, chaos, effects),
            Event::Timer => self.timer(effects),
            Event::Shutdown { within } => self.shut_down(within),
        }
        if self.config.memory.kv_bytes != usize::MAX {
            self.place_waiting(effects);
        }
        self.even_out(effects);
        self.stop_when_drained(effects);
        effects.extend(self.over.drain(..).map(Effect::Release));
    }

    /// The pages that engines have, once that is known.
    fn page_size(&self) -> Option<PageSize> {
        self.model.as_ref().and_then(|model| model.pages)
    }

    /// When [`Event::Timer`] is due; `None`: not before another event.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.phase == Phase::Over {
            return None;
        }
        let request = self.deadlines.first().map(|&(at, _)| at);
        let actor = self.actors.iter().filter_map(Actor::next_deadline).min();
        let phase = match self.phase {
            Phase::Draining(until) | Phase::Stopping(until) => Some(until),
            _ => None,
        };
        [request, actor, phase, self.idle_deadline(), self.keeping_deadline()].into_iter().flatten().min()
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
            Report::Token { request, forced, sampled, stopped, commit, .. } => {
                self.actors[actor.0].goes_well();
                self.tokens(actor, request, outcomes::Tokens { forced, sampled, stopped }, &commit, effects);
            }
            Report::Done(done) => {
                if done.outcome.is_ok() {
                    self.actors[actor.0].goes_well();
                }
                self.done(actor, done, effects);
            }
            Report::Cleared { request } => {
                self.actors[actor.0].goes_well();
                self.survived(request, true);
            }
            Report::Runs => self.actors[actor.0].goes_well(),
            Report::Returned { request, carried } => self.returned(actor, request, carried, effects),
            Report::Memory { kv_bytes } => {
                let state = &mut self.actors[actor.0];
                (state.kv_bytes, state.freeing) = (kv_bytes, 0);
            }
        }
    }

    fn inflict(&mut self, request: RequestId, actor: ActorIndex, chaos: Chaos, effects: &mut Vec<Effect>) {
        let Some(victim) = self.actors.get(actor.0) else {
            let expected = format!("below {}", self.actors.len());
            let error = BrainError::BadRequest { what: "actor", found: actor.0.to_string(), expected };
            refuse(request, error, effects);
            return;
        };
        if victim.life != Life::Ready {
            let error = BrainError::Unavailable { reason: format!("actor {} is not running now", actor.0) };
            refuse(request, error, effects);
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
        self.blame.fade(self.now);
        self.forget_idle(effects);
        self.give_up_keeping(effects);
        self.tend_actors(effects);
    }
}

/// A request that was never taken in is answered.
fn refuse(request: RequestId, error: BrainError, effects: &mut Vec<Effect>) {
    effects.push(Effect::Fail { request, error, committed: 0, lingers: false });
}

fn broken_commit() -> BrainError {
    BrainError::Engine { message: "the engine dropped more tokens than its context holds".to_owned() }
}
