//! The world of one history: a virtual clock, what is due when, and the policy that is told. Callers,
//! actors' lives, the account of what was answered, what is true, and who has which jobs and pages have a file each.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use motorbrain_actors::{
    engine::PageSize,
    job::{RequestId, Work},
    message::{BrainError, ConversationId},
    policy::{ActorIndex, Effect, Event, Incarnation, Limits, Notice, Policy, PolicyConfig, Supervision, Time},
};

use super::{actor::SimActor, pages::Store, rng::Rng, tally::Tally};
use account::{Asked, End, Jobs};
use ledger::Ledger;
use lives::{Ending, Life};

mod account;
mod callers;
mod keeping;
mod ledger;
mod lives;
mod truth;

/// Events of one history before the faults end, about.
const ACTIONS: u64 = 60;
const CONVERSATIONS: u64 = 5;
/// More than a load that ends ever takes.
pub(super) const LOAD_MAX: u64 = 150;

type LifeKey = (ActorIndex, Incarnation);

/// What is going to happen, at a time.
#[derive(Debug)]
enum Due {
    /// The policy hears of something.
    Tell(Event),
    Loaded(LifeKey),
    /// A run begins, if there is work.
    Begin(LifeKey),
    /// The run ends in this way.
    End(LifeKey, Ending),
}

pub(crate) struct World {
    rng: Rng,
    policy: Policy,
    /// `None`: engines have no pages.
    store: Option<Store>,
    /// The most pages kept for nobody.
    idle_max: usize,
    now: u64,
    due: BTreeMap<(u64, u64), Due>,
    sequence: u64,
    faults: bool,
    run_max: u64,
    lives: BTreeMap<LifeKey, Life>,
    cancelled: BTreeSet<RequestId>,
    /// Requests that kill whoever runs them.
    poison: BTreeSet<RequestId>,
    /// Conversations whose history kills whoever reads it again; it never gets better.
    cursed: BTreeSet<ConversationId>,
    /// Conversations that were said to kill actors, until they are reset.
    quarantined: BTreeSet<ConversationId>,
    asked: BTreeMap<RequestId, Asked>,
    /// Those of them that have not come to an end.
    unanswered: BTreeSet<RequestId>,
    /// Conversations of which several answers were asked for last, so that one may be kept.
    offered: BTreeSet<ConversationId>,
    jobs: Jobs,
    ledger: Ledger,
    /// What follows at once from what is being done.
    follows: VecDeque<Event>,
    last_answered: BTreeMap<ConversationId, RequestId>,
    /// Conversations that were read again after a slide, and no reply has said so.
    rebuilding: BTreeSet<ConversationId>,
    down: usize,
    /// The first load did not return.
    start_failed: bool,
    over: bool,
    actors: usize,
    pub(crate) tally: Tally,
    keep_log: bool,
    pub(crate) log: Vec<String>,
}

impl World {
    pub(crate) fn new(seed: u64, keep_log: bool) -> Self {
        let mut rng = Rng(seed);
        let actors = 1 + rng.below(3) as usize;
        let run_max = 100;
        let size = PageSize { tokens: 3 + rng.below(2) as usize, bytes: 64 };
        let store = rng.chance(60).then(|| Store::new(size));
        let idle_max = [0, 2, 6, 1000][rng.below(4) as usize];
        let config = PolicyConfig {
            actors,
            limits: Limits {
                requests: 8 + rng.below(40) as usize,
                conversations: 3 + rng.below(CONVERSATIONS) as usize,
                deadline: rng.chance(30).then_some(Duration::from_millis(400)),
                ..Limits::default()
            },
            supervision: Supervision {
                run_max: Duration::from_millis(run_max),
                load_max: Duration::from_millis(LOAD_MAX),
                restarts_max: if rng.chance(30) { 2 } else { 1000 },
                restarts_within: Duration::from_secs(3),
                backoff_min: Duration::from_millis(5),
                backoff_max: Duration::from_millis(80),
            },
            // Half a page more holds no page more.
            cached_bytes: idle_max * size.bytes + size.bytes / 2,
        };
        Self {
            rng,
            policy: Policy::new(config),
            store,
            idle_max,
            now: 0,
            due: BTreeMap::new(),
            sequence: 0,
            faults: true,
            run_max,
            lives: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            poison: BTreeSet::new(),
            cursed: BTreeSet::new(),
            quarantined: BTreeSet::new(),
            asked: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            offered: BTreeSet::new(),
            jobs: BTreeMap::new(),
            ledger: Ledger::default(),
            follows: VecDeque::new(),
            last_answered: BTreeMap::new(),
            rebuilding: BTreeSet::new(),
            down: 0,
            start_failed: false,
            over: false,
            actors,
            tally: Tally::default(),
            keep_log,
            log: Vec::new(),
        }
    }

