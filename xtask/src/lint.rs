//! `cargo xtask lint`: linters that not every machine has. Those that are missing are named, not
//! failed; CI's own files are checked with them before they are changed.

use std::process::{Command, Stdio};

use crate::error::Error;
use crate::process::show;
use crate::project::Project;

/// Name, command line, and how to get it.
const LINTERS: [(&str, &[&str], &str); 4] = [
    ("cargo-deny", &["cargo-deny", "--workspace", "--all-features", "check"], "cargo install cargo-deny"),
    ("zizmor", &["zizmor", "--offline", ".github"], "pip install zizmor"),
    (
        "check-jsonschema",
        &["check-jsonschema", "--builtin-schema", "vendor.github-workflows", ".github/workflows/ci.yml"],
        "pip install check-jsonschema",
    ),
    ("typos", &["typos"], "cargo install typos-cli"),
];

/// Runs those that are installed, all of them even if one complains; returns what to do next.
pub(crate) fn run(project: &Project) -> Result<String, Error> {
    let mut complained = Vec::new();
    for (name, command, how) in LINTERS {
        if !is_installed(name) {
            println!("== {name}: not installed ({how})");
            continue;
        }
        println!("== {name}");
        let mut linter = Command::new(command[0]);
        linter.args(&command[1..]).current_dir(project.root());
        match show(name, &mut linter, |_| ()) {
            Err(Error::Failed { .. }) => complained.push(name),
            outcome => outcome?,
        }
    }
    if complained.is_empty() {
        Ok("`cargo xtask test` runs all tests".into())
    } else {
        Err(Error::Lint { names: complained })
    }
}

fn is_installed(program: &str) -> bool {
    let version = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}
