//! Answers become lines of the protocol, version 1. Pure.
//!
//! Floats are written as the shortest decimals that read back as the same 32-bit float. JSON has no
//! infinity: a log-probability of minus infinity, which a token with no chance at all has, is written
//! as the least finite number.

use std::time::Duration;

use motorbrain_actors::{
    engine::Sampled,
    message::{BrainError, Context, ConversationId, EmbeddedPiece, Finished, Reply, Stepped},
    policy::{ActorStats, Inspected, Listed, Stats},
    rerank::Reranked,
    tokens::{TokenId, TokenizerKind},
    vectors::Codes,
};
use serde::Serialize;
use serde_json::value::RawValue;

/// The version of the protocol, as `stats` tells it.
pub const PROTOCOL: u32 = 1;

/// What a request came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A conversation's.
    Reply {
        /// The brain's own.
        reply: Reply,
        /// Whether the most likely tokens were asked for.
        top: bool,
    },
    /// To `tokenize`.
    Tokens(Vec<TokenId>),
    /// To `detokenize`.
    Text(String),
    /// To `rerank`.
    Reranked(Reranked),
    /// To `stats`.
    Stats(Stats),
    /// To `list`.
    Listed(Listed),
    /// To `inspect`.
    Inspected(Inspected),
    /// To `export`.
    Exported {
        /// How long the file is.
        bytes: u64,
        /// Tokens in the context.
        context_len: usize,
    },
    /// To `cancel`: how many requests were taken back.
    Cancelled(usize),
    /// To `crash` and `hang`: handed on.
    HandedOn,
}

/// What a streamed step has shown since its last part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// The tokens.
    pub sampled: Vec<Sampled>,
    /// The text that they complete.
    pub text: String,
}

/// The line that answers the request `id`, with its line feed.
pub fn encode(id: &RawValue, answer: &Result<Answer, BrainError>) -> Vec<u8> {
    write(&match answer {
        Ok(answer) => Line { id, part: None, ok: Some(body(answer)), error: None },
        Err(error) => Line { id, part: None, ok: None, error: Some(ErrorBody::from(error)) },
    })
}

/// What an answer says, as an object by itself.
pub fn encode_answer(answer: &Answer) -> Vec<u8> {
    json(&body(answer))
}

/// What a part of a streamed step says, as an object by itself. `top`: whether the most likely tokens were asked for.
pub fn encode_piece(piece: &Piece, top: bool) -> Vec<u8> {
    json(&part(piece, top))
}

/// A line before the one that answers the streamed step `id`. `top`: whether the most likely tokens were asked for.
pub fn encode_part(id: &RawValue, piece: &Piece, top: bool) -> Vec<u8> {
    write(&Line { id, part: Some(part(piece, top)), ok: None, error: None })
}

fn part(piece: &Piece, top: bool) -> PartBody<'_> {
    let likely = |sampled: &Sampled| sampled.top.iter().map(pair).collect();
    PartBody {
        text: &piece.text,
        token_ids: piece.sampled.iter().map(|sampled| sampled.token.0).collect(),
        logprobs: piece.sampled.iter().map(|sampled| finite(sampled.logprob)).collect(),
        top: top.then(|| piece.sampled.iter().map(likely).collect()),
    }
}

fn write(line: &Line<'_>) -> Vec<u8> {
    let mut text = json(line);
    text.push(b'\n');
    text
}

pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    // Writing plain structs to memory has no way to fail.
    serde_json::to_vec(value).unwrap_or_else(|error| unreachable!("{error}"))
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<PartBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ok: Option<Body<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody>,
}

#[derive(Serialize)]
struct PartBody<'a> {
    text: &'a str,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top: Option<Vec<Vec<(u32, f32)>>>,
}

