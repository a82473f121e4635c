//! What the files say of the rotary position embedding: claims only. The engine measures each layer's rotation on its
//! keys and believes no file; where two of them differ, the model's user is told.

use super::{switched, view::View};

/// What the files say of the rotation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RotationClaims {
    /// The base that config.json gives.
    pub config_base: Option<f64>,
    /// The base that the preset gives.
    pub preset_base: Option<f64>,
    /// Positions that the cosines and sines in the graph reach to; `None` where it carries none.
    pub table_positions: Option<usize>,
}

/// The positions of the tables, `[positions, rotated dimensions / 2]`, of the nodes that have any: the fewest.
pub(crate) fn table_positions(view: &View<'_>) -> Option<usize> {
    let positions = view.graph.node.iter().filter_map(|node| {
        let (cos, sin) = match node.op_type() {
            "GroupQueryAttention" if node.int("do_rotary") == Some(1) => (7, 8),
            "RotaryEmbedding" if node.domain() == "com.microsoft" => (2, 3),
            _ => return None,
        };
        let table = |name| view.constant(name).or_else(|| switched::shortest(view, name));
        table(node.input.get(sin)?)?;
        let [positions, _] = *table(node.input.get(cos)?)?.dims.as_slice() else {
            return None;
        };
        usize::try_from(positions).ok()
    });
    positions.min()
}
