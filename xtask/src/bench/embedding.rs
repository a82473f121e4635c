//! `cargo xtask bench embedding`: an embed with the probe beside one without, many short embeds beside one prompt, and a
//! rerank of documents read before beside its queries alone. The worker measures, by turns in one process; this prints it
//! with what each ratio is to be.

use std::process::Command;

use serde_json::{Value, json};

use super::{build_worker, worker::Worker};
use crate::error::Error;
use crate::project::Project;
use crate::setup;

/// How often each is measured.
const ROUNDS: usize = 15;

/// The ratios in the worker's answer, what they are of, and the most or the least that they are to be.
const PROMISED: [(&str, &str, &str); 3] = [
    ("/probe/ratio", "an embed of 200 tokens by a probe, against one that pools", "at most 1.10"),
    ("/short/rate_ratio", "tokens a second of 64 embeds of 40 tokens, against a prefill of 512", "at least 0.90"),
    ("/rerank/ratio", "a rerank of 20 documents of 200 tokens read before, against its queries alone", "at most 1.30"),
];

/// Measures and prints.
pub(super) fn run(project: &Project) -> Result<String, Error> {
    drop(setup::provide(project, false)?);
    let mut worker = Worker::start(project, "embedding", Command::new(build_worker(project)?))?;
    for name in ["smollm2-135m", "smollm2-135m-f32"] {
        let found: Value =
            worker.ask(json!({ "op": "embedding", "model": project.models().join(name), "rounds": ROUNDS }))?;
        println!("{name}\n{found:#}");
        for (path, what, promised) in PROMISED {
            let ratio = found.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN);
            println!("{what}: {ratio:.3}, promised {promised}");
        }
    }
    Ok("measure on a quiet machine, and compare only what one run has measured".into())
}
