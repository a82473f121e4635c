//! Text becomes tokens, and tokens become text where somebody asks for just that. What is long on threads
//! of their own, so that neither the brain nor an actor waits for it; short texts at once, because handing
//! them over would take longer.
//!
//! What waits is some open request's and leaves with it, so there is never more of it than the gate lets in; clients
//! take turns by the bytes that were read for them.
//!
//! A few threads rather than tokio's blocking pool, which would grow by one for each of a thousand
//! texts.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

use super::{
    cuts::{Cut, cut},
    notes::{Note, Post},
};
use crate::{
    job::{RequestId, lock},
    message::{BrainError, Input, Part, Party},
    shares::{Flow, Place, Shares},
    tokens::{EncodeError, Spelled, TokenId, Tokenizer},
};

/// More threads than this serve nobody: reading is slower than tokenising.
const THREADS_MAX: usize = 4;

/// A text of so many bytes is tokenised sooner than another thread wakes up.
const AT_ONCE_BYTES_MAX: usize = 64;

/// What is to be made of what.
#[derive(Debug)]
pub(super) enum Work {
    /// Tokens.
    Encode {
        /// What becomes tokens.
        input: Input,
        /// The token before it.
        behind: Option<TokenId>,
    },
    /// Tokens, and where pieces of them end.
    Cut {
        /// What becomes tokens: texts.
        input: Input,
        /// The token before it.
        behind: Option<TokenId>,
        /// Tokens of a piece, at most.
        most: usize,
    },
    /// Text.
    Decode(Vec<TokenId>),
}

/// What it has become.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Made {
    /// Of [`Work::Encode`].
    Tokens(Vec<TokenId>),
    /// Of [`Work::Cut`].
    Cut(Vec<TokenId>, Vec<Cut>),
    /// Of [`Work::Decode`].
    Text(String),
}

/// The way to the threads; they end when it is dropped.
pub(super) struct Tokenizing {
    tokenizer: Arc<dyn Tokenizer>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// A std mutex, since threads wait for it: held for a few look-ups, never while something is made.
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Shares<(RequestId, Work)>,
    /// Where each of them stands.
    places: BTreeMap<RequestId, (Party, Flow, Place)>,
    closed: bool,
}

impl Work {
    /// Of what there is to read, as limits count it.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Encode { input, .. } | Self::Cut { input, .. } => input.bytes(),
            Self::Decode(tokens) => tokens.len().saturating_mul(size_of::<TokenId>()),
        }
    }
}

impl Tokenizing {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(tokenizer: &Arc<dyn Tokenizer>, post: &Post) -> std::io::Result<Self> {
        // First, so that the threads that there are end where the system gives no other.
        let tokenizing = Self { tokenizer: Arc::clone(tokenizer), shared: Arc::default() };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        for index in 0..threads {
            let (shared, tokenizer, post) = (Arc::clone(&tokenizing.shared), Arc::clone(tokenizer), post.clone());
            thread::Builder::new().name(format!("tokenizer-{index}")).spawn(move || shared.work(&*tokenizer, &post))?;
        }
        Ok(tokenizing)
    }

    /// What was asked for, where it is there at once; otherwise it comes as [`Note::Made`].
    pub(super) fn make(
        &self,
        request: RequestId,
        party: &Party,
        flow: Flow,
        work: Work,
    ) -> Option<Result<Made, BrainError>> {
        if work.bytes() <= AT_ONCE_BYTES_MAX {
            return Some(make(&*self.tokenizer, work));
        }
        let mut queue = lock(&self.shared.queue);
        let place = queue.waiting.push(party, &flow, (request, work));
        queue.places.insert(request, (party.clone(), flow, place));
        drop(queue);
        self.shared.changed.notify_one();
        None
    }

    /// Nobody wants any more what was asked for. What a thread is at is made, and comes.
    pub(super) fn forget(&self, request: RequestId) {
        let mut queue = lock(&self.shared.queue);
        if let Some((party, flow, place)) = queue.places.remove(&request) {
            let work = queue.waiting.remove(&party, &flow, place);
            // A text can be long, and is freed without the lock.
            drop(queue);
            drop(work);
        }
    }
}

impl Drop for Tokenizing {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        *queue = Queue { closed: true, ..Queue::default() };
        drop(queue);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    /// A thread's life.
    fn work(&self, tokenizer: &dyn Tokenizer, post: &Post) {
        while let Some((request, work)) = self.next() {
            post.put(Note::Made(request, make(tokenizer, work)));
        }
    }

    /// Waits for something to do; `None` at the end.
    fn next(&self) -> Option<(RequestId, Work)> {
        let idles = |queue: &mut Queue| queue.waiting.is_empty() && !queue.closed;
        let queue = lock(&self.queue);
        let mut queue = self.changed.wait_while(queue, idles).unwrap_or_else(PoisonError::into_inner);
        let next = queue.waiting.pop()?;
        let (request, work) = next.item;
        queue.waiting.charge(&next.party, &next.flow, work.bytes() as u64);
        queue.places.remove(&request);
        Some((request, work))
    }
}

/// What a caller is told whose text the tokenizer does not take.
fn make(tokenizer: &dyn Tokenizer, work: Work) -> Result<Made, BrainError> {
    let refused = |reason: &str| BrainError::BadRequest {
        what: "text",
        found: format!("refused by the tokenizer ({reason})"),
        expected: "a text it takes".to_owned(),
    };
    let made = catch_unwind(AssertUnwindSafe(|| match work {
        Work::Encode { input, behind } => encode(tokenizer, input, behind).map(|tokens| Ok(Made::Tokens(tokens))),
        Work::Cut { input, behind, most } => cut_up(tokenizer, input, behind, most),
        Work::Decode(tokens) => Ok(Ok(Made::Text(tokenizer.decode(&tokens)))),
    }));
    match made {
        Ok(made) => made.unwrap_or_else(|error| Err(refused(&error.reason))),
        Err(_) => Err(refused("the tokenizer panicked")),
    }
}

/// The tokens of texts, which stand one behind the other as one, and where the pieces of that end.
fn cut_up(
    tokenizer: &dyn Tokenizer,
    input: Input,
    behind: Option<TokenId>,
    most: usize,
) -> Result<Result<Made, BrainError>, EncodeError> {
    let parts = match input {
        Input::Text(text) => vec![Part::Text(text)],
        Input::Tokens(tokens) => vec![Part::Tokens(tokens)],
        Input::Parts(parts) => parts,
    };
    let (mut text, mut tokens, mut spans) = (String::new(), Vec::new(), Vec::new());
    for part in &parts {
        let (begin, behind) = (text.len(), tokens.last().copied().or(behind));
        let spelled = match part {
            Part::Text(text) => Spelled::Marked(text),
            Part::Literal(text) => Spelled::Literal(text),
            Part::Tokens(_) => continue, // refused at the door: they stand in no text
        };
        text += spelled.as_str();
        for (token, span) in tokenizer.encode_spans(spelled, behind)? {
            tokens.push(token);
            spans.push(begin + span.start..begin + span.end);
        }
    }
    Ok(cut(&text, &spans, most).map(|cuts| Made::Cut(tokens, cuts)))
}

/// The tokens of an input behind a token.
///
/// # Errors
/// The tokenizer's.
pub(super) fn encode(
    tokenizer: &dyn Tokenizer,
    input: Input,
    behind: Option<TokenId>,
) -> Result<Vec<TokenId>, EncodeError> {
    match input {
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
    }
}
