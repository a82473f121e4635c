//! What the tests share: fixtures, the runtime's library, engines and brains on them.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "what was measured is shown")]

pub(crate) mod reference;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use motorbrain::{
    Settings,
    engine::{EngineOptions, FormOptions, OnnxLoader, Overflow, Runtime, SessionOptions, WindowOptions, WindowPolicy},
    model::{Model, ModelOptions},
};
use motorbrain_actors::{
    engine::{Engine, EngineLoader, Row, RowOutput, SlotIndex, Want},
    tokens::{TokenId, Tokenizer},
};
use tempfile::TempDir;

/// Forms with f32 numbers throughout: equal to 1e-4 whatever the cuts (f32 sums of a few hundred
/// terms in another order differ by some 1e-6 a layer; 24 layers stay well below).
pub(crate) const F32_FORMS: [&str; 2] = ["tiny-plain", "tiny-gqa-fp32"];
pub(crate) const F32_TOLERANCE: f32 = 1e-4;

/// Runs the body of the test `name` in a process of its own: this program once more, for that test alone.
pub(crate) fn in_own_process(name: &str, body: impl FnOnce()) {
    const ALONE: &str = "MOTORBRAIN_TEST_ALONE";
    if env::var(ALONE).is_ok_and(|alone| alone == name) {
        return body();
    }
    let mut program = Command::new(env::current_exe().unwrap());
    let output = program.args([name, "--exact", "--nocapture"]).env(ALONE, name).output().unwrap();
    let (told, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{told}");
    assert!(output.status.success() && told.contains("1 passed"), "{told}{complaints}");
}

/// The repository: this package's folder, or the one around it where another package shares this file.
pub(crate) fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().find(|folder| folder.join("tests/fixtures").is_dir()).unwrap_or(package)
}

/// A file or folder of `tests/fixtures`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures").join(name)
}

/// A lone graph as a model: the smallest tokenizer beside it.
pub(crate) fn lone(graph: &Path) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::copy(graph, folder.path().join("model.onnx")).unwrap();
    let tokenizer = r#"{"version":"1.0","model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"}}"#;
    fs::write(folder.path().join("tokenizer.json"), tokenizer).unwrap();
    folder
}

/// A copy of a fixture that a test may damage.
pub(crate) fn copy(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(fixture(name)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    folder
}

/// The library, found as the settings' defaults find it: from the folder where cargo starts the tests, or above.
pub(crate) fn library() -> PathBuf {
    motorbrain::find_library(&Settings::default()).expect("run `cargo xtask setup` first").path
}

pub(crate) fn runtime() -> Runtime {
    Runtime::open(&library()).expect("the library opens")
}

pub(crate) fn model(dir: &Path) -> Arc<Model> {
    let options = ModelOptions { dir: dir.to_owned(), file: None, preset: None };
    Arc::new(Model::open(&options).unwrap_or_else(|error| panic!("{}: {error}", dir.display())))
}

/// A window of `size` with given sinks and slide.
pub(crate) fn window(size: usize, sinks: usize, slide: usize) -> WindowOptions {
    WindowOptions {
        size: Some(size),
        sinks: Some(sinks),
        slide: Some(slide),
        overflow: Overflow::Slide,
        policy: WindowPolicy::Shift,
    }
}

pub(crate) fn loader(dir: &Path, window: WindowOptions) -> OnnxLoader {
    loader_of(model(dir), window, form())
}

pub(crate) fn loader_of(model: Arc<Model>, window: WindowOptions, form: FormOptions) -> OnnxLoader {
    let session = SessionOptions { threads: 1, spinning: false };
    OnnxLoader::new(runtime(), model, EngineOptions { session, window, form }).unwrap()
}

/// Forms are made once for all tests.
pub(crate) fn form() -> FormOptions {
    FormOptions { cache: Some(graph_cache()), ..FormOptions::default() }
}

/// Where tests keep forms, beside their other output.
pub(crate) fn graph_cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("graphs")
}

pub(crate) fn engine(dir: &Path, window: WindowOptions) -> Box<dyn Engine> {
    loader(dir, window).load().unwrap()
}

/// Runs one row until all its tokens are taken (and what it wants is there); outputs in order.
pub(crate) fn run(engine: &mut dyn Engine, slot: SlotIndex, mut tokens: &[TokenId], want: Want<'_>) -> Vec<RowOutput> {
    let mut outputs = Vec::new();
    let mut want = want;
    loop {
        let output = engine.run(&[Row { slot, tokens, want }]).unwrap().next().unwrap();
        tokens = &tokens[output.taken..];
        let done = match &mut want {
            Want::Next { .. } => output.sampled.is_some(),
            Want::Scores { first, .. } => {
                *first &= output.scores.is_empty() && output.taken == 0;
                tokens.is_empty()
            }
            _ => tokens.is_empty(),
        };
        outputs.push(output);
        if done {
            return outputs;
        }
    }
}

/// Log-probabilities of `tokens` given what the slot holds, read in pieces of the lengths `cuts`
/// (the last one repeats). Without a context the first token has none.
pub(crate) fn scores(engine: &mut dyn Engine, slot: SlotIndex, tokens: &[TokenId], cuts: &[usize]) -> Vec<f32> {
    let mut scores = Vec::new();
    let mut at = 0;
    let mut cuts = cuts.iter().copied().cycle();
    while at < tokens.len() {
        let end = tokens.len().min(at + cuts.next().unwrap_or(1).max(1));
        let want = Want::Scores { first: at == 0, next: tokens.get(end).copied(), top: 0 };
        scores.extend(run(engine, slot, &tokens[at..end], want).into_iter().flat_map(|o| o.scores));
        at = end;
    }
    scores
}

/// Tokens of a real text by a model's own tokenizer, as many as asked for.
pub(crate) fn text_tokens(dir: &Path, count: usize) -> Vec<TokenId> {
    let text = include_str!("../../../LICENSE-APACHE").repeat(4);
    let tokens = model(dir).tokenizer.encode(&text).unwrap();
    assert!(tokens.len() >= count, "the text has only {} tokens", tokens.len());
    tokens[..count].to_vec()
}

/// The largest difference of two equally long lists.
pub(crate) fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
