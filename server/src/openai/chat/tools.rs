//! Tools as OpenAI's clients send them: functions, and which may be called.

use motorbrain::chat::{Tool, ToolChoice};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::ApiError;

/// A tool.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ToolSent)]
pub(crate) struct ToolSent {
    /// `function`.
    r#type: String,
    function: FunctionSent,
}

/// A function.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FunctionSent {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    /// The JSON schema of its arguments.
    #[schema(value_type = Option<Object>)]
    pub(crate) parameters: Option<Value>,
    /// Arguments keep to the schema whatever is said here.
    pub(crate) strict: Option<bool>,
}

/// Which tools may be called.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(untagged, expecting = "`none`, `auto`, `required`, or an object that names a function")]
pub(crate) enum ChoiceSent {
    Word(String),
    One(ChosenTool),
}

/// One that must be called.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChosenTool {
    /// `function`.
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<Named>,
    /// Of a response's request.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// A function's name.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    name: String,
}

impl FunctionSent {
    pub(crate) fn tool(self) -> Tool {
        Tool { name: self.name, description: self.description, parameters: self.parameters.unwrap_or(Value::Null) }
    }
}

/// Tools as the chat takes them.
///
/// # Errors
/// One that is no function.
pub(crate) fn tools(sent: Vec<ToolSent>) -> Result<Vec<Tool>, ApiError> {
    let tool = |(index, sent): (usize, ToolSent)| match sent.r#type.as_str() {
        "function" => Ok(sent.function.tool()),
        _ => Err(ApiError::unsupported(&format!("tools[{index}].type"), "tools are functions")),
    };
    sent.into_iter().enumerate().map(tool).collect()
}

/// Which may be called; left out, any or none where there are some.
///
/// # Errors
/// A word that says nothing.
pub(crate) fn choice(sent: Option<ChoiceSent>) -> Result<ToolChoice, ApiError> {
    let refused = |found: String| {
        ApiError::invalid("tool_choice", found, "`none`, `auto`, `required`, or an object that names a function")
    };
    match sent {
        None => Ok(ToolChoice::Auto),
        Some(ChoiceSent::Word(word)) => match word.as_str() {
            "none" => Ok(ToolChoice::None),
            "auto" => Ok(ToolChoice::Auto),
            "required" => Ok(ToolChoice::Required),
            _ => Err(refused(format!("{:?}", word.chars().take(40).collect::<String>()))),
        },
        Some(ChoiceSent::One(ChosenTool { r#type, function, name })) => {
            let name = function.map(|function| function.name).or(name);
            match (r#type.as_str(), name) {
                ("function", Some(name)) => Ok(ToolChoice::One(name)),
                _ => Err(refused("an object that names none".to_owned())),
            }
        }
    }
}
