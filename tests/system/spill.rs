//! Conversations that went to a file and came back: to the bit as if they had stayed, or noticed as what they are.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "what was measured is shown")]

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use crate::common::{copy, fixture, form, graph_cache, loader_of, model, root, text_tokens, window};
use motorbrain::{
    engine::{Activations, Form, FormOptions, OnnxLoader, WindowOptions},
    spill,
};
use motorbrain_actors::{
    engine::{Engine, EngineLoader, Row, Sampled, Sampling, SlotIndex, Want},
    job::History,
    keep::{Keep, KeepError, Kept, KeptId, Part},
    tokens::TokenId,
};
use motorbrain_testing::{FakeControl, FakeLoader, fake_info};
use tempfile::TempDir;

const ID: KeptId = KeptId(1);

pub(crate) fn paged(folder: &Path, window: WindowOptions) -> Arc<OnnxLoader> {
    let form = FormOptions { activations: Activations::F32, cache: Some(graph_cache()) };
    let loader = loader_of(model(folder), window, form);
    drop(loader.load().unwrap());
    assert!(matches!(loader.form(), Some(Form::Paged { .. })), "{}: {:?}", folder.display(), loader.form());
    Arc::new(loader)
}

fn keeper(folder: &Path, loader: &Arc<OnnxLoader>) -> Arc<dyn Keep> {
    spill::open(folder, None, Arc::clone(loader) as _).unwrap()
}

/// Gives `tokens` to a slot and samples one.
pub(crate) fn step(engine: &mut dyn Engine, slot: SlotIndex, state: &mut Kept, mut tokens: &[TokenId]) -> Sampled {
    let window = engine.info().window;
    loop {
        let number = state.history.total + tokens.len() as u64;
        let want = Want::Next { sampling: &Sampling::GREEDY, seed: 0, number, top: 5, guide: None };
        let output = engine.run(&[Row { slot, tokens, want }]).unwrap().next().unwrap();
        let context = Arc::make_mut(&mut state.history.tokens);
        context.extend(&tokens[..output.taken]);
        context.extend(output.sampled.as_ref().map(|sampled| sampled.token));
        let sinks = window.sinks.min(context.len());
        context.drain(sinks..sinks + output.dropped);
        state.history.total += (output.taken + usize::from(output.sampled.is_some())) as u64;
        state.floor = if output.dropped > 0 { window.size - window.slide } else { state.floor };
        state.resident.apply(engine.take_held(slot));
        tokens = &tokens[output.taken..];
        if let Some(sampled) = output.sampled {
            return sampled;
        }
    }
}

/// Where a conversation stands that has read so many tokens and sampled as many as are said.
pub(crate) fn conversation(loader: &OnnxLoader, tokens: &[TokenId], sampled: usize) -> Kept {
    let mut engine = loader.load().unwrap();
    let slot = engine.open().unwrap();
    let mut state = Kept::default();
    step(&mut *engine, slot, &mut state, tokens);
    (1..sampled).for_each(|_| drop(step(&mut *engine, slot, &mut state, &[])));
    state
}

/// The next tokens, with the bits of their log-probabilities.
pub(crate) fn goes_on(loader: &OnnxLoader, state: &Kept, count: usize) -> Vec<(TokenId, Vec<u32>)> {
    let mut engine = loader.load().unwrap();
    let slot = engine.adopt(&state.history.tokens, &state.resident).unwrap();
    let mut state = state.clone();
    let sampled = (0..count).map(|_| step(&mut *engine, slot, &mut state, &[]));
    sampled.map(|s| (s.token, s.top.iter().map(|(_, logprob)| logprob.to_bits()).collect())).collect()
}

pub(crate) fn bytes_of(loader: &OnnxLoader, state: &Kept) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, page) in state.resident.pages.iter().enumerate() {
        loader.save(page, (state.resident.kv_len - 32 * index).min(32), &mut bytes).unwrap();
    }
    bytes
}

fn histories(states: &[Kept]) -> Vec<History> {
    states.iter().map(|state| state.history.clone()).collect()
}

