//! Other programs, run in one of three ways: watched (a bar, output only on failure), shown (their
//! output as it comes), or asked (their output is the answer).

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::error::Error;

/// How many of its last lines a failed program's error quotes.
const QUOTED_LINES: usize = 30;

/// Runs a program behind a spinner, which becomes a bar when it writes `progress DONE TOTAL WHAT`.
/// Its other output is shown line by line, its standard error only if it fails.
pub(crate) fn watch(what: &'static str, command: &mut Command) -> Result<(), Error> {
    Beside::begin(what, command)?.finish()
}

/// A program that runs beside this one, unseen until its end is waited for. It ends with this value.
pub(crate) struct Beside {
    what: &'static str,
    program: String,
    child: Child,
    /// What it writes to standard error.
    complaints: Option<JoinHandle<String>>,
    started: Instant,
}

impl Beside {
    /// Starts it. What it writes to standard output waits in the pipe: not much fits.
    pub(crate) fn begin(what: &'static str, command: &mut Command) -> Result<Self, Error> {
        let program = name(command);
        let start = |cause| Error::Start { program: program.clone(), cause };
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(start)?;
        let pipe = child.stderr.take();
        let complaints = thread::spawn(move || {
            let mut text = Vec::new();
            // What could be read before a broken pipe is still worth quoting.
            let _ = pipe.map(|pipe| BufReader::new(pipe).read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self { what, program, child, complaints: Some(complaints), started: Instant::now() })
    }

    /// Waits for its end behind a spinner, as [`watch`] does.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        let bar = spinner(self.what);
        for line in self.child.stdout.take().into_iter().flat_map(lines) {
            match progress(&line) {
                Some((done, total, step)) => advance(&bar, done, total, step),
                None => bar.suspend(|| println!("  {line}")),
            }
        }
        let complaints = self.complaints.take().and_then(|complaints| complaints.join().ok()).unwrap_or_default();
        let status = self.child.wait().map_err(|cause| Error::Start { program: self.program.clone(), cause })?;
        bar.finish_and_clear();
        check(self.what, self.program.clone(), status, &complaints)?;
        println!("{}: done in {}", self.what, seconds(self.started.elapsed()));
        Ok(())
    }
}

impl Drop for Beside {
    /// Whatever failed meanwhile: a build that nobody waits for would go on and hold its locks.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program and shows its output as it comes; `see` is called with each line of its standard
/// output.
pub(crate) fn show(what: &str, command: &mut Command, mut see: impl FnMut(&str)) -> Result<(), Error> {
    let program = name(command);
    let start = |cause| Error::Start { program: program.clone(), cause };
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(start)?;
    for line in child.stdout.take().into_iter().flat_map(lines) {
        println!("{line}");
        see(&line);
    }
    let status = child.wait().map_err(start)?;
    check(what, program, status, "")
}

/// Runs a program and returns its standard output; the exit status is the caller's to judge.
pub(crate) fn ask(command: &mut Command) -> Result<(ExitStatus, String), Error> {
    let output =
        command.stdin(Stdio::null()).output().map_err(|cause| Error::Start { program: name(command), cause })?;
    Ok((output.status, String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// `cargo`, the one that runs this program.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A duration to one decimal, or in minutes where it is long.
pub(crate) fn seconds(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    if seconds < 100.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {} s", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
    }
}

fn spinner(what: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what.to_owned());
    if bar.is_hidden() {
        println!("{what} ..."); // no terminal, as in CI: say at least what takes so long
    } else {
        bar.enable_steady_tick(Duration::from_millis(120));
        bar.set_style(style("{spinner} {msg} [{elapsed}]"));
    }
    bar
}

fn advance(bar: &ProgressBar, done: u64, total: u64, step: &str) {
    if bar.length() != Some(total) {
        bar.set_length(total);
        bar.set_style(style("{bar:30} {pos}/{len} {msg} [{elapsed}]"));
    }
    bar.set_position(done);
    bar.set_message(step.to_owned());
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).with_key(
        "elapsed",
        |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
            // A bar that cannot be drawn is no reason to stop.
            let _ = write!(out, "{:#}", HumanDuration(state.elapsed()));
        },
    )
}

/// Reads `progress DONE TOTAL WHAT`.
fn progress(line: &str) -> Option<(u64, u64, &str)> {
    let mut words = line.splitn(4, ' ');
    if words.next() != Some("progress") {
        return None;
    }
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?))
}

fn lines(pipe: impl Read) -> impl Iterator<Item = String> {
    BufReader::new(pipe)
        .split(b'\n')
        .map_while(Result::ok)
        .map(|line| String::from_utf8_lossy(&line).trim_end().to_owned())
}

fn check(what: &str, program: String, status: ExitStatus, output: &str) -> Result<(), Error> {
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed { what: what.to_owned(), program, status, output: last_lines(output) })
}

/// The end of a program's output, each line indented under the error.
fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let from = lines.len().saturating_sub(QUOTED_LINES);
    lines[from..].iter().map(|line| format!("\n  | {line}")).collect()
}

fn name(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_progress_line_is_recognised() {
        assert_eq!(progress("progress 3 65 writing a form"), Some((3, 65, "writing a form")));
        assert_eq!(progress("progress of sorts"), None);
        assert_eq!(progress("perplexity 3 65 x"), None);
    }

    #[test]
    fn an_error_quotes_the_last_lines_only() {
        let output: String = (0..QUOTED_LINES + 5).map(|n| format!("line {n}\n")).collect();
        let quoted = last_lines(&output);
        assert!(quoted.starts_with("\n  | line 5\n"), "{quoted}");
        assert_eq!(quoted.lines().count(), QUOTED_LINES + 1);
    }

    #[test]
    fn long_times_are_in_minutes() {
        assert_eq!(seconds(Duration::from_millis(1_240)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 5 s");
    }
}
