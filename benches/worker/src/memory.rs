//! What the process holds, as the system counts it.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{Actors, Outcome};

/// Resident bytes (all of them, and those that no file stands behind), and of these the keys and values.
pub(crate) fn report(runtime: &Runtime, model: Option<&Actors>) -> Outcome<Value> {
    let text = fs::read_to_string("/proc/self/smaps_rollup")?;
    let sizes = sizes(&text);
    let size = |name: &str| sizes.get(name).copied().ok_or_else(|| format!("the system gives no {name}"));
    let (kv_bytes, kv_bytes_per_token) = match model {
        Some(actors) => runtime.block_on(actors.kv_bytes())?,
        None => (0, 0),
    };
    Ok(json!({
        "rss": size("Rss")?,
        "anonymous": size("Anonymous")?,
        "kv_bytes": kv_bytes,
        "kv_bytes_per_token": kv_bytes_per_token,
    }))
}

/// Reads lines of `Rss:  1234 kB` into bytes.
fn sizes(text: &str) -> BTreeMap<&str, u64> {
    let line = |line| {
        let (name, rest) = str::split_once(line, ':')?;
        let kilobytes: u64 = rest.trim().strip_suffix(" kB")?.parse().ok()?;
        Some((name, kilobytes * 1024))
    };
    text.lines().filter_map(line).collect()
}
