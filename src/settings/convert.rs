//! What the settings mean to each part that is told about them. Pure, but for a look at how much memory is free where
//! they leave that to us.

use std::{num::NonZero, path::PathBuf, time::Duration};

use motorbrain_actors::{
    brain::BrainConfig,
    message::{Input, Part},
    policy::{Limits, Memory, Supervision},
    rerank::{Relevance, Rerank},
    tokens::TokenId,
    vectors::{EmbeddingConfig, Frame, Pooling, Recipe},
};

use super::{EmbeddingSettings, RerankSettings, Settings};
use crate::{
    calibration,
    engine::{EngineOptions, FormOptions, SessionOptions, WindowOptions},
    memory,
    model::{ModelOptions, Preset, PresetError, RecipeName},
};

/// Of the memory that is free, one part in so many is kept for conversations to come: what they find there they need
/// not read, and the model, the conversations at hand and everything else of the machine want the rest.
const CACHED_SHARE: usize = 8;

/// Likewise for all keys and values.
const KV_SHARE: usize = 2;

impl Settings {
    /// The brain's part; `name` is what other actors find it by.
    pub fn brain_config(&self, name: Option<String>) -> BrainConfig {
        let milliseconds = Duration::from_millis;
        BrainConfig {
            name,
            actors: self.brain.actors,
            limits: Limits {
                text_bytes: self.limits.text_bytes,
                count: self.limits.count,
                requests: self.limits.requests,
                conversation_requests: self.limits.conversation_requests,
                conversations: self.limits.conversations,
                deadline: Some(self.limits.deadline_ms).filter(|ms| *ms > 0).map(milliseconds),
            },
            embedding: self.embedding_config(self.recipe(None), &[]),
            supervision: Supervision {
                run_max: milliseconds(self.brain.run_ms_max),
                load_max: milliseconds(self.brain.load_ms_max),
                restarts_max: self.brain.restarts_max,
                restarts_within: milliseconds(self.brain.restarts_within_ms),
                backoff_min: milliseconds(self.brain.backoff_ms_min),
                backoff_max: milliseconds(self.brain.backoff_ms_max),
                retry_min: milliseconds(self.brain.retry_ms_min),
                retry_max: milliseconds(self.brain.retry_ms_max),
                abandoned_max: self.brain.abandoned_max,
                quarantine: milliseconds(self.brain.quarantine_ms),
            },
            beside_max: milliseconds(self.brain.run_beside_ms),
            when_down: self.brain.when_down,
            shutdown_max: milliseconds(self.brain.shutdown_ms_max),
            chaos: self.brain.chaos,
            cached_bytes: self.memory.cached_bytes.unwrap_or_else(|| memory::free_bytes() / CACHED_SHARE),
            memory: Memory {
                kv_bytes: self.memory.kv_bytes.unwrap_or_else(|| match memory::free_bytes() {
                    0 => usize::MAX, // the system does not say
                    free => free / KV_SHARE,
                }),
                history_bytes: self.memory.history_bytes,
                idle_max: Some(self.memory.idle_ms_max).filter(|ms| *ms > 0).map(milliseconds),
            },
            ..BrainConfig::default()
        }
    }

    /// How vectors are made where preset or calibration name a recipe, or none does.
    pub fn recipe(&self, named: Option<RecipeName>) -> RecipeName {
        let own = self.embedding.pooling.map(|_| RecipeName::Pooled);
        self.embedding.recipe.or(own).or(named).unwrap_or(RecipeName::Pooled)
    }

    /// What vectors by this recipe come from, as calibrations name it.
    pub fn calibrated_recipe(&self, recipe: RecipeName) -> calibration::Recipe {
        let EmbeddingSettings { pooling, prefix, probe, .. } = &self.embedding;
        match (recipe, pooling) {
            (RecipeName::Probe, _) => calibration::Recipe::Probe { prefix: prefix.clone(), probe: probe.clone() },
            (RecipeName::Pooled, Some(Pooling::Last)) => calibration::Recipe::Last,
            (RecipeName::Pooled, _) => calibration::Recipe::Mean,
        }
    }

    /// How vectors are made by this recipe, uncalibrated. `opening`: the tokens that the model's texts begin with.
    pub fn embedding_config(&self, recipe: RecipeName, opening: &[TokenId]) -> EmbeddingConfig {
        let EmbeddingSettings { pooling, prefix, probe, query_prefix, query_probe, dim, normalize, format, .. } =
            &self.embedding;
        let frame = |prefix: &str, probe: &str| Frame {
            prefix: Input::Parts(vec![Part::Tokens(opening.to_vec()), Part::Text(prefix.to_owned())]),
            probe: probe.into(),
        };
        let recipe = match recipe {
            RecipeName::Pooled => Recipe::Pooled(pooling.unwrap_or_default()),
            RecipeName::Probe => Recipe::Probe {
                document: frame(prefix, probe),
                query: frame(query_prefix.as_ref().unwrap_or(prefix), query_probe.as_ref().unwrap_or(probe)),
            },
        };
        EmbeddingConfig { recipe, straighten: None, dim: *dim, normalize: *normalize, format: *format }
    }

    /// How documents are ordered: what is asked where a request does not say otherwise, without query and documents.
    pub fn reranking(&self) -> Rerank {
        let RerankSettings { before, between, prompt, yes, no, mix } = self.rerank.clone();
        let relevance = match prompt {
            Some(prompt) => Relevance::Answer { prompt, yes, no },
            None => Relevance::Likelihood { before, between },
        };
        Rerank { relevance, mix, ..Rerank::new("", Vec::new()) }
    }

