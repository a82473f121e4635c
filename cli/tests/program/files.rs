//! Conversations that go from one process to another as files, through their pipes.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::pipe::{Pipe, code};

const FILES: &[&str] = &["--allow-files"];

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a conversation");
    (folder, file)
}

fn read(conversation: &str) -> Value {
    json!({"id": 1, "op": "step", "conversation": conversation, "text": "Once upon a time there was", "count": 12})
}

fn next(conversation: &str) -> Value {
    json!({"id": 2, "op": "step", "conversation": conversation, "text": " and then", "count": 50, "temperature": 1, "seed": 5})
}

fn export(conversation: &str, path: &Path) -> Value {
    json!({"id": 3, "op": "export", "conversation": conversation, "path": path})
}

fn import(conversation: &str, path: &Path) -> Value {
    json!({"id": 4, "op": "import", "conversation": conversation, "path": path})
}

/// Without what is the same for all.
fn with(mut request: Value, key: &str, value: Value) -> Value {
    request[key] = value;
    request
}

#[test]
fn a_conversation_goes_on_in_another_process_from_its_file() {
    for model in ["tiny-gqa-fp32", "tiny-plain"] {
        let (_folder, file) = place();
        let mut here = Pipe::start(model, FILES);
        // In one go: what is exported is what the lines before have made of it.
        for request in [read("a"), export("a", &file), next("a")] {
            here.send(request.to_string());
        }
        let mut replies = [here.next(), here.next(), here.next()];
        replies.sort_by_key(|reply| reply["id"].as_u64());
        let [read, expected, exported] = replies;
        assert_eq!(exported["ok"]["context_len"], read["ok"]["context_len"], "{exported}");
        assert_eq!(exported["ok"]["bytes"], fs::metadata(&file).unwrap().len());

        let mut there = Pipe::start(model, FILES);
        let imported = there.ask(&import("b", &file));
        assert_eq!(imported["ok"]["context_len"], read["ok"]["context_len"], "{imported}");
        let inspected = there.ask(&json!({"id": 5, "op": "inspect", "conversation": "b"}));
        assert_eq!(inspected["ok"]["dwelling"], "resident", "{inspected}");
        assert_eq!(there.ask(&next("b"))["ok"], expected["ok"]);
        let again = there.ask(&import("b", &file));
        assert_eq!(code(&again), "conversation_exists");
        assert_eq!(code(&there.ask(&export("nobody", &file))), "unknown_conversation");
    }
}

#[test]
fn without_leave_no_file_is_touched() {
    let (folder, file) = place();
    let mut pipe = Pipe::start("tiny-plain", &[]);
    pipe.ask(&read("a"));
    for request in [export("a", &file), import("b", &file)] {
        let reply = pipe.ask(&request);
        assert_eq!(code(&reply), "bad_request");
        assert!(reply["error"]["message"].as_str().unwrap().contains("--allow-files"), "{reply}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_is_there_is_not_overwritten_and_what_is_no_conversation_is_said() {
    let (folder, file) = place();
    let mut pipe = Pipe::start("tiny-plain", FILES);
    pipe.ask(&read("a"));
    fs::write(&file, "precious").unwrap();
    let said = |reply: Value, words: &str| {
        assert_eq!(code(&reply), "bad_request");
        assert!(reply["error"]["message"].as_str().unwrap().contains(words), "{reply}");
    };
    said(pipe.ask(&export("a", &file)), "is there already, expected one that is not there yet");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    said(pipe.ask(&import("b", &file)), "holds no conversation");
    said(pipe.ask(&import("b", &folder.path().join("nothing"))), "cannot be read: ");
    said(pipe.ask(&import("b", folder.path())), "not a regular file");
    said(pipe.ask(&export("a", &folder.path().join("no folder/file"))), "cannot be written: ");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    assert!(pipe.ask(&next("a"))["error"].is_null());
}

#[test]
fn what_does_not_fit_is_a_mismatch_or_too_large_and_its_tokens_are_taken_alone() {
    let (_folder, file) = place();
    let mut here = Pipe::start("tiny-gqa-fp32", FILES);
    let len = here.ask(&read("a"))["ok"]["context_len"].clone();
    assert!(here.ask(&export("a", &file))["error"].is_null());
    let small = ["--allow-files", "--set", "memory.kv_bytes=4096"];
    for (model, arguments, expected) in [
        ("tiny-plain", FILES, "mismatch"),
        ("tiny-gqa-fp32", &["--allow-files", "--set", "window.size=40"], "mismatch"),
        ("tiny-gqa-fp32", &small, "too_large"),
    ] {
        let mut there = Pipe::start(model, arguments);
        let refused = there.ask(&import("b", &file));
        assert_eq!(code(&refused), expected, "{refused}");
        let alone = there.ask(&with(import("b", &file), "tokens_only", json!(true)));
        assert_eq!(alone["ok"]["context_len"], len, "{alone}");
    }
}
