//! Forks to and fro, as many as requests may wait: they are done one after the other, in little memory.

use std::time::Duration;

use motorbrain_actors::{
    engine::PageSize,
    job::{Report, RequestId},
    message::{BrainError, ConversationId, Party, Terms},
    policy::{
        ActorIndex, Arrival, Ask, Effect, EmbedAsk, Event, Given, Incarnation, Limits, Policy, PolicyConfig, Time,
    },
};

use super::model;

const FORKS: u64 = 5_000;

fn tell(policy: &mut Policy, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    policy.handle(Time(Duration::ZERO), event, &mut effects);
    effects
}

fn arrival(request: u64, conversation: &str, ask: Ask, input: Option<Given>) -> Event {
    let conversation = Some(ConversationId::from(conversation));
    let request = RequestId(request);
    Event::Arrived(Arrival {
        request,
        conversation,
        ask,
        input,
        terms: Terms::default(),
        party: Party::default(),
        deadline: None,
    })
}

fn fork_to_and_fro() {
    let limits = Limits { conversation_requests: 2 * FORKS as usize, ..Limits::default() };
    let mut policy = Policy::new(PolicyConfig { limits, ..PolicyConfig::default() });
    tell(&mut policy, Event::Start);
    let info = model::info(Some(PageSize { tokens: 4, bytes: 64 }));
    let (actor, incarnation) = (ActorIndex(0), Incarnation(0));
    tell(&mut policy, Event::Reported { actor, incarnation, report: Report::Ready(info) });
    // What is said to `a` waits for its tokens, and all forks behind it.
    tell(&mut policy, arrival(0, "a", Ask::Embed(EmbedAsk::default()), Some(Given::Text { bytes: 4 })));
    for request in 1..=FORKS {
        let (from, to) = if request % 2 == 0 { ("a", "b") } else { ("b", "a") };
        let effects = tell(&mut policy, arrival(request, from, Ask::Fork { to: to.into(), at: None }, None));
        assert!(effects.is_empty(), "{effects:?}");
    }
    let result = Err(BrainError::EmptyInput { reason: "nothing" });
    let effects = tell(&mut policy, Event::Tokenised { request: RequestId(0), result, ends: Vec::new() });
    let ended = effects.iter().filter(|effect| matches!(effect, Effect::Fail { .. })).count() as u64;
    assert_eq!(ended, 1 + FORKS, "each is refused, since neither is there");
    assert_eq!(policy.check_invariants(), Vec::<String>::new());
}

#[test]
fn as_many_forks_as_may_wait_are_done_in_little_memory() {
    let little = std::thread::Builder::new().stack_size(256 << 10);
    little.spawn(fork_to_and_fro).unwrap().join().unwrap();
}
