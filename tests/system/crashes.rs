//! Actors that die and hang all the while, beside 32 conversations that step, stream, score, fork and choose among
//! several answers: every answer must be that of an undisturbed run, token for token and to the last bit of each
//! log-probability, and nothing is rebuilt.
//!
//! A crash is a panic between two runs. Of hangs every second is a thread that sleeps, the others are runs that write
//! garbage to whatever they may write to, for as long as they live, or give their answer when nobody wants it any more
//! (`abandoned.rs`). Which conversation does what is drawn from a seed, as is who dies when, counted in answers.
//!
//! `MOTORBRAIN_SOAK=200,50` disturbs each form by 200 crashes and 50 hangs in the place of a few, and the default model
//! as well.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "what was measured is shown")]

use std::{
    env,
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    abandoned::{Orders, Wild},
    choices::Choices,
    common::{fixture, graph_cache, root, text_tokens},
};
use motorbrain::{
    Brain, Context, Fork, Parts, Sampling, Score, Settings, Step, StepItem, Stepped, Terms, TokenId,
    engine::{Activations, Form},
};
use motorbrain_actors::engine::EngineLoader;
use tokio::{
    sync::watch,
    task::{JoinSet, yield_now},
};

const CONVERSATIONS: usize = 32;
const ACTORS: usize = 3;

/// What a conversation does in one turn, with some tokens of a text.
#[derive(Clone, Copy)]
pub(crate) enum Deed {
    Greedy,
    Drawn,
    Streamed,
    Score,
    /// Three answers, of which it goes on from one.
    Several,
    /// A fork that takes the turn.
    Fork,
}

#[derive(Clone)]
pub(crate) struct Turn {
    pub(crate) deed: Deed,
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) count: usize,
    pub(crate) seed: u64,
}

/// Some conversations slide often in a window of 96, some never.
fn scripts(dir: &Path, seed: u64) -> Vec<Vec<Turn>> {
    use Deed::{Drawn, Fork, Greedy, Score, Several, Streamed};
    let text = text_tokens(dir, 800);
    let mut choices = Choices(seed);
    let turn = |choices: &mut Choices, begin: usize, longest: usize| Turn {
        deed: [Greedy, Drawn, Drawn, Streamed, Streamed, Score, Several, Fork][choices.below(8)],
        tokens: text[begin..begin + 1 + choices.below(longest)].to_vec(),
        count: 1 + choices.below(12),
        seed: choices.below(1 << 30) as u64,
    };
    let script = |index: usize| {
        // Some begin alike.
        let begins = [0, 0, choices.below(600)][choices.below(3)];
        let (turns, longest) = if index.is_multiple_of(3) { (2, 12) } else { (5, 60) };
        (0..turns).map(|number| turn(&mut choices, begins + 20 * number, longest)).collect()
    };
    (0..CONVERSATIONS).map(script).collect()
}

/// What must not depend on who dies: tokens, the bits of their log-probabilities, and how long the context is.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) tokens: Vec<TokenId>,
    logprobs: Vec<Option<u32>>,
    context_len: usize,
}

impl Answer {
    fn new(tokens: Vec<TokenId>, logprobs: impl Iterator<Item = Option<f32>>, context: Context) -> Self {
        assert!(!context.rebuilt, "nothing is rebuilt");
        Self {
            tokens,
            logprobs: logprobs.map(|value| value.map(f32::to_bits)).collect(),
            context_len: context.context_len,
        }
    }

    fn of(stepped: Stepped) -> Self {
        Self::new(stepped.token_ids, stepped.logprobs.into_iter().map(Some), stepped.context)
    }
}

async fn streamed(brain: &Brain, step: Step) -> Answer {
    let mut stream = brain.step_stream(step).await.unwrap();
    let mut shown = Vec::new();
    loop {
        match stream.next().await.unwrap() {
            StepItem::Token { sampled, .. } => shown.push(sampled.token),
            StepItem::Stepped(stepped) => {
                assert_eq!(shown, stepped.token_ids);
                return Answer::of(stepped);
            }
            StepItem::Failed { error, .. } => panic!("{error}"),
        }
    }
}

