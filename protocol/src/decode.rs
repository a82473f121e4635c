//! A line of the protocol, version 1, becomes a request or a refusal. Pure.
//!
//! Keys and types are judged here; ranges and limits are the brain's to judge, the same for every
//! caller. A key whose value is `null` was given, with a value of the wrong type: leave it out instead.

use std::{path::PathBuf, time::Duration};

use motorbrain_actors::{
    engine::Sampling,
    message::{
        BrainError, ClientId, ConversationId, Embed, Fork, Input, PIECE_TOKENS, Part, Pieces, Priority, Request,
        Rewind, Score, Sharing, Step, Terms, VectorTerms,
    },
    policy::{ListAsk, NAME_BYTES_MAX},
    tokens::TokenId,
    vectors::{Format, Kind},
};
use serde_json::value::RawValue;

use crate::{
    fields::{Fields, KeyProblem},
    grammar::Grammar,
    values::{self, bad, cut, missing, wrong},
};

/// The longest deadline and the longest hang that can be asked for: a day.
pub const MS_MAX: u64 = 86_400_000;

/// The longest id as it is written: it is kept until its request is answered.
const ID_BYTES_MAX: usize = 1024;

const OPS: &str = "one of `embed`, `step`, `score`, `reset`, `close`, `fork`, `rewind`, `rerank`, `tokenize`, `detokenize`, `cancel`, `stats`, `list`, `inspect`";

/// What the codec must know of the brain it speaks for.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Whether `crash` and `hang` are served.
    pub chaos: bool,
    /// Whether `export` and `import` are.
    pub files: bool,
    /// Rows of the vocabulary.
    pub vocab: usize,
}

/// What a line asks for.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "most lines are work, which is large")]
pub enum Op {
    /// Something that has its turn among others.
    Work(Work, Manner),
    /// To take back what was asked for.
    Cancel(Cancel),
    /// The brain's state.
    Stats,
    /// A page of the conversations.
    List(ListAsk),
    /// What a conversation is.
    Inspect(ConversationId),
    /// Make an actor panic.
    Crash {
        /// Which one.
        actor: usize,
    },
    /// Make an actor sleep without answering.
    Hang {
        /// Which one.
        actor: usize,
        /// For how long.
        pause: Duration,
    },
}

/// What is to be done for a caller.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// A request about a conversation that is no step.
    Ask(Request),
    /// To append, and sample.
    Step {
        /// What is asked; its grammar is still to be compiled.
        step: Step,
        /// What its tokens are to spell.
        grammar: Option<Grammar>,
        /// Whether it is shown as it comes.
        stream: bool,
    },
    /// The tokens of an input.
    Tokenize(Input),
    /// The text of tokens.
    Detokenize(Vec<TokenId>),
    /// To order documents by how well they answer a query.
    Rerank {
        /// What is looked for.
        query: String,
        /// Where.
        documents: Vec<String>,
        /// So many parts of the score are added to the cosine of the vectors; `None`: as settings say.
        mix: Option<f32>,
        /// With whom the documents' keys and values are shared.
        sharing: Option<Sharing>,
    },
    /// To write a conversation to a file.
    Export {
        /// Which one.
        conversation: ConversationId,
        /// Where to.
        path: PathBuf,
    },
    /// To make a conversation of a file.
    Import {
        /// The new one's name.
        conversation: ConversationId,
        /// Where it lies.
        path: PathBuf,
        /// Whether its tokens are enough.
        tokens_only: bool,
    },
}

/// For whom, how soon and by when; what is left out is as for any other request of the same caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Whose it is.
    pub client: Option<ClientId>,
    /// How much it gets beside others.
    pub priority: Option<Priority>,
    /// How long it may take.
    pub deadline: Option<Duration>,
}

/// What is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// The requests of this id, as it was written.
    Request(Box<str>),
    /// All that is not done in a conversation.
    Conversation(ConversationId),
}

/// A decoded line.
#[derive(Debug)]
pub struct Decoded {
    /// The id as it was written; `null` where the line has none.
    pub id: Box<RawValue>,
    /// What is asked, or why it is not a request.
    pub op: Result<Op, BrainError>,
}

/// Reads a line, which need not be UTF-8, let alone JSON.
pub fn decode(line: &[u8], rules: &Rules) -> Decoded {
    let parsed = std::str::from_utf8(line)
        .map_err(|error| not_json(error.to_string()))
        .and_then(|text| Fields::parse(text).map_err(|error| not_json(error.to_string())));
    let mut fields = match parsed {
        Ok(fields) => fields,
        Err(error) => return without_id(error),
    };
    match id(&mut fields) {
        Ok(id) => Decoded { id: id.to_owned(), op: op(&mut fields, rules) },
        Err(error) => without_id(error),
    }
}

/// Reads the object of an op that is named elsewhere, by a path say, and so is the conversation, if one is. No object is
/// one without keys; neither `id` nor `op` is a key of it.
///
/// # Errors
/// What is no request of this op.
pub fn decode_keys(op: &str, conversation: Option<&str>, keys: &[u8], rules: &Rules) -> Result<Op, BrainError> {
    let not_keys = |reason: String| bad("the body", format!("no request: {reason}"), "one JSON object");
    let text = match std::str::from_utf8(keys).map_err(|error| not_keys(error.to_string()))?.trim() {
        "" => "{}",
        text => text,
    };
    let name = conversation.map(serde_json::value::to_raw_value).transpose();
    let name = name.map_err(|error| not_keys(error.to_string()))?;
    let mut fields = Fields::parse(text).map_err(|error| not_keys(error.to_string()))?;
    if let Some(name) = &name
        && fields.put("conversation", name).is_some()
    {
        return Err(bad("conversation", "given in the body as well", "only where the request is sent to"));
    }
    check(&fields)?;
    keys_of(op, &format!("{op:?}"), &mut fields, rules)
}

/// A line that is longer than `bytes_max` and was not read.
pub fn too_long(bytes_max: usize) -> Decoded {
    without_id(bad("the line", "too long to be read", format!("at most {bytes_max} bytes")))
}

fn without_id(error: BrainError) -> Decoded {
    Decoded { id: RawValue::NULL.to_owned(), op: Err(error) }
}

fn not_json(reason: String) -> BrainError {
    bad("the line", format!("no request: {reason}"), "one JSON object")
}

fn id<'a>(fields: &mut Fields<'a>) -> Result<&'a RawValue, BrainError> {
    let id = fields.take_raw("id").ok_or_else(|| missing("id", an_id()))?;
    if is_id(id.get()) { Ok(id) } else { Err(wrong("id", id.get(), an_id())) }
}

