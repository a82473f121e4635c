//! Products with weights of 4 or 8 bits, activations kept in f32: an operator of our own.
//!
//! ONNX Runtime's MatMulNBits rounds activations to 8 bits to be fast, so that a token read in a prompt
//! and the same token decoded differ, and where a processor has no instructions for it (VNNI) it is slow
//! for more than one row. Here weights are widened on the way: a decode reads its few bytes and is bound
//! by memory all the same, and many rows share the widening and run at the speed of f32 products. Every
//! element is summed in one order, so that a row's result does not depend on the rows beside it.
//!
//! Weights are packed once for all engines of a process.

mod kernel;
mod operator;
mod packed;

pub(crate) use operator::PackedLinear;
pub(crate) use packed::{Packed, pack};
