//! `motorbrain completions`: what a shell needs to complete the command line.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{args::Args, exit::Exit, failure::Failure, output};

/// Writes the script of a shell.
pub(crate) fn run(shell: Shell) -> Result<Exit, Failure> {
    let mut command = Args::command();
    let name = command.get_name().to_owned();
    // Written at once, since clap's own writing panics where nobody reads.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    output::show(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Fine)
}
