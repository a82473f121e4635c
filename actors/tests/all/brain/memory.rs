//! Keys and values within their bounds: who leaves, who comes back as if nothing had been, and what never fits.

use std::{sync::Arc, time::Duration};

use motorbrain_actors::{
    brain::Brain,
    engine::{EngineInfo, Slides, Window},
    job::History,
    keep::{Keep, Kept},
    message::{BrainError, ErrorCode, Fork, Import, Score, Step, Stepped},
    tokens::TokenId,
};
use motorbrain_testing::{FakeKeep, fake_info, fake_info_without_pages};

use super::{Bench, Letters, config, loader, start_with, step, within};

/// Bytes of a full conversation's keys and values.
fn full(info: &EngineInfo) -> usize {
    match info.pages {
        Some(page) => info.window.size.div_ceil(page.tokens) * page.bytes,
        None => info.window.size * info.kv_bytes_per_token,
    }
}

/// A brain with memory for so many full conversations.
async fn room_for(count: usize, info: EngineInfo) -> Bench {
    let mut config = config(1);
    config.memory.kv_bytes = count * full(&info);
    start_with(config, info).await
}

/// What an answer says, but for what was read for it.
fn said(stepped: Stepped) -> (Vec<motorbrain_actors::tokens::TokenId>, Vec<f32>, usize, bool) {
    let context = stepped.context;
    (stepped.token_ids, stepped.logprobs, context.context_len, context.rebuilt)
}

/// What becomes of files.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Files {
    No,
    Well,
    /// Each third visit all that are there are altered; each fourth there is no room for more.
    Ill,
}

