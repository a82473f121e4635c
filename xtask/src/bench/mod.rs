//! `cargo xtask bench`: MotorBrain and its peers, alternating in one run on one machine.
//!
//! It sets up the peers, builds the workers, runs the scenarios and writes `benches/RESULTS.md`,
//! `benches/results.json` and the plots. `bench actors` runs that of cargo instead. All of it is behind the
//! feature `bench`, so that nobody builds it who only wants the other tasks; `cargo xtask bench` turns it on.

mod budget;
mod claims;
mod door;
mod embedding;
mod engines;
mod fairness;
mod keeping;
mod limits;
mod loads;
mod machine;
mod options;
mod ours;
mod peers;
mod plots;
mod quality;
mod report;
mod results;
mod scenarios;
mod show;
mod statistics;
mod tune;
// Its own tests are run with all others.
#[cfg(test)]
#[expect(dead_code, reason = "it stands in for this module where the feature is off")]
mod without;
mod worker;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use self::engines::Stand;
use self::options::{Options, Scenario, Way};
use self::results::{Group, Part, Results, Shape};
use self::scenarios::Scenarios;
use crate::error::Error;
use crate::process::{cargo, seconds, show};
use crate::project::Project;
use crate::setup;

/// A load average above this is not a quiet machine.
const LOAD_QUIET: f64 = 0.5;

/// What of the benchmark is run.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    instead: Option<Instead>,
}

#[derive(Subcommand)]
enum Instead {
    /// Run the benchmark of cargo instead: what the actors add to a message
    Actors,
    /// Measure instead what it is worth that keys and values belong to conversations
    Keeping,
    /// Measure instead what vectors and their order cost
    Embedding,
    /// Measure instead what the HTTP server costs beside the library alone
    Door(door::Arguments),
    /// Measure instead what callers get beside a long prompt and a flood, through the pipe
    Fairness(fairness::Arguments),
}

/// Runs what was asked for; returns what to do next.
pub(crate) fn run(project: &Project, arguments: &Arguments) -> Result<String, Error> {
    match &arguments.instead {
        Some(Instead::Actors) => actors(project),
        Some(Instead::Keeping) => keeping::run(project),
        Some(Instead::Embedding) => embedding::run(project),
        Some(Instead::Door(arguments)) => door::run(project, arguments),
        Some(Instead::Fairness(arguments)) => fairness::run(project, arguments),
        None => compare(project, &arguments.options),
    }
}

/// Runs all engines, alternating.
fn compare(project: &Project, options: &Options) -> Result<String, Error> {
    let lock = setup::provide(project, false)?;
    let qwen = options.groups().any(|group| group == Group::Qwen);
    peers::provide(project, qwen, false)?;
    let stand = Stand::new(project, build_worker(project)?, machine::cores());
    if options.wants(Scenario::Layer) {
        show("messages", messages(project).args(["--no-run"]), |_| ())?;
    }
    drop(lock);

    let mut results = Results {
        command: command_line(std::env::args().skip(1)),
        commit: machine::commit(project),
        rounds: options.rounds(),
        quick: options.quick,
        machine: machine::describe(),
        shapes: shapes(&stand, qwen)?,
        ..Results::default()
    };
    let last = project.bench().join("last");
    if options.resume {
        let path = last.join("results.json");
        let text = fs::read(&path).map_err(Error::files("read", &path))?;
        let before = serde_json::from_slice(&text).map_err(|cause| Error::files("read", &path)(cause.into()))?;
        if !results.take_over(before) {
            let cause = "it is of another commit, machine or number of points or rounds, or files differ from the commit: run without --continue";
            return Err(Error::files("continue", &path)(std::io::Error::other(cause)));
        }
    }
    if results.machine.load_average > LOAD_QUIET {
        println!("the load average is {:.2}: what else runs here will show", results.machine.load_average);
    }
    measure(&mut Scenarios { project, stand: &stand, options, results: &mut results, loaded: None }, &last)?;
    println!("all parts: done in {}", seconds(Duration::from_secs_f64(60.0 * results.minutes)));
    let folder = if options.is_whole() { project.root().join("benches") } else { last };
    write(&results, &folder)?;
    Ok(format!("read {}", folder.join("RESULTS.md").display()))
}

/// Runs the benchmark of cargo.
fn actors(project: &Project) -> Result<String, Error> {
    drop(setup::provide(project, false)?);
    show("messages", &mut messages(project), |_| ())?;
    Ok("measure on a quiet machine, and compare only what one run has measured".into())
}

/// What the actors add to a message, with an engine that answers at once.
fn messages(project: &Project) -> Command {
    let mut bench = cargo();
    bench.args(["bench", "--package", "motorbrain-actors", "--all-features", "--bench", "message"]);
    bench.current_dir(project.root());
    bench
}

