//! Attention over paged keys and values.
//!
//! A layer is given the queries, keys and values of all new tokens of a run, the rows one after the other. It rotates
//! the new keys, writes them and the values behind their conversation's past ones, and mixes the values for each
//! query. Work is cut into tasks of one row, one KV head and a few tokens, and of one section of the keys where those
//! are too few. A task's arithmetic does not depend on what else is in the run.
//!
//! `plan.rs` cuts, `layer.rs` does a layer's tasks, `attend.rs` is the softmax over a section's keys and `found.rs`
//! what it leaves, `product.rs` multiplies. The memory: `kv_store.rs` has what all pages have in common, `page.rs` is
//! one and all that is unsafe about it, `page_layout.rs` where in it things lie, `written.rs` who may write it,
//! `strided.rs` copies between them, `panel.rs` has the keys that turn on the way and `saved.rs` makes bytes of them; `paged_kv.rs` is a conversation's
//! table of them and `head.rs` what attention reads of it.

mod attend;
mod found;
mod head;
mod kv_store;
mod layer;
mod page;
mod page_layout;
mod paged_kv;
mod panel;
mod piece;
mod plan;
mod product;
mod saved;
mod shape;
mod strided;
mod written;

use std::sync::atomic;

pub use found::Found;
pub use kv_store::KvStore;
pub use layer::Layer;
pub use page::{NoMemory, Page};
pub use page_layout::KvTypes;
pub use paged_kv::{BatchRow, Kept, NoRoom, NotAdopted, PagedKv, Turns};
pub use plan::Plan;
pub use saved::NotSaved;
pub use shape::{Heads, Shape};
