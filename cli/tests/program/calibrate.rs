//! `motorbrain calibrate` from outside, on a tiny model: what it writes is what the next start takes, whoever is killed
//! goes on to the same bytes, and each mistake is told.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    thread,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{copy, library};

/// The program on a model, with graphs kept beside it.
fn motorbrain(model: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_motorbrain"));
    command.args(arguments).current_dir(model).env("ORT_DYLIB_PATH", library());
    command.env("MOTORBRAIN__RUNTIME__CACHE", model.path().join("graphs"));
    command
}

/// Its exit status, and what it wrote.
fn run(model: &TempDir, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = motorbrain(model, arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// What a calibration says of itself.
fn calibrated(model: &TempDir, arguments: &[&str]) -> Value {
    let (code, report, errors) = run(model, &[&["calibrate", ".", "--json"], arguments].concat());
    assert_eq!(code, Some(0), "{errors}");
    serde_json::from_str(&report).unwrap()
}

/// A model's folder with so many texts, each another, and half as many pairs of them.
fn folder(count: usize) -> TempDir {
    let folder = copy("tiny-gqa-fp32");
    let text = |at: usize| format!("text {at} is about {} and {}", at * 7919 % 1000, at * 104_729 % 997);
    let texts: Vec<_> = (0..count).map(|at| json!({"text": text(at)}).to_string()).collect();
    let pair = |at: usize| json!({"query": text(2 * at), "document": text(2 * at + 1)}).to_string();
    fs::write(folder.path().join("texts.jsonl"), texts.join("\n")).unwrap();
    fs::write(folder.path().join("pairs.jsonl"), (0..count / 2).map(pair).collect::<Vec<_>>().join("\n")).unwrap();
    folder
}

#[test]
fn what_is_written_is_what_the_next_start_takes() {
    let folder = folder(200);
    let vectors = |change: &str| {
        let retrieval =
            ["eval", "retrieval", "pairs.jsonl", "--limit", "20", "--model", ".", "--json", "--set", change];
        let (code, report, errors) = run(&folder, &retrieval);
        assert_eq!(code, Some(0), "{errors}");
        serde_json::from_str::<Value>(&report).unwrap()["compared"][0].take()
    };
    let of_weights = vectors("embedding.recipe=probe");

    let made = calibrated(&folder, &["--texts", "texts.jsonl", "--limit", "150", "--made-from", "a test"]);
    assert_eq!((&made["used"], &made["held_out"], &made["made_from"]), (&json!(135), &json!(15), &json!("a test")));
    let file = folder.path().join("calibration.safetensors");
    assert_eq!(Some(fs::metadata(&file).unwrap().len()), made["bytes"].as_u64());
    let of_texts = vectors("embedding.recipe=probe");
    assert_ne!(of_texts, of_weights);
    // Whoever has a calibration of a probe's vectors has such vectors.
    assert_eq!(vectors("embedding.normalize=true"), of_texts);

    let made = calibrated(&folder, &["--pairs", "pairs.jsonl", "--out", "pairs.safetensors"]);
    assert_eq!((&made["used"], &made["held_out"]), (&json!(90), &json!(10)));
    assert_ne!(vectors("embedding.calibration=pairs.safetensors"), of_texts);
}

#[test]
fn whoever_is_killed_goes_on_to_the_same_bytes() {
    let folder = folder(1200);
    let path = |name: &str| folder.path().join(name);
    let arguments = |out| ["calibrate", ".", "--texts", "texts.jsonl", "--out", out];
    let mut killed = motorbrain(&folder, &arguments("killed.safetensors")).spawn().unwrap();
    while !path("killed.safetensors.begun").exists() {
        assert!(killed.try_wait().unwrap().is_none(), "it keeps what it has on its way");
        thread::yield_now();
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(!path("killed.safetensors").exists() && path("killed.safetensors.begun").exists());
    for out in ["killed.safetensors", "whole.safetensors"] {
        let (code, _, errors) = run(&folder, &arguments(out));
        assert_eq!(code, Some(0), "{errors}");
    }
    assert!(!path("killed.safetensors.begun").exists(), "what is done is not gone on with");
    let [killed, whole] = ["killed.safetensors", "whole.safetensors"].map(|name| fs::read(path(name)).unwrap());
    assert!(killed == whole);
}

#[test]
fn mistakes_are_told() {
    let folder = folder(40);
    let check = |arguments: &[&str], status: i32, words: &str| {
        let (code, _, errors) = run(&folder, arguments);
        let message = errors.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert_eq!(code, Some(status), "{arguments:?}: {message}");
        assert!(message.contains(words), "{arguments:?} does not say `{words}`: {message}");
    };
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    check(&["calibrate", "."], 2, "--texts");
    check(&["calibrate", ".", "--texts", "nowhere"], 2, "cannot read nowhere");
    check(&["calibrate", ".", "--pairs", "texts.jsonl"], 2, "line 1, has no `query` and `document`");
    write("none.txt", b"");
    check(&["calibrate", ".", "--texts", "none.txt"], 2, "there are 0 texts, expected at least 2");

    let held = ["strange.safetensors", "held.safetensors.begun"];
    held.iter().for_each(|name| write(name, b"somebody's"));
    for out in ["texts.jsonl", "strange.safetensors", "held.safetensors", "."] {
        check(&["calibrate", ".", "--texts", "texts.jsonl", "--out", out], 2, "is there, and is nothing that");
    }
    assert!(held.iter().all(|name| fs::read(folder.path().join(name)).unwrap() == b"somebody's"));
    write("empty.jsonl", b"{\"query\":\"a\",\"document\":\"b\"}\n{\"query\":\"\",\"document\":\"b\"}");
    check(&["calibrate", ".", "--pairs", "empty.jsonl"], 2, "empty.jsonl, line 2");

    calibrated(&folder, &["--texts", "texts.jsonl"]);
    let file = fs::read(folder.path().join("calibration.safetensors")).unwrap();
    let of = |name: &Path| format!("embedding.calibration={}", name.display());
    let retrieval = ["eval", "retrieval", "pairs.jsonl", "--model", ".", "--set", "embedding.recipe=probe", "--set"];
    write("cut.safetensors", &file[..file.len() - 9]);
    check(&[&retrieval[..], &[&of(Path::new("cut.safetensors"))]].concat(), 4, "cut.safetensors");
    let other = copy("tiny-plain");
    fs::copy(folder.path().join("calibration.safetensors"), other.path().join("calibration.safetensors")).unwrap();
    let foreign = ["eval", "retrieval", "pairs.jsonl", "--model", other.path().to_str().unwrap()];
    check(&foreign, 4, "the weights");
}
