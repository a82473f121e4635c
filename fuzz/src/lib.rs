//! What is fuzzed: each function takes bytes that anybody may have written and must return, in time and memory that
//! their number bounds. A panic is a mistake; what they are told is not looked at.
//!
//! The targets call these with what a fuzzer thinks up, and a test of the command line with what is kept in `corpus`.

mod edited;

use std::{
    cell::OnceCell,
    fs::{self, File},
    path::Path,
};

use motorbrain::{
    Settings,
    model::{Model, ModelOptions, fuzzing},
    settings::Sources,
};
use motorbrain_actors::tokens::Tokenizer;
use motorbrain_protocol::{Line, Rules, decode, next_line};
use prost::Message;
use tempfile::TempDir;

/// Longer lines than this are skipped, in bytes.
const LINE_BYTES_MAX: usize = 1 << 12;

/// As much as the weights of the graphs here that have them in a file take, in bytes.
const WEIGHTS_LEN: u64 = 3 << 20;

/// A graph to which a tokenizer and config files belong.
const GRAPH: &[u8] = include_bytes!("../../tests/fixtures/exports/dynamo23-qwen3.onnx");

/// A folder of this thread, which each call fills anew.
fn in_folder(work: impl FnOnce(&Path)) {
    thread_local!(static FOLDER: OnceCell<TempDir> = const { OnceCell::new() });
    FOLDER.with(|folder| {
        let path = folder.get_or_init(|| TempDir::new().expect("a folder can be made")).path();
        work(path);
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
    });
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    fs::write(folder.join(name), bytes).expect("a file can be written");
}

fn open(folder: &Path) -> Option<Model> {
    Model::open(&ModelOptions { dir: folder.to_owned(), ..ModelOptions::default() }).ok()
}

/// A graph file beside some weights: it is read, made into an overlay and rewritten in every way.
pub fn graph(data: &[u8]) {
    in_folder(|folder| {
        write(folder, "model.onnx", data);
        File::create(folder.join("model.onnx.data"))
            .and_then(|file| file.set_len(WEIGHTS_LEN))
            .expect("it can be made");
        if let Some(model) = open(folder) {
            let rewritten = TempDir::new().expect("a folder can be made");
            fuzzing::rewrites(&model, rewritten.path());
        }
    });
}

/// A graph of an exporter's, edited as the bytes say: see [`edited::edit`].
pub fn edits(data: &[u8]) {
    let Some(model) = edited::edit(data) else { return };
    graph(&model.encode_to_vec());
}

/// A `tokenizer.json` up to the first zero byte, and behind it a text that it is to take apart.
pub fn tokenizer(data: &[u8]) {
    let (file, text) = data.split_at(data.iter().position(|&byte| byte == 0).unwrap_or(data.len()));
    in_folder(|folder| {
        write(folder, "model.onnx", GRAPH);
        write(folder, "tokenizer.json", file);
        let tokenizer = open(folder).map(|model| model.tokenizer);
        if let Some(Ok(tokens)) = tokenizer.as_ref().map(|tokenizer| tokenizer.encode(&String::from_utf8_lossy(text))) {
            tokenizer.iter().for_each(|tokenizer| drop(tokenizer.decode(&tokens)));
        }
    });
}

/// A config file beside a graph: the first byte says which.
pub fn configs(data: &[u8]) {
    const NAMES: [&str; 5] =
        ["config.json", "generation_config.json", "genai_config.json", "manifest.json", "motorbrain.toml"];
    let Some((&which, file)) = data.split_first() else { return };
    let name = NAMES[usize::from(which) % NAMES.len()];
    in_folder(|folder| {
        write(folder, "model.onnx", GRAPH);
        write(folder, name, file);
        if name == "motorbrain.toml" {
            let _ = Settings::load(&Sources { file: Some(folder.join(name)), ..Sources::default() });
        } else {
            drop(open(folder));
        }
    });
}

/// Lines of the pipe.
pub fn lines(data: &[u8]) {
    let rules = Rules { chaos: true, files: true, vocab: 1000 };
    let mut input = data;
    while let Ok(Some(line)) = next_line(&mut input, LINE_BYTES_MAX) {
        if let Line::Text(line) = line {
            drop(decode(&line, &rules));
        }
    }
}
