//! What all engines are asked: for each scenario at which points, and what of an answer counts.
//!
//! Engines take turns in short rounds, and who is first changes: whatever slows the machine down for a while
//! meets all of them. An engine is loaded once for all that is asked of its group; only loads and memory are
//! measured in processes of their own.

use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::budget::{Budget, rounds_of_an_opening};
use super::engines::{Engine, Stand};
use super::options::{Options, Way};
use super::results::{Group, Measure, Point, Results, Series, Team};
use super::show;
use super::tune::{Purpose, tune};
use super::worker::Worker;
use crate::error::Error;
use crate::project::Project;

/// Tokens that each conversation decodes in a round; fewer for many conversations, which take longer.
const DECODED: usize = 16;
const DECODED_OF_MANY: usize = 8;
/// From so many conversations on.
const MANY: usize = 8;
/// Of the large model, which is slow, by so many times fewer.
const QWEN_FEWER: usize = 2;
/// The text that is embedded.
pub(super) const EMBED: usize = 512;
/// The second turn: so many new tokens on so many old ones.
pub(super) const TURN: (usize, usize) = (1000, 20);
/// Before an engine is asked, so that the threads of the one before it have come to rest.
pub(super) const REST: Duration = Duration::from_millis(30);

/// Seconds of a point for each engine.
const DECODE_SECONDS: f64 = 2.4;
const PREFILL_SECONDS: f64 = 3.0;
const TURN_SECONDS: f64 = 3.0;

/// Prompts up to this are read once before it counts.
const WARM_UP_MAX: usize = 512;

/// Runs scenarios and keeps what they find.
pub(super) struct Scenarios<'a> {
    pub(super) project: &'a Project,
    pub(super) stand: &'a Stand,
    pub(super) options: &'a Options,
    pub(super) results: &'a mut Results,
    /// The engines that are loaded, and of which group.
    pub(super) loaded: Option<(Group, Vec<Runner>)>,
}

/// An engine and its worker.
pub(super) struct Runner {
    pub(super) engine: Engine,
    pub(super) worker: Worker,
}

/// The answer to everything that is timed.
#[derive(Clone, Copy, Deserialize)]
pub(super) struct Timed {
    pub(super) seconds: f64,
}

