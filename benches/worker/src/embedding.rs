//! What vectors and their order cost: an embed with the probe beside one without, many short embeds beside one prompt, and a
//! rerank of documents that were read before beside the reading of its queries.
//!
//! Two brains of one loader, which has the weights once: one embeds by a probe, the other by pooling. What is compared is
//! asked by turns, and who is first changes; a ratio is that of one round, and the middle of all counts. Every round has
//! texts of its own.

use std::time::Duration;

use motorbrain::{Brain, Embed, Input, Part, Parts, Rerank, Score, Settings, Step, model::RecipeName};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{Outcome, Tokens, request::Load, unshared};

/// Tokens of the text that is embedded with the probe and without.
const TEXT: usize = 200;
/// The short texts that wait together, and the prompt that they are measured by.
const SHORT: (usize, usize) = (64, 40);
const PROMPT: usize = 512;
/// The documents that a query is looked for in, and their tokens.
const DOCUMENTS: (usize, usize) = (20, 200);
/// As many queries over the same documents as there are rounds.
const QUERIES: [&str; 4] =
    ["how to open a file", "sort a list of numbers", "what the weather is like", "a function that adds two numbers"];

/// Before something is measured, so that the other brain's threads have come to rest.
const REST: Duration = Duration::from_millis(60);

/// Everything, one after the other.
pub(crate) async fn measure(load: &Load, rounds: usize) -> Outcome<Value> {
    let mut probing = load.settings();
    probing.embedding.recipe = Some(RecipeName::Probe);
    let mut pooling = probing.clone();
    pooling.embedding.recipe = Some(RecipeName::Pooled);
    let parts = Parts::find(&probing).await?;
    let tokens = Tokens { vocab: parts.model.contract.vocab };
    let probe = parts.clone().start(&probing, None).await?;
    let pooled = parts.start(&pooling, None).await?;
    let bench = Bench { probe, pooled, tokens, rounds, settings: probing };
    let found = json!({
        "probe": bench.probes().await?,
        "short": bench.shorts().await?,
        "rerank": bench.reranks().await?,
    });
    bench.probe.shutdown().await;
    bench.pooled.shutdown().await;
    Ok(found)
}

struct Bench {
    probe: Brain,
    pooled: Brain,
    tokens: Tokens,
    rounds: usize,
    settings: Settings,
}

impl Bench {
    /// Seconds of an embed by the probe, and of one that pools the same text.
    async fn probes(&self) -> Outcome<Value> {
        let embed = async |brain: &Brain, round: usize| {
            let text = self.tokens.of(round, 0, TEXT);
            brain.embed(Embed::of(text)).await?;
            Ok(())
        };
        // The first one reads the prefix.
        embed(&self.probe, self.rounds).await?;
        embed(&self.pooled, self.rounds).await?;
        let (probe, pooled) =
            (async |round| embed(&self.probe, round).await, async |round| embed(&self.pooled, round).await);
        self.compare(probe, pooled, async || Ok(())).await
    }

    /// Seconds a token of short embeds that wait together, the probe's tokens among them, and of a prompt.
    async fn shorts(&self) -> Outcome<Value> {
        let (count, len) = SHORT;
        let probe = self.probe.tokenize(self.settings.embedding.probe.as_str()).await?.len();
        let shorts = async |round: usize| {
            let mut asked = JoinSet::new();
            for index in 0..count {
                let (brain, text) = (self.probe.clone(), self.tokens.of(count * round + index, 7, len));
                asked.spawn(async move { brain.embed(Embed::of(text)).await.map(drop) });
            }
            all(asked).await
        };
        let prompt = async |round: usize| {
            let step = Step { terms: unshared(), ..Step::greedy("prompt", self.tokens.of(round, 3, PROMPT), 1) };
            self.probe.step(step).await?;
            Ok(self.probe.close("prompt").await?)
        };
        shorts(self.rounds).await?;
        prompt(self.rounds).await?;
        let mut found = self.compare(shorts, prompt, async || Ok(())).await?;
        let read = count * (len + probe);
        let by_tokens = PROMPT as f64 / read as f64;
        let rate = |seconds: &Value, tokens: usize| json!(tokens as f64 / seconds.as_f64().unwrap_or(f64::NAN));
        found["tokens_a_second"] = rate(&found["seconds"], read);
        found["prompt_tokens_a_second"] = rate(&found["beside_seconds"], PROMPT);
        let slower = found["ratio"].as_f64().unwrap_or(f64::NAN) * by_tokens;
        found["rate_ratio"] = json!(1.0 / slower);
        Ok(found)
    }

