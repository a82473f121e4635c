//! What bodies of the brain's own interface hold, for the description alone: they are read and written by the pipe's codec
//! (`motorbrain-protocol`), and `docs/pipe.md` says what each key means.
#![expect(dead_code, reason = "they describe and are never made")]

use utoipa::ToSchema;

macro_rules! described {
    ($( $(#[$doc:meta])* $name:ident { $( $(#[$key_doc:meta])* $key:ident: $ty:ty, )* } )+) => { $(
        #[derive(ToSchema)]
        $(#[$doc])*
        pub(crate) struct $name { $( $(#[$key_doc])* $key: $ty, )* }
    )+ };
}

described! {
    /// An input is one of `text`, `token_ids` and `parts`.
    Part {
        text: Option<String>,
        literal: Option<String>,
        token_ids: Option<Vec<u32>>,
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
    Steps {
        text: Option<String>,
        token_ids: Option<Vec<u32>>,
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
        /// Pairs of a token id and a number.
        logit_bias: Option<Vec<Vec<f32>>>,
        choice: Option<usize>,
        share: Option<bool>,
        scope: Option<String>,
        pin: Option<bool>,
        /// `interactive` or `background`.
        priority: Option<String>,
        deadline_ms: Option<u64>,
    }
    Embeds {
        text: Option<String>,
        token_ids: Option<Vec<u32>>,
        parts: Option<Vec<Part>>,
        /// `document` or `query`.
        kind: Option<String>,
        dim: Option<usize>,
        /// `f32` or `i8`.
        format: Option<String>,
        /// `whole` or `each`.
        pieces: Option<String>,
        piece_tokens: Option<usize>,
        choice: Option<usize>,
        share: Option<bool>,
        scope: Option<String>,
        pin: Option<bool>,
        priority: Option<String>,
        deadline_ms: Option<u64>,
    }
    Scores {
        text: Option<String>,
        token_ids: Option<Vec<u32>>,
        parts: Option<Vec<Part>>,
        choice: Option<usize>,
        share: Option<bool>,
        scope: Option<String>,
        pin: Option<bool>,
        priority: Option<String>,
        deadline_ms: Option<u64>,
    }
    Forks {
        /// The new one's name.
        to: String,
        /// How many of the tokens; all.
        at: Option<usize>,
        choice: Option<usize>,
        priority: Option<String>,
        deadline_ms: Option<u64>,
    }
    Rewinds {
        /// How many of the first tokens stay.
        context_len: usize,
        priority: Option<String>,
        deadline_ms: Option<u64>,
    }
    Reranks {
        query: String,
        documents: Vec<String>,
        mix: Option<f32>,
        share: Option<bool>,
        scope: Option<String>,
        priority: Option<String>,
        deadline_ms: Option<u64>,
    }
    Tokenizes {
        text: Option<String>,
        parts: Option<Vec<Part>>,
        priority: Option<String>,
        deadline_ms: Option<u64>,
    }
    Detokenizes {
        token_ids: Vec<u32>,
        priority: Option<String>,
        deadline_ms: Option<u64>,
    }
    /// With `n`, `choices` of these and one `context_len`.
    Stepped {
        token_ids: Vec<u32>,
        text: String,
        logprobs: Vec<f32>,
        /// Pairs of a token id and a log-probability.
        top: Option<Vec<Vec<Vec<f32>>>>,
        context_len: usize,
        reused: Option<usize>,
        /// `stop` or `count`.
        finished: String,
    }
    /// With `pieces` of `each`, `vectors`.
    Embedded {
        embedding: Vec<f32>,
        scale: Option<f32>,
        recipe: String,
        calibrated: bool,
        tokens: usize,
        context_len: usize,
        reused: Option<usize>,
    }
    Scored {
        logprobs: Vec<Option<f32>>,
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