fn is_id(raw: &str) -> bool {
    (values::is_text(raw) || values::is_number(raw)) && raw.len() <= ID_BYTES_MAX
}

fn an_id() -> String {
    format!("a string or a number of at most {ID_BYTES_MAX} bytes")
}

fn op(fields: &mut Fields<'_>, rules: &Rules) -> Result<Op, BrainError> {
    check(fields)?;
    let raw = fields.take("op").ok_or_else(|| missing("op", OPS))?;
    let name = values::text("op", raw)?;
    keys_of(&name, raw, fields, rules)
}

/// Whether each key is one of the protocol's and stands once.
fn check(fields: &Fields<'_>) -> Result<(), BrainError> {
    match fields.problem() {
        Some(KeyProblem::Twice(key)) => Err(bad("the key given twice", format!("`{}`", cut(key)), "each key once")),
        Some(KeyProblem::Unknown(key)) => {
            Err(bad("the unknown key", format!("`{}`", cut(key)), "only keys of the protocol"))
        }
        None => Ok(()),
    }
}

/// What the op of this name asks for; `raw`: the name as it was written.
fn keys_of(name: &str, raw: &str, fields: &mut Fields<'_>, rules: &Rules) -> Result<Op, BrainError> {
    let op = match name {
        "cancel" => Op::Cancel(cancel(fields)?),
        "stats" => Op::Stats,
        "list" => Op::List(list(fields)?),
        "inspect" => Op::Inspect(conversation(fields)?),
        "crash" | "hang" if !rules.chaos => {
            return Err(bad("op", format!("`{name}`, which needs `--chaos`"), OPS));
        }
        "crash" => Op::Crash { actor: actor(fields)? },
        "hang" => Op::Hang { actor: actor(fields)?, pause: pause(fields)? },
        name => match work(name, fields, rules)? {
            Some(work) => Op::Work(work, manner(fields)?),
            None => return Err(wrong("op", raw, OPS)),
        },
    };
    match fields.left() {
        Some(key) => Err(bad("the key without meaning here", format!("`{key}`"), format!("only keys of `{name}`"))),
        None => Ok(op),
    }
}

/// `None`: there is no such op among them.
fn work(name: &str, fields: &mut Fields<'_>, rules: &Rules) -> Result<Option<Work>, BrainError> {
    Ok(Some(match name {
        "export" | "import" if !rules.files => {
            return Err(bad("op", format!("`{name}`, which needs `--allow-files`"), OPS));
        }
        "export" => Work::Export { conversation: conversation(fields)?, path: path(fields)? },
        "import" => Work::Import {
            conversation: conversation(fields)?,
            path: path(fields)?,
            tokens_only: fields.take("tokens_only").map_or(Ok(false), |raw| values::flag("tokens_only", raw))?,
        },
        "embed" => Work::Ask(Request::Embed(embed(fields, rules)?)),
        "step" => Work::Step {
            stream: fields.take("stream").map_or(Ok(false), |raw| values::flag("stream", raw))?,
            grammar: fields.take("grammar").map(Grammar::parse).transpose()?,
            step: step(fields, rules)?,
        },
        "score" => Work::Ask(Request::Score(Score {
            conversation: conversation(fields)?,
            input: required_input(fields, rules)?,
            top: count(fields, "top", 0)?,
            terms: terms(fields)?,
        })),
        "fork" => Work::Ask(Request::Fork(Fork {
            from: conversation(fields)?,
            to: match fields.take("to") {
                Some(raw) => values::text("to", raw)?.into(),
                None => return Err(missing("to", "a string")),
            },
            at: fields.take("at").map(|raw| values::count("at", raw)).transpose()?,
            choice: choice(fields)?,
        })),
        "rewind" => Work::Ask(Request::Rewind(Rewind {
            conversation: conversation(fields)?,
            context_len: match fields.take("context_len") {
                Some(raw) => values::count("context_len", raw)?,
                None => return Err(missing("context_len", "a number of tokens")),
            },
        })),
        "reset" => Work::Ask(Request::Reset(conversation(fields)?)),
        "close" => Work::Ask(Request::Close(conversation(fields)?)),
        "tokenize" => Work::Tokenize(text_or_parts(fields, rules)?),
        "rerank" => Work::Rerank {
            query: match fields.take("query") {
                Some(raw) => values::text("query", raw)?,
                None => return Err(missing("query", "a string")),
            },
            documents: match fields.take("documents") {
                Some(raw) => values::texts("documents", raw)?,
                None => return Err(missing("documents", "a list of strings")),
            },
            mix: fields.take("mix").map(|raw| values::float("mix", raw)).transpose()?,
            sharing: sharing(fields)?,
        },
        "detokenize" => Work::Detokenize(match fields.take("token_ids") {
            Some(raw) => values::token_ids(raw, rules.vocab)?,
            None => return Err(missing("token_ids", "a list of token ids")),
        }),
        _ => return Ok(None),
    }))
}

fn manner(fields: &mut Fields<'_>) -> Result<Manner, BrainError> {
    Ok(Manner {
        client: fields.take("client").map(client).transpose()?,
        priority: fields.take("priority").map(priority).transpose()?,
        deadline: fields.take("deadline_ms").map(|raw| milliseconds("deadline_ms", raw, 1)).transpose()?,
    })
}

/// Its length is judged here: who counts the requests of each client does so before they are looked at.
fn client(raw: &str) -> Result<ClientId, BrainError> {
    let name = values::text("client", raw)?;
    if name.len() > NAME_BYTES_MAX {
        return Err(bad("client", format!("{} bytes long", name.len()), format!("at most {NAME_BYTES_MAX}")));
    }
    Ok(name.into())
}

fn priority(raw: &str) -> Result<Priority, BrainError> {
    match serde_json::from_str::<String>(raw).ok().as_deref() {
        Some("interactive") => Ok(Priority::Interactive),
        Some("background") => Ok(Priority::Background),
        _ => Err(wrong("priority", raw, "`interactive` or `background`")),
    }
}

fn cancel(fields: &mut Fields<'_>) -> Result<Cancel, BrainError> {
    match (fields.take("request"), fields.take("conversation")) {
        (Some(_), Some(_)) => Err(bad("conversation", "given beside `request`", "one of the two")),
        (Some(raw), None) if is_id(raw) => Ok(Cancel::Request(raw.into())),
        (Some(raw), None) => Err(wrong("request", raw, an_id())),
        (None, Some(raw)) => values::text("conversation", raw).map(|name| Cancel::Conversation(name.into())),
        (None, None) => Err(missing("request", "the id of a request, or `conversation`")),
    }
}

