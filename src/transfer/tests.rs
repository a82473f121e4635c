//! Files of conversations on the fake's pages: there and back, and whatever somebody may send.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use motorbrain_actors::{
    engine::Slides,
    job::History,
    message::{BrainError, ErrorCode},
    tokens::TokenId,
};
use motorbrain_testing::{FakeLoader, states_in};

use super::*;
use crate::fakes::{PAGE, assert_same, context, fork, loader};

const FINGERPRINT: Fingerprint = Fingerprint { model: [3; 32], tokenizer: [5; 32] };

fn here(loader: &FakeLoader) -> Here<'_> {
    Here { loader, info: &loader.info, fingerprint: &FINGERPRINT, kv_bytes_max: usize::MAX }
}

fn exported(loader: &FakeLoader, states: &[Kept]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let told = export(&mut bytes, states, &here(loader)).unwrap();
    assert_eq!(told, bytes.len() as u64);
    bytes
}

fn imported(bytes: &[u8], wanted: Wanted, here: &Here<'_>) -> Result<Vec<Kept>, TransferError> {
    import(&mut &bytes[..], bytes.len() as u64, wanted, here)
}

/// Two contexts that share pages, one of which has lost tokens that are still known.
fn case(loader: &FakeLoader) -> Vec<Kept> {
    let long = context(loader, 22);
    let mut slid = fork(&long, 14);
    let left: Vec<_> = (0..8).map(TokenId).collect();
    slid.history = History { total: slid.history.total + 8, left: Arc::new(left), pinned: 5, ..slid.history };
    slid.floor = 12;
    vec![slid, long]
}

fn without_pages(states: &[Kept]) -> Vec<Kept> {
    states.iter().map(|state| Kept { resident: Default::default(), ..state.clone() }).collect()
}

#[test]
fn what_was_exported_is_imported_with_all_that_belongs_to_it() {
    let loader = loader();
    let mut forgetful = case(&loader);
    forgetful[0].history.left = Arc::default();
    for states in [case(&loader), forgetful, vec![context(&loader, 1)], vec![Kept::default()], vec![]] {
        let bytes = exported(&loader, &states);
        assert_same(&imported(&bytes, Wanted::All, &here(&loader)).unwrap(), &states);
        assert_eq!(imported(&bytes, Wanted::Tokens, &here(&loader)).unwrap(), without_pages(&states));
    }
    // As an engine has it that keeps keys and values to itself.
    let states = without_pages(&case(&loader));
    let mut without = loader.clone();
    without.info.pages = None;
    let bytes = exported(&without, &states);
    assert_eq!(imported(&bytes, Wanted::All, &here(&without)).unwrap(), states);
}

#[test]
fn what_is_of_another_model_is_refused_but_for_its_tokens() {
    let loader = loader();
    let states = case(&loader);
    let bytes = exported(&loader, &states);
    let check = |what: &str, change: &dyn Fn(&mut FakeLoader, &mut Fingerprint)| {
        let (mut other, mut fingerprint) = (loader.clone(), FINGERPRINT);
        change(&mut other, &mut fingerprint);
        let there = Here { info: &other.info, fingerprint: &fingerprint, ..here(&other) };
        let told = imported(&bytes, Wanted::All, &there).unwrap_err();
        assert!(matches!(&told, TransferError::Mismatch { what: found, .. } if *found == what), "{what}: {told}");
        assert!(told.hint().is_some());
        imported(&bytes, Wanted::Tokens, &there)
    };
    let is_taken = |found: Result<Vec<Kept>, _>| assert_eq!(found.unwrap(), without_pages(&states));
    is_taken(check("model", &|_, fingerprint| fingerprint.model[31] ^= 1));
    // What left another window leads elsewhere in this one.
    let is_cut = |found: Result<Vec<Kept>, _>| {
        let mut expected = without_pages(&states);
        expected.iter_mut().for_each(|kept| kept.history.left = Arc::default());
        assert_eq!(found.unwrap(), expected);
    };
    is_cut(check("window", &|other, _| other.info.window.slide = 5));
    is_cut(check("window", &|other, _| other.info.window.slides = Slides::Never));
    is_taken(check("layout", &|other, _| other.info.pages.as_mut().unwrap().tokens = 8));
    is_taken(check("form of the model", &|other, _| other.info.pages = None));
    // Tokens of another tokenizer are other words, and some may not be here at all, or not fit.
    let refused = check("tokenizer", &|_, fingerprint| fingerprint.tokenizer[0] ^= 1);
    assert!(matches!(refused, Err(TransferError::Mismatch { what: "tokenizer", .. })));
    let refused = check("model", &|other, fingerprint| {
        fingerprint.model[0] ^= 1;
        other.info.vocab = 20;
    });
    assert!(matches!(refused, Err(TransferError::Malformed { .. })), "{refused:?}");
    let refused = check("window", &|other, _| other.info.window.size = 16);
    assert!(matches!(refused, Err(TransferError::Mismatch { what: "window", .. })), "{refused:?}");
}

