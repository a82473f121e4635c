//! Who gets what: a new conversation goes to the least loaded actor and stays there; a stateless
//! request goes to the least busy one that is ready.

use super::{
    actors::{Actor, Life},
    event::ActorIndex,
};

/// The home of a new conversation. One that is being loaded is as good as a ready one, so that
/// conversations spread at start-up too; one in a pause after a death only if there is no other.
pub(super) fn home(actors: &[Actor]) -> Option<ActorIndex> {
    let rank = |actor: &Actor| match actor.life {
        Life::Ready | Life::Starting { .. } => Some(0),
        Life::Restarting { .. } => Some(1),
        Life::Down | Life::Stopping | Life::Stopped => None,
    };
    least(actors, |actor| rank(actor).map(|rank| (rank, actor.conversations, actor.jobs.len())))
}

/// The actor for a request that needs no home; `None` while none is ready.
pub(super) fn least_busy(actors: &[Actor]) -> Option<ActorIndex> {
    least(actors, |actor| (actor.life == Life::Ready).then_some((actor.jobs.len(), actor.conversations)))
}

/// The first of the actors with the smallest load.
fn least<L: Ord>(actors: &[Actor], load: impl Fn(&Actor) -> Option<L>) -> Option<ActorIndex> {
    let loads = actors.iter().enumerate().filter_map(|(index, actor)| Some((load(actor)?, ActorIndex(index))));
    loads.min().map(|(_, index)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{job::RequestId, policy::Time};

    const LOADING: Life = Life::Starting { until: Time(std::time::Duration::MAX) };

    fn actor(life: Life, conversations: usize, jobs: u64) -> Actor {
        let mut actor = Actor::new();
        actor.life = life;
        actor.conversations = conversations;
        actor.jobs = (0..jobs).map(RequestId).collect();
        actor
    }

    #[test]
    fn a_conversation_goes_where_fewest_live() {
        let pause = Life::Restarting { at: Time::default() };
        let actors = [actor(Life::Ready, 2, 0), actor(LOADING, 1, 0), actor(pause, 0, 0)];
        assert_eq!(home(&actors), Some(ActorIndex(1)));
        assert_eq!(home(&actors[2..]), Some(ActorIndex(0)), "a pausing one is better than none");
        assert_eq!(home(&[actor(Life::Down, 0, 0)]), None);
    }

    #[test]
    fn a_stateless_request_goes_to_the_least_busy_ready_one() {
        let actors = [actor(Life::Ready, 0, 2), actor(Life::Ready, 9, 1), actor(LOADING, 0, 0)];
        assert_eq!(least_busy(&actors), Some(ActorIndex(1)));
        assert_eq!(least_busy(&actors[2..]), None);
    }
}
