//! The system from outside, with tiny real exports and with the default model.
//!
//! One program, so that the library is linked once and the tests share both cores; what must have a process of
//! its own (what counts allocations, what weighs the process) stands beside it.

#[path = "../common/mod.rs"]
mod common;
mod conversations;
mod engine;
mod forms;
mod model;
mod prepare;
mod reference;
mod rooms;
mod settings;
mod smollm2;
mod window_reference;
