//! Settings: everything that can be chosen, its default, and where a choice comes from.
//!
//! Four layers, each beating the one before: the defaults below, a TOML file, the environment
//! (`MOTORBRAIN__WINDOW__SIZE=512`), and overrides (`--set window.size=512`). The sections here are
//! the only place where a key, its type, its default and its one line of documentation stand:
//! reading, checking and the documented file `config/motorbrain.toml` are made from them.
//!
//! This module opens no model and no library: what can only be judged with the model at hand (a
//! window above its context) is judged where the model is opened.

mod convert;
pub mod env;
mod error;
mod file;
mod load;
mod sections;
mod validate;
mod value;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use motorbrain_actors::{
    policy::WhenDown,
    vectors::{Format, Pooling},
};

pub use error::SettingsError;
pub use file::documented_file;
pub use load::{DEFAULT_FILE, Place, Sources};

use crate::{
    calibration,
    engine::{Activations, Overflow, WindowPolicy},
    model::RecipeName,
};

sections::sections! {
    /// The model: a folder with `model.onnx` and `tokenizer.json`, and `config.json` where there is one.
    ModelSettings model {
        /// The model's folder; left out, the model that `cargo xtask setup` put in place.
        dir: Option<PathBuf> = None, example "\"models/qwen2.5-coder-0.5b\"";
        /// The graph inside that folder; left out, genai_config.json's, `model.onnx` or the only `onnx/model*.onnx`.
        file: Option<PathBuf> = None, example "\"onnx/model_q4.onnx\"";
        /// A preset of `config/presets/`, or the path of such a file, that the graph must agree with.
        preset: Option<String> = None, example "\"qwen2.5-coder-0.5b\"";
    }
    /// ONNX Runtime, the library that runs the model.
    RuntimeSettings runtime {
        /// The library file; left out, it is looked for where set-up and the system put it.
        library: Option<PathBuf> = None, example "\"/usr/local/lib/libonnxruntime.so\"";
        /// Threads inside one run of one actor; left out, the cores divided by `brain.actors`.
        threads: Option<usize> = None, example "2";
        /// Where products with weights of few bits round activations: `as_exported`; `f32` keeps them; `int8` rounds each row by itself, the fastest with 4 bits. With the last two answers do not depend on cuts, batches and replays.
        activations: Activations = Activations::AsExported;
        /// Where forms of models that were made are kept; left out, the user's cache folder.
        cache: Option<PathBuf> = None, example "\"/var/cache/motorbrain\"";
    }
    /// The actors: what they run at once, when one of them counts as hung or as beyond help, and what follows.
    BrainSettings brain {
        /// Embedder actors, each a thread and an engine: more serve more at once and take more memory.
        actors: usize = 1;
        /// The longest run while somebody else waits for the actor, as far as can be foreseen: shorter answers them sooner, longer reads prompts faster.
        run_beside_ms: u64 = 250;
        /// A run that takes longer than this is given up and its actor restarted.
        run_ms_max: u64 = 30_000;
        /// A model that takes longer than this to load is given up, as a run is.
        load_ms_max: u64 = 600_000;
        /// Threads that hang in the runtime cannot be ended: so many are left behind, an actor that hangs then is down until one of them ends.
        abandoned_max: usize = 4;
        /// More restarts than this within `restarts_within_ms` and the actor is down; deaths that a request is charged with do not count.
        restarts_max: usize = 5;
        /// How far back restarts are counted, so that a rare death never adds up to a final one.
        restarts_within_ms: u64 = 60_000;
        /// The pause before a second restart, the first being at once; each further one waits twice as long.
        backoff_ms_min: u64 = 50;
        /// The longest pause between restarts.
        backoff_ms_max: u64 = 5_000;
        /// When an actor that is down is tried again; each further trial waits twice as long, a quarter more or less by chance.
        retry_ms_min: u64 = 1_000;
        /// The longest time between two such trials.
        retry_ms_max: u64 = 60_000;
        /// How long what has killed actors is refused, be it a conversation or a text, as `quarantined`.
        quarantine_ms: u64 = 600_000;
        /// When every actor is down: `retry` refuses requests and tries on, `stop` ends the brain with an error for whoever supervises it.
        when_down: WhenDown = WhenDown::Retry;
        /// How long a shutdown finishes what was accepted; the rest is then `unavailable`. 0 finishes nothing.
        shutdown_ms_max: u64 = 30_000;
        /// Whether actors may be made to crash and to hang on purpose, to see what follows.
        chaos: bool = false;
    }
    /// The window: how much of a conversation the model sees, and what leaves when it is full.
    WindowSettings window {
        /// The most tokens kept; left out, 2048 or the model's own context where that is smaller.
        size: Option<usize> = None, example "2048";
        /// First tokens that never leave, since attention leans on them; left out, the smaller of 4 and size / 8.
        sinks: Option<usize> = None, example "4";
        /// Oldest tokens that leave at once, so that keys move seldom; left out, size / 4.
        slide: Option<usize> = None, example "512";
        /// At a full window: `slide` drops the oldest, `error` refuses with `context_full`.
        overflow: Overflow = Overflow::Slide;
        /// What stays behind a slide: `shift` keeps its keys and values and turns the keys back; `recompute` reads it again beside others' work, so that answers depend on its tokens alone, and models can slide whose keys do not turn.
        policy: WindowPolicy = WindowPolicy::Shift;
    }
    /// How much memory is used.
    MemorySettings memory {
        /// Bytes of keys and values; beyond it idle conversations leave, least recently used first, and are read again when they are asked for something; left out, half of what is free at start beside the weights.
        kv_bytes: Option<usize> = None, example "4294967296";
        /// Bytes of tokens of conversations that have left; beyond it those idle for longest are forgotten.
        history_bytes: usize = 268_435_456;
        /// How long an idle conversation is remembered. 0 is for ever.
        idle_ms_max: u64 = 0;
        /// Bytes of keys and values kept for conversations to come, when nobody uses them; left out, an eighth of what is free at start.
        cached_bytes: Option<usize> = None, example "1073741824";
        /// A folder of your own where the keys and values of conversations go that leave, so that they come back without being read again; left out, only their tokens are kept.
        spill: Option<PathBuf> = None, example "\"/var/cache/motorbrain/spill\"";
        /// Bytes of all files there; beyond it, or where the disk is full, only tokens are kept. Left out, half of the room that the disk has at start.
        spill_bytes: Option<u64> = None, example "17179869184";
    }
    /// How a text becomes a vector.
    EmbeddingSettings embedding {
        /// `probe`: the state of a short text behind the text; `pooled`: the text's own states. Left out, what the preset says (the one named, else one whose sizes are the model's), but `pooled` where `pooling` is set.
        recipe: Option<RecipeName> = None, example "\"probe\"";
        /// Of `pooled` vectors: `mean` or `last` of the text's own tokens; left out, `mean`.
        pooling: Option<Pooling> = None, example "\"mean\"";
        /// What stands before a text that is embedded with a probe and without a conversation; it is read once for all.
        prefix: String = "This text: \"".to_owned();
        /// What stands behind a text, and gives the vector: the state where the model is about to go on is used.
        probe: String = "\"\nA good name for it: `".to_owned();
        /// The prefix of texts that are embedded as a `query`; left out, that of all.
        query_prefix: Option<String> = None, example "\"This question: \\\"\"";
        /// The probe of such texts; left out, that of all.
        query_probe: Option<String> = None, example "\"\\\"\\nA good name for what answers it: `\"";
        /// The calibration of vectors: a file as `motorbrain calibrate` writes it, `weights` for what the weights alone tell, or `none` (`./none` for a file of that name); left out, the model's own `calibration.safetensors`, and where there is none, for probed vectors, `weights`.
        calibration: Option<calibration::Source> = None, example "\"models/mine/calibration.safetensors\"";
        /// How many numbers a vector has, 64 or more; left out, all.
        dim: Option<usize> = None, example "256";
        /// Vectors of length 1, so that a dot product is a cosine.
        normalize: bool = true;
        /// `f32`, or `i8`: whole numbers from -127 to 127 with one scale for all, a quarter of the bytes.
        format: Format = Format::F32;
    }
    /// How documents are ordered by what they have to do with a query.
    RerankSettings rerank {
        /// What stands before a document.
        before: String = "```\n".to_owned();
        /// What stands between a document and the query, whose likelihood there, less that behind this alone, is the score.
        between: String = "\n```\n\nWhat this is about, in one sentence: ".to_owned();
        /// A question with `{query}` and `{document}` in it: the score is then by how much `yes` is likelier behind it than `no`; left out, likelihood decides.
        prompt: Option<String> = None, example "\"Text: {document}\\nQuestion: {query}\\nDoes the text answer it?\"";
        /// The answer of a document that is to stand first.
        yes: String = " Yes".to_owned();
        /// That of one that is to stand last.
        no: String = " No".to_owned();
        /// Adds the cosine of the vectors of query and document, of which the score is then so many parts: cosine + mix * score; left out, no vectors are made.
        mix: Option<f32> = None, example "0.1";
    }
    /// What a single caller may ask for, so that one cannot starve the others.
    LimitsSettings limits {
        /// The longest text of a request in bytes; beyond it `input_too_long`.
        text_bytes: usize = 4 * 1024 * 1024;
        /// The most tokens a step may sample; beyond it `bad_request`.
        count: usize = 65_536;
        /// Requests waiting at once, each of several answers counted; beyond it `overloaded`.
        requests: usize = 1_024;
        /// The same for one conversation.
        conversation_requests: usize = 256;
        /// Conversations with keys and values in memory at once; for a new one the one idle for longest leaves, and where none is idle it is `overloaded`.
        conversations: usize = 1_024;
        /// How long a request may take; beyond it `timeout`. 0 is no limit.
        deadline_ms: u64 = 0;
    }
    /// How others look at a brain that runs.
    ObserveSettings observe {
        /// Where a socket is opened for `motorbrain top`, which can look and do nothing; left out, nowhere. For this user alone; not on Windows.
        socket: Option<PathBuf> = None, example "\"/run/user/1000/motorbrain.sock\"";
    }
    /// The HTTP server that `motorbrain serve` opens over a brain; the library alone has none.
    ServerSettings server {
        /// Where it listens; port 0 takes one that is free. An address beyond this machine needs tokens.
        address: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        /// A file of bearer tokens, one a line, 16 characters or more each; left out, those of `MOTORBRAIN_TOKENS`, if any.
        token_file: Option<PathBuf> = None, example "\"/etc/motorbrain/tokens\"";
        /// The names by which the model is asked for, the first of them its own; left out, that of its folder.
        models: Vec<String> = Vec::new();
        /// Names in `Host` that are answered besides those of this machine; where it listens beyond this machine, left out means any.
        hosts: Vec<String> = Vec::new();
        /// Origins of pages that browsers may ask for (CORS), such as `https://example.org`, or `*` for all.
        cors_origins: Vec<String> = Vec::new();
        /// The longest body of a request in bytes; all bodies that are being read take at most 16 times as much.
        body_bytes_max: usize = 8 * 1024 * 1024;
        /// The longest head of a request in bytes.
        head_bytes_max: usize = 32 * 1024;
        /// How long a request's head may take to come, and how long a connection may rest between two requests.
        head_ms_max: u64 = 15_000;
        /// How long its body may take.
        body_ms_max: u64 = 30_000;
        /// How long a reader may take none of what is written to him before his connection is closed.
        write_ms_max: u64 = 30_000;
        /// How long a request may take, a streamed one to its end; beyond it `timeout`. 0 is no limit but `limits.deadline_ms`.
        request_ms_max: u64 = 600_000;
        /// Connections at once; whoever comes then waits to be let in.
        connections_max: usize = 512;
        /// Streamed answers at once of one client, who is a token; beyond it `overloaded`.
        streams_per_client_max: usize = 64;
        /// Inputs of one request for embeddings or completions.
        inputs_max: usize = 2_048;
        /// Responses that are remembered for `previous_response_id`; beyond it those asked for longest ago are forgotten.
        responses_max: usize = 1_024;
        /// Whether clients of different tokens share what they have read: who is answered sooner learns that somebody has said the same.
        share_between_clients: bool = false;
        /// How long a shutdown finishes what was accepted; the rest is then `unavailable`.
        shutdown_ms_max: u64 = 30_000;
    }
}
