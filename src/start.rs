//! From settings to a running brain: find the library, open the model, start the actors.
//!
//! [`Parts`] are what a brain stands on. A program that wants a look at them first, as the command
//! line does, finds them itself and starts the brain from them.

use std::{
    env, fmt,
    num::NonZero,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use motorbrain_actors::{
    brain::{self, Brain, BrainConfig},
    engine::EngineLoader,
    keep::Keep,
    shown::shown,
};
use tokio::task::{JoinError, spawn_blocking};

use crate::{
    calibration::CalibrationError,
    engine::{EngineOptions, OnnxLoader, Runtime, RuntimeError, WindowError},
    library::{self, Found, LibraryError},
    model::{Model, ModelError, ModelOptions},
    observe::ObserveError,
    places,
    settings::{Settings, SettingsError},
    spill::{self, SpillError},
    vectors::{self, Vectors},
};

/// What a brain stands on.
#[derive(Clone)]
pub struct Parts {
    /// The library file and why this one.
    pub library: Found,
    /// The library, open.
    pub runtime: Runtime,
    /// The model, read and checked.
    pub model: Arc<Model>,
    /// Makes the actors' engines.
    pub loader: Arc<OnnxLoader>,
}

/// Why a brain cannot be started. Nothing was changed.
///
/// `Debug` is what a `main` that returns it prints: message, causes and hint, for people.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings contradict themselves.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// There is no ONNX Runtime library.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The library cannot be opened.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// No model was named, and set-up has put none in place.
    #[error(
        "no model was named, and there is no {}/{} in the working folder or above",
        places::SETUP_DIR,
        places::DEFAULT_MODEL
    )]
    NoModel,
    /// The model cannot be served.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The window does not fit the model.
    #[error(transparent)]
    Window(#[from] WindowError),
    /// The folder for spilled conversations cannot be used.
    #[error(transparent)]
    Spill(#[from] SpillError),
    /// The calibration of vectors cannot be used.
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    /// The brain cannot be looked at as settings say.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The brain did not start; most often the library does not load the model.
    #[error(transparent)]
    Brain(#[from] brain::StartError),
    /// The program is stopping, or the search for library, model and files panicked.
    #[error("library, model and files were not looked for to the end")]
    Interrupted(#[source] JoinError),
}

impl StartError {
    /// What to do next, one sentence; `None` when only the cause can say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Settings(error) => error.hint(),
            Self::Library(error) => Some(error.hint()),
            Self::Runtime(error) => error.hint(),
            Self::NoModel => Some(format!("{}, or name a model's folder in `model.dir`", places::RUN_SETUP)),
            Self::Model(error) => error.hint(),
            Self::Window(error) => Some(error.hint().into()),
            Self::Spill(error) => Some(error.hint()),
            Self::Calibration(error) => error.hint(),
            Self::Observe(error) => Some(error.hint()),
            Self::Brain(error) => error.hint(),
            Self::Interrupted(_) => None,
        }
    }
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(f, self, self.hint())
    }
}

/// Starts a brain as the settings say and waits until its first actor has loaded the model.
///
/// Runs inside the caller's tokio runtime; what blocks is given a thread of its own.
///
/// # Errors
/// See [`StartError`].
pub async fn start(settings: &Settings) -> Result<Brain, StartError> {
    Parts::find(settings).await?.start(settings, None).await
}

/// The same, under a name by which the process's other actors find it.
///
/// # Errors
/// See [`StartError`]; the name may be taken.
pub async fn start_named(name: &str, settings: &Settings) -> Result<Brain, StartError> {
    Parts::find(settings).await?.start(settings, Some(name.to_owned())).await
}

