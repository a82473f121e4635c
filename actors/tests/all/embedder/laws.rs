//! The law of the actor, on generated jobs and faults: every job that succeeds answers as if it and
//! those before it in its conversation had run alone, token by token, and the others had never been.

use std::collections::BTreeMap;

use motorbrain_actors::{
    job::{Done, Job, JobError, Outcome, Report, RequestId, Work},
    message::BrainError,
    tokens::TokenId,
};
use motorbrain_testing::{Fault, fake_info, fake_info_without_pages};
use proptest::prelude::*;

use super::{
    harness::{Bench, Reference, assert_equal, cut, embed, score, spelling, step, stream, tokens},
    host::{Cost, Host},
};

/// Outside the vocabulary, so that no step samples it: a history never holds it.
const OUTSIDE: TokenId = TokenId(64);

#[derive(Clone, Debug)]
struct Case {
    conversation: Option<u8>,
    work: Work,
    poisoned: bool,
    cancelled: bool,
    alone: u32,
}

fn cases() -> impl Strategy<Value = Vec<Case>> {
    let text = (0_u32..60, 1_u32..30).prop_map(|(first, count)| {
        tokens(first, count).into_iter().map(|token| TokenId(token.0 % 60)).collect::<Vec<_>>()
    });
    let work = prop_oneof![
        text.clone().prop_map(embed),
        text.clone().prop_map(score),
        (text.clone(), 0_usize..12).prop_map(|(text, count)| step(text, count)),
        (1_usize..12).prop_map(|count| step(vec![], count)),
        (text.clone(), 1_usize..12).prop_map(|(text, count)| stream(text, count)),
        (text.clone(), 1_usize..12, 0_u64..50).prop_map(|(text, count, seed)| spelling(step(text, count), seed)),
        (text, 1_usize..12, 0_u64..50).prop_map(|(text, count, seed)| spelling(stream(text, count), seed)),
        Just(Work::Forget),
    ];
    let often = prop::bool::weighted(0.2);
    let case = (
        prop::option::weighted(0.9, 0_u8..3),
        work,
        often,
        prop::bool::weighted(0.1),
        prop_oneof![3 => Just(0), 1 => 1_u32..5],
    )
        .prop_map(|(conversation, work, poisoned, cancelled, alone)| Case {
            conversation,
            work,
            poisoned,
            cancelled,
            alone,
        });
    prop::collection::vec(case, 1..16)
}

/// The work with a token at the end of its input that the engine refuses, where it has an input.
fn poison(work: &Work) -> Work {
    let mut work = work.clone();
    if let Work::Embed { tokens, .. } | Work::Step { tokens, .. } | Work::Score { tokens, .. } = &mut work {
        std::sync::Arc::make_mut(tokens).push(OUTSIDE);
    }
    work
}

async fn check(cases: Vec<Case>, chunk: usize, blamed: bool, interrupts: Vec<u64>) {
    let mut bench = Bench::held(chunk).await;
    let kind = motorbrain_actors::engine::EngineErrorKind::Rejected;
    bench.control.fault_on_token(OUTSIDE, Fault::Fail { kind, blamed });
    for run in interrupts {
        let kind = motorbrain_actors::engine::EngineErrorKind::Interrupted;
        bench.control.fault_in_run(run, Fault::Fail { kind, blamed: false });
    }
    let sent: Vec<_> = cases
        .iter()
        .map(|case| {
            let name = case.conversation.map(|index| index.to_string());
            let work = if case.poisoned { poison(&case.work) } else { case.work.clone() };
            let mut job = bench.job(name.as_deref(), work);
            job.alone = case.alone;
            if case.cancelled { bench.send_cancelled(job) } else { bench.send_job(job) }
        })
        .collect();
    bench.release();
    let mut references: BTreeMap<u8, Reference> = BTreeMap::new();
    for (case, request) in cases.iter().zip(sent) {
        let done = bench.done(request).await;
        let fresh = Reference::new(fake_info());
        let mut stateless = Reference::new(fake_info());
        let reference = match case.conversation {
            Some(index) => references.entry(index).or_insert(fresh),
            None => &mut stateless,
        };
        let forgets = matches!(case.work, Work::Forget);
        let has_input = !matches!(&case.work, Work::Step { tokens, .. } if tokens.is_empty());
        match done.outcome {
            Ok(outcome) => {
                // One that is cancelled may be done before its actor hears of it.
                assert!(forgets || !(case.poisoned && has_input));
                assert_equal(&outcome, &reference.answer(&case.work));
                if !forgets {
                    assert_eq!(done.context_len, reference.context_len);
                }
                assert!(matches!(outcome, Outcome::Forgotten) == forgets);
            }
            Err(JobError::Cancelled) => {
                assert!(case.cancelled);
                let shown = bench.shown.iter().filter(|(of, _)| *of == request).count();
                if shown > 0 {
                    reference.answer(&cut(&case.work, shown));
                }
            }
            Err(JobError::Failed(BrainError::EmptyInput { .. })) => {
                assert!(reference.total == 0 && !has_input && !case.poisoned);
            }
            Err(JobError::Failed(error)) => assert!(case.poisoned, "{error}"),
        }
    }
    assert_eq!(bench.ask("last", Work::Forget).await.outcome, Ok(Outcome::Forgotten), "still alive");
}

