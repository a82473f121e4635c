//! `motorbrain serve` with traces.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::common::{fixture, graph_cache, library};

/// An end without traces takes a moment, and traces 2 seconds more at most; whatever takes this long hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program that sends traces there.
fn serve(collector: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_motorbrain"))
        .args(["serve", "--otlp", "--address", "127.0.0.1:0", "--model"])
        .arg(fixture("tiny-gqa-fp32"))
        .env("ORT_DYLIB_PATH", library())
        .env("MOTORBRAIN__RUNTIME__CACHE", graph_cache())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
        .current_dir(std::env::temp_dir())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Asks it for something, and has it end.
fn ask_and_end(collector: &str) -> String {
    let mut child = serve(collector);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening at http://").unwrap();
    let body = r#"{"model":"tiny-gqa-fp32","prompt":"a","max_tokens":1}"#;
    let mut connection = TcpStream::connect(address).unwrap();
    let head = format!("host: localhost\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
    write!(connection, "POST /v1/completions HTTP/1.1\r\n{head}\r\nconnection: close\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let began = Instant::now();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success() && began.elapsed() < PATIENCE, "{ended:?} after {:?}", began.elapsed());
    String::from_utf8(ended.stderr).unwrap()
}

#[test]
fn a_collector_that_is_not_there_holds_up_no_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    // It is connected to, and never looks.
    assert!(ask_and_end(&address).contains("traces are lost"));
    drop(listener);
    let told = ask_and_end(&address);
    assert_eq!(told.matches("the collector does not take them").count(), 1, "{told}");
}

#[test]
fn a_collector_whose_address_is_none_is_told_by_its_variable() {
    let ended = serve("https://localhost:4318").wait_with_output().unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2), "{told}");
    assert!(told.contains("OTEL_EXPORTER_OTLP_ENDPOINT") && told.contains("https://localhost:4318"), "{told}");
}
