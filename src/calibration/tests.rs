//! Calibrations against numpy's (`tools/calibration_reference.py`), and against what they are said to do.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;

use motorbrain_kernels::{
    dense::{Dense, Directions},
    moments::Moments,
};
use serde_json::Value;

use super::{Affine, CalibrationError, LogitSpace, Pairs, Texts};

/// Numbers between -0.5 and 0.5, the same in every language.
fn noise(seed: u32) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    }
}

/// As the tool makes them up: columns of rising size around other means.
fn made_up(seed: u32, rows: usize, hidden: usize) -> Vec<f32> {
    let mut noise = noise(seed);
    (0..rows * hidden).map(|index| (index % hidden) as f32).map(|column| noise() * (column + 1.0) + column).collect()
}

fn identity(n: usize) -> Dense {
    Dense::of(n, n, (0..n * n).map(|index| f64::from(u8::from(index % (n + 1) == 0))).collect())
}

fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let dot = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(x, y)| f64::from(x * y)).sum::<f64>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

#[test]
fn all_three_are_those_of_numpy() {
    const HIDDEN: usize = 8;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/calibration.json");
    let reference: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut projection = Moments::new(HIDDEN);
    projection.add(&made_up(1, 50, HIDDEN));
    let Directions { values, vectors } = projection.covariance().unwrap().matrix.directions().unwrap();
    let space = LogitSpace::of_matrix(vectors.scaled(&values.iter().map(|e| e.sqrt()).collect::<Vec<_>>()));
    let (mut texts, mut pairs) = (Texts::new(HIDDEN), Pairs::new(HIDDEN));
    made_up(2, 40, HIDDEN).chunks(HIDDEN).for_each(|text| texts.add(text).unwrap());
    let (one, noise) = (made_up(3, 40, HIDDEN), made_up(4, 40, HIDDEN));
    for (one, noise) in one.chunks(HIDDEN).zip(noise.chunks(HIDDEN)) {
        let other: Vec<f32> = one.iter().zip(noise).map(|(one, noise)| one + noise * 0.25).collect();
        pairs.add(one, &other).unwrap();
    }
    let made = [
        ("weights", space.affine().unwrap()),
        ("texts", texts.finish(&space).unwrap()),
        ("pairs", pairs.finish(&space).unwrap()),
    ];
    for (maker, affine) in made {
        let vectors: Vec<Vec<f32>> = made_up(5, 5, HIDDEN).chunks(HIDDEN).map(|hidden| affine.apply(hidden)).collect();
        for (which, count) in [("all", affine.dim()), ("first", 3)] {
            for (row, one) in vectors.iter().enumerate() {
                for (column, other) in vectors.iter().enumerate() {
                    let expected = reference[maker][which][row][column].as_f64().unwrap();
                    let found = cosine(&one[..count], &other[..count]);
                    // The matrix has eleven bits.
                    assert!((found - expected).abs() < 2e-3, "{maker}, {which}: {found}, expected {expected}");
                }
            }
        }
    }
}

/// What a matrix is for unit vectors: `[hidden, dim]`, up to its scale.
fn matrix(affine: &Affine) -> Dense {
    let n = affine.hidden();
    let zero = affine.apply(&vec![0.0; n]);
    let row = |index: usize| {
        let unit: Vec<f32> = (0..n).map(|at| f32::from(u8::from(at == index))).collect();
        affine.apply(&unit).into_iter().zip(zero.clone()).map(|(x, zero)| f64::from(x - zero)).collect::<Vec<_>>()
    };
    Dense::of(n, affine.dim(), (0..n).flat_map(row).collect())
}

/// Asserts that a matrix is diagonal, and its diagonal falling.
fn assert_falling(matrix: &Dense) {
    let n = matrix.columns();
    let diagonal: Vec<f64> = matrix.values().iter().copied().step_by(n + 1).collect();
    assert!(diagonal.is_sorted_by(|x, y| *x >= y * 0.999), "{diagonal:?}");
    for (index, value) in matrix.values().iter().enumerate().filter(|(index, _)| index % (n + 1) != 0) {
        let beside = (diagonal[index / n] * diagonal[index % n]).sqrt();
        assert!(value.abs() < 2e-3 * beside, "{value} beside {beside}");
    }
}

