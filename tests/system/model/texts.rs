//! Text to tokens and back, by tokenizers of several kinds: what `tokenizers` makes of a whole text is the measure.
//!
//! `MOTORBRAIN_TEST_TOKENIZERS` may name more of them, files separated as those of `PATH` are.

use std::{
    collections::BTreeSet,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::{Duration, Instant},
};

use motorbrain::model::ModelTokenizer;
use motorbrain_actors::{
    text::Detokenizer,
    tokens::{Spelled, TokenId, Tokenizer},
};
use serde_json::{Value, json};

use crate::{
    choices::Choices,
    common::{fixture, root},
};

const TEXTS: [&str; 7] = [
    "the man had up other words",
    "🚀 to the moon 👩‍🚀🏳️‍🌈",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "你好，世界",
    "Straße 😀 \u{fffd} x",
    "  two  spaces and\nlines\n",
];

/// A tokenizer of ours, and what it is made of.
struct Case {
    name: String,
    ours: ModelTokenizer,
    theirs: tokenizers::Tokenizer,
}

impl Case {
    fn new(name: impl Into<String>, json: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tokenizer.json"), json).unwrap();
        let ours = ModelTokenizer::open(dir.path(), 1 << 20).unwrap();
        Self { name: name.into(), ours, theirs: tokenizers::Tokenizer::from_bytes(json).unwrap() }
    }

    fn read(file: &Path) -> Self {
        Self::new(file.to_string_lossy(), &fs::read(file).unwrap())
    }

    /// The text as `tokenizers` has it, of which one decoder panics where there is nothing to decode.
    fn their_text(&self, tokens: &[TokenId]) -> String {
        let ids: Vec<u32> = tokens.iter().map(|token| token.0).collect();
        let nothing = ids.iter().all(|&id| self.theirs.id_to_token(id).is_none());
        if nothing { String::new() } else { self.theirs.decode(&ids, false).unwrap() }
    }

    fn their_tokens(&self, text: &str) -> Vec<TokenId> {
        self.theirs.encode_fast(text, false).unwrap().get_ids().iter().copied().map(TokenId).collect()
    }

    /// The texts of single steps behind `context`, each of which knows nothing but the tokens before it.
    fn single_steps(&self, context: &[TokenId], tokens: &[TokenId]) -> Vec<String> {
        let step = |place: usize| {
            let before = tokens[..place].iter().rev().chain(context.iter().rev()).copied();
            let mut text = String::new();
            Detokenizer::behind(before, &self.ours).push(&tokens[place..=place], &self.ours, &mut text);
            text
        };
        (0..tokens.len()).map(step).collect()
    }

    /// Whether the bytes of a token of theirs are shown as broken where they stand beside others that are.
    fn loses_whole_characters(&self) -> bool {
        self.ours.marks_each_byte()
    }

    /// Every added token that literal text must not become.
    fn markers(&self) -> Vec<(TokenId, String)> {
        let added = self.theirs.get_added_tokens_decoder();
        let markers = added.iter().map(|(&id, token)| (TokenId(id), token.content.clone()));
        markers.filter(|(_, content)| !content.trim_matches(['\u{2581}', ' ', '\n', '\t', '\r']).is_empty()).collect()
    }
}

/// Byte-level, BPE with bytes and spaces as Llama 2, and Unigram; the tiny ones and real ones.
static KINDS: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let mut files: Vec<PathBuf> = vec![
        fixture("tiny-plain/tokenizer.json"),
        fixture("tokenizers/llama2.json"),
        fixture("tokenizers/unigram.json"),
        root().join(".motorbrain/models/smollm2-135m/tokenizer.json"),
    ];
    files.extend(std::env::var_os("MOTORBRAIN_TEST_TOKENIZERS").iter().flat_map(std::env::split_paths));
    files.iter().map(|file| Case::read(file)).collect()
});

/// The Llama 2 kind with another part.
fn changed(part: &str, value: Value) -> Case {
    let mut llama: Value = serde_json::from_slice(&fs::read(fixture("tokenizers/llama2.json")).unwrap()).unwrap();
    llama[part] = value;
    Case::new(format!("{part}: {}", llama[part]), llama.to_string().as_bytes())
}