pub(crate) async fn play(brain: &Brain, name: &str, turn: Turn) -> Vec<Answer> {
    let Turn { deed, tokens, count, seed } = turn;
    let greedy = Step::greedy(name, tokens.clone(), count);
    let drawn = Step {
        sampling: Sampling { temperature: 1.0, top_p: 0.95, presence_penalty: 0.5, ..Sampling::GREEDY },
        seed: Some(seed),
        ..greedy.clone()
    };
    match deed {
        Deed::Greedy => vec![Answer::of(brain.step(greedy).await.unwrap())],
        Deed::Drawn => vec![Answer::of(brain.step(drawn).await.unwrap())],
        Deed::Streamed => vec![streamed(brain, drawn).await],
        Deed::Score => {
            let score = Score::of(name, tokens);
            let scored = brain.score(score).await.unwrap();
            vec![Answer::new(Vec::new(), scored.logprobs.into_iter(), scored.context)]
        }
        Deed::Several => {
            let several = brain.several(Step { n: 3, ..drawn }).await.unwrap();
            let mut answers: Vec<_> = several.choices.into_iter().map(Answer::of).collect();
            let terms = Terms { choice: Some(seed as usize % 3), ..Terms::default() };
            let chosen = Step { input: None, count: 3, terms, ..greedy };
            answers.push(Answer::of(brain.step(chosen).await.unwrap()));
            answers
        }
        Deed::Fork => {
            // There is nothing to fork from before the first turn.
            brain.step(Step { count: 0, ..greedy }).await.unwrap();
            let fork = format!("{name}, forked");
            let to = Fork { from: name.into(), to: fork.as_str().into(), at: None, choice: None };
            brain.fork(to).await.unwrap();
            let child = Step { conversation: fork.as_str().into(), input: None, ..drawn.clone() };
            let child = Answer::of(brain.step(child).await.unwrap());
            brain.close(fork).await.unwrap();
            let parent = Step { input: None, ..drawn };
            vec![child, Answer::of(brain.step(parent).await.unwrap())]
        }
    }
}

/// How many turns each conversation has done, and all of them.
struct Progress {
    turns: Vec<AtomicUsize>,
    all: watch::Sender<usize>,
}

impl Progress {
    fn new() -> Arc<Self> {
        Arc::new(Self { turns: (0..CONVERSATIONS).map(|_| AtomicUsize::new(0)).collect(), all: watch::Sender::new(0) })
    }

    fn turns(&self) -> Vec<usize> {
        self.turns.iter().map(|turns| turns.load(Ordering::Relaxed)).collect()
    }
}

/// All scripts at once, each conversation under a new name: the answers turn by turn.
fn play_all(
    brain: &Brain,
    scripts: &[Vec<Turn>],
    round: usize,
    progress: &Arc<Progress>,
) -> JoinSet<(usize, Vec<Answer>)> {
    let mut players = JoinSet::new();
    for (index, script) in scripts.iter().cloned().enumerate() {
        let (brain, progress) = (brain.clone(), Arc::clone(progress));
        players.spawn(async move {
            let name = format!("{index} of {round}");
            let mut answers = Vec::new();
            for turn in script {
                answers.extend(play(&brain, &name, turn).await);
                progress.turns[index].fetch_add(1, Ordering::Relaxed);
                progress.all.send_modify(|all| *all += 1);
            }
            brain.close(name).await.unwrap();
            (index, answers)
        });
    }
    players
}

async fn answers(players: JoinSet<(usize, Vec<Answer>)>) -> Vec<Vec<Answer>> {
    let mut all = players.join_all().await;
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, answers)| answers).collect()
}

/// What has been done to the actors.
#[derive(Debug, Default)]
struct Disturbed {
    crashes: usize,
    slept: usize,
    wild: usize,
}

impl Disturbed {
    fn hangs(&self) -> usize {
        self.slept + self.wild
    }

    fn all(&self) -> u64 {
        (self.crashes + self.hangs()) as u64
    }
}

/// Kills actors and has them hang at random moments, until enough is done.
struct Disturber {
    brain: Brain,
    /// The watchdog's limit.
    run_max: Duration,
    orders: Arc<Orders>,
    choices: Choices,
    crashes: usize,
    hangs: usize,
    done: Disturbed,
    /// An actor that sleeps, until it was restarted so often.
    sleeps: Option<(usize, u64)>,
    /// The turns of each conversation.
    turns: Vec<usize>,
    /// How many of them it must have done before another run may go wild: its request may be charged with a death, and
    /// a second one would be its end.
    charged: Vec<usize>,
}

