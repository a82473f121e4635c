//! What the figures were measured on.

use std::fs;
use std::num::NonZero;
use std::process::Command;
use std::thread;

use super::results::Machine;
use crate::process::ask;
use crate::project::Project;

/// The instruction sets that decide how fast products are.
const FEATURES: [&str; 8] = ["avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8"];

/// The end of a commit's name where files differ from it.
pub(super) const DIRTY: &str = "-dirty";

/// Cores that this process may use.
pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Describes this machine; what the system does not tell is left empty.
pub(super) fn describe() -> Machine {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (processor, features) = processor(&read("/proc/cpuinfo"));
    let kernel = ask(Command::new("uname").args(["-sr"])).map_or_else(|_| String::new(), |(_, text)| text);
    Machine {
        processor,
        cores: cores(),
        features,
        memory_bytes: memory_bytes(&read("/proc/meminfo")),
        system: kernel.trim().to_owned(),
        load_average: read("/proc/loadavg").split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0),
    }
}

/// What decides whether code that was built for one processor runs on another.
pub(super) fn processor_identity() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let lines = ["model name", "flags", "Features"].map(|name| field(&text, name).unwrap_or_default());
    lines.join("\n")
}

/// The commit that is checked out, with a mark where files differ from it.
pub(super) fn commit(project: &Project) -> String {
    let described = ask(Command::new("git")
        .args(["describe", "--always"])
        .arg(format!("--dirty={DIRTY}"))
        .current_dir(project.root()));
    described.map_or_else(|_| String::new(), |(_, text)| text).trim().to_owned()
}

fn processor(cpuinfo: &str) -> (String, Vec<String>) {
    let name = field(cpuinfo, "model name").unwrap_or("unknown processor").to_owned();
    let flags: Vec<&str> = field(cpuinfo, "flags").unwrap_or_default().split(' ').collect();
    (name, FEATURES.iter().filter(|feature| flags.contains(feature)).map(|&feature| feature.to_owned()).collect())
}

fn memory_bytes(meminfo: &str) -> u64 {
    let kilobytes = field(meminfo, "MemTotal").and_then(|text| text.strip_suffix(" kB"));
    kilobytes.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The first line `NAME : VALUE` of this name.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then_some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_and_memory_are_read_from_the_systems_files() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A Processor\nflags\t\t: fpu avx avx2 bmi1\n";
        assert_eq!(processor(cpuinfo), ("A Processor".into(), vec!["avx".into(), "avx2".into()]));
        assert_eq!(memory_bytes("MemTotal:       2048 kB\nMemFree: 1 kB\n"), 2_097_152);
        assert_eq!(processor(""), ("unknown processor".into(), vec![]));
    }
}