#[test]
fn what_comes_back_from_a_file_goes_on_to_the_bit() {
    let forms = ["tiny-plain", "tiny-plain-f16", "tiny-gqa-fp32", "tiny-gqa-int4"];
    // Without slides; with some; with so many that keys are kept in f32; with contexts that are whole pages.
    let windows = [window(256, 4, 64), window(50, 3, 11), window(40, 4, 1), window(64, 0, 32)];
    for (name, window) in forms.iter().flat_map(|name| windows.map(|window| (*name, window))) {
        let folder = tempfile::tempdir().unwrap();
        let loader = paged(&fixture(name), window);
        let keep = keeper(folder.path(), &loader);
        let text = text_tokens(&fixture(name), 70);
        let first = conversation(&loader, &text, 3);
        // With one that has gone on from it, as several answers do, and shares its full pages.
        let mut second = first.clone();
        let mut engine = loader.load().unwrap();
        let slot = engine.adopt(&second.history.tokens, &second.resident).unwrap();
        (0..9).for_each(|turn| drop(step(&mut *engine, slot, &mut second, &text[turn..turn + 2])));
        drop(engine);
        let states = [first, second];
        keep.put(ID, &"a".into(), &states).unwrap();
        let found = keep.take(ID, &"a".into(), &histories(&states)).unwrap();
        for (found, state) in found.iter().zip(&states) {
            assert!(bytes_of(&loader, found) == bytes_of(&loader, state), "{name} {window:?}");
            assert!(found.resident.pages.iter().all(|page| !state.resident.pages.contains(page)));
            assert_eq!((&found.history, found.floor), (&state.history, state.floor));
            assert!(goes_on(&loader, found, 50) == goes_on(&loader, state, 50), "{name} {window:?}");
        }
        // And what it does there is not seen by others: it comes back again as it was.
        let again = keep.take(ID, &"a".into(), &histories(&states)).unwrap();
        assert!(bytes_of(&loader, &again[0]) == bytes_of(&loader, &states[0]), "{name} {window:?}");
    }
}

/// The only file below a folder.
fn only_file(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let own = files.filter(|path| path.is_dir()).flat_map(|own| fs::read_dir(own).unwrap());
    let files: Vec<_> = own.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn each_page_that_is_flipped_and_each_cut_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let loader = paged(&fixture("tiny-plain-f16"), window(256, 4, 64));
    let keep = keeper(folder.path(), &loader);
    let states = [conversation(&loader, &text_tokens(&fixture("tiny-plain-f16"), 150), 1)];
    keep.put(ID, &"a".into(), &states).unwrap();
    let file = only_file(folder.path());
    let whole = fs::read(&file).unwrap();
    let take = || keep.take(ID, &"a".into(), &histories(&states));
    let page_bytes = |(index, page)| {
        let rows: usize = states[0].resident.kv_len - 32 * index;
        loader.saved_bytes(page, rows.min(32)).unwrap() + 16
    };
    let mut at = whole.len() - states[0].resident.pages.iter().enumerate().map(page_bytes).sum::<usize>();
    for (index, page) in states[0].resident.pages.iter().enumerate() {
        let length = page_bytes((index, page));
        for place in [0, 1, length / 2, length - 17, length - 16, length - 1] {
            let mut flipped = whole.clone();
            flipped[at + place] ^= 1 << (place % 8);
            fs::write(&file, flipped).unwrap();
            let told = take().unwrap_err();
            let is_told = matches!(told, KeepError::Altered { part: Part::Page(part), .. } if part == index);
            assert!(is_told, "byte {place} of page {index}: {told}");
        }
        at += length;
    }
    for length in (0..whole.len()).step_by(whole.len() / 50).chain([whole.len() - 1]) {
        fs::write(&file, &whole[..length]).unwrap();
        assert!(matches!(take(), Err(KeepError::Cut { .. })), "{length} bytes");
    }
    fs::write(&file, &whole).unwrap();
    assert!(bytes_of(&loader, &take().unwrap()[0]) == bytes_of(&loader, &states[0]));
}

#[test]
fn a_file_of_another_model_or_window_is_noticed() {
    let elsewhere = copy("tiny-gqa-fp32");
    let small = window(256, 4, 64);
    let others = [(elsewhere.path(), small, "model"), (&fixture("tiny-gqa-fp32"), window(256, 4, 63), "window")];
    let loader = paged(&fixture("tiny-gqa-fp32"), small);
    let tokens = text_tokens(&fixture("tiny-gqa-fp32"), 40);
    for (model, window, differs) in others {
        let folders: [TempDir; 2] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let other = paged(model, window);
        let [states, theirs] = [&loader, &other].map(|loader| [conversation(loader, &tokens, 1)]);
        let [keep, their_keep] = [(&folders[0], &loader), (&folders[1], &other)].map(|(at, of)| keeper(at.path(), of));
        keep.put(ID, &"a".into(), &states).unwrap();
        their_keep.put(ID, &"a".into(), &theirs).unwrap();
        fs::write(only_file(folders[0].path()), fs::read(only_file(folders[1].path())).unwrap()).unwrap();
        let told = keep.take(ID, &"a".into(), &histories(&states)).unwrap_err();
        assert!(matches!(told, KeepError::Foreign { what, .. } if what == differs), "{told}");
        // Pages of another loader are not saved at all.
        assert!(matches!(keep.put(KeptId(2), &"b".into(), &theirs), Err(KeepError::Page(_))));
    }
}

