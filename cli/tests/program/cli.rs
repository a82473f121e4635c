//! The command line from outside: what each mistake is told, with which exit status, and that the
//! same program serves once it is mended.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use motorbrain::model::Manifest;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{copy, library};

const SETTINGS: i32 = 2;
const LIBRARY: i32 = 3;
const MODEL: i32 = 4;

/// A command in an empty folder, so that neither settings nor models are found there.
fn motorbrain(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_motorbrain"));
    command.args(arguments).current_dir(folder).env("ORT_DYLIB_PATH", library());
    command.env("MOTORBRAIN__RUNTIME__CACHE", folder.path().join("graphs"));
    command
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The words of a message, however its lines were folded.
fn unfolded(text: &str) -> String {
    text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

/// Serves nothing: checks the exit status and that standard error has all of `words`.
fn check(mut command: Command, exit: i32, words: &[&str]) {
    let (code, stdout, stderr) = output(&mut command);
    assert_eq!((code, stdout.as_str()), (Some(exit), ""), "{command:?}: {stderr}");
    let message = unfolded(&stderr);
    for word in words {
        assert!(message.contains(word), "{command:?} does not say `{word}`: {stderr}");
    }
}

/// A model that a change has spoilt.
fn check_model(name: &str, spoil: impl FnOnce(&Path), words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let model = copy(name);
    spoil(model.path());
    check(motorbrain(&folder, &["pipe", "--model", model.path().to_str().unwrap()]), MODEL, words);
    // Doctor finds the same, says it on standard output and ends the same way.
    let (code, report, _) = output(&mut motorbrain(&folder, &["doctor", "--model", model.path().to_str().unwrap()]));
    assert_eq!(code, Some(MODEL), "{report}");
    assert!(report.contains("WRONG") && report.contains("->"), "{report}");
}

/// Replaces a file's bytes by others of the same length.
fn replace(file: &Path, from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len(), "the graph's lengths must stay");
    let mut bytes = fs::read(file).unwrap();
    let places: Vec<_> = (0..=bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty(), "{} has no {from:?}", file.display());
    for place in places {
        bytes[place..place + to.len()].copy_from_slice(to);
    }
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_folder_without_a_model_is_told() {
    let folder = tempfile::tempdir().unwrap();
    check(motorbrain(&folder, &["pipe"]), MODEL, &["no model was named", "cargo xtask setup"]);
    check(motorbrain(&folder, &["pipe", "--model", "nowhere"]), MODEL, &["nowhere"]);
    check(motorbrain(&folder, &["pipe", "--model", "."]), MODEL, &["model.onnx"]);
}

#[test]
fn a_spoilt_graph_is_told() {
    let truncate = |dir: &Path| {
        let bytes = fs::read(dir.join("model.onnx")).unwrap();
        fs::write(dir.join("model.onnx"), &bytes[..bytes.len() / 2]).unwrap();
    };
    check_model("tiny-plain", truncate, &["model.onnx"]);
    check_model("tiny-plain", |dir| fs::write(dir.join("model.onnx"), "no graph").unwrap(), &["model.onnx"]);
    check_model("tiny-plain", |dir| fs::write(dir.join("model.onnx"), identity_graph()).unwrap(), &["input_ids"]);
}

#[test]
fn a_flipped_bit_is_told_where_there_is_a_manifest() {
    let flip = |dir: &Path| {
        Manifest::write(dir).unwrap();
        let mut bytes = fs::read(dir.join("model.onnx.data")).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(dir.join("model.onnx.data"), bytes).unwrap();
    };
    check_model("tiny-gqa-fp32", flip, &["model.onnx.data"]);
}

#[test]
fn weights_that_are_missing_or_elsewhere_are_told() {
    check_model("tiny-gqa-fp32", |dir| fs::remove_file(dir.join("model.onnx.data")).unwrap(), &["model.onnx.data"]);
    let outside = |dir: &Path| replace(&dir.join("model.onnx"), b"model.onnx.data", b"../model.o.data");
    check_model("tiny-gqa-fp32", outside, &["outside the model's folder"]);
}

#[test]
fn files_that_do_not_parse_are_told() {
    let names = ["tokenizer.json", "config.json", "generation_config.json", "genai_config.json"];
    for name in names {
        check_model("tiny-gqa-fp32", |dir| fs::write(dir.join(name), "{\"broken").unwrap(), &[name]);
    }
}

#[test]
fn a_preset_that_disagrees_names_both_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let model = copy("tiny-plain");
    let model = model.path().to_str().unwrap();
    let preset = ["pipe", "--model", model, "--set", "model.preset=smollm2-135m"];
    check(motorbrain(&folder, &preset), MODEL, &["30 layers", "24", "model.preset"]);
    let unknown = ["pipe", "--model", model, "--set", "model.preset=gpt-9"];
    check(motorbrain(&folder, &unknown), MODEL, &["gpt-9", "smollm2-135m"]);
}

#[test]
fn a_missing_or_unfit_library_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let model = copy("tiny-plain");
    let arguments = ["pipe", "--model", model.path().to_str().unwrap()];
    let with = |library: &Path| {
        let mut command = motorbrain(&folder, &arguments);
        command.env("ORT_DYLIB_PATH", library);
        command
    };
    check(with(&folder.path().join("none.so")), LIBRARY, &["ORT_DYLIB_PATH", "none.so", "cargo xtask setup"]);
    let text = folder.path().join("text.so");
    fs::write(&text, "no library").unwrap();
    check(with(&text), LIBRARY, &["text.so", "cargo xtask setup"]);
    check(with(&old_library(&folder)), LIBRARY, &["old.so", "1.10.0", "cargo xtask setup"]);
}