fn list(fields: &mut Fields<'_>) -> Result<ListAsk, BrainError> {
    let after = fields.take("after").map(|raw| values::text("after", raw)).transpose()?;
    let limit = fields.take("limit").map_or(Ok(ListAsk::default().limit), |raw| values::count("limit", raw))?;
    Ok(ListAsk { after: after.map(ConversationId::from), limit })
}

fn embed(fields: &mut Fields<'_>, rules: &Rules) -> Result<Embed, BrainError> {
    let conversation = fields.take("conversation").map(|raw| values::text("conversation", raw)).transpose()?;
    let conversation = conversation.map(ConversationId::from);
    Ok(Embed { conversation, vector: vector(fields)?, input: required_input(fields, rules)?, terms: terms(fields)? })
}

fn vector(fields: &mut Fields<'_>) -> Result<VectorTerms, BrainError> {
    let kinds = [("query", Kind::Query), ("document", Kind::Document)];
    Ok(VectorTerms {
        kind: word(fields, "kind", kinds, "`query` or `document`")?.unwrap_or_default(),
        dim: fields.take("dim").map(|raw| values::count("dim", raw)).transpose()?,
        format: word(fields, "format", [("f32", Format::F32), ("i8", Format::I8)], "`f32` or `i8`")?,
        raw: false,
        pieces: pieces(fields)?,
    })
}

fn pieces(fields: &mut Fields<'_>) -> Result<Pieces, BrainError> {
    let each = word(fields, "pieces", [("whole", false), ("each", true)], "`whole` or `each`")?;
    match (each, fields.take("piece_tokens")) {
        (Some(true), None) => Ok(Pieces::Each { tokens: PIECE_TOKENS }),
        (Some(true), Some(raw)) => Ok(Pieces::Each { tokens: values::count("piece_tokens", raw)? }),
        (_, Some(_)) => Err(bad("piece_tokens", "given where the text has one vector", "`pieces` to be `each`")),
        (_, None) => Ok(Pieces::Whole),
    }
}

/// What one of two words stands for.
fn word<T>(
    fields: &mut Fields<'_>,
    key: &'static str,
    words: [(&str, T); 2],
    expected: &str,
) -> Result<Option<T>, BrainError> {
    let Some(raw) = fields.take(key) else { return Ok(None) };
    let text = values::text(key, raw).map_err(|_| wrong(key, raw, expected))?;
    let found = words.into_iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| Some(value)).ok_or_else(|| wrong(key, raw, expected))
}

fn count(fields: &mut Fields<'_>, key: &'static str, default: usize) -> Result<usize, BrainError> {
    fields.take(key).map_or(Ok(default), |raw| values::count(key, raw))
}

fn step(fields: &mut Fields<'_>, rules: &Rules) -> Result<Step, BrainError> {
    let conversation = conversation(fields)?;
    Ok(Step {
        conversation,
        count: count(fields, "count", 1)?,
        top: count(fields, "top", 0)?,
        n: count(fields, "n", 1)?,
        sampling: sampling(fields, rules)?,
        seed: fields.take("seed").map(|raw| values::whole("seed", raw)).transpose()?,
        input: input(fields, rules)?,
        stop: fields.take("stop").map_or(Ok(Vec::new()), |raw| values::texts("stop", raw))?,
        grammar: None,
        terms: terms(fields)?,
    })
}

fn terms(fields: &mut Fields<'_>) -> Result<Terms, BrainError> {
    let sharing = sharing(fields)?;
    let pin = fields.take("pin").map_or(Ok(false), |raw| values::flag("pin", raw))?;
    Ok(Terms { choice: choice(fields)?, sharing, pin })
}

fn sharing(fields: &mut Fields<'_>) -> Result<Option<Sharing>, BrainError> {
    let share = fields.take("share").map(|raw| values::flag("share", raw)).transpose()?;
    let scope = fields.take("scope").map(|raw| values::text("scope", raw)).transpose()?;
    Ok(match (share, scope) {
        (Some(false), Some(_)) => return Err(bad("scope", "given beside `share` false", "one of the two")),
        (Some(false), None) => Some(Sharing::Nobody),
        (_, Some(scope)) => Some(Sharing::With(Some(scope.into()))),
        (Some(true), None) => Some(Sharing::With(None)),
        (None, None) => None,
    })
}

fn choice(fields: &mut Fields<'_>) -> Result<Option<usize>, BrainError> {
    fields.take("choice").map(|raw| values::count("choice", raw)).transpose()
}

fn sampling(fields: &mut Fields<'_>, rules: &Rules) -> Result<Sampling, BrainError> {
    let mut sampling = Sampling::GREEDY;
    for (key, value) in [
        ("temperature", &mut sampling.temperature),
        ("top_p", &mut sampling.top_p),
        ("min_p", &mut sampling.min_p),
        ("repetition_penalty", &mut sampling.repetition_penalty),
        ("presence_penalty", &mut sampling.presence_penalty),
        ("frequency_penalty", &mut sampling.frequency_penalty),
    ] {
        if let Some(raw) = fields.take(key) {
            *value = values::float(key, raw)?;
        }
    }
    if let Some(raw) = fields.take("top_k") {
        sampling.top_k = values::count("top_k", raw)?;
    }
    if let Some(raw) = fields.take("logit_bias") {
        sampling.logit_bias = values::biases("logit_bias", raw, rules.vocab)?.into();
    }
    Ok(sampling)
}

fn conversation(fields: &mut Fields<'_>) -> Result<ConversationId, BrainError> {
    let raw = fields.take("conversation").ok_or_else(|| missing("conversation", "a string"))?;
    values::text("conversation", raw).map(ConversationId::from)
}

fn path(fields: &mut Fields<'_>) -> Result<PathBuf, BrainError> {
    let raw = fields.take("path").ok_or_else(|| missing("path", "a string"))?;
    values::text("path", raw).map(PathBuf::from)
}

fn input(fields: &mut Fields<'_>, rules: &Rules) -> Result<Option<Input>, BrainError> {
    let one = "one of `text`, `token_ids` and `parts`";
    match (fields.take("text"), fields.take("token_ids"), fields.take("parts")) {
        (Some(_), Some(_), _) => Err(bad("token_ids", "given beside `text`", one)),
        (Some(_), _, Some(_)) => Err(bad("parts", "given beside `text`", one)),
        (_, Some(_), Some(_)) => Err(bad("parts", "given beside `token_ids`", one)),
        (Some(raw), None, None) => Ok(Some(Input::Text(values::text("text", raw)?))),
        (None, Some(raw), None) => Ok(Some(Input::Tokens(values::token_ids(raw, rules.vocab)?))),
        (None, None, Some(raw)) => Ok(Some(Input::Parts(parts(raw, rules)?))),
        (None, None, None) => Ok(None),
    }
}

