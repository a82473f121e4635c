//! Looking at library, model and engine, one after the other.

use std::{path::Path, sync::Arc, time::Instant};

use motorbrain::{
    Settings, Slides, StartError, TokenizerKind,
    engine::{Form, Layout, OnnxLoader, Rotation, Rotations, Runtime, WhyPlain},
    model::{Checked, ElementType, Family, Model, Note},
    settings::{DEFAULT_FILE, Sources},
    spill, trust,
    vectors::{MadeFrom, Vectors},
};
use motorbrain_actors::{
    brain,
    engine::{EngineLoader, LoadError},
    tokens::Tokenizer as _,
};

use super::findings::{Finding, Findings};
use crate::args::Common;

/// A measured base that is farther from the one of config.json, relatively, is another one.
const BASE_TOLERANCE: f64 = 0.01;

/// Looks at everything; what cannot be looked at because of something before it is left out.
pub(super) fn everything(common: &Common, findings: &mut Findings) {
    let settings = match common.settings() {
        Ok(settings) => settings,
        Err(error) => return findings.wrong("settings", error),
    };
    findings.add(settings_file(common));
    if !trust::IS_CHECKED {
        findings.add(Finding::note("trust", "who else may write library and kept forms is not checked on this system"));
    }
    spill(&settings, findings);
    let runtime = library(&settings, findings);
    let model = model(&settings, findings);
    if let (Some(runtime), Some(model)) = (runtime, model) {
        engine(&settings, runtime, model, findings);
    }
}

fn settings_file(common: &Common) -> Finding {
    match Sources::of_process(common.config.clone(), Vec::new()).file {
        Some(file) => Finding::ok("settings", file.display().to_string()).fact("file", shown(&file)),
        None => Finding::ok("settings", format!("the defaults; there is no {DEFAULT_FILE} here")),
    }
}

fn spill(settings: &Settings, findings: &mut Findings) {
    let Some(folder) = &settings.memory.spill else { return };
    let (bytes_max, room) = match spill::look(folder, settings.memory.spill_bytes) {
        Ok(found) => found,
        Err(error) => return findings.wrong("spill", error),
    };
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let text = format!(
        "conversations that leave memory go to {}\nat most {:.0} MiB, of {:.0} MiB that the disk has room for",
        folder.display(),
        mebibytes(bytes_max),
        mebibytes(room),
    );
    let finding = if bytes_max > room {
        let fits = "the disk is full before that, and then conversations leave to their tokens alone";
        Finding::note("spill", format!("{text}: {fits}")).hint("lower `memory.spill_bytes`, or make room on the disk")
    } else {
        Finding::ok("spill", text)
    };
    findings.add(finding.fact("folder", shown(folder)).fact("bytes_max", bytes_max).fact("room", room));
}

fn library(settings: &Settings, findings: &mut Findings) -> Option<Runtime> {
    let found = match motorbrain::find_library(settings) {
        Ok(found) => found,
        Err(error) => {
            findings.wrong("library", error);
            return None;
        }
    };
    for passed in &found.passed_over {
        findings.add(Finding::note("library", format!("passed over {passed}")).hint(passed.hint()));
    }
    match Runtime::open(&found.path) {
        Ok(runtime) => {
            let version = found.version().unwrap_or_else(|| "new enough, its name tells no version".into());
            let text =
                format!("{} (by {})\nversion {version}\n{}", found.path.display(), found.place, runtime.build_info());
            let finding = Finding::ok("library", text)
                .fact("path", shown(&found.path))
                .fact("version", found.version())
                .fact("build", runtime.build_info());
            findings.add(finding);
            Some(runtime)
        }
        Err(error) => {
            findings.wrong("library", error);
            None
        }
    }
}

