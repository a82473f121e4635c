//! Settings from outside: what each layer may say, what beats what, and how mistakes read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, path::Path, time::Duration};

use motorbrain::{
    WhenDown,
    engine::Overflow,
    settings::{Settings, SettingsError, Sources, documented_file, env},
};

/// Loads `file` (if any text is given), the variables and the overrides.
fn load(file: &str, environment: &[(&str, &str)], overrides: &[&str]) -> Result<Settings, SettingsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("motorbrain.toml");
    fs::write(&path, file).unwrap();
    Settings::load(&Sources {
        file: Some(path),
        environment: environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        overrides: overrides.iter().map(|text| text.to_string()).collect(),
    })
}

/// The error as the command line shows it: its chain and its hint, the file's folder left out.
fn error(file: &str, environment: &[(&str, &str)], overrides: &[&str]) -> String {
    let error = load(file, environment, overrides).unwrap_err();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text += &format!("\ncause: {}", inner.to_string().trim_end());
        cause = inner.source();
    }
    if let Some(hint) = error.hint() {
        text += &format!("\nhint: {hint}");
    }
    let path = text.split_whitespace().map(|word| word.trim_end_matches(','));
    let path = path.filter(|word| Path::new(word).is_absolute()).find(|word| word.ends_with("motorbrain.toml"));
    match path.map(str::to_owned) {
        Some(path) => text.replace(&path, "motorbrain.toml"),
        None => text,
    }
}

#[test]
fn an_empty_file_gives_the_defaults() {
    assert_eq!(load("", &[], &[]).unwrap(), Settings::default());
}

#[test]
fn the_documented_file_gives_the_defaults() {
    assert_eq!(load(&documented_file(), &[], &[]).unwrap(), Settings::default());
}

#[test]
fn every_commented_key_of_the_documented_file_can_be_set() {
    let uncommented: String = documented_file()
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(key) if key.contains(" = ") => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let settings = load(&uncommented, &[], &[]).unwrap();
    assert_eq!((settings.window.size, settings.window.slide), (Some(2048), Some(512)));
}

/// `MOTORBRAIN_UPDATE_CONFIG=1 cargo test --test settings` writes the file.
#[test]
fn the_committed_file_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/motorbrain.toml");
    if std::env::var_os(env::UPDATE_DOCUMENTED_FILE).is_some() {
        fs::write(&path, documented_file()).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap(), documented_file());
}

#[test]
fn the_environment_beats_the_file_and_an_override_beats_both() {
    let file = "[window]\nsize = 100\nsinks = 1\nslide = 10\noverflow = \"error\"";
    let environment = [("MOTORBRAIN__WINDOW__SIZE", "200"), ("MOTORBRAIN__WINDOW__SINKS", "2")];
    let window = load(file, &environment, &["window.size=300"]).unwrap().window;
    assert_eq!((window.size, window.sinks, window.slide), (Some(300), Some(2), Some(10)));
    assert_eq!(window.overflow, Overflow::Error);
}

#[test]
fn of_two_overrides_the_later_one_counts() {
    assert_eq!(load("", &[], &["brain.actors=2", "brain.actors=3"]).unwrap().brain.actors, 3);
}

#[test]
fn other_variables_are_none_of_our_business() {
    let others = [("MOTORBRAIN_LOG", "debug"), ("MOTORBRAIN", "x"), ("WINDOW__SIZE", "0"), ("MOTORBRÄIN__X", "")];
    assert_eq!(load("", &others, &[]).unwrap(), Settings::default());
}

