//! What an answer's tokens may spell: by its format, and by the tools that it may call.

use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::{
    ChatError, ChatRequest, Constraint, Format, GrammarError, Tool, ToolChoice,
    dialect::{Content, Dialect, Tokens, grammar},
    prompt::told,
};
use crate::{grammar::Grammars, model::Model};

/// Makes constraints. What they have in common is made when the first of them is.
#[derive(Default)]
pub(super) struct Rules(Mutex<Option<Grammars>>);

impl Rules {
    /// What the answer to a request may be; `None`: anything. Takes as long as it must: run it on a thread that may
    /// block.
    ///
    /// # Errors
    /// A schema or a grammar that cannot be held to.
    pub(super) fn of(
        &self,
        request: &ChatRequest,
        dialect: Dialect,
        tokens: Tokens,
        model: &Model,
    ) -> Result<Option<Constraint>, ChatError> {
        let lark = calls(request, dialect, tokens);
        let made = match (&lark, &request.format) {
            (Some(lark), _) => self.grammars(model)?.lark(lark),
            (None, Format::Text) => return Ok(None),
            (None, Format::JsonObject) => self.grammars(model)?.json_object(),
            (None, Format::JsonSchema(schema)) => self.grammars(model)?.json_schema(schema),
            (None, Format::Grammar(constraint)) => Ok(constraint.clone()),
        };
        Ok(Some(made?))
    }

    fn grammars(&self, model: &Model) -> Result<Grammars, GrammarError> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some(grammars) => Ok(grammars.clone()),
            None => Ok(made.insert(Grammars::new(model)?).clone()),
        }
    }
}

/// The grammar of an answer that may or must call tools; `None`: it may call none.
fn calls(request: &ChatRequest, dialect: Dialect, tokens: Tokens) -> Option<String> {
    let any: Value = json!({ "type": "object" });
    let content = match &request.format {
        Format::JsonObject => Content::Json(&any),
        Format::JsonSchema(schema) => Content::Json(schema),
        Format::Text | Format::Grammar(_) => Content::Text,
    };
    let (tools, content) = match &request.tool_choice {
        ToolChoice::None => return None,
        ToolChoice::Auto => (told(request).iter().collect(), content),
        ToolChoice::Required => (told(request).iter().collect(), Content::Nothing),
        ToolChoice::One(name) => {
            let one: Vec<&Tool> = told(request).iter().filter(|tool| tool.name == *name).collect();
            (one, Content::Nothing)
        }
    };
    let tools: Vec<&Tool> = tools;
    (!tools.is_empty()).then(|| grammar(dialect, tokens, &tools, request.parallel_tool_calls, content))
}
