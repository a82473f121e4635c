//! Vectors by a probe on real exports, through the whole stack: the same however they come to be, and no trace of a probe
//! in a conversation, to the bit. On the fake engine the same is tested case by case (`actors/tests/all/brain/recipes.rs`).
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};

use crate::common::{fixture, graph_cache, model, root, text_tokens};
use motorbrain::{
    Brain, Embed, Input, MadeBy, Pieces, Settings, Step, TokenId, VectorTerms,
    engine::Activations,
    model::{Preset, RecipeName},
};
use motorbrain_actors::vectors::Pooling;
use tokio::task::JoinSet;

/// Keys and values in f32 and in f16, weights of few bits, and a model that runs as its graph is.
fn forms() -> [(PathBuf, Activations); 4] {
    let form = |name, activations| (fixture(name), activations);
    [
        form("tiny-gqa-fp32", Activations::F32),
        form("tiny-plain-f16", Activations::F32),
        form("tiny-gqa-int4", Activations::F32),
        form("tiny-gqa-int4", Activations::AsExported),
    ]
}

async fn brain((dir, activations): (PathBuf, Activations), change: impl FnOnce(&mut Settings)) -> Brain {
    let mut settings = Settings::default();
    settings.model.dir = Some(dir);
    settings.runtime.cache = Some(graph_cache());
    settings.runtime.activations = activations;
    settings.runtime.threads = Some(1);
    settings.embedding.recipe = Some(RecipeName::Probe);
    settings.window.size = Some(96);
    settings.brain.chaos = true;
    settings.brain.restarts_max = usize::MAX;
    settings.brain.backoff_ms_max = settings.brain.backoff_ms_min;
    change(&mut settings);
    motorbrain::start(&settings).await.unwrap()
}

fn bits(vector: &[f32]) -> Vec<u32> {
    vector.iter().map(|value| value.to_bits()).collect()
}

fn input(tokens: &[TokenId]) -> Input {
    Input::Tokens(tokens.to_vec())
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum()
}

