//! The hot path: a model in a session of ONNX Runtime behind the port
//! [`Engine`](motorbrain_actors::engine::Engine).
//!
//! This room runs sessions and reads no configuration. Its arithmetic (which rows slide, how keys
//! turn, how a token is drawn) is pure and lives apart from the calls into the runtime.

#[cfg_attr(not(test), expect(dead_code, reason = "the loader does not rewrite graphs yet"))]
pub(crate) mod equal;
mod graph;
mod kv_cache;
mod loader;
mod onnx;
mod rotation;
mod runtime;
mod sampling;
mod window;

pub use graph::SessionOptions;
pub use loader::{EngineOptions, OnnxLoader};
pub use onnx::OnnxEngine;
pub use rotation::{Layout, Rotation};
pub use runtime::{Runtime, RuntimeError};
pub use window::{Overflow, WindowError, WindowOptions};
