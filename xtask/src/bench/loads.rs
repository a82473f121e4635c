//! How long it takes from nothing loaded to a first token: with the model's files in the system's memory, and
//! without.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::engines::Engine;
use super::results::{Group, Measure, Point, Team};
use super::scenarios::Scenarios;
use super::worker::Worker;
use crate::error::Error;

/// Seconds of a group for each engine, warm or cold.
const SECONDS: f64 = 6.0;

impl Scenarios<'_> {
    /// Each time in a fresh process, of which Python and its imports do not count.
    pub(super) fn load(&mut self, group: Group) -> Result<(), Error> {
        self.unload();
        // How keys and values are kept makes no difference: one llama.cpp of each model.
        let mut engines = self.stand.engines(group, true);
        engines[0] = self.stand.motorbrain(group);
        self.loads(&engines, Measure::Load)?;
        // The large model would measure the disk.
        if group != Group::Qwen {
            self.loads(&engines, Measure::LoadCold)?;
        }
        Ok(())
    }

    fn loads(&mut self, engines: &[Engine], measure: Measure) -> Result<(), Error> {
        let mut samples = vec![Vec::new(); engines.len()];
        if measure == Measure::Load {
            // The first only fills the system's memory.
            for engine in engines {
                Worker::load(self.project, engine)?;
            }
        }
        let budget = self.options.budget(SECONDS * engines.len() as f64);
        let began = std::time::Instant::now();
        let mut rounds = 0;
        while budget.goes_on(rounds, began.elapsed().as_secs_f64()) {
            for (engine, samples) in engines.iter().zip(&mut samples) {
                if measure == Measure::LoadCold {
                    self.forget(engine)?;
                }
                let (_worker, loaded) = Worker::load(self.project, engine)?;
                self.results.know(engine, &loaded.version);
                samples.push(loaded.first_seconds);
            }
            rounds += 1;
        }
        for (engine, samples) in engines.iter().zip(samples) {
            self.keep(engine, measure, Point::default(), samples);
        }
        if let Some(engine) = engines.first() {
            self.show(engine.group, measure, Point::default());
        }
        Ok(())
    }

    /// Has the system drop the model's files from memory, and ours the forms that it has made of it.
    fn forget(&self, engine: &Engine) -> Result<(), Error> {
        let forms = &self.stand.forms;
        if engine.team == Team::MotorBrain && forms.exists() {
            fs::remove_dir_all(forms).map_err(Error::files("remove", forms))?;
        }
        let mut forget = Command::new(&self.stand.python);
        forget.arg(self.stand.tools.join("forget.py")).arg(engine.model());
        quietly(&mut forget)
    }
}

/// Runs a program that has nothing to say.
fn quietly(command: &mut Command) -> Result<(), Error> {
    let program: PathBuf = command.get_program().into();
    let program = program.to_string_lossy().into_owned();
    let output = command.output().map_err(|cause| Error::Start { program: program.clone(), cause })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Failed { what: "cold load".into(), program, status: output.status, output: said })
}
