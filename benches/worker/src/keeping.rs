//! What it is worth that keys and values belong to conversations: a crash, a history that is sent again, forks, several
//! answers, and ten conversations on two actors of which one comes late.
//!
//! Brains of its own, since actors die here. Times are in milliseconds, the middle of [`ROUNDS`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
    vec::Drain,
};

use motorbrain::{ActorState, Brain, Fork, Parts, Sampling, Step, Stepped, Terms, TokenId};
use motorbrain_actors::{
    engine::{
        Engine, EngineError, EngineInfo, EngineLoader, Held, Interrupt, LoadError, Resident, Row, RowOutput, SlotIndex,
    },
    message::ConversationId,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{Outcome, Tokens, request::Load, unshared};

/// Tokens that a conversation has read.
const CONTEXT: usize = 1000;

/// Tokens that conversations make where they decode.
const COUNT: usize = 48;

/// How often each time is taken.
const ROUNDS: usize = 5;

/// Everything, one after the other.
pub(crate) async fn measure(load: &Load) -> Outcome<Value> {
    let mut settings = load.settings();
    // A crash each round, and each the first of its time.
    settings.brain.chaos = true;
    settings.brain.restarts_within_ms = 1;
    let parts = Parts::find(&settings).await?;
    let engine_ms = median(ROUNDS, || async {
        let loader = Arc::clone(&parts.loader);
        tokio::task::spawn_blocking(move || loader.load().map(drop)).await??;
        Ok(())
    })
    .await?;
    let mut bench = Bench { parts, settings, faults: Arc::default() };
    Ok(json!({
        "context": CONTEXT,
        "engine_ms": engine_ms,
        "one_actor": bench.crashes(1).await?,
        "two_actors": bench.crashes(2).await?,
        "again": bench.again().await?,
        "pages": bench.pages().await?,
        "forks": bench.forks().await?,
        "several": bench.several().await?,
        "ten": bench.ten().await?,
    }))
}

/// Microseconds of a token of each of 16 conversations while so many are resident; the best of some times, since the
/// least is what it costs.
pub(crate) async fn crowd(load: &Load, resident: &[usize]) -> Outcome<Value> {
    let mut settings = load.settings();
    settings.limits.conversations = resident.iter().max().copied().unwrap_or(0) + BUSY;
    let parts = Parts::find(&settings).await?;
    let mut bench = Bench { parts, settings, faults: Arc::default() };
    let (brain, tokens) = bench.brain(1, true).await?;
    let (mut there, mut costs) = (0, Vec::new());
    for &count in resident {
        for index in there..count {
            brain.step(Step::greedy(format!("c{index}"), tokens.of(index, 0, 8), 1)).await?;
        }
        there = there.max(count);
        let mut best = f64::INFINITY;
        for _ in 0..12 * ROUNDS {
            let mut asked = JoinSet::new();
            let began = Instant::now();
            for index in 0..BUSY {
                let brain = brain.clone();
                asked.spawn(async move {
                    for _ in 0..8 {
                        brain.step(Step { input: None, ..Step::greedy(format!("c{index}"), "", 1) }).await?;
                    }
                    Ok::<_, motorbrain::BrainError>(())
                });
            }
            while let Some(done) = asked.join_next().await {
                done??;
            }
            best = best.min(1000.0 * milliseconds(began) / (8 * BUSY) as f64);
            for index in 0..BUSY {
                brain.rewind(format!("c{index}"), 9).await?;
            }
        }
        costs.push(json!({ "resident": count, "token_us": best }));
    }
    brain.shutdown().await;
    Ok(json!(costs))
}

/// Conversations that are busy in a crowd.
const BUSY: usize = 16;

/// What brains are made of.
struct Bench {
    parts: Parts,
    settings: motorbrain::Settings,
    /// The next run panics when it is done.
    faults: Arc<AtomicBool>,
}

impl Bench {
    /// A brain of so many actors, all of them ready unless they need not be.
    async fn brain(&mut self, actors: usize, ready: bool) -> Outcome<(Brain, Tokens)> {
        self.settings.brain.actors = actors;
        let parts = self.parts.clone();
        let options = motorbrain::engine_options(&self.settings);
        let model = Arc::clone(&parts.model);
        let loader = motorbrain::engine::OnnxLoader::new(parts.runtime.clone(), Arc::clone(&model), options)?;
        let loader = Arc::new(Faulty { loader, panics: Arc::clone(&self.faults) });
        let brain = Brain::start(self.settings.brain_config(None), loader, model.tokenizer.clone()).await?;
        while ready && brain.stats().await?.actors.iter().any(|actor| actor.state != ActorState::Ready) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let vocab = brain.info().await?.vocab;
        Ok((brain, Tokens { vocab }))
    }

    /// How much later the next token comes where the conversation's actor died before, between two runs and in one.
    async fn crashes(&mut self, actors: usize) -> Outcome<Value> {
        let (brain, tokens) = self.brain(actors, true).await?;
        brain.step(Step::greedy("a", tokens.of(0, 0, CONTEXT), 1)).await?;
        let next = || async {
            brain.step(Step { input: None, ..Step::greedy("a", "", 1) }).await?;
            Ok(())
        };
        let undisturbed = median(4 * ROUNDS, next).await?;
        let mut between = Vec::new();
        let mut within = Vec::new();
        for _ in 0..ROUNDS {
            let stats = brain.stats().await?;
            let owner = stats.actors.iter().position(|actor| actor.conversations > 0).unwrap_or(0);
            brain.crash(owner).await?;
            between.push(timed(next()).await?);
            self.all_ready(&brain).await?;
            self.faults.store(true, Ordering::Release);
            within.push(timed(next()).await?);
            self.all_ready(&brain).await?;
        }
        brain.shutdown().await;
        let later = |times| middle(times) - undisturbed;
        Ok(json!({ "token_ms": undisturbed, "between_later_ms": later(between), "within_later_ms": later(within) }))
    }

    async fn all_ready(&self, brain: &Brain) -> Outcome<()> {
        while brain.stats().await?.actors.iter().any(|actor| actor.state != ActorState::Ready) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// The first token of a history that somebody else has read, and whether it says what it would alone.
    async fn again(&mut self) -> Outcome<Value> {
        let (brain, tokens) = self.brain(1, true).await?;
        let (mut read, mut shared, mut parted, mut equal) = (Vec::new(), Vec::new(), Vec::new(), true);
        for round in 0..ROUNDS {
            let history = tokens.of(0, 7 * round, CONTEXT);
            let mut other = tokens.of(0, 7 * round, CONTEXT / 2);
            other.extend(tokens.of(50, 3 * round, CONTEXT - CONTEXT / 2));
            let took = async |name: &str, tokens: &[TokenId], terms: Terms| {
                let step = Step { terms, top: 5, ..Step::greedy(name, tokens.to_vec(), 1) };
                let began = Instant::now();
                let first = brain.step(step).await?;
                let ms = milliseconds(began);
                let more = Step { input: None, top: 5, ..Step::greedy(name, "", 8) };
                let more = brain.step(more).await?;
                Outcome::Ok((ms, [said(first), said(more)]))
            };
            let (alone_ms, alone) = took("alone", &history, unshared()).await?;
            let (_, alone_other) = took("alone other", &other, unshared()).await?;
            took("first", &history, Terms::default()).await?;
            let (again_ms, again) = took("again", &history, Terms::default()).await?;
            let (parted_ms, again_other) = took("other", &other, Terms::default()).await?;
            read.push(alone_ms);
            shared.push(again_ms);
            parted.push(parted_ms);
            equal &= alone == again && alone_other == again_other;
            for name in ["alone", "alone other", "first", "again", "other"] {
                brain.close(name).await?;
            }
        }
        brain.shutdown().await;
        let (read, shared, parted) = (middle(read), middle(shared), middle(parted));
        Ok(json!({ "read_ms": read, "again_ms": shared, "sooner": read / shared, "half_ms": parted, "equal": equal }))
    }

    /// Pages of one conversation, and of 64 that begin alike.
    async fn pages(&mut self) -> Outcome<Value> {
        self.settings.memory.cached_bytes = Some(0);
        let (brain, tokens) = self.brain(1, true).await?;
        let page = brain.info().await?.pages.ok_or("the model runs without pages")?.bytes;
        let prompt = tokens.of(0, 0, CONTEXT);
        let pages = async || Outcome::Ok(brain.stats().await?.kv_bytes / page);
        brain.step(Step::greedy("one", prompt.clone(), 1)).await?;
        let one = pages().await?;
        brain.close("one").await?;
        let name = |index: usize| format!("c{index}");
        let all = async |count: usize, prompt: Option<&Vec<TokenId>>| {
            let mut asked = JoinSet::new();
            for index in 0..64 {
                let input = prompt.map(|prompt| prompt.clone().into());
                let (brain, step) = (brain.clone(), Step { input, ..Step::greedy(name(index), "", count) });
                asked.spawn(async move { brain.step(step).await.map(drop) });
            }
            while let Some(done) = asked.join_next().await {
                done??;
            }
            Outcome::Ok(())
        };
        all(1, Some(&prompt)).await?;
        let read = pages().await?;
        all(40, None).await?;
        let grown = pages().await?;
        brain.shutdown().await;
        self.settings.memory.cached_bytes = None;
        // Behind the 31 full pages of the prompt each holds 40 tokens and the rest of the prompt, in two pages.
        Ok(json!({ "one": one, "read": read, "grown": grown, "added": 64 * 2 }))
    }

    async fn forks(&mut self) -> Outcome<Value> {
        let (brain, tokens) = self.brain(1, true).await?;
        brain.step(Step::greedy("a", tokens.of(0, 0, CONTEXT), 1)).await?;
        let mut times = Vec::new();
        for index in 0..20 * ROUNDS {
            let to = ConversationId::from(format!("fork {index}"));
            let fork = Fork { from: "a".into(), to, at: Some(CONTEXT / 2), choice: None };
            let began = Instant::now();
            brain.fork(fork).await?;
            times.push(milliseconds(began));
        }
        brain.shutdown().await;
        Ok(json!({ "ms": middle(times) }))
    }

    /// Eight answers beside eight conversations that each give one.
    async fn several(&mut self) -> Outcome<Value> {
        let (brain, tokens) = self.brain(1, true).await?;
        let sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };
        let step = |name: &str, n, count| Step {
            input: None,
            sampling: sampling.clone(),
            seed: Some(3),
            n,
            ..Step::greedy(name, "", count)
        };
        let read = |name: &str| Step { count: 0, ..Step::greedy(name, tokens.of(0, 0, 256), 0) };
        let (mut together, mut apart, mut equal) = (Vec::new(), Vec::new(), true);
        for _ in 0..ROUNDS {
            brain.step(read("a")).await?;
            let began = Instant::now();
            let answers = brain.several(step("a", 8, COUNT)).await?.choices;
            let made: usize = answers.iter().map(|answer| answer.token_ids.len()).sum();
            together.push(made as f64 / began.elapsed().as_secs_f64());
            let mut asked = JoinSet::new();
            for index in 0..8 {
                let name = format!("apart {index}");
                brain.fork(Fork { from: "a".into(), to: name.as_str().into(), at: None, choice: None }).await?;
                let (brain, step) = (brain.clone(), Step { seed: Some(index), ..step(&name, 1, COUNT) });
                asked.spawn(async move { brain.step(step).await });
            }
            let began = Instant::now();
            let mut made = 0;
            while let Some(done) = asked.join_next().await {
                made += done??.token_ids.len();
            }
            apart.push(made as f64 / began.elapsed().as_secs_f64());
            let one = brain.step(step("a", 1, COUNT)).await?;
            equal &= (one.token_ids, one.logprobs) == (answers[0].token_ids.clone(), answers[0].logprobs.clone());
            brain.close("a").await?;
            for index in 0..8 {
                brain.close(format!("apart {index}")).await?;
            }
        }
        brain.shutdown().await;
        let ratio = middle(together.iter().zip(&apart).map(|(together, apart)| together / apart).collect());
        let (together, apart) = (middle(together), middle(apart));
        Ok(json!({ "together": together, "apart": apart, "ratio": ratio, "first_equals_one": equal }))
    }

    /// Ten conversations on two actors: both there, or one of them late.
    async fn ten(&mut self) -> Outcome<Value> {
        let (mut even, mut late) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            for (ready, seconds) in [(true, &mut even), (false, &mut late)] {
                let (brain, tokens) = self.brain(2, ready).await?;
                let mut asked = JoinSet::new();
                let began = Instant::now();
                for index in 0..10 {
                    let step = Step::greedy(format!("c{index}"), tokens.of(index, 0, 64), 4 * COUNT);
                    let (brain, step) = (brain.clone(), Step { terms: unshared(), ..step });
                    asked.spawn(async move { brain.step(step).await.map(drop) });
                }
                while let Some(done) = asked.join_next().await {
                    done??;
                }
                seconds.push(began.elapsed().as_secs_f64());
                brain.shutdown().await;
            }
        }
        let ratio = middle(late.iter().zip(&even).map(|(late, even)| late / even).collect());
        Ok(json!({ "even_seconds": middle(even), "late_seconds": middle(late), "ratio": ratio }))
    }
}