impl Scenarios<'_> {
    /// Tokens a second of conversations that decode at the same time.
    pub(super) fn decode(&mut self, group: Group, way: Way) -> Result<(), Error> {
        for point in self.options.decodes(group, way) {
            self.decode_at(group, way, point)?;
        }
        Ok(())
    }

    fn decode_at(&mut self, group: Group, way: Way, point: Point) -> Result<(), Error> {
        let (conversations, context) = (point.conversations.unwrap_or(1), point.context.unwrap_or(0));
        let tokens = decoded(group, conversations);
        let (sampled, steps) = (way == Way::Sampled, way == Way::Steps);
        // One more is decoded before time is taken; what sampling costs ours shows beside as many greedy ones.
        let grown = if sampled { 2 * (tokens + 1) } else { tokens + 1 };
        let rounds = rounds_of_an_opening(context, grown);
        let open = json!({
            "op": "open", "conversations": conversations, "context": context,
            "room": rounds * grown + 1, "sampled": sampled,
        });
        let decode = json!({
            "op": "decode", "conversations": conversations, "tokens": tokens, "sampled": sampled, "steps": steps,
        });
        let greedy = json!({ "op": "decode", "conversations": conversations, "tokens": tokens });
        let ask = |results: &Results, runner: &mut Runner, request: &Value| {
            runner.ask(results, way.measure(), point, request)
        };

        let mut runners = self.runners(group)?;
        let mut asked: Vec<&mut Runner> = runners.iter_mut().filter(|runner| runner.engine.can(way)).collect();
        for runner in &mut asked {
            ask(self.results, runner, &open)?;
        }
        let budget = self.options.budget(DECODE_SECONDS * asked.len() as f64);
        let mut beside = Vec::new();
        let timed = alternate(&mut asked, budget, |runner, round| {
            if round > 0 && round % rounds == 0 {
                ask(self.results, runner, &open)?;
            }
            if !sampled || runner.engine.team != Team::MotorBrain {
                return ask(self.results, runner, &decode);
            }
            // Who is first changes, as among engines.
            let first = if round % 2 == 0 { &decode } else { &greedy };
            let second = if round % 2 == 0 { &greedy } else { &decode };
            let (first, second) = (ask(self.results, runner, first)?, ask(self.results, runner, second)?);
            let (sampled, greedy) = if round % 2 == 0 { (first, second) } else { (second, first) };
            beside.push(greedy);
            Ok(sampled)
        })?;
        let per_second = |timed: &Timed| (conversations * tokens) as f64 / timed.seconds;
        self.keep_all(&asked, way.measure(), point, &timed, per_second);
        if sampled {
            self.keep_all(&asked[..1], Measure::DecodeBeside, point, &[beside], per_second);
        }
        self.loaded = Some((group, runners));
        Ok(())
    }

    /// Tokens a second of a prompt.
    pub(super) fn prefill(&mut self, group: Group) -> Result<(), Error> {
        for &tokens in self.options.prefill_tokens(group) {
            let request = json!({ "op": "prefill", "tokens": tokens });
            self.read(group, Measure::Prefill, tokens, &request, |timed| tokens as f64 / timed.seconds)?;
        }
        Ok(())
    }

    /// Texts a second.
    pub(super) fn embed(&mut self, group: Group) -> Result<(), Error> {
        let request = json!({ "op": "embed", "tokens": EMBED });
        self.read(group, Measure::Embed, EMBED, &request, |timed| 1.0 / timed.seconds)
    }

    /// Whatever reads so many tokens.
    fn read(
        &mut self,
        group: Group,
        measure: Measure,
        tokens: usize,
        request: &Value,
        sample: impl Fn(&Timed) -> f64,
    ) -> Result<(), Error> {
        let point = Point::tokens(tokens);
        let mut runners = self.runners(group)?;
        let mut asked: Vec<&mut Runner> = runners.iter_mut().collect();
        if tokens <= WARM_UP_MAX {
            for runner in &mut asked {
                runner.ask(self.results, measure, point, request)?;
            }
        }
        let budget = self.options.budget(PREFILL_SECONDS * asked.len() as f64);
        let timed = alternate(&mut asked, budget, |runner, _| runner.ask(self.results, measure, point, request))?;
        self.keep_all(&asked, measure, point, &timed, sample);
        self.loaded = Some((group, runners));
        Ok(())
    }

    /// Seconds to the first token of a second turn and of those after it; of ours in the same rounds also by
    /// reading all again.
    pub(super) fn turn(&mut self, group: Group) -> Result<(), Error> {
        let (context, tokens) = TURN;
        let point = Point::turn(context, tokens);
        let turn = json!({ "op": "turn", "tokens": tokens });
        let again = json!({ "op": "prefill", "tokens": context + tokens });
        let rounds = rounds_of_an_opening(context, tokens + 1);
        let room = rounds * (tokens + 1) + 1;
        let open = json!({ "op": "open", "conversations": 1, "context": context, "room": room, "turns": true });

        let mut runners = self.runners(group)?;
        let mut asked: Vec<&mut Runner> = runners.iter_mut().collect();
        for runner in &mut asked {
            runner.ask(self.results, Measure::Turn, point, &open)?;
            // The first goes over memory that is new to it.
            runner.ask(self.results, Measure::Turn, point, &turn)?;
        }
        let mut read_again = Vec::new();
        let budget = self.options.budget(TURN_SECONDS * asked.len() as f64);
        let timed = alternate(&mut asked, budget, |runner, round| {
            // A conversation is full before a round of a long run would not fit.
            if round > 0 && round % (rounds - 1) == 0 {
                runner.ask(self.results, Measure::Turn, point, &open)?;
            }
            let timed = runner.ask(self.results, Measure::Turn, point, &turn)?;
            if runner.engine.team == Team::MotorBrain {
                read_again.push(runner.ask(self.results, Measure::TurnAgain, point, &again)?);
            }
            Ok(timed)
        })?;
        self.keep_all(&asked, Measure::Turn, point, &timed, |timed| timed.seconds);
        self.keep_all(&asked[..1], Measure::TurnAgain, point, &[read_again], |timed| timed.seconds);
        self.loaded = Some((group, runners));
        Ok(())
    }

    /// The engines of a group with their workers: those that are loaded, or new ones in place of others. All are
    /// at once on the machine, but idle. Whoever takes them puts them back into `loaded`.
    pub(super) fn runners(&mut self, group: Group) -> Result<Vec<Runner>, Error> {
        match self.loaded.take() {
            Some((loaded, runners)) if loaded == group => return Ok(runners),
            others => drop(others),
        }
        let mut runners = Vec::new();
        for engine in self.stand.engines(group, self.options.quick) {
            runners.push(self.start(engine)?);
        }
        let untuned = runners.iter_mut().filter(|runner| runner.engine.team == Team::LlamaCpp && !self.options.quick);
        for runner in untuned {
            if !self.results.is_tuned(&runner.engine) {
                let found = tune(runner, self.stand.threads)?;
                self.results.tuned.extend(found);
            }
        }
        Ok(runners)
    }

    /// Starts a worker and has it load its model.
    pub(super) fn start(&mut self, engine: Engine) -> Result<Runner, Error> {
        let (worker, loaded) = Worker::load(self.project, &engine)?;
        self.results.know(&engine, &loaded.version);
        Ok(Runner { engine, worker })
    }

    /// Ends the workers, before something is measured that wants the machine to itself.
    pub(super) fn unload(&mut self) {
        self.loaded = None;
    }

    /// Keeps a series of each engine, and prints them.
    pub(super) fn keep_all<T>(
        &mut self,
        runners: &[&mut Runner],
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

impl Runner {
    /// Asks it with the settings that are its best for what is measured, where it has such.
    pub(super) fn ask(
        &mut self,
        results: &Results,
        measure: Measure,
        point: Point,
        request: &Value,
    ) -> Result<Timed, Error> {
        let mut request = request.clone();
        let settings = Purpose::of(measure, point).and_then(|purpose| results.settings(&self.engine, purpose));
        if let Some(settings) = settings {
            request["settings"] = json!(settings);
        }
        self.worker.ask(request)
    }
}

/// Asks each in turn for as long as the budget allows, each time another one first; the answers, a list an
/// engine.
pub(super) fn alternate<T>(
    runners: &mut [&mut Runner],
    budget: Budget,
    mut ask: impl FnMut(&mut Runner, usize) -> Result<T, Error>,
) -> Result<Vec<Vec<T>>, Error> {
    let mut answers: Vec<Vec<T>> = runners.iter().map(|_| Vec::new()).collect();
    let began = Instant::now();
    let mut round = 0;
    while budget.goes_on(round, began.elapsed().as_secs_f64()) {
        for turn in 0..runners.len() {
            let index = (turn + round) % runners.len();
            thread::sleep(REST);
            answers[index].push(ask(runners[index], round)?);
        }
        round += 1;
    }
    Ok(answers)
}

/// Tokens of each conversation in a round.
fn decoded(group: Group, conversations: usize) -> usize {
    let tokens = if conversations < MANY { DECODED } else { DECODED_OF_MANY };
    if group == Group::Qwen { tokens / QWEN_FEWER } else { tokens }
}
