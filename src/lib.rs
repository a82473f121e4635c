//! MotorBrain: many conversations on one local language model.
//!
//! Settings in, a running brain out. Each conversation has its KV cache, with which any of the supervised actors goes
//! on: when one dies, its conversations do not. See ARCHITECTURE.md for the way of one message.
//!
//! ```no_run
//! use motorbrain::{Settings, Step};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let brain = motorbrain::start(&Settings::default()).await?;
//! let reply = brain.step(Step::greedy("greeting", "Hello, my name is", 8)).await?;
//! println!("{} ({} tokens of context)", reply.text, reply.context.context_len);
//! brain.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! The everyday names stand here. What is under them, such as the ports of engines and tokenizers or
//! an embedder actor to be used alone, is the crate `motorbrain-actors`.

pub mod calibration;
#[cfg(feature = "chat")]
pub mod chat;
mod distinct;
pub mod engine;
#[cfg(test)]
mod fakes;
#[cfg(feature = "grammar")]
pub mod grammar;
pub mod library;
mod memory;
pub mod model;
pub mod observe;
pub mod places;
pub mod prepare;
mod safetensors;
pub mod settings;
pub mod spill;
mod start;
pub mod transfer;
pub mod trust;
pub mod vectors;

pub use motorbrain_actors::{
    brain::{Brain, BrainEvent, BrainMessage, Delivery, Envelope, Events, ReplyQueue, StepItem, StepStream, Temporary},
    engine::{EngineInfo, Sampled, Sampling, Slides, Window},
    message::{
        BrainError, ClientId, Context, ConversationId, Embed, Embedded, EmbeddedPiece, EmbeddedPieces, ErrorCode,
        Finished, Fork, Input, Part, Pieces, Priority, Reply, Request, Rewind, Scope, Score, Scored, Several, Sharing,
        Step, Stepped, Terms, VectorTerms,
    },
    policy::{ActorState, ActorStats, Dwelling, Health, Inspected, ListAsk, Listed, SharingKind, Stats, WhenDown},
    rerank::{Relevance, Rerank, Reranked},
    tokens::{TokenId, TokenizerKind},
    vectors::{Codes, Format, Kind, MadeBy},
};
pub use settings::Settings;
pub use start::{Parts, StartError, brain_config, engine_options, find_library, model_options, start, start_named};
