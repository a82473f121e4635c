//! The largest of a row of numbers, by their places.

use crate::vector;

/// The place of the largest number, the first where several are; 0 where there is none.
pub fn largest(values: &[f32]) -> u32 {
    let max = vector::most(values);
    values.iter().position(|value| *value == max).unwrap_or(0) as u32
}

/// Writes the places of the `count` largest numbers to `places`, the largest first; the smaller place first where two
/// are equal.
pub fn best(values: &[f32], count: usize, places: &mut Vec<u32>) {
    let value = |place: &u32| values[*place as usize];
    let better = |a: &u32, b: &u32| value(b).total_cmp(&value(a)).then(a.cmp(b));
    places.clear();
    match count.min(values.len()) {
        0 => {}
        1 => places.push(largest(values)),
        count => {
            places.extend(0..values.len() as u32);
            if count < places.len() {
                places.select_nth_unstable_by(count - 1, better);
                places.truncate(count);
            }
            places.sort_unstable_by(better);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_is_ordered_whatever_the_count() {
        for count in 0..=6 {
            let mut found = vec![9];
            best(&[1.0, 3.0, 3.0, 2.0, -1.0], count, &mut found);
            assert_eq!(found, [1, 2, 3, 0, 4][..count.min(5)], "{count}");
        }
    }
}
