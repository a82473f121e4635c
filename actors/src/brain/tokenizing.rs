//! The threads that turn text into tokens, so that neither the brain nor an actor waits for a long
//! text. A few threads of our own rather than tokio's blocking pool, which would grow by a thread for
//! each of a thousand texts.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use ractor::ActorRef;

use super::message::{BrainMessage, Internal, Note};
use crate::{
    job::RequestId,
    tokens::{EncodeError, Tokenizer},
};

/// More threads than this serve nobody: reading is slower than tokenising.
const THREADS_MAX: usize = 4;

struct Text {
    request: RequestId,
    text: String,
}

/// The way to the threads; they end when it is dropped and their work is done.
pub(super) struct Tokenizing {
    texts: mpsc::Sender<Text>,
}

impl Tokenizing {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(
        tokenizer: &Arc<dyn Tokenizer>,
        brain: &ActorRef<BrainMessage>,
    ) -> std::io::Result<Self> {
        let (texts, inbox) = mpsc::channel();
        let inbox = Arc::new(Mutex::new(inbox));
        let threads = thread::available_parallelism()
            .map_or(1, usize::from)
            .min(THREADS_MAX);
        for index in 0..threads {
            let (inbox, tokenizer, brain) =
                (Arc::clone(&inbox), Arc::clone(tokenizer), brain.clone());
            thread::Builder::new()
                .name(format!("tokenizer-{index}"))
                .spawn(move || work(&inbox, &*tokenizer, &brain))?;
        }
        Ok(Self { texts })
    }

    pub(super) fn tokenise(&self, request: RequestId, text: String) {
        // The threads live as long as this sender does.
        let sent = self.texts.send(Text { request, text });
        debug_assert!(sent.is_ok(), "the tokenizer's threads have ended");
    }
}

fn work(
    inbox: &Mutex<mpsc::Receiver<Text>>,
    tokenizer: &dyn Tokenizer,
    brain: &ActorRef<BrainMessage>,
) {
    loop {
        // Whoever holds the lock waits for the next text, the others for the lock.
        let next = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Text { request, text }) = next else {
            return;
        };
        let result =
            catch_unwind(AssertUnwindSafe(|| tokenizer.encode(&text))).unwrap_or_else(|_| {
                Err(EncodeError {
                    reason: "the tokenizer panicked".to_owned(),
                })
            });
        let note = Note::Tokenised(request, result);
        if brain.cast(BrainMessage::Internal(Internal(note))).is_err() {
            return;
        }
    }
}