    /// The engines' part, on a machine of so many cores.
    pub fn engine_options(&self, cores: NonZero<usize>) -> EngineOptions {
        let share = (cores.get() / self.brain.actors.max(1)).max(1);
        EngineOptions {
            session: SessionOptions {
                threads: self.runtime.threads.unwrap_or(share),
                // Spinning sessions that share cores take them from each other.
                spinning: self.brain.actors == 1,
            },
            window: self.window_options(),
            form: FormOptions { activations: self.runtime.activations, cache: self.runtime.cache.clone() },
        }
    }

    /// The window as the engine judges it.
    pub(super) fn window_options(&self) -> WindowOptions {
        WindowOptions {
            size: self.window.size,
            sinks: self.window.sinks,
            slide: self.window.slide,
            overflow: self.window.overflow,
            policy: self.window.policy,
        }
    }

    /// How to open the model in `dir`.
    ///
    /// # Errors
    /// A preset that does not exist or does not parse.
    pub fn model_options(&self, dir: PathBuf) -> Result<ModelOptions, PresetError> {
        Ok(ModelOptions {
            dir,
            file: self.model.file.clone(),
            preset: self.model.preset.as_deref().map(Preset::find).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use motorbrain_actors::vectors::Pooling;

    use super::*;

    fn cores(number: usize) -> NonZero<usize> {
        NonZero::new(number).expect("a machine has cores")
    }

    /// The actors' crate has its defaults for those who use it alone; they must not drift apart.
    #[test]
    fn the_defaults_are_those_of_the_actors() {
        let ours = Settings::default().brain_config(None);
        let theirs = BrainConfig::default();
        assert_eq!(ours.actors, theirs.actors);
        assert_eq!(ours.limits, theirs.limits);
        assert_eq!(format!("{:?}", ours.embedding), format!("{:?}", theirs.embedding));
        let reranking = Settings::default().reranking();
        assert_eq!(reranking, Rerank::new("", Vec::new()));
        assert_eq!(ours.supervision, theirs.supervision);
        assert_eq!(ours.beside_max, theirs.beside_max);
        assert_eq!(ours.when_down, theirs.when_down);
        assert_eq!(ours.shutdown_max, theirs.shutdown_max);
        assert_eq!(ours.chaos, theirs.chaos);
    }

    #[test]
    fn actors_share_the_cores_and_only_a_single_one_spins() {
        let mut settings = Settings::default();
        for (actors, threads, spinning) in [(1, 8, true), (3, 2, false), (20, 1, false)] {
            settings.brain.actors = actors;
            let session = settings.engine_options(cores(8)).session;
            assert_eq!(session, SessionOptions { threads, spinning }, "{actors} actors");
        }
        settings.runtime.threads = Some(5);
        assert_eq!(settings.engine_options(cores(8)).session.threads, 5);
    }

    #[test]
    fn a_recipe_is_what_settings_say_first_then_what_is_named_and_pooling_alone_means_pooled() {
        let mut settings = Settings::default();
        let (probe, pooled) = (RecipeName::Probe, RecipeName::Pooled);
        assert_eq!((settings.recipe(None), settings.recipe(Some(probe))), (pooled, probe));
        settings.embedding.pooling = Some(Pooling::Last);
        assert_eq!((settings.recipe(None), settings.recipe(Some(probe))), (pooled, pooled));
        assert_eq!(settings.embedding_config(pooled, &[]).recipe, Recipe::Pooled(Pooling::Last));
        settings.embedding.recipe = Some(probe);
        assert_eq!((settings.recipe(None), settings.recipe(Some(pooled))), (probe, probe));
    }

    #[test]
    fn a_query_has_what_stands_around_documents_unless_it_has_its_own() {
        let mut settings = Settings::default();
        let frames = |settings: &Settings| match settings.embedding_config(RecipeName::Probe, &[TokenId(7)]).recipe {
            Recipe::Probe { document, query } => (document, query),
            recipe @ Recipe::Pooled(_) => panic!("{recipe:?}"),
        };
        let (document, query) = frames(&settings);
        assert_eq!(document, query);
        settings.embedding.query_prefix = Some("Asked: ".to_owned());
        let opening = Part::Tokens(vec![TokenId(7)]);
        let (still, query) = frames(&settings);
        assert_eq!(still, document);
        assert_eq!(query.prefix, Input::Parts(vec![opening, Part::Text("Asked: ".to_owned())]));
        assert_eq!(query.probe, document.probe);
    }

    #[test]
    fn a_prompt_for_relevance_is_asked_where_there_is_one() {
        let mut settings = Settings::default();
        settings.rerank.prompt = Some("{query}? {document}".to_owned());
        settings.rerank.mix = Some(0.5);
        let Rerank { relevance, mix, .. } = settings.reranking();
        let (prompt, yes, no) = ("{query}? {document}".to_owned(), " Yes".to_owned(), " No".to_owned());
        assert_eq!((relevance, mix), (Relevance::Answer { prompt, yes, no }, Some(0.5)));
    }

    #[test]
    fn a_deadline_of_0_is_none() {
        let mut settings = Settings::default();
        assert_eq!(settings.brain_config(None).limits.deadline, None);
        settings.limits.deadline_ms = 1;
        assert_eq!(settings.brain_config(None).limits.deadline, Some(Duration::from_millis(1)));
    }
}