/// A vector's.
#[derive(Serialize)]
#[serde(untagged)]
enum Numbers<'a> {
    Floats(Vec<f32>),
    Codes(&'a [i8]),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Embedded {
        embedding: Numbers<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        scale: Option<f32>,
        recipe: &'static str,
        calibrated: bool,
        #[serde(skip_serializing_if = "is_one")]
        pieces: usize,
        tokens: usize,
        #[serde(flatten)]
        context: ContextBody,
    },
    EmbeddedPieces {
        vectors: Vec<PieceBody<'a>>,
        recipe: &'static str,
        calibrated: bool,
        tokens: usize,
        #[serde(flatten)]
        context: ContextBody,
    },
    Stepped(SteppedBody<'a>),
    Several {
        choices: Vec<SteppedBody<'a>>,
        #[serde(flatten)]
        context: ContextBody,
    },
    Stands(ContextBody),
    Scored {
        logprobs: Vec<Option<f32>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        top: Option<Vec<Vec<(u32, f32)>>>,
        tokens: usize,
        #[serde(flatten)]
        context: ContextBody,
    },
    Tokens {
        token_ids: Vec<u32>,
    },
    Text {
        text: &'a str,
    },
    Reranked {
        scores: Vec<f32>,
        order: &'a [usize],
        tokens: usize,
        #[serde(skip_serializing_if = "is_zero")]
        reused: usize,
    },
    Stats {
        protocol: u32,
        health: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
        actors: Vec<ActorBody>,
        waiting: usize,
        abandoned: usize,
        conversations: usize,
        kv_bytes: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        kv_bytes_max: Option<usize>,
        cached_bytes: usize,
        shared_bytes: usize,
        model: ModelBody,
    },
    Listed {
        conversations: Vec<ConversationBody<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<&'a str>,
    },
    Inspected(ConversationBody<'a>),
    Exported {
        bytes: u64,
        context_len: usize,
    },
    Cancelled {
        cancelled: usize,
    },
    Done {},
}

#[derive(Serialize)]
struct PieceBody<'a> {
    embedding: Numbers<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<f32>,
    start: usize,
    end: usize,
    tokens: usize,
}

#[derive(Serialize)]
struct SteppedBody<'a> {
    token_ids: Vec<u32>,
    text: &'a str,
    logprobs: Vec<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top: Option<Vec<Vec<(u32, f32)>>>,
    #[serde(flatten)]
    context: ContextBody,
    finished: &'static str,
}

#[derive(Serialize)]
struct ContextBody {
    context_len: usize,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    rebuilt: bool,
    #[serde(skip_serializing_if = "is_zero")]
    reused: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokenizer: Option<&'static str>,
}

#[derive(Serialize)]
struct ActorBody {
    actor: usize,
    state: &'static str,
    conversations: usize,
    restarts: u64,
    queued: usize,
}

#[derive(Serialize)]
struct ConversationBody<'a> {
    conversation: &'a str,
    context_len: usize,
    total: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pinned: usize,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    slid: bool,
    kv_bytes: usize,
    shared_bytes: usize,
    dwelling: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<usize>,
    requests: usize,
    #[serde(skip_serializing_if = "is_zero")]
    choices: usize,
    sharing: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_ms: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    quarantined: bool,
}

#[derive(Serialize)]
struct ModelBody {
    layers: usize,
    hidden: usize,
    vocab: usize,
    inputs: usize,
    window: usize,
    sinks: usize,
}

