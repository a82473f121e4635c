//! Making engines: one for each actor and each of its incarnations, all of the same model.
//!
//! What does not change from one engine to the next is worked out once and shared: the model's
//! files, the runtime's library and the rotation measured on its keys.

use std::sync::{Arc, OnceLock};

use motorbrain_actors::{
    engine::{Engine, EngineInfo, EngineLoader, LoadError, Window},
    tokens::TokenId,
};

use super::{
    graph::{Feed, Graph, SessionOptions, engine_error},
    kv_cache::KvMemory,
    onnx::OnnxEngine,
    rotation::{KeysAt, Rotation, positions},
    runtime::Runtime,
    window::{WindowError, WindowOptions},
};
use crate::model::{ElementType, Model};

/// How engines of a model are made.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// How each session uses the machine.
    pub session: SessionOptions,
    /// The window, as the settings have it.
    pub window: WindowOptions,
}

/// Loads engines of one model.
pub struct OnnxLoader {
    runtime: Runtime,
    model: Arc<Model>,
    session: SessionOptions,
    window: Window,
    rotation: OnceLock<Option<Arc<Rotation>>>,
}

impl OnnxLoader {
    /// A loader; the window is checked against the model's context here.
    ///
    /// # Errors
    /// A window that the model does not allow.
    pub fn new(runtime: Runtime, model: Arc<Model>, options: EngineOptions) -> Result<Self, WindowError> {
        let window = options.window.resolve(model.context.tokens)?;
        Ok(Self { runtime, model, session: options.session, window, rotation: OnceLock::new() })
    }

    /// The model's rotation as an engine has measured it: `None` before the first load, and where the
    /// model's keys showed none.
    pub fn rotation(&self) -> Option<&Rotation> {
        self.rotation.get()?.as_deref()
    }

    /// The window as the settings and the model's context make it.
    pub fn window(&self) -> Window {
        self.window
    }

    /// An engine as its own type, for tests and benchmarks that drive one without an actor.
    ///
    /// # Errors
    /// Why there is none.
    pub fn load_engine(&self) -> Result<OnnxEngine, LoadError> {
        let failed = |error: ort::Error| {
            let engine_error = engine_error(&error, None);
            let out_of_memory = engine_error.kind == motorbrain_actors::engine::EngineErrorKind::OutOfMemory;
            LoadError {
                transient: out_of_memory,
                message: format!("cannot load {}: {}", self.model.graph.display(), engine_error.message),
                hint: Some(if out_of_memory {
                    "use a smaller model, fewer actors or a smaller window".into()
                } else {
                    "the graph or its weights do not suit this runtime; `motorbrain doctor` shows both".into()
                }),
            }
        };
        let mut graph = Graph::load(&self.runtime, &self.model, self.session).map_err(failed)?;
        let rotation = match self.rotation.get() {
            Some(rotation) => rotation.clone(),
            None => {
                let measured = measure(&mut graph, &self.window).map_err(failed)?.map(Arc::new);
                self.rotation.get_or_init(|| measured).clone()
            }
        };
        let info = info(&self.model, self.window, rotation.is_some());
        Ok(OnnxEngine::new(graph, info, rotation))
    }
}

impl EngineLoader for OnnxLoader {
    fn load(&self) -> Result<Box<dyn Engine>, LoadError> {
        Ok(Box::new(self.load_engine()?))
    }
}

fn info(model: &Model, window: Window, rotates: bool) -> EngineInfo {
    let contract = &model.contract;
    if window.slides && !rotates {
        tracing::warn!("the model's rotation could not be measured, so its window cannot slide");
    }
    EngineInfo {
        layers: contract.layers,
        hidden: contract.hidden.unwrap_or(0),
        vocab: contract.vocab,
        inputs: contract.inputs,
        embeds: model.overlay.head.is_some(),
        window: Window { slides: window.slides && rotates, ..window },
        end_tokens: model.end_tokens.clone(),
        kv_bytes_per_token: contract.kv_bytes_per_token(),
    }
}

/// Measures the rotation on keys of layer 0, which depend on token and position alone: single tokens
/// are run at several positions, the past before them being zeros.
fn measure(graph: &mut Graph, window: &Window) -> ort::Result<Option<Rotation>> {
    let contract = graph.contract().clone();
    let memory = KvMemory::new(contract.clone(), window.size);
    let mut keys_at = |position: usize| -> ort::Result<KeysAt> {
        // Two tokens from the inner part of the vocabulary, away from special tokens and padding.
        let tokens = [contract.vocab / 7, contract.vocab * 3 / 7].map(|id| TokenId(id as u32));
        let mut keys = Vec::new();
        for token in tokens {
            let mut kv = memory.zeros(position)?;
            if !memory.fits(&kv, position, 1) {
                kv = memory.zeros(position + 1)?;
            }
            let feed = Feed { tokens: &[token], past: position, logits_of: &[], hidden: false };
            let given = graph.run(&mut kv, &feed)?;
            keys.extend(given.kv.unwrap_or(kv).key_row(0, position, contract.head_dim)?);
        }
        Ok(KeysAt { position, keys })
    };
    let last = window.size - 1;
    let zero = keys_at(0)?;
    let at = positions(last).into_iter().map(&mut keys_at).collect::<ort::Result<Vec<_>>>()?;
    let epsilon = match contract.kv.first().map(|kv| kv.key_type) {
        Some(ElementType::F16) => f64::from(half::f16::EPSILON.to_f32()),
        _ => f64::from(f32::EPSILON),
    };
    Ok(Rotation::measure(contract.head_dim, &zero.keys, &at, epsilon))
}
