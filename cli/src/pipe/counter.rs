//! Where requests are handed over to the brain and answers come back: what is asked, what waits, what is taken back.

use std::{collections::HashMap, future::poll_fn, task::Poll};

use motorbrain::{
    Brain, BrainError, ConversationId, Reply, Request, Settings, Step,
    grammar::Compiler,
    transfer::{Exported, Transfers, Wanted},
};
use motorbrain_actors::{
    brain::{Delivery, ReplyQueue, Ticket},
    engine::Sampled,
    rerank::Rerank,
};
use motorbrain_protocol::{Answer, Cancel, Decoded, Grammar, Manner, Op, Piece, Work, encode, encode_part};
use serde_json::value::RawValue;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinError, JoinSet},
};

use super::{Behind, Outgoing, Written, ids::Ids, parts::Parts, slots::Slot};

/// A request that is not answered yet.
struct Waiting {
    id: Box<RawValue>,
    /// Whether the most likely tokens were asked for.
    top: bool,
    slot: Slot,
    /// Of a streamed step.
    parts: Parts,
    held: Held,
}

/// By what a request can be taken back.
enum Held {
    /// The brain has it.
    Ticket(Ticket),
    /// Somebody waits for the brain's answer.
    Task(AbortHandle),
    /// It is answered at once.
    Not,
}

/// Hands requests over, and answers out.
pub(super) struct Counter {
    brain: Brain,
    /// What a rerank is where it does not say.
    rerank: Rerank,
    transfers: Transfers,
    grammars: Compiler,
    replies: ReplyQueue,
    /// What goes out; closed when nobody reads it.
    pub(super) out: mpsc::UnboundedSender<Outgoing>,
    /// Where the tags of parts come back.
    written: mpsc::UnboundedSender<u64>,
    last_tag: u64,
    /// By tag.
    waiting: HashMap<u64, Waiting>,
    /// Of the work among it.
    ids: Ids,
    /// What is asked of the brain without a queue for the answer.
    pub(super) tasks: JoinSet<(u64, Result<Answer, BrainError>)>,
}

impl Counter {
    pub(super) fn new(
        brain: &Brain,
        settings: &Settings,
        transfers: Transfers,
        grammars: Compiler,
        replies: ReplyQueue,
        out: mpsc::UnboundedSender<Outgoing>,
        written: mpsc::UnboundedSender<u64>,
    ) -> Self {
        Self {
            brain: brain.clone(),
            rerank: settings.reranking(),
            transfers,
            grammars,
            replies,
            out,
            written,
            last_tag: 0,
            waiting: HashMap::new(),
            ids: Ids::default(),
            tasks: JoinSet::new(),
        }
    }

