//! Every exporter's form that is here runs paged, and gives what its graph as exported gives: prompts,
//! chunks, single tokens, and conversations of different lengths in one run.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "what was measured is shown")]

use std::{fs, path::Path};

use crate::common::{fixture, form, loader_of, lone, model, window};
use motorbrain::{
    engine::{Activations, Form, FormOptions, OnnxLoader, Unkept},
    model::onnx::ModelProto,
};
use motorbrain_actors::{
    engine::{Engine, EngineLoader, Row, Want},
    tokens::TokenId,
};
use prost::Message;
use tempfile::TempDir;

/// What two conversations of different lengths score, in three runs together or alone.
fn scores(engine: &mut dyn Engine, together: bool) -> Vec<f32> {
    let vocab = engine.info().vocab;
    let tokens: Vec<TokenId> = (0..90).map(|i| TokenId(((i * 37 + 11) % (vocab - 1)) as u32)).collect();
    let slots = [engine.open().unwrap(), engine.open().unwrap()];
    let steps =
        [[&tokens[..50], &tokens[60..67]], [&tokens[50..51], &tokens[67..89]], [&tokens[51..60], &tokens[89..]]];
    let mut found = [Vec::new(), Vec::new()];
    for pieces in steps {
        let row = |i: usize| Row {
            slot: slots[i],
            tokens: pieces[i],
            want: Want::Scores { first: false, next: Some(TokenId(3)), top: 0 },
        };
        let outputs: Vec<_> = if together {
            engine.run(&[row(0), row(1)]).unwrap().collect()
        } else {
            [row(0), row(1)].map(|row| engine.run(&[row]).unwrap().next().unwrap()).into()
        };
        found.iter_mut().zip(outputs).for_each(|(found, output)| found.extend(output.scores));
    }
    slots.into_iter().for_each(|slot| engine.close(slot));
    found.concat()
}

fn largest(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// A loader that knows nothing of earlier ones, so that forms are made and compared here.
fn fresh(dir: &Path) -> OnnxLoader {
    let form = FormOptions { activations: Activations::F32, cache: None };
    loader_of(model(dir), window(128, 4, 32), form)
}

fn check(name: &str, dir: &Path) {
    let loader = fresh(dir);
    let mut paged = EngineLoader::load(&loader).unwrap();
    // Dynamic int8 rounds all tokens of a run together.
    let pages = !name.contains("int8");
    assert_eq!(matches!(loader.form(), Some(Form::Paged { .. })), pages, "{name}: {:?}", loader.form());
    let together = scores(&mut *paged, true);
    let expected = scores(&mut *loader.load_plain().unwrap(), false);
    let difference = largest(&together, &expected);
    println!("{name}: {:?}, together within {difference:.1e}", loader.form());
    // The same function in another order of sums; f16 rounds to 1e-3, and what rounds activations to 8
    // bits does so after other differences.
    let tolerance = match name {
        name if name.contains("int4") => 0.5,
        name if name.contains("f16") => 5e-2,
        _ => 1e-3,
    };
    assert!(difference < tolerance, "{name}: {difference}");
    assert_eq!(together, scores(&mut *paged, false), "{name}: a row depends on the rows beside it");
}

#[test]
fn every_form_gives_what_its_graph_gives() {
    for name in ["tiny-plain", "tiny-plain-f16", "tiny-gqa-fp32", "tiny-gqa-int4"] {
        check(name, &fixture(name));
    }
    let mut exports: Vec<_> = fs::read_dir(fixture("exports")).unwrap().map(|entry| entry.unwrap().path()).collect();
    exports.sort();
    assert!(exports.len() > 10);
    for graph in exports.iter().filter(|path| path.extension().is_some_and(|e| e == "onnx")) {
        check(&graph.file_name().unwrap().to_string_lossy(), lone(graph).path());
    }
}

#[test]
fn what_rounds_activations_runs_as_exported_unless_told_otherwise() {
    let dir = fixture("tiny-gqa-int4");
    let loader = loader_of(model(&dir), window(64, 4, 16), form());
    drop(EngineLoader::load(&loader).unwrap());
    let Some(Form::Plain(why)) = loader.form() else { panic!("{:?}", loader.form()) };
    assert!(why.hint().unwrap().contains("runtime.activations"), "{why}");
}

#[test]
fn a_form_is_made_once_and_found_again() {
    let cache = TempDir::new().unwrap();
    let form = FormOptions { activations: Activations::AsExported, cache: Some(cache.path().to_owned()) };
    let load = || {
        let loader = loader_of(model(&fixture("tiny-plain")), window(64, 4, 16), form.clone());
        let scores = scores(&mut *EngineLoader::load(&loader).unwrap(), true);
        (loader.form().unwrap(), scores)
    };
    let (made, first) = load();
    assert!(matches!(made, Form::Paged { fused: true, difference: Some(_) }), "{made:?}");
    let (found, second) = load();
    assert_eq!(found, Form::Paged { fused: true, difference: None });
    assert_eq!(first, second);
    // What is damaged is as good as none.
    let file = fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&file).unwrap();
    let flipped = |at: usize| whole.iter().enumerate().map(|(i, byte)| byte ^ u8::from(i == at)).collect::<Vec<u8>>();
    for damaged in [Vec::new(), whole[..whole.len() / 2].to_vec(), flipped(0), flipped(whole.len() - 1)] {
        fs::write(&file, damaged).unwrap();
        let (made, again) = load();
        assert!(matches!(made, Form::Paged { fused: true, difference: Some(_) }), "{made:?}");
        assert_eq!((&first, fs::read(&file).unwrap()), (&again, whole.clone()));
    }
}

