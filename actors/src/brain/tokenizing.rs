//! Text becomes tokens, and tokens become text where somebody asks for just that. What is long on threads
//! of their own, so that neither the brain nor an actor waits for it; short texts at once, because handing
//! them over would take longer.
//!
//! A few threads rather than tokio's blocking pool, which would grow by one for each of a thousand
//! texts.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use ractor::{ActorRef, RpcReplyPort};
use tokio::sync::OwnedSemaphorePermit;

use super::message::{BrainMessage, Internal, Note};
use crate::{
    job::RequestId,
    message::{BrainError, Input, Part, check_vocabulary},
    tokens::{EncodeError, Spelled, TokenId, Tokenizer},
};

/// More threads than this serve nobody: reading is slower than tokenising.
const THREADS_MAX: usize = 4;

/// A text of so many bytes is tokenised sooner than another thread wakes up.
const AT_ONCE_BYTES_MAX: usize = 64;

/// What a thread is given to do.
pub(super) enum Task {
    /// The tokens of a request.
    Request {
        /// Whose.
        request: RequestId,
        /// What becomes tokens.
        input: Input,
        /// The token before it.
        behind: Option<TokenId>,
    },
    /// Tokens that somebody asked for.
    Tokenize {
        /// What becomes tokens.
        input: Input,
        /// Who asked.
        asked: Asked<Vec<TokenId>>,
    },
    /// A text that somebody asked for.
    Detokenize {
        /// What becomes text.
        tokens: Vec<TokenId>,
        /// Who asked.
        asked: Asked<String>,
    },
}

/// Who asked for tokens or text and nothing else.
pub(super) struct Asked<T> {
    /// Where the answer goes.
    pub(super) port: RpcReplyPort<Result<T, BrainError>>,
    /// Rows of the vocabulary.
    pub(super) vocab: usize,
    /// Given back before the answer, so that whoever has it may ask again: the brain's own, and the caller's.
    pub(super) permits: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

impl<T> Asked<T> {
    fn answer(self, result: Result<T, BrainError>) {
        drop(self.permits);
        // As everywhere: who went away wants no answer.
        drop(self.port.send(result));
    }
}

/// The way to the threads; they end when it is dropped and their work is done.
pub(super) struct Tokenizing {
    tokenizer: Arc<dyn Tokenizer>,
    tasks: mpsc::Sender<Task>,
}

impl Tokenizing {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(tokenizer: &Arc<dyn Tokenizer>, brain: &ActorRef<BrainMessage>) -> std::io::Result<Self> {
        let (tasks, inbox) = mpsc::channel();
        let inbox = Arc::new(Mutex::new(inbox));
        let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        for index in 0..threads {
            let (inbox, tokenizer, brain) = (Arc::clone(&inbox), Arc::clone(tokenizer), brain.clone());
            thread::Builder::new()
                .name(format!("tokenizer-{index}"))
                .spawn(move || work(&inbox, &*tokenizer, &brain))?;
        }
        Ok(Self { tokenizer: Arc::clone(tokenizer), tasks })
    }

    /// The tokens, where they are there at once; otherwise they come as [`Note::Tokenised`].
    pub(super) fn tokenise(
        &self,
        request: RequestId,
        input: Input,
        behind: Option<TokenId>,
    ) -> Option<Result<Vec<TokenId>, BrainError>> {
        if input.bytes() <= AT_ONCE_BYTES_MAX {
            return Some(encode(&*self.tokenizer, input, behind));
        }
        self.hand_over(Task::Request { request, input, behind });
        None
    }

    /// Gives a thread something to do.
    pub(super) fn hand_over(&self, task: Task) {
        // The threads live as long as this sender does.
        let sent = self.tasks.send(task);
        debug_assert!(sent.is_ok(), "the tokenizer's threads have ended");
    }
}

fn encode(tokenizer: &dyn Tokenizer, input: Input, behind: Option<TokenId>) -> Result<Vec<TokenId>, BrainError> {
    guarded(|| match input {
        Input::Text(text) => tokenizer.encode_behind(Spelled::Marked(&text), behind),
        Input::Tokens(tokens) => Ok(tokens),
        Input::Parts(parts) => parts.into_iter().try_fold(Vec::new(), |mut all, part| {
            let behind = all.last().copied().or(behind);
            all.extend(match part {
                Part::Text(text) => tokenizer.encode_behind(Spelled::Marked(&text), behind)?,
                Part::Literal(text) => tokenizer.encode_behind(Spelled::Literal(&text), behind)?,
                Part::Tokens(tokens) => tokens,
            });
            Ok(all)
        }),
    })
}

/// What a caller is told whose text the tokenizer does not take.
fn guarded<T>(work: impl FnOnce() -> Result<T, EncodeError>) -> Result<T, BrainError> {
    let refused = |reason: &str| BrainError::BadRequest {
        what: "text",
        found: format!("refused by the tokenizer ({reason})"),
        expected: "a text it takes".to_owned(),
    };
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| refused(&error.reason)),
        Err(_) => Err(refused("the tokenizer panicked")),
    }
}

fn work(inbox: &Mutex<mpsc::Receiver<Task>>, tokenizer: &dyn Tokenizer, brain: &ActorRef<BrainMessage>) {
    loop {
        // Whoever holds the lock waits for the next task, the others for the lock.
        let next = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Err(_) => return,
            Ok(Task::Request { request, input, behind }) => {
                let note = Note::Tokenised(request, encode(tokenizer, input, behind));
                if brain.cast(BrainMessage::Internal(Internal(note))).is_err() {
                    return;
                }
            }
            Ok(Task::Tokenize { input, asked }) => {
                let tokens = encode(tokenizer, input, None);
                let checked = tokens.and_then(|tokens| check_vocabulary(&tokens, asked.vocab).map(|()| tokens));
                asked.answer(checked);
            }
            Ok(Task::Detokenize { tokens, asked }) => {
                let checked = check_vocabulary(&tokens, asked.vocab);
                let text = checked.and_then(|()| guarded(|| Ok(tokenizer.decode(&tokens))));
                asked.answer(text);
            }
        }
    }
}