fn model(settings: &Settings, findings: &mut Findings) -> Option<Arc<Model>> {
    let opened =
        motorbrain::model_options(settings).and_then(|options| Model::open(&options).map_err(StartError::from));
    let model = match opened {
        Ok(model) => Arc::new(model),
        Err(error) => {
            findings.wrong("model", error);
            return None;
        }
    };
    let graph = format!("{}\n{} nodes, written by {}", model.graph.display(), model.nodes, or_unknown(&model.producer));
    findings.add(Finding::ok("model", graph).fact("dir", shown(&model.dir)).fact("graph", shown(&model.graph)));
    findings.add(contract(&model));
    findings.add(match &settings.model.preset {
        Some(preset) => Finding::ok("preset", format!("{preset} agrees with the graph")).fact("name", preset.as_str()),
        None => Finding::ok("preset", "none; the graph is believed"),
    });
    findings.add(tokenizer(&model));
    findings.add(manifest(&model));
    for note in model.notes.iter().filter(|note| !matches!(note, Note::ByteFallback)) {
        findings.add(Finding::note("model", note.to_string()));
    }
    Some(model)
}

fn contract(model: &Model) -> Finding {
    let contract = &model.contract;
    let family = match contract.family {
        Family::Plain => "plain attention",
        Family::GroupQueryAttention => "GroupQueryAttention",
    };
    let hidden = contract.hidden.map_or("unknown".to_owned(), |hidden| hidden.to_string());
    let element = contract.kv.first().map_or("f32", |kv| match kv.key_type {
        ElementType::F32 => "f32",
        ElementType::F16 => "f16",
    });
    let positions = if contract.position_ids { "with" } else { "without" };
    let text = format!(
        "{} layers ({} inputs), {} KV heads of {}, hidden {hidden}, vocabulary {}\n{family}, {positions} position_ids, KV {element}",
        contract.layers, contract.inputs, contract.kv_heads, contract.head_dim, contract.vocab,
    );
    Finding::ok("contract", text)
        .fact("layers", contract.layers)
        .fact("inputs", contract.inputs)
        .fact("kv_heads", contract.kv_heads)
        .fact("head_dim", contract.head_dim)
        .fact("hidden", contract.hidden)
        .fact("vocab", contract.vocab)
        .fact("family", family)
        .fact("position_ids", contract.position_ids)
        .fact("kv_type", element)
        .fact("embeds", model.overlay.lm_head.is_some())
}

fn tokenizer(model: &Model) -> Finding {
    let ids: Vec<_> = model.end_tokens.iter().map(|token| token.0).collect();
    let end = match model.end_tokens_source {
        Some(source) => format!("end tokens {ids:?} ({source})"),
        None => "no end tokens".to_owned(),
    };
    let finding = match model.tokenizer.kind() {
        TokenizerKind::Model => {
            Finding::ok("tokenizer", format!("tokenizer.json, {} tokens; {end}", model.tokenizer.tokens()))
        }
        TokenizerKind::Bytes => Finding::note("tokenizer", format!("no tokenizer.json: each byte is a token; {end}"))
            .hint("put the model's tokenizer.json into its folder"),
    };
    finding.fact("tokens", model.tokenizer.tokens()).fact("end_tokens", ids)
}

fn manifest(model: &Model) -> Finding {
    match model.manifest {
        Some(Checked::Fully) => Finding::ok("files", "as manifest.json says, every byte read"),
        Some(Checked::BySizeAndTime) => {
            Finding::ok("files", "as manifest.json says, by size and time since they were last read in full")
        }
        None => Finding::note("files", "not checked: there is no manifest.json")
            .hint("once you trust them: `motorbrain doctor --write-manifest`"),
    }
}

fn engine(settings: &Settings, runtime: Runtime, model: Arc<Model>, findings: &mut Findings) {
    let loader = match OnnxLoader::new(runtime, Arc::clone(&model), motorbrain::engine_options(settings)) {
        Ok(loader) => loader,
        Err(error) => return findings.wrong("window", error),
    };
    let began = Instant::now();
    if let Err(error) = EngineLoader::load(&loader) {
        return findings.wrong("engine", brain::StartError::Load(error));
    }
    let ms = began.elapsed().as_millis();
    findings.add(
        Finding::ok("engine", format!("loaded in {ms} ms")).fact("load_ms", u64::try_from(ms).unwrap_or(u64::MAX)),
    );
    if let Some(Form::Plain(WhyPlain::NothingToCompare { message })) = loader.form() {
        let hint = Some("requests that ask for tokens or scores would fail: fetch the model's files again".into());
        findings.wrong("form", brain::StartError::Load(LoadError { transient: false, message, hint }));
    } else {
        findings.add(form(&loader));
    }
    if let Some(unkept) = loader.unkept() {
        let finding = Finding::note("form", unkept.to_string());
        findings.add(match unkept.hint() {
            Some(hint) => finding.hint(hint),
            None => finding,
        });
    }
    findings.add(rotation(&loader, &model));
    findings.add(window(&loader, &model));
    findings.add(memory(settings, &loader, &model));
    match Vectors::of(settings, &loader) {
        Ok(found) => findings.add(vectors(settings, found)),
        Err(error) => findings.wrong("vectors", error),
    }
}

