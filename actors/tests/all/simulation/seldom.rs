//! Orders of events that a history seldom meets, on the policy alone. Each was found by one among many thousands.

use std::{sync::Arc, time::Duration};

use motorbrain_actors::{
    engine::{Held, Page, PageSize, Sampled},
    job::{Carried, Commit, Done, Holding, Outcome, Report, RequestId, Running, Work},
    message::{Party, Terms},
    policy::{
        ActorIndex, Arrival, Ask, Assignment, Effect, Event, Given, Incarnation, Memory, Policy, PolicyConfig, StepAsk,
        Supervision, Time,
    },
    tokens::TokenId,
};

use super::model;

const PAGE: PageSize = PageSize { tokens: 4, bytes: 64 };

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Two actors, of which the first is ready, and memory for four pages and one conversation that has left.
struct Desk(Policy);

impl Desk {
    fn new(pages: Option<PageSize>) -> Self {
        let memory = Memory { kv_bytes: 4 * PAGE.bytes, history_bytes: 2000, ..Memory::default() };
        let mut desk = Self(Policy::new(PolicyConfig { actors: 2, memory, keeps: true, ..PolicyConfig::default() }));
        desk.tell(Event::Start);
        desk.report(0, Report::Ready(model::info(pages)));
        desk
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        self.tell_at(Duration::ZERO, event)
    }

    fn tell_at(&mut self, time: Duration, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.0.handle(Time(time), event, &mut effects);
        assert_eq!(self.0.check_invariants(), Vec::<String>::new());
        effects
    }

    fn report(&mut self, actor: usize, report: Report) -> Vec<Effect> {
        self.tell(Event::Reported { actor: ActorIndex(actor), incarnation: Incarnation(0), report })
    }

    /// Lets time pass in which the first actor is in a run for this request, which began at zero, and looks come as `come`
    /// says of when they are due; until when.
    fn hangs(&mut self, request: RequestId, come: impl Fn(Duration) -> Duration) -> Duration {
        let (actor, incarnation) = (ActorIndex(0), Incarnation(0));
        let run = Running { since: Time::default(), requests: vec![request] };
        loop {
            let now = come(self.0.next_deadline().unwrap().0);
            for effect in self.tell_at(now, Event::Timer) {
                if matches!(effect, Effect::Observe { actor: ActorIndex(0), .. }) {
                    let seen = Event::Observed { actor, incarnation, run: Some(run.clone()) };
                    let effects = self.tell_at(now, seen);
                    if effects.iter().any(|effect| matches!(effect, Effect::Abandon { actor: ActorIndex(0), .. })) {
                        return now;
                    }
                }
            }
        }
    }

    /// Streams so many tokens behind eight.
    fn step(&mut self, request: u64, conversation: &str, count: usize) -> Vec<Effect> {
        self.step_behind(8, request, conversation, count)
    }

    fn step_behind(&mut self, len: u32, request: u64, conversation: &str, count: usize) -> Vec<Effect> {
        let ask = StepAsk { count, sampling: model::GREEDY, seed: 0, top: 0, stream: count > 0, n: 1, grammar: None };
        self.tell(Event::Arrived(Arrival {
            request: RequestId(request),
            conversation: Some(conversation.into()),
            ask: Ask::Step(ask),
            input: Some(Given::Tokens((0..len).map(|place| TokenId(request as u32 + 2 * place)).collect())),
            terms: Terms::default(),
            party: Party::default(),
            deadline: None,
        }))
    }

    /// A request that sampled nothing is done.
    fn done(&mut self, request: u64, commit: Commit) {
        let context_len = commit.appended.len();
        let (rebuilt, lost, outcome) = (false, false, Ok(Outcome::Stepped { sampled: Vec::new(), stopped: false }));
        let request = RequestId(request);
        self.report(0, Report::Done(Done { request, outcome, commit, context_len, rebuilt, lost, read: None }));
    }

    /// Memory is looked at, with so many pages in it.
    fn let_go(&mut self, pages: usize) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.0.let_go(pages * PAGE.bytes, &mut effects);
        assert_eq!(self.0.check_invariants(), Vec::<String>::new());
        effects
    }
}

/// Eight tokens and those that were sampled, in two pages.
fn read(request: u64, sampled: &[TokenId]) -> Commit {
    read_of(8, request, sampled)
}

fn read_of(len: u32, request: u64, sampled: &[TokenId]) -> Commit {
    let input = (0..len).map(|place| TokenId(request as u32 + 2 * place));
    let pages = (0..len.div_ceil(4)).map(|_| Page::new(Arc::new(()))).collect();
    Commit {
        appended: input.chain(sampled.iter().copied()).collect(),
        pinned: 0,
        dropped: 0,
        held: Some(Held { keep: 0, pages, kv_len: len as usize }),
    }
}

fn sent(effects: Vec<Effect>) -> Option<Assignment> {
    effects.into_iter().find_map(|effect| if let Effect::Send { job, .. } = effect { Some(job) } else { None })
}