    /// Whether something is not answered.
    pub(super) fn is_busy(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Starts on a request.
    pub(super) async fn begin(&mut self, Decoded { id, op }: Decoded, slot: Slot) {
        let brain = self.brain.clone();
        self.last_tag += 1;
        match op {
            Err(error) => send(&self.out, &id, &Err(error), slot),
            Ok(Op::Work(work, manner)) => self.work(id, work, manner, slot).await,
            Ok(Op::Cancel(Cancel::Request(of))) => {
                let (taken_back, tickets) = self.take_back(&of);
                self.task(id, slot, false, cancel(brain, taken_back, tickets)).await;
            }
            Ok(Op::Cancel(Cancel::Conversation(name))) => {
                self.task(id, slot, false, cancel_conversation(brain, name)).await;
            }
            Ok(Op::Stats) => self.task(id, slot, false, async move { brain.stats().await.map(Answer::Stats) }).await,
            Ok(Op::List(ask)) => {
                self.task(id, slot, false, async move { brain.list(ask).await.map(Answer::Listed) }).await;
            }
            Ok(Op::Inspect(name)) => {
                self.task(id, slot, false, async move { brain.inspect(name).await.map(Answer::Inspected) }).await;
            }
            Ok(Op::Crash { actor }) => {
                let handed_on = async move { brain.crash(actor).await.map(|()| Answer::HandedOn) };
                self.task(id, slot, false, handed_on).await;
            }
            Ok(Op::Hang { actor, pause }) => {
                let handed_on = async move { brain.hang(actor, pause).await.map(|()| Answer::HandedOn) };
                self.task(id, slot, false, handed_on).await;
            }
        }
    }

    async fn work(&mut self, id: Box<RawValue>, work: Work, manner: Manner, slot: Slot) {
        let brain = asked_by(&self.brain, manner);
        match work {
            Work::Ask(request) => {
                let sent = brain.request_to(&self.replies, self.last_tag, request);
                self.handed_over(id, false, slot, sent);
            }
            Work::Step { step, grammar, stream } => {
                let top = step.top > 0;
                let sent = self.spelling(step, grammar).and_then(|step| match stream {
                    true => brain.step_stream_to(&self.replies, self.last_tag, step),
                    false => brain.request_to(&self.replies, self.last_tag, Request::Step(step)),
                });
                self.handed_over(id, top, slot, sent);
            }
            Work::Tokenize(input) => {
                let tokens = async move { brain.tokenize(input).await.map(Answer::Tokens) };
                self.task(id, slot, true, tokens).await;
            }
            Work::Detokenize(tokens) => {
                let text = async move { brain.detokenize(tokens).await.map(Answer::Text) };
                self.task(id, slot, true, text).await;
            }
            Work::Rerank { query, documents, mix, sharing } => {
                let settings = self.rerank.clone();
                let rerank = Rerank { query, documents, mix: mix.or(settings.mix), sharing, ..settings };
                let reranked = async move { brain.rerank(rerank).await.map(Answer::Reranked) };
                self.task(id, slot, true, reranked).await;
            }
            Work::Export { conversation, path } => {
                let transfers = self.transfers.through(brain);
                let exported = async move {
                    let Exported { bytes, context_len } = transfers.export(conversation, path).await?;
                    Ok(Answer::Exported { bytes, context_len })
                };
                self.task(id, slot, true, exported).await;
            }
            Work::Import { conversation, path, tokens_only } => {
                let transfers = self.transfers.through(brain);
                let wanted = if tokens_only { Wanted::Tokens } else { Wanted::All };
                let imported = async move {
                    let context = transfers.import(conversation, path, wanted).await?;
                    Ok(Answer::Reply { reply: Reply::Stands(context), top: false })
                };
                self.task(id, slot, true, imported).await;
            }
        }
    }

    /// A step with its grammar. It is compiled here, which keeps the order of the lines, and keeps them waiting.
    fn spelling(&self, step: Step, grammar: Option<Grammar>) -> Result<Step, BrainError> {
        let grammar = grammar.map(|grammar| self.grammars.compile(&grammar)).transpose()?;
        Ok(Step { grammar, ..step })
    }

    /// Waits for the request of the last tag, if the brain has it.
    fn handed_over(&mut self, id: Box<RawValue>, top: bool, slot: Slot, sent: Result<Ticket, BrainError>) {
        match sent {
            Ok(ticket) => {
                self.ids.add(id.get(), self.last_tag);
                self.wait(self.last_tag, id, top, slot, Held::Ticket(ticket));
            }
            Err(error) => send(&self.out, &id, &Err(error), slot),
        }
    }

    /// Asks something that has no queue for its answer; `work`: what can be taken back.
    async fn task(
        &mut self,
        id: Box<RawValue>,
        slot: Slot,
        work: bool,
        answer: impl Future<Output = Result<Answer, BrainError>> + Send + 'static,
    ) {
        let tag = self.last_tag;
        let mut answer = Box::pin(answer);
        // The first poll hands it to the brain, so it happens here, in the order of the lines.
        match poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await {
            Poll::Ready(answer) => send(&self.out, &id, &answer, slot),
            Poll::Pending => {
                let task = self.tasks.spawn(async move { (tag, answer.await) });
                let held = if work { Held::Task(task) } else { Held::Not };
                if work {
                    self.ids.add(id.get(), tag);
                }
                self.wait(tag, id, false, slot, held);
            }
        }
    }

    fn wait(&mut self, tag: u64, id: Box<RawValue>, top: bool, mut slot: Slot, held: Held) {
        slot.waits();
        self.waiting.insert(tag, Waiting { id, top, slot, parts: Parts::default(), held });
    }

    /// What came of such a thing.
    pub(super) fn task_done(&mut self, done: Result<(u64, Result<Answer, BrainError>), JoinError>) {
        // One that was taken back is answered.
        if let Ok((tag, answer)) = done {
            self.answer(tag, |_| answer);
        }
    }

    /// Takes back what waits under an id: how much that was, and of what the brain is still to be told.
    fn take_back(&mut self, id: &str) -> (usize, Vec<Ticket>) {
        let (mut taken_back, mut tickets) = (0, Vec::new());
        for tag in self.ids.of(id) {
            match self.waiting.get(&tag).map(|waiting| &waiting.held) {
                Some(Held::Ticket(ticket)) => tickets.push(*ticket),
                Some(Held::Task(task)) => {
                    task.abort();
                    taken_back += 1;
                    self.answer(tag, |_| Err(BrainError::Cancelled));
                }
                Some(Held::Not) | None => {}
            }
        }
        (taken_back, tickets)
    }

    /// The brain has said something of a request.
    pub(super) fn delivered(&mut self, tag: u64, delivery: Delivery) {
        match delivery {
            Delivery::Token { sampled, text } => self.token(tag, sampled, &text),
            Delivery::End(reply) => {
                self.send_part(tag, Parts::take);
                self.answer(tag, |top| reply.map(|reply: Reply| Answer::Reply { reply, top }));
            }
        }
    }

    /// A streamed step has shown a token.
    fn token(&mut self, tag: u64, sampled: Sampled, text: &str) {
        self.send_part(tag, |parts| parts.token(sampled, text));
    }

    /// A part of a streamed step is written.
    pub(super) fn part_written(&mut self, tag: u64) {
        self.send_part(tag, Parts::written);
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

    /// Answers what waits; `answer` is told whether the most likely tokens were asked for.
    fn answer(&mut self, tag: u64, answer: impl FnOnce(bool) -> Result<Answer, BrainError>) {
        if let Some(Waiting { id, top, slot, .. }) = self.waiting.remove(&tag) {
            self.ids.remove(id.get(), tag);
            send(&self.out, &id, &answer(top), slot);
        }
    }
}

/// The brain as a request wants to be served by it.
fn asked_by(brain: &Brain, Manner { client, priority, deadline }: Manner) -> Brain {
    let brain = client.map_or_else(|| brain.clone(), |client| brain.of(client));
    let brain = match priority {
        Some(priority) => brain.at(priority),
        None => brain,
    };
    match deadline {
        Some(deadline) => brain.within(deadline),
        None => brain,
    }
}

async fn cancel(brain: Brain, mut taken_back: usize, tickets: Vec<Ticket>) -> Result<Answer, BrainError> {
    for ticket in tickets {
        taken_back += usize::from(brain.cancel(ticket).await?);
    }
    Ok(Answer::Cancelled(taken_back))
}

async fn cancel_conversation(brain: Brain, name: ConversationId) -> Result<Answer, BrainError> {
    brain.cancel_conversation(name).await.map(Answer::Cancelled)
}

/// Puts an answer into the line that goes out. A writer that is gone is noticed by whoever reads.
fn send(out: &mpsc::UnboundedSender<Outgoing>, id: &RawValue, answer: &Result<Answer, BrainError>, slot: Slot) {
    let _ = out.send((encode(id, answer), Behind::Answer { _slot: slot }));
}
