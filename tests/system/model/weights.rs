//! Weights in other files: where they may lie, and what is checked before a runtime sees them.

use std::{collections::BTreeSet, fs, path::Path};

use motorbrain::model::onnx::{self, AttributeProto, GraphProto, ModelProto, StringStringEntryProto, TensorProto};
use prost::Message;

use super::{
    GQA,
    build::{floats, folder, language_model, node, projection, write},
    copy, open, refusal, says,
};

/// A tensor of 16 floats that lies elsewhere.
fn elsewhere(entries: &[(&str, &str)]) -> TensorProto {
    let entries = entries.iter().map(|&(key, value)| StringStringEntryProto::new(key, value));
    TensorProto {
        raw_data: None,
        data_location: Some(onnx::EXTERNAL),
        external_data: entries.collect(),
        ..floats("far", &[16])
    }
}

fn referring(entries: &[(&str, &str)]) -> GraphProto {
    let mut graph = language_model(projection());
    graph.initializer.push(elsewhere(entries));
    graph
}

#[test]
fn missing_and_short_files() {
    let dir = copy(GQA);
    let weights = dir.path().join("model.onnx.data");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() - 1]).unwrap();
    let short = "bytes of DIR/model.onnx.data, which has 2793727";
    says(&refusal(dir.path()), &["need 2793728 ", short, "fetch the file again"]);
    fs::remove_file(&weights).unwrap();
    let missing = "lie in DIR/model.onnx.data, which cannot be read";
    says(&refusal(dir.path()), &[missing, "put `model.onnx.data` beside the graph"]);
}

#[test]
fn needed_bytes_follow_from_the_shape_where_no_length_is_given() {
    let dir = folder(referring(&[("location", "far.bin"), ("offset", "8")]));
    fs::write(dir.path().join("far.bin"), [0; 71]).unwrap();
    says(&refusal(dir.path()), &["the weights `far` need 72 bytes of DIR/far.bin, which has 71"]);
    fs::write(dir.path().join("far.bin"), [0; 72]).unwrap();
    open(dir.path()).unwrap();
    let huge = u64::MAX.to_string();
    write(dir.path(), referring(&[("location", "far.bin"), ("offset", "8"), ("length", &huge)]));
    says(&refusal(dir.path()), &["need 18446744073709551615 bytes of DIR/far.bin"]);
}

/// Each reference is read into memory of its own.
#[test]
fn the_same_bytes_are_not_the_weights_of_many() {
    let with = |count: usize| {
        let mut graph = language_model(projection());
        // However the file is spelled.
        let location = |index: usize| format!("{}far.bin", "./".repeat(index));
        let tensor = |index: usize| TensorProto {
            name: Some(format!("far{index}")),
            ..elsewhere(&[("location", &location(index)), ("offset", "0"), ("length", "64")])
        };
        graph.initializer.extend((0..count).map(tensor));
        graph
    };
    let dir = folder(with(4));
    fs::write(dir.path().join("far.bin"), [0; 64]).unwrap();
    open(dir.path()).unwrap();
    write(dir.path(), with(5));
    says(&refusal(dir.path()), &["the weights refer to 320 bytes of files that have 64, expected at most 4 times"]);
}

#[test]
fn references_that_leave_the_folder() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("model");
    fs::create_dir(&dir).unwrap();
    let outside = parent.path().join("outside.bin");
    fs::write(&outside, [0; 64]).unwrap();
    for location in ["../outside.bin", "a/../../outside.bin", outside.to_str().unwrap()] {
        write(&dir, referring(&[("location", location)]));
        says(&refusal(&dir), &["the weights `far` lie in ", "outside the model's folder DIR", "copy the file into"]);
    }
}

#[cfg(unix)]
#[test]
fn links_that_leave_the_folder() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("model");
    fs::create_dir_all(dir.join("sub")).unwrap();
    fs::write(parent.path().join("outside.bin"), [0; 64]).unwrap();
    std::os::unix::fs::symlink("../outside.bin", dir.join("far.bin")).unwrap();
    write(&dir, referring(&[("location", "far.bin")]));
    says(&refusal(&dir), &["lie in `far.bin`, outside the model's folder"]);
    // A link that stays inside is as good as a file.
    fs::remove_file(dir.join("far.bin")).unwrap();
    fs::write(dir.join("sub/real.bin"), [0; 64]).unwrap();
    std::os::unix::fs::symlink("sub/real.bin", dir.join("far.bin")).unwrap();
    open(&dir).unwrap();
}

