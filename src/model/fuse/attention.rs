//! Finding the attention of each layer, from its cache outwards: the Concat that makes `present`, the
//! weighing of the values that the keys in it take part in, and from there queries and the result.

use std::collections::HashMap;

use super::{
    cache::Cache,
    heads::Projection,
    mask,
    not_fused::NotFused,
    rotary::{self, FuseRotaries, FuseRotary},
    walk::{LAYOUT, float_type, made_by, product_type, source},
    weighing::{self, Weighing},
};
use crate::model::{
    contract::{Contract, ElementType, KvNames, element_type},
    onnx::NodeProto,
    view::View,
};

/// The attention of one layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Attention<'g> {
    /// Queries, keys and values, and their element types.
    pub(super) projections: [(Projection<'g>, ElementType); 3],
    /// Heads of queries.
    pub(super) heads: usize,
    /// What products of queries and keys are multiplied by.
    pub(super) scale: f64,
    /// What these products are kept below.
    pub(super) softcap: Option<f64>,
    /// How many keys a token sees at most, itself among them; `None`: all before it.
    pub(super) window: Option<usize>,
    /// How queries and keys are rotated on the way; `None`: not at all.
    pub(super) rotary: Option<FuseRotary<'g>>,
    /// What it gives, [batch, seq, heads * head_dim], and its element type.
    pub(super) output: (&'g str, ElementType),
}

impl Attention<'_> {
    /// Whether it takes or gives f16.
    pub(super) fn is_half(&self) -> bool {
        let taken = self.projections.iter().map(|(_, element)| *element);
        taken.chain([self.output.1]).any(|element| element == ElementType::F16)
    }
}

/// The attention of every layer.
pub(super) fn find<'g>(
    view: &View<'g>,
    contract: &'g Contract,
    rotaries: &FuseRotaries<'g>,
) -> Result<Vec<Attention<'g>>, NotFused> {
    let mut by_keys: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
    for (anchor, keys) in weighing::anchors(view) {
        by_keys.entry(keys).or_default().push(anchor);
    }
    let layers = contract.kv.iter().enumerate().map(|(layer, names)| {
        let rotary = rotaries.layers.get(layer).copied().flatten();
        let layer = Layer { view, contract, names, layer, rotary };
        let keys = layer.cache(&names.past_key, &names.present_key)?;
        match by_keys.get(keys.whole).map_or(&[][..], Vec::as_slice) {
            [anchor] => layer.attention(keys, anchor),
            several => Err(NotFused::Softmax { layer: layer.layer, found: several.len() }),
        }
    });
    layers.collect()
}

