//! Conversations that go to another process, or to the same model elsewhere, as a file.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use crate::{
    common::{copy, fixture, in_own_process, text_tokens, window},
    spill::{bytes_of, conversation, goes_on, paged, step},
};
use motorbrain::{
    engine::{Fingerprint, OnnxLoader},
    transfer::{Here, TransferError, Wanted, export_file, import_file},
};
use motorbrain_actors::{
    engine::{EngineErrorKind, EngineInfo, EngineLoader, Row, Sampling, Want},
    keep::Kept,
};

const FORMS: [&str; 4] = ["tiny-plain", "tiny-plain-f16", "tiny-gqa-fp32", "tiny-gqa-int4"];

/// A model with what is asked of it here.
struct Place {
    loader: Arc<OnnxLoader>,
    info: EngineInfo,
    fingerprint: Fingerprint,
}

impl Place {
    fn of(model: &Path) -> Self {
        // So small that keys are kept in f32 where they turn often.
        let loader = paged(model, window(40, 4, 1));
        let (info, fingerprint) = (loader.load().unwrap().info().clone(), loader.fingerprint().unwrap());
        Self { loader, info, fingerprint }
    }

    fn here(&self) -> Here<'_> {
        Here { loader: &*self.loader, info: &self.info, fingerprint: &self.fingerprint, kv_bytes_max: usize::MAX }
    }
}

/// Conversations before and behind slides.
fn states(place: &Place, name: &str) -> [Kept; 2] {
    [25, 70].map(|len| conversation(&place.loader, &text_tokens(&fixture(name), len), 3))
}

#[test]
fn a_conversation_goes_on_in_another_process_to_the_bit() {
    const FILES: &str = "MOTORBRAIN_TEST_FILES";
    let told = |place: &Place, states: &[Kept]| {
        let next = states.iter().map(|state| goes_on(&place.loader, state, 50)).collect::<Vec<_>>();
        format!("{next:?}")
    };
    let this = "transfer::a_conversation_goes_on_in_another_process_to_the_bit";
    if let Some(folder) = env::var_os(FILES).map(PathBuf::from) {
        for name in FORMS {
            let place = Place::of(&fixture(name));
            let found = import_file(&folder.join(name), Wanted::All, &place.here()).unwrap();
            fs::write(folder.join(format!("{name}.told")), told(&place, &found)).unwrap();
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for name in FORMS {
        let place = Place::of(&fixture(name));
        let states = states(&place, name);
        export_file(&folder.path().join(name), &states, &place.here()).unwrap();
        expected.push(told(&place, &states));
    }
    let mut other = Command::new(env::current_exe().unwrap());
    let output = other.args([this, "--exact"]).env(FILES, folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    for (name, expected) in FORMS.iter().zip(expected) {
        assert!(fs::read_to_string(folder.path().join(format!("{name}.told"))).unwrap() == expected, "{name}");
    }
}

#[test]
fn the_same_model_elsewhere_takes_it_and_another_only_its_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let (file, elsewhere) = (folder.path().join("file"), copy("tiny-gqa-fp32"));
    let [here, there] = [&fixture("tiny-gqa-fp32"), elsewhere.path()].map(Place::of);
    let states = states(&here, "tiny-gqa-fp32");
    export_file(&file, &states, &here.here()).unwrap();
    let found = import_file(&file, Wanted::All, &there.here()).unwrap();
    for (found, state) in found.iter().zip(&states) {
        assert!(bytes_of(&there.loader, found) == bytes_of(&here.loader, state));
        assert!(goes_on(&there.loader, found, 50) == goes_on(&here.loader, state, 50));
    }
    let other = Place::of(&fixture("tiny-plain"));
    let told = import_file(&file, Wanted::All, &other.here()).unwrap_err();
    assert!(matches!(told, TransferError::Mismatch { what: "model", .. }), "{told}");
    let tokens = import_file(&file, Wanted::Tokens, &other.here()).unwrap();
    let alone = tokens.iter().zip(&states).all(|(found, state)| {
        found.history == state.history && found.resident.pages.is_empty() && found.resident.kv_len == 0
    });
    assert!(alone && tokens.len() == 2);
    // A model whose files were replaced meanwhile says nothing of itself that is no longer true.
    let mut graph = fs::read(elsewhere.path().join("model.onnx")).unwrap();
    graph.push(0);
    let changed = paged(elsewhere.path(), window(40, 4, 1));
    fs::write(elsewhere.path().join("model.onnx"), graph).unwrap();
    assert!(changed.fingerprint().is_err());
    assert!(there.loader.fingerprint().is_ok(), "what was read before still is what was loaded");
}

/// Whatever numbers somebody sends: an answer of no numbers is an error, and the engine goes on with others.
#[test]
fn pages_of_no_numbers_are_an_error_when_they_are_used() {
    in_own_process("transfer::pages_of_no_numbers_are_an_error_when_they_are_used", || {
        for name in FORMS {
            let folder = tempfile::tempdir().unwrap();
            let (file, place) = (folder.path().join("file"), Place::of(&fixture(name)));
            let states = states(&place, name);
            let whole = export_file(&file, &states, &place.here()).unwrap() as usize;
            let mut bytes = fs::read(&file).unwrap();
            let pages = states.iter().flat_map(|Kept { resident, .. }| {
                let rows = (0..).map(|index: usize| resident.kv_len.saturating_sub(32 * index).min(32));
                resident.pages.iter().zip(rows)
            });
            let sizes: Vec<_> = pages.map(|(page, rows)| place.loader.saved_bytes(page, rows).unwrap()).collect();
            let mut at = whole - 16 - sizes.iter().sum::<usize>();
            for size in sizes {
                // All but what says which kind of page it is.
                bytes[at + 1..at + size].fill(0xff);
                at += size;
            }
            let sum = xxhash_rust::xxh3::xxh3_128(&bytes[..whole - 16]).to_le_bytes();
            bytes[whole - 16..].copy_from_slice(&sum);
            fs::write(&file, bytes).unwrap();
            let found = import_file(&file, Wanted::All, &place.here()).unwrap();
            let mut engine = place.loader.load().unwrap();
            for state in &found {
                let slot = engine.adopt(&state.history.tokens, &state.resident).unwrap();
                let want = Want::Next { sampling: &Sampling::GREEDY, seed: 0, number: 0, top: 5, guide: None };
                let told = engine.run(&[Row { slot, tokens: &[], want }]).map(|_| ()).unwrap_err();
                assert_eq!(told.kind, EngineErrorKind::Rejected, "{name}: {told}");
                engine.close(slot);
            }
            let slot = engine.open().unwrap();
            step(&mut *engine, slot, &mut Kept::default(), &text_tokens(&fixture(name), 9));
        }
    });
}
