//! What clap writes of the command line for shells and for `man`.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{collections::BTreeSet, fs, process::Command};

fn written(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_motorbrain")).args(arguments).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that `--help` lists.
fn commands() -> Vec<String> {
    let help = written(&["--help"]);
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_shell_completes_every_command() {
    let commands = commands();
    assert!(commands.len() > 12 && commands.iter().any(|name| name == "chat"), "{commands:?}");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = written(&["completions", shell]);
        for name in commands.iter().map(String::as_str).chain(["--temperature"]) {
            // fish has its options without their dashes.
            let found = script.contains(name) || shell == "fish" && script.contains(name.trim_start_matches('-'));
            assert!(found, "{shell} does not know {name}");
        }
    }
}

#[test]
fn there_is_a_page_for_the_program_and_for_each_command() {
    let page = written(&["man"]);
    assert!(page.contains(".TH motorbrain 1"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("share/man1");
    written(&["man", "--out", out.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(out.join("motorbrain.1")).unwrap(), page);
    let pages: BTreeSet<String> =
        fs::read_dir(&out).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    for name in commands() {
        assert!(page.contains(&format!("motorbrain\\-{name}(1)")), "{name}: {page}");
        assert!(pages.contains(&format!("motorbrain-{name}.1")), "{name}: {pages:?}");
    }
    let chat = fs::read_to_string(out.join("motorbrain-chat.1")).unwrap();
    assert!(chat.contains("\\-\\-system") && chat.contains("Examples:"), "{chat}");
}
