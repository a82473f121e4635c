//! A model on disk, from outside: the tiny real exports of `tests/fixtures`, graphs made for the
//! occasion, and what happens when files are missing, damaged or disagree.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]
#![allow(clippy::print_stdout, reason = "what was measured is shown")]

mod build;
mod choices;
mod files;
mod fixtures;
mod graphs;
mod manifests;
mod texts;
mod weights;

use std::path::Path;

use motorbrain::model::{Model, ModelError, ModelOptions};

use crate::common::{copy, fixture};

const PLAIN: &str = "tiny-plain";
const PLAIN_F16: &str = "tiny-plain-f16";
const GQA: &str = "tiny-gqa-fp32";
const GQA_INT4: &str = "tiny-gqa-int4";
const ALL: [&str; 4] = [PLAIN, PLAIN_F16, GQA, GQA_INT4];

fn open(dir: &Path) -> Result<Model, ModelError> {
    Model::open(&ModelOptions { dir: dir.to_owned(), ..ModelOptions::default() })
}

/// What a person reads when a model cannot be opened: the message, its causes, the hint.
fn refusal(dir: &Path) -> String {
    told(&open(dir).unwrap_err(), dir)
}

/// The same, with the folder's own path taken out.
fn told(error: &ModelError, dir: &Path) -> String {
    let mut lines = vec![error.to_string()];
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        lines.push(error.to_string());
        cause = error.source();
    }
    lines.extend(error.hint());
    lines.join("\n").replace(&*dir.to_string_lossy(), "DIR")
}

/// Asserts that a refusal says each of the given things.
#[track_caller]
fn says(refusal: &str, things: &[&str]) {
    for thing in things {
        assert!(refusal.contains(thing), "expected `{thing}` in:\n{refusal}");
    }
}