    /// One whole history.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        self.tell(Event::Start)?;
        for _ in 0..ACTIONS {
            self.act()?;
            let pause = self.rng.below(12);
            self.pass(self.now + pause)?;
        }
        self.faults = false;
        self.poison.clear();
        self.settle()?;
        self.probe()?;
        self.check_answers()?;
        self.close_all()?;
        self.tell(Event::Shutdown)?;
        self.pass(self.now + 10 * self.run_max)?;
        ensure(self.over, || "the shutdown does not end".to_owned())
    }

    /// Lets time pass until nothing is left to be answered.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..2000 {
            if self.unanswered.is_empty() {
                return Ok(());
            }
            self.pass(self.now + 50)?;
        }
        Err(format!("never answered: {:?}", self.unanswered))
    }

    fn later(&mut self, after: u64, due: Due) {
        self.sequence += 1;
        self.due.insert((self.now + after, self.sequence), due);
    }

    /// Lets time pass, and everything happen that is due.
    fn pass(&mut self, until: u64) -> Result<(), String> {
        loop {
            let happens = self.due.first_key_value().map(|(&(at, _), _)| at);
            let rings = self.policy.next_deadline().map(|time| time.0.as_millis() as u64);
            let next = happens.into_iter().chain(rings).min().filter(|&at| at <= until);
            let Some(at) = next else { break };
            self.now = self.now.max(at);
            if rings.is_some_and(|rings| rings <= self.now) {
                self.tell(Event::Timer)?;
            } else if let Some((_, due)) = self.due.pop_first() {
                self.happen(due)?;
            }
        }
        self.now = self.now.max(until);
        Ok(())
    }

    fn happen(&mut self, due: Due) -> Result<(), String> {
        match due {
            Due::Tell(event) => self.tell(event),
            Due::Loaded(key) => {
                self.loaded(key);
                Ok(())
            }
            Due::Begin(key) => {
                self.begin(key);
                Ok(())
            }
            Due::End(key, ending) => {
                self.end(key, ending);
                Ok(())
            }
        }
    }

    /// Tells the policy and does what it says, and so on with what follows at once; then checks what must hold.
    fn tell(&mut self, event: Event) -> Result<(), String> {
        self.follows.push_back(event);
        while let Some(event) = self.follows.pop_front() {
            self.tell_one(event)?;
        }
        self.check_waiting()?;
        self.check_pages()
    }

    fn tell_one(&mut self, event: Event) -> Result<(), String> {
        self.tally.events += 1;
        if self.keep_log {
            self.log.push(format!("{:>6} {event:?}", self.now));
        }
        self.account_deaths(&event);
        self.ledger.hear(&event);
        let mut effects = Vec::new();
        self.policy.handle(time(self.now), event, &mut effects);
        if let Some(broken) = self.policy.check_invariants().first() {
            self.log.push(format!("       {effects:?}"));
            return Err(broken.clone());
        }
        for effect in effects {
            if self.keep_log {
                self.log.push(format!("       -> {effect:?}"));
            }
            self.ledger.perform(&effect);
            self.perform(effect)?;
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::Spawn { actor, incarnation } => {
                let key = (actor, incarnation);
                let life = Life {
                    actor: SimActor::new(self.store.clone()),
                    run: None,
                    loaded: false,
                    dead: false,
                    abandoned: false,
                    garbles: false,
                    said_at: 0,
                    blocked_until: 0,
                };
                let twice = self.lives.insert(key, life).is_some();
                let takes = 1 + self.rng.below(30);
                self.later(takes, Due::Loaded(key));
                return ensure(!twice, || format!("{key:?} was started twice"));
            }
            Effect::Send { actor, incarnation, job } => {
                let key = (actor, incarnation);
                self.account_job(&job)?;
                let life = self.lives.get_mut(&key).filter(|life| life.loaded);
                let life = life.ok_or_else(|| format!("{key:?} got a job before it was ready"))?;
                self.tally.undone += u64::from(job.work == Work::Forget);
                // What is given to the dead is lost with them.
                if !life.dead {
                    life.actor.accept(job);
                    self.later(0, Due::Begin(key));
                }
            }
            Effect::Recall { actor, incarnation, requests } => {
                self.tally.recalls += 1;
                let key = (actor, incarnation);
                if let Some(life) = self.lives.get_mut(&key) {
                    life.actor.recall(requests);
                    self.later(0, Due::Begin(key));
                }
            }
            Effect::Tokenise { request, .. } => {
                let refused = self.rng.chance(3);
                let tokens = self.asked.get(&request).map(|asked| asked.tokens.clone()).unwrap_or_default();
                let refusal = BrainError::BadRequest { what: "text", found: String::new(), expected: String::new() };
                let result = if refused { Err(refusal) } else { Ok(tokens) };
                let takes = self.rng.below(20);
                self.later(takes, Due::Tell(Event::Tokenised { request, result }));
            }
            Effect::Observe { actor, incarnation } => {
                let run = self.lives.get(&(actor, incarnation)).and_then(|life| life.run.clone());
                self.follows.push_back(Event::Observed { actor, incarnation, run });
            }
            Effect::Cancel(request) => {
                self.cancelled.insert(request);
            }
            Effect::Abandon { actor, incarnation } => {
                self.tally.hangs += 1;
                if let Some(life) = self.lives.get_mut(&(actor, incarnation)) {
                    life.abandoned = true;
                    life.garbles = self.rng.chance(70);
                }
            }
            Effect::Stop { actor, incarnation } => {
                if let Some(life) = self.lives.get_mut(&(actor, incarnation)) {
                    life.die();
                    self.say_died((actor, incarnation), Vec::new());
                }
            }
            Effect::Inflict { actor, incarnation, chaos } => self.inflict((actor, incarnation), chaos),
            Effect::Show { request, sampled, last } => {
                let asked = self.open(request)?;
                asked.shown.push(sampled);
                return ensure(last == asked.has_shown_all(), || {
                    format!("{request:?} is shown its last token: {last}")
                });
            }
            Effect::Answer { request, answer } => return self.answered(request, answer),
            Effect::Fail { request, error, committed } => return self.failed(request, error, committed),
            Effect::Drop(request) => self.close(request, End::Dropped)?,
            Effect::Notice(Notice::Down { .. }) => {
                self.down += 1;
                self.tally.downs += 1;
            }
            Effect::Notice(Notice::Quarantined(name)) => _ = self.quarantined.insert(name),
            Effect::Notice(Notice::Restarting { .. }) => self.tally.deaths += 1,
            Effect::Notice(Notice::LoadFailed { error, .. }) => self.start_failed |= !error.transient,
            Effect::Notice(Notice::Impossible(what)) => return Err(format!("impossible: {what}")),
            Effect::StartFailed(_) | Effect::ShutdownComplete => self.over = true,
            Effect::Started(_) | Effect::Notice(_) => {}
        }
        Ok(())
    }
}

fn time(ms: u64) -> Time {
    Time(Duration::from_millis(ms))
}

fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}
