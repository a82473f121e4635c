//! A product's sizes, as its node in a graph states them.

/// A product with weights of few bits: what its tensors' sizes follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Numbers of a row that it takes: a multiple of the block.
    pub inputs: usize,
    /// Numbers of a row that it gives.
    pub outputs: usize,
    /// Bits of a weight: 4 or 8.
    pub bits: u32,
    /// Neighbouring inputs of an output that share a scale: a power of two, at least 16.
    pub block: usize,
    /// Which code stands for zero.
    pub zero_points: ZeroPoints,
}

/// Which code stands for zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroPoints {
    /// The middle of the range.
    Middle,
    /// One for each block, packed like the weights.
    Codes,
    /// One for each block, a float.
    Floats,
}
