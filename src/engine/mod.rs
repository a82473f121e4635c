//! The hot path: a model in a session of ONNX Runtime behind the port
//! [`Engine`](motorbrain_actors::engine::Engine).
//!
//! This room runs sessions and reads no configuration. Its arithmetic (which rows slide, how keys
//! turn, how a token is drawn) is pure and lives apart from the calls into the runtime.

mod agreement;
mod backend;
mod batch;
mod chosen;
mod constants;
mod form;
mod graph;
mod identity;
mod initializers;
mod kept;
mod kv_cache;
mod loader;
mod onnx;
mod operators;
mod packed_linear;
mod paged;
mod paged_attention;
mod planned;
mod region;
mod rotation;
mod rotations;
mod runtime;
mod sampling;
mod session;
mod side;
mod slider;
mod slot;
mod window;

pub use crate::model::Activations;
pub use form::{Form, FormOptions, WhyPlain};
pub use identity::{Fingerprint, IdentityError, Lineage};
pub use kept::Unkept;
pub use loader::{EngineOptions, OnnxLoader};
pub use motorbrain_kernels::rotary::Layout;
pub use rotation::Rotation;
pub use rotations::Rotations;
pub use runtime::{Runtime, RuntimeError};
pub use session::SessionOptions;
pub use side::{Side, side};
pub use window::{Overflow, WindowError, WindowOptions, WindowPolicy};
