//! What a worker can be asked, as it comes over standard input. Lengths are in tokens.

use std::path::PathBuf;

use motorbrain::Settings;
use serde::Deserialize;

use crate::door;

/// One line of standard input.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Load a model, in place of the one that is loaded.
    Load(Load),
    /// In place of those before, have `conversations` read `context` tokens each. `bare`: without actors.
    Open {
        conversations: usize,
        context: usize,
        #[serde(default)]
        bare: bool,
    },
    /// Sample `tokens` more of each of the first `conversations`, all at once, behind one that is not timed.
    Decode(Decode),
    /// From an empty conversation to its first token.
    Prefill { tokens: usize },
    /// The vector of a text.
    Embed { tokens: usize },
    /// The first token after `tokens` more in the first conversation.
    Turn { tokens: usize },
    /// Gaps between streamed tokens while another conversation reads `long` tokens, and undisturbed.
    Latency { streams: usize, context: usize, long: usize },
    /// Of the texts, given as token ids.
    Perplexity { texts: PathBuf },
    /// What it is worth that keys and values belong to conversations, on brains of its own.
    Keeping(Load),
    /// What vectors and their order cost, on brains of its own.
    Embedding {
        #[serde(flatten)]
        load: Load,
        rounds: usize,
    },
    /// What a token costs while so many conversations are resident, on a brain of its own.
    Crowd {
        #[serde(flatten)]
        load: Load,
        resident: Vec<usize>,
    },
    /// Chats and embeds mixed, of a server or of a brain of its own.
    Door(door::Asked),
    /// What the process holds.
    Memory,
    /// Bytes a second that all threads together can read.
    Bandwidth { threads: usize },
    /// Operations a second of a large product of f32 matrices.
    Matmul { graph: PathBuf, threads: usize },
}

/// How conversations go on.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Decode {
    pub(crate) conversations: usize,
    pub(crate) tokens: usize,
    /// With temperature 1, top-p 0.9 and min-p 0.05, instead of greedily.
    #[serde(default)]
    pub(crate) sampled: bool,
    /// A request a token, each conversation's next one when it has the one before.
    #[serde(default)]
    pub(crate) steps: bool,
    /// Without actors: greedy, in a bare loop.
    #[serde(default)]
    pub(crate) bare: bool,
}

/// Which model, and how it is driven.
#[derive(Debug, Deserialize)]
pub(crate) struct Load {
    /// The model's folder.
    model: PathBuf,
    /// How many actors share the machine.
    #[serde(default = "one")]
    pub(crate) actors: usize,
    /// The most tokens of a conversation; the default where it is left out.
    window: Option<usize>,
    /// Where forms of models are kept; the user's folder where it is left out.
    cache: Option<PathBuf>,
    /// Bytes of keys and values kept for conversations to come; the default where it is left out.
    cached_bytes: Option<usize>,
}

fn one() -> usize {
    1
}

impl Load {
    /// The defaults, with the model, the actors and the window as asked for.
    pub(crate) fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        settings.model.dir = Some(self.model.clone());
        settings.brain.actors = self.actors;
        settings.window.size = self.window;
        settings.runtime.cache = self.cache.clone();
        settings.memory.cached_bytes = self.cached_bytes;
        // A large model on a slow machine is no hang.
        settings.brain.run_ms_max = 600_000;
        settings
    }
}
