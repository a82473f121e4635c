//! The program from outside: its arguments, its messages and exit statuses, and the pipe that it serves.

mod calibrate;
mod cancelling;
mod chatting;
mod cli;
#[path = "../../../tests/system/common/mod.rs"]
mod common;
mod corpus;
mod embedding;
mod eval;
mod files;
#[path = "../../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "there it is a library")]
mod fuzz;
mod generating;
mod grammars;
mod manual;
mod pieces;
mod pipe;
mod ran;
mod reranking;
#[cfg(all(unix, feature = "otlp"))]
mod serve;
#[cfg(unix)]
mod signal;
#[cfg(unix)]
mod terminal;
mod texts;
mod top;
