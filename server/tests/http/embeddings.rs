//! `/v1/embeddings`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::serving::{MODEL, Serving};

fn numbers(vector: &Value) -> Vec<f32> {
    vector["embedding"].as_array().unwrap().iter().map(|it| it.as_f64().unwrap() as f32).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_are_texts_or_tokens_one_or_many_and_keep_their_order() {
    let server = Serving::real().await;
    let ask = async |input: Value| server.post("/v1/embeddings", &json!({"model": MODEL, "input": input})).await.ok();
    let many = ask(json!(["a cat", "a dog", "a cat"])).await;
    let vectors = many["data"].as_array().unwrap();
    let index: Vec<u64> = vectors.iter().map(|it| it["index"].as_u64().unwrap()).collect();
    assert_eq!(index, [0, 1, 2]);
    assert_eq!(vectors[0]["embedding"], vectors[2]["embedding"]);
    assert_ne!(vectors[0]["embedding"], vectors[1]["embedding"]);
    let one = ask(json!("a dog")).await;
    assert_eq!(one["data"][0]["embedding"], vectors[1]["embedding"]);
    let length: f32 = numbers(&vectors[0]).iter().map(|it| it * it).sum();
    assert!((length - 1.0).abs() < 1e-3, "{length}");

    let ids = server.post("/brain/tokenize", &json!({"text": "a dog"})).await.ok()["token_ids"].clone();
    assert_eq!(ask(ids.clone()).await["data"][0]["embedding"], vectors[1]["embedding"]);
    let lists = ask(json!([ids, ids])).await;
    assert_eq!(lists["data"][1]["embedding"], vectors[1]["embedding"]);
    let count = ids.as_array().unwrap().len() as u64;
    assert_eq!(lists["usage"], json!({"prompt_tokens": 2 * count, "total_tokens": 2 * count}));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_come_as_numbers_or_as_base64_and_may_be_cut() {
    let server = Serving::real().await;
    let ask = async |keys: Value| {
        let mut body = json!({"model": MODEL, "input": "a cat"});
        keys.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
        server.post("/v1/embeddings", &body).await
    };
    let floats = numbers(&ask(json!({"encoding_format": "float"})).await.ok()["data"][0]);
    let text = ask(json!({"encoding_format": "base64", "user": "me"})).await.ok()["data"][0]["embedding"].clone();
    let bytes = STANDARD.decode(text.as_str().unwrap()).unwrap();
    let read: Vec<f32> = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    assert_eq!(read, floats);
    assert_eq!(numbers(&ask(json!({"dimensions": 64})).await.ok()["data"][0]).len(), 64);
    assert_eq!(ask(json!({"dimensions": 3})).await.error(400, "bad_request")["param"], "dimensions");
    ask(json!({"encoding_format": "xml"})).await.error(400, "invalid_type");
    assert_eq!(ask(json!({"prompt": "x"})).await.error(400, "unsupported_parameter")["param"], "prompt");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_that_may_not_be_are_refused_with_their_place() {
    let server = Serving::fake(|settings| settings.server.inputs_max = 2).await;
    let ask = async |input: Value| server.post("/v1/embeddings", &json!({"model": MODEL, "input": input})).await;
    assert_eq!(ask(json!([])).await.error(400, "invalid_value")["param"], "input");
    assert_eq!(ask(json!(["a", "b", "c"])).await.error(400, "invalid_value")["param"], "input");
    assert_eq!(ask(json!(["a", ""])).await.error(400, "empty_input")["param"], "input[1]");
    assert_eq!(ask(json!([[1], [9999]])).await.error(400, "invalid_token")["param"], "input[1]");
    ask(json!({"text": "a"})).await.error(400, "invalid_type");
    let body = json!({"model": "gpt-4o", "input": "a"});
    server.post("/v1/embeddings", &body).await.error(404, "model_not_found");
    server.end().await;
}
