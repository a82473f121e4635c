//! Every exporter's form that can be made here, untouched and rewritten, number by number. The graphs
//! of `tests/fixtures/exports` are made again by `tools/exports.py`.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

use super::*;
use crate::{
    engine::Runtime,
    model::{
        Family,
        fuse::{FuseRotaries, FuseRotary, Fused, NotFused, contract_of, fuse, import_microsoft},
        onnx::ModelProto,
    },
};

/// A plain export and how it rotates, which tests know and engines measure.
struct Export {
    file: &'static str,
    base: f64,
    /// Numbers of a head that are rotated.
    rotated: usize,
    interleaved: bool,
}

const fn export(file: &'static str, base: f64) -> Export {
    Export { file, base, rotated: 16, interleaved: false }
}

/// Far enough for a base that is wrong by a hundredth to show, and short enough to be quick.
const FAR: usize = 300;

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// A session of a model whose weights lie in `folder` where they are not in it.
fn session(model: &ModelProto, folder: &Path) -> ort::Result<Session> {
    let library = crate::find_library(&crate::Settings::default()).expect("run `cargo xtask setup` first");
    let runtime = Runtime::open(&library.path).expect("the library opens");
    let folder = folder.to_string_lossy();
    let mut builder = Session::builder(runtime.environment())?
        .with_intra_threads(1)?
        .with_intra_op_spinning(false)?
        .with_config_entry("session.model_external_initializers_file_folder_path", folder)?;
    builder.commit_from_memory(&model.encode_to_vec())
}

impl Export {
    fn read(&self) -> ModelProto {
        ModelProto::decode(Bytes::from(std::fs::read(path(self.file)).unwrap())).unwrap()
    }

    /// The rewritten model.
    fn fused(&self) -> Result<(ModelProto, Fused), NotFused> {
        let pairs = self.rotated / 2;
        let frequencies: Vec<f64> = (0..pairs).map(|pair| self.base.powf(-(pair as f64) / pairs as f64)).collect();
        let rotary = Some(FuseRotary { frequencies: &frequencies, interleaved: self.interleaved, scale: 1.0 });
        let mut model = self.read();
        let graph = model.graph.as_mut().unwrap();
        let contract = contract_of(graph).unwrap();
        let rotaries = FuseRotaries { layers: vec![rotary; contract.layers], positions: 1024 };
        let fused = fuse(graph, &contract, &rotaries)?;
        import_microsoft(&mut model);
        Ok((model, fused))
    }

    fn compare(&self) -> Difference {
        let (rewritten, fused) = self.fused().unwrap_or_else(|error| panic!("{}: {error}", self.file));
        let untouched = self.read();
        let contract = contract_of(untouched.graph.as_ref().unwrap()).unwrap();
        let [mut untouched, mut rewritten] =
            [untouched, rewritten].map(|model| session(&model, path(self.file).parent().unwrap()).unwrap());
        let (untouched, rewritten) = (&mut untouched, &mut rewritten);
        let precision = fused.precision;
        let mut pair = Pair { untouched, rewritten, contract: &contract, precision, far: FAR };
        pair.compare().unwrap_or_else(|error| panic!("{}: {error}", self.file))
    }
}

#[track_caller]
fn check(export: Export, norms: usize, residuals: usize) {
    let (model, fused) = export.fused().unwrap_or_else(|error| panic!("{}: {error}", export.file));
    let contract = contract_of(model.graph.as_ref().unwrap()).unwrap();
    assert_eq!(contract.family, Family::GroupQueryAttention);
    assert!(!contract.position_ids && contract.attention_mask);
    assert_eq!((fused.heads.len(), fused.norms, fused.residuals), (contract.layers, norms, residuals), "{fused:?}");
    let worst = export.compare();
    assert!(worst.is_allowed(), "{}: {worst:?}", export.file);
}

#[test]
fn what_the_hugging_face_exporter_writes_stays_equal() {
    check(export("tests/fixtures/tiny-plain/model.onnx", 1e6), 49, 48);
    check(export("tests/fixtures/tiny-plain-f16/model.onnx", 1e6), 49, 48);
    check(export("tests/fixtures/exports/hf-qwen3.onnx", 1e6), 9, 4);
}

#[test]
fn what_the_onnx_community_makes_of_it_stays_equal() {
    for file in [
        "tests/fixtures/exports/hf-qwen2-slim.onnx",
        "tests/fixtures/exports/hf-qwen2-f16.onnx",
        "tests/fixtures/exports/hf-qwen2-f16-io32.onnx",
        "tests/fixtures/exports/hf-qwen2-q4.onnx",
        "tests/fixtures/exports/hf-qwen2-q4f16.onnx",
        "tests/fixtures/exports/hf-qwen2-int8.onnx",
    ] {
        check(export(file, 1e6), 5, 4);
    }
}

#[test]
fn what_torch_exports_itself_stays_equal() {
    check(export("tests/fixtures/exports/dynamo18-llama.onnx", 1e4), 5, 4);
    check(export("tests/fixtures/exports/dynamo18-qwen3.onnx", 1e6), 9, 4);
    check(export("tests/fixtures/exports/dynamo23-qwen3.onnx", 1e6), 9, 4);
    check(export("tests/fixtures/exports/dynamo18-granite.onnx", 1e4), 5, 4);
}

#[test]
fn other_rotations_stay_equal() {
    check(Export { rotated: 16, ..export("tests/fixtures/exports/dynamo18-phi3.onnx", 1e4) }, 5, 4);
    check(Export { interleaved: true, ..export("tests/fixtures/exports/dynamo18-glm.onnx", 1e4) }, 5, 4);
}

#[test]
fn a_trained_model_with_grouped_heads_stays_equal() {
    let trained = export(".motorbrain/models/smollm2-135m-f32/model.onnx", 1e5);
    check(Export { rotated: 64, ..trained }, 61, 60);
}

#[test]
fn a_layer_that_looks_back_only_so_far_stays_equal() {
    check(export("tests/fixtures/exports/dynamo18-mistral.onnx", 1e4), 5, 4);
}

#[test]
fn a_rotation_that_is_slightly_wrong_is_found() {
    for wrong in [
        export("tests/fixtures/exports/dynamo18-llama.onnx", 1.01e4),
        Export { interleaved: true, ..export("tests/fixtures/exports/dynamo18-llama.onnx", 1e4) },
        Export { rotated: 32, ..export("tests/fixtures/exports/dynamo18-phi3.onnx", 1e4) },
        export("tests/fixtures/exports/hf-qwen2-f16.onnx", 1.1e6),
    ] {
        let worst = wrong.compare();
        assert!(!worst.is_allowed(), "{}: {worst:?}", wrong.file);
    }
}