#[test]
fn an_unknown_key_names_the_nearest_one() {
    insta::assert_snapshot!(error("[window]\nsiez = 3", &[], &[]), @r#"
    the settings file motorbrain.toml has the unknown key `window.siez`
    hint: did you mean `window.size`?
    "#);
    insta::assert_snapshot!(error("[windows]\nsize = 3", &[], &[]), @r#"
    the settings file motorbrain.toml has the unknown key `windows`
    hint: did you mean `window`?
    "#);
    insta::assert_snapshot!(error("", &[("MOTORBRAIN__LIMITS__SINKS", "3")], &[]), @r#"
    the environment variable `MOTORBRAIN__LIMITS__SINKS` has the unknown key `limits.sinks`
    hint: did you mean `window.sinks`?
    "#);
    insta::assert_snapshot!(error("", &[("MOTORBRAIN__WINDOW__SI-ZE", "3")], &[]), @r#"
    the environment variable `MOTORBRAIN__WINDOW__SI-ZE` has the unknown key `window.si-ze`
    hint: did you mean `window.size`?
    "#);
    insta::assert_snapshot!(error("", &[], &["run_ms_max=3"]), @r#"
    the override `run_ms_max=3` has the unknown key `run_ms_max`
    hint: did you mean `brain.run_ms_max`?
    "#);
    insta::assert_snapshot!(error("", &[], &["window size=3"]), @r#"
    the override `window size=3` has the unknown key `window size`
    hint: did you mean `window.size`?
    "#);
}

#[test]
fn an_index_is_no_key_and_makes_no_list_of_that_length() {
    insta::assert_snapshot!(error("", &[], &["window.size[9223372036854775807]=3"]), @r#"
    the override `window.size[9223372036854775807]=3` has the unknown key `window.size[9223372036854775807]`
    hint: did you mean `window.size`?
    "#);
    insta::assert_snapshot!(error("", &[("MOTORBRAIN__WINDOW__SIZE[9223372036854775807]", "3")], &[]), @r#"
    the environment variable `MOTORBRAIN__WINDOW__SIZE[9223372036854775807]` has the unknown key `window.size[9223372036854775807]`
    hint: did you mean `window.size`?
    "#);
}

#[test]
fn a_wrong_type_names_key_value_place_and_type() {
    insta::assert_snapshot!(error("[window]\nsize = \"512\"", &[], &[]), @r#"
    `window.size` is "512" in the settings file motorbrain.toml, expected a whole number, 0 or more
    hint: `config/motorbrain.toml` shows `window.size` with its default and what it is for
    "#);
    insta::assert_snapshot!(error("[window]\nsize = 5.5", &[], &[]), @r#"
    `window.size` is 5.5 in the settings file motorbrain.toml, expected a whole number, 0 or more
    hint: `config/motorbrain.toml` shows `window.size` with its default and what it is for
    "#);
    insta::assert_snapshot!(error("[window]\nsize = -1", &[], &[]), @r#"
    `window.size` is -1 in the settings file motorbrain.toml, expected a whole number, 0 or more
    hint: `config/motorbrain.toml` shows `window.size` with its default and what it is for
    "#);
    insta::assert_snapshot!(error("[window]\nsize = [1]", &[], &[]), @r#"
    `window.size` is a list in the settings file motorbrain.toml, expected a whole number, 0 or more
    hint: `config/motorbrain.toml` shows `window.size` with its default and what it is for
    "#);
    insta::assert_snapshot!(error("window = 3", &[], &[]), @r#"
    `window` is 3 in the settings file motorbrain.toml, expected a section of keys
    hint: `config/motorbrain.toml` shows `window` with its default and what it is for
    "#);
    insta::assert_snapshot!(error("[embedding]\nnormalize = \"true\"", &[], &[]), @r#"
    `embedding.normalize` is "true" in the settings file motorbrain.toml, expected `true` or `false`
    hint: `config/motorbrain.toml` shows `embedding.normalize` with its default and what it is for
    "#);
    insta::assert_snapshot!(error("", &[("MOTORBRAIN__EMBEDDING__POOLING", "median")], &[]), @r#"
    `embedding.pooling` is "median" in the environment variable `MOTORBRAIN__EMBEDDING__POOLING`, expected `mean` or `last`
    hint: `config/motorbrain.toml` shows `embedding.pooling` with its default and what it is for
    "#);
    insta::assert_snapshot!(error("[brain]\nwhen_down = \"wait\"", &[], &[]), @r#"
    `brain.when_down` is "wait" in the settings file motorbrain.toml, expected `retry` or `stop`
    hint: `config/motorbrain.toml` shows `brain.when_down` with its default and what it is for
    "#);
    insta::assert_snapshot!(error("", &[], &["limits.requests=many"]), @r#"
    `limits.requests` is "many" in the override `limits.requests=many`, expected a whole number, 0 or more
    hint: `config/motorbrain.toml` shows `limits.requests` with its default and what it is for
    "#);
    insta::assert_snapshot!(error("", &[], &["model.dir="]), @r#"
    `model.dir` is "" in the override `model.dir=`, expected a path that is not empty
    hint: `config/motorbrain.toml` shows `model.dir` with its default and what it is for
    "#);
    insta::assert_snapshot!(error("", &[], &["window.size.x=3"]), @r#"
    `window.size` is a section in the override `window.size.x=3`, expected a whole number, 0 or more
    hint: `config/motorbrain.toml` shows `window.size` with its default and what it is for
    "#);
    insta::assert_snapshot!(error("", &[], &["window.size"]), @r#"
    `window.size` is no override, expected `section.key=value`
    hint: for example `--set window.size=512`
    "#);
}

#[test]
fn values_out_of_range_are_named_with_what_they_may_be() {
    insta::assert_snapshot!(error("[window]\nsize = 0", &[], &[]), @r#"
    `window.size` is 0, expected at least 1
    hint: raise `window.size`, or leave it out for its default
    "#);
    insta::assert_snapshot!(error("[rerank]\nprompt = \"{query}?\"", &[], &[]), @r#"
    `rerank.prompt` is "{query}?", expected a text with `{query}` and `{document}` in it
    hint: change `rerank.prompt`, or leave it out for its default
    "#);
    insta::assert_snapshot!(error("[rerank]\nmix = nan", &[], &[]), @r#"
    `rerank.mix` is NaN in the settings file motorbrain.toml, expected a finite number
    hint: `config/motorbrain.toml` shows `rerank.mix` with its default and what it is for
    "#);
    insta::assert_snapshot!(error("[window]\nsize = 4\nsinks = 4", &[], &[]), @r#"
    `window.sinks` is 4, expected less than the window's 4
    hint: `window.sinks` and `window.slide` follow the size where they are left out
    "#);
    insta::assert_snapshot!(error("[window]\nsize = 8\nsinks = 4\nslide = 5", &[], &[]), @r#"
    `window.slide` is 5, expected 1 to 4 (`window.size` less `window.sinks`)
    hint: `window.sinks` and `window.slide` follow the size where they are left out
    "#);
    insta::assert_snapshot!(error("[window]\nslide = 0", &[], &[]), @r#"
    `window.slide` is 0, expected at least 1
    hint: raise `window.slide`, or leave it out for its default
    "#);
    insta::assert_snapshot!(error("", &[], &["runtime.threads=18446744073709551615"]), @r#"
    `runtime.threads` is 18446744073709551615, expected at most 1024
    hint: lower `runtime.threads`, or leave it out for its default
    "#);
    insta::assert_snapshot!(error("[brain]\nactors = 1025", &[], &[]), @r#"
    `brain.actors` is 1025, expected at most 1024
    hint: lower `brain.actors`, or leave it out for its default
    "#);
    insta::assert_snapshot!(error("[brain]\nbackoff_ms_min = 6000", &[], &[]), @r#"
    `brain.backoff_ms_min` is 6000, expected at most 5000, the value of `brain.backoff_ms_max`
    hint: lower `brain.backoff_ms_min` or raise `brain.backoff_ms_max`
    "#);
    insta::assert_snapshot!(error("[brain]\nretry_ms_max = 999", &[], &[]), @r#"
    `brain.retry_ms_min` is 1000, expected at most 999, the value of `brain.retry_ms_max`
    hint: lower `brain.retry_ms_min` or raise `brain.retry_ms_max`
    "#);
    insta::assert_snapshot!(error("[brain]\nactors = 0", &[], &[]), @r#"
    `brain.actors` is 0, expected at least 1
    hint: raise `brain.actors`, or leave it out for its default
    "#);
}

#[test]
fn what_would_serve_nobody_as_0_is_at_least_1() {
    for key in [
        "runtime.threads",
        "brain.actors",
        "brain.run_beside_ms",
        "brain.run_ms_max",
        "brain.load_ms_max",
        "brain.restarts_within_ms",
        "brain.retry_ms_min",
        "brain.quarantine_ms",
        "window.size",
        "window.slide",
        "limits.text_bytes",
        "limits.count",
        "limits.requests",
        "limits.conversation_requests",
        "limits.conversations",
        "server.body_bytes_max",
        "server.head_ms_max",
        "server.body_ms_max",
        "server.write_ms_max",
        "server.connections_max",
        "server.streams_per_client_max",
        "server.inputs_max",
        "server.responses_max",
    ] {
        let error = load("", &[], &[&format!("{key}=0")]).unwrap_err();
        assert_eq!(error.to_string(), format!("`{key}` is 0, expected at least 1"));
        load("", &[], &[&format!("{key}=1")]).unwrap();
    }
}

#[test]
fn what_is_meant_by_0_may_be_0() {
    let zeros = ["brain.abandoned_max=0", "brain.restarts_max=0", "brain.backoff_ms_min=0", "brain.shutdown_ms_max=0"];
    let settings = load("", &[], &zeros).unwrap();
    assert_eq!((settings.brain.abandoned_max, settings.brain.shutdown_ms_max), (0, 0));
}

#[test]
fn every_setting_of_the_brain_reaches_it() {
    let overrides = [
        "brain.run_beside_ms=11",
        "brain.abandoned_max=12",
        "brain.retry_ms_min=13",
        "brain.retry_ms_max=14",
        "brain.quarantine_ms=15",
        "brain.when_down=stop",
        "brain.shutdown_ms_max=16",
        "brain.chaos=true",
        "limits.conversation_requests=17",
    ];
    let config = load("", &[], &overrides).unwrap().brain_config(None);
    let ms = Duration::from_millis;
    assert_eq!((config.beside_max, config.shutdown_max), (ms(11), ms(16)));
    assert_eq!((config.supervision.abandoned_max, config.supervision.quarantine), (12, ms(15)));
    assert_eq!((config.supervision.retry_min, config.supervision.retry_max), (ms(13), ms(14)));
    assert_eq!((config.when_down, config.chaos), (WhenDown::Stop, true));
    assert_eq!(config.limits.conversation_requests, 17);
}

#[test]
fn a_list_is_written_with_brackets_in_a_file_and_with_commas_elsewhere() {
    let hosts = |file: &str, overrides: &[&str]| load(file, &[], overrides).unwrap().server.hosts;
    let both = ["a.example".to_owned(), "b.example".to_owned()];
    assert_eq!(hosts("[server]\nhosts = [\"a.example\", \"b.example\"]", &[]), both);
    assert_eq!(hosts("", &["server.hosts=a.example, b.example"]), both);
    assert_eq!(hosts("[server]\nhosts = [\"a.example\"]", &["server.hosts="]), [""; 0]);
    insta::assert_snapshot!(error("[server]\nhosts = [1]", &[], &[]), @r#"
    `server.hosts` is a list in the settings file motorbrain.toml, expected a list of texts that are not empty
    hint: `config/motorbrain.toml` shows `server.hosts` with its default and what it is for
    "#);
}

#[test]
fn an_address_has_a_port() {
    assert_eq!(load("", &[], &["server.address=[::1]:0"]).unwrap().server.address, "[::1]:0".parse().unwrap());
    insta::assert_snapshot!(error("[server]\naddress = \"localhost\"", &[], &[]), @r#"
    `server.address` is "localhost" in the settings file motorbrain.toml, expected an address and a port, such as `127.0.0.1:8080` or `[::1]:8080`
    hint: `config/motorbrain.toml` shows `server.address` with its default and what it is for
    "#);
    insta::assert_snapshot!(error("[server]\nhead_bytes_max = 100", &[], &[]), @r#"
    `server.head_bytes_max` is 100, expected at least 8192
    hint: raise `server.head_bytes_max`, or leave it out for its default
    "#);
}

#[test]
fn every_window_of_at_least_one_has_fitting_defaults() {
    for size in 1..200 {
        load("", &[], &[&format!("window.size={size}")]).unwrap();
    }
}

#[test]
fn a_file_that_is_no_toml_shows_where() {
    insta::assert_snapshot!(error("[window\nsize = 3", &[], &[]), @r#"
    the settings file motorbrain.toml is not TOML
    cause: TOML parse error at line 1, column 8
      |
    1 | [window
      |        ^
    unclosed table, expected `]`
    "#);
    insta::assert_snapshot!(error("[window]\nsize = 3\nsize = 4", &[], &[]), @r#"
    the settings file motorbrain.toml is not TOML
    cause: TOML parse error at line 3, column 1
      |
    3 | size = 4
      | ^^^^
    duplicate key
    "#);
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let missing = Sources { file: Some("no/such.toml".into()), ..Sources::default() };
    let error = Settings::load(&missing).unwrap_err();
    assert!(matches!(error, SettingsError::Read { .. }), "{error}");
    assert_eq!(error.to_string(), "cannot read the settings file no/such.toml");
}
