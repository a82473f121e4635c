//! The pipe protocol, version 1, between standard input, a brain and standard output.
//!
//! A thread reads and decodes lines; they are handed to the brain in their order, which is the order within each
//! conversation; answers come back through one queue, in the order in which they are done, and are written by
//! another thread. A request holds a slot from the moment it is read until its answer is written, and while none is
//! free nothing is read: a caller that does not take its answers stops being served and fills no memory. There are
//! more slots than `limits.requests`, so that a caller that only sends too much is told `overloaded`.
//!
//! Of a streamed step one part at a time is on its way out (`parts`).

use std::{
    collections::HashMap,
    future::poll_fn,
    io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write},
    sync::Arc,
    task::Poll,
    thread,
};

use motorbrain::{Brain, BrainError, Reply, Request};
use motorbrain_actors::{
    brain::{Delivery, ReplyQueue},
    engine::Sampled,
    message::Step,
};
use motorbrain_protocol::{Answer, Decoded, Line, Op, Piece, Rules, decode, encode, encode_part, next_line, too_long};
use serde_json::value::RawValue;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{JoinSet, spawn_blocking},
};

mod parts;

use self::parts::Parts;

/// The longest line that is parsed.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Slots beyond `limits.requests`, for answers that need no work.
const SLOTS_SPARE: usize = 256;

/// Decoded lines that wait for a slot.
const READ_AHEAD: usize = 4;

/// A line on its way out.
type Outgoing = (Vec<u8>, Behind);

/// What is dropped once a line is written.
enum Behind {
    /// An answer's slot, which is free then.
    Answer { _slot: OwnedSemaphorePermit },
    /// What lets a streamed step's next part go out.
    Part { _written: Written },
}

/// Tells the request of this tag that its part is written.
struct Written(u64, mpsc::UnboundedSender<u64>);

impl Drop for Written {
    fn drop(&mut self) {
        let _ = self.1.send(self.0);
    }
}

/// Serves standard input until it ends, or until nobody reads standard output any more.
///
/// # Errors
/// Standard input cannot be read, or standard output not be written for another reason than that
/// its reader is gone.
pub(crate) async fn serve(brain: &Brain, rules: Rules, requests_max: usize) -> io::Result<()> {
    let (decoded, mut requests) = mpsc::channel(READ_AHEAD);
    thread::Builder::new().name("stdin".into()).spawn(move || read(BufReader::new(io::stdin()), &rules, &decoded))?;
    // None of these holds more than an answer and a part for each slot, but for the tokens that are being gathered.
    let (out, outgoing) = mpsc::unbounded_channel();
    let (replies, mut done) = mpsc::unbounded_channel();
    let (written, mut parts) = mpsc::unbounded_channel();
    let writer = spawn_blocking(move || write(io::stdout(), outgoing));

    let slots = requests_max.saturating_add(SLOTS_SPARE).min(Semaphore::MAX_PERMITS);
    let slots = Arc::new(Semaphore::new(slots));
    let mut counter = Counter {
        brain: brain.clone(),
        replies,
        out,
        written,
        last_tag: 0,
        waiting: HashMap::new(),
        others: JoinSet::new(),
    };
    let mut ended = None;
    while ended.is_none() || counter.is_busy() {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
            Some((requests.recv().await?, slot))
        };
        tokio::select! {
            // Nobody waits any more: closing the queue cancels what is being done.
            () = counter.out.closed() => break,
            Some((tag, delivery)) = done.recv() => match delivery {
                Delivery::Token { sampled, text } => counter.token(tag, sampled, &text),
                Delivery::End(reply) => counter.reply(tag, reply),
            },
            Some(tag) = parts.recv() => counter.send_part(tag, Parts::written),
            Some(_) = counter.others.join_next() => {}
            next = next, if ended.is_none() => match next {
                Some((Ok(request), slot)) => counter.begin(request, slot).await,
                Some((Err(error), _)) => ended = Some(Err(error)),
                None => ended = Some(Ok(())),
            },
        }
    }
    drop((counter, done));
    let written = writer.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
    ended.unwrap_or(Ok(())).and(written)
}

/// A request that the brain has.
struct Waiting {
    id: Box<RawValue>,
    /// Whether the most likely tokens were asked for.
    top: bool,
    slot: OwnedSemaphorePermit,
    /// Of a streamed step.
    parts: Parts,
}

/// Hands requests over, and answers out.
struct Counter {
    brain: Brain,
    replies: ReplyQueue,
    out: mpsc::UnboundedSender<Outgoing>,
    /// Where the tags of parts come back.
    written: mpsc::UnboundedSender<u64>,
    last_tag: u64,
    /// By tag.
    waiting: HashMap<u64, Waiting>,
    /// What is asked of the brain itself.
    others: JoinSet<()>,
}

impl Counter {
    fn is_busy(&self) -> bool {
        !(self.waiting.is_empty() && self.others.is_empty())
    }

