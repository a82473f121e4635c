//! `motorbrain`, the command line: parses, calls the library, prints.
//!
//! Replies and tables go to standard output, logs and errors to standard error, and the exit status
//! tells whose turn it is (see [`exit::Exit`]).

mod args;
mod calibrate;
mod chat;
mod choosing;
mod completions;
mod crash;
mod demo;
mod doctor;
mod embed;
mod eval;
mod exit;
mod failure;
mod generate;
mod input;
mod logging;
mod man;
mod notice;
mod output;
mod pipe;
mod prepare;
mod serve;
mod signals;
mod smoke;
mod starting;
mod texts;
mod top;
mod traces;

use std::{process::ExitCode, sync::Arc, time::Duration};

use motorbrain::{Parts, grammar::Compiler, transfer::Transfers};
use tokio::runtime::Builder;

use args::{Args, Command, Common};
use exit::Exit;
use failure::Failure;
use traces::Traces;

fn main() -> ExitCode {
    decline_telemetry();
    let exit = run(Args::of_process()).unwrap_or_else(|failure| {
        let exit = failure.exit;
        failure.report();
        exit
    });
    exit.into()
}

/// Builds of ONNX Runtime 1.31 note each process and try to send it off when they are opened, before a program
/// can forbid it; this they heed.
#[expect(unsafe_code, reason = "the runtime asks nothing but the environment")]
fn decline_telemetry() {
    // SAFETY: first of all in `main`, so no other thread reads the environment.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
}

fn run(args: Args) -> Result<Exit, Failure> {
    let runtime = Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Unexpected, error, None))?;
    let traces = args.traces().then(|| Traces::start(runtime.handle())).transpose()?;
    let hint = || Some("for example `--log info` or `--log motorbrain_actors=debug`".into());
    logging::start(args.log(), traces.as_ref().map(Traces::layer))
        .map_err(|error| Failure::new(Exit::Settings, error, hint()))?;
    let ended = runtime.block_on(async {
        match args.command {
            Command::Demo { record } => demo::run(&args.common, record).await,
            Command::Doctor { json, write_manifest } => doctor::run(&args.common, json, write_manifest).await,
            Command::Smoke { json } => smoke::run(&args.common, json).await,
            Command::Pipe { chaos, allow_files } => pipe(&args.common, chaos, allow_files).await,
            Command::Serve(request) => serve::run(&args.common, request).await,
            Command::Top { socket, once, json, every_ms, rows } => top::run(
                &args.common,
                &top::Request { socket, once, json, every: Duration::from_millis(every_ms), rows },
            ),
            Command::Chat(request) => chat::run(&args.common, request).await,
            Command::Generate(request) => generate::run(&args.common, request).await,
            Command::Embed(request) => embed::run(&args.common, request).await,
            Command::Completions { shell } => completions::run(shell),
            Command::Man(request) => man::run(request),
            Command::Calibrate(request) => calibrate::run(&args.common, request).await,
            Command::Eval { eval } => eval::run(&args.common, eval).await,
            Command::Prepare { dir, out, weights, force, json } => {
                prepare::run(&args.common, prepare::Request { model: dir, out, weights, force }, json).await
            }
        }
    });
    traces.into_iter().for_each(Traces::end);
    // What still looks up a collector's name is not waited for.
    runtime.shutdown_background();
    ended
}

async fn pipe(common: &Common, chaos: bool, files: bool) -> Result<Exit, Failure> {
    let mut settings = common.settings()?;
    settings.brain.chaos |= chaos;
    let parts = Parts::find(&settings).await?;
    let (model, loader) = (Arc::clone(&parts.model), Arc::clone(&parts.loader));
    let brain = starting::started(parts, &settings).await?;
    let with = pipe::With {
        transfers: Transfers::new(brain.clone(), loader),
        rules: motorbrain_protocol::Rules { chaos: settings.brain.chaos, files, vocab: model.contract.vocab },
        grammars: Compiler::new(model),
    };
    let served = pipe::serve(&brain, with, &settings).await;
    brain.shutdown().await;
    match served {
        Ok(()) => Ok(Exit::Fine),
        Err(error) => Err(Failure::new(Exit::Unexpected, error, None)),
    }
}
