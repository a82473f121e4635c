//! Rotary position embedding as exporters write it: `x * cos + turned(x) * sin`, where `turned` swaps
//! the two numbers of each pair and negates one. Some models turn only the first numbers of each head
//! and put the others behind them again.
//!
//! Which numbers form a pair and how fast each turns is measured on the untouched graph, so only the
//! tensor that enters is looked for here.

use super::{
    scalar::scalar,
    walk::{COPIES, LAYOUT, both_orders, made_by, maker, source},
};
use crate::model::{
    build::floats,
    contract::ElementType,
    onnx::{NodeProto, TensorProto},
    view::View,
};

/// A layer's rotation as an engine has measured it on the untouched graph.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FuseRotary<'a> {
    /// Radians a position, one for each pair; none where keys do not depend on their position.
    pub(crate) frequencies: &'a [f64],
    /// Whether neighbours form the pairs; otherwise number `i` goes with `i + pairs`.
    pub(crate) interleaved: bool,
    /// What queries and keys are multiplied by on the way, which keys do not show: read from the graph.
    pub(crate) scale: f64,
}

/// The rotations of all layers.
#[derive(Clone, Debug)]
pub(crate) struct FuseRotaries<'a> {
    /// One a layer; `None`: nobody knows.
    pub(crate) layers: Vec<Option<FuseRotary<'a>>>,
    /// Positions that the model is made for.
    pub(crate) positions: usize,
}

impl FuseRotary<'_> {
    /// Cosines and sines, each [positions, pairs]. The angle is rounded to f32 as in every exporter's
    /// graph, where it is a product of f32 numbers: at position 1,000 that moves it by up to 3e-5
    /// radians, and the tables shall give what the untouched graph gives. All else is computed in f64.
    pub(super) fn tables(&self, positions: usize, names: [&str; 2], element: ElementType) -> [TensorProto; 2] {
        let dims = [positions, self.frequencies.len()].map(|size| i64::try_from(size).unwrap_or(i64::MAX));
        let angle = |position, frequency: &f64| f64::from(position as f32 * *frequency as f32);
        let angles = || (0..positions).flat_map(move |at| self.frequencies.iter().map(move |f| angle(at, f)));
        let [cos, sin] = names;
        let scaled = |trigonometric: fn(f64) -> f64| angles().map(move |angle| self.scale * trigonometric(angle));
        [floats(cos, &dims, element, scaled(f64::cos)), floats(sin, &dims, element, scaled(f64::sin))]
    }
}

/// A rotation in the graph.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rotary<'g> {
    /// What enters, [batch, heads, seq, head_dim].
    pub(super) input: &'g str,
    /// What its cosines and sines are computed from: equal for queries and keys of one graph.
    pub(super) tables: [&'g str; 2],
    /// What both are multiplied by (Peng et al. 2023, "YaRN", 3.4).
    pub(super) scale: f64,
}

/// The rotation that ends in `tensor`.
pub(super) fn ending_in<'g>(view: &View<'g>, tensor: &'g str) -> Option<Rotary<'g>> {
    if let Some(whole) = of_all(view, tensor) {
        return Some(whole);
    }
    let [turned, rest] = operator(view, tensor, "Concat")?.input.as_slice() else {
        return None;
    };
    let turned = of_all(view, turned)?;
    let input = part_of(view, turned.input)?;
    (part_of(view, rest)? == input).then_some(Rotary { input, ..turned })
}

fn of_all<'g>(view: &View<'g>, tensor: &'g str) -> Option<Rotary<'g>> {
    if let Some(node) = operator(view, tensor, "RotaryEmbedding") {
        // With positions as a fourth input the tables are those of all positions.
        let [input, cos, sin] = node.input.as_slice() else {
            return None;
        };
        return rotary(view, input, cos, sin);
    }
    let sum = operator(view, tensor, "Add")?;
    both_orders(sum)?.into_iter().find_map(|(straight, turned)| {
        let straight = both_orders(operator(view, straight, "Mul")?)?;
        let turned = both_orders(operator(view, turned, "Mul")?)?;
        straight.into_iter().find_map(|(input, cos)| {
            let whole = source(view, input, COPIES);
            let (_, sin) = turned.into_iter().find(|(turned, _)| is_turned(view, turned, whole))?;
            rotary(view, input, cos, sin)
        })
    })
}

fn rotary<'g>(view: &View<'g>, input: &'g str, cos: &'g str, sin: &'g str) -> Option<Rotary<'g>> {
    let ((cos, scale), (sin, other)) = (table(view, cos), table(view, sin));
    (scale == other).then(|| Rotary { input: source(view, input, COPIES), tables: [cos, sin], scale })
}

/// The angles of cosines or sines, or a table of them, and what they are multiplied by. Exporters may compute them for
/// each use.
fn table<'g>(view: &View<'g>, tensor: &'g str) -> (&'g str, f64) {
    let mut tensor = source(view, tensor, LAYOUT);
    let mut scale = 1.0;
    while let Some((_, node)) = made_by(view, tensor).filter(|(_, node)| node.op_type() == "Mul")
        && let Some((rest, factor)) =
            both_orders(node).and_then(|orders| orders.into_iter().find_map(|(a, b)| Some((a, scalar(view, b)?))))
    {
        (tensor, scale) = (source(view, rest, LAYOUT), scale * factor);
    }
    match made_by(view, tensor) {
        Some((_, node)) if matches!(node.op_type(), "Cos" | "Sin") => {
            (node.input.first().map_or(tensor, |angles| source(view, angles, LAYOUT)), scale)
        }
        _ => (tensor, scale),
    }
}

/// Whether a tensor is two parts of `input` put together again, one of them negated.
fn is_turned<'g>(view: &View<'g>, tensor: &'g str, input: &str) -> bool {
    let Some((_, node)) = maker(view, source(view, tensor, LAYOUT)).filter(|(_, node)| node.op_type() == "Concat")
    else {
        return false;
    };
    let [a, b] = node.input.as_slice() else {
        return false;
    };
    let negated = operator(view, source(view, a, LAYOUT), "Neg").and_then(|node| node.input.first());
    let of_input = |part| part_of(view, part) == Some(input);
    negated.is_some_and(|a| of_input(a)) && of_input(b)
}

/// What a tensor is a part of.
fn part_of<'g>(view: &View<'g>, tensor: &'g str) -> Option<&'g str> {
    let (_, node) = maker(view, source(view, tensor, LAYOUT))?;
    let is_part = matches!(node.op_type(), "Slice" | "Split" | "Gather");
    is_part.then(|| node.input.first())?.map(|whole| source(view, whole, COPIES))
}

fn operator<'g>(view: &View<'g>, tensor: &'g str, op_type: &str) -> Option<&'g NodeProto> {
    maker(view, tensor).map(|(_, node)| node).filter(|node| node.op_type() == op_type)
}
