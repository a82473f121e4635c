//! Two callers ask the same without a conversation, and one of them has a hand in no death but the other's: what is
//! suspected of a first death may die of somebody else's in company.

use std::time::Duration;

use motorbrain_actors::{
    engine::PageSize,
    job::{Report, RequestId},
    message::{Party, Terms},
    policy::{ActorIndex, Arrival, Ask, Effect, EmbedAsk, Event, Given, Incarnation, Policy, PolicyConfig, Time},
    tokens::TokenId,
};

use super::model;

fn asked(request: u64, token: u32) -> Event {
    Event::Arrived(Arrival {
        request: RequestId(request),
        conversation: None,
        ask: Ask::Embed(EmbedAsk::default()),
        input: Some(Given::Tokens(vec![TokenId(token)])),
        terms: Terms::default(),
        party: Party::default(),
        deadline: None,
    })
}

/// What is failed when actors die of these requests, one after the other.
fn failed(deaths: &[(usize, &[u64])]) -> Vec<RequestId> {
    let mut policy = Policy::new(PolicyConfig { actors: 2, ..PolicyConfig::default() });
    let mut effects = Vec::new();
    let ready = |actor| {
        let pages = Some(PageSize { tokens: 4, bytes: 64 });
        let report = Report::Ready(model::info(pages));
        Event::Reported { actor: ActorIndex(actor), incarnation: Incarnation(0), report }
    };
    // The same is asked twice, of one actor each, and something else of both.
    let begin = [Event::Start, ready(0), ready(1), asked(0, 1), asked(1, 1), asked(2, 2), asked(3, 3)];
    let deaths = deaths.iter().map(|(actor, running)| Event::Died {
        actor: ActorIndex(*actor),
        incarnation: Incarnation(0),
        running: running.iter().map(|request| RequestId(*request)).collect(),
    });
    for event in begin.into_iter().chain(deaths) {
        policy.handle(Time(Duration::ZERO), event, &mut effects);
        assert_eq!(policy.check_invariants(), Vec::<String>::new());
    }
    let failed = effects.into_iter().filter_map(|effect| match effect {
        Effect::Fail { request, .. } => Some(request),
        _ => None,
    });
    failed.collect()
}

#[test]
fn a_suspect_that_dies_in_company_is_not_condemned() {
    assert_eq!(failed(&[(0, &[0]), (1, &[1, 3])]), []);
    assert_eq!(failed(&[(0, &[0, 2]), (1, &[1, 3])]), []);
    // One that is over by then may have been it as well.
    assert_eq!(failed(&[(0, &[0]), (1, &[1, 99])]), []);
    assert_eq!(failed(&[(0, &[0]), (1, &[1])]), [RequestId(1)]);
}
