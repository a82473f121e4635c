//! How many of two texts that belong together find each other among all others, before and after a calibration.

use motorbrain::calibration::Affine;

use crate::eval::{embed::Vectors, retrieval::recall_at_1};

/// Recall@1, mean of both ways, of pairs of vectors.
pub(super) fn before_and_after(pairs: &[Vectors], affine: &Affine) -> [f64; 2] {
    let column = |at: usize| pairs.iter().map(move |pair| &pair[at][..]);
    let raw = |at| column(at).map(<[f32]>::to_vec).collect::<Vectors>();
    let straight = |at| column(at).map(|vector| affine.apply(vector)).collect::<Vectors>();
    [recall_at_1(&raw(0), &raw(1)), recall_at_1(&straight(0), &straight(1))]
}
