//! Rotary position embedding (Su et al. 2021, "RoFormer"), as the keys of one layer show it.
//!
//! A cached key is its token's key rotated by its position: each pair of its numbers by `position *
//! frequency` of that pair. Neither the frequencies nor which numbers form a pair are believed from a
//! config file: both are measured on keys that differ in nothing but their position (`rotations.rs`). What was
//! measured must then predict keys at positions it was not measured on.
//!
//! Angles are in radians, frequencies in radians a position, all computed in f64.

use motorbrain_kernels::rotary::{Layout, Turn};

/// How a layer rotates its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotation {
    layout: Layout,
    /// One frequency a pair; the pairs cover a key's first `2 * frequencies.len()` numbers. None: its keys do not
    /// depend on their position.
    frequencies: Vec<f64>,
}

/// Keys of one layer: of the same tokens at one position, `[tokens, kv_heads, head_dim]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeysAt {
    /// Where they all stand.
    pub position: usize,
    /// `[tokens, kv_heads, head_dim]`, as they are cached.
    pub keys: Vec<f32>,
}

/// Positions that frequencies are measured on: from each to the next the estimate is good enough to
/// count whole turns. An angle found to 1e-5 at the last gives a slide of 2,000 positions to 1e-4.
const MEASURED_ON: [usize; 5] = [1, 4, 16, 64, 256];

/// Positions that only check what was measured, besides the largest in use.
const CHECKED_ON: [usize; 2] = [11, 100];

/// The positions at which [`Rotation::measure`] wants keys besides 0, rising, given the largest position to be used.
pub(crate) fn positions(last: usize) -> Vec<usize> {
    let far = (last > 256).then_some(last);
    let all = MEASURED_ON.into_iter().chain(CHECKED_ON).filter(|p| (1..=last).contains(p));
    let mut positions: Vec<usize> = all.chain(far).collect();
    positions.sort_unstable();
    positions
}

impl Rotation {
    /// That of a layer whose keys do not depend on their position (Kazemnejad et al. 2023, "The Impact of Positional
    /// Encoding on Length Generalization in Transformers").
    pub(crate) const NONE: Self = Self { layout: Layout::Halves, frequencies: Vec::new() };

    /// Measures the rotation on keys at position 0 and at [`positions`], which may be off by `tolerance` of the
    /// largest of them. `None` where no rotation explains the keys.
    pub(crate) fn measure(head_dim: usize, zero: &[f32], at: &[KeysAt], tolerance: f64) -> Option<Self> {
        if zero.iter().all(|x| *x == 0.0) {
            return None;
        }
        let explains = |rotation: &Self| rotation.explains(head_dim, zero, at, tolerance);
        if explains(&Self::NONE) {
            return Some(Self::NONE);
        }
        let measured_on: Vec<_> = at.iter().filter(|k| MEASURED_ON.contains(&k.position)).collect();
        let reach = measured_on.last().map_or(0, |k| k.position);
        // Some models rotate only a first part of each key, mostly a half or a quarter of it.
        let measured: Vec<Self> = widths(head_dim)
            .flat_map(|width| Layout::ALL.map(|layout| (layout, width / 2)))
            .map(|(layout, pairs)| {
                let of_pair = |p| frequency(layout.pair(p, pairs), head_dim, zero, &measured_on);
                Self { layout, frequencies: (0..pairs).map(of_pair).collect() }
            })
            .collect();
        let round = measured.iter().flat_map(|rotation| rotation.with_round_bases(reach)).find(explains);
        round.or_else(|| measured.into_iter().find(explains))
    }

    /// The usual geometric sequence `base^(-2 i / rotary)`, all of it perhaps slower by one factor, with the round
    /// numbers nearest to what was measured up to position `reach`, the roundest first. Where one explains the keys as
    /// well it is exact, and the measured frequencies of slow pairs are not.
    fn with_round_bases(&self, reach: usize) -> impl Iterator<Item = Self> {
        let pairs = self.frequencies.len();
        // The slowest pair that turned far enough to be measured well tells the base best.
        let pair = (1..pairs).rev().find(|p| self.frequencies[*p] * reach as f64 > 0.5);
        let fastest = self.frequencies.first().copied().unwrap_or_default();
        let fit =
            pair.map(|pair| (fastest.recip(), (self.frequencies[pair] / fastest).powf(-(pairs as f64) / pair as f64)));
        let layout = self.layout;
        fit.into_iter().flat_map(move |(factor, base)| {
            (1..=DIGITS_MAX).map(move |digits| {
                let (factor, base) = (rounded(factor, digits), rounded(base, digits));
                let frequency = |p| base.powf(-(p as f64) / pairs as f64) / factor;
                Self { layout, frequencies: (0..pairs).map(frequency).collect() }
            })
        })
    }

