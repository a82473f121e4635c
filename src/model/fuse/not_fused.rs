//! Why a graph's attention stays as its exporter wrote it.

/// Why a graph was left as it is. The plain graph runs; only speed is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotFused {
    /// Its exporter has done it.
    #[error("the graph already has GroupQueryAttention")]
    Already,
    /// The lengths of the rows are counted in the mask.
    #[error("the graph takes no `attention_mask`")]
    NoMaskInput,
    /// A layer that rotates its keys in a way that could not be measured.
    #[error("the rotation of layer {layer} could not be measured")]
    Rotation {
        /// The layer.
        layer: usize,
    },
    /// Caches of two element types.
    #[error("the caches are of more than one element type")]
    CacheTypes,
    /// The cache is not past and new rows, one behind the other.
    #[error("`{present}` is not made by putting new rows behind `{past}`")]
    Cache {
        /// The graph's output.
        present: String,
        /// The graph's input.
        past: String,
    },
    /// A layer's keys are looked at by no softmax and no attention operator that is known, or by several.
    #[error("layer {layer} has {found} softmaxes over its keys, expected one")]
    Softmax {
        /// The layer.
        layer: usize,
        /// How many there are.
        found: usize,
    },
    /// Something other than scale and mask stands between keys and softmax.
    #[error("the scores of layer {layer} pass through `{operator}`")]
    Scores {
        /// The layer.
        layer: usize,
        /// The operator that is not known there.
        operator: String,
    },
    /// A scale that is no constant.
    #[error("the scale of layer {layer} is not a constant")]
    Scale {
        /// The layer.
        layer: usize,
    },
    /// The mask may hide more than what comes later: a sliding window, for instance.
    #[error("the mask of layer {layer} is more than a causal one: it has {found}")]
    Mask {
        /// The layer.
        layer: usize,
        /// What it has.
        found: String,
    },
    /// What follows the softmax is not the product with the layer's values.
    #[error("the values of layer {layer} are not weighted by its softmax alone")]
    Values {
        /// The layer.
        layer: usize,
    },
    /// Queries or keys that are not rotated in one of the known ways, or not alike.
    #[error("the rotation of layer {layer}'s {what} is written in a way that is not known")]
    Rotary {
        /// The layer.
        layer: usize,
        /// `queries` or `keys`.
        what: &'static str,
    },
    /// Projections whose split into heads is not understood.
    #[error("how layer {layer} splits its {what} into heads is not understood")]
    Heads {
        /// The layer.
        layer: usize,
        /// `queries`, `keys` or `values`.
        what: &'static str,
    },
    /// The number of query heads cannot be found, or is no multiple of the KV heads.
    #[error("layer {layer} has {} heads of queries, expected a multiple of {kv_heads}",
        found.map_or_else(|| "an unknown number of".to_owned(), |found| found.to_string()))]
    HeadCount {
        /// The layer.
        layer: usize,
        /// What was found.
        found: Option<usize>,
        /// Heads of keys and values.
        kv_heads: usize,
    },
    /// A tensor whose element type cannot be told.
    #[error("the element type of `{tensor}` cannot be told")]
    ElementType {
        /// The tensor.
        tensor: String,
    },
    /// Something besides attention looks at the caches, whose shape would no longer tell their length.
    #[error("`{tensor}` is also used by `{operator}`")]
    CacheUsed {
        /// The cache's input or output.
        tensor: String,
        /// Who uses it.
        operator: String,
    },
    /// A name that the pass wants to give is there already.
    #[error("the graph already has a tensor whose name begins with `{name}`")]
    NameTaken {
        /// How it begins.
        name: &'static str,
    },
    /// The nodes depend on each other in a circle.
    #[error("the graph's nodes go in a circle")]
    Circle,
}