#[test]
fn settings_that_cannot_be_meant_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let model = copy("tiny-plain");
    let set = |key: &str| motorbrain(&folder, &["pipe", "--model", model.path().to_str().unwrap(), "--set", key]);
    check(set("window.siez=3"), SETTINGS, &["window.siez", "did you mean `window.size`?"]);
    check(set("window.size=wide"), SETTINGS, &["\"wide\"", "a whole number"]);
    check(set("window.size=0"), SETTINGS, &["`window.size` is 0"]);
    check(set("window.size=4097"), SETTINGS, &["4097", "4096"]);
    let mut sinks = set("window.size=8");
    sinks.env("MOTORBRAIN__WINDOW__SINKS", "8");
    check(sinks, SETTINGS, &["`window.sinks` is 8"]);
    fs::write(folder.path().join("mine.toml"), "[window]\nsize = \"8\"").unwrap();
    let mut file = set("window.slide=1");
    file.args(["--config", "mine.toml"]);
    check(file, SETTINGS, &["`window.size` is \"8\" in the settings file mine.toml"]);
    check(motorbrain(&folder, &["pipe", "--log", "=,="]), SETTINGS, &["--log"]);
    check(motorbrain(&folder, &["pipe", "--modle", "x"]), SETTINGS, &["--model"]);
}

