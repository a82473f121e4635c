//! What an answer's tokens may spell: by its format, and by the tools that it may call.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    ChatError, ChatRequest, Constraint, Format, Tool, ToolChoice,
    dialect::{Content, Dialect, Tokens, grammar},
    prompt::told,
};
use crate::{grammar::Compiler, model::Model};

/// Makes constraints.
pub(super) struct Rules(Compiler);

impl Rules {
    pub(super) fn new(model: Arc<Model>) -> Self {
        Self(Compiler::new(model))
    }

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
    ) -> Result<Option<Constraint>, ChatError> {
        let lark = calls(request, dialect, tokens);
        let made = match (&lark, &request.format) {
            (Some(lark), _) => self.0.grammars()?.lark(lark),
            (None, Format::Text) => return Ok(None),
            (None, Format::JsonObject) => self.0.grammars()?.json_object(),
            (None, Format::JsonSchema(schema)) => self.0.grammars()?.json_schema(schema),
            (None, Format::Grammar(constraint)) => Ok(constraint.clone()),
        };
        Ok(Some(made?))
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
