//! How projections are split into heads: `[batch, seq, heads * head_dim]` by Reshape to `[batch, seq,
//! heads, head_dim]` and Transpose to `[batch, heads, seq, head_dim]`, with a norm of each head between
//! the two in some models.

use super::walk::{COPIES, STEPS_MAX, constant_integers, made_by, maker, source};
use crate::model::{onnx::NodeProto, view::View};

/// What one of the three projections is, as GroupQueryAttention takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Projection<'g> {
    /// The tensor.
    pub(super) tensor: &'g str,
    /// Whether it is [batch, seq, heads * head_dim] already, or [batch, seq, heads, head_dim].
    pub(super) packed: bool,
    /// The index of the Reshape that splits what is then normed head by head.
    pub(super) reshape: Option<usize>,
}

impl<'g> Projection<'g> {
    /// The projection whose heads come first in `tensor`, [batch, heads, seq, head_dim].
    pub(super) fn split_into(view: &View<'g>, tensor: &'g str, head_dim: usize) -> Option<Self> {
        let (_, transpose) = maker(view, tensor)?;
        if transpose.op_type() != "Transpose" || transpose.attr("perm")?.ints != [0, 2, 1, 3] {
            return None;
        }
        let by_token = transpose.input.first()?;
        if let Some((_, packed)) = split_by(view, by_token, head_dim) {
            return Some(Self { tensor: packed, packed: true, reshape: None });
        }
        let reshape = split_by(view, before_norms(view, by_token), head_dim).map(|(index, _)| index);
        Some(Self { tensor: by_token, packed: false, reshape })
    }

    /// How many heads it has: from its width, where it is normed head by head that of what is normed.
    pub(super) fn heads(&self, view: &View<'g>, head_dim: usize) -> Option<usize> {
        let packed = match self.packed {
            true => self.tensor,
            false => reshape_to_heads(view, before_norms(view, self.tensor), head_dim)?.1.input.first()?,
        };
        let width = view.width(packed)?;
        width.is_multiple_of(head_dim).then_some(width / head_dim)
    }
}

/// What a tensor is a norm of.
fn before_norms<'g>(view: &View<'g>, tensor: &'g str) -> &'g str {
    let normed = |tensor: &&'g str| {
        let (_, norm) = made_by(view, tensor).filter(|(_, node)| node.op_type() == "SimplifiedLayerNormalization")?;
        Some(source(view, norm.input.first()?, COPIES))
    };
    let tensor = source(view, tensor, COPIES);
    std::iter::successors(Some(tensor), normed).take(STEPS_MAX).last().unwrap_or(tensor)
}

/// The tensor [batch, seq, heads * head_dim] that a Reshape alone splits, and the index of that.
fn split_by<'g>(view: &View<'g>, by_token: &'g str, head_dim: usize) -> Option<(usize, &'g str)> {
    let (index, reshape) = reshape_to_heads(view, by_token, head_dim)?;
    let packed = reshape.input.first()?;
    let is_whole = view.rank(packed)? == 3 && view.width(packed)?.is_multiple_of(head_dim);
    is_whole.then_some((index, packed))
}

/// The Reshape to [.., .., .., head_dim] that makes a tensor.
fn reshape_to_heads<'g>(view: &View<'g>, tensor: &'g str, head_dim: usize) -> Option<(usize, &'g NodeProto)> {
    let (index, node) = maker(view, tensor).filter(|(_, node)| node.op_type() == "Reshape")?;
    let shape = node.input.get(1)?;
    let last = match constant_integers(view, shape) {
        Some(shape) => (shape.len() == 4).then(|| shape[3])?,
        None => {
            let (_, sizes) = made_by(view, shape).filter(|(_, node)| node.op_type() == "Concat")?;
            let last = sizes.input.last().filter(|_| sizes.input.len() > 1)?;
            *constant_integers(view, last)?.last()?
        }
    };
    (usize::try_from(last) == Ok(head_dim)).then_some((index, node))
}