    /// Seconds of a rerank of documents that were read before, and of the reading of its queries alone: behind each
    /// document, in conversations that stand there already, and behind nothing.
    async fn reranks(&self) -> Outcome<Value> {
        let (count, len) = DOCUMENTS;
        let mut documents = Vec::new();
        for index in 0..count {
            documents.push(self.probe.detokenize(self.tokens.of(index, 11, len)).await?);
        }
        let (before, between) = (&self.settings.rerank.before, &self.settings.rerank.between);
        let mut stand = Vec::new();
        for document in [None].into_iter().chain(documents.iter().map(Some)) {
            let mut parts = Vec::new();
            if let Some(document) = document {
                parts = vec![Part::Text(before.clone()), Part::Literal(document.clone())];
            }
            parts.push(Part::Text(between.clone()));
            let name = format!("stands {}", stand.len());
            let read = self.probe.step(Step::greedy(name.as_str(), parts, 0)).await?;
            stand.push((name, read.context.context_len));
        }
        let query = |round: usize| QUERIES[round % QUERIES.len()];
        let rerank = async |round: usize| {
            let rerank = Rerank::new(query(round), documents.clone());
            self.probe.rerank(rerank).await?;
            Ok(())
        };
        let queries = async |round: usize| {
            let mut asked = JoinSet::new();
            for (name, _) in &stand {
                let input = Input::Parts(vec![Part::Literal(query(round).to_owned())]);
                let score = Score::of(name.as_str(), input);
                let brain = self.probe.clone();
                asked.spawn(async move { brain.score(score).await.map(drop) });
            }
            all(asked).await
        };
        // Documents are read, and what is shared is found.
        rerank(0).await?;
        let stand_again = async || {
            for (name, context_len) in &stand {
                self.probe.rewind(name.as_str(), *context_len).await?;
            }
            Ok(())
        };
        self.compare(rerank, queries, stand_again).await
    }

    /// Seconds of one and of what it is measured by, in turn; what is to be done behind that is not timed.
    async fn compare(
        &self,
        one: impl AsyncFn(usize) -> Outcome<()>,
        beside: impl AsyncFn(usize) -> Outcome<()>,
        behind: impl AsyncFn() -> Outcome<()>,
    ) -> Outcome<Value> {
        let (mut times, mut besides) = (Vec::new(), Vec::new());
        for round in 0..self.rounds {
            for is_one in [round % 2 == 0, round % 2 == 1] {
                sleep(REST).await;
                if is_one {
                    times.push(timed(one(round)).await?);
                } else {
                    besides.push(timed(beside(round)).await?);
                    behind().await?;
                }
            }
        }
        Ok(compared(&times, &besides))
    }
}

async fn all(mut asked: JoinSet<Result<(), motorbrain::BrainError>>) -> Outcome<()> {
    while let Some(done) = asked.join_next().await {
        done??;
    }
    Ok(())
}

async fn timed(work: impl Future<Output = Outcome<()>>) -> Outcome<f64> {
    let began = Instant::now();
    work.await?;
    Ok(began.elapsed().as_secs_f64())
}

/// The middle of both and of their rounds' ratios.
fn compared(times: &[f64], beside: &[f64]) -> Value {
    let ratios: Vec<f64> = times.iter().zip(beside).map(|(one, other)| one / other).collect();
    json!({ "seconds": middle(times), "beside_seconds": middle(beside), "ratio": middle(&ratios), "ratios": ratios })
}

fn middle(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
