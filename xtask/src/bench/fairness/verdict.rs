//! What was found, beside what is promised. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use super::super::statistics::percentile;
use super::crowd::FIRST_OTHER_ID;
use super::pipe::Event;

/// A gap beside others is at most so many times as long as one alone.
const GAP_MAX: f64 = 4.0;
/// A prompt beside others takes at most so many times as long as alone.
const READ_MAX: f64 = 2.0;
/// A refusal is told within so many seconds.
const REFUSAL_MAX: f64 = 0.005;
/// What more requests of a flood may add to the memory: what stands in lists of the allocator.
const MEMORY_MORE_MAX: i64 = 32 << 20;

/// Gaps in seconds of eight conversations, alone and beside others.
#[derive(Default)]
pub(super) struct Beside {
    pub(super) alone: Vec<f64>,
    pub(super) beside: Vec<f64>,
    /// Requests of the eight that failed.
    pub(super) refused: usize,
    /// Seconds that the others' prompt took alone and beside the eight.
    pub(super) read: Option<(f64, f64)>,
}

/// What came of a flood.
pub(super) struct Flooded {
    requests: usize,
    pub(super) beside: Beside,
    /// When lines were written that are not answered.
    written: BTreeMap<u64, Instant>,
    /// When they were answered whose writing is not known yet, and whether they were refused.
    came: BTreeMap<u64, (Instant, bool)>,
    served: usize,
    /// The seconds until each refusal came.
    refusals: Vec<f64>,
    /// By code.
    codes: BTreeMap<String, usize>,
    memory_before: Option<u64>,
    pub(super) memory_most: Option<u64>,
    pub(super) memory_after: Option<u64>,
}

impl Flooded {
    pub(super) fn new(requests: usize, memory: Option<u64>) -> Self {
        Self {
            requests,
            beside: Beside::default(),
            written: BTreeMap::new(),
            came: BTreeMap::new(),
            served: 0,
            refusals: Vec::new(),
            codes: BTreeMap::new(),
            memory_before: memory,
            memory_most: memory,
            memory_after: None,
        }
    }

    /// Takes note of what concerns the flood.
    pub(super) fn take_note(&mut self, event: &Event) {
        match event {
            Event::Written(id, at) => match self.came.remove(id) {
                Some((came, refused)) => self.answered(*at, came, refused),
                None => drop(self.written.insert(*id, *at)),
            },
            Event::Came(reply, at) => {
                let Some(id) = reply.id.filter(|id| *id >= FIRST_OTHER_ID) else { return };
                if let Some(code) = reply.code() {
                    *self.codes.entry(code.to_owned()).or_default() += 1;
                }
                match self.written.remove(&id) {
                    Some(written) => self.answered(written, *at, !reply.is_ok()),
                    None => drop(self.came.insert(id, (*at, !reply.is_ok()))),
                }
            }
        }
    }

    fn answered(&mut self, written: Instant, came: Instant, refused: bool) {
        if refused {
            self.refusals.push(came.saturating_duration_since(written).as_secs_f64());
        } else {
            self.served += 1;
        }
    }

    /// Whether all is answered.
    pub(super) fn is_over(&self) -> bool {
        self.served + self.refusals.len() == self.requests
    }

    /// Bytes that the process had more than before, at most.
    fn grown(&self) -> Option<i64> {
        Some(self.memory_most?.cast_signed() - self.memory_before?.cast_signed())
    }
}

/// All of it, as it is printed.
pub(super) struct Verdict {
    pub(super) steps: Beside,
    pub(super) streams: Beside,
    pub(super) floods: Vec<(usize, Flooded)>,
    pub(super) prompt: Beside,
    /// Tokens of the ninth's prompt and of the longest.
    pub(super) sizes: (usize, usize),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ninth, prompt) = self.sizes;
        for (way, beside) in [("single steps", &self.steps), ("streams", &self.streams)] {
            writeln!(f, "eight conversations ({way}) while a ninth reads {ninth} tokens")?;
            gaps(f, beside, 99.0)?;
        }
        for (requests, flooded) in &self.floods {
            writeln!(f, "eight clients beside {requests} requests of another one")?;
            gaps(f, &flooded.beside, 95.0)?;
            told(f, flooded)?;
        }
        if let Some([few, many]) = self.floods.first_chunk() {
            memory(f, &few.1, &many.1)?;
        }
        writeln!(f, "eight clients while another one reads {prompt} tokens")?;
        gaps(f, &self.prompt, 95.0)
    }
}