/// What must be equal to the bit: tokens with their log-probabilities, sampled and most likely ones.
fn said(stepped: Stepped) -> Vec<(TokenId, u32)> {
    let sampled = stepped.token_ids.into_iter().zip(stepped.logprobs);
    sampled.chain(stepped.top.into_iter().flatten()).map(|(token, logprob)| (token, logprob.to_bits())).collect()
}

fn milliseconds(began: Instant) -> f64 {
    1000.0 * began.elapsed().as_secs_f64()
}

async fn timed(work: impl Future<Output = Outcome<()>>) -> Outcome<f64> {
    let began = Instant::now();
    work.await?;
    Ok(milliseconds(began))
}

async fn median<F: Future<Output = Outcome<()>>>(rounds: usize, mut work: impl FnMut() -> F) -> Outcome<f64> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        times.push(timed(work()).await?);
    }
    Ok(middle(times))
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Makes engines of which one dies behind a run when it is told.
struct Faulty {
    loader: motorbrain::engine::OnnxLoader,
    panics: Arc<AtomicBool>,
}

impl EngineLoader for Faulty {
    fn load(&self) -> Result<Box<dyn Engine>, LoadError> {
        Ok(Box::new(Mortal { engine: self.loader.load()?, panics: Arc::clone(&self.panics) }))
    }

