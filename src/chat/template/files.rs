//! The files beside a model that have its templates.
//!
//! As transformers reads them: `chat_template.jinja` before the key `chat_template` of `tokenizer_config.json`, which is
//! a text or a list of named ones; further named ones in `additional_chat_templates/`. What templates call `bos_token`
//! and the like stands in the same file, or in `special_tokens_map.json`; where neither says it, it is the token of the
//! number that `config.json` has.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use motorbrain_actors::tokens::TokenId;
use serde_json::Value;

use super::{DEFAULT, TemplateError};
use crate::model::Model;

/// The largest template. Not a setting: the longest of those that are known have 30 kB.
const TEMPLATE_BYTES_MAX: u64 = 1 << 20;

/// The largest file of JSON.
const JSON_BYTES_MAX: u64 = 16 << 20;

/// The most templates of a model.
const TEMPLATES_MAX: usize = 64;

/// What templates know of special tokens, with the key of its number in `config.json`.
const SPECIALS: [(&str, &str); 7] = [
    ("bos_token", "bos_token_id"),
    ("eos_token", "eos_token_id"),
    ("unk_token", "unk_token_id"),
    ("pad_token", "pad_token_id"),
    ("sep_token", "sep_token_id"),
    ("cls_token", "cls_token_id"),
    ("mask_token", "mask_token_id"),
];

/// Templates and special tokens, each with its name.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) templates: Vec<(String, String)>,
    pub(super) specials: Vec<(String, String)>,
}

/// Reads what a model's folder has; `instead`: a file with the one template that is used instead.
pub(super) fn read(model: &Model, instead: Option<&Path>) -> Result<Found, TemplateError> {
    let dir = &model.dir;
    let config = json(&dir.join("tokenizer_config.json"))?;
    let specials = specials(model, config.as_ref())?;
    if let Some(file) = instead {
        let text = text(file, TEMPLATE_BYTES_MAX)?;
        let text = text.ok_or_else(|| TemplateError::Read {
            file: file.to_owned(),
            cause: io::Error::from(io::ErrorKind::NotFound),
        })?;
        return Ok(Found { templates: vec![(DEFAULT.to_owned(), text)], specials });
    }
    let mut templates = match text(&dir.join("chat_template.jinja"), TEMPLATE_BYTES_MAX)? {
        Some(text) => vec![(DEFAULT.to_owned(), text)],
        None => match &config {
            Some(config) => of_config(&dir.join("tokenizer_config.json"), config)?,
            None => Vec::new(),
        },
    };
    templates.extend(additional(&dir.join("additional_chat_templates"))?);
    Ok(Found { templates, specials })
}

/// The templates of `tokenizer_config.json`.
fn of_config(file: &Path, config: &Value) -> Result<Vec<(String, String)>, TemplateError> {
    let wrong = |what: &Value| TemplateError::Value {
        file: file.to_owned(),
        what: format!("`chat_template` = {}", kind(what)),
        expected: "a text, or a list of at most 64 `{name, template}`, of at most 1 MiB each",
    };
    let fits = |text: &str| text.len() as u64 <= TEMPLATE_BYTES_MAX;
    match config.get("chat_template") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) if fits(text) => Ok(vec![(DEFAULT.to_owned(), text.clone())]),
        Some(all @ Value::Array(named)) if named.len() <= TEMPLATES_MAX => {
            let template = |entry: &Value| {
                let text = entry.get("template")?.as_str().filter(|text| fits(text))?;
                Some((entry.get("name")?.as_str()?.to_owned(), text.to_owned()))
            };
            named.iter().map(|entry| template(entry).ok_or_else(|| wrong(all))).collect()
        }
        Some(other) => Err(wrong(other)),
    }
}

/// The templates of a folder of such: `NAME.jinja`.
fn additional(dir: &Path) -> Result<Vec<(String, String)>, TemplateError> {
    let read = |cause| TemplateError::Read { file: dir.to_owned(), cause };
    let entries = match fs::read_dir(dir) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(read)?,
    };
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in entries.take(4 * TEMPLATES_MAX) {
        let path = entry.map_err(read)?.path();
        files.extend((path.extension().is_some_and(|extension| extension == "jinja")).then_some(path));
    }
    files.sort();
    files.truncate(TEMPLATES_MAX);
    let mut templates = Vec::new();
    for file in files {
        let name = file.file_stem().and_then(|name| name.to_str()).map(str::to_owned);
        if let (Some(name), Some(text)) = (name, text(&file, TEMPLATE_BYTES_MAX)?) {
            templates.push((name, text));
        }
    }
    Ok(templates)
}

/// What templates call `bos_token` and the like.
fn specials(model: &Model, config: Option<&Value>) -> Result<Vec<(String, String)>, TemplateError> {
    let dir = &model.dir;
    let map = json(&dir.join("special_tokens_map.json"))?;
    let ids = [json(&dir.join("config.json"))?, json(&dir.join("generation_config.json"))?];
    let said = |name: &str| [config, map.as_ref()].into_iter().flatten().find_map(|file| content(file.get(name)?));
    let counted = |key: &str| ids.iter().flatten().find_map(|file| token(model, file.get(key)?));
    let found = SPECIALS.map(|(name, key)| Some((name.to_owned(), said(name).or_else(|| counted(key))?)));
    Ok(found.into_iter().flatten().collect())
}

/// A token as those files write it: a text, or an object with one.
fn content(token: &Value) -> Option<String> {
    token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
}

/// The text of a token's number, or of the first of several.
fn token(model: &Model, id: &Value) -> Option<String> {
    let id = id.as_u64().or_else(|| id.get(0)?.as_u64())?;
    model.tokenizer.token(TokenId(u32::try_from(id).ok()?))
}

fn json(file: &Path) -> Result<Option<Value>, TemplateError> {
    let Some(text) = text(file, JSON_BYTES_MAX)? else { return Ok(None) };
    let wrong = |what: String| TemplateError::Value { file: file.to_owned(), what, expected: "a JSON object" };
    match serde_json::from_str(&text) {
        Ok(value @ Value::Object(_)) => Ok(Some(value)),
        Ok(other) => Err(wrong(kind(&other).to_owned())),
        Err(error) => Err(wrong(format!("at line {}, column {} no JSON", error.line(), error.column()))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The text of a regular file, at most so many bytes; `None`: there is none.
fn text(file: &Path, limit: u64) -> Result<Option<String>, TemplateError> {
    let read = |cause| TemplateError::Read { file: file.to_owned(), cause };
    let metadata = match fs::metadata(file) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.map_err(read)?,
    };
    // Opening a pipe would wait for whoever writes to it.
    if !metadata.is_file() {
        return Err(read(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
    }
    let bytes = metadata.len();
    if bytes > limit {
        return Err(TemplateError::TooLarge { file: file.to_owned(), bytes, limit });
    }
    let mut text = String::new();
    // It may grow meanwhile.
    File::open(file).map_err(read)?.take(limit).read_to_string(&mut text).map_err(read)?;
    Ok(Some(text))
}