#[test]
fn doctor_finds_a_good_model_good() {
    let folder = tempfile::tempdir().unwrap();
    let model = copy("tiny-gqa-fp32");
    let arguments = ["doctor", "--json", "--write-manifest", "--model", model.path().to_str().unwrap()];
    let (code, report, errors) = output(&mut motorbrain(&folder, &arguments));
    assert_eq!(code, Some(0), "{report}{errors}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["status"], 0);
    let facts = |what: &str| {
        let findings = report["findings"].as_array().unwrap();
        let finding = findings.iter().find(|finding| finding["what"] == what).unwrap();
        assert_eq!(finding["state"], "ok", "{finding}");
        finding["facts"].clone()
    };
    assert_eq!((&facts("contract")["layers"], &facts("contract")["inputs"]), (&24.into(), &50.into()));
    assert_eq!(facts("rotation")["base"].as_f64().map(f64::round), Some(1e6));
    assert_eq!(facts("memory")["kv_bytes_per_token"], 24 * 2 * 2 * 16 * 4);
    facts("files");
    assert!(model.path().join("manifest.json").is_file());
}

/// Doctor's exit status and words, on the model of a fixture, with these files found as a user's are.
#[cfg(unix)]
fn doctor(folder: &TempDir, model: &Path, change: impl FnOnce(&mut Command)) -> (Option<i32>, String) {
    let mut command = motorbrain(folder, &["doctor", "--model", model.to_str().unwrap()]);
    change(&mut command);
    let (code, report, errors) = output(&mut command);
    (code, unfolded(&report) + &errors)
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(unix)]
#[test]
fn a_library_that_somebody_else_may_have_written_is_passed_over() {
    use std::os::unix::fs::{MetadataExt, chown, symlink};
    let (folder, model) = (tempfile::tempdir().unwrap(), copy("tiny-gqa-fp32"));
    let setup = folder.path().join(".motorbrain");
    let below = folder.path().join("a/b");
    [&below, &setup.join("runtime")].iter().for_each(|dir| fs::create_dir_all(dir).unwrap());
    let planted = setup.join("runtime/libonnxruntime.so.1.99.9");
    symlink(library(), &planted).unwrap();
    let report = |named: bool| {
        let (code, report) = doctor(&folder, model.path(), |command| {
            command.current_dir(&below).env("HOME", folder.path()).env_remove("XDG_DATA_HOME");
            match named {
                true => command.env("ORT_DYLIB_PATH", &planted),
                false => command.env_remove("ORT_DYLIB_PATH"),
            };
        });
        let used = report.contains("1.99.9 (by");
        assert!(!used || code == Some(0), "{report}");
        (used, report)
    };
    set_mode(&setup, 0o755);
    assert!(report(false).0);
    set_mode(&setup, 0o777);
    let (used, told) = report(false);
    assert!(!used && told.contains("passed over") && told.contains("may be written by everybody"), "{told}");
    assert!(told.contains("`runtime.library`"), "{told}");
    // Whoever names it gets it.
    assert!(report(true).0);
    set_mode(&setup, 0o755);
    // Only root can give a folder away.
    if chown(setup.join("runtime"), Some(12_345), None).is_ok() {
        let (used, told) = report(false);
        assert!(!used && told.contains("belongs to user 12345"), "{told}");
        chown(setup.join("runtime"), Some(fs::metadata(&setup).unwrap().uid()), None).unwrap();
        assert!(report(false).0);
    }
}

#[cfg(unix)]
#[test]
fn doctor_tells_of_a_form_that_was_damaged_or_is_not_kept() {
    let (folder, model) = (tempfile::tempdir().unwrap(), copy("tiny-gqa-fp32"));
    let report = || {
        let (code, report) = doctor(&folder, model.path(), |_| {});
        assert_eq!(code, Some(0), "{report}");
        report
    };
    let says = |words: [&str; 2]| {
        let report = report();
        assert!(words.iter().all(|word| report.contains(word)), "{words:?}: {report}");
    };
    says(["compared now", "can be served"]);
    says(["compared before", "can be served"]);
    let kept = folder.path().join("graphs");
    let file = fs::read_dir(&kept).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&file).unwrap();
    bytes[0] ^= 1;
    fs::write(&file, bytes).unwrap();
    says(["compared now", "was damaged, so the form was made again"]);
    says(["compared before", "can be served"]);
    set_mode(&kept, 0o777);
    says(["compared now", "forms are not kept where others may write"]);
    says(["may be written by everybody", "`runtime.cache`"]);
}

