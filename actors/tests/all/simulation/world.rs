//! The world of one history: a virtual clock, what is due when, and the policy that is told. Callers, actors' lives, the
//! account of what was answered, what is true, who has which jobs and pages, and how actors are started again have a
//! file each.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use motorbrain_actors::{
    engine::{PageSize, Slides, Window},
    job::{Holding, RequestId, Work},
    keep::{Keep as _, KeepError, Kept, KeptId},
    message::{BrainError, ConversationId},
    policy::{
        ActorIndex, Assignment, Effect, Event, Incarnation, Limits, Memory, Notice, Policy, PolicyConfig, Supervision,
        Time, WhenDown,
    },
};
use motorbrain_testing::{FakeControl, FakeKeep, FakeLoader};

use super::{
    engine::Nature,
    life::{Cradle, Given, Life, Mail, pages_of},
    model::{self, WINDOW},
    rng::Rng,
    tally::Tally,
};
use account::{Asked, End, Jobs};
use court::Court;
use ledger::{Ledger, check_line};
use wards::Wards;

mod account;
mod callers;
mod court;
mod keeping;
mod ledger;
mod lives;
mod truth;
mod wards;

/// What callers do in one history before the faults end.
pub(crate) const ACTIONS: u64 = 50;
const CONVERSATIONS: u64 = 5;
/// More than a load that ends ever takes.
const LOAD_MAX: u64 = 150;

type LifeKey = (ActorIndex, Incarnation);

/// What is going to happen, at a time.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "few of them, and most tell")]
enum Due {
    /// The policy hears of something.
    Tell(Event),
    /// A conversation is written to a file.
    Write(KeptId, ConversationId),
    Loaded(LifeKey),
    /// An actor may turn to its next message.
    Wake(LifeKey),
    /// A thread ends, at work for these jobs.
    End(LifeKey, Vec<RequestId>),
}

/// Which history, and what of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// What callers do not do, of all that they would.
    pub(crate) dropped: BTreeSet<u64>,
    /// Whether events are written down.
    pub(crate) log: bool,
}

