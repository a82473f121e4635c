//! The tree against a model of it that keeps each page with the whole sequence it stands for, in one flat list, and
//! counts everything anew each time: few tokens and small pages, so that everything collides.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Weak,
};

use proptest::prelude::*;

use super::{
    super::{Prefixes, Seat},
    fake::{Rows, means, read},
};
use crate::{
    engine::{Page, Resident},
    message::Scope,
    tokens::TokenId,
};

/// A page's scope, and all tokens from the beginning to its end.
type Way = (Option<Scope>, Vec<TokenId>);

#[derive(Clone, Debug)]
enum Action {
    /// Finds what is resident, if it has nothing and `find` is set, reads the tokens, but for the last where it `lags`,
    /// and settles.
    Say {
        who: usize,
        tokens: Vec<TokenId>,
        find: bool,
        lags: bool,
    },
    /// Goes back to a part of its tokens, and settles there or only when it says something.
    Rewind {
        who: usize,
        keep: f64,
        settle: bool,
    },
    /// Gives up what it is and becomes another from a part of its tokens.
    Fork {
        who: usize,
        from: usize,
        keep: f64,
        settle: bool,
    },
    /// Begins anew, in another scope perhaps.
    Reset {
        who: usize,
        scope: Option<Scope>,
    },
    /// Gives up its seat, not its pages.
    Slide {
        who: usize,
    },
    /// Its pages are lost, and it is read again.
    Replay {
        who: usize,
    },
    Find {
        scope: Option<Scope>,
        tokens: Vec<TokenId>,
        len_max: usize,
    },
    Limit(usize),
}

#[derive(Default)]
struct Talk {
    scope: Option<Scope>,
    tokens: Vec<TokenId>,
    resident: Resident,
    seat: Option<Seat>,
    /// The tokens that it sits behind.
    at: Vec<TokenId>,
}

impl Talk {
    fn rewind(&mut self, keep: f64, page: usize) {
        self.tokens.truncate((self.tokens.len() as f64 * keep) as usize);
        self.resident.truncate(self.tokens.len(), page);
    }
}

struct Entry {
    page: Page,
    used: u64,
}

struct World {
    page: usize,
    idle_max: usize,
    prefixes: Prefixes,
    talks: Vec<Talk>,
    entries: BTreeMap<Way, Entry>,
    stamp: u64,
    /// Every page there ever was.
    made: Vec<Weak<Rows>>,
}

