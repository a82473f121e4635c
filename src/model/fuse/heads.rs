//! How projections are split into heads: `[batch, seq, heads * head_dim]` by Reshape to `[batch, seq,
//! heads, head_dim]` and Transpose to `[batch, heads, seq, head_dim]`, with a norm of each head between
//! the two or behind them in some models.

use super::walk::{COPIES, STEPS_MAX, constant_integers, made_by, maker, source};
use crate::model::{onnx::NodeProto, view::View};

/// What norms were made before heads are looked for.
const NORM: &str = "SimplifiedLayerNormalization";

/// What one of the three projections is, as GroupQueryAttention takes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Projection<'g> {
    /// The tensor.
    pub(super) tensor: &'g str,
    /// Whether it is [batch, seq, heads * head_dim] already, or [batch, seq, heads, head_dim].
    pub(super) packed: bool,
    /// The index of the Reshape that splits what is then normed head by head.
    pub(super) reshape: Option<usize>,
    /// A norm of each head that stands behind the Transpose, and is to be done before it.
    pub(super) norm: Option<&'g NodeProto>,
}

impl<'g> Projection<'g> {
    /// The projection whose heads come first in `tensor`, [batch, heads, seq, head_dim].
    pub(super) fn split_into(view: &View<'g>, tensor: &'g str, head_dim: usize) -> Option<Self> {
        let (_, node) = maker(view, tensor)?;
        if node.op_type() != NORM {
            return Self::split_by_token(view, transposed(view, tensor)?, head_dim);
        }
        let by_token = transposed(view, node.input.first()?)?;
        let reshape = splits(view, before_norms(view, by_token), head_dim);
        Some(Self { tensor: by_token, packed: false, reshape, norm: Some(node) })
    }

    /// The projection whose heads stand behind their tokens in `by_token`, [batch, seq, heads, head_dim]; or that
    /// itself, where what splits it was passed over already.
    pub(super) fn split_by_token(view: &View<'g>, by_token: &'g str, head_dim: usize) -> Option<Self> {
        let is_packed = view.rank(by_token) == Some(3);
        if is_packed && view.width(by_token).is_some_and(|width| width.is_multiple_of(head_dim)) {
            return Some(Self { tensor: by_token, packed: true, reshape: None, norm: None });
        }
        if let Some((_, packed)) = split_by(view, by_token, head_dim) {
            return Some(Self { tensor: packed, packed: true, reshape: None, norm: None });
        }
        let reshape = splits(view, before_norms(view, by_token), head_dim);
        Some(Self { tensor: by_token, packed: false, reshape, norm: None })
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

/// The tensor [batch, seq, heads, head_dim] whose heads come first in `tensor`.
fn transposed<'g>(view: &View<'g>, tensor: &'g str) -> Option<&'g str> {
    let (_, transpose) = maker(view, tensor).filter(|(_, node)| node.op_type() == "Transpose")?;
    (transpose.attr("perm")?.ints == [0, 2, 1, 3]).then(|| transpose.input.first().map(String::as_str))?
}

/// What a tensor is a norm of.
fn before_norms<'g>(view: &View<'g>, tensor: &'g str) -> &'g str {
    let normed = |tensor: &&'g str| {
        let (_, norm) = made_by(view, tensor).filter(|(_, node)| node.op_type() == NORM)?;
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

/// The index of the Reshape that splits what is not known to be other than [batch, seq, heads * head_dim].
fn splits(view: &View<'_>, by_token: &str, head_dim: usize) -> Option<usize> {
    let (index, reshape) = reshape_to_heads(view, by_token, head_dim)?;
    view.rank(reshape.input.first()?).is_none_or(|rank| rank == 3).then_some(index)
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