#[test]
fn each_bit_that_is_flipped_and_each_cut_is_noticed() {
    let loader = loader();
    let bytes = exported(&loader, &case(&loader));
    for wanted in [Wanted::All, Wanted::Tokens] {
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(imported(&flipped, wanted, &here(&loader)).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(imported(&bytes[..len], wanted, &here(&loader)).is_err(), "{len} bytes");
            let cut = import(&mut &bytes[..len], bytes.len() as u64, wanted, &here(&loader));
            assert!(matches!(cut, Err(TransferError::Cut { .. })), "{len} bytes: {cut:?}");
        }
        assert!(imported(&[&bytes[..], &[0]].concat(), wanted, &here(&loader)).is_err());
    }
}

/// A file with the sum that it would have if it had been written so.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.len().checked_sub(SUM) {
        let sum = xxhash_rust::xxh3::xxh3_128(&bytes[..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&sum);
    }
    bytes
}

#[test]
fn whatever_is_sent_is_right_or_an_error() {
    let loader = loader();
    let states = case(&loader);
    let bytes = exported(&loader, &states);
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut state = 1u64;
    let mut below = move |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let (mut right, mut believed) = (0, 0);
    for round in 0..40_000 {
        let mut mutated = bytes.clone();
        for _ in 0..=below(3) {
            // Where the most is that can be misunderstood.
            let within = [mutated.len(), (8 + header).min(mutated.len())][below(2)];
            let at = below(within);
            match below(7) {
                0 => mutated[at] ^= 1 << below(8),
                1 => mutated[at] = below(256) as u8,
                // Other numbers in JSON, which is all digits that mean something.
                2 => mutated[at] = b'0' + below(10) as u8,
                3 => mutated.truncate(at + 1),
                4 => mutated.insert(at, b"0129-\"{[ ,:\0\xff"[below(13)]),
                5 => {
                    let long = (at + 8).min(mutated.len());
                    mutated[at..long].fill([0, 255, 127, b' '][below(4)]);
                }
                _ => {
                    let from = below(bytes.len());
                    let count = below(60).min(bytes.len() - from).min(mutated.len() - at);
                    mutated[at..at + count].copy_from_slice(&bytes[from..from + count]);
                }
            }
        }
        let is_sealed = round % 4 > 0;
        let mutated = if is_sealed { sealed(mutated) } else { mutated };
        let wanted = if round % 2 == 0 { Wanted::All } else { Wanted::Tokens };
        let Ok(found) = imported(&mutated, wanted, &here(&loader)) else { continue };
        if !is_sealed || mutated == bytes {
            right += 1;
            match wanted {
                Wanted::All => assert_same(&found, &states),
                Wanted::Tokens => assert_eq!(found, without_pages(&states)),
            }
            continue;
        }
        believed += 1;
        for Kept { history, floor, resident } in &found {
            let len = history.tokens.len();
            assert!(*floor <= len && resident.kv_len <= len && len <= loader.info.window.size);
            assert!(history.tokens.iter().all(|token| (token.0 as usize) < loader.info.vocab));
            assert!(history.total >= len as u64 && history.pinned <= len);
            assert_eq!(resident.pages.len(), resident.kv_len.div_ceil(PAGE));
            assert!(states_in(resident, PAGE).is_some());
        }
    }
    assert!(right > 0 && believed > 500, "{right} mutations that change nothing, {believed} that cannot be known");
    drop(states);
    assert_eq!(loader.control.pages(), 0, "whatever failed has left no page");
}

