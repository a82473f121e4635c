//! What was measured: the samples of every engine at every point, as `benches/results.json` keeps them.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

use super::engines::Engine;
use super::machine::DIRTY;
use super::options::Scenario;
use super::statistics::median;
use super::tune::{Purpose, Settings, Tuned};

/// Engines that are compared with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Group {
    /// SmolLM2-135M in forms within 2 % of the f32 model's perplexity.
    Equal,
    /// The same model in 8-bit blocks: one file for ours and for onnxruntime-genai.
    EightBit,
    /// The same model in lossy 4-bit blocks: one file for these two, and the 4-bit blocks of the others.
    Lossy,
    /// The f32 model with the shape of Qwen2.5-Coder-0.5B.
    Qwen,
}

impl Group {
    pub(super) const ALL: [Self; 4] = [Self::Equal, Self::EightBit, Self::Lossy, Self::Qwen];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Equal => "SmolLM2-135M, each engine's best form within 2 % of f32's perplexity",
            Self::EightBit => "SmolLM2-135M, one 8-bit file",
            Self::Lossy => "SmolLM2-135M, lossy 4-bit",
            Self::Qwen => "Qwen2.5-Coder-0.5B's shape, f32, random weights",
        }
    }
}

/// Whose engine it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Team {
    MotorBrain,
    /// Ours, without actors.
    BareEngine,
    Genai,
    LlamaCpp,
    #[serde(rename = "openvino")]
    OpenVino,
}

/// What a series measures. Seconds and bytes are better when few, all else when many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Measure {
    /// Tokens a second of all conversations together, greedily, as streams of many tokens.
    Decode,
    /// The same with temperature 1, top-p 0.9 and min-p 0.05.
    DecodeSampled,
    /// Greedily in the same rounds as that, of ours alone.
    DecodeBeside,
    /// Greedily, as requests of one token.
    DecodeSteps,
    /// The same, for the comparison of ours with its engine alone.
    LayerDecode,
    /// Tokens a second, from an empty conversation to its first token.
    Prefill,
    /// Texts a second.
    Embed,
    /// Seconds to the first token of a second turn.
    Turn,
    /// Seconds to it when all is read again.
    TurnAgain,
    /// Seconds from nothing loaded to the first token of a short prompt.
    Load,
    /// The same where the system holds none of the model's files in memory, and we no form of it.
    LoadCold,
    /// Milliseconds between two tokens of a streamed conversation.
    GapP50,
    GapP99,
    /// The same while another conversation reads a long prompt.
    BusyGapP50,
    BusyGapP99,
    /// Seconds of the long prompt, alone and among the streams.
    ReadAlone,
    ReadAmong,
    /// Resident bytes of the process.
    Resident,
    /// Resident bytes of one more conversation, and of its keys and values.
    Conversation,
    ConversationKv,
    /// Requests a second through MotorBrain, with an engine that answers at once.
    Messages,
    /// Bytes a second and operations a second of the machine.
    Bandwidth,
    Matmul,
}

/// Where on the axes a series lies; what does not apply is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Point {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) conversations: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) context: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) actors: Option<usize>,
}

impl Point {
    pub(super) fn decode(conversations: usize, context: usize) -> Self {
        Self { conversations: Some(conversations), context: Some(context), ..Self::default() }
    }

    pub(super) fn tokens(tokens: usize) -> Self {
        Self { tokens: Some(tokens), ..Self::default() }
    }

    pub(super) fn turn(context: usize, tokens: usize) -> Self {
        Self { context: Some(context), tokens: Some(tokens), ..Self::default() }
    }

    pub(super) fn actors(actors: usize) -> Self {
        Self { actors: Some(actors), ..Self::default() }
    }
}

/// The samples of one engine at one point, one a round, in the order of the rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Series {
    pub(super) measure: Measure,
    pub(super) group: Group,
    pub(super) engine: String,
    pub(super) team: Team,
    pub(super) point: Point,
    pub(super) samples: Vec<f64>,
}

impl Series {
    pub(super) fn median(&self) -> f64 {
        median(&self.samples)
    }
}

