//! How long callers wait beside others, under a virtual clock: nobody's wait grows without a bound by what others ask.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use motorbrain_actors::{
    clock::Time,
    engine::{EngineInfo, Slides, Window},
    job::{Report, RequestId},
};
use motorbrain_testing::fake_info_without_pages;

use super::{
    harness::{embed, score, step, stream, tokens},
    host::{Cost, Host},
};

const fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

/// As SmolLM2 takes on two cores, in f32 and in 4 bits.
const COSTS: [Cost; 2] = [
    Cost { run: us(14_000), row: us(1_600), token: us(1_400), behind: us(0) },
    Cost { run: us(3_000), row: us(2_000), token: us(1_500), behind: us(0) },
];

/// As in 4 bits, where it was measured how much longer a token behind thousands takes.
const GROWING: Cost = Cost { run: us(8_000), row: us(1_000), token: us(1_000), behind: us(1_000) };

fn host(cost: Cost) -> Host {
    let window = Window { size: 32_768, sinks: 4, slide: 512, slides: Slides::Shift };
    Host::new(EngineInfo { window, ..fake_info_without_pages() }, 256, cost)
}

/// Callers beside each other, each with a client of its own.
struct Callers {
    host: Host,
    /// When who sends its next step: callers that ask for a token, wait for it and ask again.
    sends: BTreeSet<(Time, usize)>,
    asked: BTreeMap<RequestId, (usize, Time)>,
    /// How long each of their steps took, less that of the first one.
    gaps: Vec<Duration>,
    answered: [usize; 8],
    /// When each token of a stream was shown.
    shown: BTreeMap<RequestId, Vec<Time>>,
    done: BTreeMap<RequestId, Time>,
}

impl Callers {
    fn new(cost: Cost) -> Self {
        Self {
            host: host(cost),
            sends: BTreeSet::new(),
            asked: BTreeMap::new(),
            gaps: Vec::new(),
            answered: [0; 8],
            shown: BTreeMap::new(),
            done: BTreeMap::new(),
        }
    }

    /// Eight that ask token by token begin.
    fn step_by_step(&mut self) {
        let now = self.host.now();
        self.sends.extend((0..8).map(|caller| (now + us(170 * caller as u64), caller)));
    }

    fn send(&mut self, caller: usize, at: Time) {
        let input = if self.answered[caller] == 0 { tokens(caller as u32, 3) } else { Vec::new() };
        let request = self.host.send(&caller.to_string(), Some(&caller.to_string()), step(input, 1));
        self.asked.insert(request, (caller, at));
    }

    /// Everything up to the end of a run, or to the next step that is sent where nothing runs.
    fn turn(&mut self) {
        while let Some(&(at, caller)) = self.sends.first()
            && (at <= self.host.now() || !self.host.worker.has_work())
        {
            self.host.wait_until(at);
            self.sends.pop_first();
            self.send(caller, at);
        }
        self.host.run();
        let now = self.host.now();
        for report in self.host.reports() {
            match report {
                Report::Token { request, .. } => self.shown.entry(request).or_default().push(now),
                Report::Done(done) => {
                    assert!(done.outcome.is_ok(), "{done:?}");
                    self.done.insert(done.request, now);
                    if let Some((caller, asked)) = self.asked.remove(&done.request) {
                        if self.answered[caller] > 0 {
                            self.gaps.push(now.since(asked));
                        }
                        self.answered[caller] += 1;
                        self.sends.insert((now + us(200 + 37 * caller as u64), caller));
                    }
                }
                _ => {}
            }
        }
    }

    fn until_done(&mut self, request: RequestId) -> Duration {
        let began = self.host.now();
        while !self.done.contains_key(&request) {
            self.turn();
        }
        self.done[&request].since(began)
    }

    /// The steps of so many runs; forgets those before.
    fn steps(&mut self, runs: usize) -> Vec<Duration> {
        self.gaps.clear();
        (0..runs).for_each(|_| self.turn());
        std::mem::take(&mut self.gaps)
    }
}

fn percentile(mut gaps: Vec<Duration>, percent: usize) -> Duration {
    gaps.sort();
    gaps[(gaps.len() * percent / 100).min(gaps.len() - 1)]
}

fn alone(cost: Cost, count: u32) -> Duration {
    let mut callers = Callers::new(cost);
    let request = callers.host.send("reader", Some("long"), step(tokens(1, count), 1));
    callers.until_done(request)
}

#[test]
fn callers_who_ask_token_by_token_are_held_up_by_a_bound_beside_a_long_prompt() {
    for cost in COSTS {
        let mut callers = Callers::new(cost);
        callers.step_by_step();
        callers.steps(50);
        let quiet = percentile(callers.steps(400), 99);
        let reader = callers.host.send("reader", Some("long"), step(tokens(1, 8000), 1));
        let took = callers.until_done(reader);
        let beside = percentile(std::mem::take(&mut callers.gaps), 99);
        let (stretch, slowed) = (ratio(beside, quiet), ratio(took, alone(cost, 8000)));
        assert!(stretch <= 4.0 && slowed <= 2.0, "gaps {quiet:?} and {beside:?}, {stretch:.2}; reading {slowed:.2}");
    }
}

