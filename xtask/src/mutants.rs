//! `cargo xtask mutants`: takes rules away, one at a time, and sees which test notices.
//!
//! Each mutation of the list is made in a copy of the project, whose actors' tests then run: the simulation, and
//! where that sees nothing the others. One that nobody notices is a rule that nobody holds.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::process::{ask, cargo, seconds};
use crate::project::Project;
use list::{MUTATIONS, Mutation};

mod list;

/// Histories of the simulation for each mutation.
const SEEDS: u64 = 1000;

/// A mutation may keep something from ever ending; the tests themselves take seconds.
const ENDS_WITHIN: Duration = Duration::from_secs(300);

/// The simulation's test.
const SIMULATION: &str = "simulation::whatever_dies_when_every_request_is_answered_once_and_rightly";

/// Makes those mutations whose name has this in it; returns what to do next.
pub(crate) fn run(project: &Project, named: Option<&str>) -> Result<String, Error> {
    let copy = Copy::make(project)?;
    let began = Instant::now();
    let chosen: Vec<&Mutation> =
        MUTATIONS.iter().filter(|it| named.is_none_or(|part| it.name.contains(part))).collect();
    // What fails without a mutation notices nothing.
    match copy.judge()? {
        Outcome::Survived => {}
        outcome => return Err(Error::Mutants { what: format!("without any: {}", outcome.told()) }),
    }
    let mut rows = Vec::new();
    let mut wrong = 0;
    for mutation in &chosen {
        let outcome = copy.try_out(mutation)?;
        wrong += usize::from(!outcome.is_noticed());
        println!("{:<75} {}", mutation.name, outcome.told());
        rows.push(outcome);
    }
    println!("{} mutations in {}", rows.len(), seconds(began.elapsed()));
    match wrong {
        0 => Ok("all mutations are noticed".into()),
        wrong => Err(Error::Mutants { what: format!("{wrong} of {} are not noticed, see above", chosen.len()) }),
    }
}

/// What became of a mutation.
enum Outcome {
    Noticed(String),
    Survived,
    /// Its text is not there, or not once.
    Lost(usize),
    Uncompilable,
}

impl Outcome {
    fn is_noticed(&self) -> bool {
        matches!(self, Self::Noticed(_))
    }

    fn told(&self) -> String {
        match self {
            Self::Noticed(by) => by.clone(),
            Self::Survived => "SURVIVED".to_owned(),
            Self::Lost(count) => format!("LOST: its text stands {count} times in its file"),
            Self::Uncompilable => "DOES NOT COMPILE".to_owned(),
        }
    }
}

/// A copy of the project, with a build folder of its own.
struct Copy {
    root: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// What git knows and does not ignore. What is there unchanged is left alone, for what was built of it.
    fn make(project: &Project) -> Result<Self, Error> {
        let folder = project.target().join("mutants");
        let (root, target) = (folder.join("tree"), folder.join("target"));
        let mut git = Command::new("git");
        git.args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]).current_dir(project.root());
        let (_, files) = ask(&mut git)?;
        for file in files.split('\0').filter(|file| !file.is_empty()) {
            let (from, to) = (project.root().join(file), root.join(file));
            // Deleted and not committed yet.
            let Ok(text) = fs::read(&from) else { continue };
            write(&to, &text)?;
        }
        Ok(Self { root, target })
    }

    fn try_out(&self, mutation: &Mutation) -> Result<Outcome, Error> {
        let path = self.root.join(mutation.path);
        let before = fs::read_to_string(&path).map_err(Error::files("read", &path))?;
        let count = before.matches(mutation.text).count();
        if count != 1 {
            return Ok(Outcome::Lost(count));
        }
        write(&path, before.replace(mutation.text, mutation.by).as_bytes())?;
        let outcome = self.judge();
        write(&path, before.as_bytes())?;
        outcome
    }

    /// Which test fails: the simulation, then the others, which are built only where it sees nothing.
    fn judge(&self) -> Result<Outcome, Error> {
        let runs: [(&[&str], &[&str]); 3] = [
            (&["--test", "all"], &[SIMULATION, "--exact"]),
            (&["--test", "all"], &["--skip", SIMULATION]),
            (&["--lib"], &[]),
        ];
        for (tests, arguments) in runs {
            let Some(program) = self.build(tests)? else { return Ok(Outcome::Uncompilable) };
            let mut command = Command::new(&program);
            command.args(arguments).env("SIMULATION_SEEDS", SEEDS.to_string()).env("RUST_BACKTRACE", "0");
            for failed in failures(&mut command)? {
                if is_real(&program, &failed)? {
                    return Ok(Outcome::Noticed(failed));
                }
            }
        }
        Ok(Outcome::Survived)
    }

    /// Builds some of the actors' tests: the program, or nothing where that cannot be.
    fn build(&self, tests: &[&str]) -> Result<Option<PathBuf>, Error> {
        let mut build = cargo();
        build.args(["test", "--package", "motorbrain-actors", "--no-run", "--message-format", "json"]).args(tests);
        build.stderr(Stdio::null());
        let (_, messages) = ask(build.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target))?;
        Ok(messages.lines().find_map(executable))
    }
}

