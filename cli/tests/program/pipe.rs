//! The pipe protocol from outside: the real binary, real models, its lines and its exit status.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::common::{
    copy, fixture, graph_cache, largest_difference, library,
    reference::{numbers, references, run_cuts},
};
use serde_json::{Value, json};

/// Nothing here takes a minute; whatever does hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `motorbrain pipe`.
pub(crate) struct Pipe {
    child: Child,
    input: Option<ChildStdin>,
    replies: mpsc::Receiver<String>,
}

impl Pipe {
    /// Starts one on a model of `tests/fixtures`, in an empty folder, so that no settings file is found.
    pub(crate) fn start(model: &str, arguments: &[&str]) -> Self {
        let mut child = command(&fixture(model), arguments).stderr(Stdio::null()).spawn().unwrap();
        let (send, replies) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { input: child.stdin.take(), child, replies }
    }

    pub(crate) fn send(&mut self, line: impl AsRef<[u8]>) {
        let input = self.input.as_mut().unwrap();
        input.write_all(line.as_ref()).unwrap();
        input.write_all(b"\n").unwrap();
        input.flush().unwrap();
    }

    pub(crate) fn next(&self) -> Value {
        let line = self.replies.recv_timeout(PATIENCE).expect("no reply came");
        serde_json::from_str(&line).unwrap()
    }

    /// One request and the reply to it, nothing else being under way.
    pub(crate) fn ask(&mut self, request: &Value) -> Value {
        self.send(request.to_string());
        let reply = self.next();
        assert_eq!(reply["id"], request["id"], "{reply}");
        reply
    }

