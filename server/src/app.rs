//! What every handler has: the brain, what is served by which names, and the bounds.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};
use metrics_exporter_prometheus::PrometheusHandle;
use motorbrain::{
    Brain, BrainError, ClientId, Rerank, Sharing, TokenId,
    chat::{ChatError, ChatOptions, Chats, Constraint},
    grammar::Compiler,
    model::Model,
    settings::{LimitsSettings, ServerSettings, Settings},
};
use motorbrain_actors::tokens::Tokenizer;
use motorbrain_protocol::{Grammar, Rules};
use tokio::task::spawn_blocking;

use crate::{
    auth::Tokens,
    bounds::{Bodies, Streams},
    described::Sizes,
    drain::Drain,
    error::ApiError,
    hosts::Hosts,
    openai::responses::store::Responses,
};

/// What a server serves.
pub struct Served {
    pub(crate) brain: Brain,
    /// Where the model has no template that can be used, why.
    chats: Result<Chats, ChatError>,
    model: Arc<Model>,
    settings: Settings,
}

impl Served {
    /// A brain, which was started on this model with these settings. A model without a template for chats is served
    /// without them.
    pub async fn of(brain: Brain, model: Arc<Model>, settings: &Settings) -> Self {
        let chats = Chats::open(brain.clone(), Arc::clone(&model), ChatOptions::default()).await;
        if let Err(error) = &chats {
            tracing::warn!(%error, "no chats are served");
        }
        Self { brain, chats, model, settings: settings.clone() }
    }
}

/// What every handler has; cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

struct Inner {
    served: Served,
    models: Vec<String>,
    /// What texts begin with as the model was trained.
    opening: Vec<TokenId>,
    rerank: Rerank,
    rules: Rules,
    grammars: Arc<Compiler>,
    /// Seconds since 1970.
    began: u64,
    tokens: Option<Tokens>,
    hosts: Hosts,
    drain: Drain,
    streams: Streams,
    bodies: Bodies,
    responses: Responses,
    metrics: Option<PrometheusHandle>,
}

impl App {
    pub(crate) fn new(
        served: Served,
        hosts: Hosts,
        tokens: Option<Tokens>,
        drain: Drain,
        metrics: Option<PrometheusHandle>,
    ) -> Self {
        let Served { model, settings, .. } = &served;
        let server = &settings.server;
        let own_name = || model.dir.file_name().map_or("model".into(), |name| name.to_string_lossy().into_owned());
        let models = if server.models.is_empty() { vec![own_name()] } else { server.models.clone() };
        Self(Arc::new(Inner {
            models,
            opening: model.tokenizer.opening(),
            rerank: settings.reranking(),
            rules: Rules { chaos: settings.brain.chaos, files: false, vocab: model.contract.vocab },
            grammars: Arc::new(Compiler::new(Arc::clone(model))),
            began: unix_time(),
            tokens,
            hosts,
            drain,
            streams: Streams::new(server.streams_per_client_max),
            bodies: Bodies::new(server.body_bytes_max),
            responses: Responses::new(server.responses_max),
            metrics,
            served,
        }))
    }

    /// The brain for a caller: his requests are his, and end in time.
    pub(crate) fn brain(&self, caller: &Caller) -> Brain {
        let brain = self.0.served.brain.of(caller.client.clone());
        match self.request_max() {
            Some(deadline) => brain.within(deadline),
            None => brain,
        }
    }

    /// Likewise his chats.
    ///
    /// # Errors
    /// The model has no template that can be used.
    pub(crate) fn chats(&self, caller: &Caller) -> Result<Chats, ApiError> {
        match &self.0.served.chats {
            Ok(chats) => Ok(chats.through(self.brain(caller))),
            Err(error) => {
                let message = format!("this model serves no chats: {}", motorbrain_actors::shown::with_causes(error));
                Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "no_chats", message))
            }
        }
    }

    /// What a step's tokens spell, on a thread that may block.
    ///
    /// # Errors
    /// The grammar is refused.
    pub(crate) async fn compiled(&self, grammar: Grammar) -> Result<Constraint, ApiError> {
        let grammars = Arc::clone(&self.0.grammars);
        let compiled = spawn_blocking(move || grammars.compile(&grammar)).await;
        let stopped =
            |_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the grammar's thread has ended");
        compiled.map_err(stopped)?.map_err(|error| ApiError::own(&error.into()))
    }

    /// How long a request may take, where that is bounded.
    pub(crate) fn request_max(&self) -> Option<Duration> {
        Some(self.settings().request_ms_max).filter(|ms| *ms > 0).map(Duration::from_millis)
    }

    /// What is done by many requests, within the time of one.
    ///
    /// # Errors
    /// Its own, or that it took too long.
    pub(crate) async fn in_time<T>(&self, work: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
        match self.request_max() {
            Some(deadline) => match tokio::time::timeout(deadline, work).await {
                Ok(done) => done,
                Err(_) => Err(BrainError::Timeout { deadline }.into()),
            },
            None => work.await,
        }
    }

    /// With whom a caller shares what is read for him: by default with those of his token alone.
    pub(crate) fn sharing(&self, caller: &Caller) -> Option<Sharing> {
        let apart = self.0.tokens.is_some() && !self.settings().share_between_clients;
        apart.then(|| Sharing::With(Some(caller.client.as_str().into())))
    }

    /// Whether this is a name by which the model is asked for.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn check_model(&self, name: &str) -> Result<(), ApiError> {
        if self.0.models.iter().any(|known| known == name) {
            return Ok(());
        }
        let cut: String = name.chars().take(60).collect();
        let message = format!("there is no model `{cut}` here, expected `{}`", self.0.models.join("` or `"));
        Err(ApiError::not_found("model_not_found", message).at("model"))
    }

    pub(crate) fn models(&self) -> &[String] {
        &self.0.models
    }

    pub(crate) fn settings(&self) -> &ServerSettings {
        &self.0.served.settings.server
    }

    pub(crate) fn limits(&self) -> &LimitsSettings {
        &self.0.served.settings.limits
    }

    pub(crate) fn tokenizer(&self) -> &dyn Tokenizer {
        &*self.0.served.model.tokenizer
    }

    pub(crate) fn opening(&self) -> &[TokenId] {
        &self.0.opening
    }

    pub(crate) fn rerank(&self) -> &Rerank {
        &self.0.rerank
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.0.rules
    }

    /// What the model and the settings say of what requests may hold.
    pub(crate) fn sizes(&self) -> Sizes {
        Sizes {
            vocab: self.rules().vocab,
            hidden: self.0.served.model.contract.hidden.unwrap_or(usize::MAX),
            count: self.limits().count,
            inputs: self.settings().inputs_max,
            opens: !self.opening().is_empty(),
        }
    }

    pub(crate) fn began(&self) -> u64 {
        self.0.began
    }

    pub(crate) fn tokens(&self) -> Option<&Tokens> {
        self.0.tokens.as_ref()
    }

    pub(crate) fn hosts(&self) -> &Hosts {
        &self.0.hosts
    }

    pub(crate) fn drain(&self) -> &Drain {
        &self.0.drain
    }

    pub(crate) fn streams(&self) -> &Streams {
        &self.0.streams
    }

    pub(crate) fn bodies(&self) -> &Bodies {
        &self.0.bodies
    }

    pub(crate) fn responses(&self) -> &Responses {
        &self.0.responses
    }

    pub(crate) fn metrics(&self) -> Option<&PrometheusHandle> {
        self.0.metrics.as_ref()
    }
}

/// Who asks; put beside the request by whoever lets it in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    pub(crate) client: ClientId,
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

/// Seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
