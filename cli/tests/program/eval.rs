//! `motorbrain eval` from outside, on tiny models: what it measures is in its JSON, what it prints is the same, and
//! each mistake is told before a model is loaded.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{fixture, library, root};

const SETTINGS: i32 = 2;

/// `motorbrain eval` in a folder with pairs, vectors and a text.
fn eval(folder: &TempDir, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_motorbrain"));
    command.arg("eval").args(arguments).current_dir(folder).env("ORT_DYLIB_PATH", library());
    command.env("MOTORBRAIN__RUNTIME__CACHE", folder.path().join("graphs"));
    command.arg("--model").arg(fixture("tiny-gqa-fp32"));
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// What it writes as JSON.
fn json(folder: &TempDir, arguments: &[&str]) -> Value {
    let (code, report, errors) = eval(folder, &[arguments, &["--json"]].concat());
    assert_eq!(code, Some(0), "{errors}");
    serde_json::from_str(&report).unwrap()
}

/// A folder with four pairs, of which three are of the same words, vectors that find two, and a text.
fn texts() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let pairs = [
        ("read all lines", "fn read_lines() {}"),
        ("add two numbers", "fn addTwoNumbers() {}"),
        ("open the door", "fn open_door() {}"),
        ("nothing alike", "struct Other;"),
    ];
    let lines = pairs.map(|(query, document)| serde_json::json!({"query": query, "document": document}).to_string());
    fs::write(folder.path().join("pairs.jsonl"), lines.join("\n")).unwrap();
    let vectors = [([5, 0, 1], [1, 0, 0]), ([0, 5, 1], [0, 1, 0]), ([0, -1, 0], [1, 1, 0]), ([-1, 0, 0], [0, 1, 1])];
    let lines = vectors.map(|(query, document)| serde_json::json!({"query": query, "document": document}).to_string());
    fs::write(folder.path().join("vectors.jsonl"), lines.join("\n")).unwrap();
    fs::copy(root().join("tools/texts/english.txt"), folder.path().join("text.txt")).unwrap();
    folder
}

#[test]
fn retrieval_compares_variants_with_others_and_with_words() {
    let folder = texts();
    let arguments = [
        "retrieval",
        "pairs.jsonl",
        "--variant",
        "mean: embedding.pooling=mean",
        "--variant",
        "last: embedding.pooling=last",
        "--dims",
        "4,100000",
        "--vectors",
        "other=vectors.jsonl",
        "--plot",
        "plot.svg",
    ];
    let found = json(&folder, &arguments);
    let rows = found["compared"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| (row["name"].as_str().unwrap(), row["dim"].as_u64())).collect();
    // As many numbers as there are, where more are asked for.
    let hidden = names[1].1;
    assert_eq!(
        names,
        [("mean", Some(4)), ("mean", hidden), ("last", Some(4)), ("last", hidden), ("other", Some(3)), ("BM25", None)]
    );
    let recall = |row: usize, way: &str| rows[row][way]["recall_at_1"]["value"].as_f64().unwrap();
    // By hand: the query of the last pair is nobody's word, and its ties help nobody.
    assert_eq!((recall(5, "query_to_document"), recall(5, "document_to_query")), (0.75, 0.75));
    // By hand: the first two find each other, (0,-1,0) is nearest to (1,0,0), and (-1,0,0) as near to (0,1,0) as to its own.
    assert_eq!((recall(4, "query_to_document"), recall(4, "document_to_query")), (0.5, 0.5));
    assert!(rows[0]["against_the_first"].is_null() && rows[5]["against_the_first"]["value"].is_f64());
    assert_eq!(found["table"]["rows"].as_array().unwrap().len(), 6);
    assert_eq!(found, json(&folder, &arguments), "the same twice");
    assert!(fs::read_to_string(folder.path().join("plot.svg")).unwrap().contains("BM25"));
}