    /// Ends the input; the replies still to come and the exit status.
    pub(crate) fn end(mut self) -> (Vec<Value>, ExitStatus) {
        drop(self.input.take());
        let rest = self.replies.iter().map(|line| serde_json::from_str(&line).unwrap()).collect();
        (rest, wait(&mut self.child))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(model: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_motorbrain"));
    command
        .args(["pipe", "--model"])
        .arg(model)
        .args(["--set", "window.size=64"])
        .args(arguments)
        .current_dir(std::env::temp_dir())
        .env("ORT_DYLIB_PATH", library())
        .env("MOTORBRAIN__RUNTIME__CACHE", graph_cache())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn wait(child: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(began.elapsed() < PATIENCE, "the program does not end");
        thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn code(reply: &Value) -> &str {
    reply["error"]["code"].as_str().unwrap_or_else(|| panic!("no error: {reply}"))
}

/// Served after every mistake, to show that the mistake broke nothing.
fn good() -> Value {
    json!({"id": "good", "op": "step", "conversation": "good", "text": "a", "count": 1})
}

#[test]
fn bad_input_is_answered_and_the_next_good_request_served() {
    let mut pipe = Pipe::start("tiny-plain", &[]);
    let step = |key: &str| format!(r#"{{"id":1,"op":"step","conversation":"a",{key}}}"#);
    let long = "x".repeat(10_000_000);
    let deep = "[".repeat(1_000_000);
    let cases: Vec<(Vec<u8>, Value, &str)> = vec![
        ("{\"id\":1,".into(), Value::Null, "bad_request"),
        ("".into(), Value::Null, "bad_request"),
        (b"{\"id\":\"\xff\"}".into(), Value::Null, "bad_request"),
        (deep.into(), Value::Null, "bad_request"),
        (long.clone().into(), Value::Null, "bad_request"),
        (format!(r#"{{"id":1,"op":"embed","text":"{long}"}}"#).into(), json!(1), "input_too_long"),
        (r#"{"id":1,"op":"sing"}"#.into(), json!(1), "bad_request"),
        (r#"{"id":1,"op":"embed","text":""}"#.into(), json!(1), "empty_input"),
        (step(r#""text":"""#).into(), json!(1), "empty_input"),
        (step(r#""count":1"#).into(), json!(1), "empty_input"),
        (step(r#""token_ids":[576]"#).into(), json!(1), "invalid_token"),
        (step(r#""token_ids":[-1]"#).into(), json!(1), "invalid_token"),
        (step(r#""token_ids":[4294967296]"#).into(), json!(1), "invalid_token"),
        (step(r#""token_ids":[1],"text":"a""#).into(), json!(1), "bad_request"),
        (step(r#""text":"a","count":1000000000"#).into(), json!(1), "bad_request"),
        (step(r#""text":"a","count":1e99"#).into(), json!(1), "bad_request"),
        (step(r#""text":"a","temperature":NaN"#).into(), Value::Null, "bad_request"),
        (step(r#""text":"a","temperature":"NaN""#).into(), json!(1), "bad_request"),
        (step(r#""text":"a","temperature":-1"#).into(), json!(1), "bad_request"),
        (step(r#""text":"a","top_p":0"#).into(), json!(1), "bad_request"),
        (step(r#""text":"a","top":1000000"#).into(), json!(1), "bad_request"),
        (step(r#""text":"a","text":"b""#).into(), json!(1), "bad_request"),
        (step(r#""text":"a","colour":"b""#).into(), json!(1), "bad_request"),
        (step(r#""text":"a","stop":"a""#).into(), json!(1), "bad_request"),
        (step(r#""text":"a","stop":[""]"#).into(), json!(1), "bad_request"),
        (step(r#""text":"a","stream":1"#).into(), json!(1), "bad_request"),
        (step(r#""stream":true"#).into(), json!(1), "empty_input"),
        (step(r#""text":"a","parts":[]"#).into(), json!(1), "bad_request"),
        (step(r#""parts":[]"#).into(), json!(1), "empty_input"),
        (step(r#""parts":[{"text":"a"},{"token_ids":[576]}]"#).into(), json!(1), "invalid_token"),
        (step(r#""parts":[{"text":"a","literal":"b"}]"#).into(), json!(1), "bad_request"),
        (r#"{"id":1,"op":"tokenize","token_ids":[1]}"#.into(), json!(1), "bad_request"),
        (r#"{"id":1,"op":"tokenize"}"#.into(), json!(1), "bad_request"),
        (format!(r#"{{"id":1,"op":"tokenize","text":"{long}"}}"#).into(), json!(1), "input_too_long"),
        (r#"{"id":1,"op":"detokenize","token_ids":[576]}"#.into(), json!(1), "invalid_token"),
        (r#"{"id":1,"op":"close","conversation":"nobody"}"#.into(), json!(1), "unknown_conversation"),
        (r#"{"id":1,"op":"crash","actor":0}"#.into(), json!(1), "bad_request"),
        (format!(r#"{{"id":1,"op":"close","conversation":"{long}"}}"#).into(), json!(1), "bad_request"),
    ];
    for (line, id, expected) in cases {
        let shown = String::from_utf8_lossy(&line[..line.len().min(100)]).into_owned();
        pipe.send(&line);
        let reply = pipe.next();
        assert_eq!((&reply["id"], code(&reply)), (&id, expected), "{shown}: {reply}");
        assert_eq!(reply["error"]["retryable"], false, "{shown}");
        assert!(!reply["error"]["message"].as_str().unwrap().is_empty(), "{shown}");
        let served = pipe.ask(&good());
        assert_eq!(served["ok"]["token_ids"].as_array().map(Vec::len), Some(1), "{shown}: {served}");
    }
    // None of the mistakes was remembered: `a` was never made.
    let closed = pipe.ask(&json!({"id": 2, "op": "close", "conversation": "a"}));
    assert_eq!(code(&closed), "unknown_conversation");
    let (rest, status) = pipe.end();
    assert!(rest.is_empty() && status.success(), "{rest:?} {status}");
}

#[test]
fn a_line_over_64_mib_is_skipped_and_the_next_one_served() {
    let mut pipe = Pipe::start("tiny-plain", &[]);
    let mut line = br#"{"id":1,"op":"embed","text":""#.to_vec();
    line.resize(64 * 1024 * 1024 - 2, b'x');
    line.extend_from_slice(b"\"}");
    pipe.send(&line);
    let reply = pipe.next();
    assert_eq!((&reply["id"], code(&reply)), (&json!(1), "input_too_long"));
    line.push(b' ');
    pipe.send(&line);
    let reply = pipe.next();
    assert_eq!((&reply["id"], code(&reply)), (&Value::Null, "bad_request"));
    assert!(pipe.ask(&good())["ok"].is_object());
}

#[test]
fn every_request_is_answered_once_before_the_end() {
    let mut pipe = Pipe::start("tiny-gqa-fp32", &["--set", "brain.actors=2"]);
    for id in 0..40 {
        let conversation = format!("c{}", id % 4);
        pipe.send(json!({"id": id, "op": "step", "conversation": conversation, "text": "ab", "count": 2}).to_string());
    }
    let (replies, status) = pipe.end();
    assert!(status.success(), "{status}");
    let mut ids: Vec<_> = replies.iter().map(|reply| reply["id"].as_u64().unwrap()).collect();
    // Requests of one conversation are done in the order of their lines.
    for conversation in 0..4 {
        let own: Vec<_> = ids.iter().filter(|id| *id % 4 == conversation).collect();
        assert!(own.is_sorted(), "{own:?}");
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..40).collect::<Vec<_>>());
    assert!(replies.iter().all(|reply| reply["ok"]["context_len"].as_u64() <= Some(64)), "{replies:?}");
}

#[test]
fn replies_of_a_conversation_come_in_the_order_of_its_requests() {
    let mut pipe = Pipe::start("tiny-gqa-fp32", &[]);
    // A reset and a close are done the moment the step before them is.
    let rest = [r#""op":"reset""#, r#""op":"close""#];
    for conversation in 0..40 {
        let ops = std::iter::once(r#""op":"step","text":"ab","count":3"#).chain(rest);
        for (place, op) in ops.enumerate() {
            let id = 3 * conversation + place;
            pipe.send(format!(r#"{{"id":{id},"conversation":"{conversation}",{op}}}"#));
        }
    }
    let (replies, status) = pipe.end();
    let ids: Vec<_> = replies.iter().map(|reply| reply["id"].as_u64().unwrap()).collect();
    for conversation in 0..40 {
        let own: Vec<_> = ids.iter().filter(|id| *id / 3 == conversation).collect();
        assert!(own.len() == 3 && own.is_sorted(), "{own:?}");
    }
    assert!(status.success(), "{status}");
}

#[test]
fn a_flood_is_told_overloaded_and_served_again_afterwards() {
    let mut pipe = Pipe::start("tiny-plain", &["--set", "limits.requests=2"]);
    for id in 0..200 {
        pipe.send(json!({"id": id, "op": "step", "conversation": "a", "text": "a", "count": 2}).to_string());
    }
    let replies: Vec<_> = (0..200).map(|_| pipe.next()).collect();
    let (served, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply["ok"].is_object());
    assert!(!served.is_empty() && !refused.is_empty(), "{} served, {} refused", served.len(), refused.len());
    for reply in refused {
        assert_eq!((code(reply), &reply["error"]["retryable"]), ("overloaded", &json!(true)), "{reply}");
    }
    assert!(pipe.ask(&good())["ok"].is_object());
}

#[test]
fn a_crashed_actor_is_restarted_and_the_answer_is_the_same() {
    let turns = ["def add(a, b):", " return", " c"];
    let tell = |pipe: &mut Pipe, text: &str| {
        let reply = pipe.ask(&json!({"id": 1, "op": "step", "conversation": "a", "text": text, "count": 4}));
        reply["ok"]["token_ids"].clone()
    };
    let mut undisturbed = Pipe::start("tiny-plain", &[]);
    let expected = turns.map(|turn| tell(&mut undisturbed, turn));
    let mut pipe = Pipe::start("tiny-plain", &["--chaos"]);
    let crash = json!({"id": 2, "op": "crash", "actor": 0});
    for (turn, expected) in turns.iter().zip(expected) {
        assert_eq!(tell(&mut pipe, turn), expected);
        assert_eq!(pipe.ask(&crash)["ok"], json!({}));
    }
    assert!(pipe.ask(&good())["ok"].is_object());
    let stats = pipe.ask(&json!({"id": 3, "op": "stats"}));
    let actor = &stats["ok"]["actors"][0];
    assert_eq!((&actor["restarts"], &actor["state"]), (&json!(3), &json!("ready")), "{stats}");
    let model = json!({"layers": 24, "hidden": 64, "vocab": 576, "inputs": 51, "window": 64, "sinks": 4});
    assert_eq!(stats["ok"]["model"], model);
    assert_eq!(code(&pipe.ask(&json!({"id": 4, "op": "crash", "actor": 7}))), "bad_request");
}

#[test]
fn a_hung_actor_is_given_up_and_nobody_waits_for_it_to_wake() {
    let mut pipe = Pipe::start("tiny-plain", &["--chaos", "--set", "brain.run_ms_max=1000"]);
    let began = Instant::now();
    assert!(pipe.ask(&good())["ok"].is_object());
    pipe.ask(&json!({"id": 1, "op": "hang", "actor": 0, "ms": 86_400_000}));
    let reply = pipe.ask(&good());
    assert_eq!(reply["ok"]["context_len"], 4, "{reply}");
    let stats = pipe.ask(&json!({"id": 2, "op": "stats"}));
    assert_eq!(stats["ok"]["actors"][0]["restarts"], 1, "{stats}");
    let (_, status) = pipe.end();
    assert!(status.success() && began.elapsed() < PATIENCE, "{status}");
}

#[test]
fn a_brain_that_is_down_says_why_and_comes_back_or_ends_the_program() {
    let dies = ["--chaos", "--set", "brain.restarts_max=0", "--set", "brain.retry_ms_min=200"];
    let crash = json!({"id": 1, "op": "crash", "actor": 0});
    let stats = json!({"id": 2, "op": "stats"});
    let mut pipe = Pipe::start("tiny-plain", &dies);
    assert_eq!(pipe.ask(&stats)["ok"]["health"], "ready");
    pipe.ask(&crash);
    let began = Instant::now();
    let mut seen = Vec::new();
    while seen.last() != Some(&json!("ready")) || seen.len() < 2 {
        let found = pipe.ask(&stats)["ok"].clone();
        assert!(found["health"] == "ready" || found["reason"].is_string(), "{found}");
        if seen.last() != Some(&found["health"]) {
            seen.push(found["health"].clone());
        }
        assert!(began.elapsed() < PATIENCE, "{seen:?}");
    }
    assert!(seen.contains(&json!("down")), "{seen:?}");
    assert!(pipe.ask(&good())["ok"].is_object());

    let stops: Vec<&str> = dies.into_iter().chain(["--set", "brain.when_down=stop"]).collect();
    let mut pipe = Pipe::start("tiny-plain", &stops);
    pipe.ask(&crash);
    // Its input is still open.
    assert_eq!(wait(&mut pipe.child).code(), Some(1));
}

#[test]
fn a_reader_that_leaves_ends_the_program_quietly() {
    let mut child = command(&fixture("tiny-plain"), &[]).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{}", good()).unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    drop::<BufReader<ChildStdout>>(output);
    // It notices with the next reply that it cannot write; its input stays open.
    let _ = writeln!(input, "{}", good());
    let status = wait(&mut child);
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(status.success() && errors.is_empty(), "{status}: {errors}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut child = command(&fixture("tiny-gqa-fp32"), &["--log", "trace"]).stderr(full).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", good()).unwrap();
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    let status = wait(&mut child);
    assert!(status.success() && output.contains("token_ids"), "{status}: {output}");
}

#[test]
fn conversations_are_listed_in_pages_and_inspected() {
    let mut pipe = Pipe::start("tiny-gqa-fp32", &[]);
    let names = ["a", "b", "c"];
    for name in names {
        pipe.ask(&json!({"id": 1, "op": "step", "conversation": name, "text": "Once upon a time", "count": 2}));
    }
    let first = pipe.ask(&json!({"id": 2, "op": "list", "limit": 2}))["ok"].clone();
    let rest = pipe.ask(&json!({"id": 3, "op": "list", "limit": 2, "after": first["next"]}))["ok"].clone();
    assert!(rest.get("next").is_none(), "{rest}");
    let all = [&first, &rest].into_iter().flat_map(|page| page["conversations"].as_array().unwrap());
    let mut listed: Vec<&str> = all.map(|it| it["conversation"].as_str().unwrap()).collect();
    listed.sort_unstable();
    assert_eq!(listed, names);
    let found = pipe.ask(&json!({"id": 4, "op": "inspect", "conversation": "b"}))["ok"].clone();
    assert_eq!(
        (&found["dwelling"], &found["requests"], &found["sharing"]),
        (&json!("resident"), &json!(0), &json!("all"))
    );
    assert_eq!(found["total"], found["context_len"], "{found}");
    let page = found["kv_bytes"].as_u64().unwrap();
    assert!(page > 0 && found["shared_bytes"] == page, "three conversations hold one page: {found}");
    assert_eq!(code(&pipe.ask(&json!({"id": 5, "op": "inspect", "conversation": "d"}))), "unknown_conversation");
    assert_eq!(code(&pipe.ask(&json!({"id": 6, "op": "list", "limit": 0}))), "bad_request");
    assert!(pipe.end().1.success());
}

#[test]
fn without_input_it_ends_at_once() {
    let (replies, status) = Pipe::start("tiny-plain", &[]).end();
    assert!(replies.is_empty() && status.success());
}

#[test]
fn scores_add_up_to_the_steps_log_probabilities() {
    let mut pipe = Pipe::start("tiny-plain", &[]);
    let step = pipe.ask(&json!({"id": 1, "op": "step", "conversation": "a", "text": "ab", "count": 4, "top": 2}));
    let (tokens, logprobs) = (&step["ok"]["token_ids"], &step["ok"]["logprobs"]);
    assert_eq!(step["ok"]["top"][0][0], json!([tokens[0], logprobs[0]]));
    pipe.ask(&json!({"id": 2, "op": "step", "conversation": "b", "text": "ab", "count": 0}));
    let score = pipe.ask(&json!({"id": 3, "op": "score", "conversation": "b", "token_ids": tokens}));
    for (step, score) in logprobs.as_array().unwrap().iter().zip(score["ok"]["logprobs"].as_array().unwrap()) {
        let (step, score) = (step.as_f64().unwrap(), score.as_f64().unwrap());
        assert!((step - score).abs() < 1e-4, "{step} {score}");
    }
}

/// Each turn of the reference conversations: a vector, then the steps; what is `expected` of them.
fn check_references(form: &str, logprob_tolerance: f32, hidden_tolerance: f32) {
    let last = ["--set", "embedding.pooling=last", "--set", "embedding.normalize=false", "--set", "window.size=256"];
    let mut pipe = Pipe::start(form, &last);
    for (index, turns) in references().iter().enumerate() {
        for turn in turns {
            let (text, generated) = (&turn["text"], turn["generated"].as_array().unwrap());
            let conversation = format!("{index}");
            let vector = pipe.ask(&json!({"id": 1, "op": "embed", "conversation": conversation, "text": text}));
            assert_eq!(vector["ok"]["context_len"], turn["context_len"], "{form} {index}");
            let hidden = numbers(&turn["last_hidden"]);
            let largest = hidden.iter().fold(0f32, |m, x| m.max(x.abs()));
            assert!(largest_difference(&numbers(&vector["ok"]["embedding"]), &hidden) < hidden_tolerance * largest);
            let step = json!({"id": 2, "op": "step", "conversation": conversation, "count": generated.len(), "top": 5});
            let step = pipe.ask(&step);
            for (place, expected) in generated.iter().enumerate() {
                assert_eq!(step["ok"]["token_ids"][place], expected["token_id"], "{form} {index} {place}");
                for (found, expected) in pairs(&step["ok"]["top"][place]).iter().zip(pairs(&expected["top"])) {
                    assert!((found - expected).abs() < logprob_tolerance, "{form} {index} {place}");
                }
            }
        }
    }
}

/// The log-probabilities of a list of `[id, logprob]`.
fn pairs(top: &Value) -> Vec<f32> {
    top.as_array().unwrap().iter().map(|pair| pair[1].as_f64().unwrap() as f32).collect()
}

#[test]
fn f32_and_f16_forms_answer_as_transformers() {
    // The tolerances of reference.rs, which says why.
    check_references("tiny-plain", 1e-4, 1e-4);
    check_references("tiny-gqa-fp32", 1e-4, 1e-4);
    check_references("tiny-plain-f16", 1e-2, 1e-2);
}

#[test]
fn the_quantised_form_answers_as_the_runtime_alone() {
    let references = references();
    let expected = run_cuts(&fixture("tiny-gqa-int4"), &references, None);
    let mut pipe = Pipe::start("tiny-gqa-int4", &["--set", "window.size=256"]);
    for (index, turns) in references.iter().enumerate() {
        for (turn, expected) in turns.iter().zip(expected[index].as_array().unwrap()) {
            let count = expected["token_ids"].as_array().unwrap().len();
            let step = json!({"id": 1, "op": "step", "conversation": format!("{index}"), "text": turn["text"], "count": count});
            let step = pipe.ask(&step);
            assert_eq!(step["ok"]["token_ids"], expected["token_ids"], "{index}");
            let worst = largest_difference(&numbers(&step["ok"]["logprobs"]), &numbers(&expected["logprobs"]));
            assert!(worst < 1e-4, "{index}: {worst}");
        }
    }
}

/// Tokens for images, which a graph that reads text has no rows for, are in the tokenizer all the same.
#[test]
fn a_text_with_a_token_that_the_graph_does_not_know_is_refused() {
    let model = copy("tiny-gqa-fp32");
    let file = model.path().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let added = tokenizer["added_tokens"].as_array_mut().unwrap();
    // Ids without a gap, as the tokenizer library wants them.
    for id in 512..=576 {
        let mut token = added[0].clone();
        token["id"] = json!(id);
        token["content"] = json!(format!("<image_{id}>"));
        added.push(token);
    }
    std::fs::write(&file, tokenizer.to_string()).unwrap();
    let mut pipe = Pipe::start(model.path().to_str().unwrap(), &[]);
    let score = |id: u32, text: &str| json!({"id": id, "op": "score", "conversation": "a", "text": text});
    let refused = pipe.ask(&score(1, "the man <image_576>"));
    assert_eq!(code(&refused), "invalid_token", "{refused}");
    // Its neighbour is in the vocabulary, and the conversation is as it was.
    let served = pipe.ask(&score(2, "<image_575>"));
    assert_eq!(served["ok"]["context_len"], 1, "{served}");
}
