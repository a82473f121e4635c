//! Models prepared: what is only merged answers as before, what is quantised nearly so, and a mistake
//! leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "what was measured is shown")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::common::{engine, fixture, largest_difference, loader, model, runtime, scores, text_tokens, window};
use bytes::Bytes;
use half::f16;
use motorbrain::{
    calibration::{self, Calibration, LogitSpace, Maker, Recipe},
    engine::{Form, Lineage, SessionOptions},
    model::{
        ModelError, ModelOptions, Weights,
        onnx::{self, GraphProto, ModelProto, NodeProto, TensorProto, type_proto},
    },
    prepare::{PrepareError, PrepareOptions, Prepared, Progress, prepare},
};
use motorbrain_actors::engine::EngineLoader;
use prost::Message;
use tempfile::TempDir;

fn prepared(model: &Path, out: &Path, weights: Weights, force: bool) -> Result<Prepared, PrepareError> {
    prepared_beside(model, out, (weights, force), &mut |_| ())
}

/// The same beside something else, which is done at each progress.
fn prepared_beside(
    model: &Path,
    out: &Path,
    (weights, force): (Weights, bool),
    beside: &mut dyn FnMut(Progress),
) -> Result<Prepared, PrepareError> {
    let options = PrepareOptions {
        model: ModelOptions { dir: model.to_owned(), ..ModelOptions::default() },
        out: out.to_owned(),
        weights,
        force,
        session: SessionOptions { threads: 1, spinning: false },
    };
    prepare(&runtime(), &options, beside)
}

/// Log-probabilities of a text: 40 tokens read at once, then 20 one by one.
fn read(model: &Path) -> Vec<f32> {
    let mut engine = engine(model, window(256, 4, 64));
    let slot = engine.open().unwrap();
    scores(
        &mut *engine,
        slot,
        &text_tokens(model, 60),
        &[40, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    )
}

/// Whether conversations on a model share runs.
fn is_paged(model: &Path) -> bool {
    let loader = loader(model, window(256, 4, 64));
    EngineLoader::load(&loader).unwrap();
    matches!(loader.form(), Some(Form::Paged { .. }))
}

/// Prepares a model; gives what was done and how far the answers are from the model's own.
fn changed(model: &Path, weights: Weights) -> (Prepared, f32) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new");
    let done = prepared(model, &out, weights, false).unwrap();
    assert!(is_paged(&out) || !is_paged(model), "its conversations shared runs before");
    (done, largest_difference(&read(model), &read(&out)))
}

/// A graph file and its weights, for a test to change.
fn open(dir: &Path) -> (ModelProto, Vec<u8>) {
    let graph = fs::read(dir.join("model.onnx")).unwrap();
    (ModelProto::decode(graph.as_slice()).unwrap(), fs::read(dir.join("model.onnx.data")).unwrap_or_default())
}

/// The bytes of an initializer.
fn data<'d>(tensor: &'d TensorProto, data: &'d [u8]) -> &'d [u8] {
    let number = |key| {
        let entry = tensor.external_data.iter().find(|entry| entry.key() == key);
        entry.map(|entry| entry.value().parse::<usize>().unwrap())
    };
    match &tensor.raw_data {
        Some(raw) => raw,
        None => &data[number("offset").unwrap_or(0)..][..number("length").unwrap()],
    }
}

/// A copy of a fixture whose graph is another one, with all weights inline.
fn variant(name: &str, change: impl FnOnce(&mut GraphProto)) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(fixture(name).join(file), dir.path().join(file)).unwrap();
    }
    let (mut model, weights) = open(&fixture(name));
    let graph = model.graph.as_mut().unwrap();
    for tensor in &mut graph.initializer {
        tensor.raw_data = Some(Bytes::copy_from_slice(data(tensor, &weights)));
        tensor.external_data.clear();
        tensor.data_location = None;
    }
    change(graph);
    fs::write(dir.path().join("model.onnx"), model.encode_to_vec()).unwrap();
    dir
}

#[test]
fn what_is_only_merged_answers_as_before() {
    // f32 sums in another order; f16 caches round what differs by that to the next of 11 bits. In the
    // 4-bit form each product rounds its input to 8 bits, merged or not, so it is as close as f32.
    for (form, merged, tolerance) in [
        ("tiny-plain", 3 * 24, 1e-4),
        ("tiny-plain-f16", 3 * 24, 1e-2),
        ("tiny-gqa-fp32", 24, 1e-4),
        ("tiny-gqa-int4", 24, 1e-4),
    ] {
        let (done, difference) = changed(&fixture(form), Weights::Faithful);
        assert_eq!((done.rewritten.merged, done.rewritten.quantized), (merged, 0), "{form}");
        assert!(difference < tolerance, "{form}: log-probabilities differ by {difference}");
    }
}

