//! How long a run may be: as much rides as those who decode, or wait at all, can bear.
//!
//! A run is as long as all that rides in it. A lane that is alone is read in whole chunks, which is fastest. Beside
//! others, alive a moment ago, no run is longer than a bound in time, whatever rides. Beside decodes a run is at most
//! [`STRETCH_MAX`] times as long as the decodes alone take, so that a gap between two tokens stays within that bound however
//! long a prompt is, and however many rows another client decodes: what is stretched is a run in which every client has as
//! many rows as the most modest one. Who asks token by token waits for two runs where the next is under way when its
//! request comes, and then a run is half as long; where such callers come back at once, the next run waits for them a
//! moment, and may be longer. Where several clients read, what rides of others is at most [`READ_STRETCH`] times what the most
//! modest of them reads at a time.
//!
//! What a token of a prompt costs, which grows with its context, is learnt from every run with prompts; what decodes
//! cost, which is a line in their rows, from runs without: beside a prompt there are [`LOOKS`] after each [`LOOK`].
//! (Learnt from the same runs, each would be charged with what the other has grown by, and chunks would grow without a
//! bound.) A run of a few tokens takes as long as one of so many decodes, and tells what it takes to run at all where
//! nobody decodes: else its tokens would seem dear, and as few would ride ever after.
//!
//! Pure: durations are told, no clock is read. Costs are in seconds.

use std::time::Duration;

use super::{line::Line, readers::Reads};

/// How many times longer a run with decodes may become by the prompts in it. At 3 a prompt takes half as long
/// again as alone, and more where small chunks cost more; much beyond 4 a conversation's reader notices. The benchmark
/// claims both, reading in 1.5 times the time alone and a 99th percentile gap below 4 times the undisturbed one. At 3.7
/// they were 1.53 and 3.6, at 3.88 1.50 and 3.46, at 4.1 1.45 and 3.53 (SmolLM2, eight decodes beside 8,000 tokens,
/// Zen 1); through the pipe, on two cores with AVX-512, 4.1 led to gaps of 3.95 to 4.17 times.
const STRETCH_MAX: f64 = 3.9;

/// Runs between two tokens of one that asks token by token: the one that is under way when its request comes, its own,
/// and what it takes to come. In a simulation with the costs of SmolLM2 in f32 and in 4 bits gaps are 2.5 and 3.3 times the
/// undisturbed ones and reading takes 1.7 and 1.6 times as long as alone; 4 and 2 are promised.
const STEPPER_RUNS: f64 = 2.05;

/// The same where the next run waits for them: their own, and what else comes in between (a slide of the reader's window,
/// a look). Measured (SmolLM2, 8,000 tokens beside eight, two cores with AVX-512) in runs of 4.1 times the decodes: reading
/// took 1.76 times as long as alone and the 99th percentile gap was 3.04 times the undisturbed one, in runs of 2.9 times
/// 1.97 and 2.19; runs of half that length and no waiting, 2.99 and 3.04.
const PROMPT_STEPPER_RUNS: f64 = 1.1;

/// How many times longer than what somebody reads alone a run may become by what others read. A request waits for the run
/// that is under way and for its own: twice this, and what is foreseen wrongly. (On two cores that serve the callers as well,
/// four of whom read long texts, 1.8 led to 4.1 to 4.6 times what it takes alone, and this to 3.8 to 4.9: 129 to 140 ms.) At
/// 1.5 a prompt beside short texts takes more than twice as long as alone.
const READ_STRETCH: f64 = 1.6;

/// A run of so many seconds is short enough for everybody, whatever the decodes alone take.
const SHORT: f64 = 0.01;

/// Fewer tokens than this are not worth a place in a run; and a row that reads no more and then samples is a decode.
pub(super) const FEW: usize = 4;

/// As many rows decode at first, when nobody knows what that takes.
const ROWS_UNKNOWN: usize = 64;

/// Contexts that differ by fewer tokens tell nothing of what a context costs.
const CONTEXTS_APART: f64 = 64.0;

/// The least part of a run that its prompts are charged with, and of a token of the newest runs that any token takes.
const SHARE_MIN: f64 = 0.05;

/// Runs with decodes and prompts from one look at what decodes cost alone to the next.
const LOOK: u32 = 64;

/// Runs of about as many decodes each, cut to as many as fit, from one with half as many to the next.
const ALIKE: u32 = 16;