#[test]
fn sizes_that_are_only_said_cost_nothing() {
    let loader = loader();
    let huge = u64::MAX.to_le_bytes();
    let told = import(&mut &huge[..], u64::MAX, Wanted::All, &here(&loader)).unwrap_err();
    assert!(matches!(told, TransferError::NoConversation { .. }), "{told}");
    // A file as long as it says, as one with holes is, whose parts are larger than any can be.
    let bytes = exported(&loader, &case(&loader));
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..end]).unwrap();
    for name in ["context.0.tokens", "context.0.left", "context.0.pages", "page.0", "sum"] {
        let (more, mut json) = (1u64 << 50, json.clone());
        let begin = json[name]["data_offsets"][0].as_u64().unwrap();
        for (its, tensor) in json.as_object_mut().unwrap() {
            let Some(offsets) = tensor.get_mut("data_offsets") else { continue };
            let [start, stop] = [0, 1].map(|index| offsets[index].as_u64().unwrap());
            let shift = |at: u64, is_moved: bool| if is_moved { at + more } else { at };
            let is_it = its == name;
            *offsets = serde_json::json!([shift(start, start > begin), shift(stop, start > begin || is_it)]);
            if is_it {
                let len = (stop + more - start) / if tensor["dtype"] == "U32" { 4 } else { 1 };
                tensor["shape"] = serde_json::json!([len]);
            }
        }
        let text = serde_json::to_vec(&json).unwrap();
        let file = [&(text.len() as u64).to_le_bytes()[..], &text, &bytes[end..]].concat();
        let told = import(&mut &file[..], file.len() as u64 + more, Wanted::All, &here(&loader)).unwrap_err();
        let is_told = matches!(told, TransferError::Malformed { .. } | TransferError::Mismatch { what: "window", .. });
        assert!(is_told, "{name}: {told}");
    }
}

#[test]
fn what_is_more_than_there_may_be_is_refused_before_a_page_of_it_is_made() {
    let loader = loader();
    let states = case(&loader);
    let bytes = exported(&loader, &states);
    drop(states);
    let room = |kv_bytes_max| Here { kv_bytes_max, ..here(&loader) };
    // Six pages of 64 bytes, some of which two contexts share.
    let most = 64 * 6;
    assert!(imported(&bytes, Wanted::All, &room(most)).is_ok());
    let told = imported(&bytes, Wanted::All, &room(most - 1)).unwrap_err();
    assert!(matches!(told, TransferError::TooLarge { needed, limit } if (needed, limit) == (most, most - 1)), "{told}");
    assert_eq!(BrainError::from(told).code(), ErrorCode::TooLarge);
    let read = &mut &bytes[..bytes.len() - 1];
    let told = import(read, bytes.len() as u64, Wanted::All, &room(0)).unwrap_err();
    assert!(matches!(told, TransferError::TooLarge { .. }) && !read.is_empty(), "{told}");
    assert!(imported(&bytes, Wanted::Tokens, &room(0)).is_ok());
    assert_eq!(loader.control.pages(), 0);
}

#[test]
fn a_file_is_there_as_a_whole_and_takes_no_others_place() {
    let (loader, folder) = (loader(), tempfile::tempdir().unwrap());
    let (states, path) = (case(&loader), folder.path().join("conversation.safetensors"));
    let bytes = export_file(&path, &states, &here(&loader)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), bytes);
    assert_same(&import_file(&path, Wanted::All, &here(&loader)).unwrap(), &states);
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap()) & 0o777, 0o600);
    let again = export_file(&path, &states, &here(&loader));
    assert!(matches!(again, Err(TransferError::Exists { .. })), "{again:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    for path in [folder.path().join("none"), folder.path().to_owned()] {
        let told = import_file(&path, Wanted::All, &here(&loader));
        assert!(matches!(&told, Err(TransferError::Io { path: its, .. }) if *its == path), "{told:?}");
    }
    fs::write(folder.path().join("text"), "no conversation").unwrap();
    let told = import_file(&folder.path().join("text"), Wanted::All, &here(&loader));
    assert!(matches!(told, Err(TransferError::NoConversation { .. })), "{told:?}");
}