#[test]
fn queries_keys_and_values_of_an_attention_are_packed() {
    let split = variant("tiny-gqa-fp32", unpack);
    assert!(largest_difference(&read(&fixture("tiny-gqa-fp32")), &read(split.path())) < 1e-4);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new");
    let done = prepared(split.path(), &out, Weights::Faithful, false).unwrap();
    // Two of q, k and v, one of gate and up.
    assert_eq!(done.rewritten.merged, 3 * 24);
    assert!(largest_difference(&read(split.path()), &read(&out)) < 1e-4);
    let graph = open(&out).0.graph.unwrap();
    let attentions = graph.node.iter().filter(|node| node.op_type() == "GroupQueryAttention");
    assert!(attentions.into_iter().all(|node| !node.input[0].is_empty() && node.input[1..3] == ["", ""]));
    assert_eq!(graph.node.iter().filter(|node| node.op_type() == "Split").count(), 24);
}

/// Gives each packed product of queries, keys and values, [64, 64 + 32 + 32], three of its own; only the
/// keys lack a bias.
fn unpack(graph: &mut GraphProto) {
    let mut nodes = Vec::new();
    for node in std::mem::take(&mut graph.node) {
        if node.op_type() != "GroupQueryAttention" {
            nodes.push(node);
            continue;
        }
        let sum = nodes.iter().position(|other| other.output == node.input[..1]).unwrap();
        let sum = nodes.remove(sum);
        let product = nodes.iter().position(|other| sum.input.contains(&other.output[0])).unwrap();
        let product = nodes.remove(product);
        let (matrix, bias) = (floats(graph, &product.input[1]), floats(graph, &sum.input[1]));
        let mut attention = node;
        for (place, (part, columns)) in [("q", 0..64), ("k", 64..96), ("v", 96..128)].into_iter().enumerate() {
            let name = format!("{}.{part}", product.output[0]);
            let (start, width) = (columns.start, columns.len());
            let cut: Vec<f32> = matrix.chunks(128).flat_map(|row| row[columns.clone()].to_vec()).collect();
            graph.initializer.push(tensor(&format!("{name}.weight"), &[64, width], &cut));
            graph.initializer.push(tensor(&format!("{name}.bias"), &[width], &bias[start..start + width]));
            let inputs = |second: &str, first: &str| vec![first.to_owned(), format!("{name}.{second}")];
            nodes.push(NodeProto {
                name: Some(name.clone()),
                input: inputs("weight", &product.input[0]),
                output: vec![name.clone()],
                ..product.clone()
            });
            nodes.push(NodeProto {
                name: Some(format!("{name}.sum")),
                input: inputs("bias", &name),
                output: vec![format!("{name}.sum")],
                ..sum.clone()
            });
            attention.input[place] = format!("{name}.sum");
        }
        nodes.push(attention);
    }
    graph.node = nodes;
}

fn floats(graph: &GraphProto, name: &str) -> Vec<f32> {
    let tensor = graph.initializer.iter().find(|tensor| tensor.name() == name).unwrap();
    tensor.raw_data.as_ref().unwrap().as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

fn tensor(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.iter().map(|&dim| dim as i64).collect(),
        data_type: Some(onnx::FLOAT),
        raw_data: Some(Bytes::from(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())),
        ..TensorProto::default()
    }
}

#[test]
fn weights_of_f16_are_widened() {
    // The same numbers as f16 and as f32; what flows is f32 in both once the first is widened.
    let (narrow, rounded) = (variant("tiny-gqa-fp32", narrow), variant("tiny-gqa-fp32", round));
    let folder = tempfile::tempdir().unwrap();
    for (form, tolerance) in [(Weights::Faithful, 1e-4), (Weights::Fast, 1e-4)] {
        let [one, other] = [("narrow", narrow.path()), ("rounded", rounded.path())].map(|(name, model)| {
            let out = folder.path().join(name);
            prepared(model, &out, form, true).unwrap();
            out
        });
        let graph = open(&one).0.graph.unwrap();
        assert!(graph.initializer.iter().all(|tensor| tensor.data_type() != onnx::FLOAT16));
        let difference = largest_difference(&read(&one), &read(&other));
        assert!(difference < tolerance, "{form}: {difference}");
    }
    // The runtime rounds what flows between nodes of f16 to 11 bits, 24 layers of them.
    assert!(largest_difference(&read(narrow.path()), &read(rounded.path())) < 0.1);
}

