//! The worker without its actor, call by call: who begins when, who is named for what, what ends how.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use motorbrain_actors::{
    engine::{EngineInfo, Window},
    job::{Commit, Done, History, Holding, JobError, Report, RequestId, Work},
    message::{BrainError, Priority},
    text::{StepText, StopTexts},
    tokens::{EncodeError, Spelled, TokenId, Tokenizer, TokenizerKind},
};
use motorbrain_testing::{Fault, fake_info, fake_info_without_pages};

use super::{
    harness::{Reference, assert_equal, embed, outcome, score, step, stream, tokens},
    host::{Cost, Host, Used},
};

fn host(info: EngineInfo) -> Host {
    Host::new(info, 4, Cost::NOTHING)
}

/// A window that nothing here slides.
fn wide(info: EngineInfo) -> EngineInfo {
    EngineInfo { window: Window { size: 256, ..info.window }, ..info }
}

fn cleared(reports: &[Report]) -> Vec<RequestId> {
    let of = |report: &Report| if let Report::Cleared { request } = report { Some(*request) } else { None };
    reports.iter().filter_map(of).collect()
}

fn ended(reports: Vec<Report>) -> Vec<Done> {
    reports.into_iter().filter_map(|report| if let Report::Done(done) = report { Some(done) } else { None }).collect()
}

#[test]
fn lanes_begin_when_they_ride_and_not_when_they_arrive() {
    let mut host = host(wide(fake_info_without_pages()));
    let sent: Vec<_> =
        (0..10).map(|index| host.send("a", Some(&index.to_string()), score(tokens(index, 40)))).collect();
    assert!(host.uses().is_empty(), "the engine is not touched");
    host.run();
    assert_eq!(host.calls(), ["open", "run"], "one fills a chunk of four");
    for request in &sent[1..] {
        host.cancel(*request);
    }
    let stepper = host.send("a", Some("stepper"), step(tokens(1, 2), 1));
    host.cancel(stepper);
    host.drain();
    assert!(!host.calls().contains(&"open"), "whoever left before has cost nothing");
}

#[test]
fn a_job_that_needs_no_run_ends_when_it_arrives() {
    let mut host = host(fake_info());
    host.send("a", Some("a"), Work::Forget);
    host.send("a", Some("a"), step(vec![], 0));
    assert!(!host.worker.has_work());
    let done = ended(host.reports());
    assert!(done[0].outcome.is_ok());
    assert!(matches!(done[1].outcome, Err(JobError::Failed(BrainError::EmptyInput { .. }))));
    assert!(host.uses().is_empty());
}

#[test]
fn a_job_is_cancelled_wherever_it_stands_in_its_conversation() {
    for index in 0..3 {
        let mut host = host(wide(fake_info_without_pages()));
        let works = [step(tokens(1, 9), 2), step(tokens(20, 9), 2), step(tokens(40, 9), 2)];
        // One after the other in one lane, so each job's context is what the owner knows when it sends it: nothing.
        let sent: Vec<_> = works.iter().map(|work| host.send("a", Some("a"), work.clone())).collect();
        host.run();
        host.cancel(sent[index]);
        let done = ended(host.reports());
        assert_eq!((done.len(), done[0].request, done[0].outcome.clone()), (1, sent[index], Err(JobError::Cancelled)));
        host.cancel(sent[index]);
        host.cancel(RequestId(99));
        let others: Vec<_> = ended(host.drain()).into_iter().map(|done| (done.request, done.outcome.is_ok())).collect();
        let expected: Vec<_> =
            sent.iter().filter(|request| **request != sent[index]).map(|&request| (request, true)).collect();
        assert_eq!(others, expected, "in their order");
    }
}