fn required_input(fields: &mut Fields<'_>, rules: &Rules) -> Result<Input, BrainError> {
    input(fields, rules)?.ok_or_else(|| missing("text", "`text`, `token_ids` or `parts`"))
}

/// What becomes tokens; tokens alone are left as a key without meaning.
fn text_or_parts(fields: &mut Fields<'_>, rules: &Rules) -> Result<Input, BrainError> {
    match (fields.take("text"), fields.take("parts")) {
        (Some(_), Some(_)) => Err(bad("parts", "given beside `text`", "one of the two")),
        (Some(raw), None) => Ok(Input::Text(values::text("text", raw)?)),
        (None, Some(raw)) => Ok(Input::Parts(parts(raw, rules)?)),
        (None, None) => Err(missing("text", "`text` or `parts`")),
    }
}

/// A list of objects, each with one key that says what it is.
fn parts(raw: &str, rules: &Rules) -> Result<Vec<Part>, BrainError> {
    values::list("parts", raw, "a list of objects")?.into_iter().map(|raw| part(raw, rules)).collect()
}

fn part(raw: &str, rules: &Rules) -> Result<Part, BrainError> {
    let expected = "objects with one of `text`, `literal` and `token_ids`";
    let mut fields = Fields::parse(raw).map_err(|_| wrong("parts", raw, expected))?;
    let part = match (fields.take("text"), fields.take("literal"), fields.take("token_ids")) {
        (Some(raw), None, None) => Part::Text(values::text("text", raw)?),
        (None, Some(raw), None) => Part::Literal(values::text("literal", raw)?),
        (None, None, Some(raw)) => Part::Tokens(values::token_ids(raw, rules.vocab)?),
        _ => return Err(wrong("parts", raw, expected)),
    };
    match (fields.problem(), fields.left()) {
        (None, None) => Ok(part),
        _ => Err(wrong("parts", raw, expected)),
    }
}

fn actor(fields: &mut Fields<'_>) -> Result<usize, BrainError> {
    let raw = fields.take("actor").ok_or_else(|| missing("actor", "the index of an actor"))?;
    values::count("actor", raw)
}

fn pause(fields: &mut Fields<'_>) -> Result<Duration, BrainError> {
    let raw = fields.take("ms").ok_or_else(|| missing("ms", "milliseconds"))?;
    milliseconds("ms", raw, 0)
}

/// A time of at least so many of them, and at most a day.
fn milliseconds(what: &'static str, raw: &str, least: u64) -> Result<Duration, BrainError> {
    match values::whole(what, raw)? {
        ms if ms < least => Err(wrong(what, raw, format!("at least {least}"))),
        ms if ms > MS_MAX => Err(wrong(what, raw, format!("at most {MS_MAX}, a day"))),
        ms => Ok(Duration::from_millis(ms)),
    }
}

#[cfg(test)]
mod tests {
    use motorbrain_actors::tokens::TokenId;

    use super::*;

    const RULES: Rules = Rules { chaos: true, files: true, vocab: 576 };

    /// What a line asks for, with its id.
    fn check(line: &str, id: &str, op: Op) {
        let decoded = decode(line.as_bytes(), &RULES);
        assert_eq!((decoded.id.get(), decoded.op), (id, Ok(op)), "{line}");
    }

    /// The code and the words with which a line is refused.
    fn check_refused(line: impl AsRef<[u8]>, id: &str, code: &str, words: &str) {
        let line = line.as_ref();
        let shown = String::from_utf8_lossy(line);
        let decoded = decode(line, &RULES);
        let error = decoded.op.expect_err(&shown);
        assert_eq!((decoded.id.get(), error.code().as_str()), (id, code), "{shown}");
        assert!(error.to_string().contains(words), "{shown}: {error}");
    }

    /// Of a request about a conversation that says nothing of how it is to be done.
    fn ask(request: Request) -> Op {
        Op::Work(Work::Ask(request), Manner::default())
    }

    /// Of a step that is asked for as a whole and may say anything.
    fn step_of(step: Step) -> Op {
        Op::Work(Work::Step { step, grammar: None, stream: false }, Manner::default())
    }

    fn a() -> ConversationId {
        ConversationId::from("a")
    }

