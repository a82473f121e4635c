//! `cargo xtask sim`: many more histories of the simulation than the tests have time for.

use crate::error::Error;
use crate::process::{cargo, show};
use crate::project::Project;

/// Runs histories `from` and so many, optimised and with all assertions; returns what to do next.
pub(crate) fn run(project: &Project, seeds: u64, from: u64) -> Result<String, Error> {
    let mut tests = cargo();
    tests.args(["test", "--profile", "simulation", "--package", "motorbrain-actors", "--test", "all"]);
    tests.args(["simulation::whatever", "--", "--nocapture"]).current_dir(project.root());
    tests.env("SIMULATION_SEEDS", seeds.to_string()).env("SIMULATION_FROM", from.to_string());
    show("simulation", &mut tests, |_| ())?;
    Ok(format!("`cargo xtask sim --from {}` runs others", from + seeds))
}
