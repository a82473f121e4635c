//! `motorbrain man`: the manual, a page for the program and one for each command.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::CommandFactory as _;
use clap_mangen::{Man, generate_to};

use crate::{args::Args, exit::Exit, failure::Failure, output};

/// What the command line asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct Request {
    /// A folder for all pages, which is made where there is none [default: the program's page, on standard output]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Why there are no pages.
#[derive(Debug, thiserror::Error)]
#[error("cannot write pages into {}", out.display())]
struct Unwritten {
    out: PathBuf,
    #[source]
    cause: io::Error,
}

/// Writes the program's page, or all pages into a folder.
pub(crate) fn run(request: Request) -> Result<Exit, Failure> {
    match request.out {
        None => output::show(&page()?).map(|_| ())?,
        Some(out) => {
            pages(&out).map_err(|cause| {
                let hint = "name a folder that you may write to".to_owned();
                Failure::new(Exit::Settings, Unwritten { out: out.clone(), cause }, Some(hint))
            })?;
            output::print(&format!("the pages are in {}", out.display()))?;
        }
    }
    Ok(Exit::Fine)
}

fn page() -> Result<String, Failure> {
    let mut page = Vec::new();
    // As in a folder, where `help` has no page.
    let rendered = Man::new(Args::command().disable_help_subcommand(true)).render(&mut page);
    rendered.map_err(|error| Failure::new(Exit::Unexpected, error, None))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn pages(out: &Path) -> io::Result<()> {
    fs::create_dir_all(out)?;
    generate_to(Args::command(), out)
}
