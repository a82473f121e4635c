//! A model on disk, from outside: the tiny real exports of `tests/fixtures` and what becomes of them
//! when files are missing, damaged or disagree.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use motorbrain::model::{
    Checked, ContextSource, ElementType, Family, Head, Manifest, Model, ModelError, ModelOptions, Note, Preset,
};
use motorbrain_actors::tokens::{TokenId, Tokenizer, TokenizerKind};
use tempfile::TempDir;

const PLAIN: &str = "tiny-plain";
const PLAIN_F16: &str = "tiny-plain-f16";
const GQA: &str = "tiny-gqa-fp32";
const GQA_INT4: &str = "tiny-gqa-int4";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A copy of a fixture that a test may damage.
fn copy(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

fn open(dir: &Path) -> Result<Model, ModelError> {
    Model::open(&ModelOptions { dir: dir.to_owned(), ..ModelOptions::default() })
}

#[test]
fn contracts_of_the_four_exports() {
    use ElementType::{F16, F32};
    use Family::{GroupQueryAttention, Plain};
    let cases = [
        (PLAIN, Plain, 51, true, F32, F32, F32, false),
        (PLAIN_F16, Plain, 51, true, F16, F32, F16, false),
        (GQA, GroupQueryAttention, 50, false, F32, F32, F32, false),
        (GQA_INT4, GroupQueryAttention, 50, false, F32, F32, F32, true),
    ];
    for (name, family, inputs, position_ids, logits, hidden, kv, quantized) in cases {
        let model = open(&fixture(name)).unwrap();
        let contract = &model.contract;
        assert_eq!(contract.family, family, "{name}");
        assert_eq!(contract.inputs, inputs, "{name}");
        assert_eq!((contract.layers, contract.kv.len()), (24, 24), "{name}");
        assert_eq!((contract.kv_heads, contract.head_dim), (2, 16), "{name}");
        assert_eq!((contract.hidden, contract.vocab), (Some(64), 576), "{name}");
        assert_eq!((contract.position_ids, contract.attention_mask), (position_ids, true), "{name}");
        assert_eq!((contract.logits_type, contract.hidden_type), (logits, Some(hidden)), "{name}");
        assert_eq!(contract.quantized_activations, quantized, "{name}");
        assert_eq!(contract.kv[23].past_key, "past_key_values.23.key", "{name}");
        assert_eq!(contract.kv[23].present_value, "present.23.value", "{name}");
        assert!(contract.kv.iter().all(|layer| (layer.key_type, layer.value_type) == (kv, kv)), "{name}");
        let head = Head { hidden_output: "hidden_states", row_index: "row_index" };
        assert_eq!(model.overlay.head, Some(head), "{name}");
        assert_eq!(model.end_tokens, [TokenId(511)], "{name}");
        assert_eq!(model.notes, [], "{name}");
    }
}
