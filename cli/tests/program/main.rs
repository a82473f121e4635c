//! The program from outside: its arguments, its messages and exit statuses, and the pipe that it serves.

mod calibrate;
mod cancelling;
mod cli;
#[path = "../../../tests/system/common/mod.rs"]
mod common;
mod corpus;
mod eval;
mod files;
#[path = "../../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "there it is a library")]
mod fuzz;
mod pieces;
mod pipe;
mod reranking;
#[cfg(all(unix, feature = "otlp"))]
mod serve;
mod texts;
mod top;