    fn kv_bytes(&self) -> usize {
        self.loader.kv_bytes()
    }
}

struct Mortal {
    engine: Box<dyn Engine>,
    panics: Arc<AtomicBool>,
}

impl Engine for Mortal {
    fn info(&self) -> &EngineInfo {
        self.engine.info()
    }

    fn open(&mut self) -> Result<SlotIndex, EngineError> {
        self.engine.open()
    }

    fn adopt(&mut self, context: &[TokenId], held: &Resident) -> Result<SlotIndex, EngineError> {
        self.engine.adopt(context, held)
    }

    fn take_held(&mut self, slot: SlotIndex) -> Option<Held> {
        self.engine.take_held(slot)
    }

    fn pin(&mut self, slot: SlotIndex, pinned: usize) {
        self.engine.pin(slot, pinned);
    }

    fn close(&mut self, slot: SlotIndex) {
        self.engine.close(slot);
    }

    fn rewind(&mut self, slot: SlotIndex, context_len: usize) -> Result<(), EngineError> {
        self.engine.rewind(slot, context_len)
    }

    fn run(&mut self, rows: &[Row<'_>]) -> Result<Drain<'_, RowOutput>, EngineError> {
        let outputs = self.engine.run(rows)?;
        assert!(!self.panics.swap(false, Ordering::AcqRel), "the engine dies behind its run, as told");
        Ok(outputs)
    }

    fn kv_bytes(&self) -> usize {
        self.engine.kv_bytes()
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        self.engine.interrupter()
    }
}
