//! The rotation of each layer: layers may have bases of their own, or none, as in models that alternate between
//! attention to neighbours and to everything.
//!
//! A layer's keys tell its rotation where nothing but their position differs. In the first layer they depend on token
//! and position alone. In those behind it they depend on what attention gave before, too; so a token is run alone, or
//! behind rows whose values are its own: attention then gives these values, whatever its weights are.
//!
//! Pure: the engine's backends run the tokens ([`Backend::keys_at`](super::backend::Backend::keys_at)).

use motorbrain_kernels::rotary::Turn;

use super::rotation::{KeysAt, Rotation};
use crate::model::{Contract, ElementType};

/// How a model rotates its keys, layer by layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotations {
    /// `None`: no rotation explains the layer's keys.
    layers: Vec<Option<Rotation>>,
}

/// One layer's keys at position 0 and at others, `[tokens, kv_heads, head_dim]` each.
pub(crate) struct LayerKeys {
    /// At position 0.
    pub zero: Vec<f32>,
    /// At the positions that were asked for, rising.
    pub at: Vec<KeysAt>,
}

/// How far keys may be off what a rotation makes of them, in parts of the largest; the strictest that any rotation
/// meets counts. Eight roundings of each type are what a first layer's keys show. Behind it the weights of attention
/// add up to 1 but for a rounding, and every layer makes more of it: measured over 30 layers, 2e-5 in f32, 1e-2 in f16
/// and where activations are rounded to 8 bits. A wrong base or layout is off by half and more.
const TOLERANCES: [f64; 4] = [8.0 * f32::EPSILON as f64, 1e-3, 8.0 / 1024.0, 5e-2];

/// Positions of which some must be explained before it is said that others are not.
const POSITIONS_MIN: usize = 4;

/// Long runs turn all their keys otherwise than short ones: what a token gives would depend on how a prompt was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "in runs of more than {positions} tokens the keys of layer {layer} turn otherwise, so answers would depend on how a \
     prompt is cut"
)]
pub(crate) struct RotationChanges {
    /// The first such layer.
    pub layer: usize,
    /// Positions up to which keys turn one way.
    pub positions: usize,
}

/// Whether a rotation that explains some of a layer's keys explains these, too.
pub(crate) fn explains(contract: &Contract, rotation: &Rotation, keys: &LayerKeys) -> bool {
    rotation.explains(contract.head_dim, &keys.zero, &keys.at, TOLERANCES[1])
}

impl Rotations {
    /// Measures them, a layer each.
    pub(crate) fn measure(contract: &Contract, layers: &[LayerKeys]) -> Self {
        let mut known: Vec<Rotation> = Vec::new();
        let measured = layers.iter().zip(&contract.kv).map(|(keys, names)| {
            let least = if names.key_type == ElementType::F16 { TOLERANCES[2] } else { TOLERANCES[0] };
            let found = TOLERANCES.into_iter().filter(|tolerance| *tolerance >= least).find_map(|tolerance| {
                let LayerKeys { zero, at } = keys;
                // Most layers turn as one before them, whose keys were less noisy.
                let as_before = known.iter().find(|known| known.explains(contract.head_dim, zero, at, tolerance));
                let found = as_before.cloned();
                let found = found.or_else(|| Rotation::measure(contract.head_dim, zero, at, tolerance))?;
                // What positions that are embedded do to keys may be small beside the largest of them.
                let is_noise = found.is_none() && tolerance > TOLERANCES[2] && !known.contains(&found);
                (!is_noise).then_some(found)
            })?;
            if !known.contains(&found) {
                known.push(found.clone());
            }
            Some(found)
        });
        Self { layers: measured.collect() }
    }

    /// Where a layer's keys turn one way up to one position and otherwise from another on: its rotation up to the first
    /// of these two. So they are where a run's length decides how it turns all its keys.
    pub(crate) fn change(contract: &Contract, keys: &LayerKeys) -> Option<(Rotation, [usize; 2])> {
        let LayerKeys { zero, at } = keys;
        (POSITIONS_MIN..at.len()).rev().find_map(|count| {
            let (before, behind) = at.split_at(count);
            let rotation = Rotation::measure(contract.head_dim, zero, before, TOLERANCES[1])?;
            let between = [before.last()?.position, behind.first()?.position];
            (!rotation.is_none()).then_some((rotation, between))
        })
    }

    /// One entry a layer, `None` where no rotation explains its keys.
    pub fn layers(&self) -> &[Option<Rotation>] {
        &self.layers
    }

    /// The first layer whose keys no rotation explains. Where there is one, the window cannot shift.
    pub fn unexplained(&self) -> Option<usize> {
        self.layers.iter().position(Option::is_none)
    }

    /// The turns, one a layer, that bring keys from position `position + back` to `position`; `None` where one layer's
    /// is not known.
    pub(crate) fn back(&self, back: usize) -> Option<Vec<Turn>> {
        self.layers.iter().map(|rotation| Some(rotation.as_ref()?.back(back))).collect()
    }
}