#[derive(Serialize)]
struct ErrorBody {
    code: &'static str,
    message: String,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's")]
fn is_one(pieces: &usize) -> bool {
    *pieces == 1
}

fn body(answer: &Answer) -> Body<'_> {
    match answer {
        Answer::Reply { reply: Reply::Embedded(embedded), .. } => Body::Embedded {
            embedding: numbers(&embedded.embedding, embedded.codes.as_ref()),
            scale: embedded.codes.as_ref().map(|codes| finite(codes.scale)),
            recipe: embedded.recipe.as_str(),
            calibrated: embedded.calibrated,
            pieces: embedded.pieces,
            tokens: embedded.tokens,
            context: (&embedded.context).into(),
        },
        Answer::Reply { reply: Reply::EmbeddedPieces(embedded), .. } => Body::EmbeddedPieces {
            vectors: embedded.pieces.iter().map(piece).collect(),
            recipe: embedded.recipe.as_str(),
            calibrated: embedded.calibrated,
            tokens: embedded.tokens,
            context: (&embedded.context).into(),
        },
        Answer::Reply { reply: Reply::Stepped(stepped), top } => Body::Stepped(step(stepped, *top)),
        Answer::Reply { reply: Reply::Several(several), top } => Body::Several {
            // What the conversation is, is said once.
            choices: several.choices.iter().map(|choice| alone(step(choice, *top))).collect(),
            context: (&several.context).into(),
        },
        Answer::Reply { reply: Reply::Stands(context), .. } => Body::Stands(context.into()),
        Answer::Reply { reply: Reply::Scored(scored), .. } => Body::Scored {
            logprobs: scored.logprobs.iter().map(|logprob| logprob.map(finite)).collect(),
            top: (!scored.top.is_empty()).then(|| likely(&scored.top)),
            tokens: scored.logprobs.len(),
            context: (&scored.context).into(),
        },
        // What was exported goes to a file, and who writes that tells of it.
        Answer::Reply { reply: Reply::Done | Reply::Exported(_), .. } | Answer::HandedOn => Body::Done {},
        Answer::Tokens(tokens) => Body::Tokens { token_ids: tokens.iter().map(|token| token.0).collect() },
        Answer::Text(text) => Body::Text { text },
        Answer::Reranked(Reranked { scores, order, tokens, reused }) => Body::Reranked {
            scores: scores.iter().copied().map(finite).collect(),
            order,
            tokens: *tokens,
            reused: *reused,
        },
        Answer::Listed(Listed { conversations, next }) => Body::Listed {
            conversations: conversations.iter().map(conversation).collect(),
            next: next.as_ref().map(ConversationId::as_str),
        },
        Answer::Inspected(inspected) => Body::Inspected(conversation(inspected)),
        Answer::Exported { bytes, context_len } => Body::Exported { bytes: *bytes, context_len: *context_len },
        Answer::Cancelled(cancelled) => Body::Cancelled { cancelled: *cancelled },
        Answer::Stats(stats) => Body::Stats {
            protocol: PROTOCOL,
            health: stats.health.as_str(),
            reason: stats.health.reason(),
            actors: stats.actors.iter().map(actor).collect(),
            waiting: stats.waiting,
            abandoned: stats.abandoned,
            conversations: stats.conversations,
            kv_bytes: stats.kv_bytes,
            kv_bytes_max: stats.kv_bytes_max,
            cached_bytes: stats.cached_bytes,
            shared_bytes: stats.shared_bytes,
            model: ModelBody {
                layers: stats.model.layers,
                hidden: stats.model.hidden,
                vocab: stats.model.vocab,
                inputs: stats.model.inputs,
                window: stats.model.window.size,
                sinks: stats.model.window.sinks,
            },
        },
    }
}

fn numbers<'a>(embedding: &[f32], codes: Option<&'a Codes>) -> Numbers<'a> {
    match codes {
        Some(codes) => Numbers::Codes(&codes.codes),
        None => Numbers::Floats(embedding.iter().copied().map(finite).collect()),
    }
}

fn piece(piece: &EmbeddedPiece) -> PieceBody<'_> {
    PieceBody {
        embedding: numbers(&piece.embedding, piece.codes.as_ref()),
        scale: piece.codes.as_ref().map(|codes| finite(codes.scale)),
        start: piece.bytes.start,
        end: piece.bytes.end,
        tokens: piece.tokens,
    }
}

fn step(stepped: &Stepped, top: bool) -> SteppedBody<'_> {
    SteppedBody {
        token_ids: stepped.token_ids.iter().map(|token| token.0).collect(),
        text: &stepped.text,
        logprobs: stepped.logprobs.iter().copied().map(finite).collect(),
        top: top.then(|| likely(&stepped.top)),
        context: (&stepped.context).into(),
        finished: match stepped.finished {
            Finished::Stop => "stop",
            Finished::Count => "count",
        },
    }
}

/// The most likely tokens in each place.
fn likely(top: &[Vec<(TokenId, f32)>]) -> Vec<Vec<(u32, f32)>> {
    top.iter().map(|likely| likely.iter().map(pair).collect()).collect()
}

