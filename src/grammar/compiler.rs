//! Compiles grammars as callers write them, for those that may never send one: a vocabulary is prepared when the first does.

use std::sync::{Arc, Mutex, PoisonError};

use motorbrain_protocol::Grammar;

use super::{Constraint, GrammarError, Grammars};
use crate::model::Model;

/// Compiles for one model.
pub struct Compiler {
    model: Arc<Model>,
    made: Mutex<Option<Grammars>>,
}

impl Compiler {
    /// Prepares nothing yet.
    pub fn new(model: Arc<Model>) -> Self {
        Self { model, made: Mutex::default() }
    }

    /// Compiles one, which blocks: the first for some tenths of a second.
    ///
    /// # Errors
    /// See [`Grammars`].
    pub fn compile(&self, grammar: &Grammar) -> Result<Constraint, GrammarError> {
        let grammars = self.grammars()?;
        match grammar {
            Grammar::JsonSchema(schema) => grammars.json_schema(schema),
            Grammar::Regex(pattern) => grammars.regex(pattern),
            Grammar::Lark(source) => grammars.lark(source),
            Grammar::Choice(texts) => grammars.choice(texts),
        }
    }

    /// What makes grammars otherwise.
    ///
    /// # Errors
    /// See [`Grammars::new`].
    pub fn grammars(&self) -> Result<Grammars, GrammarError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some(grammars) => Ok(grammars.clone()),
            None => Ok(made.insert(Grammars::new(&self.model)?).clone()),
        }
    }
}