/// Random tokens: of the whole vocabulary, of its beginning, where single bytes are, pieces of texts, and unknown ids.
fn random_tokens(case: &Case, rng: &mut Choices) -> Vec<TokenId> {
    let vocab = case.ours.tokens();
    let mut tokens = Vec::new();
    for _ in 0..1 + rng.below(24) {
        match rng.below(8) {
            0 => tokens.push(TokenId((vocab + rng.below(64)) as u32)),
            1 => tokens.extend(case.their_tokens(TEXTS[rng.below(TEXTS.len())]).into_iter().take(rng.below(12))),
            2..5 => tokens.push(TokenId(rng.below(vocab.min(400)) as u32)),
            _ => tokens.push(TokenId(rng.below(vocab) as u32)),
        }
    }
    tokens
}

/// Single steps joined are one decode of all, and that is theirs.
fn check_sequences(case: &Case, count: u64) {
    let (mut compared, mut held) = (0, 0);
    for seed in 0..count {
        let tokens = random_tokens(case, &mut Choices(seed));
        let all = case.ours.decode(&tokens);
        let pieces = case.single_steps(&[], &tokens);
        let joined = pieces.concat();
        held += pieces.iter().filter(|piece| piece.is_empty()).count();
        // A last character that is not whole is the one thing that single steps have not shown yet.
        let rest = all.strip_prefix(joined.as_str());
        let rest =
            rest.unwrap_or_else(|| panic!("{}, seed {seed}: {tokens:?} is {all:?}, joined {joined:?}", case.name));
        assert!(rest.chars().count() <= 3 && rest.chars().all(|c| c == '\u{fffd}'), "{}: {rest:?}", case.name);

        let (context, step) = tokens.split_at(tokens.len() / 2);
        let mut text = String::new();
        Detokenizer::behind(context.iter().rev().copied(), &case.ours).push(step, &case.ours, &mut text);
        assert_eq!(text, pieces[context.len()..].concat(), "{}, seed {seed}: {tokens:?}", case.name);

        let theirs = case.their_text(&tokens);
        if !(case.loses_whole_characters() && theirs.contains('\u{fffd}')) {
            assert_eq!(all, theirs, "{}, seed {seed}: {tokens:?}", case.name);
            compared += 1;
        }
    }
    assert!(compared >= count / 10, "{}: only {compared} of {count} were compared", case.name);
    println!("{}: {count} sequences, {compared} compared with tokenizers, {held} steps showed nothing", case.name);
}

#[test]
fn single_steps_joined_are_one_decode_of_all() {
    for case in &*KINDS {
        check_sequences(case, 2_000);
    }
}

#[test]
fn every_decoder_is_followed_token_by_token() {
    let replace = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
    let strip = |start, stop| json!({"type": "Strip", "content": " ", "start": start, "stop": stop});
    let row = |decoders: Vec<Value>| json!({"type": "Sequence", "decoders": decoders});
    let (fuse, bytes) = (json!({"type": "Fuse"}), json!({"type": "ByteFallback"}));
    let metaspace = |scheme| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true});
    for decoder in [
        Value::Null,
        metaspace("always"),
        metaspace("first"),
        metaspace("never"),
        row(vec![bytes.clone(), metaspace("always")]),
        json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        json!({"type": "WordPiece", "prefix": "▁", "cleanup": false}),
        json!({"type": "BPEDecoder", "suffix": ">"}),
        json!({"type": "CTC", "pad_token": "<unk>", "word_delimiter_token": "▁", "cleanup": true}),
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}),
        row(vec![replace.clone(), bytes.clone(), fuse.clone()]),
        row(vec![replace.clone(), bytes.clone(), fuse.clone(), strip(1, 0)]),
        row(vec![replace.clone(), fuse.clone(), strip(3, 0)]),
        row(vec![replace.clone(), fuse.clone(), strip(0, 1)]),
        row(vec![replace, strip(1, 0), bytes, fuse]),
    ] {
        check_sequences(&changed("decoder", decoder), 300);
    }
}