/// One of several answers.
fn alone(stepped: SteppedBody<'_>) -> SteppedBody<'_> {
    let ContextBody { context_len, .. } = stepped.context;
    SteppedBody { context: ContextBody { context_len, rebuilt: false, reused: 0, tokenizer: None }, ..stepped }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn actor(stats: &ActorStats) -> ActorBody {
    ActorBody {
        actor: stats.actor,
        state: stats.state.as_str(),
        conversations: stats.conversations,
        restarts: stats.restarts,
        queued: stats.queued,
    }
}

fn conversation(inspected: &Inspected) -> ConversationBody<'_> {
    ConversationBody {
        conversation: inspected.conversation.as_str(),
        context_len: inspected.context_len,
        total: inspected.total,
        pinned: inspected.pinned,
        slid: inspected.slid,
        kv_bytes: inspected.kv_bytes,
        shared_bytes: inspected.shared_bytes,
        dwelling: inspected.dwelling.as_str(),
        actor: inspected.actor,
        requests: inspected.requests,
        choices: inspected.choices,
        sharing: inspected.sharing.as_str(),
        idle_ms: inspected.idle.map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)),
        quarantined: inspected.quarantined,
    }
}

impl From<&Context> for ContextBody {
    fn from(context: &Context) -> Self {
        Self {
            context_len: context.context_len,
            rebuilt: context.rebuilt,
            reused: context.reused,
            tokenizer: matches!(context.tokenizer, TokenizerKind::Bytes).then_some("bytes"),
        }
    }
}

impl From<&BrainError> for ErrorBody {
    fn from(error: &BrainError) -> Self {
        let code = error.code();
        Self {
            code: code.as_str(),
            message: error.to_string(),
            retryable: code.retryable(),
            retry_after_ms: retry_after(error).map(milliseconds),
        }
    }
}

fn retry_after(error: &BrainError) -> Option<Duration> {
    match error {
        BrainError::Overloaded { retry_after, .. } => *retry_after,
        BrainError::Quarantined { retry_after, .. } => Some(*retry_after),
        _ => None,
    }
}

/// Rounded up: whoever waits for them does not come too early.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn pair(&(token, logprob): &(TokenId, f32)) -> (u32, f32) {
    (token.0, finite(logprob))
}

fn finite(number: f32) -> f32 {
    number.clamp(f32::MIN, f32::MAX)
}

#[cfg(test)]
mod tests {
    use motorbrain_actors::{
        engine::{EngineInfo, Slides, Window},
        message::{Embedded, EmbeddedPieces, Scored, Several, Stepped},
        policy::{ActorState, Dwelling, Health, SharingKind},
        vectors::{Codes, MadeBy},
    };

    use super::*;

    fn check(id: &str, answer: Result<Answer, BrainError>) -> String {
        let id: Box<RawValue> = serde_json::from_str(id).expect("the id is JSON");
        let line = String::from_utf8(encode(&id, &answer)).expect("JSON is UTF-8");
        let (line, rest) = line.split_once('\n').expect("a line ends");
        assert_eq!(rest, "", "an answer is one line");
        line.to_owned()
    }

    fn reply(reply: Reply, top: bool) -> Result<Answer, BrainError> {
        Ok(Answer::Reply { reply, top })
    }

    const CONTEXT: Context = Context { context_len: 40, rebuilt: false, reused: 0, tokenizer: TokenizerKind::Model };

    fn stepped() -> Stepped {
        Stepped {
            token_ids: vec![TokenId(7), TokenId(2)],
            text: "\u{1}\nä".into(),
            logprobs: vec![-0.1, f32::NEG_INFINITY],
            top: vec![vec![(TokenId(7), -0.1), (TokenId(8), -1e-10)], vec![]],
            finished: Finished::Stop,
            context: CONTEXT,
        }
    }

