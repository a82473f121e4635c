//! The actors and the policy of MotorBrain: concurrency and decisions only.
//!
//! This crate knows no ONNX, no files and no config format. It builds and tests in seconds.

#![forbid(unsafe_code)]

pub mod brain;
pub mod clock;
pub mod embedder;
pub mod engine;
pub mod grammar;
pub mod job;
pub mod keep;
pub mod message;
pub mod metrics;
pub mod policy;
pub mod rerank;
pub mod reuse;
mod shares;
pub mod shown;
pub mod spans;
pub mod text;
pub mod tokens;
pub mod vectors;
