//! A fake engine that dies, hangs, slows down and answers late on command, and the laws that any
//! engine obeys.
//!
//! [`FakeEngine`] is a whole engine with a tiny model: what it says next is a hash of the tokens that
//! its context holds, so an answer that is right shows that the context is. [`FakeControl`] is the
//! handle that tells it, from outside and across restarts, when and how to fail. [`conformance`] holds
//! the contract of [`Engine`](motorbrain_actors::engine::Engine) as checks for this one and for real ones.

pub mod conformance;
mod control;
mod fake;
mod grammar;
mod keep;
pub mod model;
mod sampling;

pub use control::{FakeControl, FakeLoader, Fault, LoadFault, RowSeen, Tally};
pub use fake::{FakeEngine, fake_info, fake_info_without_pages, page_number, states_in};
pub use grammar::hashed_grammar;
pub use keep::FakeKeep;
pub use sampling::probabilities;