    #[test]
    fn every_reply_is_written_as_the_protocol_says() {
        let embedded = Embedded {
            embedding: vec![0.1, -3.0, 1.0e-8],
            codes: None,
            recipe: MadeBy::Probe,
            calibrated: true,
            pieces: 1,
            tokens: 2,
            context: CONTEXT,
        };
        insta::assert_snapshot!(check("1", reply(Reply::Embedded(embedded.clone()), false)), @r#"{"id":1,"ok":{"embedding":[0.1,-3.0,1e-8],"recipe":"probe","calibrated":true,"tokens":2,"context_len":40}}"#);
        let codes = Some(Codes { codes: vec![127, -127, 0], scale: 0.25 });
        let embedded =
            Embedded { codes, recipe: MadeBy::ProbeInConversation, calibrated: false, pieces: 3, ..embedded };
        insta::assert_snapshot!(check("1", reply(Reply::Embedded(embedded), false)), @r#"{"id":1,"ok":{"embedding":[127,-127,0],"scale":0.25,"recipe":"probe_in_conversation","calibrated":false,"pieces":3,"tokens":2,"context_len":40}}"#);
        insta::assert_snapshot!(check("2", reply(Reply::Stepped(stepped()), false)), @r#"{"id":2,"ok":{"token_ids":[7,2],"text":"\u0001\nä","logprobs":[-0.1,-3.4028235e+38],"context_len":40,"finished":"stop"}}"#);
        insta::assert_snapshot!(check("2", reply(Reply::Stepped(stepped()), true)), @r#"{"id":2,"ok":{"token_ids":[7,2],"text":"\u0001\nä","logprobs":[-0.1,-3.4028235e+38],"top":[[[7,-0.1],[8,-1e-10]],[]],"context_len":40,"finished":"stop"}}"#);
        let scored = Scored { logprobs: vec![None, Some(-3.2)], top: vec![], context: CONTEXT };
        insta::assert_snapshot!(check("5", reply(Reply::Scored(scored.clone()), false)), @r#"{"id":5,"ok":{"logprobs":[null,-3.2],"tokens":2,"context_len":40}}"#);
        let listed = Scored { top: vec![vec![], vec![(TokenId(7), -0.1)]], ..scored };
        insta::assert_snapshot!(check("5", reply(Reply::Scored(listed), false)), @r#"{"id":5,"ok":{"logprobs":[null,-3.2],"top":[[],[[7,-0.1]]],"tokens":2,"context_len":40}}"#);
        let choices = vec![
            stepped(),
            Stepped { token_ids: vec![], text: String::new(), logprobs: vec![], top: vec![], ..stepped() },
        ];
        let context = Context { context_len: 38, reused: 20, ..CONTEXT };
        insta::assert_snapshot!(check("6", reply(Reply::Several(Several { choices, context }), false)), @r#"{"id":6,"ok":{"choices":[{"token_ids":[7,2],"text":"\u0001\nä","logprobs":[-0.1,-3.4028235e+38],"context_len":40,"finished":"stop"},{"token_ids":[],"text":"","logprobs":[],"context_len":40,"finished":"stop"}],"context_len":38,"reused":20}}"#);
        insta::assert_snapshot!(check("7", reply(Reply::Stands(CONTEXT), false)), @r#"{"id":7,"ok":{"context_len":40}}"#);
        insta::assert_snapshot!(check("3", reply(Reply::Done, false)), @r#"{"id":3,"ok":{}}"#);
        insta::assert_snapshot!(check("3", Ok(Answer::HandedOn)), @r#"{"id":3,"ok":{}}"#);
        insta::assert_snapshot!(check("3", Ok(Answer::Exported { bytes: 7, context_len: 40 })), @r#"{"id":3,"ok":{"bytes":7,"context_len":40}}"#);
        insta::assert_snapshot!(check("3", Ok(Answer::Cancelled(2))), @r#"{"id":3,"ok":{"cancelled":2}}"#);
    }

    #[test]
    fn parts_tokens_and_texts_are_written_as_the_protocol_says() {
        let id: Box<RawValue> = serde_json::from_str("7").expect("the id is JSON");
        let sampled = |token, logprob| Sampled { token: TokenId(token), logprob, top: vec![(TokenId(8), -0.5)] };
        let piece = Piece { sampled: vec![sampled(7, -0.1), sampled(2, f32::NEG_INFINITY)], text: "ä".into() };
        let line = |top| String::from_utf8(encode_part(&id, &piece, top)).expect("JSON is UTF-8");
        insta::assert_snapshot!(line(false).trim_end(), @r#"{"id":7,"part":{"text":"ä","token_ids":[7,2],"logprobs":[-0.1,-3.4028235e+38]}}"#);
        insta::assert_snapshot!(line(true).trim_end(), @r#"{"id":7,"part":{"text":"ä","token_ids":[7,2],"logprobs":[-0.1,-3.4028235e+38],"top":[[[8,-0.5]],[[8,-0.5]]]}}"#);
        assert_eq!(line(true).matches('\n').count(), 1);
        insta::assert_snapshot!(check("1", Ok(Answer::Tokens(vec![TokenId(7), TokenId(0)]))), @r#"{"id":1,"ok":{"token_ids":[7,0]}}"#);
        insta::assert_snapshot!(check("1", Ok(Answer::Text("a\"".into()))), @r#"{"id":1,"ok":{"text":"a\""}}"#);
    }

    #[test]
    fn a_rebuilt_context_and_the_byte_fallback_are_told() {
        let context = Context { context_len: 1, rebuilt: true, reused: 7, tokenizer: TokenizerKind::Bytes };
        let scored = Scored { logprobs: vec![], top: vec![], context };
        insta::assert_snapshot!(check("1", reply(Reply::Scored(scored), false)), @r#"{"id":1,"ok":{"logprobs":[],"tokens":0,"context_len":1,"rebuilt":true,"reused":7,"tokenizer":"bytes"}}"#);
    }

    #[test]
    fn stats_tell_actors_and_model() {
        let actor = ActorStats { actor: 0, state: ActorState::Restarting, conversations: 3, restarts: 1, queued: 2 };
        let model = EngineInfo {
            layers: 24,
            hidden: 896,
            vocab: 151_936,
            inputs: 51,
            embeds: true,
            window: Window { size: 8, sinks: 1, slide: 2, slides: Slides::Shift },
            end_tokens: vec![],
            kv_bytes_per_token: 1,
            pages: None,
        };
        let stats = Stats {
            health: Health::Ready,
            abandoned: 0,
            waiting: 5,
            actors: vec![actor],
            kv_bytes: 4096,
            kv_bytes_max: Some(8192),
            cached_bytes: 1024,
            shared_bytes: 512,
            conversations: 7,
            model,
        };
        let reason = || "1 of 2 actors is down".to_owned();
        for (health, expected) in [
            (Health::Starting, r#""health":"starting","actors""#),
            (Health::Degraded { reason: reason() }, r#""health":"degraded","reason":"1 of 2 actors is down","actors""#),
            (Health::Down { reason: reason() }, r#""health":"down","reason":"1 of 2 actors is down","actors""#),
        ] {
            let line = check("4", Ok(Answer::Stats(Stats { health, ..stats.clone() })));
            assert!(line.contains(expected), "{line}");
        }
        let line = check("4", Ok(Answer::Stats(Stats { kv_bytes_max: None, ..stats.clone() })));
        assert!(line.contains(r#""kv_bytes":4096,"cached_bytes":1024"#), "{line}");
        insta::assert_snapshot!(check("4", Ok(Answer::Stats(stats))), @r#"{"id":4,"ok":{"protocol":1,"health":"ready","actors":[{"actor":0,"state":"restarting","conversations":3,"restarts":1,"queued":2}],"waiting":5,"abandoned":0,"conversations":7,"kv_bytes":4096,"kv_bytes_max":8192,"cached_bytes":1024,"shared_bytes":512,"model":{"layers":24,"hidden":896,"vocab":151936,"inputs":51,"window":8,"sinks":1}}}"#);
    }

    #[test]
    fn each_piece_is_told_with_where_it_stands() {
        let piece = |bytes: std::ops::Range<usize>, codes: Option<Codes>| EmbeddedPiece {
            embedding: vec![0.5, -1.0],
            codes,
            tokens: bytes.len() / 2,
            bytes,
        };
        let context = Context { context_len: 14, rebuilt: false, reused: 4, tokenizer: TokenizerKind::Model };
        let codes = Codes { codes: vec![64, -127], scale: 0.0078125 };
        let pieces = vec![piece(0..6, None), piece(6..10, Some(codes))];
        let embedded = EmbeddedPieces { pieces, recipe: MadeBy::Probe, calibrated: true, tokens: 5, context };
        let reply = Answer::Reply { reply: Reply::EmbeddedPieces(embedded), top: false };
        insta::assert_snapshot!(check("1", Ok(reply)), @r#"{"id":1,"ok":{"vectors":[{"embedding":[0.5,-1.0],"start":0,"end":6,"tokens":3},{"embedding":[64,-127],"scale":0.0078125,"start":6,"end":10,"tokens":2}],"recipe":"probe","calibrated":true,"tokens":5,"context_len":14,"reused":4}}"#);
    }

    #[test]
    fn documents_are_ordered_by_their_scores() {
        let reranked =
            Reranked { scores: vec![0.5, f32::NEG_INFINITY, 2.0], order: vec![2, 0, 1], tokens: 40, reused: 0 };
        insta::assert_snapshot!(check("1", Ok(Answer::Reranked(reranked.clone()))), @r#"{"id":1,"ok":{"scores":[0.5,-3.4028235e+38,2.0],"order":[2,0,1],"tokens":40}}"#);
        insta::assert_snapshot!(check("1", Ok(Answer::Reranked(Reranked { reused: 37, ..reranked }))), @r#"{"id":1,"ok":{"scores":[0.5,-3.4028235e+38,2.0],"order":[2,0,1],"tokens":40,"reused":37}}"#);
    }

    #[test]
    fn conversations_are_told_without_what_goes_without_saying() {
        let idle = Inspected {
            conversation: "a\"b".into(),
            context_len: 40,
            total: 40,
            pinned: 0,
            slid: false,
            kv_bytes: 4096,
            shared_bytes: 1024,
            dwelling: Dwelling::Resident,
            actor: Some(1),
            requests: 0,
            choices: 0,
            sharing: SharingKind::All,
            idle: Some(Duration::from_micros(1_999)),
            quarantined: false,
        };
        let busy = Inspected {
            pinned: 7,
            slid: true,
            dwelling: Dwelling::Tokens,
            actor: None,
            requests: 2,
            choices: 3,
            sharing: SharingKind::Scope,
            idle: None,
            quarantined: true,
            ..idle.clone()
        };
        insta::assert_snapshot!(check("1", Ok(Answer::Inspected(idle.clone()))), @r#"{"id":1,"ok":{"conversation":"a\"b","context_len":40,"total":40,"kv_bytes":4096,"shared_bytes":1024,"dwelling":"resident","actor":1,"requests":0,"sharing":"all","idle_ms":1}}"#);
        let next = Some("a\"b".into());
        insta::assert_snapshot!(check("1", Ok(Answer::Listed(Listed { conversations: vec![busy], next }))), @r#"{"id":1,"ok":{"conversations":[{"conversation":"a\"b","context_len":40,"total":40,"pinned":7,"slid":true,"kv_bytes":4096,"shared_bytes":1024,"dwelling":"tokens","requests":2,"choices":3,"sharing":"scope","quarantined":true}],"next":"a\"b"}}"#);
        let last = Listed { conversations: vec![], next: None };
        insta::assert_snapshot!(check("1", Ok(Answer::Listed(last))), @r#"{"id":1,"ok":{"conversations":[]}}"#);
    }

    #[test]
    fn errors_have_code_message_and_retryable() {
        let retry_after = Duration::from_micros(1_000_500);
        let quarantined = BrainError::Quarantined { conversation: Some(ConversationId::from("a\"b")), retry_after };
        insta::assert_snapshot!(check("null", Err(quarantined)), @r#"{"id":null,"error":{"code":"quarantined","message":"conversation `a\"b`, until it is reset, killed actors and is refused; ask again in 1001 ms","retryable":false,"retry_after_ms":1001}}"#);
        insta::assert_snapshot!(check("1", Err(BrainError::Restarted)), @r#"{"id":1,"error":{"code":"restarted","message":"the actor died twice under this request","retryable":false}}"#);
        insta::assert_snapshot!(check("1", Err(BrainError::Cancelled)), @r#"{"id":1,"error":{"code":"cancelled","message":"cancelled by its caller","retryable":false}}"#);
        let overloaded = |retry_after| BrainError::Overloaded { what: "requests", limit: 8, retry_after };
        insta::assert_snapshot!(check("1", Err(overloaded(Some(Duration::from_millis(40))))), @r#"{"id":1,"error":{"code":"overloaded","message":"8 requests are the most at once; ask again in 40 ms","retryable":true,"retry_after_ms":40}}"#);
        insta::assert_snapshot!(check("1", Err(overloaded(None))), @r#"{"id":1,"error":{"code":"overloaded","message":"8 requests are the most at once","retryable":true}}"#);
    }

    #[test]
    fn ids_go_out_as_they_came_in() {
        for id in ["1.0", "1e999", "-0", "123456789012345678901234567890", r#""\u00e4""#] {
            assert_eq!(check(id, Ok(Answer::HandedOn)), format!(r#"{{"id":{id},"ok":{{}}}}"#));
        }
    }
}