#[test]
fn streams_are_held_up_by_a_bound_beside_a_long_prompt() {
    for cost in COSTS {
        let mut callers = Callers::new(cost);
        let streams: Vec<_> = (0..8)
            .map(|caller| {
                let name = caller.to_string();
                callers.host.send(&name, Some(&name), stream(tokens(caller, 3), 4000))
            })
            .collect();
        (0..100).for_each(|_| callers.turn());
        let quiet = cost.run + 8 * cost.row;
        callers.shown.clear();
        let reader = callers.host.send("reader", Some("long"), step(tokens(1, 8000), 1));
        let took = callers.until_done(reader);
        let gaps = streams.iter().flat_map(|stream| {
            let shown = &callers.shown[stream];
            shown.iter().zip(&shown[1..]).map(|(before, after)| after.since(*before)).collect::<Vec<_>>()
        });
        let stretch = ratio(percentile(gaps.collect(), 99), quiet);
        let slowed = ratio(took, alone(cost, 8000));
        assert!(stretch <= 4.2 && slowed <= 1.6, "gaps {stretch:.2}; reading {slowed:.2}");
    }
}

#[test]
fn whatever_one_client_floods_with_the_steps_of_others_are_held_up_by_a_bound() {
    for cost in COSTS {
        for kind in 0..3 {
            let mut callers = Callers::new(cost);
            callers.step_by_step();
            callers.steps(50);
            let quiet = percentile(callers.steps(400), 95);
            for index in 0..1000_u32 {
                let name = format!("flood {index}");
                match kind {
                    0 => callers.host.send("flood", Some(&name), step(tokens(index, 3), 50)),
                    1 => callers.host.send("flood", None, embed(tokens(index, 40))),
                    _ => callers.host.send("flood", Some(&name), score(tokens(index, 200))),
                };
            }
            let beside = percentile(callers.steps(300), 95);
            let stretch = ratio(beside, quiet);
            assert!(stretch <= 4.0, "flood {kind}: {quiet:?} and {beside:?}, {stretch:.2}");
            assert!(callers.done.len() > 100, "the flood is served, too");
        }
    }
}

/// How long each of so many short texts takes that one caller asks for, one after the other.
fn short_ones(callers: &mut Callers, count: u32) -> Vec<Duration> {
    (0..count)
        .map(|index| {
            let asked = callers.host.now() + us(5_000);
            while callers.host.now() < asked && callers.host.worker.has_work() {
                callers.turn();
            }
            callers.host.wait_until(asked.max(callers.host.now()));
            let request = callers.host.send("short", None, embed(tokens(index, 20)));
            callers.until_done(request);
            callers.done[&request].since(asked)
        })
        .collect()
}

#[test]
fn whoever_asks_for_short_texts_is_held_up_by_a_bound_beside_what_another_client_reads() {
    for cost in COSTS.into_iter().chain([GROWING]) {
        for prompts in [1, 20] {
            let mut callers = Callers::new(cost);
            let quiet = percentile(short_ones(&mut callers, 100), 95);
            let began = callers.host.now();
            let readers: Vec<_> =
                (0..prompts).map(|index| callers.host.send("reader", None, embed(tokens(index, 8000)))).collect();
            // The first finds a run under way beside which nobody else has read.
            short_ones(&mut callers, 3);
            let mut beside = Vec::new();
            while beside.len() < 100 || prompts == 1 && !callers.done.contains_key(&readers[0]) {
                beside.extend(short_ones(&mut callers, 1));
            }
            let stretch = ratio(percentile(beside, 95), quiet);
            assert!(stretch <= 4.0, "{prompts} prompts: {stretch:.2} times {quiet:?}");
            if prompts == 1 && cost.behind.is_zero() {
                let slowed = ratio(callers.done[&readers[0]].since(began), alone(cost, 8000));
                assert!(slowed <= 2.0, "reading {slowed:.2}");
            }
        }
    }
}

#[test]
fn beside_others_no_run_is_longer_than_the_bound() {
    let cost = COSTS[0];
    let mut callers = Callers::new(cost);
    for index in 0..2000_u32 {
        callers.host.send("a", Some(&index.to_string()), step(tokens(index, 3), 3));
    }
    for index in 0..20_u32 {
        callers.host.send("b", None, embed(tokens(index, 2000)));
    }
    let mut longest = Vec::new();
    for run in 0..300 {
        let before = callers.host.now();
        callers.turn();
        // What a row costs is learnt from the first runs, and where more ride than ever before it is a guess.
        if run >= 20 {
            longest.push(callers.host.now().since(before));
        }
    }
    let longest = longest.into_iter().max().unwrap();
    assert!(longest <= Duration::from_millis(262), "{longest:?}");
    assert!(longest >= Duration::from_millis(200), "{longest:?}: what may ride does");
}

#[test]
fn a_prompt_beside_a_thousand_single_requests_of_another_client_takes_its_share() {
    let mut callers = Callers::new(COSTS[0]);
    for index in 0..1000_u32 {
        callers.host.send("embeds", None, embed(tokens(index, 64)));
    }
    let reader = callers.host.send("reader", Some("long"), step(tokens(1, 4000), 1));
    let took = callers.until_done(reader);
    let slowed = ratio(took, alone(COSTS[0], 4000));
    assert!((1.5..=2.6).contains(&slowed), "{slowed:.2}: half of what is read is the other's");
}

#[test]
fn one_that_is_alone_is_read_in_whole_chunks() {
    let mut callers = Callers::new(COSTS[0]);
    // Who asked once, and is not known to come back, holds nobody up.
    let before = callers.host.send("a", Some("a"), step(tokens(1, 3), 1));
    callers.until_done(before);
    callers.host.control.record();
    let reader = callers.host.send("a", Some("long"), step(tokens(1, 1024), 1));
    callers.until_done(reader);
    let runs: Vec<_> = callers.host.control.recorded().iter().map(|run| run[0].tokens.len()).collect();
    assert_eq!(runs, [256; 4]);
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}
