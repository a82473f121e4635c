//! An actor under a supervisor that writes down what it hears, and an owner that keeps histories from
//! the commits as MotorBrain does.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::Future,
    sync::Arc,
    time::Duration,
};

use motorbrain_actors::{
    clock::Clock,
    embedder::{EmbedderArguments, EmbedderMessage, spawn_on_thread},
    engine::{Engine, EngineInfo, LoadError, Resident, Row, Sampled, Sampling, Want},
    grammar::{Constraint, Guide},
    job::{Commit, Done, History, Holding, Job, JobError, Outcome, Pulse, Report, RequestId, Work},
    message::{ConversationId, Party},
    spans::JobSpans,
    tokens::TokenId,
    vectors::Shape,
};
use motorbrain_testing::{FakeControl, FakeEngine, FakeLoader, fake_info, fake_info_without_pages, hashed_grammar};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What a supervisor hears of its child's end.
#[derive(Debug, PartialEq)]
pub(crate) enum Ended {
    Failed(String),
    Stopped,
}

/// A supervisor that only writes down.
pub(crate) struct Watch;

impl Actor for Watch {
    type Msg = ();
    type State = UnboundedSender<Ended>;
    type Arguments = UnboundedSender<Ended>;

    async fn pre_start(&self, _: ActorRef<()>, ended: Self::Arguments) -> Result<Self::State, ActorProcessingErr> {
        Ok(ended)
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        event: SupervisionEvent,
        ended: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(_, error) => ended.send(Ended::Failed(error.to_string()))?,
            SupervisionEvent::ActorTerminated(..) => ended.send(Ended::Stopped)?,
            _ => {}
        }
        Ok(())
    }
}

pub(crate) async fn supervisor() -> (ActorRef<()>, UnboundedReceiver<Ended>) {
    let (send, ended) = unbounded_channel();
    let (supervisor, _) = Actor::spawn(None, Watch, send).await.unwrap();
    (supervisor, ended)
}

pub(crate) struct Bench {
    pub(crate) control: FakeControl,
    pub(crate) actor: ActorRef<EmbedderMessage>,
    pub(crate) pulse: Pulse,
    pub(crate) ended: UnboundedReceiver<Ended>,
    /// Every conversation as its commits tell.
    pub(crate) histories: BTreeMap<String, History>,
    /// What there is of their keys and values.
    pub(crate) held: BTreeMap<String, Holding>,
    /// Jobs behind the one that is out; a conversation that has one is named here.
    waiting: BTreeMap<String, VecDeque<Job>>,
    /// Those that are cancelled as soon as they are out.
    cancelled: BTreeSet<RequestId>,
    /// As last reported.
    pub(crate) kv_bytes: usize,
    /// Jobs that were said to be cleared.
    pub(crate) cleared: Vec<RequestId>,
    /// Streamed tokens in the order of their reports.
    pub(crate) shown: Vec<(RequestId, Sampled)>,
    reports: UnboundedReceiver<Report>,
    owners: BTreeMap<RequestId, Option<String>>,
    done: Vec<Done>,
    info: EngineInfo,
    supervisor: ActorRef<()>,
}

/// No wait here is for a clock; this only ends a test that would hang.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("still waiting after 30 s")
}

impl Bench {
    pub(crate) async fn new(info: EngineInfo, chunk: usize, control: FakeControl) -> Self {
        let (supervisor, ended) = supervisor().await;
        let (send, reports) = unbounded_channel();
        let pulse = Pulse::default();
        let arguments = EmbedderArguments {
            loader: Arc::new(FakeLoader { info: info.clone(), control: control.clone() }),
            report: Arc::new(move |report| drop(send.send(report))),
            pulse: pulse.clone(),
            clock: Clock::start(),
            straighten: None,
            chunk,
            beside_max: Duration::from_millis(250),
        };
        let actor = spawn_on_thread(None, supervisor.get_cell(), arguments).unwrap();
        Self {
            control,
            actor,
            pulse,
            ended,
            histories: BTreeMap::new(),
            held: BTreeMap::new(),
            waiting: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            kv_bytes: 0,
            cleared: Vec::new(),
            shown: Vec::new(),
            reports,
            owners: BTreeMap::new(),
            done: Vec::new(),
            info,
            supervisor,
        }
    }

    /// An actor whose load waits until [`Self::release`], so that what is sent before waits together.
    pub(crate) async fn held(chunk: usize) -> Self {
        let control = FakeControl::default();
        control.hold_loads();
        control.record();
        Self::new(fake_info(), chunk, control).await
    }

    /// The same on an engine that keeps keys and values to itself.
    pub(crate) async fn held_without_pages(chunk: usize) -> Self {
        let control = FakeControl::default();
        control.hold_loads();
        control.record();
        Self::new(fake_info_without_pages(), chunk, control).await
    }

