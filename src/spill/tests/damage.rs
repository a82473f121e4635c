//! Bytes that are not those that were written: told as what they are, and never believed.

use motorbrain_actors::keep::Part;

use super::{
    super::file::{Expected, Plan, read},
    *,
};

const OWNER: [u8; 32] = [7; 32];

fn written(loader: &FakeLoader, states: &[Kept]) -> Vec<u8> {
    let plan = Plan::new(loader, OWNER, states).unwrap();
    let mut bytes = Vec::new();
    assert!(plan.write(loader, &mut bytes).is_ok());
    assert_eq!(bytes.len() as u64, plan.bytes());
    bytes
}

fn found(loader: &FakeLoader, bytes: &[u8], owner: [u8; 32], histories: &[History]) -> Result<Vec<Kept>, KeepError> {
    let expected = Expected { owner, histories };
    read(loader, &mut &bytes[..], bytes.len() as u64, &expected, &|| "it".into())
}

/// Two contexts that share some of their seven pages, the head's length and the file.
fn case() -> (FakeLoader, Vec<Kept>, usize, Vec<u8>) {
    let loader = loader();
    let long = context(&loader, 22);
    let states = vec![fork(&long, 14), long];
    let bytes = written(&loader, &states);
    let head = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    (loader, states, 16 + head + 16, bytes)
}

#[test]
fn each_bit_that_is_flipped_is_noticed_and_its_part_named() {
    let (loader, states, head, bytes) = case();
    let histories = histories(&states);
    assert_same(&found(&loader, &bytes, OWNER, &histories).unwrap(), &states);
    let mut parts = std::collections::BTreeSet::new();
    for bit in 0..8 * bytes.len() {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match found(&loader, &flipped, OWNER, &histories).unwrap_err() {
            KeepError::Altered { part: Part::Head, .. } | KeepError::Foreign { what: "form", .. } => {
                assert!(bit / 8 < head, "bit {bit}");
            }
            KeepError::Altered { part: Part::Page(page), .. } => {
                assert!(bit / 8 >= head, "bit {bit}");
                parts.insert(page);
            }
            other => panic!("bit {bit}: {other}"),
        }
    }
    assert_eq!(parts.into_iter().collect::<Vec<_>>(), (0..6).collect::<Vec<_>>());
}

#[test]
fn a_file_of_any_other_length_is_noticed() {
    let (loader, states, _, bytes) = case();
    let histories = histories(&states);
    for len in 0..bytes.len() {
        let told = found(&loader, &bytes[..len], OWNER, &histories).unwrap_err();
        assert!(matches!(told, KeepError::Cut { .. } | KeepError::Altered { part: Part::Head, .. }), "{len}: {told}");
        // Or it is cut while it is read.
        let expected = Expected { owner: OWNER, histories: &histories };
        let told = read(&loader, &mut &bytes[..len], bytes.len() as u64, &expected, &|| "it".into()).unwrap_err();
        assert!(matches!(told, KeepError::Cut { .. }), "{len}: {told}");
    }
    let more = [&bytes[..], &[0]].concat();
    assert!(matches!(found(&loader, &more, OWNER, &histories), Err(KeepError::Cut { .. })));
}

#[test]
fn pages_that_changed_places_are_noticed() {
    let (loader, states, head, bytes) = case();
    let page = PAGE * 8 + 16;
    let mut swapped = bytes.clone();
    swapped[head..head + page].copy_from_slice(&bytes[head + page..head + 2 * page]);
    swapped[head + page..head + 2 * page].copy_from_slice(&bytes[head..head + page]);
    let told = found(&loader, &swapped, OWNER, &histories(&states)).unwrap_err();
    assert!(matches!(told, KeepError::Altered { part: Part::Page(0), .. }), "{told}");
}