/// A test program's path, from cargo's message about it.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    Some(message.get("executable")?.as_str()?.into())
}

/// Whether a test fails again: on a busy machine one of real threads may fail once for no reason.
fn is_real(program: &Path, failed: &str) -> Result<bool, Error> {
    if failed.contains(' ') {
        return Ok(true); // a seed: it has no choice
    }
    for _ in 0..2 {
        let mut again = Command::new(program);
        again.args([failed, "--exact"]).env("SIMULATION_SEEDS", SEEDS.to_string()).env("RUST_BACKTRACE", "0");
        if failures(&mut again)?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The tests that fail; the simulation with its seed.
fn failures(command: &mut Command) -> Result<Vec<String>, Error> {
    let start = |cause| Error::Start { program: "the actors' tests".to_owned(), cause };
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(start)?;
    let output = child.stdout.take().map(|pipe| thread::spawn(|| telling(pipe)));
    let errors = child.stderr.take().map(|pipe| thread::spawn(|| telling(pipe)));
    let began = Instant::now();
    let status = loop {
        match child.try_wait().map_err(start)? {
            Some(status) => break Some(status),
            None if began.elapsed() > ENDS_WITHIN => break None,
            None => thread::sleep(Duration::from_millis(50)),
        }
    };
    if status.is_none() {
        child.kill().map_err(start)?;
        child.wait().map_err(start)?;
    }
    let mut told: Vec<String> =
        [errors, output].into_iter().flatten().filter_map(|told| told.join().ok()).flatten().collect();
    told.sort_by_key(|told| !told.starts_with("seed "));
    Ok(match status {
        Some(status) if status.success() => Vec::new(),
        Some(_) => told,
        None => vec![format!("not over after {}", seconds(ENDS_WITHIN))],
    })
}

/// The lines that name a seed or a test that failed.
fn telling(pipe: impl Read) -> Vec<String> {
    let lines = BufReader::new(pipe).split(b'\n').map_while(Result::ok);
    let tells = |line: Vec<u8>| {
        let line = String::from_utf8_lossy(&line);
        let failed = line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED"));
        let told = failed.or_else(|| line.starts_with("seed ").then_some(&*line));
        told.map(|told| told.chars().take(120).collect())
    };
    lines.filter_map(tells).collect()
}

/// Writes a file where it does not say so already.
fn write(path: &Path, text: &[u8]) -> Result<(), Error> {
    if fs::read(path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::files("create", folder))?;
    }
    fs::write(path, text).map_err(Error::files("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutation_stands_once_in_the_code_and_changes_it() {
        let project = Project::here();
        for Mutation { name, path, text, by } in MUTATIONS {
            let code = fs::read_to_string(project.root().join(path)).unwrap_or_default();
            assert_eq!(code.matches(text).count(), 1, "{name}: its text in {path}");
            assert_ne!(text, by, "{name}");
        }
    }

    #[test]
    fn the_test_that_failed_is_named() {
        let output = "running 2 tests\ntest a::b ... ok\ntest a::c ... FAILED\nfailures:\n";
        assert_eq!(telling(output.as_bytes()), ["a::c"]);
        let output = "   12 Timer\nseed 7, 3 of 50 things that callers do: never answered\n";
        assert_eq!(telling(output.as_bytes()), ["seed 7, 3 of 50 things that callers do: never answered"]);
        assert!(telling(&b"test a::b ... ok\n"[..]).is_empty());
    }
}
