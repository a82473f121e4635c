//! Text becomes tokens. Long texts on threads of their own, so that neither the brain nor an actor
//! waits for one; short ones at once, because handing them over would take longer.
//!
//! A few threads rather than tokio's blocking pool, which would grow by one for each of a thousand
//! texts.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use ractor::ActorRef;

use super::message::{BrainMessage, Internal, Note};
use crate::{
    job::RequestId,
    tokens::{EncodeError, TokenId, Tokenizer},
};

/// More threads than this serve nobody: reading is slower than tokenising.
const THREADS_MAX: usize = 4;

/// A text of so many bytes is tokenised sooner than another thread wakes up.
const AT_ONCE_BYTES_MAX: usize = 64;

struct Text {
    request: RequestId,
    text: String,
}

/// The way to the threads; they end when it is dropped and their work is done.
pub(super) struct Tokenizing {
    tokenizer: Arc<dyn Tokenizer>,
    texts: mpsc::Sender<Text>,
}

impl Tokenizing {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(tokenizer: &Arc<dyn Tokenizer>, brain: &ActorRef<BrainMessage>) -> std::io::Result<Self> {
        let (texts, inbox) = mpsc::channel();
        let inbox = Arc::new(Mutex::new(inbox));
        let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        for index in 0..threads {
            let (inbox, tokenizer, brain) = (Arc::clone(&inbox), Arc::clone(tokenizer), brain.clone());
            thread::Builder::new()
                .name(format!("tokenizer-{index}"))
                .spawn(move || work(&inbox, &*tokenizer, &brain))?;
        }
        Ok(Self { tokenizer: Arc::clone(tokenizer), texts })
    }

    /// The tokens, where they are there at once; otherwise they come as [`Note::Tokenised`].
    pub(super) fn tokenise(&self, request: RequestId, text: String) -> Option<Result<Vec<TokenId>, EncodeError>> {
        if text.len() <= AT_ONCE_BYTES_MAX {
            return Some(encode(&*self.tokenizer, &text));
        }
        // The threads live as long as this sender does.
        let sent = self.texts.send(Text { request, text });
        debug_assert!(sent.is_ok(), "the tokenizer's threads have ended");
        None
    }
}

fn encode(tokenizer: &dyn Tokenizer, text: &str) -> Result<Vec<TokenId>, EncodeError> {
    catch_unwind(AssertUnwindSafe(|| tokenizer.encode(text)))
        .unwrap_or_else(|_| Err(EncodeError { reason: "the tokenizer panicked".to_owned() }))
}

fn work(inbox: &Mutex<mpsc::Receiver<Text>>, tokenizer: &dyn Tokenizer, brain: &ActorRef<BrainMessage>) {
    loop {
        // Whoever holds the lock waits for the next text, the others for the lock.
        let next = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Text { request, text }) = next else {
            return;
        };
        let note = Note::Tokenised(request, encode(tokenizer, &text));
        if brain.cast(BrainMessage::Internal(Internal(note))).is_err() {
            return;
        }
    }
}
