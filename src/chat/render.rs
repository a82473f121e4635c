//! From messages to an input, by the model's template, whatever the messages say.

use std::{path::Path, time::SystemTime};

use super::{
    ChatRequest, TemplateError,
    dialect::Tokens,
    inert::{Guarded, Marking, Marks},
    prompt::{Manner, told, variables},
    rendered::Rendered,
    template::Template,
};
use crate::model::Model;

/// Renders chats. Pure, but for the clock that it is given.
#[derive(Debug)]
pub(super) struct Renderer {
    template: Template,
    guarded: Guarded,
    /// Without tools, and with some.
    ways: [Way; 2],
}

/// How chats are rendered, and calls written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) manner: Manner,
    pub(super) tokens: Tokens,
}

impl Renderer {
    /// By the template of a model's folder, or by that in the file `instead`.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub(super) fn open(model: &Model, instead: Option<&Path>) -> Result<Self, TemplateError> {
        let (template, added) = (Template::read(model, instead)?, model.tokenizer.added_tokens());
        let way = |tools| {
            let manner = Manner::of(&template, tools);
            Way { manner, tokens: manner.dialect.tokens(&added) }
        };
        let guarded = Guarded::of(&added, &template.own_texts().collect::<Vec<_>>());
        Ok(Self { ways: [way(false), way(true)], guarded, template })
    }

    /// The template's text, for requests with tools or without.
    pub(super) fn text(&self, tools: bool) -> &str {
        self.template.text(tools)
    }

    /// The tokens that only the template may make.
    pub(super) fn guarded(&self) -> &Guarded {
        &self.guarded
    }

    /// The way of a request.
    pub(super) fn way(&self, request: &ChatRequest) -> Way {
        self.ways[usize::from(!told(request).is_empty())]
    }

    /// Renders a request.
    ///
    /// # Errors
    /// The template refuses it, fails on it, or takes too long; what messages say would become a marker.
    pub(super) fn render(&self, request: &ChatRequest, now: SystemTime) -> Result<Rendered, TemplateError> {
        let (manner, tools) = (self.way(request).manner, !told(request).is_empty());
        let mut marks = Marks::default();
        self.template.own_texts().for_each(|text| marks.see(text));
        let mut differ = false;
        let mark = {
            variables(request, manner, &mut |text, _| {
                marks.see(text);
                String::new()
            });
            marks.free()?
        };
        let spelled = variables(request, manner, &mut |text, whose| {
            let spelled = self.guarded.mark(text, mark, whose, Marking::Spelled);
            differ = differ || spelled != self.guarded.mark(text, mark, whose, Marking::Pieces);
            spelled
        });
        let spelled = self.template.render(spelled, tools, now)?;
        let pieces = differ.then(|| {
            let marked = |text: &str, whose| self.guarded.mark(text, mark, whose, Marking::Pieces);
            // A template that fails on these looked for a text that is marked in them: then nothing may be live.
            self.template.render(variables(request, manner, &mut |text, whose| marked(text, whose)), tools, now)
        });
        let pieces = match pieces {
            None => None,
            Some(Ok(text)) => Some(text),
            Some(Err(TemplateError::Exhausted)) => return Err(TemplateError::Exhausted),
            Some(Err(_)) => Some(String::new()),
        };
        self.guarded.settle(&spelled, pieces.as_deref(), mark)
    }
}
