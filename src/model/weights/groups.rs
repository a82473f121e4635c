//! Which projections become one: those of the same input whose weights are stored alike (q, k and v;
//! gate and up).
//!
//! A decoded token reads its input once then, and one node runs for three. The product's parts come
//! apart again by a Split, unless they are the queries, keys and values of a GroupQueryAttention,
//! which takes them as they are.

use super::products::{Product, Storage};
use crate::model::view::View;

/// Projections that become one node, in the order in which their outputs stand side by side.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Group {
    /// At least one.
    pub(crate) members: Vec<Product>,
    pub(crate) outlet: Outlet,
}

/// What becomes of a group's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlet {
    /// It is the only member's own.
    Whole,
    /// It is split into the members' outputs.
    Split,
    /// It goes whole into the GroupQueryAttention of that index.
    Packed(usize),
}

/// Puts every projection into a group.
pub(crate) fn group(view: &View<'_>, products: Vec<Product>) -> Vec<Group> {
    let mut alike: Vec<Vec<Product>> = Vec::new();
    for product in products {
        match alike.iter_mut().find(|others| fits(&others[0], &product)) {
            Some(others) => others.push(product),
            None => alike.push(vec![product]),
        }
    }
    alike.into_iter().flat_map(|members| outlets(view, members)).collect()
}

/// Whether two products may be one.
fn fits(one: &Product, other: &Product) -> bool {
    let weights = match (&one.weights, &other.weights) {
        (Storage::Dense(one), Storage::Dense(other)) => one.half == other.half,
        (Storage::Blocks(one), Storage::Blocks(other)) => {
            let form = |blocks: &super::products::Blocks| (blocks.bits, blocks.block_size, blocks.accuracy_level);
            form(one) == form(other) && one.zero_points.is_some() == other.zero_points.is_some()
        }
        _ => false,
    };
    weights && (&one.input, one.k) == (&other.input, other.k)
}

/// Takes queries, keys and values of each attention out of products of one input; the rest is split.
fn outlets(view: &View<'_>, mut members: Vec<Product>) -> Vec<Group> {
    let mut groups = Vec::new();
    while let Some((attention, [q, k, v])) = packed(view, &members) {
        let packed = [q, k, v].map(|index| members[index].clone());
        members.retain(|member| packed.iter().all(|packed| packed.node != member.node));
        groups.push(Group { members: packed.to_vec(), outlet: Outlet::Packed(attention) });
    }
    match members.len() {
        0 => {}
        1 => groups.push(Group { members, outlet: Outlet::Whole }),
        _ => groups.push(Group { members, outlet: Outlet::Split }),
    }
    groups
}

/// An attention whose queries, keys and values are results of three members, and used for nothing else.
fn packed(view: &View<'_>, members: &[Product]) -> Option<(usize, [usize; 3])> {
    members.iter().find_map(|member| {
        let &[attention] = view.consumers(member.result()) else {
            return None;
        };
        let node = &view.graph.node[attention];
        let result = |input: &String| {
            let index = members.iter().position(|member| member.result() == input)?;
            let alone = view.consumers(input) == [attention] && !view.is_output(input);
            alone.then_some(index)
        };
        let [q, k, v] = node.input.first_chunk::<3>().filter(|_| node.op_type() == "GroupQueryAttention")?;
        Some((attention, [result(q)?, result(k)?, result(v)?]))
    })
}