/// Queries and keys before their rotation, each with its element type.
struct Unrotated<'g> {
    queries: (Projection<'g>, ElementType),
    keys: (Projection<'g>, ElementType),
    rotary: Option<FuseRotary<'g>>,
}

/// The layer that is looked at.
struct Layer<'v, 'g> {
    view: &'v View<'g>,
    contract: &'g Contract,
    names: &'g KvNames,
    layer: usize,
    /// As it was measured.
    rotary: Option<FuseRotary<'g>>,
}

impl<'g> Layer<'_, 'g> {
    fn attention(&self, keys: Cache<'g>, anchor: &'g NodeProto) -> Result<Attention<'g>, NotFused> {
        let &Self { view, layer, .. } = self;
        let values = self.cache(&self.names.past_value, &self.names.present_value)?;
        let weighing = Weighing::at(view, anchor, self.contract.head_dim);
        let weighing = weighing.map_err(|unknown| unknown.of_layer(layer))?;
        let scores = weighing.scores;
        let window = scores.mask.map_or(Err("no mask".into()), |mask| mask::window(view, mask));
        let window = window.map_err(|found| NotFused::Mask { layer, found })?;
        let Unrotated { queries, keys, rotary } = self.unrotated(scores.queries, keys.new)?;
        let split = Projection::split_into(view, values.new, self.contract.head_dim);
        let output = self.output(weighing, values).ok_or(NotFused::Values { layer })?;
        Ok(Attention {
            heads: self.heads(queries.0, output.0)?,
            projections: [queries, keys, self.projection(split, "values")?],
            scale: scores.scale,
            softcap: scores.softcap,
            window,
            rotary,
            output,
        })
    }

    fn cache(&self, past: &str, present: &'g str) -> Result<Cache<'g>, NotFused> {
        let unknown = || NotFused::Cache { present: present.to_owned(), past: past.to_owned() };
        Cache::between(self.view, past, present).ok_or_else(unknown)
    }

    /// Queries and keys before a rotation that is the same for both, and what that is.
    fn unrotated(&self, queries: &'g str, keys: &'g str) -> Result<Unrotated<'g>, NotFused> {
        let &Self { view, layer, rotary, .. } = self;
        let unknown = |what| NotFused::Rotary { layer, what };
        let head_dim = self.contract.head_dim;
        match (rotary::ending_in(view, queries), rotary::ending_in(view, keys)) {
            (Some(queries), Some(keys)) if (queries.tables, queries.scale) == (keys.tables, keys.scale) => {
                Ok(Unrotated {
                    queries: self.projection(Projection::split_into(view, queries.input, head_dim), "queries")?,
                    keys: self.projection(Projection::split_into(view, keys.input, head_dim), "keys")?,
                    rotary: Some(FuseRotary { scale: keys.scale, ..rotary.ok_or(NotFused::Rotation { layer })? }),
                })
            }
            (Some(_), Some(_)) => Err(unknown("queries and keys")),
            // What was measured says the same, or nothing where positions are a part of what is embedded.
            (None, None) if rotary.is_none_or(|rotary| rotary.frequencies.is_empty()) => {
                // Of queries that are not normed all layout was passed over.
                let split = Projection::split_into(view, queries, head_dim);
                let split = split.or_else(|| Projection::split_by_token(view, queries, head_dim));
                let split = split.ok_or_else(|| unknown("queries"))?;
                let keys = Projection::split_into(view, keys, head_dim).ok_or_else(|| unknown("keys"))?;
                Ok(Unrotated {
                    queries: self.projection(Some(split), "queries")?,
                    keys: self.projection(Some(keys), "keys")?,
                    rotary: None,
                })
            }
            (None, _) => Err(unknown("queries")),
            (_, None) => Err(unknown("keys")),
        }
    }

    fn projection(
        &self,
        split: Option<Projection<'g>>,
        what: &'static str,
    ) -> Result<(Projection<'g>, ElementType), NotFused> {
        let projection = split.ok_or(NotFused::Heads { layer: self.layer, what })?;
        let unknown = || NotFused::ElementType { tensor: projection.tensor.to_owned() };
        let found = float_type(self.view, projection.tensor).or_else(|| product_type(self.view, projection.tensor));
        Ok((projection, found.ok_or_else(unknown)?))
    }

    /// From the width of the queries, or of what the output projection takes.
    fn heads(&self, queries: Projection<'g>, output: &str) -> Result<usize, NotFused> {
        let head_dim = self.contract.head_dim;
        let after = || {
            let users = self.view.consumers(output).iter().map(|&index| &self.view.graph.node[index]);
            let [width, _] = users.into_iter().find_map(|node| self.view.product(node))?;
            width.is_multiple_of(head_dim).then_some(width / head_dim)
        };
        let found = queries.heads(self.view, head_dim).or_else(after);
        let kv_heads = self.contract.kv_heads;
        let heads = found.filter(|heads| *heads > 0 && heads.is_multiple_of(kv_heads));
        heads.ok_or(NotFused::HeadCount { layer: self.layer, found, kv_heads })
    }

    /// What the weighed values end in.
    fn output(&self, weighing: Weighing<'g>, values: Cache<'g>) -> Option<(&'g str, ElementType)> {
        if source(self.view, weighing.values, LAYOUT) != values.whole {
            return None;
        }
        let (output, cast) = weighing::merged_heads(self.view, weighing.node)?;
        let element = match cast {
            Some(cast) => element_type(i32::try_from(cast.int("to")?).ok()?),
            None => self.type_of_repeated(weighing.values, values),
        };
        Some((output, element?))
    }

    /// The element type of values that were cast and repeated after they were cached.
    fn type_of_repeated(&self, weighted: &'g str, values: Cache<'g>) -> Option<ElementType> {
        let mut tensor = weighted;
        while tensor != values.whole {
            let (_, node) = made_by(self.view, tensor)?;
            if node.op_type() == "Cast" {
                return float_type(self.view, tensor);
            }
            tensor = node.input.first()?;
        }
        let projected = source(self.view, values.new, &["Transpose", "Reshape"]);
        float_type(self.view, projected).or_else(|| product_type(self.view, projected))
    }
}
