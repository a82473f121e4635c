//! What was said on other terms is given to nobody, also where the request that read it came to nothing.

use std::{sync::Arc, time::Duration};

use motorbrain_actors::{
    engine::{Held, Page, PageSize, Sampling},
    job::{Commit, Done, Holding, JobError, Outcome, Report, RequestId},
    message::{Party, Sharing, Terms},
    policy::{
        ActorIndex, Arrival, Ask, Assignment, Effect, Event, Given, Incarnation, Policy, PolicyConfig, StepAsk, Time,
    },
    tokens::TokenId,
};

use super::model;

/// The policy, with one actor that is ready and keeps what it reads in pages of four tokens.
struct Desk {
    policy: Policy,
    requests: u64,
}

impl Desk {
    fn new() -> Self {
        let mut desk = Self {
            policy: Policy::new(PolicyConfig { cached_bytes: 1 << 20, ..PolicyConfig::default() }),
            requests: 0,
        };
        desk.tell(Event::Start);
        desk.report(Report::Ready(model::info(Some(PageSize { tokens: 4, bytes: 64 }))));
        desk
    }

    fn tell(&mut self, event: Event) -> Option<Assignment> {
        let mut effects = Vec::new();
        self.policy.handle(Time(Duration::ZERO), event, &mut effects);
        assert_eq!(self.policy.check_invariants(), Vec::<String>::new());
        effects.into_iter().find_map(|effect| if let Effect::Send { job, .. } = effect { Some(job) } else { None })
    }

    fn report(&mut self, report: Report) {
        self.tell(Event::Reported { actor: ActorIndex(0), incarnation: Incarnation(0), report });
    }

    /// Asks for an embedding of these tokens; gives how many of the conversation's are read already.
    fn ask(&mut self, conversation: &str, tokens: &[u32], scope: Option<&str>) -> (RequestId, usize) {
        self.ask_for(1, conversation, tokens, scope)
    }

    /// The same of so many answers; the job is then a part of the request.
    fn ask_for(&mut self, n: usize, conversation: &str, tokens: &[u32], scope: Option<&str>) -> (RequestId, usize) {
        self.requests += 1;
        let job = self.tell(Event::Arrived(Arrival {
            request: RequestId(self.requests),
            conversation: Some(conversation.into()),
            ask: Ask::Step(StepAsk {
                count: 1,
                sampling: Sampling { temperature: if n > 1 { 1.0 } else { 0.0 }, ..model::GREEDY },
                seed: 0,
                top: 0,
                stream: false,
                n,
                grammar: None,
            }),
            input: Some(Given::Tokens(tokens.iter().map(|id| TokenId(*id)).collect())),
            terms: Terms { sharing: scope.map(|scope| Sharing::With(Some(scope.into()))), ..Terms::default() },
            party: Party::default(),
            deadline: None,
        }));
        let job = job.unwrap();
        match job.held {
            Holding::Pages(held) => (job.request, held.kv_len),
            held => panic!("{held:?} where there are pages"),
        }
    }

    /// Its actor has read these tokens of it behind `before`, and is done or was taken back.
    fn end(&mut self, request: RequestId, before: usize, tokens: &[u32], well: bool) {
        let kv_len = before + tokens.len();
        let (keep, pages) = (before / 4, (before / 4..kv_len.div_ceil(4)).map(|_| Page::new(Arc::new(()))).collect());
        let appended = tokens.iter().map(|id| TokenId(*id)).collect();
        let read = Commit { appended, pinned: 0, dropped: 0, held: Some(Held { keep, pages, kv_len }) };
        let (outcome, commit, read) = match well {
            true => (Ok(Outcome::Stepped { sampled: Vec::new(), stopped: false }), read, None),
            false => (Err(JobError::Cancelled), Commit::default(), Some(read)),
        };
        let (rebuilt, lost, context_len) = (false, false, kv_len);
        self.report(Report::Done(Done { request, outcome, commit, context_len, rebuilt, lost, read }));
    }
}

const FIRST: [u32; 4] = [2, 3, 4, 5];
const SECOND: [u32; 4] = [6, 8, 9, 10];

#[test]
fn a_conversation_that_shares_otherwise_gives_nothing_of_what_came_to_nothing_either() {
    let mut desk = Desk::new();
    let (first, _) = desk.ask("a", &FIRST, None);
    desk.end(first, 0, &FIRST, true);
    let (told, _) = desk.ask("a", &[11], Some("x"));
    desk.end(told, 4, &[11], true);
    let (taken_back, _) = desk.ask("a", &SECOND[..3], None);
    desk.end(taken_back, 5, &SECOND[..3], false);
    assert_eq!(desk.ask("b", &[2, 3, 4, 5, 11, 6, 8, 9, 12], Some("x")).1, 0);
}

#[test]
fn a_request_that_came_to_nothing_takes_nothing_to_the_terms_that_it_named() {
    let mut desk = Desk::new();
    let (first, _) = desk.ask("a", &FIRST, None);
    desk.end(first, 0, &FIRST, true);
    let (taken_back, _) = desk.ask("a", &SECOND, Some("x"));
    desk.end(taken_back, 4, &SECOND, false);
    assert_eq!(desk.ask("b", &[2, 3, 4, 5, 6, 8, 9, 10, 12], Some("x")).1, 0);
    let (again, _) = desk.ask("c", &SECOND, Some("x"));
    desk.end(again, 0, &SECOND, false);
    assert_eq!(desk.ask("d", &[6, 8, 9, 10, 12], Some("x")).1, 4, "what it says itself it shares");
}

#[test]
fn what_several_answers_had_read_is_shared_on_the_terms_of_their_request() {
    let mut desk = Desk::new();
    let (part, _) = desk.ask_for(2, "a", &FIRST, Some("x"));
    desk.end(part, 0, &FIRST, false);
    assert_eq!(desk.ask("b", &[2, 3, 4, 5, 12], None).1, 0);
    assert_eq!(desk.ask("c", &[2, 3, 4, 5, 12], Some("x")).1, 4);
}
