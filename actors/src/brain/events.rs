//! What happens in a brain, for those who subscribe: told through one of ractor's output ports.
//!
//! Such a port holds the last ten things that were sent. A task for each subscriber hands them on; one that has fallen
//! behind goes on with the oldest that is left, and nobody is told of those between. So a reader that is slow holds nobody
//! up and fills no memory, but it must be able to tell. Hence what one message leads to is sent as one thing ([`Told`]),
//! and events are numbered: a gap in the numbers is what was lost.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef, Message, OutputPort, SpawnErr};
use tokio::sync::mpsc;

use crate::{
    message::{ConversationId, ErrorCode},
    policy::Notice,
};

/// The most events in one [`Told`]; of more that a single message leads to, the rest counts as lost.
const TOLD_MAX: usize = 1024;

/// How many [`Told`]s wait for a reader of [`Events`] before further ones are lost.
const WAITING_MAX: usize = 256;

/// Something that happened in a brain.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrainEvent {
    /// An actor serves for the first time.
    ActorReady {
        /// Which one.
        actor: usize,
    },
    /// An actor's life has ended, be it that it died, hung or could not load the model; it starts again.
    ActorDead {
        /// Which one.
        actor: usize,
        /// Which of its lives that was, counted from 0.
        life: u64,
        /// When it starts again.
        pause: Duration,
        /// How many conversations and inputs are charged with it.
        charged: usize,
    },
    /// An actor's run took too long, and its thread is left to itself; that this life has ended is told next.
    ActorHung {
        /// Which one.
        actor: usize,
        /// In which of its lives, counted from 0.
        life: u64,
        /// For how long it ran.
        ran: Duration,
    },
    /// An actor has died too often, or too many threads hang. Its conversations live elsewhere.
    ActorDown {
        /// Which one.
        actor: usize,
        /// How many conversations these are.
        conversations: usize,
        /// Why it is not simply started again.
        reason: String,
        /// When it is tried again.
        pause: Duration,
    },
    /// An actor serves again after its life had ended.
    ActorBack {
        /// Which one.
        actor: usize,
        /// In which of its lives, counted from 0.
        life: u64,
    },
    /// A conversation that had slid was read again from its window, since what led there was not known any more.
    ConversationRebuilt {
        /// Which one.
        conversation: ConversationId,
    },
    /// A conversation goes on with another actor than before.
    ConversationAdopted {
        /// Which one.
        conversation: ConversationId,
        /// With whom it was.
        from: usize,
        /// With whom it is.
        to: usize,
    },
    /// An idle conversation's keys and values have left memory.
    ConversationLeft {
        /// Whose.
        conversation: ConversationId,
        /// They are in a file; else they are gone, and its tokens are read again.
        to_file: bool,
        /// Bytes of memory that are free for that.
        bytes: usize,
    },
    /// A conversation's keys and values are in memory again, from a file.
    ConversationBack {
        /// Whose.
        conversation: ConversationId,
        /// Bytes of memory that they take.
        bytes: usize,
    },
    /// What was asked of a conversation has killed actors, and is refused for a time. `None`: an input that was asked
    /// without a conversation.
    ConversationQuarantined {
        /// Which one.
        conversation: Option<ConversationId>,
    },
    /// A conversation was forgotten that nobody closed.
    ConversationForgotten {
        /// Which one.
        conversation: ConversationId,
    },
    /// Requests were refused: they ended with an error before an actor had them, and not by their caller or their deadline.
    Refused {
        /// With which code.
        code: ErrorCode,
        /// How many since this was last told.
        count: u64,
    },
    /// So many events were lost here, since their reader was too slow. Only [`Events`] say so.
    Lost {
        /// How many.
        count: u64,
    },
}

impl BrainEvent {
    /// What a notice is to those who subscribe; `None`: nothing.
    fn of(notice: &Notice) -> Option<Self> {
        let conversation = ConversationId::clone;
        Some(match notice {
            Notice::Ready { actor, incarnation } if incarnation.0 == 0 => Self::ActorReady { actor: actor.0 },
            Notice::Ready { actor, incarnation } => Self::ActorBack { actor: actor.0, life: incarnation.0 },
            Notice::Hung { actor, incarnation, ran } => {
                Self::ActorHung { actor: actor.0, life: incarnation.0, ran: *ran }
            }
            Notice::Restarting { actor, incarnation, pause, charged } => {
                Self::ActorDead { actor: actor.0, life: incarnation.0, pause: *pause, charged: *charged }
            }
            Notice::Down { actor, conversations, reason, pause } => {
                Self::ActorDown { actor: actor.0, conversations: *conversations, reason: reason.clone(), pause: *pause }
            }
            Notice::Quarantined(name) => Self::ConversationQuarantined { conversation: name.clone() },
            Notice::Rebuilt(name) => Self::ConversationRebuilt { conversation: conversation(name) },
            Notice::Adopted { conversation: name, from, to } => {
                Self::ConversationAdopted { conversation: conversation(name), from: from.0, to: to.0 }
            }
            Notice::Left { conversation: name, to_file, bytes } => {
                Self::ConversationLeft { conversation: conversation(name), to_file: *to_file, bytes: *bytes }
            }
            Notice::Back { conversation: name, bytes } => {
                Self::ConversationBack { conversation: conversation(name), bytes: *bytes }
            }
            Notice::Forgotten { conversation: name } => {
                Self::ConversationForgotten { conversation: conversation(name) }
            }
            Notice::LoadFailed { .. } | Notice::KeepFailed { .. } | Notice::Freed { .. } | Notice::Impossible(_) => {
                return None;
            }
        })
    }
}

