//! Products with weights of 4 or 8 bits and activations of 16: an operator of our own.
//!
//! ONNX Runtime's MatMulNBits rounds activations to 8 bits to be fast, so that a token read in a prompt
//! and the same token decoded differ, or keeps them in f32 and is slow. 16 bits are as good as f32 here
//! (`rounded.rs` says why), products of integers twice as fast, and their sums exact: a decode is bound by
//! its few bytes, many rows share the unpacking, and a row's result does not depend on the rows beside it.
//!
//! Weights are packed once for all engines of a process.

mod columns;
mod kernel;
mod lanes;
mod operator;
mod packed;
mod rounded;

pub(crate) use operator::PackedLinear;
pub(crate) use packed::{Packed, pack};
pub(crate) use rounded::Precision;
