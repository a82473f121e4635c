//! `cargo xtask demo`: the whole system on the real model.

use crate::error::Error;
use crate::process::{cargo, show};
use crate::project::Project;
use crate::setup;

/// Sets up and runs the example; returns what to do next.
///
/// The example finds the library and the models in `.motorbrain/` by itself. The lock is given back
/// before it starts, so that a long look at the demo holds nobody up.
pub(crate) fn run(project: &Project) -> Result<String, Error> {
    drop(setup::provide(project, false)?);
    let mut demo = cargo();
    demo.args(["run", "--release", "--example", "supervised_demo"]).current_dir(project.root());
    show("demo", &mut demo, |_| ())?;
    Ok("`cargo run --release -- doctor` explains what was found, `cargo xtask test` runs all tests".into())
}
