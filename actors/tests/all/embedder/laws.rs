//! The law of the actor, on generated jobs and faults: every job that succeeds answers as if it and
//! those before it in its conversation had run alone, token by token, and the others had never been.

use std::collections::BTreeMap;

use motorbrain_actors::{
    embedder::EmbeddingConfig,
    job::{JobError, Outcome, Work},
    message::BrainError,
    tokens::TokenId,
};
use motorbrain_testing::{Fault, fake_info};
use proptest::prelude::*;

use super::harness::{Bench, Reference, assert_equal, embed, score, step, stream, tokens};

/// Outside the vocabulary, so that no step samples it: a history never holds it.
const OUTSIDE: TokenId = TokenId(64);

#[derive(Clone, Debug)]
struct Case {
    conversation: Option<u8>,
    work: Work,
    poisoned: bool,
    cancelled: bool,
    alone: bool,
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
        (text, 1_usize..12).prop_map(|(text, count)| stream(text, count)),
        Just(Work::Forget),
    ];
    let often = prop::bool::weighted(0.2);
    let case = (prop::option::weighted(0.9, 0_u8..3), work, often, prop::bool::weighted(0.1), often).prop_map(
        |(conversation, work, poisoned, cancelled, alone)| Case { conversation, work, poisoned, cancelled, alone },
    );
    prop::collection::vec(case, 1..16)
}

/// The work with a token at the end of its input that the engine refuses, where it has an input.
fn poison(work: &Work) -> Work {
    let mut work = work.clone();
    if let Work::Embed { tokens } | Work::Step { tokens, .. } | Work::Score { tokens } = &mut work {
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
            if case.cancelled {
                job.cancel.cancel();
            }
            bench.send_job(job)
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
                assert!(forgets || !(case.cancelled || case.poisoned && has_input));
                assert_equal(&outcome, &reference.answer(&case.work, EmbeddingConfig::default()));
                if !forgets {
                    assert_eq!(done.context_len, reference.context_len);
                }
                assert!(matches!(outcome, Outcome::Forgotten) == forgets);
            }
            Err(JobError::Cancelled) => assert!(case.cancelled),
            Err(JobError::Failed(BrainError::EmptyInput { .. })) => {
                assert!(reference.total == 0 && !has_input && !case.poisoned);
            }
            Err(JobError::Failed(error)) => assert!(case.poisoned, "{error}"),
        }
    }
    assert_eq!(bench.ask("last", Work::Forget).await.outcome, Ok(Outcome::Forgotten), "still alive");
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
}