#[test]
fn every_script_survives_single_steps() {
    for case in &*KINDS {
        for text in TEXTS {
            let tokens = case.ours.encode(text).unwrap();
            let pieces = case.single_steps(&[], &tokens);
            assert_eq!(pieces.concat(), case.their_text(&tokens), "{}", case.name);
            if !text.contains('\u{fffd}') {
                assert!(!pieces.concat().contains('\u{fffd}'), "{}: {pieces:?}", case.name);
            }
            // Behind other words too, where nothing is a beginning.
            let before = case.ours.encode("the man").unwrap();
            let tokens = case.ours.encode_behind(Spelled::Literal(text), before.last().copied()).unwrap();
            let behind = case.single_steps(&before, &tokens).concat();
            let spelled = case.their_text(&[before, tokens].concat());
            assert_eq!(spelled.strip_prefix("the man"), Some(behind.as_str()), "{}", case.name);
        }
    }
}

/// The least time of five that each takes, in turn: a machine that has other things to do makes none of them shorter.
fn fastest<const N: usize>(counts: [usize; N], mut run: impl FnMut(usize) -> Duration) -> [Duration; N] {
    let mut least = [Duration::MAX; N];
    for _ in 0..5 {
        for (least, count) in least.iter_mut().zip(counts) {
            *least = run(count).min(*least);
        }
    }
    least
}

#[test]
fn tokens_that_never_become_text_cost_no_more_each_than_a_few() {
    let case = Case::read(&fixture("tokenizers/llama2.json"));
    // Continuation bytes alone.
    let tokens = |count: usize| (0..count).map(|place| TokenId(3 + 0x80 + place as u32 % 0x40)).collect::<Vec<_>>();
    let stream = |count: usize| {
        let began = Instant::now();
        let (mut detokenizer, mut text) = (Detokenizer::default(), String::new());
        tokens(count).chunks(1).for_each(|token| detokenizer.push(token, &case.ours, &mut text));
        assert_eq!(text.chars().count(), count);
        began.elapsed()
    };
    let [few, many] = fastest([1_000, 16_000], stream);
    let whole = Instant::now();
    assert_eq!(case.ours.decode(&tokens(16_000)).chars().count(), 16_000);
    println!("1,000 tokens {few:?}, 16,000 tokens {many:?}, at once {:?}", whole.elapsed());
    // Sixteen times as long where it is linear, 256 times where each looks at all before it.
    assert!(many < few * 64, "1,000 tokens take {few:?}, 16,000 {many:?}");
}

/// Of a tokenizer that spells what it does not know by bytes, each of which is an added token's kin.
#[test]
fn literal_text_of_bytes_takes_no_longer_a_character_than_a_little() {
    let case = Case::read(&fixture("tokenizers/llama2.json"));
    let encode = |count: usize| {
        let (text, began) = ("你".repeat(count), Instant::now());
        let tokens = case.ours.encode_behind(Spelled::Literal(&text), None).unwrap();
        assert!(tokens.len() >= 3 * count);
        began.elapsed()
    };
    let [few, many] = fastest([500, 8_000], encode);
    println!("500 characters {few:?}, 8,000 {many:?}");
    // Sixteen times as long where it is linear, 256 times where each token has the whole text looked through.
    assert!(many < few * 64, "500 characters take {few:?}, 8,000 {many:?}");
}

#[test]
fn literal_text_becomes_no_added_token() {
    for case in &*KINDS {
        let markers = case.markers();
        let ids: BTreeSet<TokenId> = markers.iter().map(|(id, _)| *id).collect();
        let word = case.ours.encode("man").unwrap().last().copied();
        let marker = markers.first().map(|(id, _)| *id);
        let behind = [None, word, marker];
        let mut texts: Vec<String> = markers.iter().map(|(_, content)| content.clone()).collect();
        texts.push(texts.concat());
        texts.extend(markers.iter().map(|(_, content)| format!("say {content} again{content}{content} ")));
        for text in &texts {
            for before in behind {
                let spelled = case.ours.encode_behind(Spelled::Literal(text), before).unwrap();
                let found: Vec<_> = spelled.iter().filter(|token| ids.contains(token)).collect();
                assert!(found.is_empty(), "{}: {text:?} becomes {found:?}", case.name);
                if before != marker {
                    let context: Vec<TokenId> = before.into_iter().collect();
                    assert_eq!(case.single_steps(&context, &spelled).concat(), *text, "{}: {spelled:?}", case.name);
                }
            }
            // The same text unmarked is what it always was.
            assert_eq!(case.ours.encode(text).unwrap(), case.their_tokens(text));
        }
        println!("{}: {} markers spelled in {} literal texts", case.name, markers.len(), texts.len());
        for text in TEXTS {
            assert_eq!(
                case.ours.encode_behind(Spelled::Literal(text), None).unwrap(),
                case.their_tokens(text),
                "{}: literal text without a marker is as any other",
                case.name
            );
        }
    }
}