fn common(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl World {
    fn new(page: usize, idle_max: usize) -> Self {
        let prefixes = Prefixes::new(page, idle_max);
        let talks = std::iter::repeat_with(Talk::default).take(4).collect();
        Self { page, idle_max, prefixes, talks, entries: BTreeMap::new(), stamp: 0, made: Vec::new() }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Say { who, tokens, find, lags } => {
                self.sit_down(who);
                let talk = &mut self.talks[who];
                talk.tokens.extend(tokens);
                let (scope, tokens) = (talk.scope.clone(), talk.tokens.clone());
                if find && talk.resident.kv_len == 0 {
                    self.talks[who].resident = self.find(&scope, &tokens, tokens.len().saturating_sub(1));
                }
                let resident = &mut self.talks[who].resident;
                let end = tokens.len() - usize::from(lags && tokens.len() > resident.kv_len);
                read(&tokens, resident, end, self.page, &mut self.made);
                self.settle(who);
            }
            Action::Rewind { who, keep, settle } => {
                self.sit_down(who);
                self.talks[who].rewind(keep, self.page);
                if settle {
                    self.settle(who);
                }
            }
            Action::Fork { who, from, keep, settle } => {
                self.sit_down(from);
                let parent = &self.talks[from];
                let mut fork =
                    Talk { tokens: parent.tokens.clone(), resident: parent.resident.clone(), ..Talk::default() };
                fork.rewind(keep, self.page);
                let scope = parent.scope.clone();
                self.leave(who);
                self.talks[who] = fork;
                self.sit(who, scope);
                if settle {
                    self.settle(who);
                }
            }
            Action::Reset { who, scope } => self.reset(who, scope),
            Action::Slide { who } => self.leave(who),
            Action::Replay { who } => {
                self.sit_down(who);
                let talk = &mut self.talks[who];
                let end = std::mem::take(&mut talk.resident).kv_len;
                read(&talk.tokens, &mut talk.resident, end, self.page, &mut self.made);
                self.settle(who);
            }
            Action::Find { scope, tokens, len_max } => drop(self.find(&scope, &tokens, len_max)),
            Action::Limit(idle_max) => {
                self.idle_max = idle_max;
                self.prefixes.limit_idle(idle_max);
            }
        }
        self.tidy();
    }

    /// A conversation that has no seat begins anew.
    fn sit_down(&mut self, who: usize) {
        if self.talks[who].seat.is_none() {
            self.reset(who, self.talks[who].scope.clone());
        }
    }

    fn reset(&mut self, who: usize, scope: Option<Scope>) {
        self.leave(who);
        self.talks[who] = Talk::default();
        self.sit(who, scope);
    }

    fn leave(&mut self, who: usize) {
        let Some(seat) = self.talks[who].seat.take() else { return };
        self.prefixes.leave(seat);
        self.used(&self.talks[who].scope.clone(), &self.talks[who].at.clone());
        self.tidy();
    }

    fn sit(&mut self, who: usize, scope: Option<Scope>) {
        let ways = self.ways(&scope, &self.talks[who].tokens);
        let known = ways.into_iter().take_while(|way| self.entries.contains_key(way)).last();
        let talk = &mut self.talks[who];
        talk.at = known.map_or(Vec::new(), |(_, tokens)| tokens);
        talk.seat = Some(self.prefixes.sit(scope.as_ref(), &talk.tokens));
        talk.scope = scope;
    }

    fn settle(&mut self, who: usize) {
        let talk = &mut self.talks[who];
        let mut expected = talk.resident.clone();
        self.prefixes.settle(talk.seat.as_mut().unwrap(), &talk.tokens, &mut talk.resident);
        let (scope, at) = (talk.scope.clone(), talk.tokens[..talk.resident.kv_len].to_vec());
        let old = std::mem::replace(&mut talk.at, at.clone());
        for (page, way) in expected.pages.iter_mut().zip(self.ways(&scope, &at)) {
            *page = self.entries.entry(way).or_insert(Entry { page: page.clone(), used: 0 }).page.clone();
        }
        assert_eq!(self.talks[who].resident, expected);
        self.used(&scope, &old);
    }

    fn find(&mut self, scope: &Option<Scope>, tokens: &[TokenId], len_max: usize) -> Resident {
        let found = self.prefixes.find(scope.as_ref(), tokens.iter().copied(), len_max);
        let wanted = &tokens[..tokens.len().min(len_max)];
        let same_scope = || self.entries.iter().filter(|((its, _), _)| its == scope);
        let longest = same_scope().map(|((_, way), _)| common(way, wanted)).max().unwrap_or(0);
        assert_eq!(found.kv_len, longest);
        means(&found, tokens, self.page).unwrap();
        // Of the last pages that have as much in common, the last of those up to what is wanted, or else the first.
        let begin = longest.saturating_sub(1) / self.page * self.page;
        let wanted = &wanted[..wanted.len().min(begin + self.page)];
        let last = same_scope().map(|((_, way), _)| way);
        let last = last.filter(|way| (begin + 1..=begin + self.page).contains(&way.len()));
        let mut last: Vec<_> = last.filter(|way| longest > 0 && common(way, wanted) == longest).cloned().collect();
        last.sort();
        let at = last.iter().rfind(|way| ***way <= *wanted).or(last.first());
        self.used(scope, &at.cloned().unwrap_or_default());
        found
    }

    fn ways(&self, scope: &Option<Scope>, tokens: &[TokenId]) -> Vec<Way> {
        let ends = (0..tokens.len()).step_by(self.page).map(|begin| tokens.len().min(begin + self.page));
        ends.map(|end| (scope.clone(), tokens[..end].to_vec())).collect()
    }

    fn used(&mut self, scope: &Option<Scope>, tokens: &[TokenId]) {
        self.stamp += 1;
        for way in self.ways(scope, tokens) {
            self.entries.get_mut(&way).unwrap().used = self.stamp;
        }
    }

    fn idle(&self) -> Vec<Way> {
        let seated = self.talks.iter().filter(|talk| talk.seat.is_some());
        let seated: BTreeSet<_> = seated.flat_map(|talk| self.ways(&talk.scope, &talk.at)).collect();
        self.entries.keys().filter(|way| !seated.contains(way)).cloned().collect()
    }

    /// Lets go of what nobody needs.
    fn tidy(&mut self) {
        let longer =
            |way: &Way, other: &Way| way.0 == other.0 && other.1.len() > way.1.len() && other.1.starts_with(&way.1);
        for way in self.idle() {
            if way.1.len() % self.page > 0 && self.entries.keys().any(|other| longer(&way, other)) {
                self.entries.remove(&way);
            }
        }
        for _ in self.idle_max..self.idle().len() {
            let idle = self.idle().into_iter();
            let leaves = idle.filter(|way| !self.entries.keys().any(|other| longer(way, other)));
            let oldest = leaves.min_by_key(|way| self.entries[way].used).unwrap();
            self.entries.remove(&oldest);
        }
    }

    fn check(&self) {
        let seats = self.talks.iter().filter_map(|talk| talk.seat.as_ref());
        assert_eq!(self.prefixes.check_invariants(seats), Vec::<String>::new());
        for talk in &self.talks {
            means(&talk.resident, &talk.tokens, self.page).unwrap();
            if let Some(seat) = &talk.seat {
                assert_eq!(self.prefixes.nodes.spelled(seat.0), talk.at);
            }
        }
        assert_eq!((self.prefixes.pages(), self.prefixes.idle_pages()), (self.entries.len(), self.idle().len()));
        for (&root, scope) in self.prefixes.roots.iter().map(|(scope, root)| (root, scope)) {
            let mut below: Vec<_> = self.prefixes.nodes[root].children.values().copied().collect();
            while let Some(id) = below.pop() {
                let node = &self.prefixes.nodes[id];
                below.extend(node.children.values());
                let entry = &self.entries[&(scope.clone(), self.prefixes.nodes.spelled(id))];
                assert_eq!(node.page(), Some(&entry.page));
            }
        }
        let kept = self.entries.values().map(|entry| &entry.page);
        let kept = kept.chain(self.talks.iter().flat_map(|talk| &talk.resident.pages));
        let kept: BTreeSet<_> = kept.map(|page| std::sync::Arc::as_ptr(&page.memory::<Rows>().unwrap())).collect();
        let alive = self.made.iter().filter(|page| page.strong_count() > 0).map(Weak::as_ptr).collect();
        assert_eq!(kept, alive);
    }
}

