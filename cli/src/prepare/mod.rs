//! `motorbrain prepare`: a model in another form of weights, with what that cost and brought.

use std::path::PathBuf;

use comfy_table::CellAlignment;
use motorbrain::{
    Settings, StartError,
    engine::{Runtime, SessionOptions},
    model::{ModelError, Weights},
    prepare::{Measured, PrepareError, PrepareOptions, Prepared, Progress, prepare},
};
use tokio::task::spawn_blocking;

use crate::{args::Common, exit::Exit, failure::Failure, notice::Notice, output};

/// What the command line asks for.
pub(crate) struct Request {
    /// The model's folder.
    pub(crate) model: PathBuf,
    /// The new folder.
    pub(crate) out: PathBuf,
    /// What the weights become.
    pub(crate) weights: Weights,
    /// Whether what is in the new folder's place may be replaced.
    pub(crate) force: bool,
}

/// Prepares, and prints what was measured.
pub(crate) async fn run(common: &Common, request: Request, json: bool) -> Result<Exit, Failure> {
    let settings = common.settings()?;
    let prepared = spawn_blocking(move || prepared(&settings, request));
    let prepared = prepared.await.map_err(|panic| Failure::new(Exit::Unexpected, panic, None))??;
    if json {
        output::print_json(&prepared)?;
    } else {
        output::print(&report(&prepared))?;
    }
    Ok(Exit::Fine)
}

fn prepared(settings: &Settings, request: Request) -> Result<Prepared, Failure> {
    let library = motorbrain::find_library(settings).map_err(StartError::from)?;
    let runtime = Runtime::open(&library.path).map_err(StartError::from)?;
    let model = settings.model_options(request.model).map_err(ModelError::from).map_err(StartError::from)?;
    // One engine has the machine to itself, whatever number of actors the settings have.
    let session = SessionOptions { spinning: true, ..motorbrain::engine_options(settings).session };
    let options = PrepareOptions { model, out: request.out, weights: request.weights, force: request.force, session };
    let mut notice = Notice::new();
    let prepared = prepare(&runtime, &options, &mut |Progress { what, done, total }| {
        notice.tell(what, done, total);
    });
    prepared.map_err(|error| {
        let hint = error.hint();
        Failure::new(exit(&error), error, hint)
    })
}

fn exit(error: &PrepareError) -> Exit {
    match error {
        PrepareError::NoName { .. }
        | PrepareError::NotAFolder { .. }
        | PrepareError::NotEmpty { .. }
        | PrepareError::NotAModel { .. }
        | PrepareError::HoldsTheModel { .. } => Exit::Settings,
        PrepareError::Model(_) | PrepareError::Encode(_) | PrepareError::Window(_) => Exit::Model,
        PrepareError::Load(_) | PrepareError::Run(_) | PrepareError::NoScores { .. } => Exit::Engine,
        PrepareError::Worse { .. } => Exit::Quality,
        _ => Exit::Unexpected,
    }
}

/// A line for each form: its bytes, how well it predicts, how fast it is. Where there was nothing to do, the only one.
fn report(prepared: &Prepared) -> String {
    let header = ["form", "weights, MiB", "perplexity, code", "English", "decode, tokens/s", "prefill, tokens/s"];
    let mut table = output::table(header);
    for column in 1..header.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.add_row(row("as it was", &prepared.original));
    let Prepared { rewritten, dir, .. } = prepared;
    if !rewritten.changed {
        return format!("{table}\n{}\n{} is the same model.", nothing(prepared), dir.display());
    }
    table.add_row(row(prepared.weights.as_str(), &prepared.result));
    let blocks = match rewritten.quantized {
        0 => String::new(),
        _ => format!(" in blocks of {}", rewritten.block_size),
    };
    format!(
        "{table}\n{} matrices quantised{blocks}, {} products merged into others\n{} is complete; serve it with `--model` or \
         `model.dir`.",
        rewritten.quantized,
        rewritten.merged,
        dir.display()
    )
}

/// Why nothing was changed.
fn nothing(Prepared { weights, rewritten, .. }: &Prepared) -> String {
    let bits: Vec<_> = rewritten.kept_bits.iter().map(ToString::to_string).collect();
    let why = match (bits.as_slice(), weights) {
        ([], Weights::Faithful) => "its products are merged already".to_owned(),
        ([], _) => "none of its matrices can be put into blocks".to_owned(),
        (bits, _) => format!("its weights have {} bits already; begin with the model in floats", bits.join(" and ")),
    };
    format!("There was nothing to do: {why}.")
}

fn row(form: &str, measured: &Measured) -> [String; 6] {
    [
        form.to_owned(),
        format!("{:.1}", measured.weight_bytes as f64 / f64::from(1 << 20)),
        format!("{:.3}", measured.perplexity.code),
        format!("{:.3}", measured.perplexity.english),
        format!("{:.1}", measured.decode_tokens_per_s),
        format!("{:.0}", measured.prefill_tokens_per_s),
    ]
}