impl Parts {
    /// Finds and opens library and model.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn find(settings: &Settings) -> Result<Self, StartError> {
        let settings = settings.clone();
        spawn_blocking(move || Self::find_blocking(&settings)).await.map_err(StartError::Interrupted)?
    }

    fn find_blocking(settings: &Settings) -> Result<Self, StartError> {
        settings.validate()?;
        let library = find_library(settings)?;
        let runtime = Runtime::open(&library.path)?;
        let model = Arc::new(Model::open(&model_options(settings)?)?);
        let loader = OnnxLoader::new(runtime.clone(), Arc::clone(&model), engine_options(settings))?;
        Ok(Self { library, runtime, model, loader: Arc::new(loader) })
    }

    /// Where conversations go that leave memory; `None` where the settings name no folder. What dead processes have left
    /// there is removed, which blocks.
    ///
    /// # Errors
    /// The folder is one that others may write to, or cannot be used.
    pub fn keep(&self, settings: &Settings) -> Result<Option<Arc<dyn Keep>>, SpillError> {
        let Some(folder) = &settings.memory.spill else { return Ok(None) };
        let loader: Arc<dyn EngineLoader> = Arc::clone(&self.loader) as _;
        spill::open(folder, settings.memory.spill_bytes, loader).map(Some)
    }

    /// Starts a brain on these parts, which were found with the same settings.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(self, settings: &Settings, name: Option<String>) -> Result<Brain, StartError> {
        let config = brain_config(settings, &self.model, name);
        let (parts, named) = (self.clone(), settings.clone());
        let found = move || Ok((parts.keep(&named)?, Vectors::of(&named, &parts.loader)?));
        let found: Result<_, StartError> = spawn_blocking(found).await.map_err(StartError::Interrupted)?;
        let (keep, vectors) = found?;
        let embedding = vectors.config(settings, &self.model)?;
        let observed = settings.observe.socket.as_deref().map(Observed::open).transpose()?;
        let brain =
            Brain::start(BrainConfig { keep, embedding, ..config }, self.loader, self.model.tokenizer.clone()).await?;
        if let Some(observed) = observed {
            observed.serve(&brain);
        }
        Ok(brain)
    }
}

/// Where a brain is looked at.
struct Observed {
    #[cfg(unix)]
    socket: crate::observe::Socket,
}

impl Observed {
    #[cfg(unix)]
    fn open(path: &Path) -> Result<Self, ObserveError> {
        Ok(Self { socket: crate::observe::Socket::open(path)? })
    }

    #[cfg(not(unix))]
    fn open(path: &Path) -> Result<Self, ObserveError> {
        Err(ObserveError::Unsupported { path: path.to_owned() })
    }

    /// Until the brain ends.
    fn serve(self, brain: &Brain) {
        #[cfg(unix)]
        tokio::spawn(crate::observe::serve(self.socket, brain.clone()));
        #[cfg(not(unix))]
        let _ = brain;
    }
}

/// The library file that the settings and this process lead to.
///
/// # Errors
/// There is none that was named or that only this user and root may have written.
pub fn find_library(settings: &Settings) -> Result<Found, LibraryError> {
    library::find_on_disk(settings.runtime.library.clone())
}

/// The model that the settings and the working folder lead to.
///
/// # Errors
/// [`StartError::NoModel`], or a preset that is none.
pub fn model_options(settings: &Settings) -> Result<ModelOptions, StartError> {
    let named = settings.model.dir.clone();
    let default = || places::default_model(&env::current_dir().unwrap_or_else(|_| PathBuf::from(".")));
    let dir = named.or_else(default).ok_or(StartError::NoModel)?;
    Ok(settings.model_options(dir).map_err(ModelError::from)?)
}

/// What a brain of this model, which is not loaded yet, is to be like. Where the settings leave it to us how much memory
/// keys and values may take, what the weights will take is no part of what is free.
pub fn brain_config(settings: &Settings, model: &Model, name: Option<String>) -> BrainConfig {
    let mut config = settings.brain_config(name);
    config.embedding = settings.embedding_config(vectors::recipe(settings, model), &model.tokenizer.opening());
    let half = config.memory.kv_bytes;
    if settings.memory.kv_bytes.is_none() && half != usize::MAX {
        config.memory.kv_bytes = half.saturating_sub(model.weight_bytes() / 2).max(half / 4);
    }
    config
}

/// How engines are made on this machine.
pub fn engine_options(settings: &Settings) -> EngineOptions {
    let mut options = settings.engine_options(thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN));
    options.form.cache = options.form.cache.or_else(places::cache_dir);
    options
}

#[cfg(test)]
mod tests {
    use motorbrain_actors::message::BrainError;

    use super::*;
    use crate::transfer::TransferError;

    #[test]
    fn an_error_prints_what_to_do_where_main_returns_it() {
        let printed = format!("{:?}", StartError::NoModel);
        assert!(printed.starts_with("no model was named"), "{printed}");
        assert!(printed.contains("\nrun `cargo xtask setup`"), "{printed}");
        let cause = std::io::Error::other("no such file");
        let read = SettingsError::Read { path: "a.toml".into(), cause };
        let expected = "cannot read the settings file a.toml: no such file\nname a file that exists, or leave the file out \
                        to use the defaults";
        assert_eq!(format!("{read:?}"), expected);
        assert_eq!(format!("{:?}", StartError::from(read)), expected);
        let refused = BrainError::Overloaded { what: "requests", limit: 8, retry_after: None };
        assert_eq!(format!("{refused:?}"), "8 requests are the most at once");
        let taken = TransferError::Exists { path: "a".into() };
        assert_eq!(format!("{taken:?}"), "a is there already\nname a file that is not there yet");
    }
}