/// What is done to a conversation of a worker.
#[derive(Clone, Debug)]
enum Action {
    /// Its next job is sent, if it has none.
    Send { work: Work, alone: u32, background: bool },
    /// Nobody waits for its job any more.
    Cancel,
    /// Its job is called back, and sent again with what was done of it.
    Recall,
}

fn actions() -> impl Strategy<Value = Vec<(usize, Action, usize)>> {
    let work = cases().prop_map(|cases| cases[0].work.clone());
    let send = (work, prop_oneof![3 => Just(0), 1 => 1_u32..4], prop::bool::weighted(0.2))
        .prop_map(|(work, alone, background)| Action::Send { work, alone, background });
    let action = prop_oneof![4 => send, 1 => Just(Action::Cancel), 1 => Just(Action::Recall)];
    prop::collection::vec((0_usize..4, action, 0_usize..4), 1..60)
}

/// Conversations of a worker, a job each at most, as an owner has them.
struct Calls {
    host: Host,
    references: Vec<Reference>,
    /// Each one's job, and how many of its tokens were shown.
    out: Vec<Option<(Job, usize)>>,
}

impl Calls {
    fn call(&mut self, index: usize, action: Action) {
        match (&self.out[index], action) {
            (None, Action::Send { work, alone, background }) => {
                let name = index.to_string();
                let mut job = self.host.job(&format!("client {}", index / 2), Some(&name), work);
                job.alone = alone;
                if background {
                    job.party.priority = motorbrain_actors::message::Priority::Background;
                }
                self.out[index] = Some((job.clone(), 0));
                self.host.send_job(job);
            }
            (Some((job, _)), Action::Cancel) => self.host.cancel(job.request),
            (Some((job, _)), Action::Recall) => {
                let request = job.request;
                self.host.worker.recall(&[request, RequestId(u64::MAX)]).unwrap();
            }
            _ => {}
        }
        self.host.check();
        self.take_reports();
    }

    fn run(&mut self) {
        self.host.run();
        self.host.check();
        self.take_reports();
    }

    fn take_reports(&mut self) {
        for report in self.host.reports() {
            let of =
                |request| self.out.iter().position(|out| out.as_ref().is_some_and(|(job, _)| job.request == request));
            match report {
                Report::Token { request, forced, sampled, .. } => {
                    let index = of(request).expect("a token of a job that is out");
                    self.out[index].as_mut().unwrap().1 += forced.len() + sampled.iter().count();
                }
                Report::Done(done) => {
                    let index = of(done.request).expect("a job is done once");
                    let (job, shown) = self.out[index].take().unwrap();
                    check_done(&mut self.references[index], &job.work, shown, done);
                }
                Report::Returned { request, carried } => {
                    let index = of(request).expect("a job that is out is given back");
                    let (job, _) = self.out[index].clone().unwrap();
                    // What was committed meanwhile is in what the owner holds; what it began with goes on.
                    let history =
                        self.host.histories.get(job.conversation.as_ref().unwrap()).cloned().unwrap_or_default();
                    let held =
                        self.host.held.get(job.conversation.as_ref().unwrap()).cloned().unwrap_or(job.held.clone());
                    self.host.send_job(Job { carried: Some(carried), context: history, held, ..job });
                }
                _ => {}
            }
        }
    }
}

fn check_done(reference: &mut Reference, work: &Work, shown: usize, done: Done) {
    match (done.outcome, work) {
        (Ok(outcome), work) => {
            assert_equal(&outcome, &reference.answer(work));
        }
        (Err(JobError::Cancelled), work) if shown > 0 => {
            reference.answer(&cut(work, shown));
        }
        (Err(JobError::Cancelled), _) => {}
        (Err(JobError::Failed(BrainError::EmptyInput { .. })), _) => assert_eq!(reference.total, 0),
        (Err(error), _) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn whatever_shares_its_runs_a_conversation_answers_as_if_alone(
        cases in cases(),
        chunk in 1_usize..20,
        blamed in any::<bool>(),
        interrupts in prop::collection::vec(1_u64..40, 0..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(cases, chunk, blamed, interrupts));
    }

    /// Whatever is sent, cancelled and called back when, answers are those of conversations alone, each job ends once,
    /// and nothing is left behind.
    #[test]
    fn whatever_is_called_when_a_worker_ends_each_job_once_and_leaves_nothing_behind(
        actions in actions(),
        chunk in 1_usize..20,
        pages in any::<bool>(),
    ) {
        let info = if pages { fake_info() } else { fake_info_without_pages() };
        let references = (0..4).map(|_| Reference::new(info.clone())).collect();
        let mut calls = Calls { host: Host::new(info, chunk, Cost::NOTHING), references, out: vec![None; 4] };
        for (index, action, runs) in actions {
            calls.call(index, action);
            (0..runs).for_each(|_| calls.run());
        }
        while calls.host.worker.has_work() {
            calls.run();
        }
        prop_assert!(calls.out.iter().all(Option::is_none), "every job is done");
    }
}