#[test]
fn what_is_anothers_is_told_as_that() {
    let (loader, states, _, bytes) = case();
    let its = histories(&states);
    let told = |loader: &FakeLoader, owner, histories: &[History]| match found(loader, &bytes, owner, histories) {
        Err(KeepError::Foreign { what, .. }) => what,
        Err(KeepError::Swapped { .. }) => "swapped",
        other => panic!("{other:?}"),
    };
    assert_eq!(told(&loader, [8; 32], &its), "swapped", "another conversation's");
    assert_eq!(told(&loader, OWNER, &its[..1]), "swapped", "fewer contexts");
    assert_eq!(told(&loader, OWNER, &[its[1].clone(), its[0].clone()]), "swapped", "in another order");
    let longer = History { total: 99, ..its[1].clone() };
    assert_eq!(told(&loader, OWNER, &[its[0].clone(), longer]), "swapped", "of another number of tokens");
    let pinned = History { pinned: 1, ..its[1].clone() };
    assert_eq!(told(&loader, OWNER, &[its[0].clone(), pinned]), "swapped", "of other pinned tokens");
    let other = |change: &dyn Fn(&mut EngineInfo)| {
        let mut other = loader.clone();
        change(&mut other.info);
        told(&other, OWNER, &its)
    };
    assert_eq!(other(&|info| info.window.slide = 5), "window");
    assert_eq!(other(&|info| info.pages.as_mut().unwrap().tokens = 8), "layout");
}

/// The file with the sums that it would have if it had been written so.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    use xxhash_rust::xxh3::{Xxh3, xxh3_128};
    let head = bytes.get(12..16).map_or(0, |len| u32::from_le_bytes(len.try_into().unwrap())) as usize;
    let Some(end) = head.checked_add(16).filter(|end| end + 16 <= bytes.len()) else { return bytes };
    let begun = xxh3_128(&bytes[..end]).to_le_bytes();
    bytes[end..end + 16].copy_from_slice(&begun);
    let (mut at, page) = (end + 16, PAGE * 8);
    for index in 0u64.. {
        if at + page + 16 > bytes.len() {
            return bytes;
        }
        let mut hash = Xxh3::new();
        [&begun[..], &index.to_le_bytes(), &bytes[at..at + page]].iter().for_each(|part| hash.update(part));
        bytes[at + page..at + page + 16].copy_from_slice(&hash.digest128().to_le_bytes());
        at += page + 16;
    }
    bytes
}

#[test]
fn whatever_the_bytes_are_they_are_right_or_an_error() {
    let (loader, states, _, bytes) = case();
    let histories = histories(&states);
    let mut state = 1u64;
    let mut below = move |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let (mut right, mut believed) = (0, 0);
    for round in 0..30_000 {
        let mut mutated = bytes.clone();
        for _ in 0..=below(3) {
            let at = below(mutated.len());
            match below(6) {
                0 => mutated[at] ^= 1 << below(8),
                1 => mutated[at] = below(256) as u8,
                2 => mutated.truncate(at + 1),
                3 => mutated.insert(at, below(256) as u8),
                4 => {
                    let long = (at + 8).min(mutated.len());
                    mutated[at..long].fill([0, 255, 127][below(3)]);
                }
                _ => {
                    let from = below(bytes.len());
                    let count = below(40).min(bytes.len() - from).min(mutated.len() - at);
                    mutated[at..at + count].copy_from_slice(&bytes[from..from + count]);
                }
            }
        }
        // Half of them by somebody who knows how sums are made: then only what it says is checked.
        let is_sealed = round % 2 == 0;
        let mutated = if is_sealed { sealed(mutated) } else { mutated };
        let Ok(found) = found(&loader, &mutated, OWNER, &histories) else { continue };
        if !is_sealed || mutated == bytes {
            assert_same(&found, &states);
            right += 1;
            continue;
        }
        believed += 1;
        for Kept { history, floor, resident } in &found {
            let len = history.tokens.len();
            assert!(*floor <= len && resident.kv_len <= len, "{resident:?} of {len}, back to {floor}");
            assert_eq!(resident.pages.len(), resident.kv_len.div_ceil(PAGE));
            assert!(states_in(resident, PAGE).is_some());
        }
    }
    assert!(right > 0 && believed > 0, "{right} mutations that change nothing, {believed} that cannot be known");
    drop(states);
    assert_eq!(loader.control.pages(), 0, "whatever failed has left no page");
}
