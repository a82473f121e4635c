//! Products with weights of 4 or 8 bits and activations of 16 or 8.
//!
//! ONNX Runtime's MatMulNBits rounds activations to 8 bits to be fast, so that a token read in a prompt
//! and the same token decoded differ, or keeps them in f32 and is slow. 16 bits are as good as f32 here
//! (`rounded.rs` says why), products of integers twice as fast, and their sums exact: a decode is bound by
//! its few bytes, many rows share the unpacking, and a row's result does not depend on the rows beside it.
//!
//! The way of a product: `packed.rs` turns a node's tensors into panels, once. `product.rs` cuts a call into
//! tasks, `rounded.rs` rounds the rows, `panel.rs` and `codes.rs` say what lies where, `tile.rs` multiplies,
//! `dispatch.rs` and `lanes` choose the vectors, `columns.rs` lets threads write side by side.

mod codes;
mod columns;
mod dispatch;
mod lanes;
mod packed;
mod panel;
mod product;
mod rounded;
mod shape;
mod tile;

pub use packed::{PackError, Packed, pack, unpack};
pub use product::multiply;
pub use rounded::{Inputs, Precision};
pub use shape::{LinearShape, ZeroPoints};

/// What this machine's vectors are called that products are computed with.
pub fn vectors() -> &'static str {
    dispatch::Vectors::best().name()
}
