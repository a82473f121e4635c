//! What bodies of the brain's own interface hold, for the description alone: they are read and written by the pipe's codec
//! (`motorbrain-protocol`), and `docs/pipe.md` says what each key means.
#![expect(dead_code, reason = "they describe and are never made")]

use utoipa::ToSchema;

use crate::openai::tokens::TokenIdSent;

/// Objects whose keys may be left out, where they are optional, and are never `null`.
macro_rules! described {
    ($( $(#[$doc:meta])* $name:ident { $( $(#[$key_doc:meta])* $key:ident: $ty:ty, )* } )+) => { $(
        #[derive(ToSchema)]
        $(#[$doc])*
        pub(crate) struct $name { $( $(#[$key_doc])* #[schema(nullable = false)] $key: $ty, )* }
    )+ };
}

/// Objects that are sent: no other key is one.
macro_rules! sent {
    ($( $(#[$doc:meta])* $name:ident { $($keys:tt)* } )+) => { $(
        described! { #[serde(deny_unknown_fields)] $(#[$doc])* $name { $($keys)* } }
    )+ };
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($word:ident),+ })+) => { $(
        #[derive(ToSchema)]
        #[schema(rename_all = "lowercase")]
        $(#[$doc])*
        pub(crate) enum $name { $($word),+ }
    )+ };
}

words! {
    /// How much a request gets beside others.
    Priority { Interactive, Background }
    /// What a text is for.
    Kind { Document, Query }
    /// How the numbers of a vector are written.
    Format { F32, I8 }
    /// Whether a text has one vector, or each piece of it one.
    Pieces { Whole, Each }
}

/// One answer, or with `n` several.
#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum Stepped {
    One(OneStepped),
    Several(SeveralStepped),
}

/// One vector, or with `pieces` of `each` several.
#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum Embedded {
    One(OneEmbedded),
    Each(EachEmbedded),
}

sent! {
    /// A part of an input.
    Part {
        text: Option<String>,
        literal: Option<String>,
        token_ids: Option<Vec<TokenIdSent>>,
    }
    /// One of these keys.
    Grammars {
        json_schema: Option<serde_json::Value>,
        /// What it matches as a whole.
        regex: Option<String>,
        /// From its `start`.
        lark: Option<String>,
        choice: Option<Vec<String>>,
    }
    /// An input is one of `text`, `token_ids` and `parts`, or none.
    Steps {
        text: Option<String>,
        token_ids: Option<Vec<TokenIdSent>>,
        parts: Option<Vec<Part>>,
        /// How many tokens at most; 1.
        count: Option<usize>,
        seed: Option<u64>,
        /// So many of the most likely tokens are listed.
        top: Option<usize>,
        stop: Option<Vec<String>>,
        /// Whether it comes as events.
        stream: Option<bool>,
        /// What its tokens spell.
        grammar: Option<Grammars>,
        /// How many answers; 1.
        n: Option<usize>,
        temperature: Option<f32>,
        top_k: Option<usize>,
        top_p: Option<f32>,
        min_p: Option<f32>,
        repetition_penalty: Option<f32>,
        presence_penalty: Option<f32>,
        frequency_penalty: Option<f32>,
        /// Pairs of a token id and a number, each id once.
        logit_bias: Option<Vec<(TokenIdSent, f32)>>,
        /// Which of the answers that wait is gone on from.
        choice: Option<usize>,
        share: Option<bool>,
        scope: Option<String>,
        pin: Option<bool>,
        priority: Option<Priority>,
        deadline_ms: Option<u64>,
    }
    /// An input is one of `text`, `token_ids` and `parts`.
    Embeds {
        text: Option<String>,
        token_ids: Option<Vec<TokenIdSent>>,
        parts: Option<Vec<Part>>,
        kind: Option<Kind>,
        dim: Option<usize>,
        format: Option<Format>,
        choice: Option<usize>,
        share: Option<bool>,
        scope: Option<String>,
        pin: Option<bool>,
        priority: Option<Priority>,
        deadline_ms: Option<u64>,
    }
    /// An input is one of `text`, `token_ids` and `parts`.
    EmbedsAlone {
        text: Option<String>,
        token_ids: Option<Vec<TokenIdSent>>,
        parts: Option<Vec<Part>>,
        kind: Option<Kind>,
        dim: Option<usize>,
        format: Option<Format>,
        pieces: Option<Pieces>,
        piece_tokens: Option<usize>,
        share: Option<bool>,
        scope: Option<String>,
        priority: Option<Priority>,
        deadline_ms: Option<u64>,
    }
    /// An input is one of `text`, `token_ids` and `parts`.
    Scores {
        text: Option<String>,
        token_ids: Option<Vec<TokenIdSent>>,
        parts: Option<Vec<Part>>,
        /// How many of the most likely tokens to list in each place.
        top: Option<usize>,
        choice: Option<usize>,
        share: Option<bool>,
        scope: Option<String>,
        pin: Option<bool>,
        priority: Option<Priority>,
        deadline_ms: Option<u64>,
    }
    Forks {
        /// The new one's name.
        to: String,
        /// How many of the tokens; all.
        at: Option<usize>,
        choice: Option<usize>,
        priority: Option<Priority>,
        deadline_ms: Option<u64>,
    }
    Rewinds {
        /// How many of the first tokens stay.
        context_len: usize,
        priority: Option<Priority>,
        deadline_ms: Option<u64>,
    }
    Reranks {
        query: String,
        documents: Vec<String>,
        mix: Option<f32>,
        share: Option<bool>,
        scope: Option<String>,
        priority: Option<Priority>,
        deadline_ms: Option<u64>,
    }
    /// An input is one of `text` and `parts`.
    Tokenizes {
        text: Option<String>,
        parts: Option<Vec<Part>>,
        priority: Option<Priority>,
        deadline_ms: Option<u64>,
    }
    Detokenizes {
        token_ids: Vec<TokenIdSent>,
        priority: Option<Priority>,
        deadline_ms: Option<u64>,
    }
    Kills {
        /// Which actor.
        actor: usize,
    }
    Hangs {
        /// Which actor.
        actor: usize,
        /// For how long.
        ms: u64,
    }
}

described! {
    OneStepped {
        token_ids: Vec<u32>,
        text: String,
        logprobs: Vec<f32>,
        /// Pairs of a token id and a log-probability.
        top: Option<Vec<Vec<(u32, f32)>>>,
        context_len: usize,
        reused: Option<usize>,
        /// `stop` or `count`.
        finished: String,
    }
    SeveralStepped {
        choices: Vec<OneStepped>,
        context_len: usize,
        reused: Option<usize>,
    }
    OneEmbedded {
        embedding: Vec<f32>,
        scale: Option<f32>,
        recipe: String,
        calibrated: bool,
        tokens: usize,
        context_len: usize,
        reused: Option<usize>,
    }
    EachEmbedded {
        vectors: Vec<PieceEmbedded>,
        recipe: String,
        calibrated: bool,
        tokens: usize,
        context_len: usize,
        reused: Option<usize>,
    }
    PieceEmbedded {
        embedding: Vec<f32>,
        scale: Option<f32>,
        tokens: usize,
        /// Where it stands in the text, in bytes.
        start: usize,
        end: usize,
    }
    Scored {
        logprobs: Vec<Option<f32>>,
        /// Pairs of a token id and its log-probability, best first; none in the place of a conversation's first token.
        top: Option<Vec<Vec<(u32, f32)>>>,
        tokens: usize,
        context_len: usize,
        reused: Option<usize>,
    }
    Stands {
        context_len: usize,
    }
    Reranked {
        /// One a document.
        scores: Vec<f32>,
        /// Places of documents, best first.
        order: Vec<usize>,
        tokens: usize,
        reused: Option<usize>,
    }
    TokenIds {
        token_ids: Vec<u32>,
    }
    Text {
        text: String,
    }
    Listed {
        conversations: Vec<ConversationSaid>,
        next: Option<String>,
    }
    #[schema(as = Conversation)]
    ConversationSaid {
        conversation: String,
        context_len: usize,
        total: u64,
        pinned: Option<usize>,
        slid: Option<bool>,
        kv_bytes: usize,
        shared_bytes: usize,
        /// `resident`, `spilled` or `tokens`.
        dwelling: String,
        actor: Option<usize>,
        requests: usize,
        choices: Option<usize>,
        /// `all`, `scope` or `nobody`.
        sharing: String,
        idle_ms: Option<u64>,
        quarantined: Option<bool>,
    }
    Stats {
        /// The version of the protocol.
        protocol: u32,
        /// `starting`, `ready`, `degraded` or `down`.
        health: String,
        reason: Option<String>,
        actors: Vec<ActorSaid>,
        waiting: usize,
        abandoned: usize,
        conversations: usize,
        kv_bytes: usize,
        kv_bytes_max: Option<usize>,
        cached_bytes: usize,
        shared_bytes: usize,
        model: ModelSaid,
    }
    #[schema(as = Actor)]
    ActorSaid {
        actor: usize,
        state: String,
        conversations: usize,
        restarts: u64,
        queued: usize,
    }
    #[schema(as = ModelSizes)]
    ModelSaid {
        layers: usize,
        hidden: usize,
        vocab: usize,
        inputs: usize,
    }
}
