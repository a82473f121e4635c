//! The gate before a brain: a permit for each request, taken before its message is sent, because a mailbox has no bound
//! of its own.
//!
//! Who may have how many is told by [`Quotas`]; here are the lock around them, permits that give themselves back, and
//! the line of those who would rather wait than be refused. What frees something (a reset, a close) or only looks (the
//! figures) has permits of its own, so that a flood keeps nobody from ending it.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use super::quotas::Quotas;
use crate::{
    clock::{Clock, Time},
    job::lock,
    message::{BrainError, ClientId, N_MAX, Request, Step},
};

/// For what a permit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// What an actor or a tokenizer has to work for.
    Work,
    /// What ends work at its conversation's turn.
    Control,
    /// What is done at once: a cancel, a look.
    Look,
    /// What is done by many requests, each of which needs a permit of its own as well.
    Many,
}

/// So many permits for requests are one for what is done by many. Not a setting: it leaves each of those some at once.
const REQUESTS_OF_MANY: usize = 16;

/// What a request needs to be let in: in which lane, and how many permits, one for each answer.
pub(super) fn price(request: &Request) -> (Lane, usize) {
    match request {
        Request::Reset(_) | Request::Close(_) => (Lane::Control, 1),
        Request::Step(step) => price_of_step(step),
        Request::Embed(_)
        | Request::Score(_)
        | Request::Fork(_)
        | Request::Rewind(_)
        | Request::Export(_)
        | Request::Import(_) => (Lane::Work, 1),
    }
}

/// The same of a step.
pub(super) fn price_of_step(step: &Step) -> (Lane, usize) {
    (Lane::Work, step.n.clamp(1, N_MAX))
}

/// A brain's permits.
pub(super) struct Gate {
    clock: Clock,
    /// How many were refused of whom the brain has not heard.
    refused: AtomicU64,
    work: Mutex<Door>,
    control: Mutex<Door>,
    look: Mutex<Door>,
    many: Mutex<Door>,
}

/// The permits of one lane, and who waits for one.
struct Door {
    quotas: Quotas,
    line: Line,
}

/// Some permits of one client. They are given back when it is dropped.
pub(super) struct Permit {
    gate: Arc<Gate>,
    lane: Lane,
    client: ClientId,
    count: usize,
}

impl Gate {
    /// So many permits in each lane, and fewer for what is done by many requests.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let door = |limit| Mutex::new(Door { quotas: Quotas::new(limit), line: Line::default() });
        Arc::new(Self {
            clock: Clock::start(),
            refused: AtomicU64::new(0),
            work: door(limit),
            control: door(limit),
            look: door(limit),
            many: door(limit.div_ceil(REQUESTS_OF_MANY)),
        })
    }

    /// The brain's clock, which begins with its gate.
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Somebody was refused here and tells the brain nothing.
    pub(super) fn has_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How many those were since this was last asked.
    pub(super) fn take_refused(&self) -> u64 {
        match self.refused.load(Ordering::Relaxed) {
            0 => 0, // as it nearly always is, and asked with every message
            _ => self.refused.swap(0, Ordering::Relaxed),
        }
    }

    fn door(&self, lane: Lane) -> &Mutex<Door> {
        match lane {
            Lane::Work => &self.work,
            Lane::Control => &self.control,
            Lane::Look => &self.look,
            Lane::Many => &self.many,
        }
    }

    /// `count` permits, now or not at all. Nobody passes those who wait, but for a client that has none yet.
    ///
    /// # Errors
    /// [`BrainError::Overloaded`].
    pub(super) fn enter(self: &Arc<Self>, lane: Lane, client: &ClientId, count: usize) -> Result<Permit, BrainError> {
        self.enter_or(lane, client, count, |_| ()).map_err(|(error, ())| error)
    }

    /// The same for whoever waits in line for up to `patience`: clients in turn, each one's in the order of their
    /// arrival.
    ///
    /// # Errors
    /// [`BrainError::Overloaded`].
    pub(super) async fn wait(
        self: &Arc<Self>,
        lane: Lane,
        client: &ClientId,
        count: usize,
        patience: Duration,
    ) -> Result<Permit, BrainError> {
        let (told, turn) = oneshot::channel();
        let line_up = |door: &mut Door| {
            (count <= door.quotas.limit()).then(|| door.line.push(client.clone(), Waiting { count, told }))
        };
        let place = match self.enter_or(lane, client, count, line_up) {
            Ok(permit) => return Ok(permit),
            Err((error, None)) => return Err(error),
            Err((_, Some(place))) => Place { gate: self, lane, client, place },
        };
        let came = timeout(patience, turn).await;
        drop(place);
        match came {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(self.overloaded(&lock(self.door(lane)), lane, count)),
        }
    }

    /// `otherwise` is done under the same lock.
    fn enter_or<T>(
        self: &Arc<Self>,
        lane: Lane,
        client: &ClientId,
        count: usize,
        otherwise: impl FnOnce(&mut Door) -> T,
    ) -> Result<Permit, (BrainError, T)> {
        let mut door = lock(self.door(lane));
        // Those in line whose own quota keeps them there hold nobody up.
        let passes =
            !door.line.lacks_room(door.quotas.free()) || (door.quotas.held_by(client) == 0 && !door.line.has(client));
        if passes && !door.line.has(client) && door.quotas.take(self.clock.now(), client, count) {
            return Ok(Permit { gate: Arc::clone(self), lane, client: client.clone(), count });
        }
        let error = self.overloaded(&door, lane, count);
        let done = otherwise(&mut door);
        self.let_in(lane, door);
        Err((error, done))
    }

    fn overloaded(&self, door: &Door, lane: Lane, count: usize) -> BrainError {
        BrainError::Overloaded {
            what: match lane {
                Lane::Work => "requests",
                Lane::Control => "resets and closes",
                Lane::Look => "cancels and questions",
                Lane::Many => "reranks",
            },
            limit: door.quotas.limit(),
            retry_after: door.quotas.retry_after(self.clock.now(), count, door.line.wanted),
        }
    }

    /// Changes a door, and lets in whoever may then come in.
    fn change(self: &Arc<Self>, lane: Lane, change: impl FnOnce(&mut Door)) {
        let mut door = lock(self.door(lane));
        change(&mut door);
        self.let_in(lane, door);
    }

    /// Whoever may come in does.
    fn let_in(self: &Arc<Self>, lane: Lane, mut door: MutexGuard<'_, Door>) {
        let mut let_in = Vec::new();
        while let Some((client, Waiting { count, told })) = door.next(self.clock.now()) {
            let_in.push((told, Permit { gate: Arc::clone(self), lane, client, count }));
        }
        // Unlocked first: the permit of one who went away meanwhile comes back here.
        drop(door);
        for (told, permit) in let_in {
            drop(told.send(permit));
        }
    }
}

