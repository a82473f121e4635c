//! Texts of steps, where they end, and what is tokenised and detokenised.

use std::sync::Arc;

use motorbrain_actors::{
    brain::{Brain, BrainConfig, StepItem},
    engine::Sampling,
    message::{ErrorCode, Finished, Input, Part, Step, Stepped},
    tokens::{EncodeError, Spelled, TokenId, Tokenizer, TokenizerKind},
};
use motorbrain_testing::{Fault, fake_info};

use super::{Bench, config, loader, unshared, within};

/// As the tokenizers of Llama 2 are: 26 letters with a space before them, 26 without, and bytes of characters. A text
/// begins with a space that is not shown. `!` is an added token.
struct Words;

const BYTES: [u8; 11] = *b"\xf0\x9f\x9a\x80\xe4\xbd\xa0\xd8\xa7\xe0\xa4";
const MARK: u32 = 63;

impl Tokenizer for Words {
    fn encode_behind(&self, text: Spelled<'_>, behind: Option<TokenId>) -> Result<Vec<TokenId>, EncodeError> {
        let (Spelled::Marked(spelled) | Spelled::Literal(spelled)) = text;
        let mut spaced = behind.is_none() || behind == Some(TokenId(MARK));
        let mut tokens = Vec::new();
        for character in spelled.chars() {
            match character {
                ' ' => spaced = true,
                '!' if text == Spelled::Marked(spelled) => tokens.push(TokenId(MARK)),
                'a'..='z' => {
                    tokens.push(TokenId(u32::from(character) - 97 + if spaced { 0 } else { 26 }));
                    spaced = false;
                }
                other => return Err(EncodeError { reason: format!("{other:?}") }),
            }
        }
        Ok(tokens)
    }

    fn append(&self, before: &[TokenId], tokens: &[TokenId], bytes: &mut Vec<u8>) {
        for (place, token) in tokens.iter().enumerate() {
            match token.0 {
                id @ 0..26 if before.is_empty() && place == 0 => bytes.push(b'a' + id as u8),
                id @ 0..26 => bytes.extend([b' ', b'a' + id as u8]),
                id @ 26..52 => bytes.push(b'a' + id as u8 - 26),
                MARK => bytes.push(b'!'),
                id => bytes.push(BYTES[id as usize - 52]),
            }
        }
    }

    fn kind(&self) -> TokenizerKind {
        TokenizerKind::Model
    }
}

async fn start_with(config: BrainConfig) -> Bench {
    let (loader, control) = loader(fake_info());
    let brain = within(Brain::start(config, loader, Arc::new(Words))).await.unwrap();
    Bench { brain, control }
}

async fn start() -> Bench {
    start_with(config(1)).await
}

/// A step that draws, so that every seed is another text.
fn step(conversation: &str, input: Option<&str>, count: usize, seed: u64) -> Step {
    let sampling = Sampling { temperature: 4.0, ..Sampling::GREEDY };
    let input = input.map(Input::from);
    Step { input, sampling, seed: Some(seed), ..Step::greedy(conversation, "", count) }
}

/// A streamed step: the pieces of its text, and its reply.
async fn streamed(brain: &Brain, step: Step) -> (Vec<String>, Stepped) {
    let mut stream = brain.step_stream(step).await.unwrap();
    let mut pieces = Vec::new();
    loop {
        match within(stream.next()).await.unwrap() {
            StepItem::Token { text, .. } => pieces.push(text),
            StepItem::Stepped(stepped) => return (pieces, stepped),
            failed => panic!("{failed:?}"),
        }
    }
}

#[tokio::test]
async fn single_steps_joined_are_one_long_step() {
    let bench = start().await;
    let mut held = 0;
    for seed in 0..40 {
        let name = |kind: &str| format!("{kind}{seed}");
        let long = bench.brain.step(step(&name("long"), Some("the man"), 40, seed)).await.unwrap();
        let (pieces, stream) = streamed(&bench.brain, step(&name("stream"), Some("the man"), 40, seed)).await;
        assert_eq!((pieces.concat(), &stream), (long.text.clone(), &long));
        held += pieces.iter().filter(|piece| piece.is_empty()).count();

        bench.brain.step(step(&name("single"), Some("the man"), 0, seed)).await.unwrap();
        let mut single = String::new();
        for turn in 0..40 {
            if turn == 20 && seed % 4 == 0 {
                // What is remembered of a conversation is its tokens; an actor that dies takes no text along.
                bench.control.fault_in_run(1, Fault::Panic);
            }
            single += &bench.brain.step(step(&name("single"), None, 1, seed)).await.unwrap().text;
        }
        assert_eq!(single, long.text);

        let prompt = Words.encode("the man").unwrap();
        let all = Words.decode(&[prompt, long.token_ids].concat());
        let all = all.strip_prefix("the man").unwrap();
        assert!(all.trim_end_matches('\u{fffd}').starts_with(long.text.trim_end_matches('\u{fffd}')), "{all:?}");
        assert!(all.len() - long.text.len() <= 3, "{all:?} less {:?}", long.text);
    }
    assert!(held > 50, "no bytes were held back");
}