/// What a conversation says, to the bit.
async fn says(brain: &Brain, name: &str, tokens: &[TokenId]) -> (Vec<TokenId>, Vec<u32>, usize) {
    let said = brain.step(Step::greedy(name, input(tokens), 4)).await.unwrap();
    (said.token_ids, bits(&said.logprobs), said.context.context_len)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_is_the_same_alone_in_company_behind_a_death_and_from_shared_pages() {
    let [fp32, f16, int4, _] = forms();
    for form in [fp32, f16, int4] {
        let text = text_tokens(&form.0, 200);
        let texts = || (0..8).map(|index| &text[20 * index..20 * index + 5 + 5 * index]);
        let alone = brain(form.clone(), |_| ()).await;
        let mut expected = Vec::new();
        for text in texts() {
            expected.push(bits(&alone.embed(Embed::of(input(text))).await.unwrap().embedding));
        }
        // With others in one run, on three actors, in chunks of nothing that was read before.
        let many = brain(form.clone(), |settings| settings.brain.actors = 3).await;
        for dies in [true, false] {
            let mut asked = JoinSet::new();
            for (index, text) in texts().enumerate() {
                let (brain, embed) = (many.clone(), Embed::of(input(text)));
                asked.spawn(async move { (index, bits(&brain.embed(embed).await.unwrap().embedding)) });
            }
            for (index, found) in asked.join_all().await {
                assert_eq!(found, expected[index], "{} {index}", form.0.display());
            }
            // It may still be loading its model.
            while dies && many.crash(0).await.is_err() {
                tokio::task::yield_now().await;
            }
        }
        // A conversation has read the text behind the prefix before.
        let settings = Settings::default().embedding;
        let prefix = many.tokenize(settings.prefix.as_str()).await.unwrap();
        let longest = texts().next_back().unwrap();
        many.step(Step { count: 0, ..Step::greedy("a", input(&[&prefix, longest].concat()), 0) }).await.unwrap();
        let found = many.embed(Embed::of(input(longest))).await.unwrap();
        assert_eq!(found.context.reused, prefix.len() + longest.len());
        assert_eq!(&bits(&found.embedding), expected.last().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_says_the_same_to_the_bit_with_and_without_vectors_in_between() {
    for form in forms() {
        let text = text_tokens(&form.0, 300);
        let (probed, plain) = (brain(form.clone(), |_| ()).await, brain(form.clone(), |_| ()).await);
        let has_pages = probed.info().await.unwrap().pages.is_some();
        // The window is full after four turns or five, and slides from then on.
        for (turn, words) in text.chunks(25).enumerate() {
            let embed = Embed { conversation: Some("a".into()), ..Embed::of(input(words)) };
            let found = probed.embed(embed).await.unwrap();
            assert_eq!((found.recipe, found.pieces), (MadeBy::ProbeInConversation, 1));
            let read = Step { count: 0, ..Step::greedy("a", input(words), 0) };
            let stands = plain.step(read).await.unwrap();
            assert_eq!(found.context.context_len, stands.context.context_len);
            if turn % 3 == 2 {
                probed.crash(0).await.unwrap();
            }
            let (one, other) = (says(&probed, "a", &words[..3]).await, says(&plain, "a", &words[..3]).await);
            // What rounds activations by the run they are in is no same twice, see `runtime.activations`.
            if has_pages {
                assert_eq!(one, other, "{} turn {turn}", form.0.display());
            } else {
                assert_eq!((one.0.len(), one.2), (other.0.len(), other.2), "turn {turn}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_forms_of_a_model_give_the_same_vectors() {
    let text = text_tokens(&fixture("tiny-plain"), 60);
    let mut vectors = Vec::new();
    for name in ["tiny-plain", "tiny-gqa-fp32"] {
        let brain = brain((fixture(name), Activations::F32), |_| ()).await;
        vectors.push(brain.embed(Embed::of(input(&text))).await.unwrap().embedding);
    }
    assert!(cosine(&vectors[0], &vectors[1]) > 0.99999);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_text_is_embedded_in_pieces_and_a_pooled_one_in_one() {
    let dir = fixture("tiny-gqa-fp32");
    let text = text_tokens(&dir, 400);
    let probes = brain((dir.clone(), Activations::F32), |_| ()).await;
    let found = probes.embed(Embed::of(input(&text))).await.unwrap();
    assert!(found.pieces >= 5 && (cosine(&found.embedding, &found.embedding) - 1.0).abs() < 1e-5, "{}", found.pieces);
    let pools = brain((dir, Activations::F32), |settings| {
        (settings.embedding.recipe, settings.embedding.pooling) = (None, Some(Pooling::Last));
    })
    .await;
    let found = pools.embed(Embed::of(input(&text))).await.unwrap();
    assert_eq!((found.recipe, found.pieces, found.tokens), (MadeBy::Pooled, 1, 400));
}

/// What a text of its own and a conversation of its pieces give, by a real tokenizer, in texts of several bytes a character.
#[tokio::test(flavor = "multi_thread")]
async fn each_piece_of_a_text_has_the_vector_of_a_conversation_that_reads_one_after_the_other() {
    let text = "The man had up other words.\n\nStraße 😀👩‍🚀 läuft. 你好，世界。 And so on, and on: ".repeat(6);
    for form in forms() {
        for pooling in [None, Some(Pooling::Mean)] {
            // Room for all, and a window that slides.
            for size in [1024, 96] {
                let brain = brain(form.clone(), |settings| {
                    settings.window.size = Some(size);
                    if pooling.is_some() {
                        (settings.embedding.recipe, settings.embedding.pooling) = (None, pooling);
                    }
                })
                .await;
                let vector = VectorTerms { pieces: Pieces::Each { tokens: 40 }, raw: true, ..VectorTerms::default() };
                let found = brain.embed_pieces(Embed { vector, ..Embed::of(text.as_str()) }).await.unwrap();
                let joined: String = found.pieces.iter().map(|piece| &text[piece.bytes.clone()]).collect();
                assert_eq!((joined, found.pieces.iter().map(|piece| piece.tokens).sum()), (text.clone(), found.tokens));
                assert!(found.pieces.len() > 5);

                let tokens = brain.tokenize(text.as_str()).await.unwrap();
                let prefix = match pooling {
                    None => brain.tokenize(Settings::default().embedding.prefix.as_str()).await.unwrap(),
                    Some(_) => Vec::new(),
                };
                let (mut at, mut before) = (0, prefix);
                for (index, piece) in found.pieces.iter().enumerate() {
                    before.extend(&tokens[at..at + piece.tokens]);
                    at += piece.tokens;
                    let vector = VectorTerms { raw: true, ..VectorTerms::default() };
                    let by_hand = Embed { conversation: Some("a".into()), vector, ..Embed::of(input(&before)) };
                    before.clear();
                    let expected = brain.embed(by_hand).await.unwrap().embedding;
                    let lengths = cosine(&piece.embedding, &piece.embedding) * cosine(&expected, &expected);
                    let alike = cosine(&piece.embedding, &expected) / lengths.sqrt();
                    assert!(alike > 1.0 - 1e-5, "{} {size} {pooling:?} piece {index}: {alike}", form.0.display());
                }
            }
        }
    }
}

#[test]
fn presets_name_the_recipe_of_their_models() {
    for name in Preset::names() {
        assert_eq!(Preset::find(name).unwrap().claims.recipe, Some(RecipeName::Probe), "{name}");
    }
}

/// Wherever it lies, and whether or not its preset is named.
#[test]
fn a_model_with_the_sizes_of_a_preset_has_its_recipe() {
    let like = |dir: &Path| Preset::like(&model(dir).contract).map(|preset| preset.name);
    for form in ["smollm2-135m", "smollm2-135m-f32"] {
        let dir = root().join(".motorbrain/models").join(form);
        assert_eq!(like(&dir).as_deref(), Some("smollm2-135m"));
    }
    for name in ["tiny-plain", "tiny-gqa-int4"] {
        assert_eq!(like(&fixture(name)), None, "{name}");
    }
}
