//! `motorbrain generate`: what comes to standard output, and what ends it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    io::Read as _,
    process::{Child, Command},
};

use serde_json::{Value, json};

use crate::{
    pipe::Pipe,
    ran::{Ran, command, objects},
};

const MODEL: &str = "tiny-gqa-fp32";

/// More tokens than are sampled while a test looks.
const ENDLESS: &str = "60000";

fn generate(arguments: &[&str]) -> Command {
    command(MODEL, &[&["generate"], arguments].concat())
}

/// What the pipe answers to the same.
fn step(more: Value) -> Value {
    let mut step = json!({"id": 1, "op": "step", "conversation": "a", "text": "the man"});
    step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Pipe::start(MODEL, &[]).ask(&step)["ok"].clone()
}

#[test]
fn a_text_goes_on_wherever_its_beginning_comes_from() {
    let expected = step(json!({"count": 12}));
    let text = expected["text"].as_str().unwrap();
    assert!(!text.is_empty());
    assert_eq!(Ran::well(generate(&["--count", "12", "the", "man"]), ""), text);
    assert_eq!(Ran::well(generate(&["--max-tokens", "12"]), "the man\n"), text);
    assert_eq!(objects(&Ran::well(generate(&["--count", "12", "--json", "the man"]), "")), [expected]);
    let drawn = json!({"count": 12, "temperature": 2, "top_k": 50, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2,
        "presence_penalty": -1, "frequency_penalty": -0.5, "seed": 7});
    let flags = "--count 12 --temperature 2 --top-k 50 --top-p 0.9 --min-p 0.01 --repetition-penalty 1.2 \
        --presence-penalty -1 --frequency-penalty -0.5 --seed 7 --json";
    let flags: Vec<&str> = flags.split_whitespace().collect();
    assert_eq!(objects(&Ran::well(generate(&flags), "the man")), [step(drawn)]);
}

#[test]
fn it_ends_before_a_stop_text() {
    let whole = Ran::well(generate(&["--count", "30", "the man"]), "");
    let stop: String = whole.chars().skip(whole.chars().count() / 2).take(2).collect();
    let (before, _) = whole.split_once(&stop).unwrap();
    let stopped = generate(&["--count", "30", "--stop", "not this", "--stop", &stop, "the man"]);
    assert_eq!(Ran::well(stopped, ""), before);
}

#[test]
fn what_it_writes_is_held_to_a_schema_or_a_regular_expression() {
    let year = Ran::well(generate(&["--regex", "in [0-9]{4}", "the man"]), "");
    assert!(year.strip_prefix("in ").is_some_and(|year| year.len() == 4 && year.parse::<u32>().is_ok()), "{year}");
    let folder = tempfile::tempdir().unwrap();
    let schema = folder.path().join("schema.json");
    fs::write(&schema, json!({"enum": ["up", "other"]}).to_string()).unwrap();
    let schema = schema.to_str().unwrap();
    let chosen: Value = serde_json::from_str(&Ran::well(generate(&["--schema", schema, "the man"]), "")).unwrap();
    assert!(chosen == "up" || chosen == "other", "{chosen}");
    fs::write(schema, "{").unwrap();
    for (arguments, words) in [
        (["--schema", schema], "holds no JSON schema"),
        (["--regex", "("], "this regular expression cannot be held to"),
        (["--temperature", "-0"], "unexpected argument"),
        (["--top-p", "2"], "top_p is 2"),
    ] {
        let ran = Ran::of(generate(&arguments), "the man");
        assert!(ran.code == Some(2) && ran.stdout.is_empty() && ran.tells(words), "{ran:?}");
    }
    let empty = Ran::of(generate(&[]), "\n");
    assert!(empty.code == Some(2) && empty.tells("empty"), "{empty:?}");
}

/// A text under way, and what was read of it: a beginning of so many bytes.
fn under_way(count: &str) -> (Child, Vec<u8>) {
    let arguments = ["--count", count, "--temperature", "1", "--seed", "1", "the man"];
    let mut child = generate(&arguments).spawn().unwrap();
    let mut begun = vec![0; 20];
    child.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    (child, begun)
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let (mut child, _) = under_way(ENDLESS);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_it_with_the_text_so_far() {
    let (child, begun) = under_way(ENDLESS);
    crate::signal::interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(130), &b""[..]));
    let found = [begun, output.stdout].concat();
    let (child, begun) = under_way("50");
    let expected = [begun, child.wait_with_output().unwrap().stdout].concat();
    let both = found.len().min(expected.len());
    assert_eq!(found[..both], expected[..both]);
}
