//! Calibrations of real exports: those from weights against what the runtime makes of the same weights, in every form
//! that weights have; made while others wait, kept, and bound to their model.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "what was measured is shown")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use crate::common::{copy, fixture, form, loader_of, lone, model, root, run, window};
use motorbrain::{
    Parts, Settings,
    calibration::{self, Affine, Calibration, CalibrationError, LogitSpace, Maker, Recipe, Source, Texts},
    engine::{FormOptions, Lineage, OnnxLoader},
    model::{Manifest, RecipeName},
    settings::SettingsError,
    vectors::{MadeFrom, Vectors},
};
use motorbrain_actors::{
    engine::{Pooling, Sampling, Want},
    tokens::TokenId,
};
use tempfile::TempDir;

fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let dot =
        |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

/// The last hidden states of a few contexts, and the logits that the runtime makes of them, less their mean.
fn states_and_logits(loader: &OnnxLoader) -> Vec<(Vec<f32>, Vec<f32>)> {
    let mut engine = loader.load_plain().unwrap();
    let vocab = engine.info().vocab;
    let contexts = (1..7).map(|length| (0..length).map(|index| TokenId(37 * index * length % vocab as u32)).collect());
    let contexts: Vec<Vec<TokenId>> = contexts.collect();
    let mut found = Vec::new();
    for tokens in contexts {
        let slot = engine.open().unwrap();
        let hidden = run(&mut *engine, slot, &tokens, Want::Hidden(Pooling::Last)).pop().unwrap().hidden;
        engine.close(slot);
        let slot = engine.open().unwrap();
        let want = Want::Next { sampling: &Sampling::GREEDY, seed: 0, number: 0, top: vocab, guide: None };
        let top = run(&mut *engine, slot, &tokens, want).pop().unwrap().sampled.unwrap().top;
        engine.close(slot);
        assert_eq!(top.len(), vocab);
        let mean = top.iter().map(|(_, logprob)| f64::from(*logprob)).sum::<f64>() / vocab as f64;
        let mut logits = vec![0.0; vocab];
        top.iter().for_each(|(token, logprob)| logits[token.0 as usize] = (f64::from(*logprob) - mean) as f32);
        found.push((hidden, logits));
    }
    found
}

/// How far cosines of vectors are from those of the logits. Of differences of two: a bias of the projection is in neither.
fn farthest(affine: &Affine, loader: &OnnxLoader) -> f64 {
    let found = states_and_logits(loader);
    let less = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(x, y)| x - y).collect::<Vec<f32>>();
    let differences: Vec<[Vec<f32>; 2]> = found
        .windows(2)
        .map(|pair| [less(&affine.apply(&pair[0].0), &affine.apply(&pair[1].0)), less(&pair[0].1, &pair[1].1)])
        .collect();
    let pairs = differences.iter().flat_map(|one| differences.iter().map(move |other| (one, other)));
    pairs.map(|([v, l], [w, m])| (cosine(v, w) - cosine(l, m)).abs()).fold(0.0, f64::max)
}

#[test]
fn vectors_from_weights_are_as_alike_as_what_the_model_would_say() {
    let mut models: Vec<(String, PathBuf, Option<TempDir>)> = Vec::new();
    for name in ["tiny-plain", "tiny-plain-f16", "tiny-gqa-fp32", "tiny-gqa-int4"] {
        models.push((name.to_owned(), fixture(name), None));
    }
    for path in fs::read_dir(fixture("exports")).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let graph = if path.is_dir() { path.join("model.onnx") } else { path.clone() };
        let dir = lone(&graph);
        for file in path.is_dir().then(|| fs::read_dir(&path).unwrap()).into_iter().flatten().map(Result::unwrap) {
            fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
        }
        models.push((name, dir.path().to_owned(), Some(dir)));
    }
    assert!(models.len() > 20);
    let mut far_off = Vec::new();
    for (name, dir, _kept) in models {
        let model = model(&dir);
        let size = model.context.tokens.min(64);
        let space = LogitSpace::of(&model).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(Some(space.hidden()), model.contract.hidden, "{name}");
        let loader = loader_of(Arc::clone(&model), window(size, 4, 8), form());
        let far = farthest(&space.affine().unwrap(), &loader);
        println!("{name}: cosines within {far:.1e} of the logits'");
        // The matrix has eleven bits. A product of integers rounds what it multiplies to eight, and a soft cap bends.
        let is_bent = name.contains("int") || name.contains("gemma2");
        let tolerance = if is_bent { 5e-2 } else { 1e-3 };
        far_off.extend((far >= tolerance).then_some((name, far)));
    }
    assert!(far_off.is_empty(), "{far_off:?}");
}