    pub(crate) fn release(&self) {
        self.control.release_loads();
    }

    pub(crate) fn job(&mut self, conversation: Option<&str>, work: Work) -> Job {
        let request = RequestId(self.owners.len() as u64);
        self.owners.insert(request, conversation.map(str::to_owned));
        Job {
            request,
            conversation: conversation.map(ConversationId::from),
            context: History::default(),
            held: Holding::Nothing,
            carried: None,
            work,
            pins: false,
            text: None,
            party: Party::default(),
            alone: 0,
            spans: JobSpans::new(tracing::Span::none()),
        }
    }

    /// Sends a job, behind those of its conversation that are not done.
    pub(crate) fn send_job(&mut self, job: Job) -> RequestId {
        let request = job.request;
        if let Some(name) = job.conversation.as_ref().map(|name| name.as_str().to_owned()) {
            if let Some(waiting) = self.waiting.get_mut(&name) {
                waiting.push_back(job);
                return request;
            }
            self.waiting.insert(name, VecDeque::new());
        }
        self.send_now(job);
        request
    }

    fn send_now(&mut self, mut job: Job) {
        if let Some(name) = &job.conversation {
            job.context = self.histories.get(name.as_str()).cloned().unwrap_or_default();
            job.held = self.held.get(name.as_str()).cloned().unwrap_or(Holding::Nothing);
        }
        let request = job.request;
        self.actor.cast(EmbedderMessage::Job(Box::new(job))).unwrap();
        if self.cancelled.contains(&request) {
            self.cancel(request);
        }
    }

    /// Nobody waits for a job that is out.
    pub(crate) fn cancel(&self, request: RequestId) {
        self.actor.cast(EmbedderMessage::Cancel(request)).unwrap();
    }

    /// Sends a job that is cancelled as soon as it is out.
    pub(crate) fn send_cancelled(&mut self, job: Job) -> RequestId {
        self.cancelled.insert(job.request);
        self.send_job(job)
    }

    pub(crate) fn send(&mut self, conversation: &str, work: Work) -> RequestId {
        let job = self.job(Some(conversation), work);
        self.send_job(job)
    }

    pub(crate) fn send_stateless(&mut self, work: Work) -> RequestId {
        let job = self.job(None, work);
        self.send_job(job)
    }

    /// The next report; histories follow the commits.
    pub(crate) async fn report(&mut self) -> Option<Report> {
        let report = soon(self.reports.recv()).await?;
        let (request, commit, context_len) = match &report {
            Report::Token { request, commit, context_len, forced, sampled, .. } => {
                self.shown.extend(forced.iter().chain(sampled).map(|sampled| (*request, sampled.clone())));
                (*request, commit.clone(), *context_len)
            }
            Report::Done(done) => {
                self.done.push(done.clone());
                (done.request, done.commit.clone(), done.context_len)
            }
            Report::Memory { kv_bytes } => {
                self.kv_bytes = *kv_bytes;
                return Some(report);
            }
            Report::Runs => return Some(report),
            Report::Cleared { request } => {
                self.cleared.push(*request);
                return Some(report);
            }
            Report::Ready(_) | Report::LoadFailed(_) | Report::Returned { .. } => return Some(report),
        };
        if let Some(conversation) = self.owners[&request].clone() {
            let history = self.histories.entry(conversation.clone()).or_default();
            if matches!(&report, Report::Done(Done { outcome: Ok(Outcome::Forgotten), .. })) {
                *history = History::default();
                self.held.remove(&conversation);
            }
            commit.apply(history, &self.info.window);
            assert_eq!(history.tokens.len(), context_len, "commits tell the context of {conversation}");
            self.hold(&conversation, &report, commit);
            if matches!(report, Report::Done(_)) {
                match self.waiting.get_mut(&conversation).and_then(VecDeque::pop_front) {
                    Some(next) => self.send_now(next),
                    None => drop(self.waiting.remove(&conversation)),
                }
            }
        }
        Some(report)
    }

    fn hold(&mut self, conversation: &str, report: &Report, commit: Commit) {
        let held = self.held.entry(conversation.to_owned()).or_insert(Holding::Nothing);
        match report {
            Report::Done(Done { outcome: Ok(Outcome::Forgotten), .. }) | Report::Done(Done { lost: true, .. }) => {
                *held = Holding::Nothing;
            }
            _ if self.info.pages.is_none() => {
                if matches!(report, Report::Token { .. } | Report::Done(Done { outcome: Ok(_), .. })) {
                    *held = Holding::Slot;
                }
            }
            _ => {
                let mut resident = match held {
                    Holding::Pages(resident) => resident.clone(),
                    _ => Resident::default(),
                };
                resident.apply(commit.held);
                *held = Holding::Pages(resident);
            }
        }
    }

