//! `cargo xtask bench`: MotorBrain and its peers, alternating in one run on one machine.
//!
//! It sets up the peers, builds the workers, runs the scenarios and writes `benches/RESULTS.md`,
//! `benches/results.json` and the plots. `bench actors` runs that of cargo instead.

mod claims;
mod engines;
mod limits;
mod machine;
mod options;
mod ours;
mod peers;
mod plots;
mod report;
mod results;
mod scenarios;
mod show;
mod statistics;
mod worker;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use self::engines::Stand;
pub(crate) use self::options::Options;
use self::options::Scenario;
use self::results::{Group, Part, Results, Shape};
use self::scenarios::Scenarios;
use crate::error::Error;
use crate::process::{cargo, show};
use crate::project::Project;
use crate::setup;

/// A load average above this is not a quiet machine.
const LOAD_QUIET: f64 = 0.5;

/// Runs what the options ask for; returns what to do next.
pub(crate) fn run(project: &Project, options: &Options) -> Result<String, Error> {
    let lock = setup::provide(project, false)?;
    let qwen = options.groups().any(|group| group == Group::Qwen);
    peers::provide(project, qwen, false)?;
    let stand = Stand::new(project, build_worker(project)?, machine::cores());
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
    measure(&mut Scenarios { project, stand: &stand, options, results: &mut results }, &last)?;
    let folder = if options.is_whole() { project.root().join("benches") } else { last };
    write(&results, &folder)?;
    Ok(format!("read {}", folder.join("RESULTS.md").display()))
}

/// Runs the benchmark of cargo; returns what to do next.
pub(crate) fn actors(project: &Project) -> Result<String, Error> {
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
fn measure(scenarios: &mut Scenarios<'_>, folder: &std::path::Path) -> Result<(), Error> {
    let options = scenarios.options;
    let mut shown = None;
    let mut part = |part: Part, run: &dyn Fn(&mut Scenarios<'_>) -> Result<(), Error>| {
        if !options.wants(part.scenario) || scenarios.results.done.contains(&part) {
            return Ok(());
        }
        if let Some(group) = part.group.filter(|group| shown.replace(*group) != Some(*group)) {
            println!("== {}", group.title());
        }
        // A part that was broken off left nothing: its series are kept when it is whole.
        let known = scenarios.results.series.len();
        let ran = run(scenarios);
        match ran {
            Ok(()) => scenarios.results.done.push(part),
            Err(_) => scenarios.results.series.truncate(known),
        }
        write(scenarios.results, folder).and(ran)
    };
    let of = |scenario, group| Part { scenario, group, context: None };
    part(of(Scenario::Limits, None), &|scenarios| scenarios.limits())?;
    for group in options.groups() {
        for (scenario, run) in COMPARED {
            // Random weights have no perplexity worth knowing, and their turns cost what those of others do.
            let pointless =
                group == Group::Qwen && matches!(scenario, Scenario::Quality | Scenario::Turn | Scenario::Embed);
            if !pointless {
                part(of(scenario, Some(group)), &|scenarios| run(scenarios, group))?;
            }
        }
        for (scenario, run) in OURS.into_iter().filter(|_| group == Group::Equal) {
            part(of(scenario, Some(group)), &|scenarios| run(scenarios, group))?;
        }
    }
    part(of(Scenario::Layer, None), &|scenarios| scenarios.messages())?;
    // The longest last: filling caches takes most of a run.
    let decodes = |group| options.decode_contexts(group).map(move |context| (context, group));
    let mut decodes: Vec<(usize, Group)> = options.groups().flat_map(decodes).collect();
    decodes.sort_by_key(|(context, _)| *context);
    for (context, group) in decodes {
        let decode = Part { context: Some(context), ..of(Scenario::Decode, Some(group)) };
        part(decode, &|scenarios| scenarios.decode(group, context))?;
    }
    Ok(())
}

type Run = fn(&mut Scenarios<'_>, Group) -> Result<(), Error>;

/// Scenarios of every engine and model, decodes apart.
const COMPARED: [(Scenario, Run); 5] = [
    (Scenario::Quality, |scenarios, group| scenarios.quality(group)),
    (Scenario::Prefill, |scenarios, group| scenarios.prefill(group)),
    (Scenario::Embed, |scenarios, group| scenarios.embed(group)),
    (Scenario::Turn, |scenarios, group| scenarios.turn(group)),
    (Scenario::Load, |scenarios, group| scenarios.load(group)),
];

/// Those of ours alone.
const OURS: [(Scenario, Run); 3] = [
    (Scenario::Layer, |scenarios, group| scenarios.layer(group)),
    (Scenario::Latency, |scenarios, group| scenarios.latency(group)),
    (Scenario::Memory, |scenarios, group| scenarios.memory(group)),
];

fn write(results: &Results, folder: &std::path::Path) -> Result<(), Error> {
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
    build.args(["build", "--release", "--package", "motorbrain-bench"]).current_dir(project.root());
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
