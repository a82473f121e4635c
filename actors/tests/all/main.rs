//! The actors from outside, in one program: the library is linked once, and what waits leaves its core to the rest.

mod brain;
mod conformance;
mod embedder;
mod metrics;
mod simulation;
