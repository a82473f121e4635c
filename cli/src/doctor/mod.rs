//! `motorbrain doctor`: what was found where, and what to do about each thing that is wrong.
//!
//! It looks at everything it can, in the order in which a start would, and does not stop at the first
//! mistake: a missing library says nothing about the model.

mod examine;
mod findings;

use motorbrain::{
    StartError,
    model::{Manifest, ModelError},
};
use tokio::task::spawn_blocking;

use crate::{args::Common, exit::Exit, failure::Failure, output};
use findings::Findings;

/// Looks, prints, and gives the exit status of the first thing that is wrong.
pub(crate) async fn run(common: &Common, json: bool, write_manifest: bool) -> Result<Exit, Failure> {
    let common = common.clone();
    let examined = spawn_blocking(move || {
        if write_manifest {
            self::write_manifest(&common)?;
        }
        let mut findings = Findings::new();
        examine::everything(&common, &mut findings);
        Ok::<_, Failure>(findings)
    });
    let findings = examined.await.map_err(|panic| Failure::new(Exit::Unexpected, panic, None))??;
    if json {
        output::print_json(&findings)?;
    } else {
        output::print(&findings.table())?;
    }
    Ok(findings.exit())
}

fn write_manifest(common: &Common) -> Result<(), Failure> {
    let options = motorbrain::model_options(&common.settings()?)?;
    Manifest::write(&options.dir).map_err(|error| StartError::from(ModelError::from(error)))?;
    Ok(())
}
