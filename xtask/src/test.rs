//! `cargo xtask test`: all that CI runs, quick parts first; the first failure ends it.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::process::{Beside, ask, cargo, seconds, show};
use crate::project::Project;
use crate::setup;

/// Packages that must stay out of others, whatever features are asked for: who, what.
const ARROWS: [(&str, &[&str]); 6] = [
    ("motorbrain-kernels", &["motorbrain", "motorbrain-actors", "ort", "prost"]),
    ("motorbrain-actors", &["motorbrain", "motorbrain-testing", "opentelemetry", "ort", "tokenizers", "config"]),
    ("motorbrain-protocol", &["motorbrain", "motorbrain-testing", "ort", "tokenizers"]),
    (
        "motorbrain",
        &["axum", "clap", "hyper", "miette", "indicatif", "motorbrain-server", "motorbrain-testing", "opentelemetry"],
    ),
    ("motorbrain-server", &["clap", "miette", "motorbrain-cli", "motorbrain-testing"]),
    ("motorbrain-cli", &["motorbrain-testing"]),
];

/// The same where no feature is asked for: who embeds the library alone, or serves it, compiles none of these.
const ARROWS_WITHOUT_FEATURES: [(&str, &[&str]); 2] = [
    ("motorbrain", &["llguidance", "minijinja", "toktrie"]),
    ("motorbrain-cli", &["opentelemetry", "tracing-opentelemetry"]),
];

/// What cargo checks: a name, and a command line in which no argument holds a space. The first is begun beside
/// set-up, which waits for the network and a single core most of its time.
const LINTS: (&str, &str) = ("lints", "clippy --workspace --all-targets --all-features -- -D warnings");
const CARGO_PARTS: [(&str, &str); 3] = [
    ("format", "fmt --all --check"),
    ("docs", r#"doc --workspace --no-deps --all-features --config build.rustdocflags=["-Dwarnings"]"#),
    ("tests", "test --workspace --all-features"),
];

/// Sets up and runs every part; returns what to do next.
pub(crate) fn run(project: &Project) -> Result<String, Error> {
    let mut parts = Parts::default();
    let (name, command_line) = LINTS;
    let lints = Beside::begin(name, &mut cargo_part(project, command_line))?;
    parts.time("set-up", || setup::provide(project, false).map(drop))?;
    parts.time("arrows", || arrows(project))?;
    parts.python(project)?;
    parts.time(name, || lints.finish())?;
    for (name, command_line) in CARGO_PARTS {
        parts.cargo(project, name, command_line)?;
    }
    parts.print();
    Ok("all parts passed; `cargo xtask lint` runs the linters that are installed".into())
}

fn cargo_part(project: &Project, command_line: &str) -> Command {
    let mut command = cargo();
    command.args(command_line.split(' ')).current_dir(project.root());
    command
}

/// What has been run, how long it took, and how many tests there were.
#[derive(Default)]
struct Parts {
    done: Vec<(&'static str, Duration)>,
    tests: usize,
}

impl Parts {
    fn time(&mut self, name: &'static str, part: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        println!("== {name}");
        let started = Instant::now();
        part()?;
        self.done.push((name, started.elapsed()));
        Ok(())
    }

    fn cargo(&mut self, project: &Project, name: &'static str, command_line: &str) -> Result<(), Error> {
        let mut passed = 0;
        self.time(name, || show(name, &mut cargo_part(project, command_line), |line| passed += passed_tests(line)))?;
        self.tests += passed;
        Ok(())
    }

    fn python(&mut self, project: &Project) -> Result<(), Error> {
        let mut passed = 0;
        self.time("tests of the tools", || {
            // unittest reports on standard error; this line alone comes back on standard output.
            let script = "import sys, unittest; \
                tests = unittest.defaultTestLoader.discover('tools/tests', top_level_dir='tools'); \
                result = unittest.TextTestRunner().run(tests); \
                print('test result:', result.testsRun, 'passed'); \
                sys.exit(not result.wasSuccessful() or not result.testsRun)";
            let mut command = Command::new(project.venv_python());
            command.args(["-c", script]).current_dir(project.root());
            show("tests of the tools", &mut command, |line| passed += passed_tests(line))
        })?;
        self.tests += passed;
        Ok(())
    }

    fn print(&self) {
        println!();
        for (name, elapsed) in &self.done {
            println!("{name:<20} {:>12}", seconds(*elapsed));
        }
        let total = self.done.iter().map(|(_, elapsed)| *elapsed).sum();
        println!("{:<20} {:>12}   {} tests passed", "all", seconds(total), self.tests);
    }
}

/// The number in `test result: ok. 12 passed; ...`, as cargo's test harness prints it.
fn passed_tests(line: &str) -> usize {
    let count = line.strip_prefix("test result: ").and_then(|rest| rest.split(" passed").next());
    count.and_then(|rest| rest.split(' ').next_back()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Asks cargo whether a room depends on what it must not know.
fn arrows(project: &Project) -> Result<(), Error> {
    let with = ARROWS.map(|arrow| (arrow, &["--all-features"][..]));
    let without = ARROWS_WITHOUT_FEATURES.map(|arrow| (arrow, &[][..]));
    for ((package, forbidden), features) in with.into_iter().chain(without) {
        let mut tree = cargo();
        tree.args(["tree", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"]);
        tree.args(["--package", package]).args(features).current_dir(project.root());
        let (status, packages) = ask(&mut tree)?;
        if !status.success() {
            return Err(Error::Failed {
                what: "arrows".into(),
                program: "cargo tree".into(),
                status,
                output: String::new(),
            });
        }
        if let Some(forbidden) = forbidden.iter().find(|name| names(&packages, name)) {
            return Err(Error::Arrow { package, forbidden });
        }
        let alone = if features.is_empty() { " without features" } else { "" };
        println!("{package}{alone} does not depend on {}", forbidden.join(", "));
    }
    Ok(())
}

/// Whether one of the lines `NAME vVERSION ...` is of this package.
fn names(packages: &str, name: &str) -> bool {
    packages.lines().any(|line| line.split(' ').next() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_counted() {
        assert_eq!(passed_tests("test result: ok. 12 passed; 0 failed; 1 ignored"), 12);
        assert_eq!(passed_tests("test result: 13 passed"), 13);
        assert_eq!(passed_tests("test engine::slides ... ok"), 0);
    }

    #[test]
    fn a_package_is_recognised_by_its_whole_name() {
        let packages = "motorbrain-actors v0.1.0\nort-sys v2.0.0\nserde v1.0.0 (*)\n";
        assert!(names(packages, "serde"));
        assert!(names(packages, "ort-sys"));
        assert!(!names(packages, "ort"));
        assert!(!names(packages, "motorbrain"));
    }
}
