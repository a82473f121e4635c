//! Reading the layers: file, environment, overrides.
//!
//! Each layer is read by the `config` crate and checked on its own before it is laid over the ones
//! below, so that a mistake in a file is told even where an override would hide it.

use std::{
    collections::HashMap,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
};

use config::{Config, Environment, File, FileFormat, Value, ValueKind};

use super::{SECTIONS, Settings, SettingsError, env, keys};

/// The settings file that is read where none is named and this one exists, seen from the working folder.
pub const DEFAULT_FILE: &str = "config/motorbrain.toml";

/// The longest piece of a value that an error repeats, in characters.
const SHOWN_MAX: usize = 60;

/// Where settings come from, lowest first.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// Environment variables; those without the prefix are ignored.
    pub environment: Vec<(String, String)>,
    /// Overrides as `section.key=value`.
    pub overrides: Vec<String>,
}

impl Sources {
    /// The sources of a process: `file`, or [`DEFAULT_FILE`] where that exists; the process's
    /// environment; `overrides`.
    pub fn of_process(file: Option<PathBuf>, overrides: Vec<String>) -> Self {
        let environment = std::env::vars_os().map(lossy).collect();
        let file = file.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.is_file()));
        Self { file, environment, overrides }
    }
}

/// A path that is no UTF-8 would not be found later, with its replaced characters in the message.
fn lossy((name, value): (OsString, OsString)) -> (String, String) {
    (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
}

/// The place that a value was written in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The settings file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// An override.
    Override(String),
}

impl Place {
    /// Whether numbers and flags come as text from here; in a file, text is no number.
    fn gives_text(&self) -> bool {
        !matches!(self, Self::File(_))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the settings file {}", path.display()),
            Self::Environment(name) => write!(f, "the environment variable `{name}`"),
            Self::Override(text) => write!(f, "the override `{text}`"),
        }
    }
}

impl Settings {
    /// Reads all layers over the defaults and checks the outcome.
    ///
    /// # Errors
    /// See [`SettingsError`]; the first one found.
    pub fn load(sources: &Sources) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        if let Some(path) = &sources.file {
            settings.lay(&Place::File(path.clone()), &file_layer(path)?)?;
        }
        // In the order of their names, so that the first error is always the same one.
        let mut variables: Vec<_> = sources.environment.iter().filter(|(name, _)| is_setting(name)).collect();
        variables.sort();
        for (name, text) in variables {
            let place = Place::Environment(name.clone());
            let layer = variable_layer(name, text).ok_or_else(|| unknown(key_of(name), &place))?;
            settings.lay(&place, &layer)?;
        }
        for text in &sources.overrides {
            settings.lay(&Place::Override(text.clone()), &override_layer(text)?)?;
        }
        settings.validate()?;
        Ok(settings)
    }

    /// Lays one layer over what is there.
    fn lay(&mut self, place: &Place, layer: &Value) -> Result<(), SettingsError> {
        let ValueKind::Table(sections) = &layer.kind else {
            return Ok(());
        };
        for (section, table) in in_order(sections) {
            if !SECTIONS.iter().any(|(name, _)| name == section) {
                return Err(unknown(section.clone(), place));
            }
            let ValueKind::Table(table) = &table.kind else {
                return Err(wrong_type(section.clone(), table, place, "a section of keys"));
            };
            for (name, value) in in_order(table) {
                let key = format!("{section}.{name}");
                match self.set(section, name, value, place.gives_text()) {
                    None => return Err(unknown(key, place)),
                    Some(Err(expected)) => return Err(wrong_type(key, value, place, expected)),
                    Some(Ok(())) => {}
                }
            }
        }
        Ok(())
    }
}

fn file_layer(path: &Path) -> Result<Value, SettingsError> {
    let text = fs::read_to_string(path).map_err(|cause| SettingsError::Read { path: path.to_owned(), cause })?;
    Config::builder()
        .add_source(File::from_str(&text, FileFormat::Toml))
        .build()
        .map(|config| config.cache)
        .map_err(|cause| SettingsError::Parse { path: path.to_owned(), cause: Box::new(cause) })
}

fn is_setting(variable: &str) -> bool {
    variable.get(..env::SETTING_PREFIX.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(env::SETTING_PREFIX))
}

/// A variable's key as a file or an override spells it.
fn key_of(variable: &str) -> String {
    let key = variable.get(env::SETTING_PREFIX.len()..).unwrap_or_default();
    key.to_lowercase().replace("__", ".")
}

/// Whether a key has an index, as no key of ours. The `config` crate would make a list that long.
fn has_index(key: &str) -> bool {
    key.contains('[')
}

/// `None` where the name is no path to a key.
fn variable_layer(name: &str, text: &str) -> Option<Value> {
    if has_index(name) {
        return None;
    }
    let source = Environment::with_prefix(env::SETTING_PREFIX.trim_end_matches('_'))
        .prefix_separator("__")
        .separator("__")
        .source(Some(HashMap::from([(name.to_owned(), text.to_owned())])));
    Config::builder().add_source(source).build().map(|config| config.cache).ok()
}

fn override_layer(text: &str) -> Result<Value, SettingsError> {
    let (key, value) = text.split_once('=').ok_or_else(|| SettingsError::Override { text: text.to_owned() })?;
    let key = key.trim();
    if has_index(key) {
        return Err(unknown(key.to_owned(), &Place::Override(text.to_owned())));
    }
    Config::builder()
        .set_override(key, value)
        .and_then(|builder| builder.build())
        .map(|config| config.cache)
        // The only way to fail is a key that is no path, and every known key is one.
        .map_err(|_| unknown(key.to_owned(), &Place::Override(text.to_owned())))
}

/// A layer's entries by name, so that the first error does not depend on a hash.
fn in_order(table: &HashMap<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| *name);
    entries
}

fn unknown(key: String, place: &Place) -> SettingsError {
    let nearest = nearest(&key);
    SettingsError::UnknownKey { key, place: place.clone(), nearest }
}

/// The known key or section that is spelled most like `key`. A key of another section counts as
/// close, since a section is easily mistaken.
fn nearest(key: &str) -> String {
    let (_, name) = key.rsplit_once('.').unwrap_or(("", key));
    let distance = strsim::damerau_levenshtein;
    let sections = SECTIONS.iter().map(|(section, _)| (distance(section, key), (*section).to_owned()));
    let keys = keys().into_iter().map(|known| {
        let path = known.path();
        (distance(&path, key).min(distance(known.name, name) + 1), path)
    });
    let nearest = sections.chain(keys).min_by_key(|(distance, _)| *distance);
    nearest.map(|(_, path)| path).unwrap_or_default()
}

fn wrong_type(key: String, value: &Value, place: &Place, expected: &'static str) -> SettingsError {
    SettingsError::WrongType { key, value: shown(&value.kind), place: place.clone(), expected }
}

/// A value as its writer knows it, shortened.
fn shown(kind: &ValueKind) -> String {
    match kind {
        ValueKind::Table(_) => "a section".into(),
        ValueKind::Array(_) => "a list".into(),
        ValueKind::String(text) if text.chars().count() > SHOWN_MAX => {
            format!("{:?}, cut short,", text.chars().take(SHOWN_MAX).collect::<String>())
        }
        ValueKind::String(text) => format!("{text:?}"),
        kind => kind.to_string(),
    }
}