    pub(crate) async fn ready(&mut self) -> EngineInfo {
        match self.report().await {
            Some(Report::Ready(info)) => info,
            other => panic!("{other:?} instead of ready"),
        }
    }

    pub(crate) async fn load_failed(&mut self) -> LoadError {
        match self.report().await {
            Some(Report::LoadFailed(error)) => error,
            other => panic!("{other:?} instead of a failed load"),
        }
    }

    /// Waits until a job is done.
    pub(crate) async fn done(&mut self, request: RequestId) -> Done {
        loop {
            if let Some(index) = self.done.iter().position(|done| done.request == request) {
                return self.done.remove(index);
            }
            self.report().await.expect("the actor has died");
        }
    }

    /// The order in which jobs were done.
    pub(crate) async fn order(&mut self, count: usize) -> Vec<RequestId> {
        while self.done.len() < count {
            self.report().await.expect("the actor has died");
        }
        self.done.iter().map(|done| done.request).collect()
    }

    pub(crate) async fn ask(&mut self, conversation: &str, work: Work) -> Done {
        let request = self.send(conversation, work);
        self.done(request).await
    }

    /// Waits until a run hangs.
    pub(crate) async fn hanging(&self) {
        soon(self.control.until(|tally| tally.hanging > 0)).await;
    }

    /// Waits for the end, after the last report.
    pub(crate) async fn end(&mut self) -> Ended {
        while self.report().await.is_some() {}
        soon(self.ended.recv()).await.unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.control.release_loads();
        self.control.release_hangs();
        self.supervisor.stop(None);
    }
}

/// `count` tokens counted from `first`, within the fake's vocabulary.
pub(crate) fn tokens(first: u32, count: u32) -> Vec<TokenId> {
    (first..first + count).map(|token| TokenId(token % 64)).collect()
}

pub(crate) fn embed(tokens: Vec<TokenId>) -> Work {
    Work::Embed { tokens: Arc::new(tokens), shape: Shape::default() }
}

pub(crate) fn score(tokens: Vec<TokenId>) -> Work {
    Work::Score { tokens: Arc::new(tokens), top: 2 }
}

pub(crate) fn step(tokens: Vec<TokenId>, count: usize) -> Work {
    let sampling = Sampling { temperature: 1.0, top_k: 20, top_p: 0.9, frequency_penalty: 0.5, ..Sampling::GREEDY };
    Work::Step {
        tokens: Arc::new(tokens),
        count,
        sampling,
        seed: 5,
        top: 2,
        stream: false,
        grammar: None,
        said: Vec::new(),
    }
}

pub(crate) fn stream(tokens: Vec<TokenId>, count: usize) -> Work {
    match step(tokens, count) {
        Work::Step { tokens, count, sampling, seed, top, .. } => {
            Work::Step { tokens, count, sampling, seed, top, stream: true, grammar: None, said: Vec::new() }
        }
        other => other,
    }
}

/// The same step, whose tokens spell one of the fake's grammars.
pub(crate) fn spelling(work: Work, seed: u64) -> Work {
    let info = fake_info();
    match work {
        Work::Step { tokens, count, sampling, top, stream, said, .. } => {
            let grammar = Some(hashed_grammar(seed, info.vocab, &info.end_tokens));
            Work::Step { tokens, count, sampling, seed, top, stream, grammar, said }
        }
        other => other,
    }
}

/// The same step, of which no more tokens are sampled than these.
pub(crate) fn cut(work: &Work, shown: usize) -> Work {
    let mut work = work.clone();
    if let Work::Step { count, .. } = &mut work {
        *count = shown;
    }
    work
}

/// A conversation on an engine of its own, token by token: what the actor's answers must equal.
pub(crate) struct Reference {
    engine: FakeEngine,
    slot: motorbrain_actors::engine::SlotIndex,
    pub(crate) total: u64,
    pub(crate) context_len: usize,
}

impl Reference {
    pub(crate) fn new(info: EngineInfo) -> Self {
        let mut engine = FakeEngine::new(info, FakeControl::default());
        let slot = engine.open().unwrap();
        Self { engine, slot, total: 0, context_len: 0 }
    }

    /// One that has read `history` before.
    pub(crate) fn after(history: &[TokenId], info: EngineInfo) -> Self {
        let mut reference = Self::new(info);
        history.iter().for_each(|&token| drop(reference.read(token, Want::Nothing)));
        reference
    }

    fn read(&mut self, token: TokenId, want: Want<'_>) -> motorbrain_actors::engine::RowOutput {
        loop {
            let tokens = &[token];
            let output = self.engine.run(&[Row { slot: self.slot, tokens, want }]).unwrap().next().unwrap();
            self.context_len = output.context_len;
            if output.taken == 1 {
                self.total += 1;
                return output;
            }
        }
    }

