//! `motorbrain chat`, whose lines come from a pipe.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{fs, io::Write as _, path::Path};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    common::{copy, fixture},
    ran::{Ran, command},
};

/// It has the markers of ChatML.
const MODEL: &str = "tiny-gqa-fp32";

fn chat(arguments: &[&str]) -> std::process::Command {
    command(
        MODEL,
        &[&["chat", "--count", "8", "--temperature", "1", "--seed", "1", "--set", "window.size=256"], arguments]
            .concat(),
    )
}

/// A file in a folder of its own.
fn file(name: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name).to_str().unwrap().to_owned();
    (folder, file)
}

fn messages(file: &str) -> Vec<(String, String)> {
    let list: Vec<Value> = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let text = |message: &Value, key: &str| message[key].as_str().unwrap().to_owned();
    list.iter().map(|message| (text(message, "role"), text(message, "content"))).collect()
}

/// The whole number before these words.
fn number(text: &str, words: &str) -> usize {
    let before = text.split(words).next().unwrap();
    before.split(|other: char| !other.is_ascii_digit()).next_back().unwrap().parse().unwrap()
}

#[test]
fn lines_are_turns_of_one_chat_that_reads_what_is_new() {
    let (_folder, saved) = file("said.json");
    let input = format!("the man\n\nup\n/stats\n/save {saved}\n/quit\nnever said\n");
    let ran = Ran::of(chat(&["--system", "the other words"]), &input);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let (answers, stats) = ran.stdout.rsplit_once("\nlast answer: ").unwrap();
    let said = messages(&saved);
    let roles: Vec<&str> = said.iter().map(|(role, _)| &**role).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "assistant"]);
    assert_eq!((&*said[0].1, &*said[1].1, &*said[3].1), ("the other words", "the man", "up"));
    let ended = |text: &str| if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
    let shown = ended(&said[2].1) + &ended(&said[4].1);
    assert!(shown.len() > 2 && answers.starts_with(&shown), "{answers:?} {said:?}");

    // The window holds the second turn's prompt and its answer; of the prompt the first turn was not read again.
    let (read, reused, tokens) = (number(stats, " tokens read"), number(stats, " reused"), number(stats, " tokens at"));
    assert_eq!(number(&ran.stdout, " of 256 tokens in the window"), read + reused + tokens, "{}", ran.stdout);
    assert!(reused > 20 && read < reused, "{stats}");
}

#[test]
fn what_was_saved_is_gone_on_with_as_if_it_had_not_ended() {
    let (_folder, saved) = file("said.json");
    let whole = Ran::well(chat(&[]), &format!("the man\nup\n/save {saved}\nother\n"));
    let last = |text: &str| text.lines().last().map(str::to_owned);
    let expected = last(&whole);
    assert!(expected.is_some());
    assert_eq!(last(&Ran::well(chat(&["--messages", &saved]), "other\n")), expected);
    assert_eq!(last(&Ran::well(chat(&[]), &format!("no\n/load {saved}\nother\n"))), expected);
    // A new one is another.
    assert_ne!(last(&Ran::well(chat(&[]), "other\n")), expected);
}

#[test]
fn a_fork_goes_its_own_way() {
    let ((_folder, here), (_other, there)) = (file("here.json"), file("there.json"));
    let input = format!(
        "the man\n/fork end\n/stats\nup\n/switch\n/save {there}\n/switch chat\n/save {here}\n/reset\n/switch\n"
    );
    let ran = Ran::of(chat(&[]), &input);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("  chat: 2 messages\n* end: 4 messages\n"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("* chat: 0 messages\n  end: 4 messages\n"), "{}", ran.stdout);
    assert!(number(&ran.stdout, " of 256 tokens in the window") > 8, "a fork stands where it was made");
    let (here, there) = (messages(&here), messages(&there));
    assert_eq!((here.len(), there.len(), &here[..]), (2, 4, &there[..2]));
    assert!(ran.tells("`/switch chat` goes back"), "{}", ran.stderr);
}

#[test]
fn what_is_wrong_ends_a_chat_from_a_pipe() {
    let check = |ran: Ran, code: i32, words: &[&str]| {
        assert_eq!(ran.code, Some(code), "{ran:?}");
        words.iter().for_each(|words| assert!(ran.tells(words), "{words}: {}", ran.stderr));
        ran.stdout
    };
    let answered = Ran::well(chat(&[]), "the man\n");
    let unknown = Ran::of(chat(&[]), "the man\n/sing\nup\n");
    assert_eq!(check(unknown, 2, &["no command `/sing`", "/help, /reset, /fork"]), answered);
    check(Ran::of(chat(&[]), "/switch b\n"), 2, &["no conversation `b`, expected one of chat", "`/fork b`"]);
    check(Ran::of(chat(&[]), "/save nowhere/said.json\n"), 2, &["cannot write nowhere/said.json"]);
    check(Ran::of(chat(&["--messages", "nowhere.json"]), ""), 2, &["cannot read nowhere.json"]);
    check(Ran::of(chat(&["--top-p", "2"]), "up\n"), 2, &["top_p is 2"]);
    let long = "up ".repeat(300) + "\n";
    check(Ran::of(chat(&[]), &long), 2, &["no room for an answer in the window of 256", "`/reset` forgets"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_chat_from_a_pipe_in_the_middle_of_an_answer() {
    use std::io::Read as _;

    let long = ["chat", "--temperature", "1", "--seed", "1", "--set", "window.size=4096"];
    let mut child = command(MODEL, &long).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"the man\nup\n").unwrap();
    let mut begun = [0; 100];
    child.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    crate::signal::interrupt(&child);
    // Its input stays open.
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(130), &b""[..]));
    assert!(output.stdout.ends_with(b"\n"), "what was said is a line");
    drop(stdin);
}

#[test]
fn a_reader_that_leaves_ends_a_chat_quietly() {
    let mut child = chat(&[]).spawn().unwrap();
    drop(child.stdout.take());
    // Its input stays open.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"the man\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    drop(stdin);
}

#[test]
fn a_model_without_a_template_is_told() {
    let folder = copy("tiny-plain");
    fs::copy(fixture("tokenizers/llama2.json"), folder.path().join("tokenizer.json")).unwrap();
    let ran = Ran::of(command(folder.path(), &["chat"]), "hi\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), ""), "{ran:?}");
    assert!(ran.tells("has no chat template") && ran.tells("`motorbrain generate` needs none"), "{}", ran.stderr);
    let template = folder.path().join("mine.jinja");
    fs::write(&template, "{% for message in messages %}{{ message.content }}{% endfor %}").unwrap();
    let named = command(folder.path(), &["chat", "--count", "4", "--template", template.to_str().unwrap()]);
    assert!(!Ran::well(named, "the man\n").is_empty());
}

#[test]
fn a_file_of_something_else_is_neither_loaded_nor_replaced() {
    let (_folder, precious) = file("precious.json");
    fs::write(&precious, json!({"precious": true}).to_string()).unwrap();
    for (line, words) in [("/load", "holds no list of messages"), ("/save", "is there already and holds no messages")] {
        let ran = Ran::of(chat(&[]), &format!("{line} {precious}\n"));
        assert!(ran.code == Some(2) && ran.tells(words), "{ran:?}");
    }
    assert_eq!(fs::read_to_string(Path::new(&precious)).unwrap(), r#"{"precious":true}"#);
}
