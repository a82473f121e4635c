//! The largest of a row of numbers, by their places.

use std::cmp::Ordering;

use crate::vector;

/// Numbers that share a maximum: a row of 150,000 has some thousand of those, which are ranked in its stead.
const BLOCK: usize = 64;

/// The place of the largest number, the first where several are; 0 where there is none.
pub fn largest(values: &[f32]) -> u32 {
    let max = vector::most(values);
    values.iter().position(|value| *value == max).unwrap_or(0) as u32
}

/// Memory for ranking, kept from one row to the next.
#[derive(Default)]
pub struct Ranking {
    places: Vec<u32>,
    /// The largest number of each block.
    maxima: Vec<f32>,
    /// Those, the largest first as far as they are asked for.
    ranked: Vec<f32>,
}

impl Ranking {
    /// The places of the `count` largest numbers, the largest first; the smaller place first where two are equal.
    /// No number may be a NaN.
    pub fn best(&mut self, values: &[f32], count: usize) -> &[u32] {
        let places = &mut self.places;
        places.clear();
        let count = count.min(values.len());
        if count == 1 {
            places.push(largest(values));
        } else if count > 0 {
            self.candidates(values, count);
            let places = &mut self.places;
            let value = |place: &u32| values[*place as usize];
            let better = |a: &u32, b: &u32| descending(&value(a), &value(b)).then(a.cmp(b));
            if count < places.len() {
                places.select_nth_unstable_by(count - 1, better);
                places.truncate(count);
            }
            places.sort_unstable_by(better);
        }
        &self.places
    }

    /// Fills in places among which the `count` largest numbers are: where there are as many blocks, as many numbers
    /// are no smaller than the `count`th of the blocks' maxima, and none that is smaller is wanted.
    fn candidates(&mut self, values: &[f32], count: usize) {
        let Self { places, maxima, ranked } = self;
        if values.len().div_ceil(BLOCK) < count {
            return places.extend(0..values.len() as u32);
        }
        maxima.resize(values.len().div_ceil(BLOCK), 0.0);
        vector::block_maxima(values, BLOCK, maxima);
        ranked.clone_from(maxima);
        let least = *ranked.select_nth_unstable_by(count - 1, descending).1;
        for (block, values) in values.chunks(BLOCK).enumerate().filter(|(block, _)| maxima[*block] >= least) {
            let first = block * BLOCK;
            let large = values.iter().enumerate().filter(|(_, value)| **value >= least);
            places.extend(large.map(|(at, _)| (first + at) as u32));
        }
    }
}

/// The larger first; zeros of both signs are equal, as they are for [`largest`].
fn descending(a: &f32, b: &f32) -> Ordering {
    b.partial_cmp(a).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by sorting all.
    fn sorted(values: &[f32], count: usize) -> Vec<u32> {
        let mut places: Vec<u32> = (0..values.len() as u32).collect();
        places.sort_by(|a, b| descending(&values[*a as usize], &values[*b as usize]));
        places.truncate(count);
        places
    }

    #[test]
    fn best_is_ordered_whatever_the_count() {
        for count in 0..=6 {
            let found = Ranking::default().best(&[1.0, 3.0, 3.0, 2.0, -1.0], count).to_vec();
            assert_eq!(found, [1, 2, 3, 0, 4][..count.min(5)], "{count}");
        }
    }

    #[test]
    fn zeros_are_equal() {
        let zeros = [-0.0, 0.0, -1.0];
        assert_eq!(Ranking::default().best(&zeros, 2), [0, 1]);
        assert_eq!(largest(&zeros), 0);
    }

    #[test]
    fn long_rows_are_ranked_as_sorted_ones() {
        let mut ranking = Ranking::default();
        for len in [63, 64, 65, 1000, 4097] {
            // Many are equal, also across blocks; some are infinite.
            let mixed: Vec<f32> = (0..len).map(|i| ((i * 7919) % 211) as f32 - 100.0).collect();
            let same = vec![-0.5; len];
            let few: Vec<f32> = (0..len).map(|i| if i % 300 == 7 { i as f32 } else { f32::NEG_INFINITY }).collect();
            let rising: Vec<f32> = (0..len).map(|i| i as f32).collect();
            for values in [mixed, same, few, rising] {
                for count in [2, 3, 15, 16, 63, 64, 65, 999, 5000] {
                    assert_eq!(ranking.best(&values, count), sorted(&values, count), "{count} of {len}");
                }
            }
        }
    }
}
