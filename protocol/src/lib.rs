//! The protocol, version 1: a JSON object is a request, another its answer. Pure; see `docs/pipe.md`.
//!
//! [`decode`] reads a request or says why it is none, [`encode`] writes what it came to, [`next_line`] cuts
//! input into lines that fit memory; [`decode_keys`] and [`encode_answer`] are for doors that name op and id otherwise.
//! [`encode_event`] writes what happens in a brain. Whoever serves requests, by lines on standard input or otherwise, judges
//! keys and types here; ranges and limits are the brain's to judge, the same for every caller.

#![forbid(unsafe_code)]

mod decode;
mod encode;
mod events;
mod fields;
mod grammar;
mod lines;
mod values;

pub use decode::{Cancel, Decoded, MS_MAX, Manner, Op, Rules, Work, decode, decode_keys, too_long};
pub use encode::{Answer, PROTOCOL, Piece, encode, encode_answer, encode_part, encode_piece};
pub use events::{encode_event, event_name};
pub use grammar::Grammar;
pub use lines::{Line, next_line};
