//! Who is charged with deaths, told from what the policy heard and said: what it decides is compared with this.

use std::collections::{BTreeMap, BTreeSet};

use motorbrain_actors::{
    message::ConversationId,
    policy::{ActorIndex, Ask},
    tokens::TokenId,
};

use super::account::Asked;

/// What is charged: all of a conversation, or an input without one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Conversation(ConversationId),
    Input(Vec<TokenId>),
}

impl Who {
    fn of(asked: &Asked) -> Self {
        match &asked.arrival.conversation {
            Some(name) => Self::Conversation(name.clone()),
            None => Self::Input(asked.runs()),
        }
    }
}

#[derive(Clone, Copy)]
struct Record {
    suspect: bool,
    condemned: bool,
    charges: u32,
    /// Runs that it is still to survive alone.
    alone: u32,
    last: u64,
    /// Who died of it last.
    killed: ActorIndex,
}

pub(super) struct Court {
    records: BTreeMap<Who, Record>,
    fades_after: u64,
}

impl Court {
    pub(super) fn new(fades_after: u64) -> Self {
        Self { records: BTreeMap::new(), fades_after }
    }

    /// Those were in a run that killed; `all`: and nobody else.
    pub(super) fn charge<'a>(
        &mut self,
        asked: impl Iterator<Item = &'a Asked>,
        all: bool,
        killed: ActorIndex,
        now: u64,
    ) {
        self.at(now);
        let charged: BTreeSet<Who> = asked.map(Who::of).collect();
        let alone = all && charged.len() == 1;
        for who in charged {
            let before = self.records.get(&who);
            let condemned = alone && before.is_some_and(|before| before.suspect || before.condemned);
            let charges = before.map_or(0, |before| before.charges) + 1;
            let alone = 1 << (charges - 1).min(if alone { 31 } else { 5 });
            self.records.insert(who, Record { suspect: !condemned, condemned, charges, alone, last: now, killed });
        }
    }

    pub(super) fn at(&mut self, now: u64) {
        self.records.retain(|_, record| now - record.last < self.fades_after);
    }

    /// It has survived so many runs alone.
    pub(super) fn survive(&mut self, asked: &Asked, runs: u32) {
        if let Some(record) = self.records.get_mut(&Who::of(asked)).filter(|record| record.suspect) {
            record.alone = record.alone.saturating_sub(runs);
            record.suspect = record.alone > 0;
        }
    }

    pub(super) fn pardon(&mut self, name: &ConversationId) {
        self.records.remove(&Who::Conversation(name.clone()));
    }

    pub(super) fn runs_alone(&self, asked: &Asked) -> u32 {
        assert!(!matches!(asked.arrival.ask, Ask::Reset), "a reset runs nothing");
        let record = self.records.get(&Who::of(asked)).filter(|record| record.suspect);
        record.map_or(0, |record| record.alone)
    }

    /// The actor that is not to try it again where there is another.
    pub(super) fn avoids(&self, asked: &Asked) -> Option<ActorIndex> {
        self.records.get(&Who::of(asked)).filter(|record| record.suspect).map(|record| record.killed)
    }

    pub(super) fn is_condemned(&self, asked: &Asked, now: u64) -> bool {
        self.condemned(&Who::of(asked), now)
    }

    pub(super) fn condemns(&self, name: &ConversationId, now: u64) -> bool {
        self.condemned(&Who::Conversation(name.clone()), now)
    }

    /// A fork is refused for either of its conversations.
    pub(super) fn condemns_any(&self, now: u64) -> bool {
        self.records.keys().any(|who| self.condemned(who, now))
    }

    fn condemned(&self, who: &Who, now: u64) -> bool {
        self.records.get(who).is_some_and(|record| record.condemned && now - record.last < self.fades_after)
    }
}