#[test]
fn a_form_is_another_when_weights_change_wherever_they_lie() {
    let (cache, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let deep = dir.path().join("a/b/c");
    fs::create_dir_all(&deep).unwrap();
    let (from, weights) = (fixture("tiny-gqa-fp32"), deep.join("weights"));
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(from.join(file), dir.path().join(file)).unwrap();
    }
    fs::copy(from.join("model.onnx.data"), &weights).unwrap();
    let mut graph = ModelProto::decode(fs::read(from.join("model.onnx")).unwrap().as_slice()).unwrap();
    let tensors = graph.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
    let entries = tensors.flat_map(|tensor| &mut tensor.external_data).filter(|entry| entry.key() == "location");
    entries.for_each(|entry| entry.value = Some("a/b/c/weights".into()));
    fs::write(dir.path().join("model.onnx"), graph.encode_to_vec()).unwrap();
    let compared = || {
        let form = FormOptions { activations: Activations::AsExported, cache: Some(cache.path().to_owned()) };
        let loader = loader_of(model(dir.path()), window(64, 4, 16), form);
        drop(EngineLoader::load(&loader).unwrap());
        let Some(Form::Paged { difference, .. }) = loader.form() else { panic!("{:?}", loader.form()) };
        assert_eq!(loader.unkept(), None);
        difference.is_some()
    };
    assert_eq!([compared(), compared()], [true, false]);
    // As long as before, and as old: by the time that anybody can set.
    let written = fs::metadata(&weights).unwrap().modified().unwrap();
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).unwrap();
    fs::File::options().append(true).open(&weights).unwrap().set_modified(written).unwrap();
    assert_eq!([compared(), compared()], [cfg!(unix), false]);
}

#[test]
fn a_form_that_cannot_be_kept_or_was_damaged_is_told() {
    let cache = TempDir::new().unwrap();
    let kept = cache.path().join("kept");
    let unkept = |cache: &Path| {
        let form = FormOptions { activations: Activations::AsExported, cache: Some(cache.to_owned()) };
        let loader = loader_of(model(&fixture("tiny-gqa-fp32")), window(64, 4, 16), form);
        drop(EngineLoader::load(&loader).unwrap());
        loader.unkept()
    };
    assert_eq!([unkept(&kept), unkept(&kept)], [None, None]);
    let file = fs::read_dir(&kept).unwrap().next().unwrap().unwrap().path();
    fs::write(&file, "").unwrap();
    assert_eq!([unkept(&kept), unkept(&kept)], [Some(Unkept::Damaged { file: file.clone() }), None]);
    let below_a_file = unkept(&file).unwrap();
    assert!(matches!(below_a_file, Unkept::NotWritten { .. }), "{below_a_file}");
    assert!(below_a_file.hint().unwrap().contains("runtime.cache"));
}
