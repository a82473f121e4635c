//! Families of models as real exporters write them: layers that look back only so far, capped scores, layers with
//! rotations of their own or with none, partial and scaled rotations, positions that are embedded.
//!
//! Each folder of `tests/fixtures/exports` has what transformers gives (`reference.json`) and what a window must give
//! that slides (`slide.json`, by ONNX Runtime alone, each layer's keys turned back by the angles of its config), both
//! made by `tools/export_kinds.py`.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "what was measured is shown")]

use std::{fs, path::Path};

use crate::common::{F32_TOLERANCE, fixture, largest_difference, loader_of, model, scores, window};
use motorbrain::{
    engine::{Activations, Form, FormOptions, OnnxLoader, WindowError, WindowOptions},
    model::onnx::{GraphProto, ModelProto},
};
use motorbrain_actors::{
    engine::{Engine, EngineLoader, Slides},
    tokens::TokenId,
};
use prost::Message;
use serde_json::Value;
use tempfile::TempDir;

/// Weights of 4 bits are multiplied with activations of 16: measured 2e-3 over six layers.
const WORDS_TOLERANCE: f32 = 1e-2;

/// A folder with the smallest tokenizer beside what is there.
fn with_tokenizer(dir: &Path) -> TempDir {
    let folder = TempDir::new().unwrap();
    for file in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    fs::copy(fixture("tiny-plain").join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    folder
}

/// Tokens, and the log-probability of each but the first.
fn answers(file: &Path) -> (Vec<TokenId>, Vec<f32>) {
    let answers: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let list = |key: &str| answers[key].as_array().unwrap().clone();
    let tokens = list("token_ids").iter().map(|id| TokenId(u32::try_from(id.as_u64().unwrap()).unwrap())).collect();
    (tokens, list("logprobs")[1..].iter().map(|x| x.as_f64().unwrap() as f32).collect())
}

fn loader(dir: &Path, window: WindowOptions) -> OnnxLoader {
    loader_of(model(dir), window, FormOptions { activations: Activations::F32, cache: None })
}

/// That an engine gives the answers of `file` however the tokens are cut.
fn check(name: &str, engine: &mut dyn Engine, file: &Path, cuts: &[usize]) {
    let (tokens, expected) = answers(file);
    let tolerance = if name.contains("int4") { WORDS_TOLERANCE } else { F32_TOLERANCE };
    for cut in cuts {
        let slot = engine.open().unwrap();
        let difference = largest_difference(&scores(engine, slot, &tokens, &[*cut]), &expected);
        engine.close(slot);
        println!("{name}, {}, cut {cut}: {difference:.1e}", file.file_name().unwrap().display());
        assert!(difference < tolerance, "{name}, {}, cut {cut}: {difference:e}", file.display());
    }
}

#[test]
fn every_family_answers_as_transformers_before_and_behind_slides() {
    let folders = fs::read_dir(fixture("exports")).unwrap().map(|entry| entry.unwrap().path());
    let folders: Vec<_> = folders.filter(|path| path.is_dir()).collect();
    assert!(folders.len() > 10);
    for folder in folders {
        let (name, dir) = (folder.file_name().unwrap().to_string_lossy().into_owned(), with_tokenizer(&folder));
        let (whole, slid) = (folder.join("reference.json"), folder.join("slide.json"));
        let context = model(dir.path()).context.tokens;
        if context >= answers(&whole).0.len() {
            let loader = loader(dir.path(), window(context.min(256), 4, 16));
            check(&name, &mut *loader.load().unwrap(), &whole, &[1, 2, 7, 50]);
            check(&name, &mut *loader.load_plain().unwrap(), &whole, &[7]);
        }
        if !slid.exists() {
            continue;
        }
        let loader = loader(dir.path(), window(64, 4, 16));
        check(&name, &mut *loader.load().unwrap(), &slid, &[1, 2, 7, 50]);
        check(&name, &mut *loader.load_plain().unwrap(), &slid, &[7]);
        // GPT-NeoX projects queries, keys and values of one head side by side.
        let pages = !name.contains("gpt_neox");
        assert_eq!(matches!(loader.form(), Some(Form::Paged { .. })), pages, "{name}: {:?}", loader.form());
    }
}

#[test]
fn a_window_ends_where_longer_runs_turn_keys_otherwise() {
    let dir = with_tokenizer(&fixture("exports/genai-phi3-long"));
    let long = WindowOptions { size: Some(65), ..WindowOptions::default() };
    let context = model(dir.path()).context;
    assert_eq!(long.resolve(context.tokens), Err(WindowError::LargerThanContext { size: 65, context: 64 }));
    assert_eq!(WindowOptions::default().resolve(context.tokens).unwrap().size, 64);
    // Where no file says so, the graph's tables do.
    let config = dir.path().join("config.json");
    let silent = fs::read_to_string(&config).unwrap().replace("longrope", "unheard-of");
    fs::write(&config, silent).unwrap();
    assert_eq!(model(dir.path()).context.tokens, 64);
    // And where they are all as long, the keys.
    let graph = dir.path().join("model.onnx");
    let mut edited = ModelProto::decode(fs::read(&graph).unwrap().as_slice()).unwrap();
    lengthen_tables(edited.graph.as_mut().unwrap(), 256);
    fs::write(&graph, edited.encode_to_vec()).unwrap();
    assert_eq!(model(dir.path()).context.tokens, 256);
    let Err(error) = loader(dir.path(), window(128, 4, 16)).load() else { panic!("answers would depend on cuts") };
    assert!(error.message.contains("layer 0") && error.hint.unwrap().contains("64 or less"), "{}", error.message);
    assert_eq!(loader(dir.path(), window(64, 4, 16)).load().unwrap().info().window.slides, Slides::Shift);
}

/// Gives the tables in an `If`'s branches so many rows, by repeating theirs.
fn lengthen_tables(graph: &mut GraphProto, rows: i64) {
    let branches = graph.node.iter_mut().filter(|node| node.op_type() == "If").flat_map(|node| &mut node.attribute);
    let nodes = branches.flat_map(|branch| &mut branch.g).flat_map(|graph| &mut graph.node);
    for table in nodes.flat_map(|node| &mut node.attribute).flat_map(|value| &mut value.t) {
        let times = usize::try_from(rows / table.dims[0]).unwrap();
        table.dims[0] = rows;
        table.raw_data = Some(table.raw_data.as_ref().unwrap().repeat(times).into());
    }
}

#[test]
fn positions_that_are_embedded_keep_the_window_from_sliding() {
    let dir = with_tokenizer(&fixture("exports/hf-gpt2"));
    let loader = loader(dir.path(), window(64, 4, 16));
    assert_eq!(loader.load().unwrap().info().window.slides, Slides::Never);
    assert_eq!(loader.rotations().unwrap().unexplained(), Some(0));
}