fn calibration_of(model: &motorbrain::model::Model) -> Calibration {
    Calibration {
        affine: LogitSpace::of(model).unwrap().affine().unwrap(),
        recipe: Recipe::Probe { prefix: "This text: \"".into(), probe: "\"\nA good name for it: `".into() },
        lineage: Lineage::of(model).unwrap(),
        maker: Maker::Weights,
        made_from: "a test".into(),
    }
}

#[test]
fn a_calibration_in_its_models_folder_is_found_and_another_models_refused() {
    let (dir, other) = (copy("tiny-gqa-fp32"), copy("tiny-plain"));
    let open = |dir: &Path| {
        let loader = loader_of(model(dir), window(64, 4, 8), form());
        calibration::beside(dir).map(|file| calibration::open(&loader, &file)).transpose()
    };
    assert_eq!(open(dir.path()).unwrap(), None);
    let calibration = calibration_of(&model(dir.path()));
    calibration.write(&dir.path().join(calibration::FILE)).unwrap();
    assert_eq!(open(dir.path()).unwrap(), Some(calibration.clone()));
    let named = loader_of(model(other.path()), window(64, 4, 8), form());
    let told = calibration::open(&named, &dir.path().join(calibration::FILE)).unwrap_err();
    assert!(matches!(told, CalibrationError::Foreign { what: "the weights", .. }), "{told}");
    let told = calibration::open(&named, Path::new("nowhere")).unwrap_err();
    assert!(matches!(told, CalibrationError::Io { done: "read", .. }), "{told}");

    // Another form of one model is made of the same; its manifest says so.
    for dir in [&dir, &other] {
        Manifest::write_from(dir.path(), &[7; 32]).unwrap();
    }
    let calibration = calibration_of(&model(dir.path()));
    calibration.write(&other.path().join(calibration::FILE)).unwrap();
    assert_eq!(open(other.path()).unwrap(), Some(calibration));
    let tokenizer = other.path().join("tokenizer.json");
    fs::write(&tokenizer, fs::read_to_string(&tokenizer).unwrap() + "\n").unwrap();
    Manifest::write(other.path()).unwrap();
    let told = open(other.path()).unwrap_err();
    assert!(matches!(told, CalibrationError::Foreign { what: "the tokenizer", .. }), "{told}");
}

