//! Making engines: one for each actor and each of its incarnations, all of the same model.
//!
//! What does not change from one engine to the next is worked out once and shared: the model's files, the runtime's
//! library, the form that runs best with its packed weights (`chosen.rs`), the constants that ONNX Runtime itself
//! reads, and the rotations measured on the model's keys.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use motorbrain_actors::{
    engine::{
        Engine, EngineError, EngineErrorKind, EngineInfo, EngineLoader, LoadError, Origin, Page, PageError, PageSize,
        Slides, Window,
    },
    tokens::TokenId,
};
use motorbrain_kernels::attention::{self, KvStore, KvTypes, NoMemory, NotSaved};
use sha2::{Digest, Sha256};

use super::{
    backend::Backend,
    chosen::{Chosen, Shared},
    form::{Form, FormOptions},
    graph::Graph,
    identity::{self, Fingerprint, IdentityError, Lineage},
    initializers::Initializers,
    kept::{Cache, Unkept},
    onnx::OnnxEngine,
    paged::PagedGraph,
    rotation::positions,
    rotations::{self, RotationChanges, Rotations},
    runtime::Runtime,
    session::{SessionOptions, engine_error},
    window::{WindowError, WindowOptions},
};
use crate::model::{Contract, Model, parts::Files};

/// How engines of a model are made.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// How each session uses the machine.
    pub session: SessionOptions,
    /// The window, as the settings have it.
    pub window: WindowOptions,
    /// How the form that runs is chosen.
    pub form: FormOptions,
}

/// Loads engines of one model.
pub struct OnnxLoader {
    /// Whose library runs the sessions.
    pub(super) runtime: Runtime,
    /// The model on disk, checked.
    pub(super) model: Arc<Model>,
    session: SessionOptions,
    /// As the settings and the model's context make it.
    pub(super) window: Window,
    /// How the form that runs is chosen.
    pub(super) form: FormOptions,
    rotations: OnceLock<Rotations>,
    /// Made by the first load; whoever comes meanwhile waits.
    pub(super) chosen: Mutex<Option<Chosen>>,
    /// Why the form had to be made again, where it had.
    pub(super) unkept: Mutex<Option<Unkept>>,
    /// What engines on the model's own graph share, for as long as there is one: where another form
    /// runs, that is only until both are compared.
    plain: Mutex<Weak<Initializers>>,
    /// Where the pages of all paged engines come from, which they outlive.
    pub(super) store: Arc<KvStore>,
    /// The model's files as they lay there when it was opened.
    look: [u8; 32],
    /// The same by all of their bytes, once somebody asked.
    fingerprint: OnceLock<Fingerprint>,
}

impl OnnxLoader {
    /// A loader; the window is checked against the model's context here.
    ///
    /// # Errors
    /// A window that the model does not allow.
    pub fn new(runtime: Runtime, model: Arc<Model>, options: EngineOptions) -> Result<Self, WindowError> {
        let EngineOptions { session, window, form } = options;
        let window = window.resolve(model.context.tokens)?;
        let contract = &model.contract;
        let types = contract.kv.iter().map(|kv| KvTypes { key: kv.key_type, value: kv.value_type });
        let store = KvStore::new(types.collect(), contract.kv_heads, contract.head_dim);
        let look = identity::look(&model);
        Ok(Self {
            runtime,
            model,
            session,
            window,
            form,
            rotations: OnceLock::new(),
            chosen: Mutex::default(),
            unkept: Mutex::default(),
            plain: Mutex::default(),
            store,
            look,
            fingerprint: OnceLock::new(),
        })
    }

    /// The rotations of the model's layers as an engine has measured them: `None` before the first load.
    pub fn rotations(&self) -> Option<&Rotations> {
        self.rotations.get()
    }

    /// The window as the settings and the model's context make it.
    pub fn window(&self) -> Window {
        self.window
    }

