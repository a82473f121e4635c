//! Attention over paged keys and values.
//!
//! A layer is given the queries, keys and values of all new tokens of a run, the rows one after the other. It rotates
//! the new keys, writes them and the values behind their conversation's past ones, and mixes the values for each
//! query. Work is cut into tasks of one row, one KV head and a few tokens, and of one section of the keys where those
//! are too few. A task's arithmetic does not depend on what else is in the run.
//!
//! `plan.rs` cuts, `layer.rs` does a layer's tasks, `attend.rs` is the softmax over a section's keys and `found.rs`
//! what it leaves, `product.rs` multiplies, `kv_blocks.rs` and `paged_kv.rs` are the memory.

mod attend;
mod found;
mod kv_blocks;
mod layer;
mod paged_kv;
mod plan;
mod product;
mod shape;

pub use found::Found;
pub use layer::Layer;
pub use paged_kv::{BatchRow, Kept, KvTypes, PagedKv, Turns};
pub use plan::Plan;
pub use shape::{Heads, Shape};
