//! The page at `/`, in a real Chromium: what a person sees of a chat, of a kill, of vectors.
//!
//! The brain has the fake, whose runs wait where a test says so: an answer that is looked at, stopped or has its actor
//! killed in the middle really is in its middle then.

use std::{fs, path::Path};

use motorbrain::Settings;
use motorbrain_server::{Access, Tokens};
use motorbrain_testing::Fault;
use serde_json::{Value, json};

use tokio::time::timeout;

use crate::{
    browser::{Browser, ENTER, Look, TAB},
    client::PATIENCE,
    serving::Serving,
};

const LIGHT: Look = Look { scheme: "light", width: 1280, height: 860 };
const DARK: Look = Look { scheme: "dark", ..LIGHT };
const PHONE: Look = Look { width: 390, height: 844, ..LIGHT };

/// What was said last, and whether nothing is being said.
const SAID: &str = "[...document.querySelectorAll('#said .assistant')].at(-1)?.textContent";
const SENDABLE: &str = "!document.getElementById('send').hidden";

/// The page of a server of its own, where there is a browser.
struct Page {
    server: Serving,
    browser: Browser,
}

impl Page {
    async fn open(access: Access, change: impl FnOnce(&mut Settings)) -> Option<Self> {
        let browser = Browser::open().await?;
        let server = Serving::start(true, access, change).await;
        browser.go(&format!("http://{}/", server.address)).await;
        Some(Self { server, browser })
    }

    /// One that has found its brain ready.
    async fn ready() -> Option<Self> {
        let page = Self::open(Access::ThisMachine, |_| {}).await?;
        page.browser.until("document.getElementById('health').textContent === 'ready'").await;
        Some(page)
    }

    /// Says something by the form.
    async fn say(&self, words: &str) {
        self.browser.fill("#words", words).await;
        self.browser.click("#send").await;
    }

    /// Says something, and waits for the answer's end; returns it.
    async fn answered(&self, words: &str) -> String {
        self.say(words).await;
        self.answer().await
    }

    /// What was answered last, once that is all.
    async fn answer(&self) -> String {
        self.browser.until(SENDABLE).await;
        self.browser.value(SAID).await.as_str().unwrap().to_owned()
    }

    /// Waits until the actor hangs in a run behind so many; what was said by then.
    async fn in_the_middle(&self, runs: u64) -> String {
        let waits = self.server.control.until(|tally| tally.hanging == 1 && tally.runs > runs);
        timeout(PATIENCE, waits).await.expect("an answer with a middle");
        self.browser.until(SAID).await.as_str().unwrap().to_owned()
    }

    /// Ends all of it: nothing may have come from elsewhere, and the console may have said nothing.
    async fn end(self) {
        self.end_with(&[]).await;
    }