/// Measures what is wanted and not done, and writes what is found to `folder` after each part.
///
/// All that is asked of a group's engines comes together, since they are loaded once for it.
fn measure(scenarios: &mut Scenarios<'_>, folder: &Path) -> Result<(), Error> {
    let options = scenarios.options;
    let mut shown = None;
    let mut part = |scenario: Scenario, group: Option<Group>, run: &Run<'_>| {
        let part = Part { scenario, group };
        if !options.wants(scenario) || scenarios.results.done.contains(&part) {
            return Ok(());
        }
        if let Some(group) = group.filter(|group| shown.replace(*group) != Some(*group)) {
            println!("== {}", group.title());
        }
        // A part that was broken off left nothing: its series are kept when it is whole.
        let known = scenarios.results.series.len();
        let began = Instant::now();
        let ran = run(scenarios);
        scenarios.results.minutes += began.elapsed().as_secs_f64() / 60.0;
        match ran {
            Ok(()) => scenarios.results.done.push(part),
            Err(_) => scenarios.results.series.truncate(known),
        }
        write(scenarios.results, folder).and(ran)
    };
    for group in options.groups() {
        for (scenario, run) in OF_A_GROUP.into_iter().filter(|(scenario, _)| scenario.is_of(group)) {
            part(scenario, Some(group), &|scenarios| run(scenarios, group))?;
        }
    }
    // Beside the model of Qwen's shape, whose shares of them are wanted: a machine shared with others is not always as
    // fast.
    part(Scenario::Limits, None, &|scenarios| scenarios.limits())?;
    part(Scenario::Layer, None, &|scenarios| scenarios.messages())
}

type Run<'a> = dyn Fn(&mut Scenarios<'_>) -> Result<(), Error> + 'a;

type RunOfGroup = fn(&mut Scenarios<'_>, Group) -> Result<(), Error>;

/// What is asked of a group: first what all engines are asked, then what wants processes of its own.
const OF_A_GROUP: [(Scenario, RunOfGroup); 11] = [
    (Scenario::Quality, |scenarios, group| scenarios.quality(group)),
    (Scenario::Decode, |scenarios, group| scenarios.decode(group, Way::Stream)),
    (Scenario::Sampled, |scenarios, group| scenarios.decode(group, Way::Sampled)),
    (Scenario::Steps, |scenarios, group| scenarios.decode(group, Way::Steps)),
    (Scenario::Prefill, |scenarios, group| scenarios.prefill(group)),
    (Scenario::Embed, |scenarios, group| scenarios.embed(group)),
    (Scenario::Turn, |scenarios, group| scenarios.turn(group)),
    (Scenario::Load, |scenarios, group| scenarios.load(group)),
    (Scenario::Layer, |scenarios, group| scenarios.layer(group)),
    (Scenario::Latency, |scenarios, group| scenarios.latency(group)),
    (Scenario::Memory, |scenarios, group| scenarios.memory(group)),
];

fn write(results: &Results, folder: &Path) -> Result<(), Error> {
    let plots = plots::draw(results, &folder.join("plots"))?;
    let json = serde_json::to_string_pretty(results).unwrap_or_default() + "\n";
    for (name, text) in [("results.json", json), ("RESULTS.md", report::markdown(results, &plots))] {
        let path = folder.join(name);
        fs::write(&path, text).map_err(Error::files("write", &path))?;
    }
    Ok(())
}

/// Builds our own worker; its path.
fn build_worker(project: &Project) -> Result<PathBuf, Error> {
    let mut build = cargo();
    build.args(["build", "--release", "--bin", "motorbrain-bench"]).current_dir(project.root());
    show("worker", &mut build, |_| ())?;
    let name = format!("motorbrain-bench{}", std::env::consts::EXE_SUFFIX);
    Ok(project.target().join("release").join(name))
}

/// The networks' sizes, from the models' own config.json.
fn shapes(stand: &Stand, qwen: bool) -> Result<BTreeMap<String, Shape>, Error> {
    let models = [("smollm2", "smollm2-exact"), ("qwen", "qwen")];
    let wanted = models.into_iter().filter(|(name, _)| qwen || *name != "qwen");
    wanted
        .map(|(name, folder)| {
            let path = stand.models.join(folder).join("config.json");
            let text = fs::read(&path).map_err(Error::files("read", &path))?;
            let shape = serde_json::from_slice(&text).map_err(|cause| Error::files("read", &path)(cause.into()))?;
            Ok((name.to_owned(), shape))
        })
        .collect()
}

fn command_line(arguments: impl Iterator<Item = String>) -> String {
    ["cargo".to_owned(), "xtask".to_owned()].into_iter().chain(arguments).collect::<Vec<_>>().join(" ")
}