/// One engine with its setting and the form of its model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct EngineRecord {
    pub(super) name: String,
    pub(super) group: Group,
    pub(super) team: Team,
    /// How the weights are kept.
    pub(super) form: String,
    /// Bytes of the file that holds them.
    pub(super) weight_bytes: u64,
    /// As the engine says it.
    pub(super) version: String,
    /// Of the two committed texts, measured through the engine itself.
    pub(super) perplexity: BTreeMap<String, f64>,
}

/// The network's sizes, for the operations and bytes that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Shape {
    #[serde(rename = "num_hidden_layers")]
    pub(super) layers: usize,
    #[serde(rename = "hidden_size")]
    pub(super) hidden: usize,
    #[serde(rename = "intermediate_size")]
    pub(super) inner: usize,
    #[serde(rename = "num_attention_heads")]
    pub(super) heads: usize,
    #[serde(rename = "num_key_value_heads")]
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    #[serde(rename = "vocab_size")]
    pub(super) vocab: usize,
}

/// What the figures were measured on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) cores: usize,
    /// Those of its instruction sets that matter here.
    pub(super) features: Vec<String>,
    pub(super) memory_bytes: u64,
    pub(super) system: String,
    /// Of the last minute, before the run: what other programs took.
    pub(super) load_average: f64,
}

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Results {
    pub(super) command: String,
    pub(super) commit: String,
    /// Rounds of every point, where a number was asked for.
    pub(super) rounds: Option<usize>,
    /// Of fewer points.
    pub(super) quick: bool,
    /// How long all of it took, what was set up or taken over apart.
    pub(super) minutes: f64,
    pub(super) machine: Machine,
    pub(super) shapes: BTreeMap<String, Shape>,
    pub(super) engines: Vec<EngineRecord>,
    /// What was found to be fastest, for the engines whose settings are chosen.
    pub(super) tuned: Vec<Tuned>,
    pub(super) series: Vec<Series>,
    /// What is measured, each by itself: a run that is broken off goes on behind it.
    pub(super) done: Vec<Part>,
}

/// A scenario of a group; of none where it measures no model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) scenario: Scenario,
    pub(super) group: Option<Group>,
}

impl Results {
    /// Takes over what another run found under the same conditions; false, and nothing, if they differ, or
    /// may differ since files do from those of the commit.
    pub(super) fn take_over(&mut self, before: Self) -> bool {
        let machine = Machine { load_average: self.machine.load_average, ..before.machine };
        let now = (&self.commit, self.rounds, self.quick, &self.machine);
        let same = now == (&before.commit, before.rounds, before.quick, &machine) && !self.commit.ends_with(DIRTY);
        if same {
            (self.engines, self.tuned) = (before.engines, before.tuned);
            (self.series, self.done, self.minutes) = (before.series, before.done, before.minutes);
        }
        same
    }

    /// Notes an engine, unless it is known.
    pub(super) fn know(&mut self, engine: &Engine, version: &str) {
        if self.record(engine).is_none() {
            self.engines.push(EngineRecord {
                name: engine.name.clone(),
                group: engine.group,
                team: engine.team,
                form: engine.form.clone(),
                weight_bytes: fs::metadata(&engine.weights).map_or(0, |file| file.len()),
                version: version.to_owned(),
                perplexity: BTreeMap::new(),
            });
        }
    }

    pub(super) fn set_perplexity(&mut self, engine: &Engine, perplexity: BTreeMap<String, f64>) {
        if let Some(record) = self.record(engine) {
            record.perplexity = perplexity;
        }
    }

    /// What an engine that is known says it is.
    pub(super) fn version(&self, engine: &Engine) -> Option<&str> {
        let mut engines = self.engines.iter();
        let found = engines.find(|record| record.group == engine.group && record.name == engine.name);
        found.map(|record| record.version.as_str())
    }

    /// Whether an engine's settings are chosen.
    pub(super) fn is_tuned(&self, engine: &Engine) -> bool {
        self.tuned.iter().any(|tuned| tuned.group == engine.group && tuned.engine == engine.name)
    }

    /// The settings chosen for an engine.
    pub(super) fn settings(&self, engine: &Engine, purpose: Purpose) -> Option<Settings> {
        let of_it = |tuned: &&Tuned| tuned.group == engine.group && tuned.engine == engine.name;
        let mut of_it = self.tuned.iter().filter(of_it);
        of_it.find(|tuned| tuned.purpose == purpose).map(|tuned| tuned.settings)
    }

