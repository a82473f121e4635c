//! What all engines are asked: for each scenario at which points, and what of an answer counts.
//!
//! Engines take turns: each point is measured once for every engine, then again for the next round. So
//! whatever slows the machine down for a while meets all of them.

use std::iter;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::engines::{Engine, Stand};
use super::options::Options;
use super::results::{Group, Measure, Point, Results, Series, Team};
use super::show;
use super::worker::Worker;
use crate::error::Error;
use crate::project::Project;

/// Tokens that each conversation decodes in a round; fewer for many conversations, which take longer.
const DECODED: usize = 32;
const DECODED_OF_MANY: usize = 16;
/// From so many conversations on.
const MANY: usize = 8;
/// The text that is embedded.
pub(super) const EMBED: usize = 512;
/// The second turn: so many new tokens on so many old ones.
pub(super) const TURN: (usize, usize) = (1000, 20);
/// Where the actors' cost is measured.
pub(super) const LAYER_CONVERSATIONS: [usize; 2] = [1, 16];
pub(super) const LAYER_CONTEXT: usize = 64;
/// How many times as many tokens are decoded there: a hundredth is to be seen.
const LAYER_DECODED: usize = 4;
/// Before an engine is asked, so that the threads of the one before it have come to rest.
const REST: Duration = Duration::from_millis(100);

/// Tokens of each conversation in a round.
fn decoded(conversations: usize) -> usize {
    if conversations < MANY { DECODED } else { DECODED_OF_MANY }
}

/// Runs scenarios and keeps what they find.
pub(super) struct Scenarios<'a> {
    pub(super) project: &'a Project,
    pub(super) stand: &'a Stand,
    pub(super) options: &'a Options,
    pub(super) results: &'a mut Results,
}

/// An engine and its worker.
pub(super) struct Runner {
    pub(super) engine: Engine,
    pub(super) worker: Worker,
}

/// The answer to everything that is timed.
#[derive(Deserialize)]
struct Timed {
    seconds: f64,
}

#[derive(Deserialize)]
struct Turned {
    seconds: f64,
    again_seconds: f64,
}

