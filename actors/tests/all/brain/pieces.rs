//! A vector for each piece of a text, in the context of all that stands before it.

use std::{sync::Arc, time::Duration};

use motorbrain_actors::{
    brain::{Brain, BrainConfig},
    engine::{EngineInfo, Slides, Window},
    message::{Embed, EmbeddedPieces, ErrorCode, Input, PIECE_TOKENS, Part, Pieces, Sharing, Step, Terms, VectorTerms},
    policy::Memory,
    vectors::{Codes, EmbeddingConfig, Format, MadeBy, Pooling, Recipe},
};
use motorbrain_testing::Fault;
use tokio::task::JoinSet;

use super::{
    embed,
    recipes::{PREFIX, PROBE, Reversed, code, last_of, made, probe, probing, scaled, wide},
    sharing::{roomy, text, tokens, tokens_read, until_pages},
    start_with, step, within,
};

fn each(tokens: usize) -> VectorTerms {
    VectorTerms { pieces: Pieces::Each { tokens }, ..VectorTerms::default() }
}

fn pieces_of(text: &str, tokens: usize) -> Embed {
    Embed { vector: each(tokens), ..Embed::of(text) }
}

fn pooled(pooling: Pooling) -> EmbeddingConfig {
    EmbeddingConfig { recipe: Recipe::Pooled(pooling), ..EmbeddingConfig::default() }
}

/// Vectors that a conversation gives which reads `before` and then one piece after the other.
async fn by_hand(brain: &Brain, before: &str, pieces: &[&str]) -> Vec<Vec<f32>> {
    let mut vectors = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let piece = if index == 0 { format!("{before}{piece}") } else { (*piece).to_owned() };
        vectors.push(brain.embed(embed(Some("by hand"), &piece)).await.unwrap().embedding);
    }
    if !pieces.is_empty() {
        brain.close("by hand").await.unwrap();
    }
    vectors
}

/// The pieces' texts, which cover the whole.
fn texts<'t>(words: &'t str, found: &EmbeddedPieces) -> Vec<&'t str> {
    let texts: Vec<&str> = found.pieces.iter().map(|piece| &words[piece.bytes.clone()]).collect();
    assert_eq!(texts.concat(), words);
    assert!(found.pieces.iter().zip(&texts).all(|(piece, text)| piece.tokens == text.len()), "a token a letter");
    texts
}

fn vectors(found: EmbeddedPieces) -> Vec<Vec<f32>> {
    found.pieces.into_iter().map(|piece| piece.embedding).collect()
}

/// Texts that fit the window of 64, with and without what stands around them, and texts that slide.
const LENGTHS: [usize; 9] = [1, 9, 10, 11, 40, 53, 54, 64, 200];