    /// Ends all of it, where the console has said what has these words in it, and no more.
    async fn end_with(self, complaints: &[&str]) {
        let loaded = "performance.getEntriesByType('resource').map(it => it.name)";
        let loaded = self.browser.value(loaded).await;
        let home = format!("http://{}/", self.server.address);
        let loaded: Vec<&str> = loaded.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(loaded.len() > 3, "{loaded:?}");
        assert!(loaded.iter().all(|it| it.starts_with(&home) || it.starts_with("data:")), "{loaded:?}");
        let said = self.browser.console().await;
        let expected =
            said.len() == complaints.len() && said.iter().zip(complaints).all(|(it, word)| it.contains(word));
        assert!(expected, "{said:?}");
        drop(self.browser);
        self.server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_shown_as_it_comes() {
    let Some(page) = Page::ready().await else { return };
    for run in [8, 16] {
        page.server.control.fault_in_run(run, Fault::HANG);
    }
    page.say("Hello there").await;
    let first = page.in_the_middle(0).await;
    let runs = page.server.control.tally().runs;
    assert!(page.browser.value("!document.getElementById('stop').hidden").await == true);
    page.server.control.release_hangs();
    page.in_the_middle(runs).await;
    let second = page.browser.until(&format!("{SAID} !== {} && {SAID}", json!(first))).await;
    let second = second.as_str().unwrap();
    assert!(second.len() > first.len() && second.starts_with(&first), "{first:?}, {second:?}");
    page.server.control.release_hangs();
    let whole = page.answer().await;
    assert!(whole.len() > second.len() && whole.starts_with(second), "{second:?}, {whole:?}");
    let counted = page.browser.text("#counted").await;
    assert!(counted.contains("tokens of prompt") && counted.contains("answered"), "{counted}");
    // What is sent whole again is not read again.
    page.answered("And then?").await;
    let counted = page.browser.text("#counted").await;
    assert!(!counted.contains(", 0 of them not read again"), "{counted}");
    page.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_stopped_stays_as_far_as_it_came() {
    let Some(page) = Page::ready().await else { return };
    page.server.control.fault_in_run(8, Fault::HANG);
    page.say("Hello there").await;
    let said = page.in_the_middle(0).await;
    page.browser.click("#stop").await;
    page.browser.until(SENDABLE).await;
    assert_eq!(page.browser.text("#said li:last-child").await, "stopped");
    let stopped = page.browser.value(SAID).await;
    assert!(stopped.as_str().unwrap().starts_with(&said), "{said:?}, {stopped}");
    page.server.control.release_hangs();
    assert!(!page.answered("Go on").await.is_empty());
    assert_eq!(page.browser.value("document.querySelector('#said .assistant').textContent").await, stopped);
    page.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_an_answer_changes_none_of_it() {
    let Some(page) = Page::ready().await else { return };
    let undisturbed = page.answered("Hello there").await;
    page.browser.click("#reset").await;
    page.server.control.fault_in_run(8, Fault::HANG);
    page.say("Hello there").await;
    page.in_the_middle(0).await;
    page.browser.click("#kill").await;
    page.browser
        .until("[...document.querySelectorAll('#said .note')].some(it => it.textContent === 'actor 0 is killed')")
        .await;
    page.server.control.release_hangs();
    page.browser.until(SENDABLE).await;
    let answers = "[...document.querySelectorAll('#said .assistant')].map(it => it.textContent)";
    assert_eq!(page.browser.value(answers).await, json!([undisturbed]));
    // Its death and its return are told, and counted.
    for event in ["actor_dead", "actor_back"] {
        let told = format!("[...document.querySelectorAll('#events b')].some(it => it.textContent === '{event}')");
        page.browser.until(&told).await;
    }
    let actor = "[...document.querySelectorAll('#actors td')].map(it => it.textContent).slice(0, 3).join()";
    page.browser.until(&format!("{actor} === '0,ready,1'")).await;
    assert!(!page.answered("And then?").await.is_empty());
    page.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_leaves_nothing() {
    let Some(page) = Page::ready().await else { return };
    // Also where there is nothing to be left.
    page.browser.click("#reset").await;
    let first = page.answered("Hello there").await;
    let counted = page.browser.text("#counted").await;
    let prompt = |counted: &str| counted.split(',').next().map(str::to_owned);
    page.browser.until("document.querySelectorAll('#conversations tbody tr').length === 1").await;
    page.browser.click("#reset").await;
    assert_eq!(page.browser.value("document.getElementById('said').childElementCount").await, 0);
    assert_eq!(page.browser.text("#counted").await, "");
    page.browser.until("document.querySelectorAll('#conversations tbody tr').length === 0").await;
    assert_eq!(page.server.get("/brain/conversations").await.ok()["conversations"], json!([]));
    // What was said before is not sent with what is said now.
    assert_eq!(page.answered("Hello there").await, first);
    assert_eq!(prompt(&page.browser.text("#counted").await), prompt(&counted));
    page.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_shown_with_its_arguments() {
    let Some(page) = Page::ready().await else { return };
    let parameters = json!({"type": "object", "properties": {"place": {"enum": ["Paris"]}}, "required": ["place"],
                            "additionalProperties": false});
    let tools = json!([{"type": "function", "function": {"name": "weather", "parameters": parameters}}]);
    page.browser.click("summary").await;
    page.browser.fill("#tools", "[").await;
    page.say("How is the weather?").await;
    assert!(page.browser.text("#wrong").await.starts_with("the tools are no JSON"));
    page.browser.fill("#tools", &tools.to_string()).await;
    page.browser.value("document.getElementById('choice').value = 'required'").await;
    page.browser.click("#send").await;
    page.browser.until(SENDABLE).await;
    assert_eq!(page.browser.text("#said .call").await, r#"weather({"place": "Paris"})"#);
    assert_eq!(page.browser.text("#wrong").await, "");
    page.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_compared_as_numbers_and_as_a_picture() {
    let Some(page) = Page::ready().await else { return };
    page.browser.fill("#one", "a cat").await;
    page.browser.fill("#others", "a dog\na cat\n\nlet x = 1;").await;
    page.browser.click("#compare button").await;
    page.browser.until("document.querySelectorAll('#alike circle').length === 4").await;
    let rows = "[...document.querySelectorAll('#alike tr')].map(row => [...row.cells].map(cell => cell.textContent))";
    let rows = page.browser.value(rows).await;
    let likeness = |row: &Value| row[0].as_str().unwrap().parse::<f64>().unwrap();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert!(rows.is_sorted_by(|a, b| likeness(a) >= likeness(b)), "{rows:?}");
    assert!(rows.iter().all(|row| likeness(row).abs() <= 1.001), "{rows:?}");
    page.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_alone_are_enough() {
    let Some(page) = Page::ready().await else { return };
    let focus = async |id: &str| {
        for _ in 0..40 {
            if page.browser.value("document.activeElement.id").await == id {
                return;
            }
            page.browser.press([TAB]).await;
        }
        panic!("no way to `{id}`");
    };
    focus("words").await;
    page.browser.press("Hello there".chars().chain([ENTER])).await;
    assert!(!page.answer().await.is_empty());
    assert_eq!(page.browser.text("#said .user").await, "Hello there");
    assert_eq!(page.browser.value("document.activeElement.id").await, "words");
    page.server.control.fault_in_run(8, Fault::HANG);
    page.browser.press("And then?".chars().chain([ENTER])).await;
    page.in_the_middle(0).await;
    focus("stop").await;
    page.browser.press([ENTER]).await;
    page.browser.until(SENDABLE).await;
    page.server.control.release_hangs();
    focus("kill").await;
    // Whoever has only keys sees where they are.
    assert_eq!(page.browser.value("getComputedStyle(document.activeElement).outlineStyle").await, "solid");
    page.browser.press([ENTER]).await;
    page.browser.until("[...document.querySelectorAll('#events b')].some(it => it.textContent === 'actor_back')").await;
    focus("reset").await;
    page.browser.press([ENTER]).await;
    page.browser.until("document.getElementById('said').childElementCount === 0").await;
    page.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_read_by_day_and_night_and_on_a_phone() {
    let Some(page) = Page::ready().await else { return };
    page.answered(&"one-long-word-".repeat(20)).await;
    page.browser.click("#kill").await;
    page.browser.click("#compare button").await;
    page.browser.until("document.querySelector('#alike svg')").await;
    let mut grounds = Vec::new();
    for look in [LIGHT, DARK, PHONE] {
        page.browser.look(look).await;
        page.browser.until(&format!("innerWidth === {}", look.width)).await;
        let fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth";
        assert_eq!(page.browser.value(fits).await, true, "{look:?}");
        grounds.push(page.browser.value("getComputedStyle(document.body).backgroundColor").await);
        for text in ["#words", "#counted", "#model", "nav a", "#health", "#kill", "#said .note"] {
            let contrast = page.browser.value(&format!("({CONTRAST})(document.querySelector('{text}'))")).await;
            assert!(contrast.as_f64() >= Some(4.5), "{text} at {look:?}: {contrast}");
        }
    }
    assert_eq!(grounds[0], grounds[2]);
    assert_ne!(grounds[0], grounds[1]);
    page.end().await;
}

/// How much a text stands out from its ground, by WCAG 2: 4.5 is enough for everybody.
const CONTRAST: &str = "element => {
    const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = colour => numbers(colour).slice(0, 3).map(x => x / 255)
        .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
        .reduce((sum, x, index) => sum + x * [0.2126, 0.7152, 0.0722][index], 0);
    let ground = element;
    while (numbers(getComputedStyle(ground).backgroundColor)[3] === 0) ground = ground.parentElement;
    const both = [light(getComputedStyle(element).color), light(getComputedStyle(ground).backgroundColor)];
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
}";

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_where_one_is_needed() {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let tokens = Access::Tokens(Tokens::of_text(TOKEN, "here").unwrap());
    let Some(page) = Page::open(tokens, |_| {}).await else { return };
    let asked = "!document.getElementById('door').hidden";
    page.browser.until(asked).await;
    page.browser.fill("#token", "0123456789abcdef").await;
    page.browser.click("#door button").await;
    page.browser.until("!document.getElementById('wrong').hidden").await;
    assert_eq!(page.browser.value(asked).await, true);
    page.browser.fill("#token", TOKEN).await;
    page.browser.click("#door button").await;
    page.browser.until("document.getElementById('health').textContent === 'ready'").await;
    assert_eq!(page.browser.value(asked).await, false);
    assert!(!page.answered("Hello there").await.is_empty());
    page.end_with(&["401", "401"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_interface_is_shown_as_it_is_described() {
    let Some(page) = Page::ready().await else { return };
    page.browser.click("a[href='/docs']").await;
    page.browser.until("document.querySelectorAll('#paths details').length > 20").await;
    let path = "[...document.querySelectorAll('summary')].find(it => it.textContent.includes('/v1/chat/completions'))";
    page.browser.value(&format!("{path}.click()")).await;
    page.browser.until(&format!("{path}.parentElement.innerText.includes('temperature')")).await;
    page.end().await;
}

/// The default model, a kill in the middle of an answer, and the answer after it. What it looks like is left behind as
/// pictures, in `target/tmp/pictures`.
#[tokio::test(flavor = "multi_thread")]
async fn the_default_model_goes_on_behind_a_kill() {
    let Some(browser) = Browser::open().await else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let server = Serving::start(false, Access::ThisMachine, |settings| {
        settings.model.dir = Some(root.join(".motorbrain/models/smollm2-135m"));
        settings.server.models = vec!["smollm2-135m".to_owned()];
        settings.brain.actors = 2;
    });
    let page = Page { server: server.await, browser };
    page.browser.go(&format!("http://{}/", page.server.address)).await;
    page.browser.until("document.getElementById('health').textContent === 'ready'").await;
    page.browser.click("summary").await;
    page.browser.fill("#most", "48").await;
    page.browser.click("summary").await;
    page.say("Tell me about the sea in three sentences.").await;
    let begun = page.browser.until(&format!("{SAID}?.length > 60 && {SAID}")).await;
    page.browser.click("#kill").await;
    let whole = page.answer().await;
    assert!(whole.starts_with(begun.as_str().unwrap()), "{begun}, {whole:?}");
    page.browser.until("[...document.querySelectorAll('#events b')].some(it => it.textContent === 'actor_back')").await;
    assert!(!page.answered("What lives in it?").await.is_empty());
    page.browser.click("#compare button").await;
    page.browser.until("document.querySelector('#alike svg')").await;
    page.browser.until("document.querySelector('#figures polyline').points.length > 5").await;
    page.browser
        .until("[...document.querySelectorAll('#actors td:nth-child(4)')].every(it => it.textContent === '0')")
        .await;
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pictures");
    fs::create_dir_all(&pictures).unwrap();
    for (place, look) in [("", LIGHT), ("", DARK), ("-phone", PHONE), ("-phone", Look { scheme: "dark", ..PHONE })] {
        page.browser.look(look).await;
        page.browser.until(&format!("innerWidth === {}", look.width)).await;
        page.browser.value("document.getElementById('said').lastElementChild.scrollIntoView({ block: 'end' })").await;
        page.browser.value("scrollTo(0, 0)").await;
        let file = pictures.join(format!("page{place}-{}.png", look.scheme));
        fs::write(file, page.browser.picture().await).unwrap();
    }
    page.end().await;
}
