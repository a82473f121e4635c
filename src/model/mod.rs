//! A model on disk: what its graph takes and gives, its tokenizer, and whether the files agree.
//!
//! The graph is the truth; config files and presets are claims about it. This module reads files and
//! starts no session: it knows no ONNX Runtime. What a session loads is the [`Overlay`].

mod activations;
mod build;
mod choices;
mod config_files;
mod context;
mod contract;
mod contract_error;
mod error;
mod external;
mod files;
mod footprint;
pub(crate) mod fuse;
#[doc(hidden)]
pub mod fuzzing;
mod gated;
mod graph;
mod initializers;
mod io;
mod json;
mod layout;
mod linears;
mod lm_head;
mod manifest;
mod naming;
mod note;
pub mod onnx;
mod overlay;
pub(crate) mod paged;
pub(crate) mod parts;
mod positions;
mod presets;
mod rotation_claims;
mod switched;
mod tokenizer;
mod transposed;
mod view;
pub(crate) mod weights;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use motorbrain_actors::tokens::{TokenId, Tokenizer, TokenizerKind};

pub(crate) use self::fuse::{FuseRotaries, FuseRotary};
pub(crate) use self::initializers::{Initializer, Sharing};
pub(crate) use self::linears::{LinearSource, Stored, TableSource};
pub use self::{
    activations::Activations,
    config_files::ConfigFileError,
    context::{ContextLimit, ContextSource},
    contract::{Contract, ElementType, Family, KvNames},
    contract_error::ContractError,
    error::ModelError,
    external::ExternalError,
    fuse::NotFused,
    graph::GraphError,
    layout::LayoutError,
    lm_head::NoLmHead,
    manifest::{CALIBRATION, Checked, Manifest, ManifestError, ManifestFile},
    note::Note,
    overlay::{LmHead, Overlay},
    paged::{NotPaged, Paged},
    presets::{Claims, Fact, Preset, PresetError, RecipeName},
    rotation_claims::RotationClaims,
    tokenizer::{AddedToken, ModelTokenizer, TokenizerError},
    weights::{Rewritten, UnknownWeights, Weights, WeightsError},
};
use self::{
    config_files::ConfigFiles, context::Tables, external::Home, graph::GraphFile, tokenizer::Outside, view::View,
};

/// Which model to open.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelOptions {
    /// The model's folder.
    pub dir: PathBuf,
    /// Its graph file, relative to the folder; `None`: the one that `genai_config.json` names, else
    /// `model.onnx`, or the only `model*.onnx` there and in `onnx/`.
    pub file: Option<PathBuf>,
    /// What it is said to be; compared with what it is.
    pub preset: Option<Preset>,
}

/// A model on disk, checked and ready to be loaded into a session.
#[derive(Debug)]
pub struct Model {
    /// Its folder.
    pub dir: PathBuf,
    /// Its graph file.
    pub graph: PathBuf,
    /// What the graph takes and gives.
    pub contract: Contract,
    /// The edited graph that a session loads.
    pub overlay: Overlay,
    /// Turns text into tokens and back.
    pub tokenizer: Arc<ModelTokenizer>,
    /// Tokens that end a step; empty where no file names any.
    pub end_tokens: Vec<TokenId>,
    /// Who named them: a file's name, `preset`, or `None`.
    pub end_tokens_source: Option<&'static str>,
    /// The most tokens of context the model is made for.
    pub context: ContextLimit,
    /// What the files say of the rotary position embedding.
    pub rotation: RotationClaims,
    /// A hash of what the weights go back to, where `manifest.json` says that: the same for every form of a model.
    pub origin: Option<[u8; 32]>,
    /// How the files were compared with `manifest.json`; `None` where there is none.
    pub manifest: Option<Checked>,
    /// Who wrote the graph, as the graph has it; may be empty.
    pub producer: String,
    /// What its exporter asks for in the metadata entry `motorbrain.activations`.
    pub activations: Activations,
    /// Nodes of the model's own graph.
    pub nodes: usize,
    /// What its user may want to know.
    pub notes: Vec<Note>,
}

