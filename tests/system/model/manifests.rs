//! The manifest: what it catches, and when it looks again.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use motorbrain::model::{Checked, Manifest};

use super::{GQA, copy, open, refusal, says};

/// Makes every file look as if it had been there for a while: a file of the last two seconds may
/// change again within one tick of its clock, and its check is not recorded.
fn age(dir: &Path, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    for entry in fs::read_dir(dir).unwrap() {
        fs::File::options().write(true).open(entry.unwrap().path()).unwrap().set_modified(then).unwrap();
    }
}

fn flip_a_bit(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

#[test]
fn lists_every_file_but_itself() {
    let dir = copy(GQA);
    fs::create_dir(dir.path().join("onnx")).unwrap();
    fs::write(dir.path().join("onnx/a.txt"), "abc").unwrap();
    let first = Manifest::write(dir.path()).unwrap();
    let paths: Vec<_> = first.files.iter().map(|file| file.path.as_str()).collect();
    let expected =
        ["config.json", "genai_config.json", "model.onnx", "model.onnx.data", "onnx/a.txt", "tokenizer.json"];
    assert_eq!(paths, expected);
    // The test vector of FIPS 180 for "abc".
    assert_eq!(first.files[4].sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(first.files[4].size, 3);
    assert_eq!(Manifest::read(dir.path()).unwrap().as_ref(), Some(&first));
    assert_eq!(Manifest::write(dir.path()).unwrap(), first);
}

#[test]
fn what_weights_go_back_to_is_said_until_they_are_others() {
    let dir = copy(GQA);
    let origin = |dir: &Path| open(dir).unwrap().origin;
    Manifest::write(dir.path()).unwrap();
    assert_eq!(origin(dir.path()), None);
    Manifest::write_from(dir.path(), &[0xa5; 32]).unwrap();
    assert_eq!(origin(dir.path()), Some([0xa5; 32]));
    // Config files are the user's to change; a calibration is made later, and not listed.
    let config = dir.path().join("config.json");
    fs::write(&config, fs::read_to_string(&config).unwrap() + "\n").unwrap();
    fs::write(dir.path().join("calibration.safetensors"), "").unwrap();
    let manifest = Manifest::write(dir.path()).unwrap();
    assert!(!manifest.files.iter().any(|file| file.path == "calibration.safetensors"));
    assert_eq!(origin(dir.path()), Some([0xa5; 32]));
    flip_a_bit(&dir.path().join("model.onnx.data"));
    Manifest::write(dir.path()).unwrap();
    assert_eq!(origin(dir.path()), None);
}

#[test]
fn is_checked_fully_once() {
    let dir = copy(GQA);
    Manifest::write(dir.path()).unwrap();
    let checked = || open(dir.path()).unwrap().manifest;
    assert_eq!(checked(), Some(Checked::Fully));
    assert_eq!(checked(), Some(Checked::Fully), "files this young are not trusted");
    age(dir.path(), 60);
    assert_eq!(checked(), Some(Checked::Fully));
    assert_eq!(checked(), Some(Checked::BySizeAndTime));
    age(dir.path(), 30);
    assert_eq!(checked(), Some(Checked::Fully), "times changed");
    assert_eq!(checked(), Some(Checked::BySizeAndTime));
    Manifest::write(dir.path()).unwrap();
    assert_eq!(checked(), Some(Checked::BySizeAndTime), "the same manifest");
}

#[test]
fn catches_a_flipped_bit() {
    let dir = copy(GQA);
    let weights = dir.path().join("model.onnx.data");
    Manifest::write(dir.path()).unwrap();
    age(dir.path(), 60);
    open(dir.path()).unwrap();
    flip_a_bit(&weights);
    says(&refusal(dir.path()), &["DIR/model.onnx.data has the SHA-256 ", ", the manifest says ", "--write-manifest"]);
    flip_a_bit(&weights);
    open(dir.path()).unwrap();
}

#[test]
fn catches_what_is_missing_or_of_another_size() {
    let dir = copy(GQA);
    let config = dir.path().join("config.json");
    Manifest::write(dir.path()).unwrap();
    fs::write(&config, "{}").unwrap();
    says(&refusal(dir.path()), &["DIR/config.json has 2 bytes, the manifest says 1134"]);
    fs::remove_file(&config).unwrap();
    says(&refusal(dir.path()), &["the manifest lists DIR/config.json, which is not there"]);
}

#[test]
fn is_checked_itself() {
    let dir = copy(GQA);
    let cases = [
        ("{", "the manifest DIR/manifest.json does not parse"),
        (r#"{"version": 2, "files": []}"#, "DIR/manifest.json is of version 2, expected 1"),
        (
            r#"{"version": 1, "origin": "0a", "files": []}"#,
            "DIR/manifest.json says that the weights go back to `0a`, expected 64 hexadecimal digits",
        ),
        (
            r#"{"version": 1, "files": [{"path": "../x", "size": 1, "sha256": ""}]}"#,
            "the manifest names `../x`, which is not a path inside the folder",
        ),
    ];
    for (text, message) in cases {
        fs::write(dir.path().join("manifest.json"), text).unwrap();
        says(&refusal(dir.path()), &[message, "write the manifest anew"]);
    }
}

/// What was recorded is not believed when it cannot be read, and a folder that cannot be written is
/// checked in full each time. (Root may write anywhere: a folder in the record's place stops it, too.)
#[test]
fn works_where_nothing_can_be_recorded() {
    let dir = copy(GQA);
    Manifest::write(dir.path()).unwrap();
    age(dir.path(), 60);
    fs::create_dir(dir.path().join(".manifest.checked")).unwrap();
    for _ in 0..2 {
        assert_eq!(open(dir.path()).unwrap().manifest, Some(Checked::Fully));
    }
}