#[test]
fn directions_are_in_falling_order_and_vary_by_themselves() {
    const HIDDEN: usize = 12;
    let rows = made_up(7, 200, HIDDEN);
    let (mut texts, mut pairs, mut moments) = (Texts::new(HIDDEN), Pairs::new(HIDDEN), Moments::new(HIDDEN));
    moments.add(&rows);
    rows.chunks(HIDDEN).for_each(|row| texts.add(row).unwrap());
    rows.chunks(2 * HIDDEN).for_each(|pair| pairs.add(&pair[..HIDDEN], &pair[HIDDEN..]).unwrap());
    assert_eq!((texts.count(), pairs.count()), (200, 100));
    let space = LogitSpace::of_matrix(identity(HIDDEN));
    let total = moments.covariance().unwrap().matrix;
    for affine in [texts.finish(&space).unwrap(), pairs.finish(&space).unwrap()] {
        assert_falling(&matrix(&affine).around(&total));
        // What all have in common is gone.
        let mut after = Moments::new(affine.dim());
        rows.chunks(HIDDEN).for_each(|row| after.add(&affine.apply(row)));
        let after = after.covariance().unwrap();
        let most = after.matrix.values().iter().fold(0.0_f64, |most, x| most.max(x.abs())).sqrt();
        assert!(after.mean.iter().all(|mean| mean.abs() < 1e-4 * most), "{:?} beside {most}", after.mean);
    }
}

/// How often of a few hundred pairs the other one is the nearest, calibrated on others in a space.
fn recall(space: &LogitSpace, pair: &mut impl FnMut() -> [Vec<f32>; 2], training: usize) -> f64 {
    let first = pair();
    let mut pairs = Pairs::new(first[0].len());
    pairs.add(&first[0], &first[1]).unwrap();
    for _ in 1..training {
        let [one, other] = pair();
        pairs.add(&one, &other).unwrap();
    }
    let affine = pairs.finish(space).unwrap();
    let held: Vec<[Vec<f32>; 2]> = (0..200).map(|_| pair().map(|vector| affine.apply(&vector))).collect();
    let is_found = |(index, [one, _]): (usize, &[Vec<f32>; 2])| {
        let nearest = held.iter().map(|[_, other]| cosine(one, other)).enumerate();
        nearest.max_by(|x, y| x.1.total_cmp(&y.1)).map(|(nearest, _)| nearest) == Some(index)
    };
    held.iter().enumerate().filter(|pair| is_found(*pair)).count() as f64 / 200.0
}

/// Of hidden states a few directions are large and mean little to the logits, as in trained models: few pairs say more in
/// the space of logits.
#[test]
fn pairs_are_taken_into_the_space_of_logits_first() {
    const HIDDEN: usize = 24;
    let scales: Vec<f64> = (0..HIDDEN).map(|index| 0.7_f64.powi(index as i32)).collect();
    let space = LogitSpace::of_matrix(identity(HIDDEN).scaled(&scales));
    let mut noise = noise(11);
    let mut pair = || {
        let meaning: Vec<f32> = (0..HIDDEN).map(|_| noise()).collect();
        [0.0, 3.0].map(|role: f32| {
            let of = |(meaning, scale): (&f32, &f64)| (meaning + 0.6 * noise() + role) / *scale as f32;
            meaning.iter().zip(&scales).map(of).collect::<Vec<f32>>()
        })
    };
    let raw = LogitSpace::of_matrix(identity(HIDDEN));
    let [logits, raw] = [&space, &raw].map(|space| recall(space, &mut pair, 60));
    assert!(logits > raw + 0.1 && logits > 0.5, "{logits} in the space of logits, {raw} in that of hidden states");
}

