//! Every environment variable that is read, in one place.

/// Before a key's name, the section and the key joined by two underscores:
/// `MOTORBRAIN__WINDOW__SIZE=512` is `window.size = 512`. Beats the settings file.
pub const SETTING_PREFIX: &str = "MOTORBRAIN__";

/// What the command line logs, in the words of `tracing_subscriber::EnvFilter`:
/// `MOTORBRAIN_LOG=motorbrain_actors=debug`. `--log` beats it.
pub const LOG: &str = "MOTORBRAIN_LOG";

/// The ONNX Runtime library file, as every program that uses `ort` understands it. The setting
/// `runtime.library` beats it.
pub const LIBRARY: &str = "ORT_DYLIB_PATH";

/// Set to 1, the tests of the documented settings file and of `docs/metrics.md` write these files instead of comparing.
pub const UPDATE_DOCUMENTED_FILE: &str = "MOTORBRAIN_UPDATE_CONFIG";

/// The bearer tokens of `motorbrain serve` where `server.token_file` names no file, with commas or white space between them.
pub const TOKENS: &str = "MOTORBRAIN_TOKENS";
