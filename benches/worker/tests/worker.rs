//! The worker answers on a fixture what it is asked on real models.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

/// Sends all requests, returns all answers.
fn ask(requests: &[Value]) -> Vec<Value> {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_motorbrain-bench"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = worker.stdin.take().unwrap();
    for request in requests {
        writeln!(stdin, "{request}").unwrap();
    }
    drop(stdin);
    let output = worker.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn load() -> Value {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny-gqa-fp32");
    json!({ "op": "load", "model": fixture, "window": 512 })
}

fn assert_positive(answer: &Value, fields: &[&str]) {
    for field in fields {
        let number = answer["ok"][field].as_f64();
        assert!(number.is_some_and(|number| number > 0.0), "{field} of {answer}");
    }
}

#[test]
fn every_scenario_is_answered() {
    let answers = ask(&[
        load(),
        json!({ "op": "open", "conversations": 3, "context": 8 }),
        json!({ "op": "decode", "conversations": 2, "tokens": 4 }),
        json!({ "op": "memory" }),
        json!({ "op": "prefill", "tokens": 16 }),
        json!({ "op": "embed", "tokens": 16 }),
        json!({ "op": "turn", "tokens": 4 }),
        json!({ "op": "decode", "conversations": 3, "tokens": 4, "sampled": true, "steps": true }),
        json!({ "op": "latency", "streams": 2, "context": 8, "long": 256 }),
    ]);
    for answer in answers.iter().take(3).chain(&answers[4..8]) {
        assert_positive(answer, &["seconds"]);
    }
    assert_positive(&answers[0], &["first_seconds"]);
    assert_positive(&answers[3], &["rss", "anonymous", "kv_bytes", "kv_bytes_per_token"]);
    let latency = &answers[8];
    assert_positive(latency, &["alone_seconds", "among_seconds"]);
    let gaps = |name: &str| latency["ok"][name].as_array().unwrap().len();
    // Of as many tokens, and one conversation may have made more of them beside the prompt.
    assert!(gaps("undisturbed") > 0 && gaps("disturbed") > 0, "{latency}");
}

#[test]
fn vectors_are_measured_beside_what_they_are_to_cost() {
    let mut asked = load();
    (asked["op"], asked["rounds"]) = (json!("embedding"), json!(1));
    let answers = ask(&[asked]);
    for part in ["probe", "short", "rerank"] {
        for field in ["seconds", "beside_seconds", "ratio"] {
            assert!(answers[0]["ok"][part][field].as_f64().is_some_and(|number| number > 0.0), "{}", answers[0]);
        }
    }
}

#[test]
fn chats_and_vectors_are_measured_in_one_mix() {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(load()["model"].as_str().unwrap()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let template = "{% for message in messages %}{{ message.content }}{% endfor %}";
    let config = json!({ "chat_template": template }).to_string();
    fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
    let mix = json!({ "chats": 2, "embeds": 2, "tokens": 8 });
    let target = json!({ "library": { "model": folder.path(), "window": 512 } });
    let answers = ask(&[json!({ "op": "door", "target": target, "mix": mix, "seconds": 1.0 })]);
    assert_positive(&answers[0], &["tokens_per_second", "vectors_per_second"]);
    let first = &answers[0]["ok"]["first"];
    assert!(first["p50"].as_f64() > Some(0.0) && first["p50"].as_f64() <= first["p99"].as_f64(), "{first}");
    assert!(answers[0]["ok"]["resident"]["second_half"].as_f64() > Some(0.0), "{}", answers[0]);
}

#[test]
fn a_bare_engine_answers_beside_actors_and_what_nobody_knows_is_an_error() {
    let answers = ask(&[
        load(),
        json!({ "op": "open", "conversations": 2, "context": 8, "bare": true }),
        json!({ "op": "open", "conversations": 1, "context": 8 }),
        json!({ "op": "decode", "conversations": 2, "tokens": 4, "bare": true }),
        json!({ "op": "sing" }),
    ]);
    for answer in &answers[..4] {
        assert_positive(answer, &["seconds"]);
    }
    assert!(answers[4]["error"].as_str().unwrap().contains("sing"), "{}", answers[4]);
}