#[test]
fn whoever_is_suspect_is_alone_for_so_many_runs_and_is_then_cleared() {
    for pages in [fake_info(), fake_info_without_pages()] {
        let mut host = host(wide(pages));
        let mut job = host.job("a", Some("suspect"), step(tokens(1, 7), 6));
        job.alone = 3;
        let suspect = host.send_job(job);
        let others: Vec<_> =
            (0..2).map(|index| host.send("b", Some(&index.to_string()), step(tokens(40, 3), 20))).collect();
        // Its runs and theirs take turns; the third is the first of its samples.
        let mut seen = Vec::new();
        for _ in 0..6 {
            host.run();
            seen.push(cleared(&host.reports()));
        }
        assert_eq!(
            seen,
            [vec![], vec![], vec![], vec![], vec![], vec![suspect]],
            "those who need not die with it come first"
        );
        let widths: Vec<_> = host.control.recorded().iter().map(Vec::len).collect();
        assert_eq!(widths, [2, 1, 2, 1, 2, 1], "and take turns");
        host.run();
        assert_eq!(host.control.recorded().last().map(Vec::len), Some(3), "then it joins the others");
        let done = ended(host.drain());
        assert!(others.iter().chain([&suspect]).all(|request| done.iter().any(|done| done.request == *request)));
        for (alone, runs) in [(6, 0), (5, 1)] {
            // Two runs read, the second samples, too: six in all and more.
            let mut job = host.job("a", Some("short"), step(tokens(1, 7), 5));
            job.alone = alone;
            host.send_job(job);
            let found = cleared(&host.drain()).len();
            assert_eq!(found, runs, "nothing is said where the job ends before");
        }
    }
}

#[test]
fn the_pulse_names_for_whom_the_engine_is_used() {
    let used = |call, requests: &[RequestId]| Used { call, pulse: Some(requests.to_vec()) };
    // Without pages: open, run, rewind behind a cancelled job, and close.
    let mut host = host(wide(fake_info_without_pages()));
    let first = host.send("a", Some("a"), step(tokens(1, 3), 1));
    host.done(first);
    assert_eq!(host.uses(), [used("open", &[first]), used("run", &[first]), used("take_held", &[first])]);
    let second = host.send("a", Some("a"), step(tokens(1, 9), 1));
    host.run();
    host.cancel(second);
    assert_eq!(host.uses(), [used("run", &[second]), used("rewind", &[second])]);
    let forget = host.send("a", Some("a"), Work::Forget);
    assert_eq!(host.uses(), [used("close", &[forget])]);
    assert!(host.pulse.running().is_none());
    // With pages: what became of them is asked, and slots are closed, within the run that ends a job.
    let mut host = self::host(wide(fake_info()));
    let (a, b) = (host.send("a", Some("a"), step(tokens(1, 3), 1)), host.send("a", Some("b"), step(tokens(9, 3), 2)));
    host.run();
    let both = [a, b];
    let expected =
        [used("open", &[a]), used("open", &[b]), used("run", &both), used("take_held", &both), used("close", &both)];
    assert_eq!(host.uses(), expected);
    host.reports();
    let again = host.send("a", Some("a"), step(vec![], 9));
    host.run();
    host.uses();
    host.worker.recall(&[again]).unwrap();
    assert_eq!(host.uses(), [used("take_held", &[again]), used("close", &[again])]);
}

#[test]
fn what_is_wrong_about_a_runs_outputs_is_charged_like_the_run() {
    let mut host = host(wide(fake_info()));
    let sent = [host.send("a", Some("a"), step(tokens(1, 3), 4)), host.send("a", Some("b"), step(tokens(1, 3), 4))];
    host.lies.store(true, Ordering::Release);
    catch_unwind(AssertUnwindSafe(|| host.run())).unwrap_err();
    assert_eq!(host.pulse.running().unwrap().requests, sent);
}

#[test]
fn a_fatal_error_leaves_in_the_pulse_who_was_in_it() {
    let mut host = host(wide(fake_info()));
    host.control.fault_in_run(2, Fault::FATAL);
    let request = host.send("a", Some("a"), step(tokens(1, 3), 4));
    host.run();
    host.worker.run().unwrap_err();
    assert_eq!(host.pulse.running().unwrap().requests, [request]);
}