    #[test]
    fn an_op_and_a_conversation_may_be_named_elsewhere() {
        let read = |op: &str, conversation, keys: &str| decode_keys(op, conversation, keys.as_bytes(), &RULES);
        assert_eq!(read("reset", Some("a"), ""), Ok(ask(Request::Reset(a()))));
        assert_eq!(read("reset", Some("a"), " {} "), Ok(ask(Request::Reset(a()))));
        assert_eq!(read("embed", None, r#"{"text":"x"}"#), Ok(ask(Request::Embed(Embed::of("x")))));
        for (op, conversation, keys, words) in [
            ("reset", Some("a"), r#"{"conversation":"b"}"#, "given in the body as well"),
            ("reset", Some("a"), r#"{"id":1}"#, "`id`"),
            ("reset", Some("a"), r#"{"op":"close"}"#, "`op`"),
            ("reset", Some("a"), r#"{"x":1}"#, "the unknown key is `x`"),
            ("reset", Some("a"), "[]", "one JSON object"),
            ("reset", Some("a"), "\u{0}", "one JSON object"),
            ("tokenize", Some("a"), r#"{"text":"x"}"#, "`conversation`"),
            ("nope", None, "", "op is \"nope\""),
        ] {
            let refused = read(op, conversation, keys).expect_err(keys).to_string();
            assert!(refused.contains(words), "{op} {keys}: {refused}");
        }
    }

    #[test]
    fn every_op_is_read() {
        let text = |text: &str| Input::from(text);
        let stateless = Embed::of("x");
        check(r#"{"id":1,"op":"embed","text":"x"}"#, "1", ask(Request::Embed(stateless)));
        let input = Input::Tokens(vec![TokenId(5), TokenId(0)]);
        let embed = Embed { conversation: Some(a()), ..Embed::of(input) };
        check(r#"{"op":"embed","token_ids":[5,0],"conversation":"a","id":"x"}"#, r#""x""#, ask(Request::Embed(embed)));
        let vector =
            VectorTerms { kind: Kind::Query, dim: Some(256), format: Some(Format::I8), ..VectorTerms::default() };
        let line = r#"{"id":1,"op":"embed","text":"x","kind":"query","dim":256,"format":"i8"}"#;
        check(line, "1", ask(Request::Embed(Embed { vector, ..Embed::of("x") })));
        let vector = VectorTerms { format: Some(Format::F32), ..VectorTerms::default() };
        let line = r#"{"id":1,"op":"embed","text":"x","kind":"document","format":"f32"}"#;
        check(line, "1", ask(Request::Embed(Embed { vector, ..Embed::of("x") })));
        for (key, pieces) in [
            (r#""pieces":"whole""#, Pieces::Whole),
            (r#""pieces":"each""#, Pieces::Each { tokens: 256 }),
            (r#""pieces":"each","piece_tokens":40"#, Pieces::Each { tokens: 40 }),
        ] {
            let vector = VectorTerms { pieces, ..VectorTerms::default() };
            let line = format!(r#"{{"id":1,"op":"embed","text":"x",{key}}}"#);
            check(&line, "1", ask(Request::Embed(Embed { vector, ..Embed::of("x") })));
        }
        for (key, told) in [
            (r#""pieces":"all""#, "`whole` or `each`"),
            (r#""pieces":true"#, "`whole` or `each`"),
            (r#""piece_tokens":40"#, "`pieces` to be `each`"),
            (r#""pieces":"whole","piece_tokens":40"#, "`pieces` to be `each`"),
            (r#""pieces":"each","piece_tokens":-1"#, "piece_tokens is -1"),
            (r#""kind":"answer""#, "`query` or `document`"),
            (r#""kind":1"#, "kind is 1"),
            (r#""format":"f16""#, "`f32` or `i8`"),
            (r#""dim":-1"#, "dim is -1"),
            (r#""dim":"all""#, "dim is"),
            (r#""raw":true"#, "unknown key"),
        ] {
            check_refused(format!(r#"{{"id":1,"op":"embed","text":"x",{key}}}"#), "1", "bad_request", told);
        }
        let step = Step::greedy(a(), "x", 1);
        let bare = Step { input: None, ..step.clone() };
        check(r#"{"id":1,"op":"step","conversation":"a"}"#, "1", step_of(bare));
        let full = Step {
            count: 8,
            sampling: Sampling {
                temperature: 0.5,
                top_k: 40,
                top_p: 0.9,
                min_p: 0.05,
                repetition_penalty: 1.25,
                presence_penalty: -0.5,
                frequency_penalty: 2.0,
                logit_bias: vec![(TokenId(7), -100.0), (TokenId(0), 0.5)].into(),
            },
            seed: Some(u64::MAX),
            top: 5,
            stop: vec!["\n\n".into(), "ä".into()],
            ..step
        };
        check(
            r#"{"id":1,"op":"step","conversation":"a","text":"x","count":8,"temperature":5e-1,"top_k":40,"top_p":0.9,"min_p":0.05,"repetition_penalty":1.25,"presence_penalty":-0.5,"frequency_penalty":2,"logit_bias":[[7,-1e2],[0,0.5]],"seed":18446744073709551615,"top":5,"stop":["\n\n","\u00e4"],"stream":false}"#,
            "1",
            step_of(full),
        );
        let score = Score { top: 2, ..Score::of(a(), text("")) };
        check(r#"{"id":1,"op":"score","conversation":"a","text":"","top":2}"#, "1", ask(Request::Score(score)));
        let streamed = Step { stop: vec![], ..Step::greedy(a(), "x", 1) };
        check(
            r#"{"id":1,"op":"step","conversation":"a","text":"x","stream":true}"#,
            "1",
            Op::Work(Work::Step { step: streamed.clone(), grammar: None, stream: true }, Manner::default()),
        );
        let grammar = Some(Grammar::Regex("[a-z]".into()));
        check(
            r#"{"id":1,"op":"step","conversation":"a","text":"x","grammar":{"regex":"[a-z]"}}"#,
            "1",
            Op::Work(Work::Step { step: streamed, grammar, stream: false }, Manner::default()),
        );
        check_refused(r#"{"id":1,"op":"step","conversation":"a","regex":"[a-z]"}"#, "1", "bad_request", "`regex`");
        check(r#"{"id":1,"op":"tokenize","text":"x"}"#, "1", Op::Work(Work::Tokenize(text("x")), Manner::default()));
        let tokens = vec![TokenId(5), TokenId(0)];
        check(
            r#"{"id":1,"op":"detokenize","token_ids":[5,0]}"#,
            "1",
            Op::Work(Work::Detokenize(tokens.clone()), Manner::default()),
        );
        let parts = vec![Part::Text("x".into()), Part::Literal("\n".into()), Part::Tokens(tokens)];
        let parts = Input::Parts(parts);
        let line =
            r#"{"id":1,"op":"OP","conversation":"a","parts":[{"text":"x"},{"literal":"\n"},{"token_ids":[5,0]}]}"#;
        let score = Score::of(a(), parts.clone());
        check(&line.replace("OP", "score"), "1", ask(Request::Score(score)));
        let tokenize = line.replace("OP", "tokenize").replace(r#""conversation":"a","#, "");
        check(&tokenize, "1", Op::Work(Work::Tokenize(parts), Manner::default()));
        check(r#"{"id":1,"op":"reset","conversation":"a"}"#, "1", ask(Request::Reset(a())));
        check(r#"{"id":1,"op":"close","conversation":"a"}"#, "1", ask(Request::Close(a())));
        let documents = vec!["x".into(), "\u{e4}".into()];
        let bare = Work::Rerank { query: "q".into(), documents: documents.clone(), mix: None, sharing: None };
        let line = r#"{"id":1,"op":"rerank","query":"q","documents":["x","\u00e4"]}"#;
        check(line, "1", Op::Work(bare, Manner::default()));
        let sharing = Some(Sharing::With(Some("s".into())));
        let full = Work::Rerank { query: "q".into(), documents, mix: Some(0.5), sharing };
        let line = line.replace('}', r#","mix":0.5,"scope":"s"}"#);
        check(&line, "1", Op::Work(full, Manner::default()));
        for (keys, told) in [
            (r#""documents":["x"]"#, "query is missing"),
            (r#""query":"q""#, "documents is missing"),
            (r#""query":["q"],"documents":["x"]"#, "query is"),
            (r#""query":"q","documents":"x""#, "a list of strings"),
            (r#""query":"q","documents":["x",1]"#, "documents is 1"),
            (r#""query":"q","documents":["x"],"mix":1e99"#, "mix is 1e99"),
            (r#""query":"q","documents":["x"],"mix":true"#, "mix is true"),
            (r#""query":"q","documents":["x"],"conversation":"a""#, "without meaning here"),
            (r#""query":"q","documents":["x"],"choice":0"#, "without meaning here"),
            (r#""query":"q","documents":["x"],"share":false,"scope":"s""#, "one of the two"),
        ] {
            check_refused(format!(r#"{{"id":1,"op":"rerank",{keys}}}"#), "1", "bad_request", told);
        }
        check(r#"{"id":1,"op":"cancel","conversation":"a"}"#, "1", Op::Cancel(Cancel::Conversation(a())));
        check(r#"{"id":1,"op":"stats"}"#, "1", Op::Stats);
        check(r#"{"id":1,"op":"crash","actor":2}"#, "1", Op::Crash { actor: 2 });
        let pause = Duration::from_secs(5);
        check(r#"{"id":1,"op":"hang","actor":0,"ms":5000}"#, "1", Op::Hang { actor: 0, pause });
    }

    #[test]
    fn all_work_may_say_for_whom_how_soon_and_by_when() {
        let manner = Manner {
            client: Some("me".into()),
            priority: Some(Priority::Background),
            deadline: Some(Duration::from_millis(1500)),
        };
        let keys = r#""client":"me","priority":"background","deadline_ms":1500"#;
        for op in [
            r#""op":"embed","text":"x""#,
            r#""op":"step","conversation":"a","text":"x""#,
            r#""op":"step","conversation":"a","text":"x","stream":true"#,
            r#""op":"score","conversation":"a","text":"x""#,
            r#""op":"reset","conversation":"a""#,
            r#""op":"close","conversation":"a""#,
            r#""op":"fork","conversation":"a","to":"b""#,
            r#""op":"rewind","conversation":"a","context_len":0"#,
            r#""op":"rerank","query":"q","documents":["x"]"#,
            r#""op":"tokenize","text":"x""#,
            r#""op":"detokenize","token_ids":[1]"#,
        ] {
            let bare = decode(format!(r#"{{"id":1,{op}}}"#).as_bytes(), &RULES).op;
            let Ok(Op::Work(work, none)) = bare else { panic!("{op}: {bare:?}") };
            assert_eq!(none, Manner::default(), "{op}");
            check(&format!(r#"{{"id":1,{op},{keys}}}"#), "1", Op::Work(work, manner.clone()));
        }
        for op in [r#""op":"stats""#, r#""op":"cancel","request":2"#, r#""op":"crash","actor":0"#] {
            for key in keys.split(',') {
                check_refused(format!(r#"{{"id":1,{op},{key}}}"#), "1", "bad_request", "without meaning here");
            }
        }
    }

    #[test]
    fn a_manner_out_of_its_range_is_refused() {
        let with = |key: &str| format!(r#"{{"id":1,"op":"reset","conversation":"a",{key}}}"#);
        let longest = "x".repeat(NAME_BYTES_MAX);
        assert!(decode(with(&format!(r#""client":"{longest}""#)).as_bytes(), &RULES).op.is_ok());
        check_refused(with(&format!(r#""client":"{longest}x""#)), "1", "bad_request", "1025 bytes long");
        check_refused(with(r#""client":7"#), "1", "bad_request", "client is 7");
        for value in [r#""soon""#, "1", "null", r#""Background""#] {
            check_refused(with(&format!(r#""priority":{value}"#)), "1", "bad_request", "`interactive` or `background`");
        }
        check_refused(with(r#""deadline_ms":0"#), "1", "bad_request", "at least 1");
        check_refused(with(r#""deadline_ms":1.5"#), "1", "bad_request", "deadline_ms is 1.5");
        check_refused(with(r#""deadline_ms":86400001"#), "1", "bad_request", "a day");
        assert!(decode(with(r#""deadline_ms":86400000"#).as_bytes(), &RULES).op.is_ok());
    }

    #[test]
    fn a_request_is_taken_back_by_its_id_as_it_was_written() {
        for id in ["7", "-1", "1.0", "1e0", r#""7""#, r#""\u00e4""#] {
            let line = format!(r#"{{"id":9,"op":"cancel","request": {id} }}"#);
            check(&line, "9", Op::Cancel(Cancel::Request(id.into())));
        }
        for id in ["null", "true", "[7]"] {
            check_refused(format!(r#"{{"id":9,"op":"cancel","request":{id}}}"#), "9", "bad_request", "request is");
        }
        let both = r#"{"id":9,"op":"cancel","request":7,"conversation":"a"}"#;
        check_refused(both, "9", "bad_request", "one of the two");
        check_refused(r#"{"id":9,"op":"cancel"}"#, "9", "bad_request", "request is missing");
        check_refused(r#"{"id":9,"op":"cancel","conversation":7}"#, "9", "bad_request", "conversation is 7");
        check_refused(r#"{"id":9,"op":"reset","conversation":"a","request":7}"#, "9", "bad_request", "`request`");
    }

    #[test]
    fn forks_rewinds_answers_and_sharing_are_read() {
        let fork = Fork { from: a(), to: "b".into(), at: None, choice: None };
        check(r#"{"id":1,"op":"fork","conversation":"a","to":"b"}"#, "1", ask(Request::Fork(fork.clone())));
        let fork = Fork { at: Some(5), choice: Some(2), ..fork };
        let line = r#"{"id":1,"op":"fork","conversation":"a","to":"b","at":5,"choice":2}"#;
        check(line, "1", ask(Request::Fork(fork)));
        let rewind = Rewind { conversation: a(), context_len: 0 };
        check(r#"{"id":1,"op":"rewind","conversation":"a","context_len":0}"#, "1", ask(Request::Rewind(rewind)));
        let step = |sharing, choice| {
            let terms = Terms { choice, sharing, pin: false };
            step_of(Step { n: 3, terms, ..Step::greedy(a(), "x", 1) })
        };
        let with = |keys: &str| format!(r#"{{"id":1,"op":"step","conversation":"a","text":"x","n":3{keys}}}"#);
        let scope = || Some(Sharing::With(Some("s".into())));
        check(&with(""), "1", step(None, None));
        check(&with(r#","share":false,"choice":0"#), "1", step(Some(Sharing::Nobody), Some(0)));
        let terms = Terms { pin: true, ..Terms::default() };
        let pinned = step_of(Step { n: 3, terms, ..Step::greedy(a(), "x", 1) });
        check(&with(r#","pin":true"#), "1", pinned);
        check_refused(with(r#","pin":1"#), "1", "bad_request", "pin is 1");
        check(&with(r#","share":true"#), "1", step(Some(Sharing::With(None)), None));
        check(&with(r#","scope":"s""#), "1", step(scope(), None));
        check(&with(r#","share":true,"scope":"s""#), "1", step(scope(), None));
        check_refused(with(r#","share":false,"scope":"s""#), "1", "bad_request", "scope is given beside `share` false");
        check_refused(r#"{"id":1,"op":"fork","conversation":"a"}"#, "1", "bad_request", "to is missing");
        check_refused(r#"{"id":1,"op":"rewind","conversation":"a"}"#, "1", "bad_request", "context_len is missing");
        check_refused(r#"{"id":1,"op":"score","conversation":"a","text":"x","n":2}"#, "1", "bad_request", "`n`");
    }

    #[test]
    fn pages_and_conversations_are_asked_for() {
        check(r#"{"id":1,"op":"list"}"#, "1", Op::List(ListAsk::default()));
        let ask = ListAsk { after: Some(a()), limit: 7 };
        check(r#"{"id":1,"op":"list","after":"a","limit":7}"#, "1", Op::List(ask));
        check(r#"{"id":1,"op":"inspect","conversation":"a"}"#, "1", Op::Inspect(a()));
        check_refused(r#"{"id":1,"op":"list","after":1}"#, "1", "bad_request", "after is 1");
        check_refused(r#"{"id":1,"op":"list","limit":-1}"#, "1", "bad_request", "limit is -1");
        check_refused(r#"{"id":1,"op":"list","conversation":"a"}"#, "1", "bad_request", "only keys of `list`");
        check_refused(r#"{"id":1,"op":"inspect"}"#, "1", "bad_request", "conversation is missing");
        check_refused(r#"{"id":1,"op":"stats","after":"a"}"#, "1", "bad_request", "`after`");
    }

    #[test]
    fn parts_have_one_key_each_and_inputs_exclude_each_other() {
        let parts = |parts: &str| format!(r#"{{"id":1,"op":"embed","parts":{parts}}}"#);
        for wrong in ["{}", "1", "[1]", "[{}]", r#"[{"text":"x","literal":"y"}]"#, r#"[{"text":"x","id":1}]"#, "[null]"]
        {
            check_refused(parts(wrong), "1", "bad_request", "parts is");
        }
        check_refused(parts(r#"[{"text":"x","text":"y"}]"#), "1", "bad_request", "parts is");
        check_refused(parts(r#"[{"text":"x","other":"y"}]"#), "1", "bad_request", "parts is");
        check_refused(parts(r#"[{"literal":1}]"#), "1", "bad_request", "literal is 1");
        check_refused(parts(r#"[{"token_ids":[-1]}]"#), "1", "invalid_token", "-1");
        check_refused(parts(r#"[],"text":"x""#), "1", "bad_request", "beside `text`");
        check_refused(parts(r#"[],"token_ids":[1]"#), "1", "bad_request", "beside `token_ids`");
        check_refused(r#"{"id":1,"op":"embed","literal":"x"}"#, "1", "bad_request", "`parts`");
        check_refused(r#"{"id":1,"op":"tokenize","token_ids":[1]}"#, "1", "bad_request", "`text` or `parts`");
        check_refused(r#"{"id":1,"op":"tokenize","text":"x","parts":[]}"#, "1", "bad_request", "one of the two");
        check_refused(r#"{"id":1,"op":"detokenize"}"#, "1", "bad_request", "token_ids is missing");
        check_refused(r#"{"id":1,"op":"detokenize","text":"x"}"#, "1", "bad_request", "token_ids is missing");
    }

    #[test]
    fn ids_are_kept_as_they_were_written() {
        for id in ["0", "-1", "1.0", "1e999", "123456789012345678901234567890", r#""""#, r#""\u00e4\n""#, "\"ä\""] {
            check(&format!(r#" {{ "id" : {id} , "op" : "stats" }} "#), id, Op::Stats);
        }
        for id in ["null", "true", "[1]", r#"{"a":1}"#] {
            check_refused(format!(r#"{{"id":{id},"op":"stats"}}"#), "null", "bad_request", "id is");
        }
        check_refused(r#"{"op":"stats"}"#, "null", "bad_request", "id is missing");
        // It is held until its request is answered, and is given back in the answer.
        let longest = format!(r#""{}""#, "x".repeat(ID_BYTES_MAX - 2));
        check(&format!(r#"{{"id":{longest},"op":"stats"}}"#), &longest, Op::Stats);
        let longer = format!(r#"{{"id":"y{}","op":"stats"}}"#, "x".repeat(ID_BYTES_MAX - 2));
        check_refused(longer, "null", "bad_request", "at most 1024 bytes");
    }

    #[test]
    fn what_is_no_json_object_is_refused_without_an_id() {
        for line in
            ["", " ", "{", r#"{"id":1,"op":"stats""#, r#"{"id":1} x"#, "[1]", r#"[{"id":1}]"#, "1", "null", "NaN"]
        {
            check_refused(line, "null", "bad_request", "expected one JSON object");
        }
        check_refused(r#"{"id":1,"op":"step","temperature":NaN}"#, "null", "bad_request", "column");
        check_refused(b"{\"id\":1,\"op\":\"\xff\"}", "null", "bad_request", "utf-8");
        check_refused("[".repeat(100_000), "null", "bad_request", "expected one JSON object");
    }

    #[test]
    fn keys_stand_once_and_are_known() {
        check_refused(r#"{"id":1,"op":"stats","op":"stats"}"#, "1", "bad_request", "twice is `op`");
        check_refused(r#"{"id":1,"op":"stats","id":2}"#, "1", "bad_request", "twice is `id`");
        check_refused(r#"{"op":"stats","\u006fp":"stats","id":2}"#, "2", "bad_request", "twice is `op`");
        check_refused(r#"{"a":[{"b":1}],"id":"z","op":"stats"}"#, r#""z""#, "bad_request", "unknown key is `a`");
        check_refused(r#"{"id":1,"op":"reset","conversation":"a","count":1}"#, "1", "bad_request", "`count`");
        check_refused(r#"{"id":1,"op":"embed","text":"x","seed":1}"#, "1", "bad_request", "only keys of `embed`");
    }

    #[test]
    fn missing_keys_and_unknown_ops_are_named() {
        check_refused(r#"{"id":1}"#, "1", "bad_request", "op is missing");
        check_refused(r#"{"id":1,"op":"sing"}"#, "1", "bad_request", r#"op is "sing""#);
        check_refused(r#"{"id":1,"op":3}"#, "1", "bad_request", "op is 3");
        for op in ["step", "score", "reset", "close"] {
            check_refused(format!(r#"{{"id":1,"op":"{op}"}}"#), "1", "bad_request", "conversation is missing");
        }
        check_refused(r#"{"id":1,"op":"embed"}"#, "1", "bad_request", "expected `text`, `token_ids` or `parts`");
        check_refused(r#"{"id":1,"op":"crash"}"#, "1", "bad_request", "actor is missing");
        check_refused(r#"{"id":1,"op":"hang","actor":0}"#, "1", "bad_request", "ms is missing");
    }

    #[test]
    fn files_are_written_and_read_where_that_is_allowed() {
        let work = |work| Op::Work(work, Manner::default());
        let path = PathBuf::from("a b/ä");
        let exported = Work::Export { conversation: a(), path: path.clone() };
        check(r#"{"id":1,"op":"export","conversation":"a","path":"a b/ä"}"#, "1", work(exported));
        for (more, tokens_only) in [("", false), (r#","tokens_only":false"#, false), (r#","tokens_only":true"#, true)] {
            let imported = Work::Import { conversation: a(), path: path.clone(), tokens_only };
            let line = format!(r#"{{"id":1,"op":"import","conversation":"a","path":"a b/ä"{more}}}"#);
            check(&line, "1", work(imported));
        }
        let rules = Rules { files: false, ..RULES };
        for op in ["export", "import"] {
            let line = format!(r#"{{"id":1,"op":"{op}","conversation":"a"}}"#);
            check_refused(&line, "1", "bad_request", "path is missing");
            check_refused(line.replace("\"a\"}", r#""a","path":1}"#), "1", "bad_request", "path is 1");
            let error = decode(line.as_bytes(), &rules).op.expect_err(&line);
            assert!(error.to_string().contains("--allow-files"), "{error}");
        }
        check_refused(
            r#"{"id":1,"op":"export","conversation":"a","path":"x","tokens_only":true}"#,
            "1",
            "bad_request",
            "`tokens_only`",
        );
        check_refused(
            r#"{"id":1,"op":"import","conversation":"a","path":"x","tokens_only":1}"#,
            "1",
            "bad_request",
            "tokens_only is 1",
        );
    }

    #[test]
    fn without_chaos_nothing_can_be_broken() {
        let rules = Rules { chaos: false, ..RULES };
        for line in [r#"{"id":1,"op":"crash","actor":0}"#, r#"{"id":1,"op":"hang","actor":0,"ms":1}"#] {
            let error = decode(line.as_bytes(), &rules).op.expect_err(line);
            assert!(error.to_string().contains("--chaos"), "{error}");
        }
    }

    #[test]
    fn values_of_the_wrong_type_are_refused() {
        let numbers = ["-1", "1.0", "1e2", "\"1\"", "null", "[]", "123456789012345678901234567890"];
        for key in ["count", "top_k", "seed", "top"] {
            for value in numbers {
                let line = format!(r#"{{"id":1,"op":"step","conversation":"a","{key}":{value}}}"#);
                check_refused(line, "1", "bad_request", &format!("{key} is {value}"));
            }
        }
        for key in ["temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"] {
            for value in ["1e999", "-1e999", "\"NaN\"", "\"1\"", "null", "true"] {
                let line = format!(r#"{{"id":1,"op":"step","conversation":"a","{key}":{value}}}"#);
                check_refused(line, "1", "bad_request", &format!("{key} is {value}"));
            }
        }
        for value in ["1", "null", "\"a\"", "[1]", "[null]", r#"["\ud800"]"#] {
            let line = format!(r#"{{"id":1,"op":"step","conversation":"a","stop":{value}}}"#);
            check_refused(line, "1", "bad_request", "stop is");
        }
        for value in ["1", "null", "\"true\""] {
            let line = format!(r#"{{"id":1,"op":"step","conversation":"a","stream":{value}}}"#);
            check_refused(line, "1", "bad_request", "stream is");
        }
        check_refused(
            r#"{"id":1,"op":"score","conversation":"a","text":"x","stream":true}"#,
            "1",
            "bad_request",
            "`stream`",
        );
        for value in ["1", "null", "{}", "[1]", "[[1]]", "[[1,2,3]]", "[[\"1\",2]]", "[[1.5,2]]", r#"{"1":2}"#] {
            let line = format!(r#"{{"id":1,"op":"step","conversation":"a","logit_bias":{value}}}"#);
            check_refused(line, "1", "bad_request", "expected a list of pairs of a token id and a number");
        }
        for value in ["[[1,null]]", "[[1,1e999]]", "[[1,\"2\"]]"] {
            let line = format!(r#"{{"id":1,"op":"step","conversation":"a","logit_bias":{value}}}"#);
            check_refused(line, "1", "bad_request", "expected a number of 32 bits");
        }
        for value in ["[[-1,0]]", "[[0,0],[4294967296,0]]"] {
            let line = format!(r#"{{"id":1,"op":"step","conversation":"a","logit_bias":{value}}}"#);
            check_refused(line, "1", "invalid_token", "vocabulary of 576");
        }
        for value in ["1", "null", "[\"a\"]", r#""\ud800""#] {
            check_refused(format!(r#"{{"id":1,"op":"embed","text":{value}}}"#), "1", "bad_request", "text is");
            let line = format!(r#"{{"id":1,"op":"reset","conversation":{value}}}"#);
            check_refused(line, "1", "bad_request", "conversation is");
        }
        check_refused(r#"{"id":1,"op":"hang","actor":0,"ms":86400001}"#, "1", "bad_request", "a day");
    }

    #[test]
    fn token_ids_are_whole_numbers_that_a_vocabulary_can_have() {
        let step = |ids: &str| format!(r#"{{"id":1,"op":"step","conversation":"a","token_ids":{ids}}}"#);
        for (ids, id) in [
            ("[-1]", "-1"),
            ("[1,4294967296,-2]", "4294967296"),
            ("[18446744073709551615]", "outside the vocabulary of 576"),
            ("[123456789012345678901234567890]", "outside the vocabulary of 576"),
        ] {
            check_refused(step(ids), "1", "invalid_token", id);
        }
        for ids in ["[1.0]", "[1.5]", "[\"1\"]", "[null]", "[[1]]", "1", "\"1\"", "null", "{}"] {
            check_refused(step(ids), "1", "bad_request", "token_ids is");
        }
        check_refused(step(r#"[1],"text":"x""#), "1", "bad_request", "beside `text`");
        let tokens = Step { input: Some(Input::Tokens(vec![])), ..Step::greedy(a(), "", 1) };
        check(&step("[]"), "1", step_of(tokens));
    }

    #[test]
    fn long_values_are_cut_in_refusals() {
        let line = format!(r#"{{"id":1,"op":"{}"}}"#, "ä".repeat(100_000));
        let error = decode(line.as_bytes(), &RULES).op.expect_err("no such op");
        assert!(error.to_string().len() < 400, "{error}");
    }
}