    pub(crate) fn answer(&mut self, work: &Work) -> Outcome {
        match work {
            Work::Embed { tokens, shape } => Outcome::Embedded(self.embed(tokens, *shape)),
            Work::Score { tokens, top } => {
                let (logprobs, likely) = tokens.iter().map(|&token| self.score(token, *top)).unzip();
                Outcome::Scored { logprobs, top: if *top > 0 { likely } else { Vec::new() } }
            }
            Work::Step { tokens, count, sampling, seed, top, grammar, .. } => {
                tokens.iter().for_each(|&token| drop(self.read(token, Want::Nothing)));
                let mut sampled: Vec<Sampled> = Vec::new();
                let ends = self.engine.info().end_tokens.clone();
                let mut spelling = grammar.as_ref().map(Constraint::begin);
                let mut stopped = false;
                while sampled.len() < *count && !stopped {
                    let forced = spelling.as_mut().map_or(Vec::new(), |spelling| spelling.forced());
                    let said = sampled.iter().map(|sampled| sampled.token);
                    let guide = grammar.as_ref().map(|grammar| Guide::behind(grammar, said).unwrap());
                    let token = match forced.first() {
                        Some(&token) => {
                            self.read(token, Want::Nothing);
                            Sampled { token, logprob: 0.0, top: vec![] }
                        }
                        None => {
                            let (seed, number, guide) = (*seed, self.total, guide.as_ref());
                            let want = Want::Next { sampling, seed, number, top: *top, guide };
                            let row = Row { slot: self.slot, tokens: &[], want };
                            let output = self.engine.run(&[row]).unwrap().next().unwrap();
                            self.context_len = output.context_len;
                            self.total += 1;
                            output.sampled.unwrap()
                        }
                    };
                    stopped = ends.contains(&token.token);
                    if let Some(spelling) = spelling.as_mut().filter(|_| !stopped) {
                        spelling.accept(token.token).unwrap();
                        stopped = spelling.is_over();
                    }
                    sampled.push(token);
                }
                Outcome::Stepped { stopped, sampled }
            }
            Work::Forget => {
                *self = Self::new(self.engine.info().clone());
                Outcome::Forgotten
            }
        }
    }

    /// The probability that sampling would have given the token.
    fn score(&mut self, token: TokenId, top: usize) -> (Option<f32>, Vec<(TokenId, f32)>) {
        let vocab = self.engine.info().vocab;
        let scored = (self.total > 0).then(|| {
            // On a copy, for sampling appends.
            let mut copy = Self::new(self.engine.info().clone());
            let context = self.context();
            context.iter().for_each(|&token| drop(copy.read(token, Want::Nothing)));
            let want = Want::Next { sampling: &Sampling::GREEDY, seed: 0, number: 0, top: vocab, guide: None };
            let output = copy.engine.run(&[Row { slot: copy.slot, tokens: &[], want }]).unwrap().next().unwrap();
            let all = output.sampled.unwrap().top;
            (all.iter().find(|(id, _)| *id == token).map(|(_, logprob)| *logprob), all[..top].to_vec())
        });
        self.read(token, Want::Nothing);
        scored.unwrap_or_default()
    }

    fn context(&self) -> Vec<TokenId> {
        self.engine.context(self.slot).to_vec()
    }

    fn embed(&mut self, tokens: &[TokenId], shape: Shape) -> Vec<f32> {
        use motorbrain_actors::{engine, vectors::Pooling};
        let states: Vec<Vec<f32>> =
            tokens.iter().map(|&token| self.read(token, Want::Hidden(engine::Pooling::Last)).hidden).collect();
        let mut vector = match shape.pooling {
            Pooling::Last => states.last().unwrap().clone(),
            Pooling::Mean => (0..states[0].len())
                .map(|i| states.iter().map(|state| state[i]).sum::<f32>() / states.len() as f32)
                .collect(),
        };
        if shape.normalize {
            let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
            vector.iter_mut().for_each(|value| *value /= length);
        }
        vector
    }
}

/// Vectors may differ by the order of a sum; everything else is equal.
pub(crate) fn assert_equal(found: &Outcome, expected: &Outcome) {
    match (found, expected) {
        (Outcome::Embedded(found), Outcome::Embedded(expected)) => {
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-5, "{found} instead of {expected}");
            }
        }
        _ => assert_eq!(found, expected),
    }
}

/// The outcome of a job that succeeded.
pub(crate) fn outcome(done: &Done) -> &Outcome {
    done.outcome.as_ref().unwrap()
}

/// The error of a job that failed.
pub(crate) fn failure(done: Done) -> JobError {
    done.outcome.unwrap_err()
}
