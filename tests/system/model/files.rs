//! Folders and the files around a graph: absent, damaged, or of another model.

use std::{
    fs,
    path::{Path, PathBuf},
};

use motorbrain::model::onnx::{AttributeProto, GraphProto, NodeProto};
use motorbrain::model::{ContextLimit, ContextSource, Fact, Model, ModelOptions, Note, Preset};
use motorbrain_actors::tokens::{TokenId, Tokenizer, TokenizerKind};

use super::{
    GQA, PLAIN,
    build::{floats, folder, language_model, named, node, projection, sized, value},
    copy, fixture, open, refusal, says, told,
};

const FLIPS: usize = 300;

/// What the preset of the fixtures would say.
const TINY: &str = "layers = 24\nheads = 4\nkv_heads = 2\nhead_dim = 16\nhidden = 64\nvocab = 576\n\
                    rope_base = 1000000.0\ncontext = 1024\nend_tokens = [510, 511]\n";

fn with_preset(dir: &Path, preset: Preset) -> Result<Model, motorbrain::model::ModelError> {
    Model::open(&ModelOptions { dir: dir.to_owned(), file: None, preset: Some(preset) })
}

#[test]
fn folders_without_a_model() {
    let dir = tempfile::tempdir().unwrap();
    says(&refusal(&dir.path().join("absent")), &["there is no folder DIR", "`model.dir`"]);
    says(&refusal(dir.path()), &["the folder DIR is empty", "`model.onnx`", "`tokenizer.json`"]);
    fs::write(dir.path().join("notes.txt"), "x").unwrap();
    says(&refusal(dir.path()), &["the folder DIR holds no `model.onnx` and no `onnx/model*.onnx`\n"]);
    for name in ["decoder_model_merged.onnx", "decoder_model.onnx"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    let candidates = "`decoder_model.onnx`, `decoder_model_merged.onnx`";
    let but = format!("no `onnx/model*.onnx`, but {candidates}\nchoose one with `model.file`: {candidates}");
    says(&refusal(dir.path()), &[&but]);
    let file = fixture(PLAIN).join("model.onnx");
    says(&refusal(&file), &["DIR is a file, expected a folder", "`model.file`"]);
}

#[test]
fn one_of_several_graphs_is_chosen() {
    let dir = copy(PLAIN);
    let onnx = dir.path().join("onnx");
    fs::create_dir(&onnx).unwrap();
    fs::rename(dir.path().join("model.onnx"), onnx.join("model_q4.onnx")).unwrap();
    let model = open(dir.path()).unwrap();
    assert_eq!((&model.graph, &model.overlay.folder), (&onnx.join("model_q4.onnx"), &onnx));
    assert_eq!(model.tokenizer.kind(), TokenizerKind::Model);

    fs::copy(onnx.join("model_q4.onnx"), onnx.join("model_fp16.onnx")).unwrap();
    let candidates = "`onnx/model_fp16.onnx`, `onnx/model_q4.onnx`";
    says(&refusal(dir.path()), &[&format!("holds several graphs: {candidates}"), "choose one with `model.file`"]);
    let choose = |file: &str| {
        let (dir, file) = (dir.path().to_owned(), Some(PathBuf::from(file)));
        Model::open(&ModelOptions { dir, file, preset: None })
    };
    assert_eq!(choose("onnx/model_fp16.onnx").unwrap().graph, onnx.join("model_fp16.onnx"));
    says(&told(&choose("onnx/model_int8.onnx").unwrap_err(), dir.path()), &["there is no file", candidates]);

    fs::copy(onnx.join("model_q4.onnx"), onnx.join("model.onnx")).unwrap();
    assert_eq!(open(dir.path()).unwrap().graph, onnx.join("model.onnx"));
}

#[test]
fn the_graph_that_genai_config_names_is_taken() {
    let dir = copy(PLAIN);
    let put = |file: &str| {
        let text = format!(r#"{{"model": {{"decoder": {{"filename": "{file}"}}}}}}"#);
        fs::write(dir.path().join("genai_config.json"), text).unwrap();
    };
    fs::copy(dir.path().join("model.onnx"), dir.path().join("decoder.onnx")).unwrap();
    put("decoder.onnx");
    assert_eq!(open(dir.path()).unwrap().graph, dir.path().join("decoder.onnx"));
    // What it names is not there, or no file of the folder: as if it named none.
    for file in ["other.onnx", "../decoder.onnx", "/decoder.onnx", ""] {
        put(file);
        assert_eq!(open(dir.path()).unwrap().graph, dir.path().join("model.onnx"), "{file}");
    }
    fs::remove_file(dir.path().join("model.onnx")).unwrap();
    put("other.onnx");
    says(&refusal(dir.path()), &["there is no file DIR/other.onnx", "choose one with `model.file`: `decoder.onnx`"]);
}

/// A graph cut short anywhere is refused, and so is what is no graph.
#[test]
fn damaged_graphs() {
    let dir = tempfile::tempdir().unwrap();
    let graph = dir.path().join("model.onnx");
    let whole = fs::read(fixture(GQA).join("model.onnx")).unwrap();
    for length in (1..whole.len()).step_by(whole.len() / 150).chain(whole.len() - 40..whole.len()) {
        fs::write(&graph, &whole[..length]).unwrap();
        says(&refusal(dir.path()), &["the graph DIR/model.onnx "]);
    }
    fs::write(&graph, &whole[..whole.len() / 2]).unwrap();
    says(&refusal(dir.path()), &["is not an ONNX file or was cut short at 73076 bytes", "fetch the file again"]);
    fs::write(&graph, "").unwrap();
    says(&refusal(dir.path()), &["the graph DIR/model.onnx is empty", "fetch the file again"]);
    fs::write(&graph, "version https://git-lfs.github.com/spec/v1\n").unwrap();
    says(&refusal(dir.path()), &["is not an ONNX file"]);
    fs::write(&graph, [0x08, 0x07]).unwrap();
    says(&refusal(dir.path()), &["holds no graph", "`model.file`"]);
    // Field 100 of the model: in no version of the schema.
    fs::write(&graph, [&whole[..], &[0xA0, 0x06, 0x01]].concat()).unwrap();
    says(&refusal(dir.path()), &["holds something this version does not know: 146155 bytes were read, 146152"]);
}

/// Two bytes each in the file, and hundreds in memory. Refused before anything is decoded.
#[test]
fn a_graph_of_nothing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let varint = |mut number: usize| {
        let mut bytes = Vec::new();
        while number > 0x7f {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        [bytes, vec![number as u8]].concat()
    };
    let field = |tag: u8, content: &[u8]| [&[tag << 3 | 2][..], &varint(content.len()), content].concat();
    let attributes = field(7, &field(1, &field(5, &[]).repeat(500_000)));
    let nodes = field(7, &field(1, &[]).repeat(500_000));
    let constants = field(7, &field(5, &[]).repeat(500_000));
    // A group, of which the schema has none, is passed over by the decoder.
    let behind_a_group = [&[0xa3, 0x06, 0x0a, 0x01, 0xff, 0xa4, 0x06][..], &nodes].concat();
    for content in [attributes, nodes, constants, behind_a_group] {
        fs::write(dir.path().join("model.onnx"), [&content[..], &[0x42, 0x02, 0x10, 0x12]].concat()).unwrap();
        says(&refusal(dir.path()), &["the graph DIR/model.onnx would take more than", "export the model again"]);
    }
}

#[test]
fn graphs_in_graphs_are_refused_where_they_are_too_deep() {
    let within = |depth: usize| {
        let mut graph = GraphProto::default();
        for _ in 0..depth {
            let branch = AttributeProto { g: Some(Box::new(graph)), ..AttributeProto::default() };
            let choice = NodeProto { attribute: vec![branch], ..node("If", &["scalar"], &["chosen"]) };
            graph = GraphProto { node: vec![choice], ..GraphProto::default() };
        }
        let mut outside = language_model(projection());
        outside.node.extend(graph.node);
        folder(outside)
    };
    open(within(10).path()).unwrap();
    for depth in [33, 100] {
        says(&refusal(within(depth).path()), &["nests more than 100 messages in one another", "export the model with"]);
    }
}

/// Whatever a flipped byte makes of a graph, opening it ends with an answer. (Without a manifest many
/// flips go unnoticed here: a name in the middle of the graph is only ONNX Runtime's business.)
#[test]
fn flipped_bytes_never_panic() {
    let dir = copy(GQA);
    let graph = dir.path().join("model.onnx");
    let whole = fs::read(&graph).unwrap();
    let (mut state, mut refused) = (1_u64, 0);
    for _ in 0..FLIPS {
        // A linear congruential generator (Knuth's MMIX): the same flips each time.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let place = usize::try_from(state >> 33).unwrap() % whole.len();
        let mut damaged = whole.clone();
        damaged[place] ^= 1 << (state >> 30 & 7);
        fs::write(&graph, damaged).unwrap();
        refused += usize::from(open(dir.path()).is_err());
    }
    assert!(refused > FLIPS / 20 && refused < FLIPS, "{refused} of {FLIPS} refused");
}

#[test]
fn config_files_that_do_not_parse() {
    for name in ["config.json", "generation_config.json", "tokenizer_config.json", "genai_config.json"] {
        let dir = copy(PLAIN);
        fs::write(dir.path().join(name), "{\n  \"eos_token_id\": ,\n}").unwrap();
        let place = format!("DIR/{name} does not parse at line 2, column 19: expected value\nmend the file");
        says(&refusal(dir.path()), &[&place]);
    }
    let dir = copy(PLAIN);
    fs::write(dir.path().join("config.json"), r#"{"num_hidden_layers": "many"}"#).unwrap();
    says(
        &refusal(dir.path()),
        &["DIR/config.json has `num_hidden_layers` = \"many\", expected a whole number", "mend the file"],
    );
    fs::write(dir.path().join("config.json"), r#"{"eos_token_id": "</s>"}"#).unwrap();
    says(&refusal(dir.path()), &["has `eos_token_id` = \"</s>\", expected a token id or a list of token ids"]);
    fs::write(dir.path().join("config.json"), "[1]").unwrap();
    says(&refusal(dir.path()), &["DIR/config.json has `` = a list, expected names with values"]);
}

#[test]
fn end_tokens_come_from_the_first_file_that_names_any() {
    let dir = copy(PLAIN);
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let found = || {
        let model = open(dir.path()).unwrap();
        let ids: Vec<_> = model.end_tokens.iter().map(|token| token.0).collect();
        (ids, model.end_tokens_source, model.notes)
    };
    put("genai_config.json", r#"{"model": {"eos_token_id": [3, 4]}}"#);
    put("generation_config.json", r#"{"eos_token_id": [1, 2]}"#);
    assert_eq!(found(), (vec![1, 2], Some("generation_config.json"), vec![]));
    put("generation_config.json", r#"{"eos_token_id": null}"#);
    assert_eq!(found(), (vec![511], Some("config.json"), vec![]));
    put("config.json", r#"{"eos_token_id": -1, "max_position_embeddings": 512}"#);
    assert_eq!(found(), (vec![3, 4], Some("genai_config.json"), vec![]));
    put("genai_config.json", r#"{"model": {"eos_token_id": 576}}"#);
    let outside = Note::EndTokenOutside { token: TokenId(576), vocab: 576 };
    assert_eq!(found(), (vec![576], Some("genai_config.json"), vec![outside]));
    fs::remove_file(dir.path().join("genai_config.json")).unwrap();
    assert_eq!(found(), (vec![], None, vec![Note::NoEndTokens]));
    let preset = Preset::parse("tiny", TINY).unwrap();
    let model = with_preset(dir.path(), preset).unwrap();
    assert_eq!(model.end_tokens, [TokenId(510), TokenId(511)]);
    assert_eq!(model.end_tokens_source, Some("preset"));
}

#[test]
fn the_context_is_the_smallest_that_anybody_gives() {
    let dir = copy(GQA);
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let context = || open(dir.path()).unwrap().context;
    let limit = |tokens, source| ContextLimit { tokens, source };
    put("config.json", r#"{"max_position_embeddings": 9000}"#);
    put("genai_config.json", r#"{"model": {"context_length": 8000}}"#);
    assert_eq!(context(), limit(4096, ContextSource::RotationTables));
    put("genai_config.json", r#"{"model": {"context_length": 3000}}"#);
    assert_eq!(context(), limit(3000, ContextSource::GenaiConfig));
    put("config.json", r#"{"max_position_embeddings": 2000}"#);
    assert_eq!(context(), limit(2000, ContextSource::Config));
    let model = with_preset(dir.path(), Preset::parse("tiny", TINY).unwrap()).unwrap();
    assert_eq!(model.context, limit(1024, ContextSource::Preset));

    let bare = open(folder(language_model(projection())).path()).unwrap();
    assert_eq!(bare.context, limit(2048, ContextSource::Default));
    assert!(bare.notes.contains(&Note::DefaultContext { tokens: 2048 }));
}

#[test]
fn the_context_is_read_in_every_spelling() {
    let dir = copy(PLAIN);
    let context = |config: &str| {
        fs::write(dir.path().join("config.json"), config).unwrap();
        open(dir.path()).unwrap().context
    };
    for key in [
        "max_position_embeddings",
        "n_positions",
        "n_ctx",
        "max_seq_len",
        "max_seq_length",
        "max_sequence_length",
        "seq_length",
        "model_max_length",
        "max_context_length",
    ] {
        let limit = ContextLimit { tokens: 100, source: ContextSource::Config };
        assert_eq!(context(&format!(r#"{{"{key}": 100, "sliding_window": 10}}"#)), limit, "{key}");
        assert_eq!(context(&format!(r#"{{"text_config": {{"{key}": 100.0}}}}"#)), limit, "{key}");
        assert_eq!(context(&format!(r#"{{"{key}": 100, "text_config": {{"{key}": 50}}}}"#)), limit, "{key}");
    }
    assert_eq!(context(r#"{"n_positions": 0, "n_ctx": 70, "seq_length": 80}"#).tokens, 70);

    // The tokenizer's word is taken where nobody else's is, and where it is a number that can be meant.
    let put = |text: &str| fs::write(dir.path().join("tokenizer_config.json"), text).unwrap();
    put(r#"{"model_max_length": 60}"#);
    assert_eq!(context(r#"{"n_ctx": 70}"#).tokens, 70);
    assert_eq!(context("{}"), ContextLimit { tokens: 60, source: ContextSource::TokenizerConfig });
    put(r#"{"model_max_length": 1000000000000000019884624838656}"#);
    assert_eq!(context("{}").source, ContextSource::Default);
}

/// A table of positions that the graph looks up in ends where the runtime would refuse to run.
#[test]
fn a_table_of_positions_bounds_the_context() {
    let mut graph = language_model([
        node("Gather", &["table", "position_ids"], &["places"]),
        node("Add", &["x", "places"], &["y"]),
        node("MatMul", &["y", "projection"], &["logits"]),
    ]);
    graph.initializer.push(floats("table", &[48, 32]));
    graph.input.push(value("position_ids", 7, vec![named("b"), named("s")]));
    let dir = folder(graph);
    fs::write(dir.path().join("config.json"), r#"{"n_positions": 64}"#).unwrap();
    let limit = ContextLimit { tokens: 48, source: ContextSource::PositionTable };
    assert_eq!(open(dir.path()).unwrap().context, limit);
}

/// As Python's json reads them, which has written them.
#[test]
fn config_files_are_read_as_other_readers_do() {
    let dir = copy(PLAIN);
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    put("config.json", "\u{FEFF}{\"n_ctx\": 9, \"n_ctx\": 300.0, \"time_step_limit\": [0.0, Infinity], \"x\": NaN}");
    put("generation_config.json", "\u{FEFF}{\"eos_token_id\": 1, \"eos_token_id\": [2.0], \"y\": -Infinity}");
    put("tokenizer_config.json", r#"{"model_max_length": Infinity, "model_max_length": Infinity}"#);
    put(
        "genai_config.json",
        r#"{"search": {"z": Infinity}, "model": {"context_length": 1}, "model": {"context_length": 256.0}}"#,
    );
    let model = open(dir.path()).unwrap();
    assert_eq!(model.context, ContextLimit { tokens: 256, source: ContextSource::GenaiConfig });
    assert_eq!(model.end_tokens, [TokenId(2)]);
}

#[test]
fn a_preset_that_agrees_changes_nothing_else() {
    let tiny = Preset::parse("tiny", TINY).unwrap();
    let model = with_preset(&fixture(PLAIN), tiny).unwrap();
    assert_eq!(model.notes, []);
    assert_eq!(model.rotation.preset_base, Some(1e6));
}

#[test]
fn presets_that_disagree() {
    let disagrees = |from: &str, to: &str, config: Option<&str>| {
        let dir = copy(PLAIN);
        match config {
            Some(config) => fs::write(dir.path().join("config.json"), config).unwrap(),
            None => fs::remove_file(dir.path().join("config.json")).unwrap(),
        }
        let preset = Preset::parse("tiny", &TINY.replace(from, to)).unwrap();
        told(&with_preset(dir.path(), preset).unwrap_err(), dir.path())
    };
    let cases = [
        ("layers = 24", "layers = 28", "expects 28 layers, DIR/model.onnx has 24"),
        ("kv_heads = 2", "kv_heads = 4", "expects 4 KV heads, DIR/model.onnx has 2"),
        ("head_dim = 16", "head_dim = 64", "expects 64 elements a head, DIR/model.onnx has 16"),
        ("hidden = 64", "hidden = 896", "expects 896 elements a hidden state, DIR/model.onnx has 64"),
        ("vocab = 576", "vocab = 577", "expects 577 rows of the vocabulary, DIR/model.onnx has 576"),
    ];
    for (from, to, message) in cases {
        says(&disagrees(from, to, None), &[&format!("preset `tiny` {message}"), "remove `model.preset`"]);
    }
    says(
        &disagrees("heads = 4", "heads = 4", Some(r#"{"num_attention_heads": 8}"#)),
        &["preset `tiny` expects 4 query heads, DIR/config.json has 8", "choose a preset with 8 query heads"],
    );
    says(
        &disagrees("511]", "575]", None),
        &["preset `tiny` expects the end token 575, the tokenizer in DIR has no such id"],
    );
    let qwen = Preset::find("qwen2.5-coder-1.5b").unwrap();
    says(
        &told(&with_preset(&fixture(PLAIN), qwen).unwrap_err(), &fixture(PLAIN)),
        &["preset `qwen2.5-coder-1.5b` expects 28 layers, DIR/model.onnx has 24"],
    );
}

#[test]
fn presets_by_name_and_by_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mine.toml");
    let find = |name: &str| Preset::find(name).map_err(|error| (error.to_string(), error.hint()));
    let (message, hint) = find("qwen").unwrap_err();
    assert_eq!(message, "there is no preset `qwen`");
    says(&hint.unwrap(), &["`qwen2.5-coder-0.5b`, ", "`smollm2-135m`"]);
    let path = file.to_str().unwrap();
    says(&find(path).unwrap_err().0, &["cannot read the preset", "mine.toml"]);
    fs::write(&file, TINY).unwrap();
    assert_eq!(find(path).unwrap().claims.layers, 24);
    fs::write(&file, format!("{TINY}speed = 1\n")).unwrap();
    says(&find(path).unwrap_err().0, &["mine.toml` does not parse"]);
}

/// The graph is the truth; that config.json says otherwise is worth a note.
#[test]
fn a_config_that_disagrees_is_noted() {
    let dir = copy(PLAIN);
    fs::write(
        dir.path().join("config.json"),
        r#"{"num_hidden_layers": 12, "eos_token_id": 1, "rope_theta": 10000, "max_position_embeddings": 99}"#,
    )
    .unwrap();
    let layers = Note::ConfigDisagrees { fact: Fact::Layers, config: 12, graph: 24 };
    let model = open(dir.path()).unwrap();
    assert_eq!(model.notes, [layers]);
    assert_eq!(model.notes[0].to_string(), "config.json says 12 layers, the graph has 24");
    fs::write(dir.path().join("config.json"), r#"{"rope_parameters": {"rope_theta": 10000.0}, "eos_token_id": 1}"#)
        .unwrap();
    let model = with_preset(dir.path(), Preset::parse("tiny", TINY).unwrap()).unwrap();
    assert_eq!(model.notes, [Note::RotationBase { config: 10000.0, preset: 1e6 }]);
}

#[test]
fn without_a_tokenizer_each_byte_is_a_token() {
    let dir = copy(PLAIN);
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    let model = open(dir.path()).unwrap();
    assert_eq!(model.notes, [Note::ByteFallback]);
    let tokenizer = model.tokenizer;
    assert_eq!(tokenizer.kind(), TokenizerKind::Bytes);
    let ids = [0xC3, 0xA9, 0x00].map(TokenId);
    assert_eq!(tokenizer.encode("é\0").unwrap(), ids);
    assert_eq!(tokenizer.decode(&ids), "é\0");
    let odd = [0xC3, 256, 0xA9, 575, u32::MAX, 0x41].map(TokenId);
    assert_eq!(tokenizer.decode(&odd), "\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}A");
}

/// Tokens for images, which a graph that reads text has no rows for.
#[test]
fn a_tokenizer_may_have_tokens_that_the_graph_does_not_know() {
    let mut graph = language_model(projection());
    graph.output[0] = value("logits", 1, vec![sized(1), sized(1), sized(511)]);
    let dir = folder(graph);
    fs::copy(fixture(PLAIN).join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    let model = open(dir.path()).unwrap();
    let outside = Note::TokensOutside { count: 1, id_max: 511, vocab: 511 };
    assert!(model.notes.contains(&outside), "{:?}", model.notes);
    assert_eq!(
        outside.to_string(),
        "1 of the tokenizer's tokens, with ids up to 511, are outside the vocabulary of 511 rows: \
         a text that has one is refused"
    );
    let id = TokenId(511);
    let text = model.tokenizer.token(id).unwrap();
    assert_eq!(model.tokenizer.encode(&text).unwrap(), [id]);
    assert_eq!(model.tokenizer.decode(&[id]), text);
}

#[test]
fn tokenizers_that_do_not_fit() {
    let dir = copy(PLAIN);
    let file = dir.path().join("tokenizer.json");
    let whole = fs::read_to_string(&file).unwrap();
    // Over a decoder that it does not know the library panics.
    let panics = r#"{"added_tokens":[],"decoder":{"":0},"model":{"type":"BPE","vocab":{},"merges":[]}}"#;
    for broken in ["", "{}", "[1, 2]", &whole[..whole.len() / 2], panics] {
        fs::write(&file, broken).unwrap();
        says(&refusal(dir.path()), &["the tokenizer DIR/tokenizer.json is broken\n", "fetch `tokenizer.json` again"]);
    }

    let mut graph = language_model(projection());
    graph.output[0] = value("logits", 1, vec![sized(1), sized(1), sized(200)]);
    let small = folder(graph);
    says(&refusal(small.path()), &["there is no DIR/tokenizer.json and the vocabulary has 200 rows"]);
    fs::write(small.path().join("tokenizer.json"), &whole).unwrap();
    says(
        &refusal(small.path()),
        &["DIR/tokenizer.json has 512 tokens with ids up to 511, the vocabulary of the graph has 200 rows"],
    );
}
