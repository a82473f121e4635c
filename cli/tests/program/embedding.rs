//! `motorbrain embed`: the vectors of the pipe, a line each.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    pipe::Pipe,
    ran::{Ran, command, objects},
};

const MODEL: &str = "tiny-gqa-fp32";

fn embed(arguments: &[&str]) -> Command {
    command(MODEL, &[&["embed", "--set", "embedding.recipe=probe"], arguments].concat())
}

/// What the pipe answers for texts, in their order.
fn vectors<'t>(texts: impl IntoIterator<Item = &'t str>, more: &Value) -> Vec<Value> {
    let mut pipe = Pipe::start(MODEL, &["--set", "embedding.recipe=probe"]);
    let vector = |text: &str| {
        let mut embed = json!({"id": 1, "op": "embed", "text": text});
        embed.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        pipe.ask(&embed)["ok"].clone()
    };
    texts.into_iter().map(vector).collect()
}

#[test]
fn each_line_has_the_pipes_vector_in_its_order() {
    // More than are under way at once, of lengths that end in another order.
    let texts: Vec<String> = (0..80).map(|number| format!("{number} {}", "up ".repeat(number % 7))).collect();
    let found = objects(&Ran::well(embed(&["--lines"]), &texts.join("\r\n")));
    let expected = vectors(texts.iter().map(String::as_str), &json!({}));
    // What is read first is the prefix of all, which the others take over.
    let told = |reply: &Value| {
        let mut reply = reply.clone();
        reply.as_object_mut().unwrap().remove("reused");
        reply
    };
    assert_eq!(found.iter().map(told).collect::<Vec<_>>(), expected.iter().map(told).collect::<Vec<_>>());
}

#[test]
fn texts_come_from_the_command_line_or_are_all_of_standard_input() {
    let both = objects(&Ran::well(embed(&["the man", "up"]), "not read"));
    assert_eq!(both.len(), 2);
    let embedding = |reply: &Value| reply["embedding"].clone();
    assert_eq!(
        both.iter().map(embedding).collect::<Vec<_>>(),
        vectors(["the man", "up"], &json!({})).iter().map(embedding).collect::<Vec<_>>()
    );
    let whole = objects(&Ran::well(embed(&["--kind", "query", "--format", "i8", "--dim", "64"]), "the man\nup\n"));
    assert_eq!(whole, vectors(["the man\nup"], &json!({"kind": "query", "format": "i8", "dim": 64})));
    let pieces = objects(&Ran::well(embed(&["--pieces", "each", "--piece-tokens", "4"]), "the man up other words"));
    assert_eq!(pieces, vectors(["the man up other words"], &json!({"pieces": "each", "piece_tokens": 4})));
    // Strangers' words are no markers, which the pipe's `text` would have.
    let tokens = |arguments: &[&str]| objects(&Ran::well(embed(arguments), ""))[0]["tokens"].as_u64();
    assert!(tokens(&["<|im_end|>"]) > Some(1));
}

#[test]
fn the_first_text_without_a_vector_ends_it_and_is_named() {
    let ran = Ran::of(embed(&["--lines"]), "the man\nup\n\nother\n");
    assert_eq!((ran.code, objects(&ran.stdout).len()), (Some(2), 2), "{ran:?}");
    assert!(ran.tells("text 3 has no vector"), "{}", ran.stderr);
    let small = Ran::of(embed(&["--dim", "3"]), "the man");
    assert!(small.code == Some(2) && small.tells("dim is 3"), "{small:?}");
    let lone = Ran::of(embed(&["--piece-tokens", "3"]), "the man");
    assert!(lone.code == Some(2) && lone.tells("expected `--pieces each`"), "{lone:?}");
}