fn vectors(settings: &Settings, Vectors { recipe, calibration }: Vectors) -> Finding {
    let (dim, from) = match calibration {
        Some((affine, MadeFrom::Weights)) => (Some(affine.dim()), "the weights".to_owned()),
        Some((affine, MadeFrom::File { words, .. })) => (Some(affine.dim()), words),
        None => (None, String::new()),
    };
    let how = match dim {
        Some(dim) => format!("calibrated from {from}, {dim} numbers"),
        None => "not calibrated".to_owned(),
    };
    let recipe = settings.calibrated_recipe(recipe);
    Finding::ok("vectors", format!("{recipe}\n{how}"))
        .fact("recipe", recipe.to_string())
        .fact("calibrated_from", dim.map(|_| from))
        .fact("dim", dim)
}

fn form(loader: &OnnxLoader) -> Finding {
    match loader.form() {
        Some(Form::Paged { fused, difference }) => {
            let attention = if fused { ", its attention rewritten" } else { "" };
            let compared = match difference {
                Some(found) => format!("compared now: log-probabilities within {found:.1e} of the graph as exported"),
                None => "compared before with the graph as exported".to_owned(),
            };
            Finding::ok(
                "form",
                format!("paged{attention}: conversations share each run, and what they have in common\n{compared}"),
            )
            .fact("paged", true)
            .fact("fused", fused)
        }
        Some(Form::Plain(why)) => {
            let finding = Finding::note(
                "form",
                format!(
                    "as exported, one conversation after the other; each stays with its actor and is read again if that dies: {why}"
                ),
            );
            let finding = finding.fact("paged", false);
            match why.hint() {
                Some(hint) => finding.hint(hint),
                None => finding,
            }
        }
        None => Finding::note("form", "not chosen yet"),
    }
}

fn rotation(loader: &OnnxLoader, model: &Model) -> Finding {
    let rotations = loader.rotations().map_or(&[][..], Rotations::layers);
    if let Some(layer) = rotations.iter().position(Option::is_none) {
        let text = format!("layer {layer}: no rotation explains its keys, so the window cannot slide by shifting them");
        let note = Finding::note("rotation", text).fact("unexplained_layer", layer);
        let hint = "set `window.policy` to `recompute`, or reset a conversation before its window is full";
        return if loader.window().slides == Slides::Recompute { note } else { note.hint(hint) };
    }
    let mut kinds: Vec<(&Rotation, Vec<usize>)> = Vec::new();
    for (layer, rotation) in rotations.iter().flatten().enumerate() {
        match kinds.iter_mut().find(|(known, _)| *known == rotation) {
            Some((_, layers)) => layers.push(layer),
            None => kinds.push((rotation, vec![layer])),
        }
    }
    if kinds.iter().all(|(rotation, _)| rotation.is_none()) {
        return match loader.window().size {
            1 => Finding::note("rotation", "not measured: keys turn at no position of the window"),
            _ => Finding::ok("rotation", "none: keys do not depend on their position"),
        };
    }
    let claimed = model.rotation.config_base;
    let contradicts = |base: f64| claimed.is_some_and(|claimed| (base / claimed - 1.0).abs() > BASE_TOLERANCE);
    let mut bases = kinds.iter().filter_map(|(rotation, _)| base(rotation)).peekable();
    let contradicted = bases.peek().is_some() && bases.all(contradicts);
    let [only] = kinds.as_slice() else {
        let lines =
            kinds.iter().map(|(rotation, layers)| format!("layers {}: {}", ranges(layers), described(rotation)));
        let text = lines.collect::<Vec<_>>().join("\n");
        let text = format!("measured, {} kinds\n{text}", kinds.len());
        return if contradicted { differs(text, claimed) } else { Finding::ok("rotation", text) };
    };
    let text = format!("measured: {}", described(only.0));
    let finding = if contradicted { differs(text, claimed) } else { Finding::ok("rotation", text) };
    let finding = finding.fact("pairs", only.0.frequencies().len()).fact("layout", layout(only.0));
    match base(only.0) {
        Some(base) => finding.fact("base", base),
        None => finding,
    }
}

