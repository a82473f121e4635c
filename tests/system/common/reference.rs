//! The reference conversations: what transformers answers, and ONNX Runtime alone.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use motorbrain::TokenId;
use serde_json::{Value, json};

use super::{fixture, root};

/// The turns of each conversation of `fixtures/reference.json`.
pub(crate) fn references() -> Vec<Vec<Value>> {
    serde_json::from_str(&std::fs::read_to_string(fixture("reference.json")).unwrap()).unwrap()
}

pub(crate) fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

pub(crate) fn ids(value: &Value) -> Vec<TokenId> {
    value.as_array().unwrap().iter().map(|x| TokenId(x.as_u64().unwrap() as u32)).collect()
}

/// The answers of the graph in `dir` with the same cuts as the reference conversations, by ONNX Runtime
/// from set-up's Python, without any code of this project; `None`: at the graph's own accuracy level.
pub(crate) fn run_cuts(dir: &Path, references: &[Vec<Value>], accuracy_level: Option<u32>) -> Value {
    let turn =
        |turn: &Value| json!({"token_ids": turn["token_ids"], "count": turn["generated"].as_array().unwrap().len()});
    let conversations: Vec<Vec<Value>> = references.iter().map(|turns| turns.iter().map(turn).collect()).collect();
    let job =
        json!({"model": dir.join("model.onnx"), "accuracy_level": accuracy_level, "conversations": conversations});
    let root = root();
    let python = root.join(".motorbrain/venv/bin/python");
    let mut child = Command::new(&python)
        .arg(root.join("tests/run_cuts.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask setup` first", python.display()));
    child.stdin.take().unwrap().write_all(job.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}