/// Events that one message has led to, in their order.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// The first one's number. Numbers follow each other from one to the next; a gap is what was lost.
    pub first: u64,
    /// At least one.
    pub events: Vec<BrainEvent>,
}

impl Told {
    /// The number that the first event behind these has, if none was lost.
    pub fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }
}

/// What a subscriber asks of the brain: to be put at its port.
pub struct Subscribe(Box<dyn FnOnce(&Port) + Send>);

/// Where subscribers are told.
type Port = OutputPort<Arc<Told>>;

impl Subscribe {
    /// For an actor, which is sent what `converter` makes of each [`Told`]; `None` is not sent. It is forgotten once it has
    /// stopped. ractor's mailboxes have no bound: one that does not read its own lets it grow.
    pub fn actor<M: Message>(actor: ActorRef<M>, converter: impl Fn(Arc<Told>) -> Option<M> + Send + 'static) -> Self {
        Self(Box::new(move |port| port.subscribe(actor, converter)))
    }
}

impl fmt::Debug for Subscribe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subscribe").finish_non_exhaustive()
    }
}

/// Events as they come. See [`Brain::subscribe`](super::Brain::subscribe).
#[derive(Debug)]
pub struct Events {
    source: Source,
    current: Option<Arc<Told>>,
    /// The next event's number.
    next: u64,
}

impl Events {
    /// The next one; `None`: the brain has ended, and all that was to be told is.
    pub async fn next(&mut self) -> Option<BrainEvent> {
        loop {
            if let Some(told) = &self.current {
                if told.first > self.next {
                    return Some(self.lost(told.first));
                }
                let index = usize::try_from(self.next - told.first).unwrap_or(usize::MAX);
                if let Some(event) = told.events.get(index) {
                    self.next += 1;
                    return Some(event.clone());
                }
            }
            // Read first: what came through before that is read by now if nothing waits.
            let lost_to = self.source.lost_to.load(Ordering::Acquire);
            self.current = match self.source.told.try_recv() {
                Ok(told) => Some(told),
                Err(_) if lost_to > self.next => return Some(self.lost(lost_to)),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => self.source.told.recv().await,
            };
        }
    }

    fn lost(&mut self, to: u64) -> BrainEvent {
        let count = to - self.next;
        self.next = to;
        BrainEvent::Lost { count }
    }

    /// Events that begin with this number.
    pub(super) fn from(source: Source, next: u64) -> Self {
        Self { source, current: None, next }
    }
}

/// Where events come from.
#[derive(Debug)]
pub(super) struct Source {
    told: mpsc::Receiver<Arc<Told>>,
    /// The number behind the last event for which there was no room.
    lost_to: Arc<AtomicU64>,
}

/// A way for events to somebody who is no actor, and what puts its other end at the port.
///
/// The port hands on to actors, whose mailboxes have no bound. So what it calls on the way puts events into a channel that
/// has one, and sends nothing, until nobody reads that any more: then it sends to an actor that has stopped, which fails,
/// and so the port forgets it.
///
/// # Errors
/// ractor spawns no actor.
pub(super) async fn channel() -> Result<(Source, Subscribe), SpawnErr> {
    let (nobody, stopped) = Actor::spawn(None, Nobody, ()).await?;
    nobody.stop(None);
    // It has nothing that could fail.
    let _ = stopped.await;
    let (events, told) = mpsc::channel(WAITING_MAX);
    let lost_to = Arc::new(AtomicU64::new(0));
    let source = Source { told, lost_to: Arc::clone(&lost_to) };
    let hand_on = move |told: Arc<Told>| match events.try_send(told) {
        Ok(()) => None,
        Err(mpsc::error::TrySendError::Full(told)) => {
            lost_to.store(told.next(), Ordering::Release);
            None
        }
        Err(mpsc::error::TrySendError::Closed(_)) => Some(()),
    };
    Ok((source, Subscribe::actor(nobody, hand_on)))
}

/// An actor that has stopped.
struct Nobody;

impl Actor for Nobody {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// The brain's side: events are gathered while a message is handled and told together.
#[derive(Default)]
pub(super) struct Telling {
    port: Port,
    /// Whether anybody ever subscribed; until then events are not made.
    listened: bool,
    /// The number of the first event that is not told.
    next: u64,
    events: Vec<BrainEvent>,
    /// Of which codes there are how many refusals that are not told.
    refused: Vec<(ErrorCode, u64)>,
}

impl Telling {
    /// The number of the first event that the subscriber is told.
    pub(super) fn subscribe(&mut self, Subscribe(at): Subscribe) -> u64 {
        self.listened = true;
        at(&self.port);
        self.next
    }

    pub(super) fn notice(&mut self, notice: &Notice) {
        if self.listened {
            self.events.extend(BrainEvent::of(notice));
        }
    }

    pub(super) fn refused(&mut self, code: ErrorCode, count: u64) {
        if self.listened {
            match self.refused.iter_mut().find(|(known, _)| *known == code) {
                Some((_, known)) => *known += count,
                None => self.refused.push((code, count)),
            }
        }
    }

    /// A message is handled: what it led to is told.
    pub(super) fn tell(&mut self) {
        if self.events.is_empty() && self.refused.is_empty() {
            return;
        }
        let refused = self.refused.drain(..).map(|(code, count)| BrainEvent::Refused { code, count });
        self.events.extend(refused);
        let (first, count) = (self.next, self.events.len() as u64);
        self.next += count;
        let mut events = std::mem::take(&mut self.events);
        events.truncate(TOLD_MAX);
        self.port.send(Arc::new(Told { first, events }));
    }
}