    /// The form that engines run; `None` before the first load.
    pub fn form(&self) -> Option<Form> {
        self.chosen.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|chosen| chosen.form.clone())
    }

    /// Why a kept form was not used or the form is not kept, where there is something to tell; `None` before the first
    /// load.
    pub fn unkept(&self) -> Option<Unkept> {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hashes of the bytes of the model's files. The first time all of them are read.
    ///
    /// # Errors
    /// They cannot be, or have changed since they were loaded.
    pub fn fingerprint(&self) -> Result<Fingerprint, IdentityError> {
        if let Some(fingerprint) = self.fingerprint.get() {
            return Ok(*fingerprint);
        }
        let read = identity::read(&self.model, &self.look)?;
        Ok(*self.fingerprint.get_or_init(|| read))
    }

    /// What the model goes back to. Where its manifest does not say, the first time all of its bytes are read.
    ///
    /// # Errors
    /// As [`Self::fingerprint`].
    pub fn lineage(&self) -> Result<Lineage, IdentityError> {
        if self.model.origin.is_some() {
            return Lineage::of(&self.model);
        }
        self.fingerprint().map(|Fingerprint { model, tokenizer }| Lineage { weights: model, tokenizer })
    }

    /// The model on disk.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Where something is kept that was made of the model's files as they lie there, by what `version` stands for; names
    /// of its kind begin with `prefix`.
    pub(crate) fn cache(&self, prefix: &'static str, version: u32) -> Cache {
        let parts = [env!("CARGO_PKG_VERSION").as_bytes(), &version.to_le_bytes(), &self.look];
        let hash = parts.into_iter().fold(Sha256::new(), |hash, part| hash.chain_update(part));
        Cache::at(self.form.cache.as_deref(), prefix, hash.finalize().into())
    }

    /// An engine on the model's own graph, one row at a time: the reference that every other form is
    /// compared with.
    ///
    /// # Errors
    /// Why there is none.
    pub fn load_plain(&self) -> Result<Box<dyn Engine>, LoadError> {
        let initializers = self.plain_initializers().map_err(|error| self.failed(&error))?;
        let graph = Graph::load(&self.runtime, &self.model, &initializers, self.window.size, self.session);
        self.engine(graph.map_err(|error| self.failed(&error))?)
    }

    /// An engine on the paged form.
    pub(super) fn load_paged(&self, shared: &Shared) -> Result<Box<dyn Engine>, LoadError> {
        let (store, window) = (Arc::clone(&self.store), self.window.size);
        let graph = PagedGraph::load(&self.runtime, &self.model, shared, store, window, self.session);
        self.engine(graph.map_err(|error| self.failed(&error))?)
    }

    fn engine<B: Backend + 'static>(&self, mut backend: B) -> Result<Box<dyn Engine>, LoadError> {
        let rotations = match self.rotations.get() {
            Some(rotations) => rotations,
            None => {
                let measured = measure(&mut backend, &self.window).map_err(|error| self.failed(&error))?;
                let measured = measured.map_err(|changes| LoadError {
                    transient: false,
                    message: format!("cannot load {}: {changes}", self.model.graph.display()),
                    hint: Some(format!("set `window.size` to {} or less", changes.positions)),
                })?;
                self.rotations.get_or_init(|| measured)
            }
        };
        let pages = backend.store().map(|store| PageSize { tokens: store.page_tokens(), bytes: store.page_bytes() });
        let info = info(&self.model, self.window, rotations, pages);
        Ok(Box::new(OnnxEngine::new(backend, info, rotations.back(self.window.slide).map(Arc::from))))
    }

    /// A page's memory, where it is one of this loader's.
    fn own(&self, page: &Page) -> Result<Arc<attention::Page>, PageError> {
        let memory = page.memory::<attention::Page>();
        memory.filter(|memory| Arc::ptr_eq(memory.store(), &self.store)).ok_or(PageError::Foreign)
    }

    fn plain_initializers(&self) -> ort::Result<Arc<Initializers>> {
        let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = plain.upgrade() {
            return Ok(shared);
        }
        let overlay = &self.model.overlay;
        let mut files = Files::of(overlay.folder.clone());
        let opened = Arc::new(Initializers::open(&overlay.constants, &mut files)?);
        *plain = Arc::downgrade(&opened);
        Ok(opened)
    }

    /// The runtime's error as a load's.
    pub(super) fn failed(&self, error: &ort::Error) -> LoadError {
        self.refused(&engine_error(error, None))
    }

    /// An engine's error as a load's: what passes is only a lack of memory.
    pub(super) fn refused(&self, error: &EngineError) -> LoadError {
        let out_of_memory = error.kind == EngineErrorKind::OutOfMemory;
        LoadError {
            transient: out_of_memory,
            message: format!("cannot load {}: {}", self.model.graph.display(), error.message),
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
        match self.chosen()? {
            (_, Some(engine)) => Ok(engine),
            (Chosen { paged: Some(shared), .. }, None) => self.load_paged(&shared),
            (Chosen { paged: None, .. }, None) => self.load_plain(),
        }
    }

    fn kv_bytes(&self) -> usize {
        self.store.bytes()
    }

    fn origin(&self) -> Result<Origin, PageError> {
        if !matches!(self.form(), Some(Form::Paged { .. })) {
            return Err(PageError::NoPages);
        }
        let form = format!("paged, activations {}", self.activations().entry());
        Ok(Origin {
            model: self.look,
            form,
            layout: layout(&self.model.contract),
            page: self.store.page_tokens(),
            window: self.window,
        })
    }

    fn saved_bytes(&self, page: &Page, rows: usize) -> Result<usize, PageError> {
        self.own(page)?.saved_bytes(rows).map_err(not_saved)
    }

    fn save(&self, page: &Page, rows: usize, to: &mut Vec<u8>) -> Result<(), PageError> {
        self.own(page)?.save(rows, to).map_err(not_saved)
    }

    fn restore(&self, bytes: &[u8], rows: usize) -> Result<Page, PageError> {
        attention::Page::restore(&self.store, bytes, rows).map(Page::new).map_err(not_saved)
    }
}