impl Disturber {
    fn is_through(&self) -> bool {
        self.done.crashes >= self.crashes && self.done.hangs() >= self.hangs
    }

    async fn restarts(&self, actor: usize) -> u64 {
        self.brain.stats().await.unwrap().actors[actor].restarts
    }

    async fn restarts_of_all(&self) -> u64 {
        self.brain.stats().await.unwrap().actors.iter().map(|actor| actor.restarts).sum()
    }

    async fn disturb(&mut self, progress: &Progress) {
        let turns = self.turns.iter().sum();
        self.charged = vec![0; CONVERSATIONS];
        let mut all = progress.all.subscribe();
        loop {
            let next = *all.borrow() + self.choices.below(4);
            all.wait_for(|all| *all >= next.min(turns)).await.unwrap();
            if self.is_through() || *all.borrow() == turns {
                return;
            }
            let crashes = self.crashes.saturating_sub(self.done.crashes);
            let hangs = self.hangs.saturating_sub(self.done.hangs());
            let actor = self.choices.below(ACTORS);
            if self.choices.below(crashes + hangs) < crashes {
                self.crash(actor).await;
            } else if self.done.hangs().is_multiple_of(2) {
                self.sleep(actor).await;
            } else {
                self.go_wild(progress, turns).await;
            }
        }
    }

    /// Whether nothing but what is done now will have the actor restarted.
    async fn is_well(&mut self, actor: usize) -> bool {
        if let Some((sleeps, restarts)) = self.sleeps {
            if self.restarts(sleeps).await < restarts {
                return sleeps != actor;
            }
            self.sleeps = None;
        }
        true
    }

    async fn crash(&mut self, actor: usize) {
        let restarts = self.restarts(actor).await;
        if self.is_well(actor).await && self.brain.crash(actor).await.is_ok() {
            self.done.crashes += 1;
            while self.restarts(actor).await == restarts {
                yield_now().await;
            }
        }
    }

    async fn sleep(&mut self, actor: usize) {
        let restarts = self.restarts(actor).await;
        if self.is_well(actor).await && self.sleeps.is_none() && self.brain.hang(actor, 2 * self.run_max).await.is_ok()
        {
            self.done.slept += 1;
            self.sleeps = Some((actor, restarts + 1));
        }
    }

    async fn go_wild(&mut self, progress: &Progress, turns: usize) {
        let moved = progress.turns().into_iter().zip(&self.charged).all(|(turns, charged)| turns >= *charged);
        if !moved || !self.is_well(ACTORS).await || self.sleeps.is_some() {
            return;
        }
        let (gone, restarts) = (self.orders.gone(), self.restarts_of_all().await);
        self.orders.go_wild();
        // There is a run as long as there is a turn to be done.
        while self.orders.gone() == gone {
            if *progress.all.borrow() == turns {
                return self.orders.stay_calm();
            }
            yield_now().await;
        }
        self.done.wild += 1;
        while self.restarts_of_all().await == restarts {
            yield_now().await;
        }
        self.charged =
            progress.turns().into_iter().zip(&self.turns).map(|(turns, all)| *all.min(&(turns + 1))).collect();
    }
}

struct Soak {
    /// Of the form.
    name: &'static str,
    crashes: usize,
    hangs: usize,
    /// The watchdog's limit: far above what a run takes, be the machine as busy as it likes.
    run_max: Duration,
}

