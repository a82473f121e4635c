//! The system from outside, with tiny real exports and with the default model.
//!
//! One program, so that the library is linked once and the tests share both cores. What weighs the process or counts
//! its allocations runs in a process of its own, see [`common::in_own_process`].

mod abandoned;
mod allocations;
mod calibration;
#[cfg(feature = "chat")]
mod chats;
mod choices;
mod common;
mod conversations;
mod crashes;
mod engine;
mod families;
mod forms;
#[cfg(feature = "grammar")]
mod grammar;
mod leaving;
#[cfg(target_os = "linux")]
mod memory;
mod model;
mod pages;
mod pins;
mod prefixes;
mod prepare;
mod reference;
mod rereading;
mod rooms;
mod settings;
mod shrunk;
mod smollm2;
mod spill;
mod transfer;
mod vectors;
mod window_reference;
