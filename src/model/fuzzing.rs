//! What fuzzing reaches of this room: all that is made of a model's graph without the runtime. Nothing else calls it, and
//! nothing is promised of it.

use std::path::Path;

use super::{FuseRotaries, FuseRotary, Model, Paged, Weights, weights};

/// Positions and pairs of the rotation that is made up, and the block that weights are quantised in.
const POSITIONS: usize = 64;
const PAIRS_MAX: usize = 64;
const BLOCK: usize = 32;

/// Rewrites a model for the paged form, its layers in turn with rotation and without, and into `folder` with each kind
/// of weights. What is refused is refused.
pub fn rewrites(model: &Model, folder: &Path) {
    let pairs = PAIRS_MAX.min(model.contract.head_dim / 2);
    let frequencies: Vec<f64> = (0..pairs).map(|pair| 1e4_f64.powf(-(pair as f64) / pairs as f64)).collect();
    for unrotated in [model.contract.layers, 0] {
        let layer = |layer| {
            let frequencies = if layer == unrotated { &[][..] } else { &frequencies };
            Some(FuseRotary { frequencies, interleaved: layer % 2 == 1, scale: 1.0 })
        };
        let rotaries = FuseRotaries { layers: (0..model.contract.layers).map(layer).collect(), positions: POSITIONS };
        drop(Paged::fuse(&model.overlay, &model.contract, &rotaries));
    }
    for kind in Weights::ALL {
        drop(weights::rewrite_file(&model.graph, folder, (kind, BLOCK), &mut |_, _| {}));
    }
}
