//! MotorBrain through its public, asynchronous API: what an application gets.

use std::{collections::BTreeMap, fs, mem, path::Path, sync::Arc, time::Duration};

use motorbrain::{ActorState, Brain, Embed, Input, Parts, Score, Step, TokenId};
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
    request::{Load, Request},
};

/// A running brain and the conversations that were opened in it.
pub(crate) struct Actors {
    brain: Brain,
    tokens: Tokens,
    open: usize,
    loader: Arc<dyn EngineLoader>,
    bare: Option<Bare>,
}

impl Actors {
    /// Starts a brain and waits for its actors; with the seconds until the first could serve.
    pub(crate) async fn load(load: &Load) -> Outcome<(Self, f64)> {
        let began = Instant::now();
        let settings = load.settings();
        let parts = Parts::find(&settings).await?;
        let loader = parts.loader.clone();
        let brain = parts.start(&settings, None).await?;
        let seconds = began.elapsed().as_secs_f64();
        while brain.stats().await?.actors.iter().any(|actor| actor.state != ActorState::Ready) {
            sleep(Duration::from_millis(10)).await;
        }
        let tokens = Tokens { vocab: brain.info().await?.vocab };
        Ok((Self { brain, tokens, open: 0, loader, bare: None }, seconds))
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
        Ok((stats.actors.iter().map(|actor| actor.kv_bytes).sum(), stats.model.kv_bytes_per_token))
    }

    pub(crate) async fn answer(&mut self, request: Request) -> Outcome<Value> {
        match request {
            Request::Open { conversations, context, .. } => self.open(conversations, context).await,
            Request::Decode { conversations, tokens, .. } => self.decode(conversations, tokens).await,
            Request::Prefill { tokens } => {
                Ok(json!({ "seconds": self.read_once(self.tokens.of(0, 0, tokens)).await? }))
            }
            Request::Embed { tokens } => self.embed(tokens).await,
            Request::Turn { context, tokens } => self.turn(context, tokens).await,
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
        let seconds = self.all(conversations, |row| (Some(self.tokens.of(row, 0, context).into()), 1)).await?;
        self.open = conversations;
        Ok(json!({ "seconds": seconds }))
    }

    async fn decode(&self, conversations: usize, tokens: usize) -> Outcome<Value> {
        Ok(json!({ "seconds": self.all(conversations, |_| (None, tokens)).await? }))
    }

    /// A step of each of the first conversations, all at once; the seconds until all are done.
    async fn all(&self, conversations: usize, step: impl Fn(usize) -> (Option<Input>, usize)) -> Outcome<f64> {
        let steps: Vec<_> = (0..conversations).map(|row| (row, step(row))).collect();
        let began = Instant::now();
        let mut asked = JoinSet::new();
        for (row, (input, count)) in steps {
            let (brain, step) = (self.brain.clone(), Step { input, ..Step::greedy(name(row), "", count) });
            asked.spawn(async move { brain.step(step).await.map(|stepped| (stepped.token_ids.len(), count)) });
        }
        while let Some(done) = asked.join_next().await {
            let (found, asked_for) = done??;
            if found != asked_for {
                return Err(format!("a step of {asked_for} tokens ended after {found}").into());
            }
        }
        Ok(began.elapsed().as_secs_f64())
    }

    /// The seconds to the first token of a conversation that is new and not kept.
    async fn read_once(&self, tokens: Vec<TokenId>) -> Outcome<f64> {
        let began = Instant::now();
        self.brain.step(Step::greedy("once", tokens, 1)).await?;
        let seconds = began.elapsed().as_secs_f64();
        self.brain.close("once").await?;
        Ok(seconds)
    }

    async fn embed(&self, tokens: usize) -> Outcome<Value> {
        let embed = Embed { conversation: None, input: self.tokens.of(0, 0, tokens).into() };
        let began = Instant::now();
        self.brain.embed(embed).await?;
        Ok(json!({ "seconds": began.elapsed().as_secs_f64() }))
    }

    async fn turn(&self, context: usize, tokens: usize) -> Outcome<Value> {
        self.brain.step(Step { count: 0, ..Step::greedy("turn", self.tokens.of(0, 0, context), 0) }).await?;
        let step = Step::greedy("turn", self.tokens.of(0, context, tokens), 1);
        let began = Instant::now();
        self.brain.step(step).await?;
        let seconds = began.elapsed().as_secs_f64();
        self.brain.close("turn").await?;
        let again_seconds = self.read_once(self.tokens.of(0, 0, context + tokens)).await?;
        Ok(json!({ "seconds": seconds, "again_seconds": again_seconds }))
    }

    /// Of each token but the first, given all before it.
    async fn perplexity(&self, texts: &Path) -> Outcome<Value> {
        let texts: BTreeMap<String, Vec<u32>> = serde_json::from_slice(&fs::read(texts)?)?;
        let mut perplexities = BTreeMap::new();
        for (text, ids) in texts {
            let tokens: Vec<_> = ids.into_iter().map(TokenId).collect();
            let scored = self.brain.score(Score { conversation: "text".into(), input: tokens.into() }).await?;
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