    /// Starts on a request.
    async fn begin(&mut self, Decoded { id, op }: Decoded, slot: OwnedSemaphorePermit) {
        let brain = self.brain.clone();
        match op {
            Err(error) => send(&self.out, &id, &Err(error), slot),
            Ok(Op::Ask(request)) => self.ask(id, request, slot),
            Ok(Op::Stream(step)) => self.stream(id, step, slot),
            Ok(Op::Tokenize(input)) => {
                self.other(id, slot, async move { brain.tokenize(input).await.map(Answer::Tokens) }).await;
            }
            Ok(Op::Detokenize(tokens)) => {
                self.other(id, slot, async move { brain.detokenize(tokens).await.map(Answer::Text) }).await;
            }
            Ok(Op::Stats) => self.other(id, slot, async move { brain.stats().await.map(Answer::Stats) }).await,
            Ok(Op::Crash { actor }) => {
                self.other(id, slot, async move { brain.crash(actor).await.map(|()| Answer::HandedOn) }).await;
            }
            Ok(Op::Hang { actor, pause }) => {
                self.other(id, slot, async move { brain.hang(actor, pause).await.map(|()| Answer::HandedOn) }).await;
            }
        }
    }

    fn ask(&mut self, id: Box<RawValue>, request: Request, slot: OwnedSemaphorePermit) {
        let top = matches!(&request, Request::Step(step) if step.top > 0);
        self.last_tag += 1;
        let sent = self.brain.request_to(&self.replies, self.last_tag, request, None);
        self.wait(id, top, slot, sent);
    }

    fn stream(&mut self, id: Box<RawValue>, step: Step, slot: OwnedSemaphorePermit) {
        let top = step.top > 0;
        self.last_tag += 1;
        let sent = self.brain.step_stream_to(&self.replies, self.last_tag, step, None);
        self.wait(id, top, slot, sent);
    }

    /// Waits for the request of the last tag, if the brain has it.
    fn wait(&mut self, id: Box<RawValue>, top: bool, slot: OwnedSemaphorePermit, sent: Result<(), BrainError>) {
        match sent {
            Ok(()) => {
                let waiting = Waiting { id, top, slot, parts: Parts::default() };
                self.waiting.insert(self.last_tag, waiting);
            }
            Err(error) => send(&self.out, &id, &Err(error), slot),
        }
    }

    /// A streamed step has shown a token.
    fn token(&mut self, tag: u64, sampled: Sampled, text: &str) {
        self.send_part(tag, |parts| parts.token(sampled, text));
    }

    /// Sends a part of a streamed step, if one goes out now.
    fn send_part(&mut self, tag: u64, next: impl FnOnce(&mut Parts) -> Option<Piece>) {
        if let Some(waiting) = self.waiting.get_mut(&tag)
            && let Some(piece) = next(&mut waiting.parts)
        {
            let written = Written(tag, self.written.clone());
            let line = encode_part(&waiting.id, &piece, waiting.top);
            let _ = self.out.send((line, Behind::Part { _written: written }));
        }
    }

    fn reply(&mut self, tag: u64, reply: Result<Reply, BrainError>) {
        self.send_part(tag, Parts::take);
        if let Some(Waiting { id, top, slot, .. }) = self.waiting.remove(&tag) {
            send(&self.out, &id, &reply.map(|reply| Answer::Reply { reply, top }), slot);
        }
    }

    /// Asks something that the brain answers at once.
    async fn other(
        &mut self,
        id: Box<RawValue>,
        slot: OwnedSemaphorePermit,
        answer: impl Future<Output = Result<Answer, BrainError>> + Send + 'static,
    ) {
        let mut answer = Box::pin(answer);
        // The first poll hands it to the brain, so it happens here, in the order of the lines.
        match poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await {
            Poll::Ready(answer) => send(&self.out, &id, &answer, slot),
            Poll::Pending => {
                let out = self.out.clone();
                self.others.spawn(async move { send(&out, &id, &answer.await, slot) });
            }
        }
    }
}

/// Puts an answer into the line that goes out. A writer that is gone is noticed by whoever reads.
fn send(
    out: &mpsc::UnboundedSender<Outgoing>,
    id: &RawValue,
    answer: &Result<Answer, BrainError>,
    slot: OwnedSemaphorePermit,
) {
    let _ = out.send((encode(id, answer), Behind::Answer { _slot: slot }));
}

/// Reads until the end of input, an error, or until nobody takes requests any more.
fn read(mut input: impl BufRead, rules: &Rules, decoded: &mpsc::Sender<io::Result<Decoded>>) {
    while let Some(line) = next_line(&mut input, LINE_BYTES_MAX).transpose() {
        let last = line.is_err();
        let request = line.map(|line| match line {
            Line::Text(text) => decode(&text, rules),
            Line::TooLong => too_long(LINE_BYTES_MAX),
        });
        if decoded.blocking_send(request).is_err() || last {
            return;
        }
    }
}

/// Writes answers as they come, each seen by its reader as soon as no other one is ready.
fn write(output: impl Write, mut outgoing: mpsc::UnboundedReceiver<Outgoing>) -> io::Result<()> {
    let mut output = BufWriter::new(output);
    let mut write_all = || {
        while let Some((line, behind)) = outgoing.blocking_recv() {
            output.write_all(&line)?;
            if outgoing.is_empty() {
                output.flush()?;
            }
            drop(behind);
        }
        output.flush()
    };
    match write_all() {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