#[test]
fn what_cannot_be_calibrated_from_is_told() {
    let space = LogitSpace::of_matrix(identity(2));
    let mut texts = Texts::new(2);
    let told = texts.finish(&space).unwrap_err().to_string();
    assert_eq!(told, "there are 0 texts, expected at least 2");
    for (vector, expected) in [
        (&[1.0][..], "a vector has 1 numbers, expected 2"),
        (&[1.0, f32::NAN], "a number to calibrate from is not finite"),
    ] {
        assert_eq!(texts.add(vector).unwrap_err().to_string(), expected);
        assert_eq!(Pairs::new(2).add(&[0.0, 0.0], vector).unwrap_err().to_string(), expected);
        assert_eq!(Pairs::new(2).add(vector, &[0.0, 0.0]).unwrap_err().to_string(), expected);
    }
    // What is too large for a sum.
    let far = Pairs::new(1).add(&[f32::MAX], &[f32::MIN]);
    assert!(matches!(far, Err(CalibrationError::NotFinite)), "{far:?}");
    let mut pairs = Pairs::new(2);
    for _ in 0..3 {
        texts.add(&[1.0, 2.0]).unwrap();
        pairs.add(&[1.0, 2.0], &[1.0, 2.0]).unwrap();
    }
    assert_eq!(texts.count(), 3, "what is refused is not counted");
    for told in [texts.finish(&space), pairs.finish(&space)] {
        assert!(matches!(told, Err(CalibrationError::Alike { .. })), "{told:?}");
    }
    texts.add(&[3.0, 4.0]).unwrap();
    assert!(texts.finish(&space).is_ok());
    assert!(LogitSpace::of_matrix(Dense::of(1, 1, vec![0.0])).affine().is_err());
}

#[test]
fn sums_go_on_from_their_file_to_the_bit_and_no_other_file_is_taken_for_them() {
    const HIDDEN: usize = 5;
    let folder = tempfile::tempdir().unwrap();
    let (path, others) = (folder.path().join("texts"), folder.path().join("pairs"));
    let rows = made_up(3, 300, HIDDEN);
    let (mut texts, mut pairs) = (Texts::new(HIDDEN), Pairs::new(HIDDEN));
    for (count, row) in rows.chunks(HIDDEN).enumerate() {
        if [0, 1, 128, 250].contains(&count) {
            let note = format!("{count} of 300");
            texts.save(&path, &note).unwrap();
            pairs.save(&others, &note).unwrap();
            let (loaded, told) = Texts::load(&path, HIDDEN).unwrap();
            assert_eq!((&loaded, told.as_str()), (&texts, note.as_str()));
            assert_eq!(Pairs::load(&others, HIDDEN).unwrap(), (pairs.clone(), note));
            texts = loaded;
        }
        texts.add(row).unwrap();
        pairs.add(row, &rows[..HIDDEN]).unwrap();
    }
    let mut whole = Texts::new(HIDDEN);
    rows.chunks(HIDDEN).for_each(|row| whole.add(row).unwrap());
    assert_eq!(texts, whole);

    let told = Texts::load(&others, HIDDEN).unwrap_err();
    assert!(matches!(told, CalibrationError::NoFile { .. }), "{told}");
    let told = Texts::load(&path, HIDDEN + 1).unwrap_err().to_string();
    assert!(told.ends_with("was made for a hidden size of 5, the model has 6"), "{told}");
    let mut few = Texts::new(2);
    few.add(&[1.0, -2.0]).unwrap();
    few.save(&path, "one").unwrap();
    let bytes = fs::read(&path).unwrap();
    let load = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Texts::load(&path, 2)
    };
    for at in 0..bytes.len() {
        assert!(load(&bytes[..at]).is_err(), "{at} bytes");
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        if let Ok(found) = load(&flipped) {
            assert_eq!(found, (few.clone(), "one".to_owned()), "byte {at}");
        }
    }
    assert_eq!(load(&bytes).unwrap().0, few);
}
