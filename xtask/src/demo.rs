//! `cargo xtask demo`: the whole system on the real model.

use crate::error::Error;
use crate::process::{Beside, cargo};
use crate::project::Project;
use crate::setup;

/// Sets up and runs `motorbrain demo`; returns what to do next.
///
/// Set-up waits for the network and uses one core most of the time, so the program is built beside it.
/// It finds the library and the model in `.motorbrain/` by itself, and writes to the terminal itself, so that
/// tokens are seen as they come. The lock is given back before it starts, so that a long look at the demo holds
/// nobody up.
pub(crate) fn run(project: &Project) -> Result<String, Error> {
    let program = ["--bin", "motorbrain"];
    let build = Beside::begin("build", cargo().arg("build").args(program).current_dir(project.root()))?;
    let lock = setup::provide_default(project)?;
    build.finish()?;
    drop(lock);
    let mut demo = cargo();
    demo.args(["run", "--quiet"]).args(program).args(["--", "demo"]).current_dir(project.root());
    let status = demo.status().map_err(|cause| Error::Start { program: "cargo".into(), cause })?;
    if !status.success() {
        let (what, program) = ("demo".into(), "motorbrain demo".into());
        return Err(Error::Failed { what, program, status, output: String::new() });
    }
    Ok("`cargo run -- doctor` explains what was found, `cargo xtask test` runs all tests".into())
}