/// What is named goes before what lies in the model's folder, and that before the weights.
#[tokio::test]
async fn settings_say_which_calibration_vectors_get() {
    let (dir, elsewhere) = (copy("tiny-plain"), TempDir::new().unwrap());
    let model = model(dir.path());
    let weights = calibration_of(&model);
    // Any other one of the same model.
    let other = |seed: f32| {
        let mut texts = Texts::new(weights.affine.hidden());
        for text in 0..8 {
            let numbers = (0..weights.affine.hidden()).map(|index| (index as f32 * seed + text as f32).sin());
            texts.add(&numbers.collect::<Vec<_>>()).unwrap();
        }
        Calibration { affine: texts.finish(&LogitSpace::of(&model).unwrap()).unwrap(), ..weights.clone() }
    };
    let (beside, named) = (other(12.9898), other(78.233));
    let file = elsewhere.path().join("named.safetensors");
    named.write(&file).unwrap();
    let mut settings = Settings::default();
    settings.model.dir = Some(dir.path().to_owned());
    let parts = Parts::find(&settings).await.unwrap();
    let state: Vec<f32> = (0..weights.affine.hidden()).map(|index| index as f32 / 100.0 - 0.3).collect();
    let found = |recipe, source| {
        let mut settings = settings.clone();
        (settings.embedding.recipe, settings.embedding.calibration) = (Some(recipe), source);
        let found = Vectors::of(&settings, &parts.loader)?.calibration;
        Ok::<_, CalibrationError>(found.map(|(affine, from)| (affine.apply(&state), from)))
    };
    let by_weights = || Some((weights.apply(&state), MadeFrom::Weights));
    let by = |calibration: &Calibration, path: PathBuf| {
        Some((calibration.apply(&state), MadeFrom::File { path, words: calibration.made_from.clone() }))
    };
    let (probe, pooled) = (RecipeName::Probe, RecipeName::Pooled);
    let at = || Some(Source::File(file.clone()));

    assert_eq!(found(probe, None).unwrap(), by_weights());
    assert_eq!(found(pooled, None).unwrap(), None);
    beside.write(&dir.path().join(calibration::FILE)).unwrap();
    assert_eq!(found(probe, None).unwrap(), by(&beside, dir.path().join(calibration::FILE)));
    assert_eq!(found(probe, Some(Source::Weights)).unwrap(), by_weights());
    assert_eq!(found(probe, Some(Source::Nowhere)).unwrap(), None);
    assert_eq!(found(probe, at()).unwrap(), by(&named, file.clone()));
    // One that is there is passed over where it is of another recipe; one that was named is not.
    assert_eq!(found(pooled, None).unwrap(), None);
    assert_eq!(found(pooled, Some(Source::Weights)).unwrap(), by_weights());
    assert!(matches!(found(pooled, at()), Err(CalibrationError::Recipe { .. })));
    settings.embedding.dim = Some(weights.affine.hidden() + 1);
    let told = Vectors::of(&settings, &parts.loader).unwrap().config(&settings, &model).unwrap_err();
    assert!(matches!(told, SettingsError::TooLarge { key: "embedding.dim", .. }), "{told}");
}

#[test]
fn a_calibration_from_weights_is_made_once_and_found_again() {
    let cache = TempDir::new().unwrap();
    let form = FormOptions { cache: Some(cache.path().to_owned()), ..FormOptions::default() };
    let dir = copy("tiny-plain");
    let of_weights = || calibration::of_weights(&loader_of(model(dir.path()), window(64, 4, 8), form.clone())).unwrap();
    let kept = || fs::read_dir(cache.path()).map_or(0, Iterator::count);
    let made = of_weights();
    assert_eq!(made, LogitSpace::of(&model(dir.path())).unwrap().affine().unwrap());
    assert_eq!((of_weights(), kept()), (made.clone(), 1));
    let file = fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&file).unwrap();
    for damaged in [whole[..whole.len() / 2].to_vec(), Vec::new()] {
        fs::write(&file, damaged).unwrap();
        assert_eq!(of_weights(), made);
        assert_eq!(fs::read(&file).unwrap(), whole);
    }
}

/// The default model's, in both of its forms: nearly the same, soon made, and small.
#[test]
fn the_default_models_are_nearly_the_same_in_both_forms() {
    let dirs = ["smollm2-135m", "smollm2-135m-f32"].map(|name| root().join(".motorbrain/models").join(name));
    let [default, f32] = dirs.map(|dir| {
        assert!(dir.is_dir(), "{} is missing; run `cargo xtask setup` first", dir.display());
        let (model, began) = (model(&dir), Instant::now());
        LogitSpace::of(&model).unwrap();
        println!("{}: from its weights in {:.1?}", dir.display(), began.elapsed());
        calibration_of(&model)
    });
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(calibration::FILE);
    default.write(&path).unwrap();
    assert!(fs::metadata(&path).unwrap().len() < 1 << 20);
    let vectors = [&default, &f32].map(|calibration| {
        let hidden: Vec<f32> = (0..576).map(|index| (index as f32 * 12.9898).sin()).collect();
        calibration.apply(&hidden)
    });
    // Signs of directions are settled, but neighbours of like size may change places: so lengths.
    let [default, f32] = vectors.map(|vector| vector.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt());
    assert!((default / f32 - 1.0).abs() < 0.01, "{default} {f32}");
}
