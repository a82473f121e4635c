//! `/v1/responses`.

use serde_json::{Value, json};

use crate::serving::{MODEL, Serving};

fn merged(keys: &Value) -> Value {
    let mut body = json!({"model": MODEL, "input": "Hello there", "max_output_tokens": 6, "temperature": 0});
    keys.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_is_remembered_gone_on_from_and_forgotten() {
    let server = Serving::real().await;
    let first = server.post("/v1/responses", &merged(&json!({"metadata": {"a": "b"}}))).await.ok();
    assert_eq!((&first["object"], &first["metadata"]["a"]), (&json!("response"), &json!("b")));
    assert_eq!(first["output"][0]["content"][0]["type"], "output_text");
    let id = first["id"].as_str().unwrap();
    assert_eq!(server.get(&format!("/v1/responses/{id}")).await.ok(), first);
    let conversations =
        async || server.get("/brain/conversations").await.ok()["conversations"].as_array().unwrap().len();
    assert_eq!(conversations().await, 1);
    let next = json!({"previous_response_id": id, "input": [{"role": "user", "content": "And then?"}]});
    let second = server.post("/v1/responses", &merged(&next)).await.ok();
    let cached = second["usage"]["input_tokens_details"]["cached_tokens"].as_u64();
    assert!(cached > first["usage"]["input_tokens"].as_u64(), "{cached:?} of {}", second["usage"]);
    assert_eq!(second["previous_response_id"].as_str(), Some(id));
    assert_eq!(conversations().await, 1, "both have one");
    for response in [&first, &second] {
        let path = format!("/v1/responses/{}", response["id"].as_str().unwrap());
        assert_eq!(server.delete(&path).await.ok()["deleted"], true);
        server.get(&path).await.error(404, "response_not_found");
        server.delete(&path).await.error(404, "response_not_found");
    }
    let refused = server.post("/v1/responses", &merged(&json!({"previous_response_id": id}))).await;
    assert_eq!(refused.error(400, "previous_response_not_found")["param"], "previous_response_id");
    server.empties().await;
    let unstored = server.post("/v1/responses", &merged(&json!({"store": false}))).await.ok();
    let path = format!("/v1/responses/{}", unstored["id"].as_str().unwrap());
    server.get(&path).await.error(404, "response_not_found");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_what_begins_and_ends_in_order() {
    let server = Serving::real().await;
    let whole = server.post("/v1/responses", &merged(&json!({}))).await.ok();
    let events = server.post("/v1/responses", &merged(&json!({"stream": true}))).await.events();
    let said: Vec<Value> = events.iter().map(|(_, data)| serde_json::from_str(data).unwrap()).collect();
    for (index, ((name, _), said)) in events.iter().zip(&said).enumerate() {
        assert_eq!((name.as_deref(), said["sequence_number"].as_u64()), (said["type"].as_str(), Some(index as u64)));
    }
    let mut names: Vec<&str> = said.iter().map(|said| said["type"].as_str().unwrap()).collect();
    names.dedup();
    let last = if whole["status"] == "incomplete" { "response.incomplete" } else { "response.completed" };
    assert_eq!(
        names,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            last,
        ]
    );
    let text: String = said.iter().filter_map(|said| said["delta"].as_str()).collect();
    assert_eq!(text, whole["output"][0]["content"][0]["text"].as_str().unwrap());
    let response = &said.last().unwrap()["response"];
    assert_eq!(response["output"][0]["content"], whole["output"][0]["content"]);
    assert_eq!(server.get(&format!("/v1/responses/{}", response["id"].as_str().unwrap())).await.ok(), *response);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_asked_for_longest_ago_are_forgotten_and_nobodys_are_anothers() {
    let server = Serving::fake(|settings| settings.server.responses_max = 1).await;
    let id = async || server.post("/v1/responses", &merged(&json!({}))).await.ok()["id"].as_str().unwrap().to_owned();
    let (first, second) = (id().await, id().await);
    server.get(&format!("/v1/responses/{first}")).await.error(404, "response_not_found");
    assert_eq!(server.get(&format!("/v1/responses/{second}")).await.status, 200);
    for keys in [json!({"background": true}), json!({"reasoning": {}}), json!({"tools": [{"type": "web_search"}]})] {
        server.post("/v1/responses", &merged(&keys)).await.error(400, "unsupported_parameter");
    }
    server.end().await;
}
