//! The largest numbers of a row: the candidates for a next token among a vocabulary's logits.
//!
//! Numbers are selected, never sorted but for those that are listed in order. The largest number of each block is
//! looked for once, and then only blocks are read that have something to give.

use std::cmp::Ordering;

use crate::vector::{self, BLOCK};

/// Memory for ranking, kept from one row to the next.
#[derive(Default)]
pub struct Ranking {
    /// The largest number of each block.
    maxima: Vec<f32>,
    /// Those, as far as they are selected.
    selected: Vec<f32>,
    places: Vec<u32>,
}

/// A row of which the largest number of each block is known.
pub struct Ranked<'a> {
    values: &'a [f32],
    memory: &'a mut Ranking,
}

impl Ranking {
    /// Reads a row once. A NaN in it is passed over: no such number may be asked for.
    pub fn of<'a>(&'a mut self, values: &'a [f32]) -> Ranked<'a> {
        vector::block_maxima(values, &mut self.maxima);
        // All that any row of this length asks for: its memory is taken once.
        self.places.clear();
        self.places.reserve(values.len());
        Ranked { values, memory: self }
    }
}

impl<'a> Ranked<'a> {
    /// The row itself.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// The largest number; negative infinity where there is none.
    pub fn most(&self) -> f32 {
        vector::max(&self.memory.maxima)
    }

    /// The place of the largest number, the first where several are; 0 where there is none.
    pub fn largest(&self) -> u32 {
        let most = self.most();
        let block = self.memory.maxima.iter().position(|max| *max == most).unwrap_or(0);
        let found = self.values.iter().skip(block * BLOCK).position(|value| *value == most);
        (block * BLOCK + found.unwrap_or(0)) as u32
    }

    /// The places of the numbers that are `least` or more, in their order.
    pub fn at_least(&mut self, least: f32) -> &[u32] {
        let Ranking { maxima, places, .. } = &mut *self.memory;
        places.clear();
        vector::at_least(self.values, maxima, least, places);
        places
    }

    /// The places of the `count` largest numbers in any order; of equal ones the smaller places.
    pub fn best(&mut self, count: usize) -> &[u32] {
        self.select(count);
        &self.memory.places
    }

    /// The same, the largest first; the smaller place first where two are equal.
    pub fn best_in_order(&mut self, count: usize) -> &[u32] {
        self.select(count);
        let values = self.values;
        let places = &mut self.memory.places;
        places.sort_unstable_by(|a, b| better(values, *a, *b));
        places
    }

    fn select(&mut self, count: usize) {
        let values = self.values;
        let count = count.min(values.len());
        if count == 0 {
            return self.memory.places.clear();
        }
        let least = self.bound(count);
        self.at_least(least);
        let places = &mut self.memory.places;
        if count < places.len() {
            places.select_nth_unstable_by(count - 1, |a, b| better(values, *a, *b));
            places.truncate(count);
        }
    }

    /// A number that `count` are no smaller than, as far as the blocks' maxima say: the `count`th of them, where there
    /// are as many.
    fn bound(&mut self, count: usize) -> f32 {
        let Ranking { maxima, selected, .. } = &mut *self.memory;
        if maxima.len() < count {
            return f32::NEG_INFINITY;
        }
        selected.clone_from(maxima);
        *selected.select_nth_unstable_by(count - 1, |a, b| descending(*a, *b)).1
    }
}

fn better(values: &[f32], a: u32, b: u32) -> Ordering {
    descending(values[a as usize], values[b as usize]).then(a.cmp(&b))
}

/// The larger first; zeros of both signs are equal, as they are for [`Ranked::largest`].
fn descending(a: f32, b: f32) -> Ordering {
    b.partial_cmp(&a).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by sorting all.
    fn sorted(values: &[f32], count: usize) -> Vec<u32> {
        let mut places: Vec<u32> = (0..values.len() as u32).collect();
        places.sort_by(|a, b| descending(values[*a as usize], values[*b as usize]));
        places.truncate(count);
        places
    }

    #[test]
    fn best_is_ordered_whatever_the_count() {
        for count in 0..=6 {
            let found = Ranking::default().of(&[1.0, 3.0, 3.0, 2.0, -1.0]).best_in_order(count).to_vec();
            assert_eq!(found, [1, 2, 3, 0, 4][..count.min(5)], "{count}");
        }
    }

    #[test]
    fn zeros_are_equal() {
        let zeros = [-0.0, 0.0, -1.0];
        assert_eq!(Ranking::default().of(&zeros).best_in_order(2), [0, 1]);
        assert_eq!(Ranking::default().of(&zeros).largest(), 0);
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
                let mut row = ranking.of(&values);
                assert_eq!(row.largest(), sorted(&values, 1)[0], "{len}");
                assert_eq!(row.most(), values[row.largest() as usize], "{len}");
                for count in [1, 2, 3, 15, 16, 63, 64, 65, 999, 5000] {
                    let expected = sorted(&values, count);
                    assert_eq!(row.best_in_order(count), expected, "{count} of {len}");
                    let mut found = row.best(count).to_vec();
                    found.sort_by(|a, b| better(&values, *a, *b));
                    assert_eq!(found, expected, "{count} of {len}");
                }
                for least in [f32::NEG_INFINITY, -1e9, -0.5, 0.0, 57.0, 4096.0, f32::INFINITY] {
                    let expected: Vec<u32> = (0..len as u32).filter(|i| values[*i as usize] >= least).collect();
                    assert_eq!(row.at_least(least), expected, "{least} of {len}");
                }
            }
        }
    }
}