impl Soak {
    async fn run(self, dir: &Path, change: impl Fn(&mut Settings)) {
        let Self { name, crashes, hangs, run_max } = self;
        let mut settings = Settings::default();
        settings.model.dir = Some(dir.to_owned());
        settings.runtime.cache = Some(graph_cache());
        settings.runtime.threads = Some(1);
        settings.runtime.activations = Activations::F32;
        settings.brain.chaos = true;
        settings.brain.actors = ACTORS;
        settings.brain.run_ms_max = run_max.as_millis() as u64;
        settings.brain.restarts_max = usize::MAX;
        (settings.brain.backoff_ms_min, settings.brain.backoff_ms_max) = (1, 1);
        (settings.window.size, settings.window.sinks, settings.window.slide) = (Some(96), Some(4), Some(24));
        change(&mut settings);
        let scripts = scripts(dir, 1);
        let turns = scripts.iter().map(Vec::len).collect();

        let undisturbed = motorbrain::start(&settings).await.unwrap();
        let expected = answers(play_all(&undisturbed, &scripts, 0, &Progress::new())).await;
        undisturbed.shutdown().await;
        let slid = expected.iter().filter(|answers| answers.last().unwrap().context_len > 72).count();

        let parts = Parts::find(&settings).await.unwrap();
        let (loader, orders) = (Arc::clone(&parts.loader), Arc::new(Orders::new(run_max)));
        let contract = parts.model.contract.clone();
        let wild = Wild { loader: Arc::clone(&loader), contract, orders: Arc::clone(&orders) };
        let tokenizer = parts.model.tokenizer.clone();
        let brain = Brain::start(settings.brain_config(None), Arc::new(wild), tokenizer).await.unwrap();
        assert!(matches!(loader.form(), Some(Form::Paged { .. })), "{name}: {:?}", loader.form());
        let mut disturber = Disturber {
            brain: brain.clone(),
            run_max,
            orders: Arc::clone(&orders),
            choices: Choices(2),
            crashes,
            hangs,
            done: Disturbed::default(),
            sleeps: None,
            turns,
            charged: Vec::new(),
        };
        let since = Instant::now();
        let mut rounds = 0;
        while !disturber.is_through() {
            rounds += 1;
            let progress = Progress::new();
            let players = play_all(&brain, &scripts, rounds, &progress);
            let mut found = pin!(answers(players));
            // A player's panic is the test's, be the disturber where it may.
            let found = tokio::select! {
                found = &mut found => found,
                () = disturber.disturb(&progress) => found.await,
            };
            orders.stay_calm();
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_eq!(found, expected, "{name}, round {rounds}, conversation {index}");
            }
        }
        let restarts: u64 = brain.stats().await.unwrap().actors.iter().map(|actor| actor.restarts).sum();
        let (done, (spoilt, written)) = (disturber.done, orders.written());
        let tokens = rounds * expected.iter().flatten().map(|answer| answer.logprobs.len()).sum::<usize>();
        println!(
            "{name}: {done:?}, {restarts} restarts, {rounds} rounds in {:.1} s, {tokens} tokens, all as undisturbed; {slid} of \
             {CONVERSATIONS} conversations had slid; garbage was written {written} times, to {spoilt} conversations",
            since.elapsed().as_secs_f64()
        );
        assert!(done.wild == 0 || (spoilt > 0 && written > done.wild), "nothing was spoilt");
        assert!(restarts >= done.all() && slid > 5);
        brain.shutdown().await;
        let since = Instant::now();
        while !orders.end() || loader.kv_bytes() > 0 {
            assert!(since.elapsed() < Duration::from_secs(60), "{} bytes of pages are left", loader.kv_bytes());
            yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_or_hangs_every_answer_is_that_of_an_undisturbed_run() {
    let soak = env::var("MOTORBRAIN_SOAK").ok();
    let counts = soak.as_ref().map(|counts| counts.split_once(',').expect("`crashes,hangs`"));
    let (crashes, hangs) = counts.map_or((6, 2), |(crashes, hangs)| (crashes.parse().unwrap(), hangs.parse().unwrap()));
    let soak_of = |name, run_max| Soak { name, crashes, hangs, run_max: Duration::from_millis(run_max) };
    let run = |name, slide: usize| async move {
        soak_of(name, 700).run(&fixture(name), |settings| settings.window.slide = Some(slide)).await;
    };
    run("tiny-plain", 24).await;
    // Keys turn so often that they are kept in f32.
    run("tiny-plain-f16", 8).await;
    run("tiny-gqa-int4", 24).await;
    if soak.is_some() {
        run("tiny-gqa-fp32", 24).await;
        run("tiny-plain-f16", 24).await;
        soak_of("smollm2-135m", 6000).run(&root().join(".motorbrain/models/smollm2-135m"), |_| {}).await;
    }
}
