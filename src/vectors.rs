//! How a model's texts become vectors: the recipe and the calibration that settings, the model's folder and its preset
//! lead to.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use motorbrain_actors::vectors::{EmbeddingConfig, Straighten};

use crate::{
    Settings,
    calibration::{self, Affine, Calibration, CalibrationError, Source},
    engine::OnnxLoader,
    model::{Model, Preset, RecipeName},
    settings::SettingsError,
};

/// What vectors are made by.
#[derive(Clone, Debug)]
pub struct Vectors {
    /// What they come from.
    pub recipe: RecipeName,
    /// What is done to them then; `None`: nothing.
    pub calibration: Option<(Affine, MadeFrom)>,
}

/// What a calibration was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MadeFrom {
    /// The model's weights alone.
    Weights,
    /// What its file says.
    File {
        /// Where it lies.
        path: PathBuf,
        /// In the words of whoever made it.
        words: String,
    },
}

impl Vectors {
    /// Those of a model. Blocks, for seconds where a calibration is made from the weights.
    ///
    /// # Errors
    /// The calibration is damaged, another model's, or was named and is of another recipe than settings say.
    pub fn of(settings: &Settings, loader: &OnnxLoader) -> Result<Self, CalibrationError> {
        let named = settings.embedding.calibration.as_ref();
        let file = match named {
            Some(Source::File(path)) => Some(path.clone()),
            Some(Source::Weights | Source::Nowhere) => None,
            None => calibration::beside(&loader.model().dir),
        };
        let open = |path: PathBuf| calibration::open(loader, &path).map(|found| (found, path));
        let found = file.map(open).transpose()?;
        let probed = |(found, _): &(Calibration, _)| matches!(found.recipe, calibration::Recipe::Probe { .. });
        let by_file = found.as_ref().filter(|found| probed(found)).map(|_| RecipeName::Probe);
        let recipe = by_file.map_or_else(|| recipe(settings, loader.model()), |by_file| settings.recipe(Some(by_file)));
        let expected = settings.calibrated_recipe(recipe);
        let calibration = match found {
            Some((found, path)) if found.recipe == expected => {
                Some((found.affine, MadeFrom::File { path, words: found.made_from }))
            }
            Some((found, path)) if named.is_some() => {
                return Err(CalibrationError::Recipe { path, found: found.recipe, expected });
            }
            found => {
                if let Some((found, path)) = found {
                    warn_of(&path, &found.recipe);
                }
                let made = match named {
                    Some(source) => *source == Source::Weights,
                    // Where weights cannot tell anything, vectors are uncalibrated.
                    None => recipe == RecipeName::Probe && loader.model().overlay.lm_head.is_some(),
                };
                let made = made.then(|| calibration::of_weights(loader)).transpose()?;
                made.map(|affine| (affine, MadeFrom::Weights))
            }
        };
        Ok(Self { recipe, calibration })
    }

    /// As a brain takes it.
    ///
    /// # Errors
    /// Vectors are to have more numbers than there are.
    pub fn config(self, settings: &Settings, model: &Model) -> Result<EmbeddingConfig, SettingsError> {
        let all = self.calibration.as_ref().map(|(affine, _)| affine.dim()).or(model.contract.hidden);
        if let (Some(dim), Some(all)) = (settings.embedding.dim, all)
            && dim > all
        {
            let (found, most) = (dim as u64, all as u64);
            return Err(SettingsError::TooLarge { key: "embedding.dim", found, most });
        }
        let straighten = self.calibration.map(|(affine, _)| Arc::new(affine) as Arc<dyn Straighten>);
        Ok(EmbeddingConfig { straighten, ..settings.embedding_config(self.recipe, &model.tokenizer.opening()) })
    }
}

fn warn_of(path: &Path, found: &calibration::Recipe) {
    tracing::warn!(path = %path.display(), %found, "the model's calibration is of another recipe than settings say");
}

/// The recipe of vectors that no calibration has a say in: that of settings; else that of the preset which they name, or
/// which the model's graph is like.
pub fn recipe(settings: &Settings, model: &Model) -> RecipeName {
    let preset = match &settings.model.preset {
        // One that cannot be read was an error before, where the model was opened.
        Some(name) => Preset::find(name).ok(),
        None => Preset::like(&model.contract),
    };
    settings.recipe(preset.and_then(|preset| preset.claims.recipe))
}
