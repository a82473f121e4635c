//! The pipe protocol, version 1, between standard input, a brain and standard output.
//!
//! A thread reads and decodes lines; they are handed to the brain in their order, which is the order
//! within each conversation; answers are written by another thread as they come. A request holds a
//! slot from the moment it is read until its answer is written, and while none is free nothing is
//! read: a caller that does not take its answers stops being served and fills no memory. There are
//! more slots than `limits.requests`, so that a caller that only sends too much is told `overloaded`.

mod decode;
mod encode;
mod fields;
mod lines;
mod values;

use std::{
    future::poll_fn,
    io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write},
    sync::Arc,
    task::Poll,
    thread,
};

use motorbrain::{Brain, BrainError, Request};
use serde_json::value::RawValue;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{JoinSet, spawn_blocking},
};

pub(crate) use decode::Rules;
use decode::{Decoded, Op};
use encode::Answer;
use lines::Line;

/// The longest line that is parsed.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Slots beyond `limits.requests`, for answers that need no work.
const SLOTS_SPARE: usize = 256;

/// Decoded lines that wait for a slot.
const READ_AHEAD: usize = 4;

/// An answer on its way out, with the slot that it frees once it is written.
type Outgoing = (Vec<u8>, OwnedSemaphorePermit);

/// Serves standard input until it ends, or until nobody reads standard output any more.
///
/// # Errors
/// Standard input cannot be read, or standard output not be written for another reason than that
/// its reader is gone.
pub(crate) async fn serve(brain: &Brain, rules: Rules, requests_max: usize) -> io::Result<()> {
    let (decoded, mut requests) = mpsc::channel(READ_AHEAD);
    thread::Builder::new().name("stdin".into()).spawn(move || read(BufReader::new(io::stdin()), &rules, &decoded))?;
    // Never holds more than there are slots.
    let (out, outgoing) = mpsc::unbounded_channel();
    let writer = spawn_blocking(move || write(io::stdout(), outgoing));

    let slots = requests_max.saturating_add(SLOTS_SPARE).min(Semaphore::MAX_PERMITS);
    let slots = Arc::new(Semaphore::new(slots));
    let mut working = JoinSet::new();
    let ended = loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
            Some((requests.recv().await?, slot))
        };
        let (request, slot) = tokio::select! {
            () = out.closed() => break Ok(()),
            next = next => match next {
                Some((Ok(request), slot)) => (request, slot),
                Some((Err(error), _)) => break Err(error),
                None => break Ok(()),
            },
        };
        begin(&mut working, brain, request, slot, out.clone()).await;
        while working.try_join_next().is_some() {}
    };
    if out.is_closed() {
        // Nobody waits: closing the ports of what is being done cancels it.
        working.abort_all();
    }
    drop(out);
    let written = writer.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
    ended.and(written)
}

/// Starts on a request and sees to it that its answer goes out.
async fn begin(
    working: &mut JoinSet<()>,
    brain: &Brain,
    Decoded { id, op }: Decoded,
    slot: OwnedSemaphorePermit,
    out: mpsc::UnboundedSender<Outgoing>,
) {
    let send = move |id: &RawValue, answer: &Result<Answer, BrainError>| {
        // A writer that is gone is noticed by whoever reads.
        let _ = out.send((encode::encode(id, answer), slot));
    };
    let mut answer = Box::pin(answer(brain.clone(), op));
    // The first poll hands the request to the brain, so it happens here, in the order of the lines.
    match poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await {
        Poll::Ready(answer) => send(&id, &answer),
        Poll::Pending => {
            working.spawn(async move { send(&id, &answer.await) });
        }
    }
}

async fn answer(brain: Brain, op: Result<Op, BrainError>) -> Result<Answer, BrainError> {
    match op? {
        Op::Ask(request) => {
            let top = matches!(&request, Request::Step(step) if step.top > 0);
            let reply = brain.request(request, None).await?;
            Ok(Answer::Reply { reply, top })
        }
        Op::Stats => brain.stats().await.map(Answer::Stats),
        Op::Crash { actor } => brain.crash(actor).await.map(|()| Answer::HandedOn),
        Op::Hang { actor, pause } => brain.hang(actor, pause).await.map(|()| Answer::HandedOn),
    }
}

/// Reads until the end of input, an error, or until nobody takes requests any more.
fn read(mut input: impl BufRead, rules: &Rules, decoded: &mpsc::Sender<io::Result<Decoded>>) {
    while let Some(line) = lines::next_line(&mut input, LINE_BYTES_MAX).transpose() {
        let last = line.is_err();
        let request = line.map(|line| match line {
            Line::Text(text) => decode::decode(&text, rules),
            Line::TooLong => decode::too_long(LINE_BYTES_MAX),
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
        while let Some((line, slot)) = outgoing.blocking_recv() {
            output.write_all(&line)?;
            if outgoing.is_empty() {
                output.flush()?;
            }
            drop(slot);
        }
        output.flush()
    };
    match write_all() {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