#[cfg(unix)]
#[test]
fn doctor_says_where_spilled_conversations_go_and_what_room_there_is() {
    let (folder, model) = (tempfile::tempdir().unwrap(), copy("tiny-gqa-fp32"));
    let report = |settings: &[&str]| {
        doctor(&folder, model.path(), |command| {
            command.args(settings.iter().flat_map(|set| ["--set", set]));
        })
    };
    let says = |settings: &[&str], status, words: &[&str]| {
        let (code, report) = report(settings);
        assert_eq!(code, Some(status), "{report}");
        words.iter().for_each(|word| assert!(report.contains(word), "{word}: {report}"));
    };
    assert!(!report(&[]).1.contains("spill"));
    says(&["memory.spill=away"], 0, &["leave memory go to away", "that the disk has room for"]);
    assert!(!folder.path().join("away").exists(), "it only looks");
    let more_than_any_disk = "memory.spill_bytes=9000000000000000000";
    says(
        &["memory.spill=away", more_than_any_disk],
        0,
        &["the disk is full before that", "lower `memory.spill_bytes`"],
    );
    fs::create_dir(folder.path().join("away")).unwrap();
    set_mode(&folder.path().join("away"), 0o777);
    says(
        &["memory.spill=away"],
        SETTINGS,
        &["may be written by everybody", "name a folder of your own in `memory.spill`"],
    );
}

#[test]
fn the_runtime_tells_nobody_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (caches, model) = (folder.path().join("caches"), copy("tiny-gqa-fp32"));
    fs::create_dir(&caches).unwrap();
    let mut smoke = motorbrain(&folder, &["smoke", "--model", model.path().to_str().unwrap()]);
    smoke.env("XDG_CACHE_HOME", &caches).env_remove("ORT_DISABLE_TELEMETRY");
    let (code, _, errors) = output(&mut smoke);
    assert_eq!(code, Some(0), "{errors}");
    // What is to be sent is kept there first, in a folder of the library's maker.
    assert_eq!(fs::read_dir(&caches).unwrap().count(), 0);
}

#[test]
fn doctor_claims_nothing_that_a_window_of_one_token_cannot_show() {
    let (folder, model) = (tempfile::tempdir().unwrap(), copy("tiny-gqa-fp32"));
    let arguments = ["doctor", "--set", "window.size=1", "--model", model.path().to_str().unwrap()];
    let (code, report, errors) = output(&mut motorbrain(&folder, &arguments));
    assert_eq!(code, Some(0), "{report}{errors}");
    let report = unfolded(&report);
    assert!(report.contains("not measured: keys turn at no position"), "{report}");
    // One token is compared by what it predicts.
    assert!(report.contains("compared now"), "{report}");
}

#[test]
fn smoke_passes_on_every_form() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tiny-plain", "tiny-plain-f16", "tiny-gqa-fp32", "tiny-gqa-int4"] {
        let model = copy(name);
        let arguments = ["smoke", "--json", "--model", model.path().to_str().unwrap()];
        let (code, report, errors) = output(&mut motorbrain(&folder, &arguments));
        assert_eq!(code, Some(0), "{name}: {report}{errors}");
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["passed"], true, "{name}");
    }
}

#[test]
fn smoke_fails_where_nothing_slides() {
    let folder = tempfile::tempdir().unwrap();
    let model = copy("tiny-plain");
    let arguments = ["smoke", "--set", "window.size=4096", "--model", model.path().to_str().unwrap()];
    let (code, report, _) = output(&mut motorbrain(&folder, &arguments));
    assert_eq!(code, Some(6), "{report}");
    assert!(report.contains("FAILED") && report.contains("choose a smaller `window.size`"), "{report}");
}