/// The Hugging Face cache: graph and weights are links into one store of blobs.
#[cfg(unix)]
#[test]
fn links_into_one_store() {
    let cache = tempfile::tempdir().unwrap();
    let (blobs, snapshot) = (cache.path().join("blobs"), cache.path().join("snapshots/main"));
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    write(&blobs, referring(&[("location", "far.bin")]));
    fs::rename(blobs.join("model.onnx"), blobs.join("9ra9h")).unwrap();
    fs::write(blobs.join("b10b"), [0; 64]).unwrap();
    let link = |blob: &str, name: &str| {
        std::os::unix::fs::symlink(Path::new("../../blobs").join(blob), snapshot.join(name)).unwrap();
    };
    link("9ra9h", "model.onnx");
    link("b10b", "far.bin");
    let overlay = open(&snapshot).unwrap().overlay;
    assert_eq!(overlay.folder, blobs.canonicalize().unwrap());
    let graph = ModelProto::decode(overlay.bytes.as_slice()).unwrap().graph.unwrap();
    let outside = graph.initializer.iter().filter(|tensor| tensor.data_location() == onnx::EXTERNAL);
    let locations: BTreeSet<_> = outside.map(|tensor| tensor.external_data[0].value()).collect();
    assert_eq!(locations, BTreeSet::from(["9ra9h", "b10b"]));

    // What lies beside the link, not beside its target, is outside.
    fs::remove_file(snapshot.join("far.bin")).unwrap();
    fs::write(snapshot.join("far.bin"), [0; 64]).unwrap();
    says(&refusal(&snapshot), &["lie in `far.bin`, outside the model's folder"]);
}

#[test]
fn the_files_that_weights_lie_in_are_known_however_deep() {
    let mut graph = referring(&[("location", "a/b/far.bin")]);
    graph.initializer.push(TensorProto { name: Some("near".into()), ..elsewhere(&[("location", "near.bin")]) });
    let dir = folder(graph);
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    for file in ["a/b/far.bin", "near.bin", "other.bin"] {
        fs::write(dir.path().join(file), [0; 64]).unwrap();
    }
    // The embedding of the graph lies in the graph file.
    let expected = ["a/b/far.bin", "model.onnx", "near.bin"].map(|file| dir.path().join(file));
    assert_eq!(open(dir.path()).unwrap().data_files().collect::<Vec<_>>(), expected);
}

/// An initializer is not the only place for a reference.
#[test]
fn references_in_attributes_and_subgraphs() {
    let attribute = |attribute: AttributeProto| {
        let mut graph = language_model(projection());
        let mut constant = node("If", &["x"], &["unused"]);
        constant.attribute.push(attribute);
        graph.node.push(constant);
        graph
    };
    let far = elsewhere(&[("location", "../outside.bin")]);
    let value = AttributeProto { t: Some(Box::new(far.clone())), ..AttributeProto::default() };
    let branch = GraphProto { initializer: vec![far], ..GraphProto::default() };
    let then = AttributeProto { g: Some(Box::new(branch)), ..AttributeProto::default() };
    for graph in [attribute(value), attribute(then)] {
        says(&refusal(folder(graph).path()), &["lie in `../outside.bin`, outside the model's folder"]);
    }
}

#[test]
fn references_that_make_no_sense() {
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[], "the weights `far` have the location ``"),
        (&[("location", "")], "the weights `far` have the location ``"),
        (&[("location", "model.onnx"), ("offset", "-1")], "the weights `far` have the offset `-1`"),
        (&[("location", "model.onnx"), ("length", "many")], "the weights `far` have the length `many`"),
    ];
    for (entries, message) in cases {
        says(&refusal(folder(referring(entries)).path()), &[message, "the graph is damaged"]);
    }
}