/// Runs of a look: the first finds the caches full of the prompt's, so the shortest counts.
const LOOKS: u32 = 2;

/// The weight of the newest run in what is remembered.
pub(super) const NEWEST: f64 = 0.25;

/// Who is alive when a run is planned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Alive {
    /// Rows that wait to decode.
    pub(super) decodes: usize,
    /// Lanes that wait to read.
    pub(super) readers: usize,
    /// What the most modest of several clients reads at a time, or did a moment ago.
    pub(super) fewest: Option<Reads>,
    /// Lanes that wait for something else.
    pub(super) others: usize,
    /// Rows that decode now or did a moment ago, those that wait among them.
    pub(super) rows: usize,
    /// Whose those are.
    pub(super) parties: usize,
    /// The fewest of one of them.
    pub(super) modest: usize,
    /// Whether some of them ask token by token.
    pub(super) steps: bool,
    /// Whether those are back before the next run.
    pub(super) prompt: bool,
}

impl Alive {
    fn is_one(&self) -> bool {
        self.rows + self.readers + self.others <= 1 && self.fewest.is_none()
    }
}

/// What may ride.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Room {
    /// Decode rows, at least 1; one that reads a few tokens before it samples counts as so many more.
    pub(super) rows: usize,
    /// None only where decodes wait.
    pub(super) prompts: Prompts,
}

/// What prompts may take of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Prompts {
    tokens: usize,
    /// By what tokens are counted as.
    seconds: f64,
    /// By what they take as far as is known: beside what somebody modest reads.
    beside: f64,
    /// So many tokens ride whatever they cost.
    least: usize,
}

impl Prompts {
    /// Nothing.
    pub(super) const NONE: Self = Self { tokens: 0, seconds: 0.0, beside: 0.0, least: 0 };

    /// So many tokens, at least 1, whatever they cost.
    fn whole(tokens: usize) -> Self {
        Self { tokens, seconds: f64::INFINITY, beside: f64::INFINITY, least: 1 }
    }

    /// One token where there is room for none.
    pub(super) fn or_one(self) -> Self {
        if self.is_over() { Self::whole(1) } else { self }
    }

    /// Whether nothing more rides.
    pub(super) fn is_over(&self) -> bool {
        self.tokens == 0 || self.least == 0 && self.seconds.min(self.beside) <= 0.0
    }

    /// How many tokens may ride, at least 1, of those that each take so much.
    pub(super) fn fits(&self, token: Token) -> usize {
        let of = |seconds: f64, each: f64| (seconds / each.max(f64::MIN_POSITIVE)) as usize;
        let fits = of(self.seconds, token.counted()).min(of(self.beside, token.known));
        fits.max(self.least).clamp(1, self.tokens.max(1))
    }

    /// So many ride.
    pub(super) fn take(&mut self, tokens: usize, token: Token) {
        self.tokens = self.tokens.saturating_sub(tokens);
        self.least = self.least.saturating_sub(tokens);
        self.seconds -= tokens as f64 * token.counted();
        self.beside -= tokens as f64 * token.known;
    }
}

/// What a token of a prompt takes, in seconds; nothing as long as nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Token {
    /// Behind its context, as far as is known.
    known: f64,
    /// What those of the last runs took.
    newest: f64,
}

impl Token {
    /// No less than those of the last runs: what differed may have been the machine and not the context.
    fn counted(self) -> f64 {
        self.known.max(self.newest)
    }

    /// So many of these in tokens of the last runs, at least 1: what whoever reads them is charged.
    pub(super) fn charge(self, tokens: usize) -> u64 {
        let share = if self.newest > 0.0 { self.known / self.newest } else { 1.0 };
        ((tokens as f64 * share) as u64).max(1)
    }
}

/// Whether decodes ride with prompts, and what is known of them alone.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Look {
    /// They were seen alone so many runs with both ago.
    Past(u32),
    /// They are being looked at: so many runs are done.
    Under(u32),
}

/// What runs cost, in seconds, and how long they may be.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    chunk_max: usize,
    /// No run beside others is longer.
    beside_max: f64,
    /// A run of nothing but so many decodes.
    decodes: Option<Line>,
    /// A token of a prompt, by how many stand before it.
    token: Option<Line>,
    look: Look,
    /// Runs of nothing but decodes of which all had about as many rows, and how many the last had: they tell nothing of
    /// what fewer would take.
    alike: (u32, usize),
}

