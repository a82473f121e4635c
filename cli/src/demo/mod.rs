//! `motorbrain demo`: what MotorBrain is for, within seconds: a first word, then an actor that dies while its
//! conversations are told, and the same tokens as if nothing had happened.
//!
//! One brain does it all. The stories are told twice, undisturbed and with an actor killed in the middle;
//! between the two they are closed, so that nothing of the first telling is left for the second. Answers that
//! differ, or a kill that met nobody, end the demo with an error.

mod lanes;
mod question;
mod recording;
mod report;
mod scene;
mod stories;
mod terminal;

use std::{
    path::PathBuf,
    pin::pin,
    time::{Duration, Instant},
};

use motorbrain::{Brain, BrainError, Settings};
use tokio::time::timeout;

use crate::{args::Common, crash, exit::Exit, failure::Failure, output};
use lanes::Lanes;
use recording::Recording;
use scene::{Kill, Scene};
use stories::Plan;

/// Two, so that one can die and the other go on.
const ACTORS: usize = 2;

/// The actor that is killed.
const VICTIM: usize = 0;

/// How many tokens each of its conversations has said by then: enough to be in the middle.
const KILL_AFTER: usize = 10;

/// Whoever waits longer wants to know for what.
const PATIENCE: Duration = Duration::from_secs(2);

/// Shows it all; `record`: a file for the events of the kill, see [`recording`].
pub(crate) async fn run(common: &Common, record: Option<PathBuf>) -> Result<Exit, Failure> {
    let began = Instant::now();
    let mut settings = common.settings()?;
    settings.brain.actors = ACTORS;
    settings.brain.chaos = true;
    let recording = record.map(Recording::create).transpose()?;
    crash::expect();
    terminal::title("A trained model speaks")?;
    let brain = start(&settings).await?;
    let shown = show(&brain, began, recording).await;
    brain.shutdown().await;
    shown.map(|()| Exit::Fine)
}

/// Starts the brain; says so where that takes long.
async fn start(settings: &Settings) -> Result<Brain, Failure> {
    let mut starting = pin!(motorbrain::start(settings));
    match timeout(PATIENCE, &mut starting).await {
        Ok(started) => Ok(started?),
        Err(_) => {
            output::print("(loading; the first time, the model's fast form is made and compared with the graph)\n")?;
            Ok(starting.await?)
        }
    }
}

async fn show(brain: &Brain, began: Instant, mut recording: Option<Recording>) -> Result<(), Failure> {
    let loaded = began.elapsed();
    let first_word = question::ask(brain, began).await?;
    output::print(&report::first_word(first_word, loaded))?;

    terminal::title("An actor dies, its conversations do not")?;
    let undisturbed = tell(brain, None, None).await?;
    let disturbed = tell(brain, Some(Kill { actor: VICTIM, after: KILL_AFTER }), recording.as_mut()).await?;
    let stats = brain.stats().await.map_err(broken)?;
    output::print(&format!("{}\n{}\n", report::actors(&stats), report::health(&stats)))?;
    output::print(&report::stories(&disturbed).to_string())?;
    report::verdict(&undisturbed, &disturbed).map_err(unlike)?;
    if let Some(recording) = recording {
        recording.equal()?;
    }
    output::print("Every conversation has the same tokens with the kill as without it.")?;
    output::print(&format!("All of this took {:.1} s.", began.elapsed().as_secs_f64()))
}

/// Has the stories told, shows and records them, and closes their conversations.
async fn tell(brain: &Brain, kill: Option<Kill>, mut recording: Option<&mut Recording>) -> Result<Scene, Failure> {
    let scene = stories::begin(brain, kill).await.map_err(broken)?;
    let began = Instant::now();
    if let Some(recording) = &mut recording {
        recording.beginnings(&scene);
    }
    let mut lanes = Lanes::new();
    let scene = stories::tell(brain, scene, Plan::DEMO, &mut |event, scene| {
        if let Some(recording) = &mut recording {
            recording.event(event, scene);
        }
        lanes.draw(scene)
    })
    .await?;
    let elapsed = began.elapsed();
    lanes.clear()?;
    stories::close(brain, &scene).await.map_err(broken)?;
    output::print(&report::telling(&scene, elapsed))?;
    Ok(scene)
}

fn broken(error: BrainError) -> Failure {
    Failure::new(Exit::Unexpected, error, None)
}

fn unlike(error: report::Unlike) -> Failure {
    let hint = error.hint();
    Failure::new(Exit::Unexpected, error, hint)
}
