//! The four tiny real exports.

use bytes::Bytes;
use motorbrain::model::{
    ContextLimit, ContextSource, ElementType, Family, LmHead, Note, Preset,
    onnx::{self, ModelProto},
};
use motorbrain_actors::tokens::{TokenId, Tokenizer, TokenizerKind};
use prost::Message;

use super::{ALL, GQA, GQA_INT4, PLAIN, PLAIN_F16, fixture, open};

#[test]
fn contracts() {
    use ElementType::{F16, F32};
    use Family::{GroupQueryAttention, Plain};
    let cases = [
        (PLAIN, Plain, 51, true, F32, F32, false),
        (PLAIN_F16, Plain, 51, true, F16, F16, false),
        (GQA, GroupQueryAttention, 50, false, F32, F32, false),
        (GQA_INT4, GroupQueryAttention, 50, false, F32, F32, true),
    ];
    for (name, family, inputs, position_ids, logits, kv, quantized) in cases {
        let model = open(&fixture(name)).unwrap();
        let contract = &model.contract;
        assert_eq!(contract.family, family, "{name}");
        assert_eq!(contract.inputs, inputs, "{name}");
        assert_eq!((contract.layers, contract.kv.len()), (24, 24), "{name}");
        assert_eq!((contract.kv_heads, contract.head_dim), (2, 16), "{name}");
        assert_eq!((contract.hidden, contract.vocab), (Some(64), 576), "{name}");
        assert_eq!((contract.position_ids, contract.attention_mask), (position_ids, true), "{name}");
        assert_eq!((contract.logits_type, contract.hidden_type), (logits, Some(F32)), "{name}");
        assert_eq!(contract.quantized_activations, quantized, "{name}");
        assert_eq!(contract.kv[23].past_key, "past_key_values.23.key", "{name}");
        assert_eq!(contract.kv[23].past_value, "past_key_values.23.value", "{name}");
        assert_eq!(contract.kv[23].present_key, "present.23.key", "{name}");
        assert_eq!(contract.kv[23].present_value, "present.23.value", "{name}");
        assert!(contract.kv.iter().all(|layer| (layer.key_type, layer.value_type) == (kv, kv)), "{name}");
        assert_eq!(contract.kv_bytes_per_token(), 24 * 2 * (2 * 16) * kv.bytes(), "{name}");
    }
}

#[test]
fn overlays_give_hidden_states_and_take_rows() {
    for name in ALL {
        let model = open(&fixture(name)).unwrap();
        let head = LmHead { hidden_output: "hidden_states", row_index: "row_index" };
        assert_eq!(model.overlay.lm_head, Some(head), "{name}");
        assert_eq!(model.overlay.folder, fixture(name), "{name}");
        let graph = ModelProto::decode(model.overlay.bytes.as_slice()).unwrap().graph.unwrap();
        assert_eq!(graph.input.len(), model.contract.inputs + 1, "{name}");
        assert_eq!(graph.input.last().unwrap().name(), "row_index", "{name}");
        assert_eq!(graph.node.len(), model.nodes + 4, "{name}");
        let sizes = |output: &str| {
            let output = graph.output.iter().find(|value| value.name() == output).unwrap();
            output.dims().unwrap().iter().map(onnx::Dimension::fixed).collect::<Vec<_>>()
        };
        assert_eq!(sizes("logits"), [None, Some(576)], "{name}");
        assert_eq!(sizes("hidden_states"), [None, None, Some(64)], "{name}");
    }
}

/// No weights in the overlay, and what it refers to is what was inline.
#[test]
fn inline_weights_become_references_into_their_own_file() {
    let file = Bytes::from(std::fs::read(fixture(PLAIN).join("model.onnx")).unwrap());
    let original = ModelProto::decode(file.clone()).unwrap().graph.unwrap();
    let model = open(&fixture(PLAIN)).unwrap();
    assert!(model.overlay.bytes.len() * 3 < file.len());
    let overlay = ModelProto::decode(model.overlay.bytes.as_slice()).unwrap().graph.unwrap();
    let mut moved = 0;
    for (before, after) in original.initializer.iter().zip(&overlay.initializer) {
        assert_eq!(before.name(), after.name());
        if after.data_location() != onnx::EXTERNAL {
            assert_eq!(before, after);
            assert!(after.raw_data().len() < 1024);
            continue;
        }
        let entry = |key: &str| {
            let entry = after.external_data.iter().find(|entry| entry.key() == key).unwrap();
            entry.value().to_owned()
        };
        let (offset, length): (usize, usize) = (entry("offset").parse().unwrap(), entry("length").parse().unwrap());
        assert_eq!(entry("location"), "model.onnx");
        assert_eq!(&file[offset..offset + length], before.raw_data(), "{}", before.name());
        moved += 1;
    }
    assert!(moved > 150, "{moved} of {}", original.initializer.len());
}

