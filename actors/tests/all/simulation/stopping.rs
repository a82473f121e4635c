//! A hang that is found out amid a shutdown starts nobody again.

use std::time::Duration;

use motorbrain_actors::{
    job::{Report, RequestId, Running},
    message::{Party, Terms},
    policy::{
        ActorIndex, Arrival, Ask, Effect, EmbedAsk, Event, Given, Incarnation, Policy, PolicyConfig, Supervision, Time,
    },
    tokens::TokenId,
};

use super::model;

const RUN_MAX: u64 = 100;

fn tell(policy: &mut Policy, at: u64, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    policy.handle(Time(Duration::from_millis(at)), event, &mut effects);
    assert_eq!(policy.check_invariants(), Vec::<String>::new());
    effects
}

#[test]
fn a_hang_that_is_seen_when_the_brain_stops_starts_nobody_again() {
    let supervision = Supervision { run_max: Duration::from_millis(RUN_MAX), ..Supervision::default() };
    let mut policy = Policy::new(PolicyConfig { supervision, ..PolicyConfig::default() });
    let (actor, incarnation) = (ActorIndex(0), Incarnation(0));
    tell(&mut policy, 0, Event::Start);
    tell(&mut policy, 0, Event::Reported { actor, incarnation, report: Report::Ready(model::info(None)) });
    let arrival = Arrival {
        request: RequestId(0),
        conversation: None,
        ask: Ask::Embed(EmbedAsk::default()),
        input: Some(Given::Tokens(vec![TokenId(2)])),
        terms: Terms::default(),
        party: Party::default(),
        deadline: None,
    };
    tell(&mut policy, 0, Event::Arrived(arrival));
    tell(&mut policy, 10, Event::Shutdown { within: Duration::from_millis(RUN_MAX - 10) });
    // Both are due at once.
    let effects = tell(&mut policy, RUN_MAX, Event::Timer);
    let stops = effects.iter().filter(|effect| matches!(effect, Effect::Observe { .. } | Effect::Stop { .. }));
    assert_eq!(stops.count(), 2, "{effects:?}");
    let run = Some(Running { since: Time::default(), requests: vec![RequestId(0)] });
    let effects = tell(&mut policy, RUN_MAX, Event::Observed { actor, incarnation, run });
    assert!(effects.is_empty(), "{effects:?}");
    let effects = tell(&mut policy, RUN_MAX + 2_000, Event::Timer);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::ShutdownComplete)), "{effects:?}");
    assert_eq!(policy.next_deadline(), None);
}
