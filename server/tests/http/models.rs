//! `/v1/models`.

use crate::serving::{MODEL, Serving};

#[tokio::test(flavor = "multi_thread")]
async fn the_model_is_listed_under_all_its_names() {
    let server = Serving::fake(|_| {}).await;
    let listed = server.get("/v1/models").await.ok();
    let names: Vec<&str> = listed["data"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!((listed["object"].as_str(), names), (Some("list"), vec![MODEL, "other"]));
    assert_eq!(server.get("/v1/models/other").await.ok()["object"], "model");
    assert_eq!(server.get("/v1/models/nope").await.error(404, "model_not_found")["param"], "model");
    server.end().await;
}