/// Panics at a token.
struct Panics(TokenId);

impl Tokenizer for Panics {
    fn encode_behind(&self, _: Spelled<'_>, _: Option<TokenId>) -> Result<Vec<TokenId>, EncodeError> {
        Ok(Vec::new())
    }

    fn append(&self, _: &[TokenId], tokens: &[TokenId], _: &mut Vec<u8>) {
        assert!(!tokens.contains(&self.0), "this tokenizer panics");
    }

    fn kind(&self) -> TokenizerKind {
        TokenizerKind::Bytes
    }
}

#[test]
fn a_tokenizer_that_panics_fails_its_step_and_nothing_else() {
    let work = step(tokens(1, 3), 6);
    let mut host = host(wide(fake_info()));
    let plain = host.send("a", Some("plain"), work.clone());
    let done = host.done(plain);
    let motorbrain_actors::job::Outcome::Stepped { sampled, .. } = outcome(&done) else { panic!("a step steps") };
    let panics = Arc::new(Panics(sampled[2].token));
    let before = sampled.iter().position(|sampled| sampled.token == panics.0).unwrap();
    for streams in [false, true] {
        let name = format!("bad {streams}");
        let mut job = host.job("a", Some(&name), if streams { stream(tokens(1, 3), 6) } else { work.clone() });
        job.text = Some(StepText::behind([], StopTexts::new(&["never".to_owned()]).unwrap(), panics.clone()));
        let bad = host.send_job(job);
        let good = host.send("b", Some("good"), step(tokens(9, 3), 8));
        let reports = host.drain();
        let shown = reports.iter().filter(|report| matches!(report, Report::Token { .. })).count();
        assert_eq!(shown, if streams { before } else { 0 });
        let done = ended(reports);
        let of = |request| done.iter().find(|done| done.request == request).unwrap();
        let error = of(bad).outcome.clone().unwrap_err();
        assert!(matches!(error, JobError::Failed(BrainError::Engine { message }) if message.contains("tokenizer")));
        assert!(of(good).outcome.is_ok());
    }
}

/// The job reads what another did not finish reading, and answers as if it had not begun before.
fn goes_on(host: &mut Host, conversation: &str, work: &Work, read: usize, past: &[TokenId]) {
    host.control.record();
    let request = host.send("a", Some(conversation), work.clone());
    let done = host.done(request);
    assert_equal(outcome(&done), &Reference::after(past, host.info()).answer(work));
    let found: usize = host.control.recorded().iter().flatten().map(|row| row.tokens.len()).sum();
    assert_eq!(found, read);
}

#[test]
fn what_a_cancelled_job_has_read_lies_in_pages_for_whoever_reads_the_same() {
    let (mut host, past) = (host(wide(fake_info())), tokens(50, 10));
    for (streams, runs, kept) in [(false, 2, 8), (false, 5, 20), (true, 6, 22)] {
        let name = format!("{streams} {runs}");
        let first = host.send("a", Some(&name), score(past.clone()));
        host.done(first);
        let before = host.held[&name.as_str().into()].clone();
        let input = tokens(1, 20);
        let work = if streams { stream(input.clone(), 9) } else { step(input.clone(), 9) };
        let cancelled = host.send("a", Some(&name), work.clone());
        (0..runs).for_each(|_| host.run());
        let shown = host.reports().len();
        host.cancel(cancelled);
        let Done { commit, read, lost, .. } = host.done(cancelled);
        assert_eq!((commit, lost), (Commit::default(), false));
        if streams {
            // All that it had read or sampled is committed: its first tokens were shown.
            assert_eq!((shown, read.is_none()), (2, true));
            continue;
        }
        let read = read.unwrap();
        let held = read.held.clone().unwrap();
        assert_eq!((held.kv_len, read.dropped), (10 + kept, 0));
        assert_eq!(read.appended[..kept], input[..kept], "{runs} runs of a chunk of four");
        // The owner gives them to whoever reads the same: at least one token is left to read.
        let Holding::Pages(mut resident) = before else { panic!("pages") };
        resident.apply(read.held);
        resident.truncate(resident.kv_len.min(10 + 19), 4);
        host.held.insert(name.as_str().into(), Holding::Pages(resident));
        goes_on(&mut host, &name, &work, 20 - kept.min(19), &past);
    }
}

