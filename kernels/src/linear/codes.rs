//! How codes lie in memory and how each kind is multiplied: 4, 8 and 16 bits by words, 4 bits by bytes.
//!
//! A few rows unpack each code in registers and use it at once ([`Nibbles`], [`Bytes`], [`Quads`]). More rows
//! unpack a stretch into memory first ([`Words`]), which stays in the nearest cache, and share it.

use std::hint::black_box;

use super::{
    lanes::Lanes,
    packed::{Line, PANEL, STEP},
};
use crate::vector;

/// Bytes between what is multiplied and what is asked for meanwhile. By itself a thread looks a few hundred
/// bytes ahead, less than memory delivers while one line comes, and waits: without this a decode of one took 1.4
/// times as long on Zen 1 (`cargo xtask bench --only decode --context 64 --model smollm2`).
const AHEAD: usize = 2048;

/// How codes lie in memory, and what they are multiplied by.
pub(super) trait Source {
    /// The codes of [`STEP`] inputs of a panel.
    type Codes: bytemuck::Pod;
    /// As many activations of a row, some in each number.
    type Inputs: bytemuck::Pod + AsRef<[i32]>;

    /// A vector of outputs' codes that belong to the `part`th number of a step's inputs.
    fn codes<L: Lanes>(lanes: L, codes: &Self::Codes, part: usize, vector: usize) -> L::Ints;

    /// Asks for the codes [`AHEAD`] of these, which are read from memory one after the other.
    #[inline(always)]
    fn prefetch(codes: &Self::Codes) {
        for line in bytemuck::bytes_of(codes).chunks_exact(size_of::<Line>()) {
            vector::prefetch(line.as_ptr().wrapping_add(AHEAD));
        }
    }

    /// `sum` and the products of codes and activations.
    #[inline(always)]
    fn dot<L: Lanes>(lanes: L, codes: L::Ints, inputs: L::Ints, sum: L::Ints) -> L::Ints {
        lanes.dot(codes, inputs, sum)
    }

    /// Adds the products of `M` rows with `V` vectors of a block's codes.
    #[inline(always)]
    fn add<L: Lanes, const M: usize, const V: usize>(
        lanes: L,
        codes: &[Self::Codes],
        vector: usize,
        rows: [&[Self::Inputs]; M],
        sums: &mut [[L::Ints; V]; M],
    ) {
        add_steps::<L, Self, M, V>(lanes, codes, vector, rows, sums);
    }
}

/// Adds the products of some steps.
#[inline(always)]
fn add_steps<L: Lanes, S: Source + ?Sized, const M: usize, const V: usize>(
    lanes: L,
    codes: &[S::Codes],
    vector: usize,
    rows: [&[S::Inputs]; M],
    sums: &mut [[L::Ints; V]; M],
) {
    for (step, codes) in codes.iter().enumerate() {
        S::prefetch(codes);
        for part in 0..size_of::<S::Inputs>() / size_of::<i32>() {
            let mut weights = [lanes.splat(0); V];
            for (v, weights) in weights.iter_mut().enumerate() {
                *weights = S::codes(lanes, codes, part, vector + v);
            }
            for (sums, row) in sums.iter_mut().zip(&rows) {
                let x = lanes.splat(row[step].as_ref()[part]);
                for (sum, weights) in sums.iter_mut().zip(&weights) {
                    *sum = S::dot(lanes, *weights, x, *sum);
                }
            }
        }
    }
}

/// 4 bits, as in [`Packed`].
pub(super) struct Nibbles;

impl Source for Nibbles {
    type Codes = [u8; STEP * PANEL / 2];
    type Inputs = [i32; STEP / 2];

    #[inline(always)]
    fn codes<L: Lanes>(lanes: L, codes: &Self::Codes, pair: usize, vector: usize) -> L::Ints {
        lanes.nibbles(&codes[vector * L::COUNT * 4..], pair)
    }
}

/// 8 bits, as in [`Packed`].
pub(super) struct Bytes;

impl Source for Bytes {
    type Codes = [u8; STEP * PANEL];
    type Inputs = [i32; STEP / 2];

    #[inline(always)]
    fn codes<L: Lanes>(lanes: L, codes: &Self::Codes, pair: usize, vector: usize) -> L::Ints {
        lanes.bytes(&codes[pair * PANEL * 2 + vector * L::COUNT * 2..])
    }
}

/// 16 bits: unpacked.
pub(super) struct Words;

impl Source for Words {
    type Codes = [u8; STEP * PANEL * 2];
    type Inputs = [i32; STEP / 2];

    #[inline(always)]
    fn codes<L: Lanes>(lanes: L, codes: &Self::Codes, pair: usize, vector: usize) -> L::Ints {
        lanes.words(&codes[pair * PANEL * 4 + vector * L::COUNT * 4..])
    }

    /// They are in the nearest cache.
    #[inline(always)]
    fn prefetch(_: &Self::Codes) {}
}

/// 4 bits by activations of 8.
pub(super) struct Quads;

impl Source for Quads {
    type Codes = [u8; STEP * PANEL / 2];
    type Inputs = [i32; STEP / 4];

    #[inline(always)]
    fn codes<L: Lanes>(lanes: L, codes: &Self::Codes, quad: usize, vector: usize) -> L::Ints {
        lanes.quads(&codes[vector * L::COUNT * 4..], quad == 1)
    }

    #[inline(always)]
    fn dot<L: Lanes>(lanes: L, codes: L::Ints, inputs: L::Ints, sum: L::Ints) -> L::Ints {
        lanes.dot_bytes(codes, inputs, sum)
    }

    #[inline(always)]
    fn add<L: Lanes, const M: usize, const V: usize>(
        lanes: L,
        codes: &[Self::Codes],
        vector: usize,
        rows: [&[Self::Inputs]; M],
        sums: &mut [[L::Ints; V]; M],
    ) {
        if L::SUMS_QUADS {
            return add_steps::<L, Self, M, V>(lanes, codes, vector, rows, sums);
        }
        // Most blocks are as short as that, and with nothing added before all sums fit the registers. A compiler
        // that knew how short would unroll the steps and add their products in pairs, for which there is no room.
        let mut end = black_box(codes.len().min(STEPS_MAX));
        add_short(lanes, &codes[..end], vector, rows.map(|row| &row[..end]), sums);
        while end < codes.len() {
            let steps = end..codes.len().min(end + STEPS_MAX);
            add_short(lanes, &codes[steps.clone()], vector, rows.map(|row| &row[steps.clone()]), sums);
            end = steps.end;
        }
    }
}

/// Steps whose products of `15 * 127`, two at a time, fit 16 bits when they are added.
const STEPS_MAX: usize = 4;
const _: () = assert!(STEPS_MAX * STEP / 2 * 15 * 127 <= i16::MAX as usize);

/// Adds the products of at most [`STEPS_MAX`] steps, which are summed in 16 bits first.
#[inline(always)]
fn add_short<L: Lanes, const M: usize, const V: usize>(
    lanes: L,
    codes: &[<Quads as Source>::Codes],
    vector: usize,
    rows: [&[<Quads as Source>::Inputs]; M],
    sums: &mut [[L::Ints; V]; M],
) {
    let mut halves = [[lanes.splat(0); V]; M];
    add_steps::<L, Quads, M, V>(lanes, codes, vector, rows, &mut halves);
    let ones = lanes.splat(0x0001_0001);
    for (sums, halves) in sums.iter_mut().zip(&halves) {
        for (sum, half) in sums.iter_mut().zip(halves) {
            *sum = lanes.dot(*half, ones, *sum);
        }
    }
}
