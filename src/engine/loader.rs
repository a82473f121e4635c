//! Making engines: one for each actor and each of its incarnations, all of the same model.
//!
//! What does not change from one engine to the next is worked out once and shared: the model's
//! files, the runtime's library and the rotation measured on its keys.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bytes::Bytes;

use motorbrain_actors::{
    engine::{Engine, EngineErrorKind, EngineInfo, EngineLoader, LoadError, Window},
    tokens::TokenId,
};

use super::{
    backend::Backend,
    graph::Graph,
    linear::{self, Packed},
    onnx::OnnxEngine,
    paged::PagedGraph,
    rotation::{Rotation, positions},
    runtime::Runtime,
    session::{SessionOptions, engine_error},
    window::{WindowError, WindowOptions},
};
use crate::model::{ElementType, LinearSource, Model, Paged, Stored, mapped};

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
    /// Packed by the first load.
    weights: Mutex<Option<Arc<[Packed]>>>,
}

impl OnnxLoader {
    /// A loader; the window is checked against the model's context here.
    ///
    /// # Errors
    /// A window that the model does not allow.
    pub fn new(runtime: Runtime, model: Arc<Model>, options: EngineOptions) -> Result<Self, WindowError> {
        let window = options.window.resolve(model.context.tokens)?;
        Ok(Self { runtime, model, session: options.session, window, rotation: OnceLock::new(), weights: Mutex::new(None) })
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

    /// An engine on the model's own graph, one row at a time: the reference that the paged form is
    /// measured against.
    ///
    /// # Errors
    /// Why there is none.
    pub fn load_plain(&self) -> Result<Box<dyn Engine>, LoadError> {
        let graph = Graph::load(&self.runtime, &self.model, self.window.size, self.session);
        self.engine(graph.map_err(|error| self.failed(&error))?)
    }

    fn engine<B: Backend + 'static>(&self, mut backend: B) -> Result<Box<dyn Engine>, LoadError> {
        let rotation = match self.rotation.get() {
            Some(rotation) => rotation.clone(),
            None => {
                let measured = measure(&mut backend, &self.window).map_err(|error| self.failed(&error))?;
                self.rotation.get_or_init(|| measured.map(Arc::new)).clone()
            }
        };
        let info = info(&self.model, self.window, rotation.is_some());
        Ok(Box::new(OnnxEngine::new(backend, info, rotation)))
    }

    /// The weights of the paged form's own products, packed once for all engines. Whoever comes while
    /// they are being packed waits.
    fn weights(&self, paged: &Paged) -> Result<Arc<[Packed]>, LoadError> {
        let mut packed = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(weights) = &*packed {
            return Ok(Arc::clone(weights));
        }
        let weights: Arc<[Packed]> = pack_all(&paged.linears, &self.model.overlay.folder)
            .map_err(|message| LoadError {
                transient: false,
                message: format!("cannot load {}: {message}", self.model.graph.display()),
                hint: Some("fetch the model's files again; they do not belong together".into()),
            })?
            .into();
        *packed = Some(Arc::clone(&weights));
        Ok(weights)
    }

    fn failed(&self, error: &ort::Error) -> LoadError {
        let engine_error = engine_error(error, None);
        let out_of_memory = engine_error.kind == EngineErrorKind::OutOfMemory;
        LoadError {
            transient: out_of_memory,
            message: format!("cannot load {}: {}", self.model.graph.display(), engine_error.message),
            hint: Some(if out_of_memory {
                "use a smaller model, fewer actors or a smaller window".into()
            } else {
                "the graph or its weights do not suit this runtime; `motorbrain doctor` shows both".into()
            }),
        }
    }
}

impl EngineLoader for OnnxLoader {
    fn load(&self) -> Result<Box<dyn Engine>, LoadError> {
        let overlay = &self.model.overlay;
        match (&overlay.paged, overlay.head) {
            (Ok(paged), Some(head)) => {
                let weights = self.weights(paged)?;
                let contract = &self.model.contract;
                let graph = PagedGraph::load(&self.runtime, overlay, contract, head, paged, &weights, self.session);
                self.engine(graph.map_err(|error| self.failed(&error))?)
            }
            _ => self.load_plain(),
        }
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

fn pack_all(linears: &[LinearSource], folder: &Path) -> Result<Vec<Packed>, String> {
    let mut files = HashMap::new();
    let mut bytes = |stored: &Stored| match stored {
        Stored::Inline(bytes) => Ok(bytes.clone()),
        Stored::File { location, offset, length } => {
            let file: &Bytes = match files.entry(location.clone()) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let path = folder.join(location);
                    entry.insert(mapped::map(&path).map_err(|error| format!("{}: {error}", path.display()))?)
                }
            };
            let (from, all) = (*offset as usize, file.len());
            let to = length.map_or(all, |length| from.saturating_add(length as usize));
            // The references were checked when the model was opened; the file may be another since.
            (from <= to && to <= all)
                .then(|| file.slice(from..to))
                .ok_or_else(|| format!("{location} has only {all} bytes"))
        }
    };
    let mut pack = |source: &LinearSource| {
        let (codes, scales, zeros) = (bytes(&source.codes)?, bytes(&source.scales)?, bytes(&source.zeros)?);
        linear::pack(source, &codes, &scales, &zeros).map_err(|error| error.to_string())
    };
    linears.iter().map(&mut pack).collect()
}

/// Measures the rotation on keys of layer 0, which depend on token and position alone.
fn measure(backend: &mut impl Backend, window: &Window) -> ort::Result<Option<Rotation>> {
    let contract = backend.contract();
    let (head_dim, key_type) = (contract.head_dim, contract.kv.first().map(|kv| kv.key_type));
    // Two tokens from the inner part of the vocabulary, away from special tokens and padding.
    let tokens = [contract.vocab / 7, contract.vocab * 3 / 7].map(|id| TokenId(id as u32));
    let zero = backend.keys_at(0, &tokens)?;
    let at = positions(window.size - 1)
        .into_iter()
        .map(|position| backend.keys_at(position, &tokens))
        .collect::<ort::Result<Vec<_>>>()?;
    let epsilon = match key_type {
        Some(ElementType::F16) => f64::from(half::f16::EPSILON.to_f32()),
        _ => f64::from(f32::EPSILON),
    };
    Ok(Rotation::measure(head_dim, &zero.keys, &at, epsilon))
}
