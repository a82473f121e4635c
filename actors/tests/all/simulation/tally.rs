//! What histories were made of: a simulation in which nothing goes wrong shows nothing.

macro_rules! tally {
    ($($(#[$doc:meta])* $what:ident,)*) => {
        /// What histories were made of.
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct Tally {
            $($(#[$doc])* pub(crate) $what: u64,)*
        }

        impl Tally {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$what += other.$what;)*
            }

            /// Each count with its name.
            pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($what), self.$what)),*].into_iter()
            }
        }
    };
}

tally! {
    events,
    runs,
    answered,
    failed,
    deaths,
    hangs,
    /// Runs that ended since they were interrupted.
    interrupted,
    loads_hung,
    restored,
    /// Histories that killed whoever read them again.
    cursed,
    rebuilt,
    quarantined,
    downs,
    gave_up,
    cancelled,
    overloaded,
    /// Requests that nobody waited for any more while their jobs went on.
    released,
    undone,
    /// Conversations that left memory for others, and those that were forgotten.
    left,
    put,
    fetched,
    back,
    forgotten,
    forks,
    rewinds,
    severals,
    /// Texts of which each piece had a vector.
    pieces,
    present,
    /// Answers that were kept of several.
    choices,
    /// Forks, rewinds and choices of what is not there.
    refusals,
    /// Answers in a window that has slid and pins more than its sinks.
    pinned,
    /// Answers behind tokens that were read again since others had left.
    reread,
    recalls,
    /// Answers that were given with less to read since others had read the same.
    reused,
    /// Jobs that go on, on pages, with what an actor had done that died.
    adopted,
    /// Rows that abandoned lives wrote wherever they could.
    garbled,
    /// Pages that were kept for nobody.
    idle,
}