    fn record(&mut self, engine: &Engine) -> Option<&mut EngineRecord> {
        self.engines.iter_mut().find(|record| record.group == engine.group && record.name == engine.name)
    }

    /// All series of a measure in a group.
    pub(super) fn of(&self, group: Group, measure: Measure) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(move |series| series.group == group && series.measure == measure)
    }

    /// The series of a team at a point: of its best setting there where it has several.
    pub(super) fn best(&self, group: Group, measure: Measure, point: Point, teams: &[Team]) -> Option<&Series> {
        let candidates = self.of(group, measure).filter(|series| series.point == point && teams.contains(&series.team));
        candidates.min_by(|one, other| {
            let order = one.median().total_cmp(&other.median());
            if measure.fewer_is_better() { order } else { order.reverse() }
        })
    }
}

impl Measure {
    pub(super) fn fewer_is_better(self) -> bool {
        match self {
            Self::Decode
            | Self::DecodeSampled
            | Self::DecodeBeside
            | Self::DecodeSteps
            | Self::LayerDecode
            | Self::Prefill
            | Self::Embed
            | Self::Messages
            | Self::Bandwidth
            | Self::Matmul => false,
            Self::Turn
            | Self::TurnAgain
            | Self::Load
            | Self::LoadCold
            | Self::GapP50
            | Self::GapP99
            | Self::BusyGapP50
            | Self::BusyGapP99
            | Self::ReadAlone
            | Self::ReadAmong
            | Self::Resident
            | Self::Conversation
            | Self::ConversationKv => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(team: Team, engine: &str, measure: Measure, samples: &[f64]) -> Series {
        let (engine, samples) = (engine.to_owned(), samples.to_vec());
        Series { measure, group: Group::Equal, engine, team, point: Point::tokens(512), samples }
    }

    #[test]
    fn only_a_run_under_the_same_conditions_is_taken_over() {
        let before = Results {
            commit: "c".into(),
            rounds: Some(3),
            machine: Machine { cores: 2, load_average: 0.5, ..Machine::default() },
            series: vec![series(Team::MotorBrain, "ours", Measure::Prefill, &[99.0])],
            done: vec![Part { scenario: Scenario::Prefill, group: Some(Group::Equal) }],
            ..Results::default()
        };
        let fresh = Results { series: Vec::new(), done: Vec::new(), ..before.clone() };
        let busier = Machine { load_average: 1.0, ..before.machine.clone() };
        let mut now = Results { machine: busier.clone(), ..fresh.clone() };
        assert!(now.take_over(before.clone()));
        assert_eq!(now, Results { machine: busier, ..before.clone() });
        for other in [
            Results { commit: "d".into(), ..fresh.clone() },
            Results { rounds: None, ..fresh.clone() },
            Results { quick: true, ..fresh.clone() },
            Results { machine: Machine { cores: 4, ..Machine::default() }, ..fresh.clone() },
        ] {
            let mut now = other.clone();
            assert!(!now.take_over(before.clone()));
            assert_eq!(now, other);
        }
        let mut dirty = Results { commit: format!("c{DIRTY}"), ..fresh };
        assert!(!dirty.clone().take_over(dirty.clone()));
        dirty.commit = before.commit.clone();
        assert!(dirty.take_over(before));
    }

    #[test]
    fn the_best_setting_has_the_most_tokens_or_the_fewest_seconds() {
        let results = Results {
            series: vec![
                series(Team::LlamaCpp, "one", Measure::Prefill, &[10.0, 30.0, 20.0]),
                series(Team::LlamaCpp, "other", Measure::Prefill, &[25.0, 21.0, 40.0]),
                series(Team::MotorBrain, "ours", Measure::Prefill, &[99.0]),
                series(Team::LlamaCpp, "one", Measure::Turn, &[1.0]),
                series(Team::LlamaCpp, "other", Measure::Turn, &[2.0]),
            ],
            ..Results::default()
        };
        let best = |measure| {
            let found = results.best(Group::Equal, measure, Point::tokens(512), &[Team::LlamaCpp, Team::Genai]);
            found.map(|series| series.engine.as_str())
        };
        assert_eq!(best(Measure::Prefill), Some("other"));
        assert_eq!(best(Measure::Turn), Some("one"));
        assert_eq!(best(Measure::Embed), None);
    }
}
