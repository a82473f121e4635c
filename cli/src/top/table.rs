//! A look as two tables: actors, and the conversations that do most. Pure.

use std::cmp::Reverse;

use serde_json::Value;

use crate::output;

/// The longest name that is shown, in characters.
const NAME_MAX: usize = 32;

/// The text of a look, with the `rows` busiest conversations.
pub(super) fn of(look: &Value, rows: usize) -> String {
    let stats = &look["stats"];
    let number = |key: &str| stats[key].as_u64().unwrap_or_default();
    let reason = stats["reason"].as_str().map_or_else(String::new, |reason| format!(" ({})", shown(reason)));
    let head = format!(
        "{}{reason}; {} waiting; {} conversations; keys and values {}, of which {} shared, {} cached",
        stats["health"].as_str().unwrap_or_default(),
        number("waiting"),
        number("conversations"),
        bytes(number("kv_bytes")),
        bytes(number("shared_bytes")),
        bytes(number("cached_bytes")),
    );
    let mut actors = output::table(["actor", "state", "conversations", "queued", "restarts"]);
    for actor in stats["actors"].as_array().into_iter().flatten() {
        let text = |key: &str| actor[key].as_str().map_or_else(|| actor[key].to_string(), str::to_owned);
        actors.add_row(["actor", "state", "conversations", "queued", "restarts"].map(text));
    }
    let mut all: Vec<&Value> = look["conversations"].as_array().into_iter().flatten().collect();
    let idle = |it: &&Value| it["idle_ms"].as_u64();
    all.sort_by_key(|it| (idle(it), Reverse(it["requests"].as_u64()), it["conversation"].as_str()));
    let mut conversations =
        output::table(["conversation", "where", "actor", "context", "total", "memory", "shared", "requests", "idle"]);
    for it in all.iter().take(rows) {
        let number = |key: &str| it[key].as_u64().unwrap_or_default();
        let mut dwelling = it["dwelling"].as_str().unwrap_or_default().to_owned();
        if it["quarantined"] == true {
            dwelling.push_str(", quarantined");
        }
        conversations.add_row([
            shown(it["conversation"].as_str().unwrap_or_default()),
            dwelling,
            it["actor"].as_u64().map_or_else(String::new, |actor| actor.to_string()),
            number("context_len").to_string(),
            number("total").to_string(),
            bytes(number("kv_bytes")),
            bytes(number("shared_bytes")),
            number("requests").to_string(),
            idle(it).map_or_else(String::new, time),
        ]);
    }
    let left = number("conversations").saturating_sub(all.len().min(rows) as u64);
    let rest = if left > 0 { format!("\nand {left} more") } else { String::new() };
    format!("{head}\n\n{actors}\n\n{conversations}{rest}")
}

/// A name that does nothing to a terminal.
fn shown(name: &str) -> String {
    let mut shown: String = name.chars().take(NAME_MAX).flat_map(char::escape_debug).collect();
    if name.chars().nth(NAME_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        1..0x10_0000 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

fn time(milliseconds: u64) -> String {
    match milliseconds / 1000 {
        0 => format!("{milliseconds} ms"),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn conversation(name: &str, requests: u64, idle_ms: Option<u64>) -> Value {
        let mut it = json!({"conversation": name, "context_len": 40, "total": 50, "kv_bytes": 2048, "shared_bytes": 0,
            "dwelling": "resident", "actor": 0, "requests": requests, "sharing": "all"});
        if let Some(idle) = idle_ms {
            it["idle_ms"] = json!(idle);
        }
        it
    }

    fn look(conversations: Vec<Value>) -> Value {
        json!({"stats": {"health": "degraded", "reason": "1 of 2 actors is down", "waiting": 3, "conversations": 5,
            "kv_bytes": 3_221_225_472_u64, "shared_bytes": 1_572_864, "cached_bytes": 0,
            "actors": [{"actor": 0, "state": "ready", "conversations": 4, "queued": 2, "restarts": 1}]},
            "conversations": conversations})
    }

    #[test]
    fn actors_and_the_busiest_conversations_are_shown() {
        let all = vec![
            conversation("old", 0, Some(9_000_000)),
            conversation("busy", 1, None),
            conversation("new", 0, Some(250)),
            conversation("busier", 7, None),
        ];
        insta::assert_snapshot!(of(&look(all), 3), @r"
        degraded (1 of 2 actors is down); 3 waiting; 5 conversations; keys and values 3.0 GiB, of which 1.5 MiB shared, 0 cached

        ───────────────────────────────────────────────────
         actor   state   conversations   queued   restarts 
        ═══════════════════════════════════════════════════
         0       ready   4               2        1        
        ───────────────────────────────────────────────────

        ─────────────────────────────────────────────────────────────────────────────────────────
         conversation   where      actor   context   total   memory   shared   requests   idle   
        ═════════════════════════════════════════════════════════════════════════════════════════
         busier         resident   0       40        50      2 KiB    0        7                 
         busy           resident   0       40        50      2 KiB    0        1                 
         new            resident   0       40        50      2 KiB    0        0          250 ms 
        ─────────────────────────────────────────────────────────────────────────────────────────
        and 2 more
        ");
    }

    #[test]
    fn a_name_does_nothing_to_a_terminal() {
        let text =
            of(&look(vec![conversation("\u{1b}[2J\nx", 0, Some(1)), conversation(&"ä".repeat(100), 0, None)]), 9);
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(text.contains(r"\u{1b}[2J\nx") && text.contains(&format!("{}...", "ä".repeat(NAME_MAX))), "{text}");
    }
}
