//! The world of one history: callers, a virtual clock, simulated actors with their faults, and the
//! account of what was asked and answered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use motorbrain_actors::{
    engine::{LoadError, Sampled, Sampling},
    job::{Commit, History, Outcome, Report, RequestId, Work},
    message::{BrainError, ConversationId},
    policy::{
        ActorIndex, Answer, Arrival, Ask, Chaos, Effect, Event, Given, Incarnation, Limits, Notice,
        ObservedRun, Policy, PolicyConfig, StepAsk, Supervision, Time,
    },
    tokens::TokenId,
};

use crate::{actor::SimActor, model, rng::Rng};

/// Events of one history before the faults end, about.
const ACTIONS: u64 = 60;
const CONVERSATIONS: u64 = 5;

/// What histories were made of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) deaths: u64,
    pub(crate) hangs: u64,
    pub(crate) restored: u64,
    pub(crate) rebuilt: u64,
    pub(crate) quarantined: u64,
    pub(crate) downs: u64,
    pub(crate) undone: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.answered += other.answered;
        self.failed += other.failed;
        self.deaths += other.deaths;
        self.hangs += other.hangs;
        self.restored += other.restored;
        self.rebuilt += other.rebuilt;
        self.quarantined += other.quarantined;
        self.downs += other.downs;
        self.undone += other.undone;
    }
}

/// One life of an actor. It goes on after it was abandoned, and what it says then must not count.
struct Life {
    actor: SimActor,
    /// Since when it runs, and which requests have a row.
    run: Option<ObservedRun>,
    loaded: bool,
    dead: bool,
    /// The policy has given it up.
    abandoned: bool,
    /// When its last report reaches the brain: reports stay in order.
    said_at: u64,
    /// Blocked until then, as by `hang`.
    blocked_until: u64,
}

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

#[derive(Clone, Copy, Debug)]
enum Ending {
    Well,
    Refused,
    Death,
}

/// One request's account.
struct Asked {
    arrival: Arrival,
    /// Its tokens, where it came as text.
    tokens: Vec<TokenId>,
    at: u64,
    shown: Vec<Sampled>,
    end: Option<End>,
    /// Actors that died or hung in a run with it.
    deaths: u32,
}

enum End {
    Answered(Answer),
    Failed,
    Dropped,
}