#[test]
fn what_a_cancelled_job_has_read_again_lies_in_pages_too() {
    let (mut host, past) = (host(wide(fake_info())), tokens(1, 30));
    host.histories.insert("a".into(), History { tokens: Arc::new(past.clone()), total: 30, ..History::default() });
    host.held.insert("a".into(), Holding::Pages(Default::default()));
    let cancelled = host.send("a", Some("a"), step(vec![TokenId(7)], 3));
    (0..3).for_each(|_| host.run());
    host.cancel(cancelled);
    let read = host.done(cancelled).read.unwrap();
    assert!(read.appended.is_empty());
    let mut resident = Default::default();
    let Commit { held, .. } = read;
    motorbrain_actors::engine::Resident::apply(&mut resident, held);
    assert_eq!(resident.kv_len, 12);
    host.held.insert("a".into(), Holding::Pages(resident));
    goes_on(&mut host, "a", &step(vec![TokenId(7)], 3), 30 - 12 + 1, &past);
}

#[test]
fn a_job_that_is_given_back_takes_along_what_was_read_again() {
    let (mut host, past) = (host(wide(fake_info())), tokens(1, 30));
    host.histories.insert("a".into(), History { tokens: Arc::new(past.clone()), total: 30, ..History::default() });
    host.held.insert("a".into(), Holding::Pages(Default::default()));
    let work = step(vec![TokenId(7)], 3);
    let job = host.job("a", Some("a"), work.clone());
    let request = host.send_job(job.clone());
    (0..3).for_each(|_| host.run());
    host.worker.recall(&[request]).unwrap();
    host.check();
    let Some(Report::Returned { carried, .. }) = host.reports().pop() else { panic!("given back") };
    assert!(!host.worker.has_work());
    host.control.record();
    host.send_job(motorbrain_actors::job::Job { carried: Some(carried), ..job });
    let done = host.done(request);
    assert_equal(outcome(&done), &Reference::after(&past, host.info()).answer(&work));
    let read: usize = host.control.recorded().iter().flatten().map(|row| row.tokens.len()).sum();
    assert_eq!(read, 30 - 12 + 1);
}

#[test]
fn whoever_goes_on_says_that_a_window_was_rebuilt_however_little_was_left_of_it() {
    for (len, total) in [(12, 90), (13, 90), (14, 90), (13, 13)] {
        let (mut host, past) = (host(wide(fake_info())), tokens(1, len));
        let history = History { tokens: Arc::new(past), total, ..History::default() };
        host.histories.insert("a".into(), history);
        host.held.insert("a".into(), Holding::Pages(Default::default()));
        let job = host.job("a", Some("a"), step(vec![TokenId(7)], 3));
        let request = host.send_job(job.clone());
        (0..3).for_each(|_| host.run());
        host.worker.recall(&[request]).unwrap();
        let Some(Report::Returned { carried, .. }) = host.reports().pop() else { panic!("given back") };
        host.send_job(motorbrain_actors::job::Job { carried: Some(carried), ..job });
        assert_eq!(host.done(request).rebuilt, total > u64::from(len), "{len} of {total}");
    }
}

