//! `cargo xtask setup`: stages, each done once: Python environment, runtime library, each form of the model.
//!
//! A stage whose stamp is good is not touched, so a second run needs neither network nor time. All
//! stages run under one lock, which the system releases when this program ends, however it ends.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::error::Error;
use crate::process::seconds;
use crate::project::Project;
use crate::stamp::Stage;
use crate::{model, python, runtime};

/// Runs the task; returns what to do next.
pub(crate) fn run(project: &Project, force: bool, check: bool) -> Result<String, Error> {
    let _lock = provide(project, force)?;
    if check {
        model::check(project)?;
    }
    Ok("`cargo xtask demo` shows it alive, `cargo xtask test` runs all tests".into())
}

/// Provides what is lacking; the lock is held for as long as the returned file lives.
pub(crate) fn provide(project: &Project, force: bool) -> Result<File, Error> {
    provide_forms(project, &[model::DEFAULT, model::F32], force)
}

/// Provides what it takes to run the default model, and no more.
pub(crate) fn provide_default(project: &Project) -> Result<File, Error> {
    provide_forms(project, &[model::DEFAULT], false)
}

fn provide_forms(project: &Project, forms: &[&'static str], force: bool) -> Result<File, Error> {
    let started = Instant::now();
    let home = project.home();
    fs::create_dir_all(&home).map_err(Error::files("make", &home))?;
    let lock = lock(&home.join("setup.lock"))?;

    let requirements = project.tool("requirements.txt");
    let packages = std::slice::from_ref(&requirements);
    let mut converter = scripts(&project.tool(""))?;
    converter.extend([project.tool("model.txt"), model::calibration(project)]);

    stage(project, "venv", packages, force, python::make_venv)?;
    stage(project, "runtime", packages, force, runtime::copy_library)?;
    for &form in forms {
        stage(project, form, &converter, force, |project| model::convert(project, form))?;
    }
    if forms.contains(&model::F32) {
        model::remove_download(project)?;
    }
    println!("set-up: complete ({}), in {}", seconds(started.elapsed()), home.display());
    Ok(lock)
}

/// Does one stage unless it is done; `make` returns the files it has made.
pub(crate) fn stage(
    project: &Project,
    name: &'static str,
    sources: &[PathBuf],
    force: bool,
    make: impl FnOnce(&Project) -> Result<Vec<PathBuf>, Error>,
) -> Result<(), Error> {
    let home = project.home();
    let stage = Stage::new(&home, name, sources)?;
    if !force && stage.is_done() {
        return Ok(());
    }
    let files: Vec<PathBuf> =
        make(project)?.into_iter().map(|file| file.strip_prefix(&home).map(Path::to_owned).unwrap_or(file)).collect();
    stage.finish(&files)
}

/// The Python sources of a folder, in a fixed order.
pub(crate) fn scripts(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).map_err(Error::files("read", folder))?;
    let mut scripts: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "py"))
        .collect();
    scripts.sort();
    Ok(scripts)
}

/// Takes the lock, waiting for another run where there is one.
fn lock(path: &Path) -> Result<File, Error> {
    let file = File::create(path).map_err(Error::files("make", path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {
            println!("another `cargo xtask` is setting up; waiting for it")
        }
        Err(TryLockError::Error(cause)) => return Err(Error::files("lock", path)(cause)),
    }
    file.lock().map_err(Error::files("lock", path))?;
    Ok(file)
}
