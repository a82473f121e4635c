//! Which form of a model engines run: chosen by a process's first load, the same for all that follow.
//!
//! The paged form is made and compared with the model's own graph, or was by an earlier process, see `form.rs`.

use std::sync::{Arc, PoisonError};

use motorbrain_actors::engine::{Engine, EngineError, EngineErrorKind, LoadError};
use motorbrain_kernels::rotary::Layout;

use super::{
    agreement,
    constants::Constants,
    form::{Form, WhyPlain},
    initializers::Initializers,
    kept::{Cache, Unkept},
    loader::OnnxLoader,
    rotations::Rotations,
};
use crate::model::{Activations, Family, FuseRotaries, FuseRotary, Model, Paged, parts::Files};

/// The form in use and what its engines share.
#[derive(Clone)]
pub(super) struct Chosen {
    /// As it is told.
    pub(super) form: Form,
    /// `None` where the plain form runs.
    pub(super) paged: Option<Arc<Shared>>,
}

/// What was chosen, and an engine on it where one was made on the way.
pub(super) type Made = (Chosen, Option<Box<dyn Engine>>);

/// Why the plain form runs, and an engine on it where one was made on the way.
type Refused = (WhyPlain, Option<Box<dyn Engine>>);

/// A paged form with what its operators keep of it.
pub(super) struct Shared {
    /// The graph, with what was taken out of it.
    pub(super) paged: Paged,
    /// What our own operators read.
    pub(super) constants: Arc<Constants>,
    /// What the runtime's operators read.
    pub(super) initializers: Arc<Initializers>,
}