fn differs(text: String, claimed: Option<f64>) -> Finding {
    let claimed = claimed.unwrap_or_default();
    Finding::note("rotation", format!("{text}; config.json says {claimed:.0}, the measurement counts"))
}

fn described(rotation: &Rotation) -> String {
    if rotation.is_none() {
        return "none".to_owned();
    }
    let pairs = format!("{} pairs as {}", rotation.frequencies().len(), layout(rotation));
    match base(rotation) {
        Some(base) => format!("{pairs}, base {base:.0}"),
        None => format!("{pairs}, scaled pair by pair"),
    }
}

/// Rising numbers, neighbours put together: `0-4, 6`.
fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let run = |run: &[usize]| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    };
    runs.map(run).collect::<Vec<_>>().join(", ")
}

fn layout(rotation: &Rotation) -> &'static str {
    match rotation.layout() {
        Layout::Halves => "halves",
        Layout::Interleaved => "neighbours",
    }
}

/// The base of frequencies that fall by one factor from pair to pair, `base^(-1 / pairs)`; `None` where they do not.
fn base(rotation: &Rotation) -> Option<f64> {
    let frequencies = rotation.frequencies();
    let [first, second, ..] = frequencies else { return None };
    let factor = second / first;
    let falls = |pair: &[f64]| (pair[1] / pair[0] / factor - 1.0).abs() < BASE_TOLERANCE;
    frequencies.windows(2).all(falls).then(|| factor.powf(-(frequencies.len() as f64)))
}

fn window(loader: &OnnxLoader, model: &Model) -> Finding {
    let window = loader.window();
    let explained = loader.rotations().is_some_and(|rotations| rotations.unexplained().is_none());
    let full = match window.slides {
        Slides::Recompute => format!("drops {} at once and reads what stays again", window.slide),
        Slides::Shift if explained => format!("drops {} at once", window.slide),
        Slides::Shift | Slides::Never => "refuses more (`context_full`)".to_owned(),
    };
    let text = format!(
        "{} tokens of a context of {} ({})\nkeeps the first {}; when full it {full}",
        window.size, model.context.tokens, model.context.source, window.sinks,
    );
    Finding::ok("window", text)
        .fact("size", window.size)
        .fact("sinks", window.sinks)
        .fact("slide", window.slide)
        .fact("slides", window.slides == Slides::Recompute || window.slides == Slides::Shift && explained)
        .fact("context", model.context.tokens)
}

fn memory(settings: &Settings, loader: &OnnxLoader, model: &Model) -> Finding {
    let per_token = model.contract.kv_bytes_per_token();
    let full = per_token.saturating_mul(loader.window().size);
    let mebibytes = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let mut text = format!(
        "{:.1} MiB of keys and values for one conversation at a full window, {per_token} bytes a token",
        mebibytes(full),
    );
    let finding = |text| Finding::ok("memory", text).fact("kv_bytes_per_token", per_token).fact("kv_bytes_full", full);
    if !matches!(loader.form(), Some(Form::Paged { .. })) {
        return finding(text);
    }
    let config = motorbrain::brain_config(settings, model, None);
    let (all, cached) = (config.memory.kv_bytes, config.cached_bytes);
    let conversations = all / full.max(1);
    text += &format!(
        "\nat most {:.0} MiB in all, {conversations} such conversations; beyond that idle ones leave\n\
         at most {:.0} MiB of it, that no conversation uses, kept for those to come",
        mebibytes(all),
        mebibytes(cached)
    );
    finding(text).fact("kv_bytes_max", all).fact("conversations", conversations).fact("cached_bytes", cached)
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "an unknown program" } else { text }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