#[test]
fn a_prepared_model_is_served_and_not_overwritten_unasked() {
    let (folder, model) = (tempfile::tempdir().unwrap(), copy("tiny-gqa-fp32"));
    let dir = model.path().to_str().unwrap();
    let prepare = ["prepare", dir, "--out", "new", "--weights", "fast", "--json"];
    let (code, report, stderr) = output(&mut motorbrain(&folder, &prepare));
    assert_eq!(code, Some(0), "{stderr}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["weights"], &report["rewritten"]["merged"]), (&Value::from("fast"), &Value::from(24)));
    assert!(report["result"]["weight_bytes"].as_u64() < report["original"]["weight_bytes"].as_u64());
    assert_eq!(output(&mut motorbrain(&folder, &["doctor", "--model", "new"])).0, Some(0));
    check(motorbrain(&folder, &prepare), SETTINGS, &["new is not empty", "--force"]);
    for (out, weights) in [("fast again", "fast"), ("smaller", "small")] {
        let again = ["prepare", "new", "--out", out, "--weights", weights];
        let (code, report, stderr) = output(&mut motorbrain(&folder, &again));
        assert_eq!(code, Some(0), "{stderr}");
        assert!(report.contains("There was nothing to do: its weights have 8 bits already"), "{report}");
        assert!(report.contains("as it was") && !report.contains("quantised"), "{report}");
        assert_eq!(output(&mut motorbrain(&folder, &["doctor", "--model", out])).0, Some(0));
    }
    let unknown = ["prepare", dir, "--out", "other", "--weights", "best"];
    check(motorbrain(&folder, &unknown), SETTINGS, &["`best` names no weights"]);
    let twice = ["prepare", dir, "--model", dir, "--out", "other", "--weights", "fast"];
    check(motorbrain(&folder, &twice), SETTINGS, &["as <MODEL_DIR>, not by `--model`"]);
}

#[test]
fn help_has_examples_and_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let (code, help, _) = output(&mut motorbrain(&folder, &["--help"]));
    assert_eq!(code, Some(0));
    insta::assert_snapshot!(help.split_once("Exit status:").unwrap().1, @r#"
    0  fine
    1  something unexpected, such as an unreadable standard input
    2  the command line or the settings are wrong
    3  the ONNX Runtime library is missing, none, or too old
    4  the model is missing, incomplete, of the wrong kind, or not as its preset says
    5  the library does not load this model
    6  the smoke test found something wrong
    7  the prepared model would predict too much worse than the original
    130  Ctrl-C ended it
    "#);
    let evals = [["eval", "retrieval"], ["eval", "perplexity"], ["eval", "drift"]];
    let commands =
        ["demo", "doctor", "smoke", "chat", "generate", "embed", "pipe", "top", "prepare", "completions", "man"];
    for command in commands.iter().map(std::slice::from_ref).chain(evals.iter().map(|words| &words[..])) {
        let (_, help, _) = output(&mut motorbrain(&folder, &[command, &["--help"]].concat()));
        assert!(help.contains("Examples:"), "{help}");
    }
}

/// A library that says it is ONNX Runtime 1.10.0, made with the system's C compiler.
fn old_library(folder: &TempDir) -> PathBuf {
    let source = folder.path().join("old.c");
    let library = folder.path().join("old.so");
    let text = "static const void *api(unsigned version) { return 0; }\n\
        static const char *version(void) { return \"1.10.0\"; }\n\
        static const struct { const void *(*api)(unsigned); const char *(*version)(void); } base = { api, version };\n\
        const void *OrtGetApiBase(void) { return &base; }\n";
    fs::write(&source, text).unwrap();
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(made.expect("the C compiler `cc` is installed").success());
    library
}

/// An ONNX graph that gives back what it takes: valid, and no language model.
fn identity_graph() -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let value = |name: &str| {
        // A tensor of f32 with one dimension of 1.
        let shape = field(2, &field(1, &[1 << 3, 1]));
        let tensor = [&[1 << 3, 1], shape.as_slice()].concat();
        [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
    };
    let node = [field(1, b"x"), field(2, b"y"), field(4, b"Identity")].concat();
    let graph = [field(1, &node), field(2, b"g"), field(11, &value("x")), field(12, &value("y"))].concat();
    let opset = field(8, &[2 << 3, 17]);
    [&[1 << 3, 8], field(7, &graph).as_slice(), opset.as_slice()].concat()
}
