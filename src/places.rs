//! Folders that MotorBrain looks into unasked.
//!
//! `cargo xtask setup` puts everything into `.motorbrain/` at the project's root. A program started
//! anywhere below that root finds it, as git finds `.git`.

use std::path::{Path, PathBuf};

/// The folder that set-up fills, at the project's root.
pub const SETUP_DIR: &str = ".motorbrain";

/// The default model inside [`SETUP_DIR`].
pub const DEFAULT_MODEL: &str = "models/smollm2-135m";

/// What provides library and model, as hints say it.
pub(crate) const RUN_SETUP: &str =
    "run `cargo xtask setup` (for another project: in a clone of MotorBrain, whose `.motorbrain` is then linked here)";

/// Every `.motorbrain/` that a program started in `working_dir` looks into, nearest first: there
/// and in each folder above.
pub fn setup_dirs(working_dir: &Path) -> impl Iterator<Item = PathBuf> {
    working_dir.ancestors().map(|folder| folder.join(SETUP_DIR))
}

/// The default model's folder, where set-up has put it in place.
pub fn default_model(working_dir: &Path) -> Option<PathBuf> {
    setup_dirs(working_dir).map(|folder| folder.join(DEFAULT_MODEL)).find(|folder| folder.is_dir())
}

/// Where forms of models that were made are kept, unless the settings say otherwise: the user's cache
/// folder.
pub fn cache_dir() -> Option<PathBuf> {
    dirs::cache_dir().map(|folder| folder.join("motorbrain").join("graphs"))
}
