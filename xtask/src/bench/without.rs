//! `cargo xtask bench` in a build without the benchmark: it has cargo build the one with it, and run that.
//!
//! The benchmark draws plots, and nobody should wait for that to be built who only wants a demo. Arguments are
//! handed on as they are, `--help` among them, and the exit status comes back.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use crate::error::Error;
use crate::process::cargo;
use crate::project::Project;

/// Whatever the benchmark is asked.
#[derive(Args)]
pub(crate) struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs `cargo xtask bench` with the feature.
pub(crate) fn run(project: &Project, arguments: &Arguments) -> ExitCode {
    let mut again = cargo();
    again.args(["run", "--quiet", "--bin", "xtask", "--features", "xtask/bench", "--", "bench"]);
    again.args(&arguments.arguments).current_dir(project.root());
    match again.status() {
        Ok(status) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            code.map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(cause) => {
            crate::report(&Error::Start { program: "cargo".into(), cause });
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    #[command(disable_help_flag = true)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn every_argument_is_handed_on() {
        let line = ["bench", "--quick", "--only", "turn", "--help", "actors"];
        let found = Line::try_parse_from(line).map(|line| line.arguments.arguments);
        assert_eq!(found.ok(), Some(line[1..].iter().map(OsString::from).collect()));
    }
}
