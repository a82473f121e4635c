//! How many of two texts that belong together find each other among all others, before and after a calibration.

use motorbrain::calibration::Affine;

use crate::eval::embed::Vectors;

/// Recall@1, mean of both ways, of pairs of vectors.
pub(super) fn before_and_after(pairs: &[Vectors], affine: &Affine) -> [f64; 2] {
    let column = |at: usize| pairs.iter().map(move |pair| &pair[at][..]);
    let unit = |vector: Vec<f32>| {
        let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        vector.into_iter().map(|x| (f64::from(x) / length) as f32).collect()
    };
    let raw = |at| column(at).map(|vector| unit(vector.to_vec())).collect::<Vectors>();
    let straight = |at| column(at).map(|vector| unit(affine.apply(vector))).collect::<Vectors>();
    [recall(&raw(0), &raw(1)), recall(&straight(0), &straight(1))]
}

/// Of vectors of length 1. Ties help nobody.
fn recall(ones: &Vectors, others: &Vectors) -> f64 {
    let first = |from: &Vectors, to: &Vectors| {
        let is_first = |(at, vector): (usize, &Vec<f32>)| {
            let like = |other: &Vec<f32>| vector.iter().zip(other).map(|(x, y)| x * y).sum::<f32>();
            let own = like(&to[at]);
            to.iter().enumerate().all(|(place, other)| place == at || like(other) < own)
        };
        from.iter().enumerate().filter(|found| is_first(*found)).count()
    };
    (first(ones, others) + first(others, ones)) as f64 / (2 * ones.len()).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_its_own_first_is_counted_both_ways() {
        let ones = vec![vec![1.0, 0.0], vec![0.0, 1.0]];
        assert_eq!(recall(&ones, &ones), 1.0);
        // The first finds its own, from there two are as near.
        assert_eq!(recall(&ones, &vec![vec![1.0, 0.0], vec![1.0, 0.0]]), 0.25);
        assert_eq!(recall(&Vec::new(), &Vec::new()), 0.0);
    }
}
