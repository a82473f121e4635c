//! What only MotorBrain is asked, and what the machine itself is.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};

use super::budget::rounds_of_an_opening;
use super::engines::Engine;
use super::results::{Group, Measure, Point};
use super::scenarios::{REST, Runner, Scenarios, Timed, alternate};
use super::statistics::percentile;
use super::worker::Worker;
use crate::error::Error;
use crate::process::show;

/// Conversations that stream, each from this context.
const STREAMS: usize = 8;
const STREAM_CONTEXT: usize = 64;
/// What another one reads meanwhile.
pub(super) const LONG: usize = 2048;
/// Actors whose memory is measured, and the conversations that each serves then.
pub(super) const ACTORS: [usize; 4] = [1, 2, 3, 4];
const CONVERSATIONS_OF_AN_ACTOR: usize = 2;
/// Conversations whose memory is measured, beside those that warm the process up.
const WARM: usize = 2;
const MEASURED: usize = 6;
pub(super) const CONVERSATION_CONTEXT: usize = 1024;
/// Where the actors' cost is measured.
pub(super) const LAYER_CONVERSATIONS: [usize; 2] = [1, 16];
pub(super) const LAYER_CONTEXT: usize = 64;
/// Tokens of each conversation in a round there.
const LAYER_DECODED: [usize; 2] = [32, 8];

/// Seconds of each.
const LIMIT_SECONDS: f64 = 5.0;
const LAYER_SECONDS: f64 = 15.0;
const LATENCY_SECONDS: f64 = 45.0;
const MEMORY_SECONDS: f64 = 6.0;

#[derive(Deserialize)]
struct Latency {
    undisturbed: Vec<f64>,
    disturbed: Vec<f64>,
    alone_seconds: f64,
    among_seconds: f64,
}

#[derive(Deserialize)]
struct Memory {
    rss: f64,
    kv_bytes_per_token: f64,
}

