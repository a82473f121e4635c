//! The pipe protocol, version 1, between standard input, a brain and standard output.
//!
//! A thread reads and decodes lines; they are handed to the brain in their order, which is the order within each
//! conversation; answers come back through one queue, in the order in which they are done, and are written by
//! another thread. A request holds a slot from the moment it is read until its answer is written, and while none is
//! free nothing is read (`slots`): a caller that does not take its answers stops being served and fills no memory.
//!
//! There are more slots than the brain lets in, so whoever takes its answers is always read: told `overloaded` where it
//! sends too much, and heard where it takes something back.
//!
//! Of a streamed step one part at a time is on its way out (`parts`).

use std::{
    io::{self, BufReader, BufWriter, ErrorKind, Read, Write},
    iter, mem,
    pin::pin,
    thread,
};

use motorbrain::{Brain, Settings, grammar::Compiler, transfer::Transfers};
use motorbrain_protocol::{Decoded, Line, Rules, decode, next_line, too_long};
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::input::INPUT_BYTES_MAX;

mod counter;
mod ids;
mod parts;
mod slots;

use self::{
    counter::Counter,
    slots::{Slot, Slots},
};

/// What is read at once, in bytes; the lines in it are handed on together, so that a flood does not wake somebody with
/// each. It is little, since who is behind it waits.
const READ_LEN: usize = 8 * 1024;

/// So many lines are begun before anybody looks at what is done.
const BEGUN_AT_ONCE: usize = 64;

/// Only `brain.when_down` makes a brain stop that was not told to.
const STOPPED: &str = "the brain has stopped by itself: the log says why";

/// A line on its way out.
type Outgoing = (Vec<u8>, Behind);

/// What is dropped once a line is written.
enum Behind {
    /// An answer's slot, which is free then.
    Answer { _slot: Slot },
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

/// What requests are done with, besides the brain.
pub(crate) struct With {
    pub(crate) transfers: Transfers,
    pub(crate) grammars: Compiler,
    pub(crate) rules: Rules,
}

/// Serves standard input until it ends, or until nobody reads standard output any more.
///
/// # Errors
/// Standard input cannot be read, or standard output not be written for another reason than that
/// its reader is gone; or the brain has stopped by itself.
pub(crate) async fn serve(brain: &Brain, with: With, settings: &Settings) -> io::Result<()> {
    let With { transfers, grammars, rules } = with;
    let (decoded, mut requests) = mpsc::channel(1);
    thread::Builder::new().name("stdin".into()).spawn(move || {
        read(BufReader::with_capacity(READ_LEN, io::stdin()), &rules, &decoded);
    })?;
    // None of these holds more than an answer and a part for each slot, but for the tokens that are being gathered.
    let (out, outgoing) = mpsc::unbounded_channel();
    let (replies, mut done) = mpsc::unbounded_channel();
    let (written, mut parts) = mpsc::unbounded_channel();
    let writer = spawn_blocking(move || write(io::stdout(), outgoing));

    let slots = Slots::new(settings.limits.requests);
    let mut counter = Counter::new(brain, settings, transfers, grammars, replies, out, written);
    let mut stopped = pin!(brain.actor_ref().wait(None));
    let mut lines = Vec::new().into_iter();
    let mut ended = None;
    while ended.is_none() || counter.is_busy() {
        let next = async {
            if lines.as_slice().is_empty() {
                lines = requests.recv().await?.into_iter();
            }
            slots.take().await
        };
        tokio::select! {
            // Nobody waits any more: closing the queue cancels what is being done.
            () = counter.out.closed() => break,
            // What it had is answered all the same.
            _ = &mut stopped, if ended.is_none() => ended = Some(Err(io::Error::other(STOPPED))),
            Some((tag, delivery)) = done.recv() => counter.delivered(tag, delivery),
            Some(tag) = parts.recv() => counter.part_written(tag),
            Some(done) = counter.tasks.join_next() => counter.task_done(done),
            next = next, if ended.is_none() => match next {
                Some(slot) => {
                    let slots = iter::once(slot).chain(iter::from_fn(|| slots.try_take())).take(BEGUN_AT_ONCE);
                    for (slot, line) in slots.zip(&mut lines) {
                        match line {
                            Ok(request) => counter.begin(request, slot).await,
                            Err(error) => ended = Some(Err(error)),
                        }
                    }
                }
                None => ended = Some(Ok(())),
            },
        }
    }
    drop((counter, done));
    let written = writer.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
    ended.unwrap_or(Ok(())).and(written)
}

/// Reads until the end of input, an error, or until nobody takes requests any more.
fn read(mut input: BufReader<impl Read>, rules: &Rules, decoded: &mpsc::Sender<Vec<io::Result<Decoded>>>) {
    let mut together = Vec::new();
    while let Some(line) = next_line(&mut input, INPUT_BYTES_MAX).transpose() {
        let last = line.is_err();
        together.push(line.map(|line| match line {
            Line::Text(text) => decode(&text, rules),
            Line::TooLong => too_long(INPUT_BYTES_MAX),
        }));
        // Whoever waits for an answer before the next line has all of it handed on.
        let more = !last && input.buffer().contains(&b'\n');
        if !more && (decoded.blocking_send(mem::take(&mut together)).is_err() || last) {
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