/// The floats of every initializer, each replaced by what `change` makes of it.
fn each_float(graph: &mut GraphProto, mut change: impl FnMut(&mut TensorProto, Vec<f16>)) {
    for tensor in graph.initializer.iter_mut().filter(|tensor| tensor.data_type() == onnx::FLOAT) {
        let words = tensor.raw_data.take().unwrap();
        change(tensor, words.as_chunks().0.iter().map(|word| f16::from_f32(f32::from_le_bytes(*word))).collect());
    }
}

/// Every weight becomes the nearest f16.
fn round(graph: &mut GraphProto) {
    each_float(graph, |tensor, values| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_f32().to_le_bytes()).collect();
        tensor.raw_data = Some(Bytes::from(bytes));
    });
}

/// f32 becomes f16 everywhere.
fn narrow(graph: &mut GraphProto) {
    each_float(graph, |tensor, values| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        tensor.raw_data = Some(Bytes::from(bytes));
        tensor.data_type = Some(onnx::FLOAT16);
    });
    for value in graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info) {
        if let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_mut().unwrap().value.as_mut()
            && tensor.elem_type == Some(onnx::FLOAT)
        {
            tensor.elem_type = Some(onnx::FLOAT16);
        }
    }
}

#[test]
fn quantised_weights_answer_nearly_as_before() {
    // Weights and activations are off by at most half a step, 1/254 of the largest of their block with
    // 8 bits and 1/16 with 4. What that becomes through 24 layers of random weights was measured: means
    // of 0.09 and 0.77 of log-probabilities around -11. The bounds are twice as much.
    for form in ["tiny-plain", "tiny-gqa-fp32"] {
        for (weights, bound) in [(Weights::Fast, 0.18), (Weights::Small, 1.6)] {
            let folder = tempfile::tempdir().unwrap();
            let out = folder.path().join("new");
            let done = prepared(&fixture(form), &out, weights, false).unwrap();
            // In each layer q, k, v (of the plain form), o, gate and up, down; and the head.
            assert_eq!(done.rewritten.quantized, 24 * 4 + 1, "{form} {weights}");
            let (before, after) = (read(&fixture(form)), read(&out));
            let sum: f32 = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).sum();
            let mean = sum / before.len() as f32;
            println!("{form} {weights}: log-probabilities differ by {mean} on average");
            assert!(mean < bound, "{form} {weights}: log-probabilities differ by {mean} on average");
            assert!(is_paged(&out), "{form} {weights}");
        }
    }
}

#[test]
fn an_embedding_that_is_the_output_projection_is_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new");
    for form in ["tiny-plain", "tiny-gqa-fp32"] {
        prepared(&fixture(form), &out, Weights::Fast, true).unwrap();
        let graph = open(&out).0.graph.unwrap();
        let inputs = |op_type: &str| {
            let node = graph.node.iter().rfind(|node| node.op_type() == op_type).unwrap();
            let input =
                |index: usize| graph.initializer.iter().find(|tensor| tensor.name() == node.input[index]).unwrap();
            (input, node.input.clone())
        };
        let (gather, _) = inputs("GatherBlockQuantized");
        let (product, _) = inputs("MatMulNBits");
        assert_eq!(gather(0).external_data, product(1).external_data, "{form}");
        assert_eq!(gather(2).name(), product(2).name(), "{form}");
        assert!(graph.initializer.iter().all(|tensor| tensor.data_type() != onnx::FLOAT || tensor.dims != [576, 64]));
    }
}

#[test]
fn a_prepared_folder_needs_no_other_and_is_as_its_manifest_says() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (folder.path().join("model"), folder.path().join("new"));
    copy(&fixture("tiny-gqa-fp32"), &model);
    let calibration = calibration_of(&model);
    calibration.write(&model.join(calibration::FILE)).unwrap();
    // What chats need, in each of the places where it may be.
    let templates = ["additional_chat_templates/tool_use.jinja", "chat_template.jinja", "tokenizer_config.json"];
    fs::create_dir(model.join("additional_chat_templates")).unwrap();
    templates.iter().for_each(|name| fs::write(model.join(name), "{}").unwrap());
    prepared(&model, &out, Weights::Fast, false).unwrap();
    fs::remove_dir_all(&model).unwrap();
    assert_eq!(names(folder.path()), ["new"]);
    assert!(templates.iter().all(|name| fs::read_to_string(out.join(name)).unwrap() == "{}"));
    let expected = [
        "additional_chat_templates",
        calibration::FILE,
        "chat_template.jinja",
        "config.json",
        "genai_config.json",
        "manifest.json",
        "model.onnx",
        "model.onnx.data",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names(&out), expected);
    // What was made for the model holds for what it became, and for what becomes of that.
    let again = folder.path().join("again");
    prepared(&out, &again, Weights::Faithful, false).unwrap();
    for dir in [&out, &again] {
        let loader = loader(dir, window(64, 4, 8));
        let file = calibration::beside(&loader.model().dir).unwrap();
        assert_eq!(calibration::open(&loader, &file).unwrap(), calibration);
    }
    read(&out);
    // Large tensors begin at a page.
    for tensor in open(&out).0.graph.unwrap().initializer {
        for entry in tensor.external_data.iter().filter(|entry| entry.key() == "offset") {
            assert_eq!(entry.value().parse::<u64>().unwrap() % 4096, 0, "{}", tensor.name());
        }
    }
}