/// What was read of a context that slides while it is read again is no beginning of it, and nobody else could go on.
#[test]
fn a_job_whose_context_slides_on_its_way_is_not_given_back() {
    let [undisturbed, asked_for] = [false, true].map(|is_asked_for| {
        let mut host = host(fake_info());
        let first = host.send("a", Some("a"), step(tokens(1, 61), 2));
        host.done(first);
        assert!(host.histories[&"a".into()].has_slid());
        host.held.insert("a".into(), Holding::Pages(Default::default()));
        let request = host.send("a", Some("a"), step(vec![TokenId(7)], 5));
        if is_asked_for {
            (0..3).for_each(|_| host.run());
            host.worker.recall(&[request]).unwrap();
            assert!(host.reports().is_empty());
        }
        let done = host.done(request);
        assert!(!done.rebuilt);
        outcome(&done).clone()
    });
    assert_equal(&asked_for, &undisturbed);
}

#[test]
fn without_pages_the_next_job_goes_on_from_what_was_read_again() {
    for (total, changed) in [(30, false), (90, false), (30, true)] {
        let (mut host, mut past) = (host(wide(fake_info_without_pages())), tokens(1, 30));
        let history = |tokens: &[TokenId]| History { tokens: Arc::new(tokens.to_vec()), total, ..History::default() };
        host.histories.insert("a".into(), history(&past));
        let cancelled = host.send("a", Some("a"), score(vec![TokenId(7)]));
        (0..3).for_each(|_| host.run());
        host.cancel(cancelled);
        let done = host.done(cancelled);
        assert_eq!((done.lost, done.rebuilt, done.read), (false, false, None));
        if changed {
            // Its owner has rewound it and gone on otherwise, so what the slot holds is no beginning of it.
            past = tokens(3, 30);
            host.histories.insert("a".into(), history(&past));
        }
        host.held.insert("a".into(), Holding::Slot);
        let read = if changed { 30 } else { 30 - 12 };
        host.control.record();
        let job = host.send("a", Some("a"), score(vec![TokenId(7)]));
        let done = host.done(job);
        assert_eq!(done.rebuilt, total > 30);
        assert_equal(outcome(&done), &Reference::after(&past, host.info()).answer(&score(vec![TokenId(7)])));
        let found: usize = host.control.recorded().iter().flatten().map(|row| row.tokens.len()).sum();
        assert_eq!(found, read + 1);
    }
}

#[test]
fn the_least_served_client_rides_first_whatever_others_have_waiting() {
    let mut host = host(wide(fake_info()));
    for index in 0..50_u32 {
        host.send("many", Some(&index.to_string()), score(tokens(index, 40)));
    }
    let mut later = host.job("later", Some("later"), score(tokens(9, 40)));
    later.party.priority = Priority::Background;
    let (later, one) = (host.send_job(later), host.send("one", Some("one"), score(tokens(9, 40))));
    let (mut runs, mut ends) = (0, [0, 0]);
    while ends.contains(&0) {
        host.run();
        runs += 1;
        for done in ended(host.reports()) {
            ends[0] += if done.request == one { runs } else { 0 };
            ends[1] += if done.request == later { runs } else { 0 };
        }
    }
    assert!((19..=24).contains(&ends[0]), "ten chunks, and as many for the others: {ends:?}");
    assert!((150..=180).contains(&ends[1]), "ten chunks, and 16 for the others to each: {ends:?}");
}

/// Not a figure: a run that looked at everybody who waits would be a hundred times as long.
#[test]
#[expect(clippy::disallowed_methods, reason = "a ratio of two times")]
fn a_run_costs_what_rides_however_many_wait() {
    let runs = |waiting: u32| {
        let mut host = host(wide(fake_info()));
        for index in 0..waiting {
            host.send(&(index % 100).to_string(), Some(&index.to_string()), embed(tokens(index, 100)));
        }
        (0..20).for_each(|_| host.run());
        let began = Instant::now();
        (0..100).for_each(|_| host.run());
        began.elapsed()
    };
    let best = |waiting| (0..3).map(|_| runs(waiting)).min().unwrap();
    let (few, many) = (best(100), best(10_000));
    assert!(many < 15 * few, "{few:?} with 100 waiting, {many:?} with 10,000");
}