    /// Which numbers form pairs.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Radians a position, one for each pair, the fastest first.
    pub fn frequencies(&self) -> &[f64] {
        &self.frequencies
    }

    /// Whether keys do not depend on their position.
    pub fn is_none(&self) -> bool {
        self.frequencies.is_empty()
    }

    /// The turn that brings a key from position `position + back` to `position`.
    pub(crate) fn back(&self, back: usize) -> Turn {
        self.turn(-(back as f64))
    }

    /// Whether all keys are those at position 0, rotated.
    pub(crate) fn explains(&self, head_dim: usize, zero: &[f32], at: &[KeysAt], tolerance: f64) -> bool {
        let largest = f64::from(zero.iter().fold(0f32, |m, x| m.max(x.abs())));
        at.iter().all(|at| {
            // Exporters compute `position * frequency` in f32, so their own angle is off by this much.
            let angle_error = at.position as f64 * f64::from(f32::EPSILON);
            let tolerance = largest * (tolerance + 2.0 * angle_error);
            let turn = self.turn(at.position as f64);
            zero.chunks_exact(head_dim).zip(at.keys.chunks_exact(head_dim)).all(|(zero, found)| {
                let mut expected = zero.to_vec();
                turn.apply(&mut expected);
                expected.iter().zip(found).all(|(e, f)| f64::from((e - f).abs()) <= tolerance)
            })
        })
    }

    fn turn(&self, positions: f64) -> Turn {
        Turn::new(self.layout, &self.frequencies, positions)
    }
}

/// Of wider heads only the usual parts are tried: each is measured anew, and no model has such.
const HEAD_DIM_MAX: usize = 512;

/// How many of a key's numbers may be rotated: any even number, the usual ones first.
fn widths(head_dim: usize) -> impl Iterator<Item = usize> {
    let usual = [head_dim, head_dim / 2, head_dim / 4];
    let others =
        (2..if head_dim > HEAD_DIM_MAX { 2 } else { head_dim }).rev().filter(move |width| !usual.contains(width));
    usual.into_iter().chain(others).filter(|width| *width >= 2 && width % 2 == 0)
}

/// Digits of the bases and factors that models are made with: 500,000 has one, 160,000 two.
const DIGITS_MAX: i32 = 3;

/// A positive number with so many significant digits.
fn rounded(number: f64, digits: i32) -> f64 {
    let unit = 10f64.powf(number.log10().floor() - f64::from(digits - 1));
    (number / unit).round() * unit
}

/// One pair's frequency from keys at rising powers of two: each doubling halves the error, and the
/// estimate so far tells how many whole turns lie between.
fn frequency(pair: (usize, usize), head_dim: usize, zero: &[f32], at: &[&KeysAt]) -> f64 {
    at.iter().fold(0.0, |estimate, keys| {
        let position = keys.position as f64;
        let expected = estimate * position;
        let found = angle_between(pair, head_dim, zero, &keys.keys);
        let whole_turns = ((expected - found) / std::f64::consts::TAU).round();
        (found + whole_turns * std::f64::consts::TAU) / position
    })
}

