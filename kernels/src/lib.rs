//! The arithmetic of MotorBrain: what its own operators of a graph compute, and the loops over many numbers that the
//! engine and the rewriting of weights need beside them.
//!
//! This crate knows no ONNX Runtime, no file and no conversation. It is optimised in every profile, and is small
//! enough for that. So everything that runs over many numbers is compiled here: what is called from outside is not
//! generic, but for thin functions that are given [`Threads`].
//!
//! What a row of numbers gives depends neither on the rows beside it nor on how work is cut: every sum is made in one
//! order, on whichever thread.

pub mod attention;
pub mod blocks;
pub mod dense;
pub mod drawing;
mod element;
mod features;
pub mod linear;
pub mod matrix;
pub mod moments;
pub mod penalties;
pub mod ranking;
pub mod rotary;
mod threads;
pub mod vector;

pub use element::{ElementType, bytes_of};
pub use features::features;
pub use threads::Threads;
