//! `motorbrain chat` for somebody at a terminal: lines are edited and kept, and Ctrl-C stops what is said.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Child,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{ran::command, signal::interrupt};
use nix::pty::{Winsize, openpty};

/// Nothing here takes a minute; whatever does hangs.
const PATIENCE: Duration = Duration::from_secs(60);

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const UP: &str = "\x1b[A";

/// Somebody who looks at a chat in a terminal of their own.
struct Somebody {
    child: Child,
    keys: File,
    screen: mpsc::Receiver<Vec<u8>>,
    /// What is not looked at yet.
    seen: String,
    home: PathBuf,
}

impl Somebody {
    fn sits_down(home: &Path, arguments: &[&str]) -> Self {
        Self::sits_at("xterm", home, arguments)
    }

    fn sits_at(terminal: &str, home: &Path, arguments: &[&str]) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        // What is opened so would be held by every program that a test starts; copies are not.
        let (keys, end) = (File::from(pty.master.try_clone().unwrap()), pty.slave.try_clone().unwrap());
        drop((pty.master, pty.slave));
        let mut command = command("tiny-gqa-fp32", &[&["chat"], arguments].concat());
        let end = || end.try_clone().unwrap();
        command.env("XDG_STATE_HOME", home).env("TERM", terminal);
        command.stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().unwrap();
        // It holds the terminal's other end.
        drop(command);
        let (mut shown, (send, screen)) = (keys.try_clone().unwrap(), mpsc::channel());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It ends with an error where nobody writes any more.
            while let Ok(read @ 1..) = shown.read(&mut bytes) {
                if send.send(bytes[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys, screen, seen: String::new(), home: home.to_owned() }
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Looks until these words come, past them; what came before them.
    fn sees(&mut self, words: &str) -> String {
        loop {
            if let Some((before, behind)) = self.seen.split_once(words) {
                let (before, behind) = (before.to_owned(), behind.to_owned());
                self.seen = behind;
                return before;
            }
            self.looks(words);
        }
    }

    /// Looks until so much has come.
    fn sees_much(&mut self, bytes: usize) {
        while self.seen.len() < bytes {
            self.looks("more");
        }
    }

    fn looks(&mut self, what: &str) {
        let more = self.screen.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {what} in {:?}", self.seen));
        self.seen += &String::from_utf8_lossy(&more);
    }

    /// The status with which it ends, and what was kept of the lines.
    fn leaves(mut self) -> (Option<i32>, String) {
        let started = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if started.elapsed() > PATIENCE => panic!("it does not end: {:?}", self.seen),
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        (status.code(), fs::read_to_string(self.history()).unwrap())
    }

    fn history(&self) -> PathBuf {
        self.home.join("motorbrain/chat_history")
    }
}

impl Drop for Somebody {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn lines_are_edited_and_kept_for_their_writer_alone() {
    let home = tempfile::tempdir().unwrap();
    let mut somebody = Somebody::sits_down(home.path(), &["--count", "4"]);
    somebody.sees("tiny-gqa-fp32, a window of 64 tokens");
    somebody.sees("chat> ");
    // Completed where it can be one command only.
    somebody.types("/st\t\r");
    somebody.sees("0 of 64 tokens in the window");
    somebody.types("/sing\r");
    somebody.sees("there is no command `/sing`");
    somebody.sees("chat> ");
    somebody.types("the man\r");
    somebody.sees("chat> ");
    somebody.types("/stats\r");
    somebody.sees("last answer:");
    // Before the next prompt keys are the terminal's own, which takes a Ctrl-D for an end that nobody is told of.
    somebody.sees("chat> ");
    assert_eq!(somebody.history().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    somebody.types(CTRL_D);
    assert_eq!(somebody.leaves(), (Some(0), "#V2\n/stats\n/sing\nthe man\n/stats\n".to_owned()));

    let mut again = Somebody::sits_down(home.path(), &["--count", "4"]);
    again.sees("chat> ");
    again.types(&format!("{UP}{UP}"));
    again.sees("the man");
    again.types("\r");
    again.sees("chat> ");
    again.types("/stats\r");
    again.sees("last answer:");
    again.sees("chat> ");
    again.types("/quit\r");
    let (code, kept) = again.leaves();
    assert_eq!((code, kept.lines().filter(|line| *line == "the man").count()), (Some(0), 2));

    let mut without = Somebody::sits_down(home.path(), &["--no-history"]);
    without.sees("chat> ");
    without.types("/quit\r");
    assert!(without.leaves().1.ends_with("/stats\n/quit\n"), "as it was left before");
}

#[test]
fn where_lines_cannot_be_edited_they_are_taken_as_they_come() {
    let home = tempfile::tempdir().unwrap();
    let mut somebody = Somebody::sits_at("dumb", home.path(), &["--count", "4"]);
    somebody.sees("chat> ");
    somebody.types("/sing\n");
    somebody.sees("there is no command `/sing`");
    somebody.sees("chat> ");
    interrupt(&somebody.child);
    assert_eq!(somebody.leaves(), (Some(130), "#V2\n/sing\n".to_owned()));
}

#[test]
fn ctrl_c_stops_an_answer_clears_a_line_and_ends_where_there_is_neither() {
    let long = ["--temperature", "1", "--seed", "1", "--set", "window.size=4096"];
    let home = tempfile::tempdir().unwrap();
    let mut somebody = Somebody::sits_down(home.path(), &long);
    somebody.sees("chat> ");
    somebody.types("the man\r");
    somebody.sees("\r\n");
    somebody.sees_much(100);
    interrupt(&somebody.child);
    somebody.sees("chat> ");
    somebody.types("/stats\r");
    somebody.sees(" of 4096 tokens in the window");
    let stats = somebody.sees("chat> ");
    assert!(!stats.contains("last answer"), "it was stopped: {stats}");
    let saved = home.path().join("said.json");
    somebody.types(&format!("/save {}\r", saved.display()));
    somebody.sees("2 messages are in");
    somebody.sees("chat> ");
    somebody.types(&format!("not said{CTRL_C}"));
    somebody.sees("chat> ");
    somebody.types(CTRL_C);
    let (code, kept) = somebody.leaves();
    assert!(code == Some(130) && !kept.contains("not said"), "{code:?} {kept}");
}