/// Wherever no token has to do with characters on both sides, the tokens before it are the text before it.
#[test]
fn tokens_are_told_with_where_they_stand_in_their_text() {
    for case in &*KINDS {
        let word = case.ours.encode("man").unwrap().last().copied();
        let marker = case.markers().first().cloned();
        let mut texts: Vec<String> = TEXTS.iter().map(|text| (*text).to_owned()).collect();
        texts.push(TEXTS.concat());
        texts.extend(marker.iter().map(|(_, content)| format!("the man {content}  up{content} 🚀🚀{content}")));
        let mut borders = 0;
        for text in &texts {
            for spelled in [Spelled::Marked(text), Spelled::Literal(text)] {
                for behind in [None, word, marker.as_ref().map(|(id, _)| *id)] {
                    let told = case.ours.encode_spans(spelled, behind).unwrap();
                    let tokens: Vec<TokenId> = told.iter().map(|(token, _)| *token).collect();
                    let shown = format!("{}: {spelled:?} behind {behind:?}: {told:?}", case.name);
                    assert_eq!(tokens, case.ours.encode_behind(spelled, behind).unwrap(), "{shown}");
                    let is_in_text = |span: &Range<usize>| text.get(span.clone()).is_some();
                    assert!(told.iter().all(|(_, span)| is_in_text(span)), "{shown}");
                    let is_faithful = behind != marker.as_ref().map(|(id, _)| *id) && {
                        let context: Vec<TokenId> = behind.into_iter().collect();
                        case.single_steps(&context, &tokens).concat() == *text
                    };
                    let mut covered = 0;
                    for (place, pair) in told.array_windows::<2>().enumerate() {
                        let [(_, before), (_, next)] = pair;
                        covered = covered.max(before.end);
                        if is_faithful && next.start >= covered {
                            let context: Vec<TokenId> = behind.into_iter().collect();
                            let joined = case.single_steps(&context, &tokens[..=place]).concat();
                            assert_eq!(joined.trim_end(), text[..next.start].trim_end(), "{shown} at {place}");
                            borders += 1;
                        }
                    }
                    let last = told.iter().map(|(_, span)| span.end).max().unwrap_or(0);
                    assert_eq!(text[..last].trim_end(), text.trim_end(), "{shown}");
                }
            }
        }
        println!("{}: {borders} borders", case.name);
        assert!(borders > 50, "{}: {borders}", case.name);
    }
}

#[test]
fn literal_text_is_looked_at_as_the_model_sees_it() {
    let unigram = Case::read(&fixture("tokenizers/unigram.json"));
    // NFKC makes the marker of it.
    let spelled = unigram.ours.encode_behind(Spelled::Literal("x＜/s＞x"), None).unwrap();
    assert!(!spelled.contains(&TokenId(2)), "{spelled:?}");
    assert_eq!(unigram.ours.decode(&spelled), "x</s>x");
    // What cannot be spelled is unknown, which says nothing.
    assert!(unigram.ours.encode_behind(Spelled::Literal("ж"), None).unwrap().contains(&TokenId(0)));
    // A token for a byte is written by its name, and is no byte.
    let llama = Case::read(&fixture("tokenizers/llama2.json"));
    let spelled = llama.ours.encode_behind(Spelled::Literal("<0x41>"), None).unwrap();
    assert_eq!(llama.ours.decode(&spelled), "<0x41>");
    // White space stays what it is; spaces that the normalizer makes of others are not among them.
    let marked = llama.ours.encode_behind(Spelled::Literal("a▁▁▁▁b"), None).unwrap();
    assert_eq!(marked, llama.their_tokens("a▁▁▁▁b"));
}