pub(crate) struct World {
    rng: Rng,
    policy: Policy,
    now: u64,
    due: BTreeMap<(u64, u64), Due>,
    sequence: u64,
    faults: bool,
    run_max: u64,
    lives: BTreeMap<LifeKey, Life>,
    cancelled: BTreeSet<RequestId>,
    /// Requests that kill whoever runs them.
    poison: BTreeSet<RequestId>,
    asked: BTreeMap<RequestId, Asked>,
    last_answered: BTreeMap<ConversationId, RequestId>,
    /// Conversations that were read again after a slide, and no reply has said so.
    rebuilding: BTreeSet<ConversationId>,
    down: usize,
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
                restarts_max: if rng.chance(30) { 2 } else { 1000 },
                restarts_within: Duration::from_secs(3),
                backoff_min: Duration::from_millis(5),
                backoff_max: Duration::from_millis(80),
            },
        };
        Self {
            rng,
            policy: Policy::new(config),
            now: 0,
            due: BTreeMap::new(),
            sequence: 0,
            faults: true,
            run_max,
            lives: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            poison: BTreeSet::new(),
            asked: BTreeMap::new(),
            last_answered: BTreeMap::new(),
            rebuilding: BTreeSet::new(),
            down: 0,
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
        self.tell(Event::Shutdown)?;
        self.pass(self.now + 10 * self.run_max)?;
        ensure(self.over, || "the shutdown does not end".to_owned())
    }

    /// Lets time pass until nothing is left to be answered.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..2000 {
            if self.asked.values().all(|asked| asked.end.is_some()) {
                return Ok(());
            }
            self.pass(self.now + 50)?;
        }
        let open: Vec<_> = self
            .asked
            .iter()
            .filter(|(_, asked)| asked.end.is_none())
            .map(|(id, _)| id)
            .collect();
        Err(format!("never answered: {open:?}"))
    }

    /// Asks every conversation where it stands.
    fn probe(&mut self) -> Result<(), String> {
        let names: BTreeSet<_> = self
            .asked
            .values()
            .filter_map(|asked| asked.arrival.conversation.clone())
            .collect();
        for name in names {
            let step = StepAsk {
                count: 1,
                sampling: Sampling::GREEDY,
                seed: 1,
                top: 0,
                stream: false,
            };
            self.ask(Some(name), Ask::Step(step), None, None)?;
        }
        self.settle()
    }

    /// Something that somebody does.
    fn act(&mut self) -> Result<(), String> {
        match self.rng.below(100) {
            0..78 => self.somebody_asks(),
            78..86 => self.somebody_leaves(),
            86..93 => self.somebody_rehearses(),
            _ => self.pass(self.now + 100),
        }
    }

    fn somebody_asks(&mut self) -> Result<(), String> {
        let name =
            ConversationId::from(["a", "b", "c", "d", "e"][self.rng.below(CONVERSATIONS) as usize]);
        let step = StepAsk {
            count: self.rng.below(5) as usize,
            sampling: Sampling::GREEDY,
            seed: self.rng.below(3),
            top: 0,
            stream: self.rng.chance(40),
        };
        let (conversation, ask) = match self.rng.below(100) {
            0..60 => (Some(name), Ask::Step(step)),
            60..72 => (Some(name), Ask::Embed),
            72..80 => (None, Ask::Embed),
            80..88 => (Some(name), Ask::Score),
            88..96 => (Some(name), Ask::Reset),
            _ => (Some(name), Ask::Close),
        };
        let tokens = (1 + self.rng.below(9)).min(1 + self.rng.below(30));
        // One id in a thousand is outside the vocabulary.
        let tokens = (0..tokens).map(|_| {
            TokenId(1 + self.rng.below(99) as u32 + 100 * u32::from(self.rng.below(1000) == 0))
        });
        let tokens: Vec<TokenId> = tokens.collect();
        let takes_input = !matches!(ask, Ask::Reset | Ask::Close);
        let goes_on = matches!(ask, Ask::Step(_)) && self.rng.chance(30);
        let input = (takes_input && !goes_on).then_some(tokens);
        let deadline = self.rng.chance(15).then(|| self.rng.below(120));
        self.ask(conversation, ask, input, deadline)
    }

    fn ask(
        &mut self,
        conversation: Option<ConversationId>,
        ask: Ask,
        input: Option<Vec<TokenId>>,
        deadline: Option<u64>,
    ) -> Result<(), String> {
        let request = RequestId(self.asked.len() as u64);
        let as_text = input.is_some() && self.rng.chance(40);
        let given = input.as_ref().map(|tokens| match as_text {
            true => Given::Text {
                bytes: tokens.len() * 4,
            },
            false => Given::Tokens(tokens.clone()),
        });
        let deadline = deadline.map(Duration::from_millis);
        let arrival = Arrival {
            request,
            conversation,
            ask,
            input: given,
            deadline,
        };
        let tokens = input.unwrap_or_default();
        let asked = Asked {
            arrival: arrival.clone(),
            tokens,
            at: self.now,
            shown: Vec::new(),
            end: None,
            deaths: 0,
        };
        self.asked.insert(request, asked);
        if self.faults && self.rng.chance(2) {
            self.poison.insert(request);
        }
        self.tell(Event::Arrived(arrival))
    }

    fn somebody_leaves(&mut self) -> Result<(), String> {
        let open: Vec<_> = self
            .asked
            .iter()
            .filter(|(_, asked)| asked.end.is_none())
            .map(|(&id, _)| id)
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        let who = self.rng.below(open.len() as u64) as usize;
        self.tell(Event::Gone(open[who]))
    }

    fn somebody_rehearses(&mut self) -> Result<(), String> {
        let chaos = match self.rng.chance(50) {
            true => Chaos::Crash,
            false => Chaos::Hang(Duration::from_millis(self.rng.below(3 * self.run_max))),
        };
        let request = RequestId(1_000_000 + self.sequence);
        let actor = ActorIndex(self.rng.below(4) as usize);
        self.tell(Event::Chaos {
            request,
            actor,
            chaos,
        })
    }

    fn later(&mut self, after: u64, due: Due) {
        self.sequence += 1;
        self.due.insert((self.now + after, self.sequence), due);
    }

    /// Lets time pass, and everything happen that is due.
    fn pass(&mut self, until: u64) -> Result<(), String> {
        loop {
            let happens = self.due.first_key_value().map(|(&(at, _), _)| at);
            let rings = self
                .policy
                .next_deadline()
                .map(|time| time.0.as_millis() as u64);
            let next = happens
                .into_iter()
                .chain(rings)
                .min()
                .filter(|&at| at <= until);
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

    fn loaded(&mut self, key: LifeKey) {
        let fault = if self.faults {
            self.rng.below(100)
        } else {
            100
        };
        let Some(life) = self.lives.get_mut(&key).filter(|life| !life.dead) else {
            return;
        };
        match fault {
            0..4 => {
                life.dead = true;
                let error = LoadError {
                    transient: true,
                    message: "busy".to_owned(),
                    hint: None,
                };
                self.report(key, vec![Report::LoadFailed(error)]);
                self.say_died(key, Vec::new());
            }
            4..6 => {
                life.dead = true;
                self.say_died(key, Vec::new());
            }
            _ => {
                life.loaded = true;
                self.report(key, vec![Report::Ready(model::info())]);
                self.later(0, Due::Begin(key));
            }
        }
    }

    fn begin(&mut self, key: LifeKey) {
        let (fault, slow) = (self.rng.below(100), self.rng.below(4));
        let Some(life) = self.lives.get_mut(&key) else {
            return;
        };
        if life.dead || !life.loaded || life.run.is_some() || !life.actor.has_work() {
            return;
        }
        if life.blocked_until > self.now {
            let pause = life.blocked_until - self.now;
            return self.later(pause, Due::Begin(key));
        }
        let mut reports = Vec::new();
        let requests = life.actor.begin(&self.cancelled, &mut reports);
        self.tally.restored += u64::from(requests.is_empty());
        let poisoned = requests.iter().any(|request| self.poison.contains(request));
        life.run = Some(ObservedRun {
            since: time(self.now),
            requests,
        });
        self.rebuilding.extend(life.actor.rebuilds());
        self.report(key, reports);
        let (lasts, ending) = match fault {
            _ if poisoned => (1, Ending::Death),
            _ if !self.faults => (1, Ending::Well),
            0..2 => (1 + slow, Ending::Death),
            2..4 => (2 * self.run_max, Ending::Well),
            4..5 => (2 * self.run_max, Ending::Death),
            5..8 => (1, Ending::Refused),
            8..14 => (20 * slow, Ending::Well),
            _ => (slow, Ending::Well),
        };
        self.later(lasts, Due::End(key, ending));
    }

    fn end(&mut self, key: LifeKey, ending: Ending) {
        let Some(life) = self.lives.get_mut(&key) else {
            return;
        };
        let Some(run) = life.run.take() else { return };
        let mut reports = Vec::new();
        match ending {
            Ending::Well => life.actor.end(None, &mut reports),
            Ending::Refused => life.actor.end(run.requests.first().copied(), &mut reports),
            Ending::Death => {
                if !life.dead {
                    life.dead = true;
                    self.say_died(key, run.requests);
                }
                return;
            }
        }
        self.report(key, reports);
        self.later(0, Due::Begin(key));
    }

    /// Reports arrive late, but in order.
    fn report(&mut self, key: LifeKey, reports: Vec<Report>) {
        for report in reports {
            let (actor, incarnation) = key;
            self.say(
                key,
                Event::Reported {
                    actor,
                    incarnation,
                    report,
                },
            );
        }
    }

    fn say_died(&mut self, key: LifeKey, running: Vec<RequestId>) {
        let (actor, incarnation) = key;
        self.say(
            key,
            Event::Died {
                actor,
                incarnation,
                running,
            },
        );
    }

    fn say(&mut self, key: LifeKey, event: Event) {
        let late = if self.rng.chance(10) {
            self.rng.below(30)
        } else {
            0
        };
        let Some(life) = self.lives.get_mut(&key) else {
            return;
        };
        life.said_at = life.said_at.max(self.now + late);
        let after = life.said_at - self.now;
        self.later(after, Due::Tell(event));
    }

    /// Tells the policy, does what it says, checks what must hold.
    fn tell(&mut self, event: Event) -> Result<(), String> {
        self.tally.events += 1;
        if self.keep_log {
            self.log.push(format!("{:>6} {event:?}", self.now));
        }
        self.account_deaths(&event);
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
            self.perform(effect)?;
        }
        Ok(())
    }

    /// Whose run ended in a death that counts.
    fn account_deaths(&mut self, event: &Event) {
        let run_max = Duration::from_millis(self.run_max);
        let (key, running) = match event {
            Event::Died {
                actor,
                incarnation,
                running,
            } => ((*actor, *incarnation), running),
            Event::Observed {
                actor,
                incarnation,
                run: Some(run),
            } if time(self.now).since(run.since) >= run_max => {
                ((*actor, *incarnation), &run.requests)
            }
            _ => return,
        };
        if self.lives.get(&key).is_none_or(|life| life.abandoned) {
            return;
        }
        for request in running {
            if let Some(asked) = self.asked.get_mut(request) {
                asked.deaths += 1;
            }
        }
    }

    fn perform(&mut self, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::Spawn { actor, incarnation } => {
                let key = (actor, incarnation);
                let life = Life {
                    actor: SimActor::default(),
                    run: None,
                    loaded: false,
                    dead: false,
                    abandoned: false,
                    said_at: 0,
                    blocked_until: 0,
                };
                let twice = self.lives.insert(key, life).is_some();
                let takes = 1 + self.rng.below(30);
                self.later(takes, Due::Loaded(key));
                return ensure(!twice, || format!("{key:?} was started twice"));
            }
            Effect::Send {
                actor,
                incarnation,
                job,
            } => {
                let key = (actor, incarnation);
                let life = self.lives.get_mut(&key).filter(|life| life.loaded);
                let life = life.ok_or_else(|| format!("{key:?} got a job before it was ready"))?;
                self.tally.undone += u64::from(job.work == Work::Forget);
                let deaths = self.asked.get(&job.request).map_or(0, |asked| asked.deaths);
                ensure(job.alone == (deaths > 0), || {
                    format!(
                        "{:?} with {deaths} deaths runs alone: {}",
                        job.request, job.alone
                    )
                })?;
                life.actor.accept(job);
                self.later(0, Due::Begin(key));
            }
            Effect::Tokenise(request) => {
                let refused = self.rng.chance(3);
                let tokens = self
                    .asked
                    .get(&request)
                    .map(|asked| asked.tokens.clone())
                    .unwrap_or_default();
                let refusal = BrainError::BadRequest {
                    what: "text",
                    found: String::new(),
                    expected: String::new(),
                };
                let result = if refused { Err(refusal) } else { Ok(tokens) };
                let takes = self.rng.below(20);
                self.later(takes, Due::Tell(Event::Tokenised { request, result }));
            }
            Effect::Observe { actor, incarnation } => {
                let run = self
                    .lives
                    .get(&(actor, incarnation))
                    .and_then(|life| life.run.clone());
                return self.tell(Event::Observed {
                    actor,
                    incarnation,
                    run,
                });
            }
            Effect::Cancel(request) => {
                self.cancelled.insert(request);
            }
            Effect::Abandon { actor, incarnation } => {
                self.tally.hangs += 1;
                if let Some(life) = self.lives.get_mut(&(actor, incarnation)) {
                    life.abandoned = true;
                }
            }
            Effect::Stop { actor, incarnation } => {
                if let Some(life) = self.lives.get_mut(&(actor, incarnation)) {
                    life.dead = true;
                    self.say_died((actor, incarnation), Vec::new());
                }
            }
            Effect::Inflict {
                actor,
                incarnation,
                chaos,
            } => self.inflict((actor, incarnation), chaos),
            Effect::Show { request, sampled } => {
                let asked = self.open(request)?;
                asked.shown.push(sampled);
            }
            Effect::Answer { request, answer } => return self.answered(request, answer),
            Effect::Fail {
                request,
                error,
                committed,
            } => return self.failed(request, error, committed),
            Effect::Drop(request) => self.open(request)?.end = Some(End::Dropped),
            Effect::Notice(Notice::Down { .. }) => {
                self.down += 1;
                self.tally.downs += 1;
            }
            Effect::Notice(Notice::Restarting { .. }) => self.tally.deaths += 1,
            Effect::Notice(Notice::Impossible(what)) => return Err(format!("impossible: {what}")),
            Effect::StartFailed(_) | Effect::ShutdownComplete => self.over = true,
            Effect::Started(_) | Effect::Notice(_) => {}
        }
        Ok(())
    }

    fn inflict(&mut self, key: LifeKey, chaos: Chaos) {
        let Some(life) = self.lives.get_mut(&key).filter(|life| !life.dead) else {
            return;
        };
        match chaos {
            // The message waits until the run is over, so the death is outside a run.
            Chaos::Crash if life.run.is_none() => {
                life.dead = true;
                self.say_died(key, Vec::new());
            }
            Chaos::Crash => {}
            Chaos::Hang(duration) => life.blocked_until = self.now + duration.as_millis() as u64,
        }
    }

    fn open(&mut self, request: RequestId) -> Result<&mut Asked, String> {
        let asked = self
            .asked
            .get_mut(&request)
            .ok_or_else(|| format!("{request:?} was never asked"))?;
        match asked.end {
            None => Ok(asked),
            Some(_) => Err(format!("{request:?} is named again after its end")),
        }
    }

    fn answered(&mut self, request: RequestId, answer: Answer) -> Result<(), String> {
        if request.0 >= 1_000_000 {
            return Ok(());
        }
        self.tally.answered += 1;
        self.tally.rebuilt += u64::from(answer.rebuilt);
        let rebuilt = answer.rebuilt;
        let asked = self.open(request)?;
        asked.end = Some(End::Answered(answer));
        let Some(name) = asked.arrival.conversation.clone() else {
            return Ok(());
        };
        if rebuilt {
            ensure(self.rebuilding.remove(&name), || {
                format!("`{name}` says it was rebuilt, and was not")
            })?;
        }
        let before = self.last_answered.insert(name.clone(), request);
        ensure(before < Some(request), || {
            format!("`{name}` answers {request:?} after {before:?}")
        })
    }

    fn failed(
        &mut self,
        request: RequestId,
        error: BrainError,
        committed: usize,
    ) -> Result<(), String> {
        if request.0 >= 1_000_000 {
            return Ok(());
        }
        self.tally.failed += 1;
        let (now, down, actors) = (self.now, self.down, self.actors);
        let asked = self.open(request)?;
        let shown = asked.shown.len();
        ensure(shown == committed, || {
            format!("{request:?} committed {committed}, {shown} were shown")
        })?;
        let deserved = match &error {
            BrainError::Timeout { deadline } => asked.at + deadline.as_millis() as u64 == now,
            BrainError::Restarted => asked.deaths >= 2,
            BrainError::Unavailable { .. } => down == actors,
            BrainError::Quarantined { .. } => true,
            _ => asked.deaths < 2,
        };
        let deaths = asked.deaths;
        asked.end = Some(End::Failed);
        self.tally.quarantined += u64::from(matches!(error, BrainError::Quarantined { .. }));
        ensure(deserved, || {
            format!("{request:?} with {deaths} deaths is answered {error:?} at {now}")
        })
    }

    /// Does what was answered, in the order of arrival and without any actor, and compares.
    fn check_answers(&self) -> Result<(), String> {
        let mut truth: BTreeMap<ConversationId, History> = BTreeMap::new();
        for (request, asked) in &self.asked {
            let mut single = History::default();
            let history = match &asked.arrival.conversation {
                Some(name) => truth.entry(name.clone()).or_default(),
                None => &mut single,
            };
            let expected = match &asked.end {
                Some(End::Answered(answer)) => {
                    let expected =
                        model::perform(history, &mut Commit::default(), &work(asked, usize::MAX));
                    ensure(answer.outcome == expected, || {
                        format!(
                            "{request:?} is answered {:?}, expected {expected:?}",
                            answer.outcome
                        )
                    })?;
                    let context_len = if expected == Outcome::Forgotten {
                        0
                    } else {
                        history.tokens.len()
                    };
                    let stateless = asked.arrival.conversation.is_none();
                    ensure(stateless || answer.context_len == context_len, || {
                        format!(
                            "{request:?} says context_len {}, expected {context_len}",
                            answer.context_len
                        )
                    })?;
                    expected
                }
                Some(End::Failed | End::Dropped) if !asked.shown.is_empty() => model::perform(
                    history,
                    &mut Commit::default(),
                    &work(asked, asked.shown.len()),
                ),
                _ => continue,
            };
            match (&expected, asked.arrival.ask) {
                (Outcome::Forgotten, _) => *history = History::default(),
                (Outcome::Stepped { sampled, .. }, Ask::Step(step)) if step.stream => {
                    ensure(*sampled == asked.shown, || {
                        format!("{request:?} showed {:?}, expected {sampled:?}", asked.shown)
                    })?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The work of a request, sampling at most `count_max` tokens.
fn work(asked: &Asked, count_max: usize) -> Work {
    let tokens = asked.tokens.clone().into();
    match asked.arrival.ask {
        Ask::Embed => Work::Embed { tokens },
        Ask::Score => Work::Score { tokens },
        Ask::Step(StepAsk {
            count,
            sampling,
            seed,
            top,
            stream,
        }) => Work::Step {
            tokens,
            count: count.min(count_max),
            sampling,
            seed,
            top,
            stream,
        },
        Ask::Reset | Ask::Close => Work::Forget,
    }
}

fn time(ms: u64) -> Time {
    Time(Duration::from_millis(ms))
}

fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}
