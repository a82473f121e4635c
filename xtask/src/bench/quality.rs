//! The perplexity of each form, through the engine itself. It is the same each time, so that it is measured
//! once and kept under a hash of all that it depends on.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::engines::Engine;
use super::results::{Group, Team};
use super::scenarios::{Runner, Scenarios};
use crate::error::Error;
use crate::stamp::{file_hash, hex};

/// Of each text.
type Perplexity = BTreeMap<String, f64>;

impl Scenarios<'_> {
    /// Of every engine of a group.
    pub(super) fn quality(&mut self, group: Group) -> Result<(), Error> {
        let mut runners = self.runners(group)?;
        for runner in &mut runners {
            let kept = self.kept_in(&runner.engine)?;
            let perplexity = match fs::read(&kept).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
                Some(perplexity) => perplexity,
                None => self.perplexity(runner, &kept)?,
            };
            println!("perplexity   {}, {}: {perplexity:.3?}", runner.engine.name, runner.engine.form);
            self.results.set_perplexity(&runner.engine, perplexity);
        }
        self.loaded = Some((group, runners));
        Ok(())
    }

    fn perplexity(&self, runner: &mut Runner, kept: &PathBuf) -> Result<Perplexity, Error> {
        let request = match runner.engine.team {
            Team::MotorBrain | Team::BareEngine => {
                json!({ "op": "perplexity", "texts": self.project.tool("texts/token_ids.json") })
            }
            Team::Genai | Team::LlamaCpp | Team::OpenVino => json!({ "op": "perplexity" }),
        };
        let perplexity: Perplexity = runner.worker.ask(request)?;
        if let Some(folder) = kept.parent() {
            fs::create_dir_all(folder).map_err(Error::files("make", folder))?;
        }
        let text = serde_json::to_vec(&perplexity).unwrap_or_default();
        fs::write(kept, text).map_err(Error::files("write", kept))?;
        Ok(perplexity)
    }

    /// The file for an engine's perplexity.
    fn kept_in(&self, engine: &Engine) -> Result<PathBuf, Error> {
        let hash = |path: &PathBuf| file_hash(path).map(|hash| hex(&hash)).map_err(Error::files("read", path));
        let (program, arguments) = engine.program.parts();
        // Of ours the program is the version: its kernels change with every commit.
        let code = match engine.team {
            Team::MotorBrain | Team::BareEngine => program.to_owned(),
            Team::Genai | Team::LlamaCpp | Team::OpenVino => PathBuf::from(&arguments[0]),
        };
        let version = self.results.version(engine).unwrap_or_default();
        let settings = arguments.iter().skip(1).cloned().collect::<Vec<_>>().join(" ");
        let texts = self.project.tool("texts/token_ids.json");
        let parts = [hash(&engine.weights)?, hash(&code)?, version.to_owned(), settings, hash(&texts)?];
        Ok(self.project.bench().join("perplexity").join(key(&parts) + ".json"))
    }
}

/// A name for all of them together, which is another one whenever one of them is.
fn key(parts: &[String]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // With its length, so that nothing can move from one part to the next.
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_every_part_and_of_where_parts_end() {
        let of = |parts: &[&str]| key(&parts.iter().map(|&part| part.to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["weights", "engine 1"]), of(&["weights", "engine 1"]));
        let others = [["weights", "engine 2"], ["weight", "sengine 1"], ["engine 1", "weights"]];
        assert!(others.iter().all(|other| of(other) != of(&["weights", "engine 1"])));
    }
}
