//! A server that is asked: on a tiny real model, or on a fake of it whose faults are told.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use motorbrain::{
    Brain, Parts, Settings, Slides, Window,
    model::{Model, ModelOptions},
};
use motorbrain_actors::{
    engine::{EngineInfo, EngineLoader},
    policy::ListAsk,
};
use motorbrain_server::{Access, Served, Server, install_metrics};
use motorbrain_testing::{FakeControl, FakeLoader, fake_info};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    sync::oneshot,
    task::{JoinHandle, yield_now},
    time::timeout,
};

use crate::client::{Answer, Connection, request};

/// The name of the model.
pub(crate) const MODEL: &str = "tiny";

/// A template as those of Qwen are, without tools.
const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
                        {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A running server.
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    pub(crate) brain: Brain,
    /// Of a fake.
    pub(crate) control: FakeControl,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<bool>,
    _folder: TempDir,
}

impl Serving {
    /// On the real model.
    pub(crate) async fn real() -> Self {
        Self::start(false, Access::ThisMachine, |_| {}).await
    }

    /// On the fake, with settings of its own.
    pub(crate) async fn fake(change: impl FnOnce(&mut Settings)) -> Self {
        Self::start(true, Access::ThisMachine, change).await
    }

    pub(crate) async fn start(fake: bool, access: Access, change: impl FnOnce(&mut Settings)) -> Self {
        install_metrics();
        let folder = folder();
        let mut settings = Settings::default();
        settings.server.address = "127.0.0.1:0".parse().unwrap();
        settings.server.models = vec![MODEL.to_owned(), "other".to_owned()];
        settings.model.dir = Some(folder.path().to_owned());
        settings.runtime.cache = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("graphs"));
        settings.runtime.threads = Some(1);
        settings.brain.chaos = true;
        change(&mut settings);
        settings.validate().unwrap();
        let control = FakeControl::default();
        let (brain, model) = match fake {
            true => fake_brain(&settings, &control).await,
            false => {
                let parts = Parts::find(&settings).await.unwrap();
                let model = Arc::clone(&parts.model);
                (parts.start(&settings, None).await.unwrap(), model)
            }
        };
        let served = Served::of(brain.clone(), model, &settings).await;
        let server = Server::bind(&settings.server, access, served).await.unwrap();
        let address = server.address();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(server.serve(async { drop(stopped.await) }));
        Self { address, brain, control, stop: Some(stop), served, _folder: folder }
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut connection = self.connect().await;
        connection.send(request(method, path, headers, body)).await;
        connection.answer().await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[], &body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, &[], "").await
    }

    /// Waits until no conversation is left: one without a name goes a moment behind the end of its stream.
    pub(crate) async fn empties(&self) {
        let empty = async {
            while !self.brain.list(ListAsk::default()).await.unwrap().conversations.is_empty() {
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), empty).await.expect("nobody is left");
    }

    /// Says that it shall end.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until it has: whether all that was accepted was answered.
    pub(crate) async fn ended(self) -> bool {
        let finished = self.served.await.unwrap();
        self.brain.shutdown().await;
        finished
    }

    /// Ends it.
    pub(crate) async fn end(mut self) {
        self.stop();
        self.ended().await;
    }
}

/// A brain on a fake of the model: as many tokens, and a window that never slides in these tests.
async fn fake_brain(settings: &Settings, control: &FakeControl) -> (Brain, Arc<Model>) {
    let options = ModelOptions { dir: settings.model.dir.clone().unwrap(), file: None, preset: None };
    let model = Arc::new(Model::open(&options).unwrap());
    let window = Window { size: 4096, sinks: 4, slide: 1024, slides: Slides::Shift };
    let info = EngineInfo { vocab: model.contract.vocab, window, ..fake_info() };
    let loader: Arc<dyn EngineLoader> = Arc::new(FakeLoader { info, control: control.clone() });
    let brain = Brain::start(settings.brain_config(None), loader, model.tokenizer.clone()).await.unwrap();
    (brain, model)
}

/// The model with a template for chats.
fn folder() -> TempDir {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let from = root.join("tests/fixtures/tiny-gqa-fp32");
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file: PathBuf = file.unwrap().path();
        fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
    }
    let config = serde_json::json!({ "chat_template": TEMPLATE });
    fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    folder
}