/// Where a program of this test spills that is killed meanwhile.
const SPILLS_TO: &str = "MOTORBRAIN_TEST_SPILLS_TO";

fn fake() -> FakeLoader {
    FakeLoader { info: fake_info(), control: FakeControl::default() }
}

fn fake_state(loader: &FakeLoader) -> Kept {
    let mut engine = loader.load().unwrap();
    let slot = engine.open().unwrap();
    let mut state = Kept::default();
    let tokens: Vec<_> = (0..14).map(TokenId).collect();
    step(&mut *engine, slot, &mut state, &tokens);
    state
}

#[test]
fn whoever_is_killed_while_it_spills_leaves_nothing_for_the_next() {
    if let Some(folder) = env::var_os(SPILLS_TO) {
        let loader = fake();
        let states = [fake_state(&loader)];
        let keep = spill::open(Path::new(&folder), None, Arc::new(loader)).unwrap();
        for id in 0.. {
            keep.put(KeptId(id % 5), &"a".into(), &states).unwrap();
            println!("kept {id}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let count = |suffix: &str| {
        let all = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| path.to_str().unwrap().ends_with(suffix)).count()
    };
    let (mut left, mut unfinished) = (0, 0);
    for round in 0..50 {
        let this = "spill::whoever_is_killed_while_it_spills_leaves_nothing_for_the_next";
        let mut program = Command::new(env::current_exe().unwrap());
        program.args([this, "--exact", "--nocapture"]).env(SPILLS_TO, folder.path());
        let mut child = program.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let kept = lines.map_while(Result::ok).filter(|line| line.contains("kept")).take(1 + round % 7).count();
        assert_eq!(kept, 1 + round % 7, "it spills until it is killed");
        child.kill().unwrap();
        child.wait().unwrap();
        // A folder with its lock, of this one alone: it has removed those of the ones before.
        assert_eq!(count(""), 2, "round {round}");
        let own = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
        let files: Vec<_> = fs::read_dir(own.unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
        left += files.len();
        unfinished += files.iter().filter(|file| file.extension().is_some()).count();
    }
    println!("50 programs that were killed left {left} files, {unfinished} of them half-written");
    assert!(left > 0);
    let loader = fake();
    let states = [fake_state(&loader)];
    let keep = spill::open(folder.path(), None, Arc::new(loader)).unwrap();
    assert_eq!(count(""), 2);
    keep.put(ID, &"a".into(), &states).unwrap();
    keep.take(ID, &"a".into(), &histories(&states)).unwrap();
    drop(keep);
    assert_eq!(count(""), 0);
}

/// Beside reading it again, on the default model; alternated, so that both are measured in the same state of the machine.
#[test]
fn coming_back_from_a_file_is_faster_than_reading_again() {
    let folder = tempfile::tempdir().unwrap();
    let dir = root().join(".motorbrain/models/smollm2-135m");
    let loader = Arc::new(loader_of(model(&dir), window(2048, 4, 512), form()));
    let mut engine = loader.load().unwrap();
    let keep = keeper(folder.path(), &loader);
    let tokens = text_tokens(&dir, 1024);
    let (mut reading, mut putting, mut taking, mut bytes) = (f64::MAX, f64::MAX, f64::MAX, 0);
    for _ in 0..2 {
        let begun = Instant::now();
        let (slot, mut state) = (engine.open().unwrap(), Kept::default());
        step(&mut *engine, slot, &mut state, &tokens);
        reading = reading.min(begun.elapsed().as_secs_f64());
        engine.close(slot);
        let states = [state];
        let begun = Instant::now();
        bytes = keep.put(ID, &"a".into(), &states).unwrap();
        putting = putting.min(begun.elapsed().as_secs_f64());
        let histories = histories(&states);
        drop(states);
        let begun = Instant::now();
        let found = keep.take(ID, &"a".into(), &histories).unwrap();
        taking = taking.min(begun.elapsed().as_secs_f64());
        drop(found);
    }
    println!(
        "1,024 tokens, {:.0} MB: read again in {:.0} ms, put in {:.0} ms, taken in {:.0} ms: {:.1} times as fast",
        bytes as f64 / 1e6,
        reading * 1e3,
        putting * 1e3,
        taking * 1e3,
        reading / taking,
    );
    assert!(reading > 5.0 * taking);
}