/// How bytes of pages are to be read: raised with each change of their order.
const LAYOUT_VERSION: u32 = 1;

/// All that the order and the types of a saved page's numbers depend on, in words.
fn layout(contract: &Contract) -> String {
    let mut types: Vec<_> = contract.kv.iter().map(|kv| format!("{}/{}", kv.key_type, kv.value_type)).collect();
    // Most models have the same in all layers.
    if types.iter().all(|layer| *layer == types[0]) {
        types.truncate(1);
    }
    let Contract { layers, kv_heads, head_dim, .. } = contract;
    let endian = if cfg!(target_endian = "little") { "little" } else { "big" };
    let types = types.join(" ");
    format!("{LAYOUT_VERSION}: {layers} layers of {kv_heads} heads of {head_dim}, {types}, {endian}-endian")
}

fn not_saved(why: NotSaved) -> PageError {
    match why {
        NotSaved::Rows { rows, found } => PageError::Rows { rows, found },
        NotSaved::Length { rows, found, expected } => PageError::Length { rows, found, expected },
        NotSaved::Kind { kind } => PageError::Kind { kind },
        NotSaved::Page(NoMemory { bytes }) => PageError::NoMemory { bytes },
    }
}

fn info(model: &Model, window: Window, rotations: &Rotations, pages: Option<PageSize>) -> EngineInfo {
    let contract = &model.contract;
    let unexplained = rotations.unexplained();
    let slides = match (window.slides, unexplained) {
        (Slides::Shift, Some(layer)) => {
            tracing::warn!(
                layer,
                "no rotation explains this layer's keys, so the window cannot slide by shifting them"
            );
            Slides::Never
        }
        (slides, _) => slides,
    };
    EngineInfo {
        layers: contract.layers,
        hidden: contract.hidden.unwrap_or(0),
        vocab: contract.vocab,
        inputs: contract.inputs,
        embeds: model.overlay.lm_head.is_some(),
        window: Window { slides, ..window },
        end_tokens: model.end_tokens.clone(),
        kv_bytes_per_token: contract.kv_bytes_per_token(),
        pages,
    }
}

/// Measures each layer's rotation on its keys.
fn measure(backend: &mut impl Backend, window: &Window) -> ort::Result<Result<Rotations, RotationChanges>> {
    // Two tokens from the inner part of the vocabulary, away from special tokens and padding.
    let tokens = [1, 3].map(|place| TokenId((backend.contract().vocab * place / 7) as u32));
    let keys = backend.keys_at(&positions(window.size - 1), &tokens)?;
    let rotations = Rotations::measure(backend.contract(), &keys);
    let unexplained = rotations.unexplained();
    let change = unexplained.and_then(|layer| Some((layer, Rotations::change(backend.contract(), &keys[layer])?)));
    let Some((layer, (rotation, [mut good, mut bad]))) = change else {
        return Ok(Ok(rotations));
    };
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        let keys = backend.keys_at(&[middle], &tokens)?.swap_remove(layer);
        let as_before = rotations::explains(backend.contract(), &rotation, &keys);
        *(if as_before { &mut good } else { &mut bad }) = middle;
    }
    Ok(Err(RotationChanges { layer, positions: bad }))
}
