//! The actors and the policy of MotorBrain: concurrency and decisions only.
//!
//! This crate knows no ONNX, no files and no config format. It builds and tests in seconds.

pub mod embedder;
pub mod engine;
pub mod job;
pub mod message;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tokens;
