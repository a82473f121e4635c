//! Which projections become one: those of the same input whose weights are stored alike (q, k and v;
//! gate and up).
//!
//! A decoded token reads its input once then, and one node runs for three. The product's parts come
//! apart again by a Split, unless they are the queries, keys and values of a GroupQueryAttention,
//! which takes them as they are.

use std::collections::{BTreeSet, HashMap};

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
    let mut place_of: HashMap<Form, usize> = HashMap::new();
    for product in products {
        let place = *place_of.entry(Form::of(&product)).or_insert(alike.len());
        match alike.get_mut(place) {
            Some(others) => others.push(product),
            None => alike.push(vec![product]),
        }
    }
    alike.into_iter().flat_map(|members| outlets(view, members)).collect()
}

/// What products must have in common to be one.
#[derive(PartialEq, Eq, Hash)]
struct Form {
    input: String,
    k: usize,
    weights: StorageForm,
}

#[derive(PartialEq, Eq, Hash)]
enum StorageForm {
    Dense { half: bool },
    Blocks { bits: i64, block_size: i64, accuracy_level: Option<i64>, zero_points: bool },
}

impl Form {
    fn of(product: &Product) -> Self {
        let weights = match &product.weights {
            Storage::Dense(matrix) => StorageForm::Dense { half: matrix.half },
            Storage::Blocks(blocks) => StorageForm::Blocks {
                bits: blocks.bits,
                block_size: blocks.block_size,
                accuracy_level: blocks.accuracy_level,
                zero_points: blocks.zero_points.is_some(),
            },
        };
        Self { input: product.input.clone(), k: product.k, weights }
    }
}

/// Takes queries, keys and values of each attention out of products of one input; the rest is split.
fn outlets(view: &View<'_>, members: Vec<Product>) -> Vec<Group> {
    let place_of = members.iter().enumerate().map(|(place, member)| (member.result(), place));
    let place_of: HashMap<&str, usize> = place_of.collect();
    let attentions: BTreeSet<usize> = members.iter().filter_map(|member| only_user(view, member.result())).collect();
    let packed = attentions.into_iter().filter_map(|attention| Some((attention, packed(view, attention, &place_of)?)));
    let packed: Vec<(usize, [usize; 3])> = packed.collect();
    let mut members: Vec<Option<Product>> = members.into_iter().map(Some).collect();
    let mut groups = Vec::new();
    for (attention, places) in packed {
        let members = places.into_iter().filter_map(|place| members[place].take()).collect();
        groups.push(Group { members, outlet: Outlet::Packed(attention) });
    }
    let members: Vec<Product> = members.into_iter().flatten().collect();
    match members.len() {
        0 => {}
        1 => groups.push(Group { members, outlet: Outlet::Whole }),
        _ => groups.push(Group { members, outlet: Outlet::Split }),
    }
    groups
}

/// The one node that takes a tensor, once.
fn only_user(view: &View<'_>, tensor: &str) -> Option<usize> {
    let &[user] = view.consumers(tensor) else {
        return None;
    };
    (!view.is_output(tensor)).then_some(user)
}

/// Which products an attention's queries, keys and values are, where these are used for nothing else.
fn packed(view: &View<'_>, attention: usize, place_of: &HashMap<&str, usize>) -> Option<[usize; 3]> {
    let node = &view.graph.node[attention];
    let place = |input: &String| {
        let place = *place_of.get(input.as_str())?;
        (only_user(view, input) == Some(attention)).then_some(place)
    };
    let [q, k, v] = node.input.first_chunk::<3>().filter(|_| node.op_type() == "GroupQueryAttention")?;
    Some([place(q)?, place(k)?, place(v)?])
}