#[tokio::test]
async fn a_text_goes_on_with_what_was_there_at_its_turn() {
    let bench = start().await;
    // The fake's answer depends on its context alone, so equal answers show equal contexts.
    let whole = bench.brain.step(step("whole", Some("the man"), 4, 1)).await.unwrap();
    for cut in 1..7 {
        let name = format!("cut{cut}");
        let (first, second) = "the man".split_at(cut);
        // Both are sent at once: the second one's tokens depend on what the first leaves.
        let (first, pieces) = tokio::join!(
            bench.brain.step(step(&name, Some(first), 0, 1)),
            bench.brain.step(step(&name, Some(second), 4, 1)),
        );
        // A space at the very end of a text is none yet for this tokenizer.
        if cut != 4 {
            assert_eq!(pieces.unwrap().token_ids, whole.token_ids, "cut at {cut}");
        }
        first.unwrap();
    }
    // Behind an added token a text begins as the tokenizer has it, and behind a reset anew.
    bench.brain.step(step("marked", Some("the"), 0, 1)).await.unwrap();
    bench.brain.reset("marked").await.unwrap();
    bench.brain.step(step("marked", Some("a!"), 0, 1)).await.unwrap();
    let marked = bench.brain.step(step("marked", Some("b"), 4, 1)).await.unwrap();
    let tokens = vec![TokenId(0), TokenId(MARK), TokenId(1)];
    let expected = Step { input: Some(Input::Tokens(tokens)), ..step("tokens", None, 4, 1) };
    assert_eq!(marked.token_ids, bench.brain.step(expected).await.unwrap().token_ids);
}

#[tokio::test]
async fn a_step_ends_at_a_stop_text_and_no_token_later() {
    let mut stopped_streams = 0;
    for seed in 0..40 {
        let bench = start().await;
        let long = bench.brain.step(step("long", Some("the man"), 30, seed)).await.unwrap();
        let characters: Vec<char> = long.text.chars().collect();
        let stop: String = characters[9..9 + 1 + seed as usize % 4].iter().collect();
        let before = long.text.split(&stop).next().unwrap();
        let with_stop =
            |name: &str| Step { stop: vec!["never".to_owned(), stop.clone()], ..step(name, Some("the man"), 30, seed) };
        // Whether an actor dies on the way or not.
        for run in [None, Some(1 + seed % 12)] {
            let name = |kind: &str| format!("{kind}{run:?}");
            let break_a_run = || run.map(|run| bench.control.fault_in_run(run, Fault::Panic));
            break_a_run();
            let plain = bench.brain.step(with_stop(&name("plain"))).await.unwrap();
            bench.control.heal();
            assert_eq!((plain.text.as_str(), plain.finished), (before, Finished::Stop), "{stop:?} in {:?}", long.text);
            let len = plain.token_ids.len();
            assert_eq!(plain.token_ids, long.token_ids[..len]);
            assert!(Words.decode(&plain.token_ids[..len]).contains(stop.trim_start()));

            break_a_run();
            let (pieces, stream) = streamed(&bench.brain, with_stop(&name("stream"))).await;
            bench.control.heal();
            assert_eq!((pieces.concat().as_str(), pieces.len()), (before, len));
            assert_eq!(Stepped { context: plain.context, ..stream }, plain);
            stopped_streams += 1;

            // The token that completed it is in the context, and no other: both go on alike.
            let tokens = [Words.encode("the man").unwrap(), plain.token_ids.clone()].concat();
            let read = Step { input: Some(Input::Tokens(tokens)), ..step(&name("read"), None, 5, seed) };
            let read = bench.brain.step(read).await.unwrap();
            let more = bench.brain.step(step(&name("plain"), None, 5, seed)).await.unwrap();
            assert_eq!((more.token_ids, more.text), (read.token_ids, read.text));
        }
    }
    assert_eq!(stopped_streams, 80);
}

