//! MotorBrain through its public, asynchronous API: what an application gets.

use std::{collections::BTreeMap, fs, mem, path::Path, sync::Arc, time::Duration};

use motorbrain::{ActorState, Brain, Embed, Input, Parts, Sampling, Score, Step, TokenId};
use motorbrain_actors::engine::EngineLoader;
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    Outcome, Tokens,
    bare::Bare,
    latency,
    request::{Decode, Load, Request},
    unshared,
};

/// How the sampled decodes choose, as in `tools/bench/protocol.py`.
const SAMPLED: Sampling = Sampling { temperature: 1.0, top_p: 0.9, min_p: 0.05, ..Sampling::GREEDY };

/// The prompt by which a load is judged, as there.
const FIRST: usize = 16;

/// A running brain and the conversations that were opened in it.
pub(crate) struct Actors {
    brain: Brain,
    tokens: Tokens,
    open: usize,
    /// Tokens of the texts that each of them has read.
    read: usize,
    loader: Arc<dyn EngineLoader>,
    bare: Option<Bare>,
}

impl Actors {
    /// Starts a brain and waits for its actors; with the seconds until the first could serve, and until it had
    /// given a token.
    pub(crate) async fn load(load: &Load) -> Outcome<(Self, Value)> {
        let began = Instant::now();
        let settings = load.settings();
        let parts = Parts::find(&settings).await?;
        let loader = parts.loader.clone();
        let brain = parts.start(&settings, None).await?;
        let seconds = began.elapsed().as_secs_f64();
        let tokens = Tokens { vocab: brain.info().await?.vocab };
        let actors = Self { brain, tokens, open: 0, read: 0, loader, bare: None };
        actors.read_once(FIRST).await?;
        let first_seconds = began.elapsed().as_secs_f64();
        while actors.brain.stats().await?.actors.iter().any(|actor| actor.state != ActorState::Ready) {
            sleep(Duration::from_millis(10)).await;
        }
        let version = concat!("motorbrain ", env!("CARGO_PKG_VERSION"));
        Ok((actors, json!({ "seconds": seconds, "first_seconds": first_seconds, "version": version })))
    }

    /// One more engine of the same loader, which shares the actors' weights, without an actor.
    pub(crate) fn bare(&mut self) -> Outcome<&mut Bare> {
        let bare = match self.bare.take() {
            Some(bare) => bare,
            None => Bare::new(self.loader.load()?),
        };
        Ok(self.bare.insert(bare))
    }

    pub(crate) async fn stop(self) {
        self.brain.shutdown().await;
    }

    /// Bytes of keys and values that all actors hold, and of one token.
    pub(crate) async fn kv_bytes(&self) -> Outcome<(usize, usize)> {
        let stats = self.brain.stats().await?;
        Ok((stats.kv_bytes, stats.model.kv_bytes_per_token))
    }

    pub(crate) async fn answer(&mut self, request: Request) -> Outcome<Value> {
        match request {
            Request::Open { conversations, context, .. } => self.open(conversations, context).await,
            Request::Decode(decode) => self.decode(decode).await,
            Request::Prefill { tokens } => Ok(json!({ "seconds": self.read_once(tokens).await? })),
            Request::Embed { tokens } => self.embed(tokens).await,
            Request::Turn { tokens } => self.turn(tokens).await,
            Request::Perplexity { texts } => self.perplexity(&texts).await,
            Request::Latency { streams, context, long } => {
                latency::measure(&self.brain, self.tokens, streams, context, long).await
            }
            other => Err(format!("{other:?} is not asked of a model").into()),
        }
    }

    async fn open(&mut self, conversations: usize, context: usize) -> Outcome<Value> {
        for row in 0..mem::take(&mut self.open) {
            self.brain.close(name(row)).await?;
        }
        let began = Instant::now();
        let first = Decode { conversations, tokens: 1, sampled: false, steps: false, bare: false };
        self.all(first, |row| Some(self.tokens.of(row, 0, context).into())).await?;
        (self.open, self.read) = (conversations, context);
        Ok(json!({ "seconds": began.elapsed().as_secs_f64() }))
    }

    async fn decode(&self, decode: Decode) -> Outcome<Value> {
        self.all(Decode { tokens: 1, ..decode }, |_| None).await?;
        let began = Instant::now();
        self.all(decode, |_| None).await?;
        Ok(json!({ "seconds": began.elapsed().as_secs_f64() }))
    }

    /// So many tokens of each of the first conversations, all at once, behind what they are given.
    async fn all(&self, decode: Decode, input: impl Fn(usize) -> Option<Input>) -> Outcome<()> {
        let Decode { conversations, tokens, sampled, steps, .. } = decode;
        let (requests, count) = if steps { (tokens, 1) } else { (1, tokens) };
        let sampling = if sampled { SAMPLED } else { Sampling::GREEDY };
        let mut asked = JoinSet::new();
        for row in 0..conversations {
            let step = Step {
                input: input(row),
                sampling: sampling.clone(),
                terms: unshared(),
                ..Step::greedy(name(row), "", count)
            };
            let brain = self.brain.clone();
            asked.spawn(async move {
                let mut found = 0;
                for _ in 0..requests {
                    found += brain.step(step.clone()).await?.token_ids.len();
                }
                Ok::<_, motorbrain::BrainError>(found)
            });
        }
        while let Some(done) = asked.join_next().await {
            let found = done??;
            if found != tokens {
                return Err(format!("{tokens} tokens were asked for, {found} came").into());
            }
        }
        Ok(())
    }

    /// The seconds to the first token of a conversation that is new and not kept.
    async fn read_once(&self, tokens: usize) -> Outcome<f64> {
        let step = Step { terms: unshared(), ..Step::greedy("once", self.tokens.of(0, 0, tokens), 1) };
        let began = Instant::now();
        self.brain.step(step).await?;
        let seconds = began.elapsed().as_secs_f64();
        self.brain.close("once").await?;
        Ok(seconds)
    }

    async fn embed(&self, tokens: usize) -> Outcome<Value> {
        let embed = Embed { terms: unshared(), ..Embed::of(self.tokens.of(0, 0, tokens)) };
        let began = Instant::now();
        self.brain.embed(embed).await?;
        Ok(json!({ "seconds": began.elapsed().as_secs_f64() }))
    }

    async fn turn(&mut self, tokens: usize) -> Outcome<Value> {
        let step = Step { terms: unshared(), ..Step::greedy(name(0), self.tokens.of(0, self.read, tokens), 1) };
        self.read += tokens;
        let began = Instant::now();
        self.brain.step(step).await?;
        Ok(json!({ "seconds": began.elapsed().as_secs_f64() }))
    }

    /// Of each token but the first, given all before it.
    async fn perplexity(&self, texts: &Path) -> Outcome<Value> {
        let texts: BTreeMap<String, Vec<u32>> = serde_json::from_slice(&fs::read(texts)?)?;
        let mut perplexities = BTreeMap::new();
        for (text, ids) in texts {
            let tokens: Vec<_> = ids.into_iter().map(TokenId).collect();
            let score = Score { terms: unshared(), ..Score::of("text", tokens) };
            let scored = self.brain.score(score).await?;
            self.brain.close("text").await?;
            let logprobs: Vec<f64> = scored.logprobs.into_iter().flatten().map(f64::from).collect();
            perplexities.insert(text, (-logprobs.iter().sum::<f64>() / logprobs.len() as f64).exp());
        }
        Ok(json!(perplexities))
    }
}

fn name(row: usize) -> String {
    format!("conversation {row}")
}