impl Scenarios<'_> {
    /// Decodes of ours with and without actors, by turns in one process, which has the weights once. (What a
    /// program reads from memory takes up to a tenth longer in one process than in the next, for as long as it lives.)
    pub(super) fn layer(&mut self, group: Group) -> Result<(), Error> {
        self.unload();
        let bare = self.stand.bare(group);
        let mut runner = self.start(self.stand.motorbrain(group))?;
        let version = self.results.version(&runner.engine).unwrap_or_default().to_owned();
        self.results.know(&bare, &version);
        for (conversations, tokens) in LAYER_CONVERSATIONS.into_iter().zip(LAYER_DECODED) {
            let samples = self.layer_at(&mut runner, conversations, tokens)?;
            let point = Point::decode(conversations, LAYER_CONTEXT);
            for (engine, samples) in [&runner.engine, &bare].into_iter().zip(samples) {
                self.keep(engine, Measure::LayerDecode, point, samples);
            }
            self.show(group, Measure::LayerDecode, point);
        }
        Ok(())
    }

    /// Tokens a second with actors and without.
    fn layer_at(&self, runner: &mut Runner, conversations: usize, tokens: usize) -> Result<[Vec<f64>; 2], Error> {
        let with = |op: &str, bare: bool| json!({ "op": op, "conversations": conversations, "context": LAYER_CONTEXT, "tokens": tokens, "bare": bare });
        let rounds = rounds_of_an_opening(LAYER_CONTEXT, tokens + 1);
        let budget = self.options.budget(LAYER_SECONDS);
        let (mut samples, mut round, began) = ([Vec::new(), Vec::new()], 0, Instant::now());
        while budget.goes_on(round, began.elapsed().as_secs_f64()) {
            // Who is first changes.
            for index in [round % 2, (round + 1) % 2] {
                let bare = index == 1;
                if round % rounds == 0 {
                    runner.worker.ask::<Value>(with("open", bare))?;
                }
                thread::sleep(REST);
                let timed: Timed = runner.worker.ask(with("decode", bare))?;
                samples[index].push((conversations * tokens) as f64 / timed.seconds);
            }
            round += 1;
        }
        Ok(samples)
    }

    /// Gaps between the tokens of streamed conversations, and what a long prompt does to them.
    pub(super) fn latency(&mut self, group: Group) -> Result<(), Error> {
        self.unload();
        let mut runner = self.start(self.stand.motorbrain(group).roomy())?;
        let request = json!({ "op": "latency", "streams": STREAMS, "context": STREAM_CONTEXT, "long": LONG });
        let mut runners = [&mut runner];
        let budget = self.options.budget(LATENCY_SECONDS);
        let found = alternate(&mut runners, budget, |runner, _| runner.worker.ask::<Latency>(request.clone()))?;
        let point = Point { tokens: Some(LONG), ..Point::decode(STREAMS, STREAM_CONTEXT) };
        let milliseconds = |gaps: &[f64], percent| 1000.0 * percentile(gaps, percent);
        let mut keep = |measure, sample: &dyn Fn(&Latency) -> f64| {
            self.keep_all(&runners, measure, point, &found, sample);
        };
        keep(Measure::GapP50, &|latency| milliseconds(&latency.undisturbed, 50.0));
        keep(Measure::GapP99, &|latency| milliseconds(&latency.undisturbed, 99.0));
        keep(Measure::BusyGapP50, &|latency| milliseconds(&latency.disturbed, 50.0));
        keep(Measure::BusyGapP99, &|latency| milliseconds(&latency.disturbed, 99.0));
        keep(Measure::ReadAlone, &|latency| latency.alone_seconds);
        keep(Measure::ReadAmong, &|latency| latency.among_seconds);
        Ok(())
    }

    /// Resident bytes with one actor to four, and of a conversation. Each time in a fresh process.
    pub(super) fn memory(&mut self, group: Group) -> Result<(), Error> {
        self.unload();
        for actors in ACTORS {
            let engine = self.stand.actors(group, actors);
            let samples = self.fresh(&engine, |worker| {
                let conversations = actors * CONVERSATIONS_OF_AN_ACTOR;
                let open = json!({ "op": "open", "conversations": conversations, "context": STREAM_CONTEXT });
                worker.ask::<Value>(open)?;
                worker.ask::<Value>(json!({ "op": "decode", "conversations": conversations, "tokens": 16 }))?;
                Ok(worker.ask::<Memory>(json!({ "op": "memory" }))?.rss)
            })?;
            self.keep(&engine, Measure::Resident, Point::actors(actors), samples);
            self.show(group, Measure::Resident, Point::actors(actors));
        }
        let engine = self.stand.motorbrain(group);
        let mut kv_bytes = Vec::new();
        let samples = self.fresh(&engine, |worker| {
            let mut with = |conversations: usize| {
                let context = CONVERSATION_CONTEXT;
                worker.ask::<Value>(json!({ "op": "open", "conversations": conversations, "context": context }))?;
                worker.ask::<Memory>(json!({ "op": "memory" }))
            };
            let (before, after) = (with(WARM)?, with(WARM + MEASURED)?);
            kv_bytes.push(after.kv_bytes_per_token * CONVERSATION_CONTEXT as f64);
            Ok((after.rss - before.rss) / MEASURED as f64)
        })?;
        let point = Point::turn(CONVERSATION_CONTEXT, 0);
        self.keep(&engine, Measure::Conversation, point, samples);
        self.keep(&engine, Measure::ConversationKv, point, kv_bytes);
        self.show(group, Measure::Conversation, point);
        Ok(())
    }

    /// A sample a round, each from a process of its own.
    fn fresh(
        &mut self,
        engine: &Engine,
        mut sample: impl FnMut(&mut Worker) -> Result<f64, Error>,
    ) -> Result<Vec<f64>, Error> {
        let budget = self.options.budget(MEMORY_SECONDS);
        let (mut samples, began) = (Vec::new(), Instant::now());
        while budget.goes_on(samples.len(), began.elapsed().as_secs_f64()) {
            let (mut worker, loaded) = Worker::load(self.project, engine)?;
            self.results.know(engine, &loaded.version);
            samples.push(sample(&mut worker)?);
        }
        Ok(samples)
    }

    /// Requests a second through MotorBrain with an engine that answers at once: a benchmark of cargo's.
    pub(super) fn messages(&mut self) -> Result<(), Error> {
        show("messages", super::messages(self.project).args(["--", MESSAGES]), |_| ())?;
        let folder = self.project.target().join("criterion").join("message").join(MESSAGES).join("new");
        let engine = self.stand.motorbrain(Group::Equal);
        let samples = vec![messages_per_second(&folder)?];
        self.keep(&engine, Measure::Messages, Point { conversations: Some(16), ..Point::default() }, samples);
        Ok(())
    }

    /// What the machine can do at most.
    pub(super) fn limits(&mut self) -> Result<(), Error> {
        let mut machine = self.stand.motorbrain(Group::Qwen);
        machine.name = "machine".into();
        let worker = Worker::start(self.project, &machine.name, machine.program.command())?;
        let mut runner = Runner { engine: machine, worker };
        let threads = self.stand.threads;
        let graph = self.stand.models.join("matmul.onnx");
        for (measure, request) in [
            (Measure::Bandwidth, json!({ "op": "bandwidth", "threads": threads })),
            (Measure::Matmul, json!({ "op": "matmul", "graph": graph, "threads": threads })),
        ] {
            let mut runners = [&mut runner];
            let budget = self.options.budget(LIMIT_SECONDS);
            let found = alternate(&mut runners, budget, |runner, _| {
                runner.worker.ask::<BTreeMap<String, f64>>(request.clone())
            })?;
            self.keep_all(&runners, measure, Point::default(), &found, |answer| answer.values().sum());
        }
        Ok(())
    }
}

/// The benchmark's name, which is also its folder's.
const MESSAGES: &str = "16 callers, token ids";

/// Criterion's own estimate: requests of an iteration over its mean time.
fn messages_per_second(folder: &Path) -> Result<f64, Error> {
    #[derive(Deserialize)]
    struct Estimates {
        mean: Estimate,
    }
    #[derive(Deserialize)]
    struct Estimate {
        point_estimate: f64,
    }
    #[derive(Deserialize)]
    struct Benchmark {
        throughput: BTreeMap<String, f64>,
    }
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(Error::files("read", &path))
    };
    let broken = |cause: serde_json::Error| Error::files("read", folder)(cause.into());
    let estimates: Estimates = serde_json::from_slice(&read("estimates.json")?).map_err(broken)?;
    let benchmark: Benchmark = serde_json::from_slice(&read("benchmark.json")?).map_err(broken)?;
    let requests: f64 = benchmark.throughput.values().sum();
    Ok(requests / estimates.mean.point_estimate * 1e9)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn messages_are_read_from_criterions_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("estimates.json"), r#"{"mean":{"point_estimate":2e6,"standard_error":1.0}}"#)
            .unwrap();
        fs::write(folder.path().join("benchmark.json"), r#"{"throughput":{"Elements":3200}}"#).unwrap();
        assert_eq!(messages_per_second(folder.path()).unwrap(), 1_600_000.0);
    }
}
