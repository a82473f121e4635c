//! `cargo xtask setup|demo|serve|test|sim|mutants|bench|eval|lint|reference`: provisions what cargo cannot, and runs what
//! CI runs.
//!
//! Each task says what it does, how long each part took, and in its last line what to do next. A
//! running system never calls this program. Exit status: 0 done, 1 a part failed, 2 bad usage.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program is for the terminal: output on stdout, progress and errors on stderr"
)]
#![cfg_attr(
    not(feature = "bench"),
    allow(dead_code, reason = "folders and errors of the benchmark stand beside those of the other tasks")
)]

#[cfg_attr(not(feature = "bench"), path = "bench/without.rs")]
mod bench;
mod error;
mod eval;
mod lint;
mod model;
mod mutants;
mod process;
mod program;
mod project;
mod python;
mod runtime;
mod setup;
mod sim;
mod stamp;
mod test;

use std::error::Error as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Error;
use crate::project::Project;

/// Tasks of the project that cargo has no command for.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXIT_STATUS)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

const EXIT_STATUS: &str = "Exit status: 0 done, 1 a part failed, 2 bad usage.";

#[derive(Subcommand)]
enum Task {
    /// Fetch and convert what is lacking: Python tools, ONNX Runtime, the default model
    ///
    /// Everything goes into the ignored folder `.motorbrain/`. What is there and unchanged is left
    /// alone, and then no network is needed. Set PYTHON to choose the interpreter (3.11 or newer).
    Setup {
        /// Make everything again
        #[arg(long)]
        force: bool,
        /// Afterwards check the models again: hashes and perplexity
        #[arg(long)]
        check: bool,
    },
    /// Set up, then run `motorbrain demo` on the real model
    Demo,
    /// Set up, then run `motorbrain serve` on the real model, with these arguments
    #[command(disable_help_flag = true)]
    Serve {
        /// Those of `motorbrain serve`, such as `--address 127.0.0.1:8123`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Set up, then run all that CI runs: format, lints, arrows, tests
    Test,
    /// Run many histories of the actors on one thread, under a virtual clock
    ///
    /// A seed is a history; what is wrong with one is shown in its shortest form.
    Sim {
        /// How many histories
        #[arg(long, default_value_t = 100_000)]
        seeds: u64,
        /// The first one's seed
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Take rules of the actors away, one at a time, and see whether a test notices
    Mutants {
        /// Only those with this in their names
        name: Option<String>,
    },
    /// Set up the peers, then run all engines alternating, and write benches/RESULTS.md
    ///
    /// The first run builds llama.cpp (10 minutes or more) and makes models (7 GB). Measure on a quiet
    /// machine. What is not a whole run writes its page into `.motorbrain/bench/last/` instead.
    #[cfg_attr(not(feature = "bench"), command(disable_help_flag = true))]
    Bench(bench::Arguments),
    /// Measure the default model's vectors and windows, and write evals/RESULTS.md
    ///
    /// Texts and another encoder are made of packages at fixed versions (150 MB), once.
    Eval(eval::Arguments),
    /// Run the linters that are installed: cargo-deny, zizmor, check-jsonschema, typos
    Lint,
    /// Make tests/fixtures/smollm2-reference.json again with the numpy forward pass
    Reference,
}

fn main() -> ExitCode {
    let project = Project::here();
    let outcome = match Arguments::parse().task {
        Task::Setup { force, check } => setup::run(&project, force, check),
        Task::Demo => program::demo(&project),
        Task::Serve { arguments } => program::serve(&project, &arguments),
        Task::Test => test::run(&project),
        Task::Sim { seeds, from } => sim::run(&project, seeds, from),
        Task::Mutants { name } => mutants::run(&project, name.as_deref()),
        #[cfg(feature = "bench")]
        Task::Bench(arguments) => bench::run(&project, &arguments),
        #[cfg(not(feature = "bench"))]
        Task::Bench(arguments) => return bench::run(&project, &arguments),
        Task::Eval(arguments) => eval::run(&project, &arguments),
        Task::Lint => lint::run(&project),
        Task::Reference => model::write_reference(&project),
    };
    match outcome {
        Ok(next) => {
            println!("next: {next}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints the error, its causes, and what to do about it.
fn report(error: &Error) {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
    eprintln!("next: {}", error.hint());
}