#[tokio::test]
async fn what_may_begin_a_stop_text_is_held_back_until_it_does_not() {
    let bench = start().await;
    let long = bench.brain.step(step("long", Some("the man"), 30, 7)).await.unwrap();
    // The whole text and more: nothing stops, everything is held.
    let stop = vec![format!("{}zz", long.text)];
    let (pieces, stepped) = streamed(&bench.brain, Step { stop, ..step("held", Some("the man"), 30, 7) }).await;
    assert_eq!(stepped, long);
    let (last, held) = pieces.split_last().unwrap();
    assert!(held.iter().all(String::is_empty), "{held:?}");
    assert_eq!(*last, long.text);
}

#[tokio::test]
async fn stop_texts_and_parts_out_of_their_bounds_are_bad_requests() {
    let bench = start().await;
    let code = |stop: Vec<String>, input: Input| {
        let brain = &bench.brain;
        async move {
            let step = Step { stop, input: Some(input), ..step("a", None, 1, 0) };
            brain.step(step).await.err().map(|error| error.code())
        }
    };
    assert_eq!(code(vec![String::new()], "a".into()).await, Some(ErrorCode::BadRequest));
    assert_eq!(code(vec!["a".to_owned(); 17], "a".into()).await, Some(ErrorCode::BadRequest));
    assert_eq!(code(vec![], vec![Part::Text("a".into()); 4097].into()).await, Some(ErrorCode::BadRequest));
    assert_eq!(code(vec![], Input::Parts(vec![])).await, Some(ErrorCode::EmptyInput));
    assert_eq!(code(vec![], vec![Part::Tokens(vec![TokenId(64)])].into()).await, Some(ErrorCode::InvalidToken));
    assert_eq!(code(vec![], vec![Part::Text("A".into())].into()).await, Some(ErrorCode::BadRequest));
    assert_eq!(code(vec!["a".to_owned(); 16], vec![Part::Text("a".into()); 4096].into()).await, None);
    assert_eq!(bench.brain.step(step("b", Some("a"), 1, 0)).await.unwrap().context.context_len, 2);
}

#[tokio::test]
async fn parts_are_read_one_behind_the_other() {
    let bench = start().await;
    let parts = || {
        vec![
            Part::Text("a b!".into()),
            Part::Literal("c".into()),
            Part::Tokens(vec![TokenId(30), TokenId(MARK)]),
            Part::Literal(String::new()),
            Part::Text("d".into()),
        ]
    };
    let tokens = [0, 1, MARK, 2, 30, MARK, 3].map(TokenId).to_vec();
    assert_eq!(bench.brain.tokenize(parts()).await.unwrap(), tokens);
    let by_parts = Step { input: Some(parts().into()), ..step("parts", None, 4, 3) };
    let by_tokens = Step { input: Some(tokens.into()), ..step("tokens", None, 4, 3) };
    let by_parts = bench.brain.step(by_parts).await.unwrap();
    assert_eq!(by_parts, unshared(bench.brain.step(by_tokens).await.unwrap()));
    let literal = vec![Part::Literal("a!".into())];
    assert_eq!(bench.brain.tokenize(literal).await.unwrap_err().code(), ErrorCode::BadRequest);
}

#[tokio::test]
async fn tokens_and_text_are_made_for_whoever_asks_within_the_limits() {
    let mut config = config(1);
    config.limits.text_bytes = 400;
    config.limits.requests = 2;
    let brain = start_with(config).await.brain;
    for text in ["", "a", "the man", "ab!c"] {
        let tokens = brain.tokenize(text).await.unwrap();
        assert_eq!(tokens, Words.encode(text).unwrap());
        assert_eq!(brain.detokenize(tokens).await.unwrap(), Words.decode(&Words.encode(text).unwrap()));
    }
    assert_eq!(brain.detokenize(vec![TokenId(52), TokenId(53)]).await.unwrap(), "\u{fffd}");
    assert_eq!(brain.tokenize("a".repeat(400)).await.unwrap().len(), 400);
    assert_eq!(brain.tokenize("a".repeat(401)).await.unwrap_err().code(), ErrorCode::InputTooLong);
    assert_eq!(brain.detokenize(vec![TokenId(1); 101]).await.unwrap_err().code(), ErrorCode::InputTooLong);
    assert_eq!(brain.detokenize(vec![TokenId(64)]).await.unwrap_err().code(), ErrorCode::InvalidToken);
    let outside = vec![Part::Tokens(vec![TokenId(64)])];
    assert_eq!(brain.tokenize(outside).await.unwrap_err().code(), ErrorCode::InvalidToken);
    assert_eq!(brain.tokenize("A").await.unwrap_err().code(), ErrorCode::BadRequest);
    brain.shutdown().await;
    assert_eq!(brain.tokenize("a").await.unwrap_err().code(), ErrorCode::Unavailable);
}