fn calibration_of(dir: &Path) -> Calibration {
    let model = model(dir);
    Calibration {
        affine: LogitSpace::of(&model).unwrap().affine().unwrap(),
        recipe: Recipe::Last,
        lineage: Lineage::of(&model).unwrap(),
        maker: Maker::Weights,
        made_from: "its weights".into(),
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// What is in a folder but the record of a check, which only an older folder gets.
fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != ".manifest.checked").collect();
    names.sort();
    names
}

#[test]
fn a_folder_in_use_is_replaced_only_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("precious"), "text").unwrap();
    let model = fixture("tiny-gqa-fp32");
    let error = prepared(&model, &out, Weights::Fast, false).unwrap_err();
    assert!(matches!(error, PrepareError::NotEmpty { .. }), "{error}");
    assert!(error.hint().unwrap().contains("--force"));
    assert_eq!(names(&out), ["precious"]);
    let error = prepared(&model, &out, Weights::Fast, true).unwrap_err();
    assert!(matches!(error, PrepareError::NotAModel { .. }), "what is no model is never replaced: {error}");
    assert_eq!(names(&out), ["precious"]);
    fs::write(out.join("model.onnx"), "another model").unwrap();
    prepared(&model, &out, Weights::Fast, true).unwrap();
    assert!(!out.join("precious").exists() && out.join("model.onnx.data").exists());
    assert_eq!(names(folder.path()), ["new"]);
}

#[test]
fn what_came_into_the_folder_meanwhile_stays() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new");
    for force in [false, true] {
        let error = prepared_beside(&fixture("tiny-gqa-fp32"), &out, (Weights::Small, force), &mut |_| {
            fs::create_dir_all(&out).unwrap();
            fs::write(out.join("precious"), "text").unwrap();
        });
        let error = error.unwrap_err();
        assert!(matches!(error, PrepareError::NotEmpty { .. } | PrepareError::NotAModel { .. }), "{error}");
        assert_eq!((names(folder.path()), names(&out)), (vec!["new".into()], vec!["precious".into()]));
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn mistakes_are_typed_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (folder.path().join("model"), folder.path().join("new"));
    copy(&fixture("tiny-gqa-fp32"), &model);
    let refused = |out: PathBuf| prepared(&model, &out, Weights::Fast, true).unwrap_err();
    for holds_it in [model.clone(), folder.path().to_owned()] {
        assert!(matches!(refused(holds_it), PrepareError::HoldsTheModel { .. }));
    }
    assert!(matches!(refused(model.join("config.json")), PrepareError::NotAFolder { .. }));
    assert!(matches!(refused(PathBuf::from("/")), PrepareError::NoName { .. }));
    assert!(matches!(refused(model.join("config.json/new")), PrepareError::Folder { .. }));

    fs::write(model.join("model.onnx.data"), "").unwrap();
    let error = refused(out.clone());
    assert!(matches!(error, PrepareError::Model(ModelError::External(_))), "{error}");
    assert_eq!(names(folder.path()), ["model"]);
}

/// What has few bits has them already, and what is merged is: the folder is the same model, and nothing is compared.
#[test]
fn where_nothing_is_to_be_done_nothing_changes_and_that_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for (first, then) in [(Weights::Fast, Weights::Small), (Weights::Faithful, Weights::Faithful)] {
        let [once, twice] = ["once", "twice"].map(|name| folder.path().join(format!("{first:?} {then:?} {name}")));
        let done = prepared(&fixture("tiny-plain"), &once, first, false).unwrap();
        assert!(done.rewritten.changed && done.rewritten.kept_bits.is_empty(), "{:?}", done.rewritten);
        let again = prepared(&once, &twice, then, false).unwrap();
        let bits: Vec<_> = again.rewritten.kept_bits.iter().copied().collect();
        assert_eq!(bits, if first == Weights::Fast { vec![8] } else { vec![] });
        assert!(!again.rewritten.changed && again.result == again.original, "{again:?}");
        assert_eq!(again.rewritten.bytes, done.rewritten.bytes);
        assert_eq!(read(&twice), read(&once), "it is another model");
    }
}