#[test]
fn nothing_is_worth_a_note() {
    for name in ALL {
        let model = open(&fixture(name)).unwrap();
        assert_eq!(model.notes, [], "{name}");
        assert_eq!(model.manifest, None, "{name}");
        assert_eq!(model.end_tokens, [TokenId(511)], "{name}");
        assert_eq!(model.end_tokens_source, Some("config.json"), "{name}");
        let context = ContextLimit { tokens: 4096, source: ContextSource::Config };
        assert_eq!(model.context, context, "{name}");
        assert_eq!(model.rotation.config_base, Some(1e6), "{name}");
    }
}

#[test]
fn rotation_tables_say_how_far_they_reach() {
    assert_eq!(open(&fixture(PLAIN)).unwrap().rotation.table_positions, None);
    assert_eq!(open(&fixture(GQA)).unwrap().rotation.table_positions, Some(4096));
}

#[test]
fn the_tokenizer_agrees_with_the_reference() {
    let reference = std::fs::read(fixture("reference.json")).unwrap();
    let reference: serde_json::Value = serde_json::from_slice(&reference).unwrap();
    let tokenizer = open(&fixture(PLAIN)).unwrap().tokenizer;
    assert_eq!(tokenizer.kind(), TokenizerKind::Model);
    let mut turns = 0;
    for turn in reference.as_array().unwrap().iter().flat_map(|turns| turns.as_array().unwrap()) {
        let text = turn["text"].as_str().unwrap();
        let ids = turn["token_ids"].as_array().unwrap().iter();
        let ids: Vec<_> = ids.map(|id| TokenId(id.as_u64().unwrap().try_into().unwrap())).collect();
        assert_eq!(tokenizer.encode(text).unwrap(), ids);
        assert_eq!(tokenizer.decode(&ids), text);
        turns += 1;
    }
    assert!(turns >= 3, "{turns}");
}

#[test]
fn special_tokens_are_text_both_ways_and_none_is_added() {
    let tokenizer = open(&fixture(PLAIN)).unwrap().tokenizer;
    assert_eq!(tokenizer.encode("").unwrap(), []);
    let special = tokenizer.token(TokenId(511)).unwrap();
    assert_eq!(tokenizer.encode(&special).unwrap(), [TokenId(511)]);
    assert_eq!(tokenizer.decode(&[TokenId(511)]), special);
    // Rows 512 to 575 of the vocabulary have no token: they decode to nothing.
    assert_eq!(tokenizer.tokens(), 512);
    assert_eq!(tokenizer.decode(&[TokenId(540), TokenId(511), TokenId(u32::MAX)]), special);
}

#[test]
fn odd_texts_go_through_the_tokenizer() {
    let tokenizer = open(&fixture(PLAIN)).unwrap().tokenizer;
    let long = "a".repeat(100_000);
    let odd = ["\0", "\u{FEFF}\u{200D}\u{0301}", "\r\n\t \u{A0}", "𝕬🏳️‍🌈\u{10FFFF}", "<|im_", &long];
    for text in odd {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(tokenizer.decode(&ids), text);
        // A character cut in two decodes to something, and no id to a panic.
        for id in ids.iter().take(8) {
            assert!(!tokenizer.decode(&[*id]).is_empty());
        }
    }
}

#[test]
fn presets_built_in_parse_and_name_their_models() {
    let inputs: Vec<_> = Preset::names()
        .map(|name| {
            let claims = Preset::find(name).unwrap().claims;
            assert_eq!(claims.heads % claims.kv_heads, 0, "{name}");
            assert_eq!(claims.heads * claims.head_dim, claims.hidden, "{name}");
            assert!(!claims.end_tokens.is_empty(), "{name}");
            (name, 3 + 2 * claims.layers)
        })
        .collect();
    let expected = [
        ("qwen2.5-coder-0.5b", 51),
        ("qwen2.5-coder-1.5b", 59),
        ("qwen2.5-coder-3b", 75),
        ("qwen2.5-coder-7b", 59),
        ("smollm2-135m", 63),
    ];
    assert_eq!(inputs, expected);
}

/// Every field of the schema is in this file (written by the Python package onnx 1.23): all must be
/// known, and survive.
#[test]
fn every_field_of_the_schema_survives() {
    let file = std::fs::read(fixture("every_field.onnx")).unwrap();
    let model = ModelProto::decode(file.as_slice()).unwrap();
    assert_eq!(model.encoded_len(), file.len());
    let again = ModelProto::decode(model.encode_to_vec().as_slice()).unwrap();
    assert_eq!(again, model);
}

#[test]
fn a_note_reads_as_one_line() {
    let note = Note::DefaultContext { tokens: 2048 };
    assert_eq!(note.to_string(), "no file tells the model's context: 2048 tokens are taken for it");
}
