//! A real Chromium, driven by WebDriver: as much of <https://www.w3.org/TR/webdriver2/> as the page's tests need.
//!
//! What it does is always waited for by a condition, never by a time. A browser ends with its value, whatever became of
//! its test.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::client::{Connection, PATIENCE, request};

/// Where this is `required`, a test that finds no browser fails; else it says that it is skipped.
const BROWSER: &str = "MOTORBRAIN_BROWSER";

/// Programs that will do, by their names on the `PATH`.
const BROWSERS: [&str; 4] = ["google-chrome", "google-chrome-stable", "chromium", "chromium-browser"];
const DRIVER: &str = "chromedriver";

/// How a browser is started: without a screen, for root as well, in a container's little shared memory, and so that no
/// name leads anywhere.
const ARGUMENTS: [&str; 6] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--window-size=1280,860",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// By this key an element's name comes, as the standard says.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys that are no characters, as the standard names them.
pub(crate) const TAB: char = '\u{e004}';
pub(crate) const ENTER: char = '\u{e007}';

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// `light` or `dark`.
    pub(crate) scheme: &'static str,
    /// Of the window, in pixels.
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// A browser with one window.
#[derive(Debug)]
pub(crate) struct Browser {
    driver: Child,
    address: SocketAddr,
    /// Empty until there is a window.
    session: String,
}

impl Browser {
    /// Opens one; `None` where this machine has none, which is said.
    pub(crate) async fn open() -> Option<Self> {
        let found = BROWSERS
            .into_iter()
            .find_map(on_path)
            .ok_or("no Chromium")
            .and_then(|browser| on_path(DRIVER).map(|driver| (browser, driver)).ok_or("no chromedriver"));
        match found {
            Ok((browser, driver)) => Some(Self::start(browser, driver).await),
            Err(lacking) if env::var(BROWSER).is_ok_and(|said| said == "required") => {
                panic!(
                    "{lacking} on the PATH, and {BROWSER} says that one is required (Debian: chromium, chromium-driver)"
                )
            }
            Err(lacking) => {
                skipped(lacking);
                None
            }
        }
    }

    async fn start(browser: PathBuf, driver: PathBuf) -> Self {
        let mut command = Command::new(driver);
        let driver = command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let unknown = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut it = Self { driver: driver.spawn().unwrap(), address: unknown, session: String::new() };
        let said = BufReader::new(it.driver.stdout.as_mut().unwrap()).lines().map_while(Result::ok);
        let port =
            said.filter_map(|line| line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok());
        it.address.set_port({ port }.next().expect("the driver says its port"));
        let options = json!({ "binary": browser, "args": ARGUMENTS });
        let wanted = json!({ "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } });
        let session = it.send("POST", "/session", &json!({ "capabilities": { "alwaysMatch": wanted } })).await;
        it.session = session["sessionId"].as_str().unwrap().to_owned();
        it
    }

    pub(crate) async fn go(&self, address: &str) {
        self.post("url", &json!({ "url": address })).await;
    }

    /// What an expression of JavaScript is.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        self.post("execute/sync", &json!({ "script": format!("return {expression}"), "args": [] })).await
    }

    /// Waits until an expression is true, or something else that is not nothing; returns it.
    pub(crate) async fn until(&self, expression: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let value = self.value(expression).await;
            if !matches!(&value, Value::Null | Value::Bool(false)) && value != "" && value != 0 {
                return value;
            }
            if Instant::now() > end {
                let shown = self.value("document.body.innerText").await;
                panic!("never: {expression}; the page says: {}", shown.as_str().unwrap_or_default());
            }
            sleep(BETWEEN_LOOKS).await;
        }
    }

    /// The text that is shown of the first element that a selector finds.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let element = self.element(selector).await;
        self.send("GET", &format!("{}/text", self.path(&element)), &Value::Null).await.as_str().unwrap().to_owned()
    }

    pub(crate) async fn click(&self, selector: &str) {
        let element = self.element(selector).await;
        self.post(&format!("{element}/click"), &json!({})).await;
    }

    /// Writes into a field in the place of what is there.
    pub(crate) async fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.post(&format!("{element}/clear"), &json!({})).await;
        self.post(&format!("{element}/value"), &json!({ "text": text })).await;
    }

    /// Presses keys, one after the other, wherever the focus is.
    pub(crate) async fn press(&self, keys: impl IntoIterator<Item = char>) {
        let strokes =
            keys.into_iter().flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })));
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": strokes.collect::<Vec<_>>() });
        self.post("actions", &json!({ "actions": [keyboard] })).await;
    }

    pub(crate) async fn look(&self, look: Look) {
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": look.scheme }] });
        self.tell_chromium("Emulation.setEmulatedMedia", scheme).await;
        let size = json!({ "width": look.width, "height": look.height, "deviceScaleFactor": 1, "mobile": false });
        self.tell_chromium("Emulation.setScrollbarsHidden", json!({ "hidden": true })).await;
        self.tell_chromium("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// What is seen, as PNG.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        let picture = self.send("GET", &self.path("screenshot"), &Value::Null).await;
        BASE64_STANDARD.decode(picture.as_str().unwrap()).unwrap()
    }

    /// What the console has said since it was last asked.
    pub(crate) async fn console(&self) -> Vec<String> {
        let said = self.post("se/log", &json!({ "type": "browser" })).await;
        said.as_array().unwrap().iter().map(|line| format!("{}: {}", line["level"], line["message"])).collect()
    }

    async fn tell_chromium(&self, command: &str, parameters: Value) {
        self.post("goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).await;
    }

    /// The path of an element.
    async fn element(&self, selector: &str) -> String {
        let found = self.post("element", &json!({ "using": "css selector", "value": selector })).await;
        format!("element/{}", found[ELEMENT].as_str().unwrap())
    }

    fn path(&self, command: &str) -> String {
        format!("/session/{}/{command}", self.session)
    }

    async fn post(&self, command: &str, body: &Value) -> Value {
        self.send("POST", &self.path(command), body).await
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let mut connection = Connection::open(self.address).await;
        connection.send(request(method, path, &[], &text)).await;
        let answer = connection.answer().await;
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.body);
        answer.json()["value"].take()
    }
}

impl Drop for Browser {
    /// A driver that is killed leaves its browser behind: it is told to end both, and answers when it has.
    fn drop(&mut self) {
        let end = || -> io::Result<usize> {
            let mut connection = TcpStream::connect(self.address)?;
            connection.set_read_timeout(Some(PATIENCE))?;
            connection.write_all(request("GET", "/shutdown", &[], "").as_bytes())?;
            connection.read(&mut [0])
        };
        // What is gone already is not ended.
        let _ = end();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Says so by no macro: what those write is only shown of tests that fail.
#[expect(clippy::explicit_write, reason = "a macro's words would be kept back")]
fn skipped(lacking: &str) {
    writeln!(io::stderr(), "skipped, a test of the page: {lacking} on the PATH").unwrap();
}

fn on_path(program: &str) -> Option<PathBuf> {
    let name = format!("{program}{}", env::consts::EXE_SUFFIX);
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(&name)).find(|path| path.is_file())
}