#[test]
fn a_single_character_that_is_an_added_token_is_spelled_by_its_bytes_or_refused() {
    let added = |id: u32| {
        json!([{"id": id, "content": "~", "single_word": false, "lstrip": false, "rstrip": false,
                                  "normalized": false, "special": false}])
    };
    let llama = changed("added_tokens", json!([]));
    let tilde = llama.their_tokens("~").last().copied().unwrap();
    let llama = changed("added_tokens", added(tilde.0));
    let spelled = llama.ours.encode_behind(Spelled::Literal("a~b"), None).unwrap();
    assert!(!spelled.contains(&tilde));
    assert_eq!(llama.ours.decode(&spelled), "a~b");
    let mut unigram: Value = serde_json::from_slice(&fs::read(fixture("tokenizers/unigram.json")).unwrap()).unwrap();
    let tilde = unigram["model"]["vocab"].as_array().unwrap().iter().position(|piece| piece[0] == "~").unwrap();
    unigram["added_tokens"] = added(tilde as u32);
    let unigram = Case::new("unigram", unigram.to_string().as_bytes());
    let refusal = unigram.ours.encode_behind(Spelled::Literal("a~b"), None).unwrap_err();
    assert!(refusal.to_string().contains("only the added token"), "{refusal}");
}

#[test]
fn a_marker_that_takes_the_white_space_behind_it_takes_that_of_the_next_text() {
    let mut llama: Value = serde_json::from_slice(&fs::read(fixture("tokenizers/llama2.json")).unwrap()).unwrap();
    llama["added_tokens"][2]["rstrip"] = json!(true);
    let llama = Case::new("rstrip", llama.to_string().as_bytes());
    let second = llama.ours.encode_behind(Spelled::Marked(" \n the man"), Some(TokenId(2))).unwrap();
    assert_eq!([vec![TokenId(2)], second].concat(), llama.their_tokens("</s> \n the man"));
    // Nobody's words are changed.
    let literal = llama.ours.encode_behind(Spelled::Literal("\nthe"), Some(TokenId(2))).unwrap();
    assert!(llama.ours.decode(&literal).contains('\n'));
}

#[test]
fn text_in_pieces_is_tokenised_as_one() {
    let metaspace = |scheme| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true});
    let with_pre_tokenizer = |pre_tokenizer: Value| {
        let mut llama: Value = serde_json::from_slice(&fs::read(fixture("tokenizers/llama2.json")).unwrap()).unwrap();
        (llama["normalizer"], llama["pre_tokenizer"]) = (Value::Null, pre_tokenizer);
        Case::new(llama["pre_tokenizer"].to_string(), llama.to_string().as_bytes())
    };
    let split = json!({"type": "WhitespaceSplit"});
    let row = json!({"type": "Sequence", "pretokenizers": [split, metaspace("always")]});
    let others = [metaspace("first"), metaspace("always"), metaspace("never"), row].map(with_pre_tokenizer);
    for case in KINDS.iter().chain(&others) {
        for text in ["the man had up", "the</s>man", "the man</s> had up"] {
            let whole = case.their_tokens(text);
            // Where a word ends or a marker does: elsewhere a token may span the cut.
            let ends = text.match_indices(' ').map(|(at, _)| at).chain(text.find("</s>").map(|at| at + 4));
            for cut in ends {
                let first = case.ours.encode(&text[..cut]).unwrap();
                let second = case.ours.encode_behind(Spelled::Marked(&text[cut..]), first.last().copied()).unwrap();
                assert_eq!([first, second].concat(), whole, "{}: {text:?} cut at {cut}", case.name);
            }
        }
        // Within a word: no space comes into the text.
        let first = case.ours.encode("the m").unwrap();
        let second = case.ours.encode_behind(Spelled::Marked("an"), first.last().copied()).unwrap();
        assert_eq!(case.ours.decode(&[first, second].concat()), "the man", "{}", case.name);
    }
}