#[tokio::test]
async fn many_conversations_answer_in_little_memory_as_they_would_in_much() {
    let cases = [
        (fake_info(), Files::No),
        (fake_info(), Files::Well),
        (fake_info(), Files::Ill),
        (fake_info_without_pages(), Files::No),
    ];
    for (info, files) in cases {
        let (loader, control) = loader(info.clone());
        let keep = FakeKeep::new(loader.clone(), info.pages.map_or(1, |page| page.tokens));
        let mut config_of_little = config(1);
        config_of_little.memory.kv_bytes = 3 * full(&info);
        config_of_little.keep = (files != Files::No).then(|| Arc::new(keep.clone()) as Arc<dyn Keep>);
        let little = Bench { brain: Brain::start(config_of_little, loader, Arc::new(Letters)).await.unwrap(), control };
        let much = start_with(config(1), info.clone()).await;
        let (mut most, mut kept) = (0, 0);
        for visit in 0..200_usize {
            if files == Files::Ill {
                keep.fill(visit % 4 == 0);
                if visit % 3 == 0 {
                    keep.alter();
                }
            }
            kept = kept.max(keep.len());
            // Any order will do in which all are away for long.
            let name = format!("{}", visit * 7 % 20);
            let text = &"HELLO, WORLD AND ALL"[..1 + visit % 13];
            let [here, there] = [&little, &much].map(|bench| bench.brain.step(step(&name, text, visit % 4)));
            assert_eq!(said(here.await.unwrap()), said(there.await.unwrap()), "visit {visit}");
            most = most.max(little.brain.stats().await.unwrap().kv_bytes);
        }
        // What a job adds is seen when it says so.
        assert!(most <= 4 * full(&info), "{most} bytes, a conversation has {}", full(&info));
        assert!(much.brain.stats().await.unwrap().kv_bytes > 10 * full(&info));
        for name in 0..20 {
            little.brain.close(format!("{name}")).await.expect("all are known");
        }
        assert_eq!(kept > 5, files != Files::No, "{kept} in files");
        // Of what was closed no file is left.
        within(async {
            while !keep.is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn who_was_used_last_stays() {
    let bench = room_for(3, fake_info()).await;
    for name in ["A", "B", "C", "A", "D"] {
        // Nobody shares anything.
        bench.brain.step(step(name, &format!("{name} HELLO, ALL"), 1)).await.unwrap();
    }
    bench.control.record();
    bench.brain.step(step("A", "C", 1)).await.unwrap();
    let read = |control: &motorbrain_testing::FakeControl| -> usize {
        control.recorded().iter().flatten().map(|row| row.tokens.len()).sum()
    };
    assert_eq!(read(&bench.control), 1, "it was there");
    bench.control.record();
    bench.brain.step(step("B", "C", 1)).await.unwrap();
    assert!(read(&bench.control) > 1, "it was not");
}

#[tokio::test]
async fn what_a_fork_shares_stays_while_one_of_them_is_here() {
    let bench = room_for(2, fake_info()).await;
    bench.brain.step(step("a", "HELLO, WORLD", 0)).await.unwrap();
    bench.brain.fork(Fork { from: "a".into(), to: "b".into(), at: None, choice: None }).await.unwrap();
    bench.brain.step(step("b", "C", 1)).await.unwrap();
    // `a` leaves for it, and what it has in common with `b` does not.
    bench.brain.step(step("c", "OTHER WORDS", 1)).await.unwrap();
    bench.control.record();
    bench.brain.step(step("a", "D", 1)).await.unwrap();
    let read: usize = bench.control.recorded().iter().flatten().map(|row| row.tokens.len()).sum();
    assert!(read < 5, "{read} tokens are read, 12 are known to `b`");
}

#[tokio::test]
async fn what_never_fits_is_too_large_before_anything_is_read() {
    let info = fake_info();
    let mut config = config(1);
    config.memory.kv_bytes = full(&info) / 2;
    let bench = start_with(config, info).await;
    for count in [16, usize::from(u16::MAX)] {
        let error = bench.brain.step(step("a", "HELLO", count)).await.unwrap_err();
        let BrainError::TooLarge { needed, limit } = error else { panic!("{error:?}") };
        assert!(needed > limit);
    }
    assert_eq!(bench.brain.score(Score::of("a", "X".repeat(40))).await.unwrap_err().code(), ErrorCode::TooLarge);
    assert_eq!(bench.control.tally().runs, 0);
    bench.brain.step(step("a", "HI", 1)).await.unwrap();
}

#[tokio::test]
async fn jobs_wait_while_others_take_the_memory_that_they_need() {
    let bench = room_for(2, fake_info()).await;
    let asked = (0..12).map(|name| {
        let brain = bench.brain.clone();
        tokio::spawn(async move { brain.step(step(&format!("{name}"), "HELLO, WORLD", 30)).await })
    });
    for asked in asked.collect::<Vec<_>>() {
        asked.await.unwrap().unwrap();
        let held = bench.brain.stats().await.unwrap().kv_bytes;
        // A slide goes into a copy.
        assert!(held <= 2 * 2 * full(&fake_info()), "{held}");
    }
}

#[tokio::test]
async fn who_is_idle_for_too_long_is_forgotten() {
    let mut config = config(1);
    config.memory.idle_max = Some(Duration::from_millis(30));
    let bench = start_with(config, fake_info()).await;
    bench.brain.step(step("a", "HELLO", 1)).await.unwrap();
    bench.until(|stats| stats.cached_bytes > 0).await;
    assert_eq!(bench.brain.close("a").await.unwrap_err().code(), ErrorCode::UnknownConversation);
}

#[tokio::test]
async fn tokens_of_those_who_left_are_bounded_too() {
    let info = fake_info();
    let mut config = config(1);
    (config.memory.kv_bytes, config.memory.history_bytes) = (full(&info), 10 * 1200);
    let bench = start_with(config, info).await;
    for name in 0..100 {
        bench.brain.step(step(&format!("{name}"), &format!("{name} HELLO"), 1)).await.unwrap();
    }
    let mut known = 0;
    for name in 0..100 {
        known += usize::from(bench.brain.close(format!("{name}")).await.is_ok());
    }
    assert!((5..20).contains(&known), "{known} are known");
}

#[tokio::test]
async fn what_is_exported_goes_on_elsewhere_under_any_name() {
    for info in [fake_info(), fake_info_without_pages()] {
        let bench = start_with(config(2), info.clone()).await;
        for (from, text, several) in
            [("short", "HELLO", false), ("slid", "HELLO, WORLD AND ALL", false), ("chosen", "HI", true)]
        {
            bench.brain.step(step(from, text, 2)).await.unwrap();
            if several {
                let sampling = motorbrain_actors::engine::Sampling { temperature: 1.0, ..step(from, "", 0).sampling };
                bench.brain.several(Step { n: 3, sampling, ..step(from, "A", 2) }).await.unwrap();
            }
            let states = bench.brain.export(from).await.unwrap();
            assert_eq!(states.len(), if several { 4 } else { 1 });
            let to = format!("{from}, again");
            let context = bench.brain.import(Import { conversation: to.as_str().into(), states: states.clone() }).await;
            assert_eq!(context.unwrap().context_len, states[0].history.tokens.len());
            let again = Import { conversation: to.as_str().into(), states };
            assert_eq!(bench.brain.import(again).await.unwrap_err().code(), ErrorCode::ConversationExists);
            let terms = motorbrain_actors::message::Terms { choice: several.then_some(2), ..Default::default() };
            let [one, other] = [from, &to].map(|name| Step { terms: terms.clone(), ..step(name, "MORE", 9) });
            assert_eq!(said(bench.brain.step(one).await.unwrap()), said(bench.brain.step(other).await.unwrap()));
        }
        assert_eq!(bench.brain.export("nobody").await.unwrap_err().code(), ErrorCode::UnknownConversation);
        let mut kept = bench.brain.export("short").await.unwrap();
        Arc::make_mut(&mut kept[0].history.tokens)[1] = motorbrain_actors::tokens::TokenId(info.vocab as u32);
        for states in [Vec::new(), kept] {
            let error = bench.brain.import(Import { conversation: "bad".into(), states }).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::BadRequest);
        }
    }
}

#[tokio::test]
async fn what_was_imported_is_not_given_to_others() {
    let bench = start_with(config(1), fake_info()).await;
    let text = "HELLO, WORLD";
    bench.brain.step(step("a", text, 1)).await.unwrap();
    let states = bench.brain.export("a").await.unwrap();
    bench.brain.close("a").await.unwrap();
    let other = start_with(config(1), fake_info()).await;
    // Tokens alone, as another model's would be.
    let states = states.into_iter().map(|kept| Kept { resident: Default::default(), ..kept }).collect();
    other.brain.import(Import { conversation: "b".into(), states }).await.unwrap();
    other.brain.step(step("b", "C", 1)).await.unwrap();
    assert_eq!(other.brain.step(step("c", text, 1)).await.unwrap().context.reused, 0);
}

#[tokio::test]
async fn an_imported_history_is_read_again_only_where_that_leads_to_it() {
    let bench = start_with(config(1), fake_info()).await;
    bench.brain.step(step("a", "HELLO, WORLD AND ALL OF YOU", 3)).await.unwrap();
    let kept = bench.brain.export("a").await.unwrap().remove(0);
    assert!(kept.history.has_slid() && !kept.history.left.is_empty());
    let tokens = |history| vec![Kept { history, floor: 0, resident: Default::default() }];
    let window = fake_info().window;
    let windows = [
        (window, false),
        (Window { slide: 7, ..window }, true),
        (Window { sinks: 0, ..window }, false),
        (Window { size: 20, ..window }, true),
        (Window { size: 64, ..window }, true),
        (Window { slides: Slides::Never, ..window }, true),
    ];
    for (window, rebuilt) in windows {
        let other = start_with(config(1), EngineInfo { window, ..fake_info() }).await;
        let states = tokens(kept.history.clone());
        other.brain.import(Import { conversation: "b".into(), states }).await.unwrap();
        let stepped = other.brain.step(step("b", "C", 1)).await.unwrap();
        assert_eq!(stepped.context.rebuilt, rebuilt, "{window:?}");
        assert_eq!(other.brain.stats().await.unwrap().actors[0].restarts, 0);
    }
    // As many as no conversation has had, and histories that no slide leaves.
    let History { tokens: held, .. } = kept.history.clone();
    for total in [u64::MAX, u64::MAX - 12, 3] {
        let states = tokens(History { tokens: Arc::clone(&held), total, ..History::default() });
        let error = bench.brain.import(Import { conversation: "b".into(), states }).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::BadRequest, "{total}");
    }
    for (len, left) in [(5, 7), (1, 1), (16, 1), (12, 9)] {
        let of = |count: u32| Arc::new((0..count).map(TokenId).collect::<Vec<_>>());
        let states =
            tokens(History { tokens: of(len), total: u64::from(len + left), left: of(left), ..History::default() });
        let name = format!("{len} behind {left}");
        bench.brain.import(Import { conversation: name.as_str().into(), states }).await.unwrap();
        bench.brain.step(step(&name, "C", 1)).await.unwrap();
    }
    assert_eq!(bench.brain.stats().await.unwrap().actors[0].restarts, 0);
}