impl OnnxLoader {
    /// The form to run, chosen now if it is not yet, and an engine where one was made to find out.
    pub(super) fn chosen(&self) -> Result<Made, LoadError> {
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chosen) = &*chosen {
            return Ok((chosen.clone(), None));
        }
        let (made, engine) = match self.choose()? {
            Ok(made) => made,
            Err((why, engine)) => {
                tracing::info!(reason = %why, "the model runs as exported, one conversation after the other");
                (Chosen { form: Form::Plain(why), paged: None }, engine)
            }
        };
        Ok((chosen.insert(made).clone(), engine))
    }

    /// The form that an earlier process has kept, with an engine on it; `None` where there is none that
    /// can still be loaded.
    fn kept(&self, cache: &Cache, fused: bool) -> Result<Option<Made>, LoadError> {
        let Model { contract, overlay, .. } = &*self.model;
        let graph = match cache.get() {
            Ok(graph) => graph,
            Err(why) => {
                self.note(why);
                return Ok(None);
            }
        };
        let paged = if fused { Paged::of_fused(&graph, overlay, contract) } else { overlay.paged.clone() };
        let Ok(paged) = paged else { return Ok(None) };
        let loaded = self.share(paged).and_then(|shared| Ok((self.load_paged(&shared)?, shared)));
        match loaded {
            Ok((engine, shared)) => {
                let form = Form::Paged { fused, difference: None };
                Ok(Some((Chosen { form, paged: Some(shared) }, Some(engine))))
            }
            Err(error) if error.transient => Err(error),
            Err(error) => {
                tracing::warn!(error = error.message, "a kept form does not load, so it is made again");
                self.note(cache.not_loaded());
                Ok(None)
            }
        }
    }

    /// Makes the paged form and compares it with the model's own graph, or finds that an earlier process
    /// has. The outer error ends the load; the inner one means that the plain form runs, on this engine if there is one.
    fn choose(&self) -> Result<Result<Made, Refused>, LoadError> {
        let Model { contract, overlay, .. } = &*self.model;
        if contract.quantized_activations && self.activations() == Activations::AsExported {
            return Ok(Err((WhyPlain::RoundsActivations, None)));
        }
        let fused = contract.family == Family::Plain;
        let cache = Cache::of(&self.form, &self.runtime, &self.model, self.window.size);
        if let Some(kept) = self.kept(&cache, fused)? {
            return Ok(Ok(kept));
        }
        if !fused && let Err(why) = &overlay.paged {
            return Ok(Err((why.clone().into(), None)));
        }
        // It measures the rotations, by which a plain graph is rewritten.
        let mut plain = self.load_plain()?;
        let made = if fused { self.fuse() } else { self.overlay_paged() };
        let (paged, graph) = match made {
            Ok(made) => made,
            Err(why) => return Ok(Err((why, Some(plain)))),
        };
        let local = paged.local_window;
        let expected = match agreement::probe(&mut *plain, local) {
            Ok(expected) => expected,
            // Each request will be told so, and those that ask for no logits are served.
            Err(EngineError { kind: EngineErrorKind::Rejected, message, .. }) => {
                return Ok(Err((WhyPlain::NothingToCompare { message }, Some(plain))));
            }
            Err(error) => return Err(self.refused(&error)),
        };
        // One after the other, so that only one graph is in memory.
        drop(plain);
        let shared = self.share(paged)?;
        let found = self
            .load_paged(&shared)
            .and_then(|mut engine| agreement::probe(&mut *engine, local).map_err(|error| self.refused(&error)));
        let found = match found {
            Ok(found) => found,
            // What passes must not decide the form for the life of the process.
            Err(error) if error.transient => return Err(error),
            Err(error) => return Ok(Err((WhyPlain::DoesNotRun { message: error.message }, None))),
        };
        let (difference, allowed) = agreement::compare(&expected, &found, contract, shared.constants.coarsest());
        if difference > allowed {
            return Ok(Err((WhyPlain::Differs { found: difference, allowed }, None)));
        }
        tracing::debug!(difference, "the paged form gives the model's numbers");
        self.note(cache.keep(&graph).err());
        let form = Form::Paged { fused, difference: Some(difference) };
        Ok(Ok((Chosen { form, paged: Some(shared) }, None)))
    }

    /// Keeps in mind what is worth telling about a kept form, or one that cannot be.
    fn note(&self, why: Option<Unkept>) {
        if let Some(why) = why {
            *self.unkept.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        }
    }

    fn overlay_paged(&self) -> Result<(Paged, Vec<u8>), WhyPlain> {
        Ok((self.model.overlay.paged.clone()?, Vec::new()))
    }

    /// The paged form of a plain export, whose rotation was measured.
    fn fuse(&self) -> Result<(Paged, Vec<u8>), WhyPlain> {
        let measured = self.rotations().map_or(&[][..], Rotations::layers);
        let layers = measured.iter().map(|rotation| {
            let rotation = rotation.as_ref()?;
            let interleaved = rotation.layout() == Layout::Interleaved;
            Some(FuseRotary { frequencies: rotation.frequencies(), interleaved, scale: 1.0 })
        });
        // No position of a context reaches beyond its window.
        let rotaries = FuseRotaries { layers: layers.collect(), positions: self.window.size };
        Ok(Paged::fuse(&self.model.overlay, &self.model.contract, &rotaries)?)
    }

    /// What becomes of activations: what the settings say, else the model.
    pub(super) fn activations(&self) -> Activations {
        match self.form.activations {
            Activations::AsExported => self.model.activations,
            set => set,
        }
    }

    fn share(&self, paged: Paged) -> Result<Arc<Shared>, LoadError> {
        let mut files = Files::of(self.model.overlay.folder.clone());
        let constants = Constants::read(&paged, &mut files, self.activations()).map_err(|message| LoadError {
            transient: false,
            message: format!("cannot load {}: {message}", self.model.graph.display()),
            hint: Some("fetch the model's files again; they do not belong together".into()),
        })?;
        let initializers = Initializers::open(&paged.constants, &mut files);
        let initializers = Arc::new(initializers.map_err(|error| self.failed(&error))?);
        Ok(Arc::new(Shared { paged, constants: Arc::new(constants), initializers }))
    }
}
