//! A running brain looked at from another process: what is shown, and what nobody can do through that door.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::pipe::{Pipe, code};

/// A pipe whose brain is looked at through the socket.
fn watched(socket: &Path) -> Pipe {
    Pipe::start("tiny-gqa-fp32", &["--set", &format!("observe.socket={}", socket.display())])
}

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("brain.sock");
    (folder, socket)
}

fn top(socket: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_motorbrain"));
    command.arg("top").arg("--socket").arg(socket).args(arguments).current_dir(std::env::temp_dir());
    command.output().unwrap()
}

/// What a line is answered; `None` where nobody answers.
fn ask(stream: &mut BufReader<UnixStream>, line: &str) -> Option<Value> {
    stream.get_mut().write_all(line.as_bytes()).ok()?;
    let mut answer = String::new();
    match stream.read_line(&mut answer) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(serde_json::from_str(&answer).unwrap()),
    }
}

fn connect(socket: &Path) -> BufReader<UnixStream> {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    BufReader::new(stream)
}

#[test]
fn actors_and_conversations_of_another_process_are_shown() {
    let (_folder, socket) = place();
    let mut pipe = watched(&socket);
    for name in ["first", "second"] {
        pipe.ask(&json!({"id": 1, "op": "step", "conversation": name, "text": "Once upon a time", "count": 2}));
    }
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let shown = top(&socket, &["--once"]);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.status.success(), "{text}");
    for word in ["ready; 0 waiting; 2 conversations", "restarts", "first", "second", "resident"] {
        assert!(text.contains(word), "`{word}` is not in {text}");
    }
    let json = top(&socket, &["--once", "--json"]).stdout;
    let look: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(look["stats"]["actors"][0]["state"], "ready");
    assert_eq!(look["conversations"].as_array().unwrap().len(), 2);
    assert!(pipe.end().1.success());
    assert!(!socket.exists(), "it is taken away");
    let gone = top(&socket, &["--once"]);
    let said = String::from_utf8(gone.stderr).unwrap();
    assert!(gone.status.code() == Some(1) && said.contains("no brain answers"), "{said}");
}

#[test]
fn who_looks_on_sees_the_brain_end() {
    let (_folder, socket) = place();
    let mut pipe = watched(&socket);
    pipe.ask(&json!({"id": 1, "op": "stats"}));
    let mut command = Command::new(env!("CARGO_BIN_EXE_motorbrain"));
    command.arg("top").arg("--socket").arg(&socket).args(["--json", "--every-ms", "50"]);
    let mut looks = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(looks.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let look: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(look["stats"]["health"], "ready");
    }
    assert!(pipe.end().1.success());
    assert!(lines.all(|line| line.is_ok()));
    assert!(looks.wait().unwrap().success());
}

#[test]
fn through_the_door_one_only_looks() {
    let (_folder, socket) = place();
    let mut pipe = watched(&socket);
    pipe.ask(&json!({"id": 1, "op": "step", "conversation": "a", "text": "Once", "count": 1}));
    let mut stream = connect(&socket);
    for line in [
        r#"{"id":1,"op":"step","conversation":"a"}"#,
        r#"{"id":1,"op":"close","conversation":"a"}"#,
        r#"{"id":1,"op":"cancel","conversation":"a"}"#,
        r#"{"id":1,"op":"crash","actor":0}"#,
        "nonsense",
    ] {
        assert_eq!(code(&ask(&mut stream, &format!("{line}\n")).unwrap()), "bad_request", "{line}");
    }
    let found = ask(&mut stream, "{\"id\":2,\"op\":\"inspect\",\"conversation\":\"a\"}\n").unwrap();
    assert_eq!(found["ok"]["requests"], 0, "{found}");
    // A line that has no end is answered, and that is the end.
    let long = "x".repeat(40_000);
    assert_eq!(code(&ask(&mut stream, &long).unwrap()), "bad_request");
    assert_eq!(ask(&mut stream, "{\"id\":3,\"op\":\"stats\"}\n"), None);
    // Of many who look at once some are sent away, and when they leave others come in.
    let mut many: Vec<_> = (0..40).map(|_| connect(&socket)).collect();
    let stats = "{\"id\":3,\"op\":\"stats\"}\n";
    let served = many.iter_mut().filter_map(|stream| ask(stream, stats)).count();
    assert!((1..=8).contains(&served), "{served}");
    drop(many);
    let again = (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        ask(&mut connect(&socket), stats).is_some()
    });
    assert!(again);
    assert!(pipe.end().1.success());
}

#[test]
fn a_socket_that_is_left_is_replaced_and_nothing_else_is() {
    let (folder, socket) = place();
    let mut first = watched(&socket);
    first.ask(&json!({"id": 1, "op": "stats"}));
    let second = watched(&socket);
    assert_eq!(second.end().1.code(), Some(2), "another program answers there");
    assert!(top(&socket, &["--once"]).status.success());
    // Killed: it takes nothing away.
    drop(first);
    assert!(socket.exists());
    let mut third = watched(&socket);
    third.ask(&json!({"id": 1, "op": "stats"}));
    assert!(top(&socket, &["--once"]).status.success());
    assert!(third.end().1.success());
    fs::write(&socket, "precious").unwrap();
    assert_eq!(watched(&socket).end().1.code(), Some(2));
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&socket, &link).unwrap();
    assert_eq!(watched(&link).end().1.code(), Some(2), "a link is no socket");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left behind");
}
