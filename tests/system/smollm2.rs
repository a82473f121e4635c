//! The default model for real: the f32 form against the tool's forward pass in numpy, which shares
//! no code with this project, and the default form against the f32 one.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "what was measured is shown")]

use std::path::{Path, PathBuf};

use crate::common::{engine, fixture, largest_difference, root, run, scores};
use motorbrain::engine::WindowOptions;
use motorbrain_actors::{
    engine::{Sampling, Want},
    tokens::TokenId,
};
use serde_json::Value;

fn default_model(name: &str) -> PathBuf {
    let dir = root().join(".motorbrain/models").join(name);
    assert!(dir.is_dir(), "{} is missing; run `cargo xtask setup` first", dir.display());
    dir
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<TokenId> {
    value.as_array().unwrap().iter().map(|x| TokenId(x.as_u64().unwrap() as u32)).collect()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().filter_map(|x| Some(x.as_f64()? as f32)).collect()
}

#[test]
fn f32_is_the_forward_pass_of_its_weights() {
    let reference = json(&fixture("smollm2-reference.json"));
    let mut engine = engine(&default_model("smollm2-135m-f32"), WindowOptions::default());
    let prompt = ids(&reference["prompt"]);
    let slot = engine.open().unwrap();
    let prompt_difference =
        largest_difference(&scores(&mut *engine, slot, &prompt, &[64]), &numbers(&reference["prompt_logprobs"]));
    let mut found = Vec::new();
    let mut logprobs = Vec::new();
    for number in 0..32 {
        let want = Want::Next { sampling: &Sampling::GREEDY, seed: 0, number, top: 0, guide: None };
        let sampled = run(&mut *engine, slot, &[], want).pop().unwrap().sampled.unwrap();
        found.push(sampled.token);
        logprobs.push(sampled.logprob);
    }
    let difference = largest_difference(&logprobs, &numbers(&reference["continuation_logprobs"]));
    println!("log-probabilities of 200 tokens within {prompt_difference:.1e}, of 32 sampled ones {difference:.1e}");
    assert_eq!(found, ids(&reference["continuation"]));
    // Two orders of summation of up to 49,152 f32 logits through 30 layers.
    assert!(prompt_difference < 1e-3 && difference < 1e-3);
}

#[test]
fn the_default_form_reads_as_well_as_f32() {
    let texts = json(&root().join("tools/texts/token_ids.json"));
    let perplexities = |name: &str| {
        let mut engine = engine(&default_model(name), WindowOptions::default());
        ["code", "english"].map(|text| {
            let slot = engine.open().unwrap();
            let scores = scores(&mut *engine, slot, &ids(&texts[text]), &[512]);
            engine.close(slot);
            (-scores.iter().map(|s| f64::from(*s)).sum::<f64>() / scores.len() as f64).exp()
        })
    };
    let (f32, default) = (perplexities("smollm2-135m-f32"), perplexities("smollm2-135m"));
    println!("perplexity of code and English: f32 {f32:.3?}, default {default:.3?}");
    for ((found, f32), expected) in default.iter().zip(f32).zip([12.63, 14.30]) {
        assert!((f32 / expected - 1.0).abs() < 0.01, "f32: {f32}, expected {expected}");
        assert!((found / f32 - 1.0).abs() < 0.02, "default: {found}, f32: {f32}");
    }
}
