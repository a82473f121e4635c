//! Steps whose tokens spell what a grammar allows: JSON schemas, regular expressions, Lark and choices.
//!
//! The grammar engine is llguidance (Moskal et al.). [`Grammars`] prepares it for a model's vocabulary once, and makes a
//! [`Constraint`] of each grammar, which any number of steps may have at once:
//!
//! ```no_run
//! use motorbrain::{Parts, Settings, Step, grammar::Grammars};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = Settings::default();
//! let parts = Parts::find(&settings).await?;
//! let grammars = Grammars::new(&parts.model)?;
//! let brain = parts.start(&settings, None).await?;
//! let grammar = Some(grammars.regex("[a-z]+ is [0-9]{1,3} years old")?);
//! let reply = brain.step(Step { grammar, ..Step::greedy("story", "The fox ", 30) }).await?;
//! # Ok(())
//! # }
//! ```

mod compiler;
mod error;
mod spelling;
mod vocabulary;

use std::sync::Arc;

use llguidance::{
    Matcher, ParserFactory,
    api::{GrammarInit, TopLevelGrammar},
    toktrie::{InferenceCapabilities, TokEnv},
};
pub use motorbrain_actors::grammar::Constraint;
use serde_json::{Value, json};

pub use self::{compiler::Compiler, error::GrammarError};
use self::{spelling::Compiled, vocabulary::Vocabulary};
use crate::model::Model;

/// The longest grammar, in bytes: so much that somebody else writes is compiled at all. Compiling itself is bounded by
/// the engine.
const SOURCE_BYTES_MAX: usize = 1 << 20;

/// Makes grammars for a model's vocabulary; cheap to clone.
#[derive(Clone)]
pub struct Grammars {
    factory: Arc<ParserFactory>,
    vocabulary: Arc<Vocabulary>,
}

impl Grammars {
    /// Prepares the vocabulary, which takes some tenths of a second and blocks.
    ///
    /// # Errors
    /// [`GrammarError::Vocabulary`]: the model has no tokenizer of its own, or no end token.
    pub fn new(model: &Model) -> Result<Self, GrammarError> {
        let vocabulary = Arc::new(Vocabulary::of(model)?);
        let environment: TokEnv = Arc::clone(&vocabulary) as _;
        // Forced tokens are read in one run; nothing is ever taken back.
        let can = InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&environment, can, &slices)
            .map_err(|error| GrammarError::Vocabulary { reason: format!("{error:#}") })?;
        factory.quiet();
        Ok(Self { factory: Arc::new(factory), vocabulary })
    }

    /// What conforms to a JSON schema, written without needless white space.
    ///
    /// # Errors
    /// [`GrammarError::Refused`] where the schema is none, or asks for what cannot be promised.
    pub fn json_schema(&self, schema: &Value) -> Result<Constraint, GrammarError> {
        self.checked("JSON schema", schema.to_string().len())?;
        let mut schema = schema.clone();
        compact(&mut schema);
        self.compile("JSON schema", TopLevelGrammar::from_json_schema(schema))
    }

    /// Any JSON object.
    ///
    /// # Errors
    /// None that anybody has seen.
    pub fn json_object(&self) -> Result<Constraint, GrammarError> {
        self.json_schema(&json!({"type": "object"}))
    }

    /// What a regular expression matches as a whole; those of Rust's `regex`, without looking around or back.
    ///
    /// # Errors
    /// [`GrammarError::Refused`].
    pub fn regex(&self, pattern: &str) -> Result<Constraint, GrammarError> {
        self.checked("regular expression", pattern.len())?;
        self.compile("regular expression", TopLevelGrammar::from_regex(pattern))
    }

    /// What a grammar in llguidance's dialect of Lark derives from its `start`.
    ///
    /// # Errors
    /// [`GrammarError::Refused`].
    pub fn lark(&self, source: &str) -> Result<Constraint, GrammarError> {
        self.checked("Lark grammar", source.len())?;
        self.compile("Lark grammar", TopLevelGrammar::from_lark(source.to_owned()))
    }

    /// One of these texts.
    ///
    /// # Errors
    /// [`GrammarError::Refused`] where there is none.
    pub fn choice(&self, texts: &[String]) -> Result<Constraint, GrammarError> {
        self.checked("choice", texts.iter().map(String::len).sum())?;
        if texts.is_empty() || texts.iter().any(String::is_empty) {
            let reason = "it needs texts, none of them empty".to_owned();
            return Err(GrammarError::Refused { what: "choice", reason });
        }
        // A JSON string is a string of Lark's, too.
        let texts: Vec<String> = texts.iter().map(|text| Value::from(&**text).to_string()).collect();
        self.compile("choice", TopLevelGrammar::from_lark(format!("start: {}", texts.join(" | "))))
    }

    fn checked(&self, what: &'static str, bytes: usize) -> Result<(), GrammarError> {
        if bytes > SOURCE_BYTES_MAX {
            return Err(GrammarError::TooLong { what, bytes, limit: SOURCE_BYTES_MAX });
        }
        Ok(())
    }

    fn compile(&self, what: &'static str, grammar: TopLevelGrammar) -> Result<Constraint, GrammarError> {
        let refused = |reason| GrammarError::Refused { what, reason };
        let parser = || self.factory.create_parser_from_init_default(GrammarInit::Serialized(grammar));
        let parser = llguidance::panic_utils::catch_unwind(std::panic::AssertUnwindSafe(parser))
            .map_err(|error| refused(format!("{error:#}")))?;
        let matcher = Matcher::new(Ok(parser));
        match matcher.get_error() {
            Some(reason) => Err(refused(reason)),
            None => Ok(Constraint::new(Compiled::new(matcher, Arc::clone(&self.vocabulary)))),
        }
    }
}

/// A space behind colons and commas or none, as models were trained to write JSON: with free white space a model may go on
/// for ever. What a schema itself says to the engine is not heeded, since it may say that nothing need be kept to.
fn compact(schema: &mut Value) {
    if let Value::Object(schema) = schema {
        let spaced = json!({"whitespace_flexible": false, "item_separator": ", ?", "key_separator": ": ?"});
        schema.insert("x-guidance".to_owned(), spaced);
    }
}
