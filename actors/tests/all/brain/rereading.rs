//! Windows that are read again behind a slide: the same answers as anybody gives who holds the same tokens, in pieces
//! beside others, and shared like any other context.

use motorbrain_actors::{
    brain::{BrainConfig, StepItem},
    engine::{EngineInfo, Sampling, Slides, Window},
    message::{Embed, Score, Step, Terms},
    vectors::{EmbeddingConfig, Pooling, Recipe},
};
use motorbrain_testing::{Fault, fake_info, fake_info_without_pages};

use super::{
    config, embed,
    sharing::{roomy, text, tokens},
    start_with, step, unshared, within,
};

fn recomputing(info: EngineInfo) -> EngineInfo {
    EngineInfo { window: Window { slides: Slides::Recompute, ..info.window }, ..info }
}

/// Answers of everything that reads or samples, over many slides, beside each other; not what somebody else had read.
async fn answers(actors: usize, info: EngineInfo) -> Vec<String> {
    let recipe = Recipe::Pooled(Pooling::Last);
    let embedding = EmbeddingConfig { recipe, ..EmbeddingConfig::default() };
    let bench = start_with(BrainConfig { embedding, ..config(actors) }, info).await;
    let brain = &bench.brain;
    let mut answers = Vec::new();
    for turn in 0..24 {
        let words = text(1 + 5 * turn % 23);
        let sampling = Sampling { temperature: 2.0, repetition_penalty: 1.5, ..Sampling::GREEDY };
        let drawn =
            |name| Step { sampling: sampling.clone(), seed: Some(turn as u64), top: 2, ..step(name, &words, 7) };
        let mut stream = brain.step_stream(drawn("streamed")).await.unwrap();
        let streamed = async {
            loop {
                if let StepItem::Stepped(stepped) = within(stream.next()).await.unwrap() {
                    return unshared(stepped);
                }
            }
        };
        let (streamed, stepped, scored, embedded) = tokio::join!(
            streamed,
            brain.step(drawn("stepped")),
            brain.score(Score::of("scored", words.as_str())),
            brain.embed(embed(Some("embedded"), &words))
        );
        let several = brain.several(Step { n: 3, ..drawn("several") }).await.unwrap();
        let chosen = Terms { choice: Some(turn % 3), ..Terms::default() };
        let kept = brain.score(Score { terms: chosen, ..Score::of("several", "KEPT") }).await.unwrap();
        let (stepped, scored, embedded) = (unshared(stepped.unwrap()), scored.unwrap(), embedded.unwrap());
        let lens = [several.context, kept.context, scored.context, embedded.context].map(|context| context.context_len);
        let choices = several.choices.into_iter().map(unshared).collect::<Vec<_>>();
        let scores = (scored.logprobs, kept.logprobs, embedded.embedding);
        answers.push(format!("{streamed:?} {stepped:?} {choices:?} {scores:?} {lens:?}"));
    }
    answers
}

#[tokio::test]
async fn whatever_is_asked_over_slides_is_answered_as_by_who_holds_the_same() {
    // The fake's answers are what its context's tokens say in any case.
    let expected = answers(1, fake_info()).await;
    for info in [fake_info(), fake_info_without_pages()] {
        for actors in [1, 2] {
            let found = answers(actors, recomputing(info.clone())).await;
            for (turn, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_eq!(found, expected, "turn {turn}, {actors} actors");
            }
        }
    }
}

#[tokio::test]
async fn what_stays_is_read_again_in_chunks_beside_others() {
    // 64 tokens, of which 16 leave and 46 behind the 2 that never do are read again, 8 at once.
    let bench = start_with(config(1), recomputing(roomy(64))).await;
    bench.brain.step(step("slides", &text(64), 0)).await.unwrap();
    bench.brain.step(step("other", "A", 0)).await.unwrap();
    // Its second run is held up until both are there.
    bench.control.fault_in_run(2, Fault::HANG);
    let _other = bench.brain.step_stream(step("other", "B", 50)).await.unwrap();
    within(bench.control.until(|tally| tally.hanging > 0)).await;
    let brain = bench.brain.clone();
    let slides = tokio::spawn(async move { brain.step(step("slides", "C", 1)).await });
    bench.until(|stats| stats.actors[0].queued == 2).await;
    bench.control.record();
    bench.control.release_hangs();
    within(slides).await.unwrap().unwrap();
    let runs = bench.control.recorded();
    let read: Vec<_> = runs.iter().flatten().map(|row| row.tokens.len()).filter(|len| *len > 0).collect();
    assert_eq!(read.iter().sum::<usize>(), 46 + 1, "{read:?}");
    assert!(read.iter().all(|len| *len <= 8), "{read:?}");
    let beside = runs.iter().filter(|rows| rows.len() == 2).count();
    assert!(beside >= 5, "the other one rides along: {runs:?}");
    assert_eq!(bench.brain.inspect("slides").await.unwrap().context_len, 64 - 16 + 2);
}

#[tokio::test]
async fn what_was_read_again_is_there_for_others() {
    let bench = start_with(config(1), recomputing(fake_info())).await;
    bench.brain.step(step("slid", &text(22), 0)).await.unwrap();
    let window = bench.brain.export("slid").await.unwrap().remove(0).history;
    assert!(window.has_slid() && window.left.is_empty(), "what has left is of no use");
    let input = Some(window.tokens.to_vec().into());
    let found = bench.brain.step(Step { input, ..step("other", "", 1) }).await.unwrap();
    assert_eq!(found.context.reused, window.tokens.len() - 1);
    // And the other way round: what stays behind a slide may be what others have read.
    let behind = [&tokens(&text(2))[..], &tokens(&text(17))[6..16]].concat();
    bench.brain.step(Step { input: Some(behind.into()), ..step("before", "", 1) }).await.unwrap();
    bench.brain.step(step("slides", &text(16), 1)).await.unwrap();
    bench.control.record();
    bench.brain.step(Step { input: None, ..step("slides", "", 1) }).await.unwrap();
    let read: usize = bench.control.recorded().iter().flatten().map(|row| row.tokens.len()).sum();
    assert!(read <= 1, "{read} tokens are read though others had read them");
}

#[tokio::test]
async fn a_vector_by_a_probe_leaves_a_full_window_as_it_was() {
    let bench = start_with(config(1), recomputing(fake_info())).await;
    for name in ["embeds", "does not"] {
        bench.brain.step(step(name, &text(16), 0)).await.unwrap();
    }
    let about = |name| Embed { conversation: Some(name), ..Embed::of("XY") };
    bench.brain.embed(about("embeds".into())).await.unwrap();
    bench.brain.step(step("does not", "XY", 0)).await.unwrap();
    let next = |name| step(name, "Z", 9);
    let [one, other] = [bench.brain.step(next("embeds")).await, bench.brain.step(next("does not")).await];
    assert_eq!(one.unwrap().logprobs, other.unwrap().logprobs);
}