impl Scenarios<'_> {
    /// Tokens a second of conversations that decode at the same time.
    pub(super) fn decode(&mut self, group: Group, context: usize) -> Result<(), Error> {
        let mut runners = self.runners(self.stand.engines(group, self.options.quick))?;
        // The most first: an engine that can go back to an earlier length then reads only once.
        for &conversations in self.options.decode_conversations(group).iter().rev() {
            let tokens = decoded(conversations);
            // The first round only warms up.
            let room = (self.options.rounds() + 1) * tokens + 1;
            let open = json!({ "op": "open", "conversations": conversations, "context": context, "room": room });
            for runner in &mut runners {
                runner.worker.ask::<Value>(open.clone())?;
            }
            let request = json!({ "op": "decode", "conversations": conversations, "tokens": tokens });
            let timed: Vec<Vec<Timed>> = self.alternate(&mut runners, 1, &request)?;
            let per_second = |timed: &Timed| (conversations * tokens) as f64 / timed.seconds;
            self.keep_all(&runners, Measure::Decode, Point::decode(conversations, context), &timed, per_second);
        }
        Ok(())
    }

    /// The same of ours, with and without actors, by turns in one process, which has the weights once. (What a
    /// program reads from memory takes up to a tenth longer in one process than in the next, for as long as it lives.)
    pub(super) fn layer(&mut self, group: Group) -> Result<(), Error> {
        let engines = [self.stand.motorbrain(group), self.stand.bare(group)];
        let (mut worker, loaded) = Worker::load(self.project, &engines[0])?;
        engines.iter().for_each(|engine| self.results.know(engine, &loaded.version));
        for conversations in LAYER_CONVERSATIONS {
            let (context, tokens) = (LAYER_CONTEXT, LAYER_DECODED * decoded(conversations));
            let mut samples = [Vec::new(), Vec::new()];
            // The first round only warms up.
            for round in 0..=self.options.rounds() {
                // Who is first changes.
                for index in [round % 2, (round + 1) % 2] {
                    let (bare, samples) = (index == 1, &mut samples[index]);
                    let open =
                        json!({ "op": "open", "conversations": conversations, "context": context, "bare": bare });
                    worker.ask::<Value>(open)?;
                    thread::sleep(REST);
                    let decode =
                        json!({ "op": "decode", "conversations": conversations, "tokens": tokens, "bare": bare });
                    let timed: Timed = worker.ask(decode)?;
                    samples.extend((round > 0).then_some((conversations * tokens) as f64 / timed.seconds));
                }
            }
            let point = Point::decode(conversations, LAYER_CONTEXT);
            for (engine, samples) in engines.iter().zip(samples) {
                self.keep(engine, Measure::LayerDecode, point, samples);
            }
            self.show(group, Measure::LayerDecode, point);
        }
        Ok(())
    }

    /// Tokens a second of a prompt.
    pub(super) fn prefill(&mut self, group: Group) -> Result<(), Error> {
        let mut runners = self.runners(self.stand.engines(group, self.options.quick))?;
        for &tokens in self.options.prefill_tokens(group) {
            let request = json!({ "op": "prefill", "tokens": tokens });
            let timed: Vec<Vec<Timed>> = self.alternate(&mut runners, 1, &request)?;
            let per_second = |timed: &Timed| tokens as f64 / timed.seconds;
            self.keep_all(&runners, Measure::Prefill, Point::tokens(tokens), &timed, per_second);
        }
        Ok(())
    }

    /// Texts a second.
    pub(super) fn embed(&mut self, group: Group) -> Result<(), Error> {
        let mut runners = self.runners(self.stand.engines(group, self.options.quick))?;
        let request = json!({ "op": "embed", "tokens": EMBED });
        let timed: Vec<Vec<Timed>> = self.alternate(&mut runners, 1, &request)?;
        self.keep_all(&runners, Measure::Embed, Point::tokens(EMBED), &timed, |timed| 1.0 / timed.seconds);
        Ok(())
    }

    /// Seconds to the first token of a second turn, by going on and by reading all again.
    pub(super) fn turn(&mut self, group: Group) -> Result<(), Error> {
        let mut runners = self.runners(self.stand.engines(group, self.options.quick))?;
        let (context, tokens) = TURN;
        let request = json!({ "op": "turn", "context": context, "tokens": tokens });
        let turned: Vec<Vec<Turned>> = self.alternate(&mut runners, 0, &request)?;
        let point = Point::turn(context, tokens);
        self.keep_all(&runners, Measure::Turn, point, &turned, |turned| turned.seconds);
        self.keep_all(&runners, Measure::TurnAgain, point, &turned, |turned| turned.again_seconds);
        Ok(())
    }

    /// Seconds until a model can be asked for tokens, each time in a fresh process.
    pub(super) fn load(&mut self, group: Group) -> Result<(), Error> {
        let peers = self.stand.engines(group, true).into_iter().skip(1);
        let engines: Vec<Engine> = iter::once(self.stand.motorbrain(group)).chain(peers).collect();
        let mut samples = vec![Vec::new(); engines.len()];
        // The first round only fills the system's cache of files.
        for round in 0..=self.options.rounds() {
            for (engine, samples) in engines.iter().zip(&mut samples) {
                let (_worker, loaded) = Worker::load(self.project, engine)?;
                self.results.know(engine, &loaded.version);
                samples.extend((round > 0).then_some(loaded.seconds));
            }
        }
        for (engine, samples) in engines.iter().zip(samples) {
            self.keep(engine, Measure::Load, Point::default(), samples);
        }
        self.show(group, Measure::Load, Point::default());
        Ok(())
    }

    /// The perplexity of each form, through the engine itself.
    pub(super) fn quality(&mut self, group: Group) -> Result<(), Error> {
        let texts = self.project.tool("texts/token_ids.json");
        for mut runner in self.runners(self.stand.engines(group, self.options.quick))? {
            let request = match runner.engine.team {
                Team::MotorBrain | Team::BareEngine => json!({ "op": "perplexity", "texts": texts }),
                Team::Genai | Team::LlamaCpp => json!({ "op": "perplexity" }),
            };
            let perplexity = runner.worker.ask(request)?;
            println!("perplexity   {}, {}: {perplexity:.3?}", runner.engine.name, runner.engine.form);
            self.results.set_perplexity(&runner.engine, perplexity);
        }
        Ok(())
    }

    /// Starts the engines' workers: all at once on the machine, but idle.
    pub(super) fn runners(&mut self, engines: Vec<Engine>) -> Result<Vec<Runner>, Error> {
        let mut runners = Vec::new();
        for engine in engines {
            let (worker, loaded) = Worker::load(self.project, &engine)?;
            self.results.know(&engine, &loaded.version);
            runners.push(Runner { engine, worker });
        }
        Ok(runners)
    }

    /// Asks each worker in turn, `warm_up` times and then as often as there are rounds; the answers that
    /// count, a list a worker.
    pub(super) fn alternate<T: DeserializeOwned>(
        &self,
        runners: &mut [Runner],
        warm_up: usize,
        request: &Value,
    ) -> Result<Vec<Vec<T>>, Error> {
        let mut answers: Vec<Vec<T>> = runners.iter().map(|_| Vec::new()).collect();
        for round in 0..self.options.rounds() + warm_up {
            for (runner, answers) in runners.iter_mut().zip(&mut answers) {
                thread::sleep(REST);
                let answer = runner.worker.ask(request.clone())?;
                answers.extend((round >= warm_up).then_some(answer));
            }
        }
        Ok(answers)
    }

    /// Keeps a series of each engine, and prints them.
    pub(super) fn keep_all<T>(
        &mut self,
        runners: &[Runner],
        measure: Measure,
        point: Point,
        answers: &[Vec<T>],
        sample: impl Fn(&T) -> f64,
    ) {
        for (runner, answers) in runners.iter().zip(answers) {
            self.keep(&runner.engine, measure, point, answers.iter().map(&sample).collect());
        }
        if let Some(runner) = runners.first() {
            self.show(runner.engine.group, measure, point);
        }
    }

    pub(super) fn keep(&mut self, engine: &Engine, measure: Measure, point: Point, samples: Vec<f64>) {
        let (group, team) = (engine.group, engine.team);
        self.results.series.push(Series { measure, group, engine: engine.name.clone(), team, point, samples });
    }

    pub(super) fn show(&self, group: Group, measure: Measure, point: Point) {
        println!("{}", show::point(self.results, group, measure, point));
    }
}