/// The angle that turns one pair of all keys `from` best (in least squares) onto that of `to`.
fn angle_between((i, j): (usize, usize), head_dim: usize, from: &[f32], to: &[f32]) -> f64 {
    let (mut dot, mut cross) = (0.0, 0.0);
    for (from, to) in from.chunks_exact(head_dim).zip(to.chunks_exact(head_dim)) {
        let [a, b, c, d] = [from[i], from[j], to[i], to[j]].map(f64::from);
        dot += a * c + b * d;
        cross += a * d - b * c;
    }
    cross.atan2(dot)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    const HEAD_DIM: usize = 16;
    /// Roundings of f32.
    const EXACT: f64 = 8.0 * f32::EPSILON as f64;

    fn rotated(layout: Layout, rotary: usize, base: f64, zero: &[f32], position: usize) -> Vec<f32> {
        let mut keys = zero.to_vec();
        for key in keys.chunks_exact_mut(HEAD_DIM) {
            for pair in 0..rotary / 2 {
                let angle = position as f64 * base.powf(-2.0 * pair as f64 / rotary as f64);
                let (i, j) = layout.pair(pair, rotary / 2);
                let (x, y) = (f64::from(key[i]), f64::from(key[j]));
                key[i] = (x * angle.cos() - y * angle.sin()) as f32;
                key[j] = (y * angle.cos() + x * angle.sin()) as f32;
            }
        }
        keys
    }

    fn zero() -> Vec<f32> {
        (0..6 * HEAD_DIM).map(|i| ((i * 37 + 11) % 23) as f32 / 5.0 - 2.0).collect()
    }

    fn measure(keys: impl Fn(usize) -> Vec<f32>, last: usize) -> Option<Rotation> {
        let at: Vec<_> =
            positions(last).into_iter().map(|position| KeysAt { position, keys: keys(position) }).collect();
        Rotation::measure(HEAD_DIM, &zero(), &at, EXACT)
    }

    #[test]
    fn any_base_layout_and_width_is_found() {
        for layout in Layout::ALL {
            for rotary in (2..=HEAD_DIM).step_by(2) {
                for base in [1e4, 123_456.0, 1e6] {
                    let found = measure(|p| rotated(layout, rotary, base, &zero(), p), 2047).unwrap();
                    // Two numbers are a pair in either layout. Interleaved pairs that do not turn are as good as none.
                    assert!(found.layout() == layout || rotary == 2, "{layout:?} {rotary}");
                    let expected = (0..rotary / 2).map(|p| base.powf(-2.0 * p as f64 / rotary as f64));
                    for (found, expected) in found.frequencies.iter().zip(expected.chain(std::iter::repeat(0.0))) {
                        assert!((found - expected).abs() < 1e-8, "{layout:?} {rotary} {base}: {found} {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_turn_back_undoes_positions() {
        let found = measure(|p| rotated(Layout::Halves, HEAD_DIM, 1e6, &zero(), p), 2047).unwrap();
        let mut keys = rotated(Layout::Halves, HEAD_DIM, 1e6, &zero(), 1500);
        let turn = found.back(500);
        keys.chunks_exact_mut(HEAD_DIM).for_each(|k| turn.apply(k));
        for (found, expected) in keys.iter().zip(rotated(Layout::Halves, HEAD_DIM, 1e6, &zero(), 1000)) {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
    }

    #[test]
    fn scaled_frequencies_are_measured() {
        // Only the slow half is stretched, as Llama 3.1 does: no base explains it.
        let stretched = |p: usize| {
            let mut keys = rotated(Layout::Halves, HEAD_DIM, 1e4, &zero(), p);
            let slow = rotated(Layout::Halves, HEAD_DIM, 1e4 * 8f64.powf(2.0), &zero(), p);
            for (key, slow) in keys.chunks_exact_mut(HEAD_DIM).zip(slow.chunks_exact(HEAD_DIM)) {
                for pair in HEAD_DIM / 4..HEAD_DIM / 2 {
                    (key[pair], key[pair + HEAD_DIM / 2]) = (slow[pair], slow[pair + HEAD_DIM / 2]);
                }
            }
            keys
        };
        assert!(measure(stretched, 2047).is_some());
    }

    #[test]
    fn a_base_is_exact_though_all_turn_slower_by_a_factor() {
        let slower = |p: usize| {
            let mut keys = zero();
            let frequencies: Vec<f64> = (0..8).map(|i| 1e6f64.powf(-f64::from(i) / 8.0) / 8.0).collect();
            let turn = Turn::new(Layout::Halves, &frequencies, p as f64);
            keys.chunks_exact_mut(HEAD_DIM).for_each(|key| turn.apply(key));
            keys
        };
        let found = measure(slower, 2047).unwrap();
        let expected = (0..8).map(|i| 1e6f64.powf(-f64::from(i) / 8.0) / 8.0);
        assert!(found.frequencies.iter().zip(expected).all(|(f, e)| (f / e - 1.0).abs() < 1e-12), "{found:?}");
    }

    #[test]
    fn keys_that_do_not_turn_have_no_rotation() {
        assert_eq!(measure(|_| zero(), 2047), Some(Rotation::NONE));
        // Within the tolerance alone.
        assert_ne!(measure(|p| zero().iter().map(|x| x + p as f32 * 1e-5).collect(), 2047), Some(Rotation::NONE));
    }

    #[test]
    fn what_is_no_rotation_is_not_taken_for_one() {
        assert_eq!(Rotation::measure(HEAD_DIM, &[0.0; HEAD_DIM], &[], EXACT), None);
        assert_eq!(measure(|p| zero().iter().map(|x| x + p as f32 * 0.01).collect(), 255), None);
        // A base that changes with the position, as dynamic scaling does.
        let dynamic = |p: usize| rotated(Layout::Halves, HEAD_DIM, if p > 1000 { 1e5 } else { 1e4 }, &zero(), p);
        assert_eq!(measure(dynamic, 2047), None);
    }
}
