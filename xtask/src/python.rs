//! The Python interpreter and the tools' virtual environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::process::{ask, watch};
use crate::project::{Project, interpreter};

/// Where an interpreter may be found, the usual name first.
const CANDIDATES: [&str; 6] = ["python3", "python", "python3.14", "python3.13", "python3.12", "python3.11"];
const VERSION_MIN: (u32, u32) = (3, 11);
/// Prints the version first, so that it is known even where an import fails.
const PROBE: &str = "import sys; print('%d.%d' % sys.version_info[:2], flush=True); import venv, ensurepip";

/// Makes the tools' virtual environment anew; returns the files that show it is there.
pub(crate) fn make_venv(project: &Project) -> Result<Vec<PathBuf>, Error> {
    make_venv_in(&project.venv(), &project.tool("requirements.txt"), "python packages (some 80 MB)")
}

/// Makes a virtual environment anew and installs into it; returns the files that show it is there.
pub(crate) fn make_venv_in(venv: &Path, requirements: &Path, what: &'static str) -> Result<Vec<PathBuf>, Error> {
    let python = find()?;
    // Written last and removed first, so that half an environment is never taken for a whole one.
    let complete = venv.join("complete");
    if complete.exists() {
        fs::remove_file(&complete).map_err(Error::files("remove", &complete))?;
    }
    if venv.exists() {
        fs::remove_dir_all(venv).map_err(Error::files("remove", venv))?;
    }
    let mut create = Command::new(&python);
    create.args(["-m", "venv"]).arg(venv);
    watch("python environment", &mut create)?;

    let mut install = checked(pip_of(&interpreter(venv), "install"));
    install.arg("--requirement").arg(requirements);
    watch(what, &mut install)?;

    fs::write(&complete, "").map_err(Error::files("write", &complete))?;
    Ok(vec![interpreter(venv), complete])
}

/// `pip COMMAND`, in the tools' virtual environment, with nothing but checked wheels allowed.
pub(crate) fn pip(project: &Project, command: &str) -> Command {
    checked(pip_of(&project.venv_python(), command))
}

/// `pip COMMAND` of an interpreter.
pub(crate) fn pip_of(python: &Path, command: &str) -> Command {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", command]);
    pip
}

fn checked(mut pip: Command) -> Command {
    pip.args(["--require-hashes", "--only-binary", ":all:"]);
    pip
}

/// The wheel in a folder that holds one.
pub(crate) fn only_wheel(folder: &Path) -> Result<PathBuf, Error> {
    let entries = fs::read_dir(folder).map_err(Error::files("read", folder))?;
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| Error::files("find a wheel in", folder)(std::io::ErrorKind::NotFound.into()))
}

/// One of `tools/*.py`, in the virtual environment.
pub(crate) fn tool(project: &Project, script: &str) -> Command {
    let mut tool = Command::new(project.venv_python());
    tool.arg(project.tool(script));
    tool
}

/// The first interpreter that will do: `PYTHON` where it is set, else one of the usual names.
fn find() -> Result<PathBuf, Error> {
    let chosen = std::env::var("PYTHON").ok();
    let candidates = match &chosen {
        Some(python) => vec![python.as_str()],
        None => CANDIDATES.to_vec(),
    };
    let mut tried = Vec::new();
    for candidate in candidates {
        let answer = ask(Command::new(candidate).args(["-c", PROBE]));
        match answer.map(|(status, version)| judge(&version, status.success())) {
            Ok(Ok(())) => return Ok(candidate.into()),
            Ok(Err(why)) => tried.push(format!("{candidate} ({why})")),
            Err(_) => tried.push(format!("{candidate} (not found)")),
        }
    }
    Err(Error::NoPython { tried })
}

/// Whether an interpreter of this version will do, else why not.
fn judge(version: &str, imports: bool) -> Result<(), String> {
    let version = version.trim();
    let numbers = version.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    match numbers {
        None => Err("does not run".to_owned()),
        Some(found) if found < VERSION_MIN => Err(format!("version {version}")),
        Some(_) if !imports => Err(format!("version {version} without venv or pip")),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_is_judged_by_version_and_modules() {
        assert_eq!(judge("3.11\n", true), Ok(()));
        assert_eq!(judge("4.0", true), Ok(()));
        assert_eq!(judge("3.9\n", true), Err("version 3.9".into()));
        assert_eq!(judge("3.12", false), Err("version 3.12 without venv or pip".into()));
        assert_eq!(judge("", false), Err("does not run".into()));
    }
}
