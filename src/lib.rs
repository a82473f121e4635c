//! MotorBrain: many conversations on one local language model.
//!
//! Settings in, a running brain out. See ARCHITECTURE.md for the way of one message.

pub mod engine;
pub mod model;
