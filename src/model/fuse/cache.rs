//! How a layer's cache grows: past rows, new rows behind them.

use super::walk::{COPIES, maker, source};
use crate::model::view::View;

/// Keys or values of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cache<'g> {
    /// The new tokens' rows, [batch, kv_heads, seq, head_dim].
    pub(super) new: &'g str,
    /// Past and new rows in one tensor, whose copy the graph gives.
    pub(super) whole: &'g str,
}

impl<'g> Cache<'g> {
    /// The cache between an input and an output of the graph.
    pub(super) fn between(view: &View<'g>, past: &str, present: &'g str) -> Option<Self> {
        let (_, node) = maker(view, present).filter(|(_, node)| node.op_type() == "Concat")?;
        let ([before, new], Some(-2 | 2)) = (node.input.as_slice(), node.int("axis")) else {
            return None;
        };
        (source(view, before, COPIES) == past).then_some(Self { new, whole: node.output.first()? })
    }
}