/// The gaps; what is promised is the ratio of this percentile.
fn gaps(f: &mut fmt::Formatter<'_>, beside: &Beside, promised: f64) -> fmt::Result {
    for percent in [50.0, 95.0, 99.0] {
        let (alone, among) = (percentile(&beside.alone, percent), percentile(&beside.beside, percent));
        let what = format!("gap, {percent:.0} %");
        let verdict = if percent == promised { at_most(among / alone, GAP_MAX) } else { String::new() };
        writeln!(f, "  {what:<24}{}{}{:>8.2}{verdict}", ms(alone), ms(among), among / alone)?;
    }
    if let Some((alone, among)) = beside.read {
        let verdict = at_most(among / alone, READ_MAX);
        writeln!(f, "  {:<24}{}{}{:>8.2}{verdict}", "the reading", ms(alone), ms(among), among / alone)?;
    }
    writeln!(f, "  {:<24}{:>36}{}", "of the eight refused", beside.refused, at_most(beside.refused as f64, 0.0))
}

fn told(f: &mut fmt::Formatter<'_>, flooded: &Flooded) -> fmt::Result {
    let codes: Vec<String> = flooded.codes.iter().map(|(code, count)| format!("{code}: {count}")).collect();
    let open = flooded.requests - flooded.served - flooded.refusals.len();
    writeln!(f, "  served {}, refused ({}), not answered yet {open}", flooded.served, codes.join(", "))?;
    if flooded.refusals.is_empty() {
        return Ok(());
    }
    for percent in [50.0, 95.0, 100.0] {
        let found = percentile(&flooded.refusals, percent);
        let what = format!("until a refusal, {percent:.0} %");
        let verdict = if percent == 95.0 { at_most(found, REFUSAL_MAX) } else { String::new() };
        writeln!(f, "  {what:<24}{:>14}{}{:>8}{verdict}", "", ms(found), "")?;
    }
    Ok(())
}

fn memory(f: &mut fmt::Formatter<'_>, few: &Flooded, many: &Flooded) -> fmt::Result {
    for flooded in [few, many] {
        let mib = |bytes: Option<u64>| bytes.map_or("?".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
        let [before, most, after] = [flooded.memory_before, flooded.memory_most, flooded.memory_after].map(mib);
        writeln!(f, "memory beside {} requests: before {before}, at most {most}, after {after}", flooded.requests)?;
    }
    let (Some(few), Some(many)) = (few.grown(), many.grown()) else { return Ok(()) };
    let holds = if many <= few + MEMORY_MORE_MAX { "holds" } else { "BROKEN" };
    writeln!(f, "  the larger flood takes no more, within {} MiB: {holds}", MEMORY_MORE_MAX >> 20)
}

fn at_most(found: f64, limit: f64) -> String {
    let holds = if found <= limit { "holds" } else { "BROKEN" };
    let limit = if limit == REFUSAL_MAX { ms(limit).trim().to_owned() } else { format!("{limit:.0}") };
    format!("  promised: at most {limit}, {holds}")
}

fn ms(seconds: f64) -> String {
    format!("{:>11.2} ms", 1000.0 * seconds)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_refusal_counts_from_its_writing_whichever_is_told_first() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let refused = |id: u64| {
            let line = format!(r#"{{"id":{id},"error":{{"code":"overloaded","message":"","retryable":true}}}}"#);
            serde_json::from_str(&line).expect("it is a reply")
        };
        let mut flooded = Flooded::new(2, None);
        flooded.take_note(&Event::Written(FIRST_OTHER_ID, at(1)));
        flooded.take_note(&Event::Came(refused(FIRST_OTHER_ID), at(4)));
        flooded.take_note(&Event::Came(refused(5), at(4)));
        assert!(!flooded.is_over());
        flooded.take_note(&Event::Came(refused(FIRST_OTHER_ID + 1), at(9)));
        flooded.take_note(&Event::Written(FIRST_OTHER_ID + 1, at(7)));
        assert!(flooded.is_over());
        assert_eq!((flooded.refusals.as_slice(), flooded.codes["overloaded"]), ([0.003, 0.002].as_slice(), 2));
    }

    #[test]
    fn a_promise_that_is_broken_is_told() {
        let beside =
            |alone, among| Beside { alone: vec![alone], beside: vec![among], refused: 0, read: Some((1.0, 1.5)) };
        let verdict = |among| {
            Verdict {
                steps: beside(0.01, among),
                streams: beside(0.01, 0.02),
                floods: Vec::new(),
                prompt: beside(0.01, 0.01),
                sizes: (8, 50),
            }
            .to_string()
        };
        assert!(!verdict(0.04).contains("BROKEN"), "{}", verdict(0.04));
        assert_eq!(verdict(0.041).matches("BROKEN").count(), 1, "{}", verdict(0.041));
    }
}