impl Pace {
    /// Nothing is known yet: chunks are whole. `chunk_max` is at least 1.
    pub(super) fn new(chunk_max: usize, beside_max: Duration) -> Self {
        Self {
            chunk_max,
            beside_max: beside_max.as_secs_f64(),
            decodes: None,
            token: None,
            look: Look::Past(0),
            alike: (0, 0),
        }
    }

    /// What may ride in the next run.
    pub(super) fn room(&self, alive: Alive) -> Room {
        if alive.is_one() {
            return Room { rows: 1, prompts: Prompts::whole(self.chunk_max) };
        }
        let bound = self.bound(alive);
        let rows = self.rows(alive, bound);
        let decodes = rows.min(alive.decodes);
        if decodes > 0 && self.look_is_due() {
            return Room { rows, prompts: Prompts::NONE };
        }
        let (seconds, beside) = match &self.token {
            None => (f64::INFINITY, f64::INFINITY),
            // A cost of decodes that nobody knows yet bounds nothing, until they are looked at.
            Some(_) if alive.rows > 0 && self.decodes.is_none() => (f64::INFINITY, f64::INFINITY),
            Some(_) => {
                let beside = |fewest: Reads| {
                    let reads = self.token(fewest.context).known * fewest.tokens as f64;
                    ((READ_STRETCH * (self.cost(0) + reads)).max(SHORT) - self.cost(decodes)).max(reads)
                };
                (bound - self.cost(decodes), alive.fewest.map_or(f64::INFINITY, beside))
            }
        };
        Room { rows, prompts: Prompts { tokens: self.chunk_max, seconds, beside, least: FEW.min(self.chunk_max) } }
    }

    /// What a token of a prompt takes behind so many.
    pub(super) fn token(&self, context: usize) -> Token {
        let of = |line: &Line| {
            // Where a line has just become flatter it says that they cost nothing.
            let newest = line.newest();
            let known = line.at(context).max(SHARE_MIN * newest);
            Token { known, newest }
        };
        self.token.as_ref().map(of).unwrap_or_default()
    }

    /// How long a run beside others may be, all that rides together.
    fn bound(&self, alive: Alive) -> f64 {
        if alive.rows == 0 {
            return self.beside_max;
        }
        let stretch = match (alive.steps, alive.prompt) {
            (false, _) => STRETCH_MAX,
            (true, false) => STRETCH_MAX / STEPPER_RUNS,
            (true, true) => STRETCH_MAX / PROMPT_STEPPER_RUNS,
        };
        (stretch * self.cost(alive.modest * alive.parties)).max(SHORT).min(self.beside_max)
    }

    /// How many rows may decode in a run of this `bound`. The rows of one client keep only each other waiting; where
    /// prompts wait, half of the run is theirs, unless the most modest clients' rows need it.
    fn rows(&self, alive: Alive, bound: f64) -> usize {
        let Some(line) = &self.decodes else { return ROWS_UNKNOWN };
        let bound = if alive.parties > 1 { bound } else { self.beside_max };
        let (even, part) = (alive.modest * alive.parties, if alive.readers > 0 { bound / 2.0 } else { bound });
        let least = if alive.parties > 1 && line.at(even) <= bound { even } else { 1 };
        let rows = line.fits(part).max(least);
        // Where they are cut to the same number again and again, half as many ride once.
        if alive.decodes > rows && self.alike.0 >= ALIKE { (rows / 2).max(1) } else { rows }
    }

    /// What a run with so many decodes takes but for its prompts; of none, what it takes to run at all.
    fn cost(&self, rows: usize) -> f64 {
        self.decodes.as_ref().map_or(0.0, |line| line.at(rows))
    }

    fn look_is_due(&self) -> bool {
        match self.look {
            Look::Past(runs) => runs >= if self.decodes.is_some() { LOOK } else { 1 },
            Look::Under(_) => true,
        }
    }

