//! The model's template: which there are, and what becomes of messages by them.
//!
//! A template is a program that comes with a model, so it is bounded: in size, in steps, in depth. It sees values and
//! gives a text; what in that text is live is not known here (see `inert.rs`).

mod environment;
mod error;
mod files;
mod generation;
mod json;
mod python;
mod strftime;

use std::{path::Path, time::SystemTime};

use minijinja::{Environment, Value};

pub use self::error::TemplateError;
pub(super) use self::json::{python_json, value_of};
use self::{environment::environment, files::Found};
use crate::model::Model;

/// The template that is used where nothing else is asked for.
const DEFAULT: &str = "default";

/// The template for requests with tools, where a model has one of its own for them.
const TOOL_USE: &str = "tool_use";

/// What is rendered where a model has no template, and its tokenizer the markers (OpenAI's ChatML, without a system
/// message of its own).
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] \
                      + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' \
                      }}{% endif %}";

/// The markers of [`CHATML`].
const CHATML_MARKERS: [&str; 2] = ["<|im_start|>", "<|im_end|>"];

/// A model's templates, compiled.
#[derive(Debug)]
pub(super) struct Template {
    environment: Environment<'static>,
    /// The texts, by name.
    texts: Vec<(String, String)>,
    /// `bos_token` and the like.
    specials: Vec<(String, String)>,
}

impl Template {
    /// Reads the templates of a model's folder; `instead`: a file with the one that is used instead.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub(super) fn read(model: &Model, instead: Option<&Path>) -> Result<Self, TemplateError> {
        let Found { mut templates, specials } = files::read(model, instead)?;
        if templates.is_empty() {
            let added = model.tokenizer.added_tokens();
            let knows = |marker: &str| added.iter().any(|token| token.text == marker);
            if !CHATML_MARKERS.into_iter().all(knows) {
                return Err(TemplateError::Missing { dir: model.dir.clone() });
            }
            templates.push((DEFAULT.to_owned(), CHATML.to_owned()));
        }
        Self::new(templates, specials)
    }

    /// Compiles templates of these names and texts; without one of the name `default` the first is it.
    ///
    /// # Errors
    /// One of them is none.
    pub(super) fn new(
        mut texts: Vec<(String, String)>,
        specials: Vec<(String, String)>,
    ) -> Result<Self, TemplateError> {
        if !texts.iter().any(|(name, _)| name == DEFAULT)
            && let Some((name, _)) = texts.first_mut()
        {
            DEFAULT.clone_into(name);
        }
        let mut environment = environment();
        for (name, text) in &texts {
            let source = generation::without_tags(text);
            environment
                .add_template_owned(name.clone(), source)
                .map_err(|error| TemplateError::syntax(name, &error))?;
        }
        Ok(Self { environment, texts, specials })
    }

    fn name(&self, tools: bool) -> &'static str {
        match tools && self.texts.iter().any(|(name, _)| name == TOOL_USE) {
            true => TOOL_USE,
            false => DEFAULT,
        }
    }

    /// Its text, as the file has it: that for requests with tools or for those without.
    pub(super) fn text(&self, tools: bool) -> &str {
        let name = self.name(tools);
        self.texts.iter().find(|(of, _)| of == name).map_or("", |(_, text)| text)
    }

    /// All texts that come from the model: templates and what they call `bos_token` and the like.
    pub(super) fn own_texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().chain(&self.specials).map(|(_, text)| text.as_str())
    }

    /// Whether the template looks at this variable.
    pub(super) fn asks_for(&self, variable: &str, tools: bool) -> bool {
        let template = self.environment.get_template(self.name(tools));
        template.is_ok_and(|template| template.undeclared_variables(false).contains(variable))
    }

    /// What it makes of these variables at this time. `tools`: by the template for requests with tools.
    ///
    /// # Errors
    /// It refuses the messages, fails on them, or takes too long.
    pub(super) fn render(
        &self,
        variables: Vec<(String, Value)>,
        tools: bool,
        now: SystemTime,
    ) -> Result<String, TemplateError> {
        let specials = self.specials.iter().map(|(name, text)| (name.clone(), Value::from(text)));
        let clock = (environment::NOW.to_owned(), Value::from(strftime::seconds(now)));
        // What comes later wins, as keyword arguments do there.
        let context = Value::from_pairs(specials.chain(variables).chain([clock]));
        let template =
            self.environment.get_template(self.name(tools)).map_err(|error| TemplateError::failed(&error))?;
        template.render(context).map_err(|error| TemplateError::failed(&error))
    }
}

#[cfg(test)]
mod tests;
