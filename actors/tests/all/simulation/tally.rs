//! What histories were made of: a simulation in which nothing goes wrong shows nothing.

/// What histories were made of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) deaths: u64,
    pub(crate) hangs: u64,
    pub(crate) loads_hung: u64,
    pub(crate) restored: u64,
    /// Histories that killed whoever read them again.
    pub(crate) cursed: u64,
    pub(crate) rebuilt: u64,
    pub(crate) quarantined: u64,
    pub(crate) downs: u64,
    pub(crate) undone: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.answered += other.answered;
        self.failed += other.failed;
        self.deaths += other.deaths;
        self.hangs += other.hangs;
        self.loads_hung += other.loads_hung;
        self.restored += other.restored;
        self.cursed += other.cursed;
        self.rebuilt += other.rebuilt;
        self.quarantined += other.quarantined;
        self.downs += other.downs;
        self.undone += other.undone;
    }
}