#[test]
fn what_was_done_of_a_request_goes_with_the_rows_that_it_was_done_on() {
    let mut desk = Desk::new(Some(PAGE));
    // One rests, and one streams: its first token is committed.
    desk.step(1, "rests", 0);
    desk.done(1, read(1, &[]));
    assert!(sent(desk.step(2, "streams", 3)).is_some());
    let token = TokenId(9);
    desk.report(
        0,
        Report::Token {
            request: RequestId(2),
            forced: Vec::new(),
            sampled: Some(Sampled { token, logprob: -1.0, top: Vec::new() }),
            stopped: false,
            commit: read(2, &[token]),
            context_len: 9,
        },
    );
    // It comes back for another actor, while the one that rests is being written and not free yet.
    let effects = desk.let_go(5);
    let put = effects.iter().find_map(|effect| if let Effect::Put { id, .. } = effect { Some(*id) } else { None });
    let back = Report::Returned { request: RequestId(2), carried: Carried::new(()) };
    assert_eq!(sent(desk.report(0, back)), None, "there is no room");
    let effects = desk.let_go(7);
    assert!(!effects.is_empty(), "nobody rests, so who waits gives its rows up");
    let result = Ok(1);
    let job = sent(desk.tell(Event::Put { id: put.unwrap(), conversation: "rests".into(), result })).unwrap();
    assert_eq!((job.request, job.context.tokens.len()), (RequestId(2), 9));
    assert!(job.carried.is_none(), "it was done on rows that are gone");
    assert!(matches!(job.held, Holding::Pages(held) if held.kv_len == 0), "they are read again");
}

/// Nothing else may happen any more.
#[test]
fn who_waits_for_what_is_being_written_goes_on_when_that_is_forgotten() {
    let mut desk = Desk::new(Some(PAGE));
    desk.step(1, "written", 0);
    desk.done(1, read(1, &[]));
    desk.step_behind(4, 2, "small", 0);
    desk.done(2, read_of(4, 2, &[]));
    let effects = desk.let_go(5);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Put { .. })), "{effects:?}");
    assert_eq!(sent(desk.step(3, "waits", 1)), None, "what is being written is not free yet");
    let job = sent(desk.let_go(7));
    assert_eq!(job.map(|job| job.request), Some(RequestId(3)), "the small one leaves, the other is forgotten");
}

/// An engine may hang in that, too, and nobody asks anything of it meanwhile.
#[test]
fn an_actor_that_gives_a_slot_back_is_watched() {
    let mut desk = Desk::new(None);
    desk.step(1, "a", 0);
    desk.done(1, Commit { held: None, ..read(1, &[]) });
    let close = Arrival {
        request: RequestId(2),
        conversation: Some("a".into()),
        ask: Ask::Close,
        input: None,
        terms: Terms::default(),
        party: Party::default(),
        deadline: None,
    };
    let job = sent(desk.tell(Event::Arrived(close))).unwrap();
    assert_eq!(job.work, Work::Forget);
    assert_eq!(desk.hangs(job.request, |due| due), Supervision::default().run_max);
}

/// A process is stopped and goes on, or gets no processor: what looks as long as a hang is none, unless it goes on like that.
#[test]
fn time_in_which_all_stood_still_is_nobodys_hang() {
    let run_max = Supervision::default().run_max;
    let hangs = |come: fn(Duration) -> Duration| {
        let mut desk = Desk::new(None);
        let job = sent(desk.step(1, "a", 1)).unwrap();
        desk.hangs(job.request, come)
    };
    // However long it was, and if it was over before the limit.
    assert_eq!(hangs(|due| due.max(seconds(100))), run_max + seconds(99));
    assert_eq!(hangs(|due| if due > seconds(5) { due.max(seconds(20)) } else { due }), run_max + seconds(14));
    // Nobody stands still who is late by less, and who is always late is found out as well.
    assert_eq!(hangs(|due| due + seconds(1)), run_max);
    assert_eq!(hangs(|due| due + seconds(3)), 4 * run_max);
}

/// The second actor loads its model all the while.
#[test]
fn time_in_which_all_stood_still_is_no_part_of_a_load() {
    let load_max = Supervision::default().load_max;
    for still in [seconds(10), load_max - seconds(5), load_max, 3 * load_max] {
        let mut desk = Desk::new(None);
        let mut fails = |at| {
            let effects = desk.tell_at(at, Event::Timer);
            effects.iter().any(|effect| matches!(effect, Effect::Abandon { actor: ActorIndex(1), .. }))
        };
        let until = load_max + still;
        // The look that was due after five seconds comes so much later.
        let looks = (0..5).map(seconds).chain((5..).map(|second| still + seconds(second)));
        assert_eq!(looks.take_while(|at| *at < until).find(|at| fails(*at)), None, "{still:?}");
        assert!(fails(until), "{still:?}");
    }
}