impl Door {
    /// Takes the permits of the one whose turn it is, where that client may have them.
    fn next(&mut self, now: Time) -> Option<(ClientId, Waiting)> {
        let quotas = &mut self.quotas;
        if quotas.free() == 0 {
            return None;
        }
        self.line.take(|client, count| quotas.take(now, client, count))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Self { gate, lane, client, count } = self;
        let now = gate.clock.now();
        gate.change(*lane, |door| door.quotas.give_back(now, client, *count));
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("lane", &self.lane).field("count", &self.count).finish_non_exhaustive()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

/// Those who wait.
#[derive(Default)]
struct Line {
    /// Of each client, in the order of their arrival.
    clients: BTreeMap<ClientId, BTreeMap<u64, Waiting>>,
    /// How many permits they want.
    wanted: usize,
    arrived: u64,
    /// The client that was let in last: the next one in the order of names is first now.
    last: ClientId,
}

struct Waiting {
    count: usize,
    told: oneshot::Sender<Permit>,
}

impl Line {
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Whether the first of some client would need more permits than are free.
    fn lacks_room(&self, free: usize) -> bool {
        self.clients.values().filter_map(BTreeMap::first_key_value).any(|(_, first)| first.count > free)
    }

    fn has(&self, client: &ClientId) -> bool {
        self.clients.contains_key(client)
    }

    /// At the end of its client's.
    fn push(&mut self, client: ClientId, waiting: Waiting) -> u64 {
        self.arrived += 1;
        self.wanted += waiting.count;
        self.clients.entry(client).or_default().insert(self.arrived, waiting);
        self.arrived
    }

    /// Takes out the first of the first client, from the one whose turn it is, for which `admits` is true.
    fn take(&mut self, mut admits: impl FnMut(&ClientId, usize) -> bool) -> Option<(ClientId, Waiting)> {
        let behind = self.clients.range::<ClientId, _>((Bound::Excluded(&self.last), Bound::Unbounded));
        let before = self.clients.range::<ClientId, _>((Bound::Unbounded, Bound::Included(&self.last)));
        let found = behind.chain(before).find_map(|(client, waiting)| {
            let (&place, first) = waiting.first_key_value()?;
            admits(client, first.count).then(|| (client.clone(), place))
        });
        let (client, place) = found?;
        let waiting = self.remove(&client, place)?;
        self.last = client.clone();
        Some((client, waiting))
    }

    fn remove(&mut self, client: &ClientId, place: u64) -> Option<Waiting> {
        let of_client = self.clients.get_mut(client)?;
        let waiting = of_client.remove(&place)?;
        if of_client.is_empty() {
            self.clients.remove(client);
        }
        self.wanted -= waiting.count;
        Some(waiting)
    }
}

/// A place in the line, left when it is dropped.
struct Place<'g> {
    gate: &'g Arc<Gate>,
    lane: Lane,
    client: &'g ClientId,
    place: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // Whoever stood behind it may want fewer permits.
        self.gate.change(self.lane, |door| drop(door.line.remove(self.client, self.place)));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::{
        future::{Future, poll_fn},
        pin::Pin,
        task::Poll,
    };

    use super::*;

    type Waits<'g> = Pin<Box<dyn Future<Output = Result<Permit, BrainError>> + 'g>>;

    const LONG: Duration = Duration::from_secs(60);

    fn client(name: &str) -> ClientId {
        name.into()
    }

    fn enter(gate: &Arc<Gate>, name: &str, count: usize) -> Result<Permit, BrainError> {
        gate.enter(Lane::Work, &client(name), count)
    }

    /// One who stands in line.
    async fn lines_up<'g>(gate: &'g Arc<Gate>, client: &'g ClientId, count: usize) -> Waits<'g> {
        let mut waits: Waits<'g> = Box::pin(gate.wait(Lane::Work, client, count, LONG));
        assert!(is_let_in(&mut waits).await.is_none());
        waits
    }

    async fn is_let_in(waits: &mut Waits<'_>) -> Option<Permit> {
        poll_fn(|context| match waits.as_mut().poll(context) {
            Poll::Ready(permit) => Poll::Ready(Some(permit.unwrap())),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    fn out(gate: &Arc<Gate>) -> (usize, bool) {
        let door = lock(gate.door(Lane::Work));
        (["a", "b", "c"].iter().map(|name| door.quotas.held_by(&client(name))).sum(), door.line.is_empty())
    }

    #[tokio::test]
    async fn who_waits_is_let_in_by_client_and_then_by_arrival() {
        let gate = Gate::new(1);
        let mut inside = Some(enter(&gate, "a", 1).unwrap());
        let (a, b) = (client("a"), client("b"));
        let mut line = Vec::new();
        for (whose, who) in [(&a, "a1"), (&a, "a2"), (&a, "a3"), (&b, "b1"), (&b, "b2")] {
            line.push((who, lines_up(&gate, whose, 1).await));
        }
        let mut order = Vec::new();
        for _ in 0..5 {
            drop(inside.take());
            assert!(enter(&gate, "a", 1).is_err(), "nobody passes them");
            for (who, waits) in &mut line {
                // One that was let in is polled no more.
                if !order.contains(who)
                    && let Some(permit) = is_let_in(waits).await
                {
                    assert!(inside.replace(permit).is_none());
                    order.push(*who);
                }
            }
        }
        assert_eq!(order, ["a1", "b1", "a2", "b2", "a3"]);
        drop(inside);
        assert_eq!(out(&gate), (0, true));
    }

    #[tokio::test]
    async fn one_whose_own_quota_keeps_it_in_line_holds_nobody_up() {
        let gate = Gate::new(16);
        let mut flood: Vec<Permit> = (0..14).map(|_| enter(&gate, "a", 1).unwrap()).collect();
        let a = client("a");
        let mut waits = lines_up(&gate, &a, 1).await;
        let others =
            [enter(&gate, "b", 1).unwrap(), enter(&gate, "b", 1).unwrap_or_else(|_| enter(&gate, "c", 1).unwrap())];
        assert!(enter(&gate, "a", 1).is_err(), "nor does it pass itself");
        flood.truncate(10);
        drop(others);
        assert!(is_let_in(&mut waits).await.is_some());
    }

    #[tokio::test]
    async fn whoever_goes_away_leaves_neither_a_place_nor_a_permit() {
        let gate = Gate::new(2);
        let (a, b) = (client("a"), client("b"));
        let inside = enter(&gate, "c", 2).unwrap();
        // One goes before its turn, one behind it.
        let (gone, late) = (lines_up(&gate, &a, 1).await, lines_up(&gate, &a, 1).await);
        let mut large = lines_up(&gate, &b, 2).await;
        drop(gone);
        drop(inside);
        assert_eq!(out(&gate), (1, false), "the second has its permit, and the third wants two");
        assert!(enter(&gate, "a", 1).is_err(), "nobody who has some passes who waits");
        drop(enter(&gate, "c", 1).unwrap());
        drop(late);
        let permit = is_let_in(&mut large).await.unwrap();
        assert_eq!(out(&gate), (2, true));
        drop((permit, large));
        assert_eq!(out(&gate), (0, true));
    }

    #[tokio::test]
    async fn patience_ends_and_what_is_never_free_is_not_waited_for() {
        let gate = Gate::new(1);
        let inside = enter(&gate, "a", 1).unwrap();
        let refused = gate.wait(Lane::Work, &client("b"), 1, Duration::from_millis(1)).await.unwrap_err();
        assert!(matches!(refused, BrainError::Overloaded { retry_after: Some(_), .. }), "{refused:?}");
        let never = gate.wait(Lane::Work, &client("b"), 2, LONG).await.unwrap_err();
        assert!(matches!(never, BrainError::Overloaded { retry_after: None, .. }), "{never:?}");
        assert_eq!(out(&gate), (1, true));
        // The other lane is another one's.
        drop(gate.enter(Lane::Control, &client("a"), 1).unwrap());
        drop(inside);
    }
}