impl Model {
    /// Reads and checks a model.
    ///
    /// Hashes every file the first time, where there is a manifest: gigabytes take seconds.
    ///
    /// # Errors
    /// See [`ModelError`]; the first thing that is wrong.
    pub fn open(options: &ModelOptions) -> Result<Self, ModelError> {
        let dir = match options.dir.as_path() {
            dir if dir.as_os_str().is_empty() => Path::new("."),
            dir => dir,
        };
        layout::check(dir)?;
        let listed = Manifest::read(dir)?;
        let manifest = listed.as_ref().map(|manifest| manifest.verify(dir)).transpose()?;
        let configs = ConfigFiles::read(dir)?;
        let path = layout::find_graph(dir, options.file.as_deref(), configs.genai.graph.as_deref())?;
        let mut file = GraphFile::read(&path)?;
        let home = Home::of(&path);
        external::resolve(&mut file.graph, &home)?;
        let inputs = View::new(&file.graph).inputs().count();
        choices::take_cached_branch(&mut file.graph)?;

        let view = View::new(&file.graph);
        let lm_head = overlay::name_lm_head(&view).and_then(|names| Ok((names, lm_head::find(&view)?)));
        let facts = lm_head.as_ref().ok().map(|(_, plan)| plan.facts);
        let contract = Contract { inputs, ..Contract::read(&view, facts, &configs.fallback())? };
        let preset = options.preset.as_ref();
        if let Some(preset) = preset {
            preset.check_graph(&contract, &path)?;
            if let Some(config) = &configs.config {
                preset.check_config(config, &dir.join("config.json"))?;
            }
        }
        let tokenizer = ModelTokenizer::open(dir, contract.vocab)?;
        if let Some(preset) = preset {
            preset.check_tokenizer(&tokenizer, dir)?;
        }
        let rotation = RotationClaims {
            config_base: configs.rotation_base(),
            preset_base: preset.map(|preset| preset.claims.rope_base),
            table_positions: rotation_claims::table_positions(&view),
        };
        let tables = Tables { rotation: rotation.table_positions, positions: positions::of_tables(&view) };
        let context = ContextLimit::smallest(&configs, preset, tables);
        let (end_tokens, end_tokens_source) = end_tokens(&configs, preset);

        if tokenizer.kind() == TokenizerKind::Bytes {
            tracing::warn!(dir = %dir.display(), "no tokenizer.json: each byte of a text is a token");
        }
        let mut notes = Vec::new();
        notes.extend((tokenizer.kind() == TokenizerKind::Bytes).then_some(Note::ByteFallback));
        notes.extend(lm_head.as_ref().err().cloned().map(Note::NoLmHead));
        notes.extend(end_token_notes(&end_tokens, contract.vocab));
        let outside = tokenizer.outside(contract.vocab);
        notes.extend(outside.map(|Outside { count, id_max }| Note::TokensOutside {
            count,
            id_max,
            vocab: contract.vocab,
        }));
        notes.extend(context.note());
        notes.extend(config_notes(&configs, &contract));
        notes.extend(rotation_note(&rotation));
        let entry = file.model.metadata_props.iter().find(|entry| entry.key() == activations::ACTIVATIONS_ENTRY);
        let activations = entry.map_or(Activations::AsExported, |entry| Activations::of_entry(entry.value()));
        let (lm_head, nodes, producer) = (lm_head.ok(), file.graph.node.len(), producer(&file.model));
        let overlay = Overlay::build(file, &home, lm_head, &contract);
        Ok(Self {
            dir: dir.to_owned(),
            graph: path,
            contract,
            overlay,
            tokenizer: Arc::new(tokenizer),
            end_tokens,
            end_tokens_source,
            context,
            rotation,
            origin: listed.as_ref().and_then(Manifest::origin),
            manifest,
            producer,
            activations,
            nodes,
            notes,
        })
    }

    /// Bytes of the files that the weights lie in; of one that cannot be looked at, none.
    pub fn weight_bytes(&self) -> usize {
        let bytes = self.data_files().filter_map(|file| fs::metadata(file).ok()).map(|file| file.len());
        usize::try_from(bytes.sum::<u64>()).unwrap_or(usize::MAX)
    }

    /// The files that the model's weights lie in, however deep below its folder: the graph file among them
    /// where it has weights itself. What is computed depends on these files' bytes and on
    /// [`Overlay::bytes`], on nothing else on disk.
    pub fn data_files(&self) -> impl Iterator<Item = PathBuf> {
        self.overlay.data_files.iter().map(|file| self.overlay.folder.join(file))
    }
}

fn producer(model: &onnx::ModelProto) -> String {
    format!("{} {}", model.producer_name(), model.producer_version()).trim().to_owned()
}

/// The end tokens, and who named them.
fn end_tokens(configs: &ConfigFiles, preset: Option<&Preset>) -> (Vec<TokenId>, Option<&'static str>) {
    match (configs.end_tokens(), preset) {
        (Some((tokens, file)), _) => (tokens, Some(file)),
        (None, Some(preset)) => (preset.end_tokens().collect(), Some("preset")),
        (None, None) => (Vec::new(), None),
    }
}

fn end_token_notes(end_tokens: &[TokenId], vocab: usize) -> Vec<Note> {
    if end_tokens.is_empty() {
        return vec![Note::NoEndTokens];
    }
    let outside = |token: &&TokenId| usize::try_from(token.0).is_ok_and(|id| id >= vocab);
    let outside = end_tokens.iter().filter(outside);
    outside.map(|&token| Note::EndTokenOutside { token, vocab }).collect()
}

/// Where config.json and the graph differ.
fn config_notes(configs: &ConfigFiles, contract: &Contract) -> Vec<Note> {
    let Some(config) = &configs.config else {
        return Vec::new();
    };
    let facts = [
        (Fact::Layers, config.num_hidden_layers, Some(contract.layers)),
        (Fact::KvHeads, config.num_key_value_heads, Some(contract.kv_heads)),
        (Fact::HeadDim, config.head_dim(), Some(contract.head_dim)),
        (Fact::Hidden, config.hidden_size, contract.hidden),
        (Fact::Vocab, config.vocab_size, Some(contract.vocab)),
    ];
    let both = facts.into_iter().filter_map(|(fact, config, graph)| Some((fact, config?, graph?)));
    both.filter(|(_, config, graph)| config != graph)
        .map(|(fact, config, graph)| Note::ConfigDisagrees { fact, config, graph })
        .collect()
}

fn rotation_note(rotation: &RotationClaims) -> Option<Note> {
    let (config, preset) = (rotation.config_base?, rotation.preset_base?);
    // Both are decimal numbers that people wrote: equal means equal.
    (config.total_cmp(&preset).is_ne()).then_some(Note::RotationBase { config, preset })
}