#[test]
fn a_window_that_has_not_slid_predicts_like_one_that_is_read_again() {
    let folder = texts();
    let arguments =
        ["perplexity", "text.txt", "--windows", "64", "--tokens", "800", "--after", "0,1,10", "--plot", "p.svg"];
    let found = json(&folder, &arguments);
    let rows = found["found"].as_array().unwrap();
    let spans: Vec<_> = rows.iter().map(|row| (row["after_windows"].as_u64(), row["tokens"].as_u64())).collect();
    assert_eq!(spans, [(Some(0), Some(63)), (Some(1), Some(576)), (Some(10), Some(160))]);
    let perplexity = |row: usize, way: &str| rows[row][way].as_f64().unwrap();
    for way in ["read_again", "whole"] {
        let ratio = perplexity(0, "slid") / perplexity(0, way);
        assert!((ratio - 1.0).abs() < 1e-4, "{way}: {ratio}");
    }
    // A random model predicts nothing, whatever it has seen; here it is enough that each way reads something else.
    assert!(perplexity(2, "slid") > 1.0 && perplexity(2, "whole") != perplexity(2, "slid"));
    let svg = fs::read_to_string(folder.path().join("p.svg")).unwrap();
    assert!(svg.contains("64 (4 + 16), read again") && svg.contains("whole context"), "{svg}");
}

#[test]
fn drift_is_seen_over_slides_and_none_over_a_restart() {
    let folder = texts();
    let arguments =
        ["drift", "text.txt", "--turns", "12", "--turn-tokens", "16", "--set", "window.size=96", "--every", "2"];
    let found = json(&folder, &arguments);
    let turns = found["turns"].as_array().unwrap();
    assert_eq!((found["window"].as_u64(), turns.len()), (Some(96), 12));
    assert!(turns.iter().any(|turn| turn["slid"] == true) && turns[0]["slid"] == false);
    let summary = |what: &str| {
        let rows = found["summaries"].as_array().unwrap();
        rows.iter().find(|row| row["what"].as_str().unwrap().contains(what)).unwrap_or_else(|| panic!("no {what}"))
    };
    assert!(summary("restart")["low"].as_f64().unwrap() > 0.999_99, "{found}");
    assert!(summary("without a conversation")["low"].as_f64().unwrap() > 0.999_99, "{found}");
    assert!(summary("over a slide")["high"].as_f64().unwrap() < 0.999_99, "{found}");
}

#[test]
fn reranking_is_a_row_a_weight_and_no_weight_changes_nothing() {
    let folder = texts();
    let arguments = ["retrieval", "pairs.jsonl", "--dims", "100000,4", "--rerank", "0,1000"];
    let found = json(&folder, &arguments);
    let rows = found["compared"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["as set", "as set", "as set, reranked 0", "as set, reranked 1000", "BM25"]);
    assert_eq!(rows[0]["dim"], rows[2]["dim"], "the first row's vectors");
    assert_eq!(rows[0]["mean"], rows[2]["mean"]);
    assert_eq!(found, json(&folder, &arguments), "the same twice");
}

#[test]
fn what_is_printed_says_how_it_is_to_be_read() {
    let folder = texts();
    let (code, report, errors) = eval(&folder, &["retrieval", "pairs.jsonl", "--limit", "2"]);
    assert_eq!(code, Some(0), "{errors}");
    for words in ["as set", "BM25", "2 pairs; by chance recall@1 is 0.500"] {
        assert!(report.contains(words), "no `{words}` in {report}");
    }
}

#[test]
fn mistakes_are_told() {
    let folder = texts();
    let check = |arguments: &[&str], words: &[&str]| {
        let (code, _, errors) = eval(&folder, arguments);
        let message = errors.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert_eq!(code, Some(SETTINGS), "{arguments:?}: {message}");
        for word in words {
            assert!(message.contains(word), "{arguments:?} does not say `{word}`: {message}");
        }
    };
    check(&["retrieval", "nowhere.jsonl"], &["cannot read nowhere.jsonl"]);
    check(&["retrieval", "text.txt"], &["line 1, has no `query` and `document`"]);
    check(&["retrieval", "pairs.jsonl", "--vectors", "a=nowhere"], &["cannot read nowhere"]);
    check(&["retrieval", "pairs.jsonl", "--vectors", "a"], &["expected NAME=FILE"]);
    check(&["retrieval", "pairs.jsonl", "--rerank", "much"], &["expected a number such as 0.2"]);
    check(&["retrieval", "pairs.jsonl", "--variant", "x: embedding.poling=mean"], &["poling"]);
    check(&["perplexity", "text.txt", "--windows", "8", "--sinks", "7"], &["a window of 8 tokens", "is none"]);
    check(&["perplexity", "text.txt", "--windows", "64", "--tokens", "60"], &["60 tokens, expected at least 65"]);
    check(&["drift", "text.txt", "--turns", "100000"], &["tokens, expected at least 3200000"]);
}