#[tokio::test]
async fn each_pieces_vector_is_that_of_a_conversation_that_reads_one_after_the_other() {
    for info in [roomy(64), EngineInfo { pages: None, ..roomy(64) }] {
        for (embedding, prefix) in [(probe(), PREFIX), (pooled(Pooling::Mean), ""), (pooled(Pooling::Last), "")] {
            let bench = start_with(made(embedding.clone()), info.clone()).await;
            for len in LENGTHS {
                for most in [1, 7, 10, 100] {
                    // By the probe that is more than a few runs.
                    if most == 1 && len > 20 {
                        continue;
                    }
                    let words = text(len);
                    let found = bench.brain.embed_pieces(pieces_of(&words, most)).await.unwrap();
                    let texts = texts(&words, &found);
                    assert!(texts.iter().all(|text| text.len() <= most), "{texts:?}");
                    assert!(texts.iter().rev().skip(1).all(|text| 4 * text.len() > 3 * most), "{texts:?}");
                    let expected = by_hand(&bench.brain, prefix, &texts).await;
                    assert_eq!(vectors(found), expected, "{len} by {most}, {embedding:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_short_text_is_one_piece_and_has_the_vector_that_it_has_as_a_whole() {
    for embedding in [probe(), pooled(Pooling::Mean)] {
        let bench = start_with(made(embedding), roomy(64)).await;
        let whole = bench.brain.embed(embed(None, "WORDS")).await.unwrap();
        let found = bench.brain.embed_pieces(Embed::of("WORDS")).await.unwrap();
        assert_eq!((found.pieces.len(), found.pieces[0].bytes.clone(), found.pieces[0].tokens), (1, 0..5, 5));
        assert_eq!((found.recipe, found.calibrated, found.tokens), (whole.recipe, whole.calibrated, 5));
        assert_eq!(found.context.context_len, whole.context.context_len);
        assert_eq!(vectors(found), [whole.embedding]);
    }
    assert_eq!(PIECE_TOKENS, 256);
}

#[tokio::test]
async fn each_token_is_read_once_and_a_probe_behind_each_piece() {
    for len in [1, 10, 11, 30, 50] {
        let bench = probing(roomy(128)).await;
        bench.control.record();
        let found = bench.brain.embed_pieces(pieces_of(&text(len), 10)).await.unwrap();
        let count = found.pieces.len();
        assert_eq!(found.recipe, MadeBy::Probe);
        assert_eq!(tokens_read(&bench.control), PREFIX.len() + len + count * PROBE.len(), "{len}");
        // The prefix is there for the next one.
        bench.control.record();
        let again = bench.brain.embed_pieces(pieces_of(&text(len), 10)).await.unwrap();
        assert_eq!(again.context.reused, PREFIX.len(), "{len}");
        assert_eq!(tokens_read(&bench.control), len + count * PROBE.len(), "{len}");
        assert_eq!(vectors(again), vectors(found));

        let bench = start_with(made(pooled(Pooling::Mean)), roomy(128)).await;
        bench.control.record();
        bench.brain.embed_pieces(pieces_of(&text(len), 10)).await.unwrap();
        assert_eq!(tokens_read(&bench.control), len, "{len}");
    }
}

#[tokio::test]
async fn a_text_that_slides_costs_what_a_conversation_does() {
    let bench = probing(roomy(64)).await;
    let words = text(300);
    bench.control.record();
    let found = bench.brain.embed_pieces(pieces_of(&words, 10)).await.unwrap();
    let read = tokens_read(&bench.control);
    assert_eq!(found.context.reused, 0);
    bench.control.record();
    by_hand(&bench.brain, PREFIX, &texts(&words, &found)).await;
    assert_eq!(read, tokens_read(&bench.control) + PREFIX.len());
}

#[tokio::test]
async fn each_vector_is_calibrated_cut_scaled_and_rounded() {
    let embedding = EmbeddingConfig { straighten: Some(Arc::new(Reversed)), ..probe() };
    let bench = start_with(made(embedding), wide()).await;
    let words = text(35);
    let ask = |vector| bench.brain.embed_pieces(Embed { vector, ..Embed::of(words.as_str()) });
    let raw = ask(VectorTerms { raw: true, ..each(10) }).await.unwrap();
    assert!(!raw.calibrated && raw.pieces.len() == 4);
    let found = ask(VectorTerms { dim: Some(70), format: Some(Format::I8), ..each(10) }).await.unwrap();
    assert!(found.calibrated);
    for (raw, piece) in raw.pieces.iter().zip(found.pieces) {
        let codes = Codes::of(&scaled(raw.embedding.iter().rev().skip(2).take(70).copied()));
        assert_eq!((piece.embedding, piece.codes), (codes.values(), Some(codes)));
    }
}

#[tokio::test]
async fn parts_are_one_text() {
    let bench = probing(roomy(64)).await;
    let words = text(35);
    let parts = vec![Part::Text(words[..8].into()), Part::Literal(words[8..20].into()), Part::Text(words[20..].into())];
    let asked = Embed { vector: each(10), ..Embed::of(Input::Parts(parts)) };
    let found = bench.brain.embed_pieces(asked).await.unwrap();
    assert_eq!(
        found,
        bench
            .brain
            .embed_pieces(pieces_of(&words, 10))
            .await
            .map(|mut whole| {
                whole.context.reused = 0;
                whole
            })
            .unwrap()
    );
}

#[tokio::test]
async fn what_has_no_pieces_is_refused_with_what_may_be_asked_instead() {
    let bench = probing(roomy(64)).await;
    let inside = Embed { conversation: Some("a".into()), ..pieces_of("WORDS", 2) };
    let ids = Embed { vector: each(2), ..Embed::of(tokens("WORDS")) };
    let mixed = vec![Part::Text("WORDS".into()), Part::Tokens(tokens("WORDS"))];
    let mixed = Embed { vector: each(2), ..Embed::of(mixed) };
    for asked in [inside, ids, mixed, pieces_of("WORDS", 0), pieces_of(&"A".repeat(5000), 1)] {
        assert_eq!(code(bench.brain.embed_pieces(asked.clone()).await), ErrorCode::BadRequest, "{asked:?}");
    }
    assert_eq!(code(bench.brain.embed_pieces(pieces_of("", 2)).await), ErrorCode::EmptyInput);
    assert_eq!(code(bench.brain.embed(pieces_of("WORDS", 2)).await), ErrorCode::BadRequest);
    let fixed = EngineInfo { window: Window { slides: Slides::Never, ..roomy(64).window }, ..roomy(64) };
    let bench = probing(fixed).await;
    assert_eq!(code(bench.brain.embed_pieces(pieces_of(&text(200), 10)).await), ErrorCode::ContextFull);
    // A full window has no room for the last probe.
    assert_eq!(code(bench.brain.embed_pieces(pieces_of(&text(59), 10)).await), ErrorCode::ContextFull);
    bench.brain.embed_pieces(pieces_of(&text(53), 10)).await.unwrap();
}

#[tokio::test]
async fn deaths_change_nothing_and_nothing_is_left_of_what_is_given_up() {
    let bench = start_with(BrainConfig { cached_bytes: 0, ..made(probe()) }, roomy(64)).await;
    let long = || pieces_of(&text(148), 20);
    let expected = vectors(bench.brain.embed_pieces(long()).await.unwrap());
    until_pages(&bench.control, |pages| pages == 0).await;
    for run in [1, 2, 5, 9, 20, 26] {
        bench.control.fault_in_run(run, Fault::Panic);
        let found = within(bench.brain.embed_pieces(long())).await.unwrap();
        assert_eq!(vectors(found), expected, "run {run}");
        until_pages(&bench.control, |pages| pages == 0).await;
        bench.control.fault_in_run(run, Fault::HANG);
        let late = bench.brain.within(Duration::from_millis(100));
        assert_eq!(code(within(late.embed_pieces(long())).await), ErrorCode::Timeout, "run {run}");
        bench.control.release_hangs();
        within(bench.control.until(|tally| tally.hanging == 0)).await;
        until_pages(&bench.control, |pages| pages == 0).await;
        // Its caller goes away.
        bench.control.fault_in_run(run, Fault::HANG);
        let asking = tokio::spawn({
            let (brain, long) = (bench.brain.clone(), long());
            async move { brain.embed_pieces(long).await }
        });
        within(bench.control.until(|tally| tally.hanging == 1)).await;
        asking.abort();
        bench.control.release_hangs();
        until_pages(&bench.control, |pages| pages == 0).await;
    }
}

#[tokio::test]
async fn many_texts_are_done_on_several_actors_within_little_memory() {
    let lone = probing(roomy(64)).await;
    let lengths = [5, 40, 64, 150, 90, 30, 7, 148];
    let memory = Memory { kv_bytes: 64 * (64 + 8), ..Memory::default() };
    let bench = start_with(BrainConfig { memory, ..BrainConfig { actors: 3, ..made(probe()) } }, roomy(64)).await;
    let mut asked = JoinSet::new();
    for len in lengths {
        let brain = bench.brain.clone();
        asked.spawn(async move { (len, brain.embed_pieces(pieces_of(&text(len), 12)).await.unwrap()) });
    }
    for (len, found) in within(asked.join_all()).await {
        let expected = lone.brain.embed_pieces(pieces_of(&text(len), 12)).await.unwrap();
        assert_eq!(vectors(found), vectors(expected), "{len}");
    }
}

#[tokio::test]
async fn what_shares_with_nobody_neither_takes_nor_leaves_a_prefix() {
    let bench = probing(roomy(64)).await;
    let secret =
        || Embed { terms: Terms { sharing: Some(Sharing::Nobody), ..Terms::default() }, ..pieces_of(&text(30), 10) };
    let first = bench.brain.embed_pieces(secret()).await.unwrap();
    let open = bench.brain.embed_pieces(pieces_of(&text(30), 10)).await.unwrap();
    let last = bench.brain.embed_pieces(secret()).await.unwrap();
    assert_eq!([first.context.reused, open.context.reused, last.context.reused], [0, 0, 0]);
    let read = Step { count: 0, ..step("a", PREFIX, 0) };
    assert_eq!(bench.brain.step(read).await.unwrap().context.reused, PREFIX.len() - 1);
    assert_eq!(vectors(first), vectors(last));
}

#[tokio::test]
async fn the_first_piece_has_the_vector_of_its_own_text() {
    let bench = probing(roomy(64)).await;
    let words = text(40);
    let found = bench.brain.embed_pieces(pieces_of(&words, 16)).await.unwrap();
    let first = &words[found.pieces[0].bytes.clone()];
    assert_eq!(found.pieces[0].embedding, last_of(roomy(64), &[PREFIX, first, PROBE]).await);
}

/// Behind a slide of a window that is read again, what is kept is no beginning of the text.
#[tokio::test]
async fn a_first_piece_that_is_longer_than_the_window_leaves_nothing_for_others() {
    let window = Window { slides: Slides::Recompute, ..roomy(16).window };
    let bench = start_with(made(probe()), EngineInfo { window, ..roomy(16) }).await;
    for len in [30, 40] {
        let found = bench.brain.embed_pieces(pieces_of(&text(len), 64)).await.unwrap();
        assert_eq!(found.pieces.len(), 1, "{len}");
    }
}

#[tokio::test]
async fn the_window_is_as_full_behind_many_pieces_as_behind_one() {
    for info in [roomy(64), EngineInfo { pages: None, ..roomy(64) }] {
        let bench = start_with(made(probe()), info).await;
        for len in [1, 30, 54, 70, 200] {
            let context_len =
                async |most| bench.brain.embed_pieces(pieces_of(&text(len), most)).await.unwrap().context.context_len;
            assert_eq!(context_len(9).await, context_len(1000).await, "{len}");
        }
    }
}