fn scope() -> impl Strategy<Value = Option<Scope>> {
    prop_oneof![3 => Just(None), 1 => Just(Some(Scope::from("a")))]
}

fn action() -> impl Strategy<Value = Action> {
    let who = || 0..4_usize;
    let tokens = |len: std::ops::Range<usize>| prop::collection::vec((0..2_u32).prop_map(TokenId), len);
    let keep = || prop_oneof![2 => Just(1.0), 3 => 0.0..1.0];
    prop_oneof![
        8 => (who(), tokens(0..6), any::<bool>(), any::<bool>())
            .prop_map(|(who, tokens, find, lags)| Action::Say { who, tokens, find, lags }),
        3 => (who(), keep(), any::<bool>()).prop_map(|(who, keep, settle)| Action::Rewind { who, keep, settle }),
        3 => (who(), who(), keep(), any::<bool>())
            .prop_map(|(who, from, keep, settle)| Action::Fork { who, from, keep, settle }),
        2 => (who(), scope()).prop_map(|(who, scope)| Action::Reset { who, scope }),
        1 => who().prop_map(|who| Action::Slide { who }),
        1 => who().prop_map(|who| Action::Replay { who }),
        4 => (scope(), tokens(0..12), 0..14_usize)
            .prop_map(|(scope, tokens, len_max)| Action::Find { scope, tokens, len_max }),
        1 => (0..12_usize).prop_map(Action::Limit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn the_tree_does_what_a_list_of_all_pages_does(
        page in 2..5_usize,
        idle_max in 0..12_usize,
        actions in prop::collection::vec(action(), 1..60),
    ) {
        let mut world = World::new(page, idle_max);
        for action in actions {
            world.act(action);
            world.check();
        }
    }
}