pub(crate) struct World {
    plan: Plan,
    /// What callers draw from, for each thing that they do anew.
    rng: Rng,
    /// What everything else is drawn from.
    chance: Rng,
    policy: Policy,
    cradle: Cradle,
    /// `None`: engines have no pages.
    pages: Option<PageSize>,
    /// The most pages kept for nobody.
    idle_max: usize,
    /// Loads take long, and fail often.
    slow_loads: bool,
    now: u64,
    due: BTreeMap<(u64, u64), Due>,
    sequence: u64,
    faults: bool,
    run_max: u64,
    lives: BTreeMap<LifeKey, Life>,
    /// Conversations in which something was said that kills, or that go on from such a one.
    tainted: BTreeSet<ConversationId>,
    /// Only what is poison kills, and hangs.
    only_poison: bool,
    /// Who is charged with what, told from what the policy heard.
    court: Court,
    /// Requests that were told and whose jobs go on.
    lingering: BTreeSet<RequestId>,
    /// Requests that somebody took back.
    cancels: BTreeSet<RequestId>,
    /// The brain was told to shut down.
    shut: bool,
    /// Threads that were abandoned and have not ended.
    abandoned: BTreeSet<LifeKey>,
    asked: BTreeMap<RequestId, Asked>,
    /// Those of them that have not come to an end.
    unanswered: BTreeSet<RequestId>,
    /// Conversations of which several answers were asked for last, so that one may be kept.
    offered: BTreeSet<ConversationId>,
    jobs: Jobs,
    ledger: Ledger,
    wards: Wards,
    /// Requests of which an engine has said that it will not do them.
    blamed: BTreeSet<RequestId>,
    /// Jobs that an actor has ever given back.
    returned: BTreeSet<RequestId>,
    /// Pages of jobs on their way between two actors, which nobody sees, by the request that they serve.
    carried: BTreeMap<RequestId, BTreeSet<u64>>,
    /// What follows at once from what is being done.
    follows: VecDeque<Event>,
    last_answered: BTreeMap<ConversationId, RequestId>,
    /// Conversations that have left memory, and nothing was answered in them since.
    left: BTreeSet<ConversationId>,
    /// Those that were forgotten unasked, and the first request that came behind that.
    forgotten: Vec<(RequestId, ConversationId)>,
    /// Conversations in files, and those that are being written.
    keep: FakeKeep,
    going: BTreeMap<KeptId, Vec<Kept>>,
    /// Whether keys and values are bounded, so that jobs may wait for others.
    bounded: bool,
    /// Conversations that were read again after a slide, and no reply has said so.
    rebuilding: BTreeSet<ConversationId>,
    /// No actor was ready yet.
    starting: bool,
    /// Actors that are down.
    down: BTreeSet<ActorIndex>,
    /// The first load did not return.
    start_failed: bool,
    over: bool,
    abandoned_max: usize,
    actors: usize,
    pub(crate) tally: Tally,
    pub(crate) log: Vec<String>,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let mut rng = Rng(plan.seed);
        let actors = 1 + rng.below(3) as usize;
        let run_max = 100;
        let size = PageSize { tokens: 3 + rng.below(2) as usize, bytes: 64 };
        let pages = rng.chance(60).then_some(size);
        let (only_poison, abandoned_max) = (rng.chance(30), rng.below(4) as usize);
        let quarantine = [300, 5_000, 1_000_000][rng.below(3) as usize];
        let idle_max = [0, 2, 6, 1000][rng.below(4) as usize];
        let supervision = Supervision {
            run_max: Duration::from_millis(run_max),
            load_max: Duration::from_millis(LOAD_MAX),
            restarts_max: if rng.chance(30) { 2 } else { 1000 },
            restarts_within: Duration::from_millis([60, 300, 3_000][rng.below(3) as usize]),
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_millis(80),
            retry_min: Duration::from_millis(50),
            retry_max: Duration::from_millis(400),
            abandoned_max,
            quarantine: Duration::from_millis(quarantine),
        };
        let config = PolicyConfig {
            actors,
            limits: Limits {
                conversation_requests: 3 + rng.below(20) as usize,
                conversations: 3 + rng.below(CONVERSATIONS) as usize,
                deadline: rng.chance(30).then_some(Duration::from_millis(400)),
                ..Limits::default()
            },
            supervision,
            // Half a page more holds no page more.
            cached_bytes: idle_max * size.bytes + size.bytes / 2,
            keeps: rng.chance(50),
            memory: memory(&mut Rng::of(plan.seed, u64::MAX - 1), pages.unwrap_or(size)),
            when_down: if rng.chance(30) { WhenDown::Stop } else { WhenDown::Retry },
            seed: rng.below(1000),
        };
        let reads_again = Rng::of(plan.seed, u64::MAX - 2).chance(12);
        let slides = if reads_again { Slides::Recompute } else { Slides::Shift };
        let bounded = config.memory.kv_bytes != usize::MAX;
        let nature = if only_poison { Nature::OnlyPoison } else { Nature::Wild };
        let cradle = Cradle {
            seed: plan.seed,
            loader: FakeLoader { info: model::info_that(slides, pages), control: FakeControl::default() },
            nature: Rc::new(Cell::new(nature)),
            clock: Arc::default(),
            run_max,
            chunk: [1, 3, 8][rng.below(3) as usize],
            beside_max: Duration::from_millis([2, 20, 250][rng.below(3) as usize]),
        };
        let keep = FakeKeep::new(Arc::new(cradle.loader.clone()), size.tokens);
        Self {
            rng: Rng(0),
            chance: Rng::of(plan.seed, u64::MAX),
            plan,
            policy: Policy::new(config),
            cradle,
            pages,
            idle_max,
            slow_loads: rng.chance(20),
            now: 0,
            due: BTreeMap::new(),
            sequence: 0,
            faults: true,
            run_max,
            lives: BTreeMap::new(),
            tainted: BTreeSet::new(),
            only_poison,
            court: Court::new(quarantine),
            lingering: BTreeSet::new(),
            cancels: BTreeSet::new(),
            shut: false,
            abandoned: BTreeSet::new(),
            asked: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            offered: BTreeSet::new(),
            jobs: BTreeMap::new(),
            ledger: Ledger::default(),
            wards: Wards::new(supervision, actors),
            blamed: BTreeSet::new(),
            returned: BTreeSet::new(),
            carried: BTreeMap::new(),
            follows: VecDeque::new(),
            last_answered: BTreeMap::new(),
            left: BTreeSet::new(),
            forgotten: Vec::new(),
            keep,
            going: BTreeMap::new(),
            bounded,
            rebuilding: BTreeSet::new(),
            starting: true,
            down: BTreeSet::new(),
            start_failed: false,
            over: false,
            abandoned_max,
            actors,
            tally: Tally::default(),
            log: Vec::new(),
        }
    }

    /// One whole history.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        self.tell(Event::Start)?;
        let shut_at = self.chance.chance(15).then(|| self.chance.below(ACTIONS));
        let within = Duration::from_millis(self.chance.below(300));
        for action in 0..ACTIONS {
            self.rng = Rng::of(self.plan.seed, action);
            let pause = self.rng.below(12);
            if shut_at == Some(action) {
                self.shut = true;
                self.tell(Event::Shutdown { within })?;
            }
            if !self.plan.dropped.contains(&action) {
                self.act()?;
            }
            self.pass(self.now + pause)?;
        }
        self.faults = false;
        self.cradle.nature.set(Nature::Well);
        self.settle()?;
        if !self.shut && !self.over {
            self.pass(self.now + 1_000)?; // whoever is down is tried again
            self.probe()?;
        }
        self.check_answers()?;
        if !self.shut && !self.over {
            self.close_all()?;
        }
        self.tell(Event::Shutdown { within: Duration::from_millis(5 * self.run_max) })?;
        self.pass(self.now + 20 * self.run_max)?;
        ensure(self.over, || "the shutdown does not end".to_owned())?;
        ensure(self.lingering.is_empty(), || format!("{:?} are never released", self.lingering))
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
        let (mut before, mut stands) = (self.now, 0);
        loop {
            stands = if self.now == before { stands + 1 } else { 0 };
            before = self.now;
            ensure(stands < 10_000, || format!("time stands still at {before}, {:?}", self.policy.next_deadline()))?;
            let happens = self.due.first_key_value().map(|(&(at, _), _)| at);
            let rings = self.policy.next_deadline().map(|time| time.0.as_nanos().div_ceil(1_000_000) as u64);
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
            Due::Write(id, conversation) => self.write(id, conversation),
            Due::Wake(key) => self.wake(key),
            Due::End(key, running) => {
                self.end(key, running);
                Ok(())
            }
        }
    }

    /// Tells the policy and does what it says, and so on with what follows at once; then checks what must hold.
    fn tell(&mut self, event: Event) -> Result<(), String> {
        if self.over {
            return Ok(()); // nobody is there to hear it
        }
        self.follows.push_back(event);
        while let Some(event) = self.follows.pop_front() {
            self.tell_one(event)?;
        }
        self.check_waiting()?;
        self.check_permits()?;
        self.check_hangs()?;
        self.check_pages()
    }

    fn tell_one(&mut self, event: Event) -> Result<(), String> {
        self.tally.events += 1;
        if self.plan.log {
            self.log.push(scrubbed(&format!("{:>6} {event:?}", self.now)));
        }
        let line = self.line_before(&event);
        if let Event::Died { actor, incarnation, .. } = &event {
            self.abandoned.remove(&(*actor, *incarnation));
        }
        self.hear(&event);
        self.ledger.hear(&event);
        let mut effects = Vec::new();
        self.policy.handle(time(self.now), event, &mut effects);
        if let Some(broken) = self.policy.check_invariants().first() {
            self.log.push(scrubbed(&format!("       {effects:?}")));
            return Err(broken.clone());
        }
        check_line(&line, &effects)?;
        self.do_all(effects)?;
        loop {
            let mut effects = Vec::new();
            let (pages, none) =
                (self.cradle.loader.control.pages() * self.pages.map_or(0, |page| page.bytes), effects.len());
            if !self.policy.let_go(pages, &mut effects) {
                return ensure(effects.len() == none, || "nothing goes, and is told of".to_owned());
            }
            if let Some(broken) = self.policy.check_invariants().first() {
                return Err(broken.clone());
            }
            self.do_all(effects)?;
        }
    }

    fn do_all(&mut self, effects: Vec<Effect>) -> Result<(), String> {
        for effect in effects {
            if self.plan.log {
                self.log.push(scrubbed(&format!("       -> {effect:?}")));
            }
            self.ledger.check(&effect, &self.jobs)?;
            self.ledger.perform(&effect, self.now);
            self.wards.check(&effect, self.now, self.abandoned.len())?;
            self.perform(effect)?;
        }
        Ok(())
    }

    /// A conversation is written to a file, if that is wanted still.
    fn write(&mut self, id: KeptId, conversation: ConversationId) -> Result<(), String> {
        let Some(states) = self.going.remove(&id) else { return Ok(()) };
        self.keep.fill(self.faults && self.chance.chance(20));
        let result = self.keep.put(id, &conversation, &states);
        drop(states);
        self.tell(Event::Put { id, conversation, result })
    }

    fn perform(&mut self, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::Spawn { actor, incarnation } => {
                let key = (actor, incarnation);
                self.down.remove(&actor);
                let number = incarnation.0 * 100 + actor.0 as u64;
                let twice = self.lives.insert(key, Life::new(&self.cradle, number)).is_some();
                let takes = 1 + self.chance.below(if self.slow_loads { LOAD_MAX - 10 } else { 30 });
                self.later(takes, Due::Loaded(key));
                return ensure(!twice, || format!("{key:?} was started twice"));
            }
            Effect::Send { actor, incarnation, job } => {
                let (key, window) = ((actor, incarnation), self.cradle.loader.info.window);
                self.account_job(&job, actor)?;
                let life = self.lives.get_mut(&key).filter(|life| life.loaded);
                let life = life.ok_or_else(|| format!("{key:?} got a job before it was ready"))?;
                self.tally.undone += u64::from(job.work == Work::Forget);
                let mut pages = pages_of(&job);
                pages.extend(job.carried.as_ref().and_then(|_| self.carried.get(&job.serves)).into_iter().flatten());
                let given = Given {
                    serves: job.serves,
                    conversation: job.conversation.is_some(),
                    party: job.party.clone(),
                    alone: job.alone,
                    suspect: job.alone > 0,
                    cleared: job.alone == 0,
                    context: (!job.context.tokens.is_empty()).then(|| rebuilds(&job, &window)),
                    lacks: lacks_rows(&job),
                    begun: false,
                    pages,
                };
                life.give(job, given);
                self.later(0, Due::Wake(key));
            }
            Effect::Recall { actor, incarnation, requests } => {
                self.tally.recalls += 1;
                self.post((actor, incarnation), Mail::Recall(requests));
            }
            Effect::Cancel { actor, incarnation, request } => self.post((actor, incarnation), Mail::Cancel(request)),
            Effect::Tokenise { request, .. } => {
                let refused = self.chance.chance(3);
                let asked = self.asked.get(&request).map(|asked| (asked.tokens.clone(), asked.ends.clone()));
                let (tokens, ends) = asked.unwrap_or_default();
                let refusal = BrainError::BadRequest { what: "text", found: String::new(), expected: String::new() };
                let result = if refused { Err(refusal) } else { Ok(tokens) };
                let takes = self.chance.below(20);
                self.later(takes, Due::Tell(Event::Tokenised { request, result, ends }));
            }
            Effect::Put { id, conversation, states } => {
                self.tally.put += 1;
                self.going.insert(id, states);
                let takes = self.chance.below(40);
                self.later(takes, Due::Write(id, conversation));
            }
            Effect::Fetch { id, conversation, expected } => {
                self.tally.fetched += 1;
                let spoilt = self.faults && self.chance.chance(15);
                let foreign = || KeepError::Swapped { place: String::new() };
                let result = if spoilt { Err(foreign()) } else { self.keep.take(id, &conversation, &expected) };
                let takes = self.chance.below(40);
                self.later(takes, Due::Tell(Event::Fetched { id, conversation, result }));
            }
            Effect::Forget(id) => {
                self.going.remove(&id);
                self.keep.forget(id);
            }
            Effect::Observe { actor, incarnation } => {
                let run = self.lives.get(&(actor, incarnation)).and_then(|life| life.observe(self.now));
                self.follows.push_back(Event::Observed { actor, incarnation, run });
            }
            Effect::Abandon { actor, incarnation } => {
                self.abandon((actor, incarnation));
                let (threads, most) = (self.abandoned.len(), self.abandoned_max + self.actors);
                return ensure(threads <= most, || format!("{threads} threads are abandoned, at most {most} may be"));
            }
            Effect::Stop { actor, incarnation } => self.stop((actor, incarnation)),
            Effect::Inflict { actor, incarnation, chaos } => self.inflict((actor, incarnation), chaos),
            Effect::Show { request, sampled, last } => {
                let asked = self.open(request)?;
                asked.shown.push(sampled);
                return ensure(last == asked.has_shown_all(), || {
                    format!("{request:?} is shown its last token: {last}")
                });
            }
            Effect::Answer { request, answer } => return self.answered(request, answer),
            Effect::Fail { request, error, committed, lingers } => {
                if lingers {
                    self.lingering.insert(request);
                }
                return self.failed(request, error, committed);
            }
            Effect::Drop { request, lingers } => {
                if lingers {
                    self.lingering.insert(request);
                }
                self.close(request, End::Dropped)?;
            }
            Effect::Release(request) => {
                let lingered = self.lingering.remove(&request);
                self.tally.released += 1;
                return ensure(lingered, || format!("{request:?} is released, and was not told before"));
            }
            Effect::Notice(Notice::Down { actor, .. }) => {
                self.tally.downs += 1;
                self.down.insert(actor);
                self.start_failed |= self.starting && self.down.len() == self.actors;
            }
            Effect::Notice(Notice::Restarting { .. }) => self.tally.deaths += 1,
            Effect::Notice(Notice::LoadFailed { error, .. }) => self.start_failed |= !error.transient,
            Effect::Notice(Notice::Impossible(what)) => return Err(format!("impossible: {what}")),
            Effect::StartFailed(_) | Effect::ShutdownComplete => self.over = true,
            Effect::GaveUp(_) => {
                self.tally.gave_up += 1;
                self.over = true;
            }
            Effect::Started(_) => self.starting = false,
            Effect::Notice(Notice::Left { conversation, .. }) => {
                self.tally.left += 1;
                self.left.insert(conversation);
            }
            Effect::Notice(Notice::Back { .. }) => self.tally.back += 1,
            Effect::Notice(Notice::Forgotten { conversation }) => self.forget(conversation),
            Effect::Notice(_) => {}
        }
        Ok(())
    }
}

