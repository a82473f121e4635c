//! `cargo xtask demo` and `serve`: the program on the default model, with all that it needs provided before.

use std::process::{Command, ExitStatus};

use crate::error::Error;
use crate::process::{Beside, cargo};
use crate::project::Project;
use crate::setup;

/// What cargo builds and runs.
const PROGRAM: [&str; 2] = ["--bin", "motorbrain"];

/// Sets up and runs `motorbrain demo`; returns what to do next.
pub(crate) fn demo(project: &Project) -> Result<String, Error> {
    let mut demo = ready(project, "demo", &[])?;
    ended("demo", demo.status())?;
    Ok("`cargo run -- doctor` explains what was found, `cargo xtask serve` is its door for HTTP".into())
}

/// Sets up and runs `motorbrain serve` until a signal ends it; where that can be, in the place of this program, so that
/// signals are the server's.
pub(crate) fn serve(project: &Project, arguments: &[String]) -> Result<String, Error> {
    let mut serve = ready(project, "serve", arguments)?;
    #[cfg(unix)]
    let status = Err(std::os::unix::process::CommandExt::exec(&mut serve));
    #[cfg(not(unix))]
    let status = serve.status();
    ended("serve", status)?;
    Ok("`cargo run -- chat` is the same at a terminal".into())
}

/// A command of the program that can be run now.
///
/// Set-up waits for the network and uses one core most of the time, so the program is built beside it.
/// It finds the library and the model in `.motorbrain/` by itself, and writes to the terminal itself, so that
/// tokens are seen as they come. The lock is given back before it starts, so that a long look at it holds
/// nobody up.
fn ready(project: &Project, what: &str, arguments: &[String]) -> Result<Command, Error> {
    let build = Beside::begin("build", cargo().arg("build").args(PROGRAM).current_dir(project.root()))?;
    let lock = setup::provide_default(project)?;
    build.finish()?;
    drop(lock);
    let mut command = cargo();
    command.args(["run", "--quiet"]).args(PROGRAM).args(["--", what]).args(arguments).current_dir(project.root());
    Ok(command)
}

fn ended(what: &str, status: std::io::Result<ExitStatus>) -> Result<(), Error> {
    let status = status.map_err(|cause| Error::Start { program: "cargo".into(), cause })?;
    if status.success() {
        return Ok(());
    }
    let program = format!("motorbrain {what}");
    Err(Error::Failed { what: what.into(), program, status, output: String::new() })
}
