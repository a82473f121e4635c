//! `cargo xtask bench keeping`: a crash, a history that is sent again, forks, several answers, conversations on two
//! actors and in a crowd. The worker measures, and says what it found as JSON; this prints it.

use std::process::Command;

use serde_json::{Value, json};

use super::{build_worker, worker::Worker};
use crate::error::Error;
use crate::project::Project;
use crate::setup;

/// A model that takes little memory, for a crowd.
const TINY: &str = "tests/fixtures/tiny-plain";

/// Measures and prints.
pub(super) fn run(project: &Project) -> Result<String, Error> {
    drop(setup::provide(project, false)?);
    let mut worker = Worker::start(project, "keeping", Command::new(build_worker(project)?))?;
    let model = project.models().join("smollm2-135m");
    let found: Value = worker.ask(json!({ "op": "keeping", "model": model }))?;
    println!("{found:#}");
    let tiny = project.root().join(TINY);
    let crowd: Value = worker.ask(json!({ "op": "crowd", "model": tiny, "resident": [16, 10_000] }))?;
    println!("{crowd:#}");
    Ok("measure on a quiet machine, and compare only what one run has measured".into())
}
