//! How actors are started again, told from their deaths: what the policy decides is compared with this.

use std::{collections::VecDeque, time::Duration};

use motorbrain_actors::{
    job::Report,
    policy::{ActorIndex, Effect, Event, Incarnation, Notice, Supervision},
};

use super::ensure;

/// What is counted of an actor.
#[derive(Clone, Default)]
struct Ward {
    life: Incarnation,
    /// That life has not ended.
    lives: bool,
    /// Its present life has served.
    served: bool,
    /// Whether anybody is charged with the death that is being told of.
    charged: bool,
    /// When it died with nobody charged.
    deaths: VecDeque<u64>,
    /// Lives in a row in which nothing went well.
    barren: usize,
    /// Trials in a row.
    trials: u32,
    /// It is about to live again.
    restarts: bool,
    /// When it is to start again.
    starts_at: Option<u64>,
}

pub(super) struct Wards {
    supervision: Supervision,
    wards: Vec<Ward>,
}

impl Wards {
    pub(super) fn new(supervision: Supervision, actors: usize) -> Self {
        Self { supervision, wards: vec![Ward::default(); actors] }
    }

    /// `charged`: those of a dead actor's jobs that it was at work for.
    pub(super) fn hear(&mut self, event: &Event, charged: usize) {
        let (Event::Reported { actor, incarnation, .. }
        | Event::Died { actor, incarnation, .. }
        | Event::Observed { actor, incarnation, .. }) = event
        else {
            return self.wards.iter_mut().for_each(|ward| ward.charged = false);
        };
        let ward = &mut self.wards[actor.0];
        if ward.life != *incarnation || !ward.lives {
            return;
        }
        ward.charged = charged > 0;
        match event {
            Event::Reported { report: Report::Ready(_), .. } => ward.served = true,
            Event::Reported { report: Report::Runs | Report::Token { .. } | Report::Cleared { .. }, .. } => {
                ward.goes_well()
            }
            Event::Reported { report: Report::Done(done), .. } if done.outcome.is_ok() => ward.goes_well(),
            _ => {}
        }
    }

    /// `abandoned`: threads that hang.
    pub(super) fn check(&mut self, effect: &Effect, now: u64, abandoned: usize) -> Result<(), String> {
        let within = self.supervision.restarts_within.as_millis() as u64;
        let Supervision { restarts_max, abandoned_max, .. } = self.supervision;
        let (all, held) = (self.wards.len(), |wards: &[Ward], but: usize| {
            let has_thread = |(index, ward): &(usize, &Ward)| *index != but && (ward.lives || ward.restarts);
            wards.iter().enumerate().filter(has_thread).count()
        });
        match effect {
            Effect::Spawn { actor, incarnation } => {
                let ward = &mut self.wards[actor.0];
                (ward.life, ward.lives, ward.served, ward.restarts) = (*incarnation, true, false, false);
                let due = ward.starts_at.take();
                ensure(due.is_none_or(|due| due == now), || format!("{actor:?} starts at {now}, expected {due:?}"))
            }
            Effect::Notice(Notice::Restarting { actor, pause, .. }) => {
                let crowded = abandoned + held(&self.wards, actor.0) + 1 > abandoned_max + all;
                let ward = &mut self.wards[actor.0];
                let deaths = ward.dies(now, within);
                ward.restarts = true;
                ward.starts_at = Some(now + pause.as_millis() as u64);
                let expected = backoff(&self.supervision, deaths.max(ward.barren));
                let stays = deaths <= restarts_max && !crowded;
                ensure(stays && *pause == expected, || {
                    format!("{actor:?} restarts in {pause:?} after {deaths} deaths, expected {expected:?}, {stays}")
                })
            }
            Effect::Notice(Notice::Down { actor, pause, .. }) => {
                let crowded = abandoned + held(&self.wards, actor.0) + 1 > abandoned_max + all;
                let ward = &mut self.wards[actor.0];
                let deaths = ward.dies(now, within);
                let whole = self.supervision.retry_min.saturating_mul(1 << ward.trials.min(20));
                let whole = whole.min(self.supervision.retry_max);
                ward.trials += 1;
                let goes = deaths > restarts_max || crowded;
                let jitter = whole.mul_f64(0.75)..=whole.mul_f64(1.25);
                ensure(goes && jitter.contains(pause), || {
                    format!("{actor:?} is down for {pause:?} after {deaths} deaths, expected {whole:?}, {goes}")
                })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn is_current(&self, actor: ActorIndex, incarnation: Incarnation) -> bool {
        self.wards[actor.0].life == incarnation && self.wards[actor.0].lives
    }
}

impl Ward {
    fn goes_well(&mut self) {
        (self.barren, self.trials) = (0, 0);
    }

    /// How many deaths count, this one among them.
    fn dies(&mut self, now: u64, within: u64) -> usize {
        self.lives = false;
        if self.served {
            self.deaths.retain(|death| now - death <= within);
        }
        self.barren += 1;
        if !self.charged {
            self.deaths.push_back(now);
        }
        self.deaths.len()
    }
}

fn backoff(supervision: &Supervision, deaths: usize) -> Duration {
    match deaths {
        0 | 1 => Duration::ZERO,
        deaths => supervision.backoff_min.saturating_mul(1 << (deaths - 2).min(20)).min(supervision.backoff_max),
    }
}