    /// A run of so many decode rows, counted as in [`Room`], and prompt tokens, behind so many in the mean, took so long.
    pub(super) fn observe(&mut self, rows: usize, reads: Reads, took: Duration) {
        let took = took.as_secs_f64();
        match (rows, reads.tokens) {
            (0, 0) => {}
            (_, 0) => self.observe_decodes(rows, took),
            (_, tokens) => {
                if rows == 0 && tokens <= FEW {
                    // But for what their context adds.
                    let added = self.token.as_ref().map_or(0.0, |line| line.at(reads.context) - line.at(0));
                    let took = (took - added * tokens as f64).max(took * SHARE_MIN);
                    self.decodes.get_or_insert_with(|| Line::level(tokens, took, 1.0)).blend(tokens, took);
                }
                if rows > 0 {
                    // A look that prompts have cut short has seen what it has seen.
                    self.look = Look::Past(if let Look::Past(runs) = self.look { runs + 1 } else { 1 });
                }
                let prompts = (took - self.cost(rows)).max(took * SHARE_MIN);
                let (context, token) = (reads.context.max(1), prompts / tokens as f64);
                let line = self.token.get_or_insert_with(|| Line::level(context, token, CONTEXTS_APART));
                line.blend(context, token);
            }
        }
    }

    fn observe_decodes(&mut self, rows: usize, took: f64) {
        let (alike, last) = self.alike;
        self.alike = (if rows.abs_diff(last) * 4 <= last { alike + 1 } else { 0 }, rows);
        let line = self.decodes.get_or_insert_with(|| Line::through(rows, took));
        match self.look {
            Look::Past(0) => line.blend(rows, took),
            // Who is there now is seen; who was there before is no matter.
            Look::Past(_) => {
                line.put(rows, took);
                self.look = Look::Under(1);
            }
            Look::Under(runs) => {
                line.put(rows, took.min(line.at(rows)));
                self.look = if runs + 1 == LOOKS { Look::Past(0) } else { Look::Under(runs + 1) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BESIDE: Duration = ms(250);

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// So many tokens of a text that begins.
    const fn text(tokens: usize) -> Reads {
        Reads { tokens, context: 0 }
    }

    fn seconds(ms: f64) -> Duration {
        Duration::from_secs_f64(ms / 1e3)
    }

    /// So many rows that stream, a client each, beside a prompt.
    const fn beside(rows: usize) -> Alive {
        Alive {
            decodes: rows,
            readers: 1,
            fewest: None,
            others: 0,
            rows,
            parties: rows,
            modest: 1,
            steps: false,
            prompt: false,
        }
    }

    const PROMPTS: Alive = Alive { readers: 2, ..beside(0) };

    /// Tokens of a prompt that ride behind so many.
    fn reads(pace: &Pace, alive: Alive, context: usize) -> usize {
        let prompts = pace.room(alive).prompts;
        if prompts.is_over() { 0 } else { prompts.fits(pace.token(context)) }
    }

    fn chunk(pace: &Pace, rows: usize) -> usize {
        reads(pace, beside(rows), 0)
    }

    /// A thousand rows of one client beside eight others with one each.
    const FLOOD: Alive = Alive {
        decodes: 1008,
        readers: 0,
        fewest: None,
        others: 0,
        rows: 1008,
        parties: 9,
        modest: 1,
        steps: false,
        prompt: false,
    };

    /// A steep line that the machine's becoming faster has pulled below nothing at its beginning.
    #[test]
    fn no_token_is_free_and_who_reads_is_charged_by_what_it_costs() {
        let mut pace = Pace::new(256, BESIDE);
        let read = |pace: &mut Pace, context: usize, each_ms: f64| {
            pace.observe(0, Reads { tokens: 100, context }, seconds(100.0 * each_ms));
        };
        for _ in 0..30 {
            read(&mut pace, 0, 1.0);
            read(&mut pace, 8000, 5.0);
        }
        let times = pace.token(8000).charge(10_000) as f64 / pace.token(0).charge(10_000) as f64;
        assert!((4.9..5.1).contains(&times), "{times}");
        (0..20).for_each(|_| read(&mut pace, 8000, 1.0));
        let short = pace.token(0);
        assert!(short.known > 0.0 && (15..=30).contains(&short.charge(300)), "{short:?}");
        assert_eq!((short.charge(1), Token::default().charge(7)), (1, 7));
        let modest = Alive { fewest: Some(text(100)), ..PROMPTS };
        assert!(reads(&pace, modest, 0) > FEW);
    }

    #[test]
    fn what_is_not_known_is_read_whole() {
        let mut pace = Pace::new(256, BESIDE);
        assert_eq!(chunk(&pace, 4), 256);
        pace.observe(4, text(0), ms(30));
        assert_eq!(chunk(&pace, 4), 256, "the cost of a prompt's token is not known");
        pace.observe(0, text(256), ms(512));
        assert_eq!(reads(&pace, Alive { readers: 1, ..beside(0) }, 0), 256, "nobody else is alive");
    }

    #[test]
    fn no_run_beside_others_is_longer_than_the_bound() {
        let mut pace = Pace::new(256, BESIDE);
        pace.observe(0, text(256), ms(512));
        assert_eq!(reads(&pace, PROMPTS, 0), 125, "prompts beside prompts");
        let flood = Alive {
            decodes: 3000,
            readers: 0,
            fewest: None,
            others: 0,
            rows: 3000,
            parties: 1,
            modest: 3000,
            steps: false,
            prompt: false,
        };
        assert_eq!(pace.room(flood).rows, ROWS_UNKNOWN);
        pace.observe(64, text(0), ms(64));
        assert_eq!(pace.room(flood).rows, 250, "decodes of one client");
        assert_eq!(pace.room(Alive { parties: 3000, modest: 1, ..flood }).rows, 250, "of as many clients");
        let both = Alive { readers: 1, ..flood };
        assert_eq!((pace.room(both).rows, reads(&pace, both, 0)), (125, 62), "half is left to prompts");
        let one = Alive { decodes: 1, rows: 1, modest: 1, ..flood };
        assert_eq!((pace.room(one).rows, reads(&pace, one, 0)), (1, 256));
    }

    #[test]
    fn a_client_with_many_rows_stretches_the_runs_of_others_by_a_bound() {
        let mut pace = Pace::new(256, BESIDE);
        pace.observe(1, text(0), ms(9));
        for _ in 0..50 {
            pace.observe(3, text(0), ms(11));
            pace.observe(8, text(0), ms(16));
        }
        // 8 ms and 1 ms a row: nine rows of as many clients take 17 ms, a run 66.3.
        assert_eq!(pace.room(FLOOD).rows, 58);
        assert_eq!(pace.room(Alive { steps: true, ..FLOOD }).rows, 24, "half as long for those who step");
        let one_client = pace.room(Alive { decodes: 1000, rows: 1000, parties: 1, modest: 1000, ..FLOOD }).rows;
        assert!((241..=242).contains(&one_client), "{one_client}: 250 ms");
    }

    #[test]
    fn what_fewer_rows_would_take_is_looked_at_where_many_are_cut() {
        let mut pace = Pace::new(256, BESIDE);
        for _ in 0..6 * LOOK {
            let rows = pace.room(FLOOD).rows;
            pace.observe(rows, text(0), seconds(8.0 + rows as f64));
        }
        assert_eq!(pace.room(FLOOD).rows, 58, "3.9 times 17 ms");
    }

    #[test]
    fn those_who_are_away_count_as_if_they_waited() {
        let mut pace = Pace::new(256, BESIDE);
        pace.observe(8, text(0), ms(20));
        pace.observe(0, text(100), ms(90));
        let away = Alive { decodes: 0, steps: true, ..beside(8) };
        assert_eq!(reads(&pace, away, 0), 42, "1.9 times 20 ms");
        assert_eq!(reads(&pace, Alive { decodes: 8, ..away }, 0), 20, "together with them");
    }

    #[test]
    fn beside_decodes_a_run_is_stretched_by_a_bound() {
        let mut pace = Pace::new(256, BESIDE);
        pace.observe(8, text(0), ms(30));
        pace.observe(0, text(100), ms(200));
        // 2.9 times 30 ms at 2 ms a token.
        assert_eq!(chunk(&pace, 8), 43);
        for _ in 0..50 {
            let read = chunk(&pace, 8);
            pace.observe(8, text(read), ms(30 + 2 * read as u64));
            let run = 30.0 + 2.0 * chunk(&pace, 8) as f64;
            let look = chunk(&pace, 8) == 0;
            assert!(look || (90.0..=30.0 * STRETCH_MAX).contains(&run), "{run}");
        }
    }

    #[test]
    fn a_crowd_that_grows_beside_an_endless_prompt_is_noticed() {
        // Each row takes longer than when there was one, so what is known of that is no measure.
        let mut pace = Pace::new(512, ms(1000));
        pace.observe(1, text(0), ms(4));
        pace.observe(0, text(100), ms(100));
        assert_eq!(chunk(&pace, 1), 11, "2.9 times 4 ms at 1 ms a token");
        for _ in 0..2 * LOOK {
            let read = chunk(&pace, 16);
            pace.observe(16, text(read), ms(91 + read as u64));
        }
        assert_eq!(chunk(&pace, 16), 263, "2.9 times 91 ms");
        let mut unknown = Pace::new(256, BESIDE);
        for _ in 0..50 {
            let read = chunk(&unknown, 4);
            unknown.observe(4, text(read), ms(30 + read as u64));
        }
        assert!(chunk(&unknown, 4) < 120, "no run of decodes alone was ever seen: {}", chunk(&unknown, 4));
    }

    #[test]
    fn the_shortest_look_counts_and_none_from_before() {
        let mut pace = Pace::new(256, BESIDE);
        // One decoded alone, then seven more beside a prompt of 1 ms a token.
        pace.observe(1, text(0), ms(5));
        pace.observe(0, text(100), ms(100));
        while chunk(&pace, 8) > 0 {
            pace.observe(8, text(chunk(&pace, 8)), ms(20 + chunk(&pace, 8) as u64));
        }
        for took in [26, 20] {
            assert_eq!(chunk(&pace, 8), 0, "a look is due");
            pace.observe(8, text(0), ms(took));
        }
        assert!((pace.cost(8) - 0.02).abs() < 1e-9, "{}", pace.cost(8));
        assert!(chunk(&pace, 8) > 0);
    }

    #[test]
    fn what_somebody_reads_alone_is_told_by_their_own_context() {
        let mut pace = Pace::new(256, BESIDE);
        // A millisecond a token at first, two behind 4,000.
        for context in [0, 4000].repeat(20) {
            pace.observe(0, Reads { tokens: 20, context }, ms(20 + 20 * context as u64 / 4000));
        }
        // 1.6 times what the modest one reads alone, in tokens of one millisecond and of two.
        for (modest, rider, expected) in [(0, 0, 32), (0, 4000, 16), (4000, 0, 64), (4000, 4000, 32)] {
            let alive = Alive { fewest: Some(Reads { tokens: 20, context: modest }), ..PROMPTS };
            let found = reads(&pace, alive, rider);
            assert!(found.abs_diff(expected) <= 1, "{found} behind {rider} beside {modest}");
        }
    }

    #[test]
    fn what_it_takes_to_run_at_all_makes_no_token_dear() {
        let mut pace = Pace::new(256, BESIDE);
        let alive = Alive { fewest: Some(text(2)), ..PROMPTS };
        (0..10).for_each(|_| pace.observe(0, text(4), ms(18)));
        assert!(reads(&pace, alive, 0) >= 13, "{} with nothing to compare", reads(&pace, alive, 0));
        for run in 0..40 {
            // One reads two tokens at a time, and two others three and thirty.
            let tokens = [2, 5, 35][run % 3].min(reads(&pace, alive, 0));
            pace.observe(0, text(tokens), ms(14 + tokens as u64));
        }
        // 1.6 times 16 ms.
        let room = reads(&pace, alive, 0);
        assert!((10..=15).contains(&room), "{room}");
    }

    #[test]
    fn a_prompt_whose_tokens_cost_more_and_more_is_read_in_smaller_chunks() {
        let mut pace = Pace::new(256, BESIDE);
        pace.observe(8, text(0), ms(20));
        let mut read = 0;
        let mut longest = 0.0f64;
        for run in 0..400 {
            let tokens = chunk(&pace, 8);
            // A millisecond a token at first, three at 8,000.
            let took = 20.0 + tokens as f64 * (1.0 + read as f64 / 4000.0);
            pace.observe(8, text(tokens), seconds(took));
            read += tokens;
            // The first chunks are whole: what a token costs is not known yet.
            if run > 8 {
                longest = longest.max(took);
            }
        }
        assert!(read > 5000, "{read}");
        // A token's cost is learnt some runs late, in each of which it grows by 1.5 %.
        assert!(longest <= 20.0 * STRETCH_MAX * 1.04, "{longest}");
    }

    #[test]
    fn a_chunk_is_never_too_small_nor_shrunk_without_need() {
        let mut pace = Pace::new(256, BESIDE);
        pace.observe(1, text(0), ms(1));
        pace.observe(0, text(10), ms(1));
        assert_eq!(chunk(&pace, 1), 90, "ten milliseconds are short enough");
        pace.observe(0, text(1), ms(10_000));
        assert_eq!(chunk(&pace, 1), FEW);
        let mut small = Pace::new(3, BESIDE);
        small.observe(1, text(0), ms(100));
        small.observe(0, text(1), ms(10_000));
        assert_eq!(chunk(&small, 1), 3);
    }
}