/// Whether reading a job's context again does not repeat it.
fn rebuilds(job: &Assignment, window: &Window) -> bool {
    !job.context.is_plain(window) && job.context.all(window).is_none()
}

/// Whether a job is given less of its context than there is, so that the rest is read again.
fn lacks_rows(job: &Assignment) -> bool {
    matches!(&job.held, Holding::Pages(held) if held.kv_len + 1 < job.context.tokens.len())
}

/// Bounds on memory, of which one is seldom felt: a full conversation always has room.
fn memory(rng: &mut Rng, page: PageSize) -> Memory {
    let full = WINDOW.size.div_ceil(page.tokens) * page.bytes;
    let kv_bytes = [usize::MAX, full, 2 * full, 5 * full][rng.below(4) as usize];
    let history_bytes = [usize::MAX, 3_500][usize::from(rng.chance(20))];
    let idle_max = rng.chance(20).then_some(Duration::from_millis(150));
    Memory { kv_bytes, history_bytes, idle_max }
}

/// Without what differs from run to run: where pages lie.
fn scrubbed(line: &str) -> String {
    let mut parts = line.split("0x");
    let mut scrubbed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        scrubbed.push_str("somewhere");
        scrubbed.push_str(part.trim_start_matches(|letter: char| letter.is_ascii_hexdigit()));
    }
    scrubbed
}

fn time(ms: u64) -> Time {
    Time(Duration::from_millis(ms))
}

fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}
