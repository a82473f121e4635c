//! The arrows between the rooms of `src/`, read from the `use` lines: lib -> engine -> model.
//! Those between packages (`actors` knows no ONNX) are cargo's, and `cargo xtask test` asks it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{fs, path::Path};

/// Every line of Rust below `src/room` that is neither comment nor blank, with its file.
fn lines(room: &str) -> Vec<(String, String)> {
    fn collect(folder: &Path, lines: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, lines);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("//"));
                lines.extend(code.map(|line| (path.display().to_string(), line.to_owned())));
            }
        }
    }
    let mut found = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room), &mut found);
    assert!(!found.is_empty(), "src/{room} is gone; mend this test");
    found
}

fn never_names(room: &str, forbidden: &[&str]) {
    for (file, line) in lines(room) {
        for word in forbidden {
            assert!(!line.contains(word), "{file} must not name `{word}`: {line}");
        }
    }
}

#[test]
fn model_starts_no_session_and_knows_no_settings() {
    never_names("model", &["crate::engine", "crate::settings", "ort::", "use ort"]);
}

#[test]
fn engine_reads_no_configuration() {
    never_names("engine", &["crate::settings", "crate::library", "std::env"]);
}

#[test]
fn what_lies_outside_of_memory_knows_neither_sessions_nor_settings() {
    for room in ["spill", "transfer"] {
        never_names(room, &["crate::settings", "crate::model", "ort::", "use ort", "println!"]);
    }
}

#[test]
fn calibrations_know_neither_sessions_nor_settings() {
    never_names("calibration", &["crate::settings", "ort::", "use ort", "println!"]);
}

#[test]
fn chats_know_neither_engines_nor_settings() {
    never_names("chat", &["crate::engine", "crate::settings", "ort::", "println!"]);
}

#[test]
fn the_library_never_prints() {
    never_names("model", &["println!", "eprintln!"]);
    never_names("engine", &["println!", "eprintln!"]);
}
