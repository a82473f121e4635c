//! Ten busy conversations on two actors, one of which loads late: they end up five and five, and stay there.

use std::{collections::BTreeMap, time::Duration};

use motorbrain_actors::{
    engine::{PageSize, Sampling},
    job::{Carried, Commit, Done, Outcome, Report, RequestId},
    message::{Party, Terms},
    policy::{ActorIndex, Arrival, Ask, Effect, Event, Given, Incarnation, Policy, PolicyConfig, StepAsk, Time},
    tokens::TokenId,
};

use super::model;

/// The policy, and which jobs each actor has.
struct Crew {
    policy: Policy,
    jobs: BTreeMap<RequestId, ActorIndex>,
    /// Those that an actor is to give back.
    recalled: Vec<(ActorIndex, RequestId)>,
}

impl Crew {
    fn tell(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.policy.handle(Time(Duration::ZERO), event, &mut effects);
        assert_eq!(self.policy.check_invariants(), Vec::<String>::new());
        for effect in effects {
            match effect {
                Effect::Send { actor, job, .. } => _ = self.jobs.insert(job.request, actor),
                Effect::Recall { actor, requests, .. } => {
                    self.recalled.extend(requests.into_iter().map(|request| (actor, request)));
                }
                _ => {}
            }
        }
    }

    fn report(&mut self, actor: ActorIndex, report: Report) {
        self.tell(Event::Reported { actor, incarnation: Incarnation(0), report });
    }

    fn ready(&mut self, actor: usize) {
        let pages = Some(PageSize { tokens: 4, bytes: 64 });
        self.report(ActorIndex(actor), Report::Ready(model::info(pages)));
    }

    fn ask(&mut self, request: u64, conversation: &str) {
        let step =
            StepAsk { count: 1, sampling: Sampling::GREEDY, seed: 0, top: 0, stream: false, n: 1, grammar: None };
        self.tell(Event::Arrived(Arrival {
            request: RequestId(request),
            conversation: Some(conversation.into()),
            ask: Ask::Step(step),
            input: Some(Given::Tokens(vec![TokenId(1)])),
            terms: Terms::default(),
            party: Party::default(),
            deadline: None,
        }));
    }

    fn give_back(&mut self) {
        for (actor, request) in std::mem::take(&mut self.recalled) {
            self.jobs.remove(&request);
            self.report(actor, Report::Returned { request, carried: Carried::new(()) });
        }
    }

    fn finish(&mut self, request: RequestId) {
        let actor = self.jobs.remove(&request).unwrap();
        let outcome = Ok(Outcome::Stepped { sampled: Vec::new(), stopped: false });
        let (commit, context_len) = (Commit::default(), 0);
        self.report(
            actor,
            Report::Done(Done { request, outcome, commit, context_len, rebuilt: false, lost: false, read: None }),
        );
    }

    /// How many jobs the first actor has, and the second.
    fn loads(&self) -> [usize; 2] {
        [0, 1].map(|index| self.jobs.values().filter(|actor| actor.0 == index).count())
    }
}

#[test]
fn ten_busy_conversations_end_up_five_and_five_where_an_actor_loads_late() {
    let policy = Policy::new(PolicyConfig { actors: 2, ..PolicyConfig::default() });
    let mut crew = Crew { policy, jobs: BTreeMap::new(), recalled: Vec::new() };
    crew.tell(Event::Start);
    crew.ready(0);
    let names: Vec<String> = (0..10).map(|number| format!("c{number}")).collect();
    names.iter().zip(0..).for_each(|(name, request)| crew.ask(request, name));
    assert_eq!(crew.loads(), [10, 0], "nobody waits for one that loads");
    crew.ready(1);
    crew.give_back();
    assert_eq!((crew.loads(), crew.recalled.len()), ([5, 5], 0));
    for round in 1..4_u64 {
        for (place, name) in (0..).zip(&names) {
            let actor = crew.jobs[&RequestId(10 * (round - 1) + place)];
            crew.finish(RequestId(10 * (round - 1) + place));
            crew.ask(10 * round + place, name);
            assert_eq!(crew.jobs[&RequestId(10 * round + place)], actor, "`{name}` moves for nothing");
        }
        assert_eq!((crew.loads(), crew.recalled.len()), ([5, 5], 0));
    }
}
