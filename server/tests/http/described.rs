//! `/openapi.json` says what is taken, and what it says is taken.

use motorbrain_server::Access;
use serde_json::{Value, json};

use crate::serving::{MODEL, Serving};

/// The document of a server.
struct Described(Value);

impl Described {
    async fn of(server: &Serving) -> Self {
        Self(server.get("/openapi.json").await.ok())
    }

    /// The schema itself, where this one names another.
    fn schema<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(name) => self.0.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("{name}")),
            None => schema,
        }
    }

    /// What is posted to each path.
    fn posted(&self) -> Vec<(String, &Value)> {
        let paths = self.0["paths"].as_object().unwrap();
        let body = |of: &'static str| format!("/{of}/requestBody/content/application~1json/schema");
        let posted = paths.iter().filter_map(|(path, of)| Some((path, of.pointer(&body("post"))?)));
        posted.map(|(path, schema)| (path.replace("{name}", "a"), self.schema(schema))).collect()
    }

    /// The least that keeps to a schema: what is required, the first of what it may be, the smallest it may be.
    fn least(&self, schema: &Value) -> Value {
        let schema = self.schema(schema);
        if let Some(one) = schema.get("const").or_else(|| schema["enum"].get(0)) {
            return one.clone();
        }
        let choices = |of: &Value| [of["oneOf"][0].clone(), of["anyOf"][0].clone()];
        let all_of = schema["allOf"].as_array().into_iter().flatten();
        let chosen: Vec<Value> = choices(schema).into_iter().chain(all_of.flat_map(choices)).collect();
        match schema["type"].as_str() {
            Some("object") => {
                let required = [schema].into_iter().chain(&chosen).filter_map(|it| it["required"].as_array()).flatten();
                let least = |key: &str| self.least(&schema["properties"][key]);
                required.map(|key| key.as_str().unwrap()).map(|key| (key.to_owned(), least(key))).collect()
            }
            Some("array") => {
                let count = schema["minItems"].as_u64().unwrap_or(0);
                (0..count).map(|_| self.least(&schema["items"])).collect()
            }
            Some("string") => Value::from("x".repeat(schema["minLength"].as_u64().unwrap_or(0) as usize)),
            Some("integer" | "number") => schema["minimum"].clone(),
            Some("boolean") => json!(false),
            _ => self.least(&chosen[0]),
        }
    }

    /// The least that is posted, with a model that is served.
    fn body(&self, schema: &Value) -> Value {
        let mut body = self.least(schema);
        if body.get("model").is_some() {
            body["model"] = json!(MODEL);
        }
        body
    }
}

/// A server of requests that are small: so many tokens, and two inputs.
async fn few(count_max: usize) -> Serving {
    Serving::start(false, Access::ThisMachine, |settings| {
        (settings.limits.count, settings.server.inputs_max) = (count_max, 2);
    })
    .await
}

/// A body with one key more.
fn with(body: &Value, key: &str, value: Value) -> Value {
    let mut body = body.clone();
    body[key] = value;
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_asks_for_at_least_is_enough() {
    let server = few(16).await;
    let described = Described::of(&server).await;
    let mut posted = described.posted();
    // Of a conversation something is asked when it is there.
    posted.sort_by_key(|(path, _)| !path.ends_with("/step"));
    assert!(posted.len() > 14, "{posted:?}");
    for (path, schema) in posted {
        if !path.contains("/chaos/") {
            let answer = server.post(&path, &described.body(schema)).await;
            assert_eq!(answer.status, 200, "{path} {}: {answer:?}", described.body(schema));
        }
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_null_is_refused_under_brain_and_left_out_under_v1() {
    let server = few(16).await;
    let described = Described::of(&server).await;
    let may_be_null = |schema: &Value| {
        let is_null = |kind: &Value| kind["type"] == "null";
        let one_of = schema["oneOf"].as_array();
        schema["type"].as_array().is_some_and(|kinds| kinds.contains(&json!("null")))
            || is_null(schema)
            || one_of.is_some_and(|kinds| kinds.iter().any(is_null))
    };
    for (path, schema) in described.posted() {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (key, value) in schema["properties"].as_object().unwrap() {
            let taken = path.starts_with("/v1") && !required.contains(&key.as_str());
            assert_eq!(may_be_null(value), taken, "{path} {key}: {value}");
            let answer = server.post(&path, &with(&described.body(schema), key, Value::Null)).await;
            assert_eq!(answer.status == 400, !taken, "{path} {key}: {answer:?}");
        }
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_integer_may_be_written_as_any_number_that_is_whole() {
    let server = Serving::real().await;
    for (path, body) in [
        ("/brain/conversations/a/step", r#"{"token_ids": [5.0, 6e0], "count": 2.0, "seed": 1e3}"#),
        ("/v1/completions", r#"{"model": "tiny", "prompt": [5.0, 6], "max_tokens": 20e-1, "seed": -7.0}"#),
        ("/v1/embeddings", r#"{"model": "tiny", "input": [[5.0], [6]]}"#),
    ] {
        server.ask("POST", path, &[], body).await.ok();
        let refused = server.ask("POST", path, &[], &body.replacen("5.0", "5.5", 1)).await;
        assert_eq!(refused.status, 400, "{path}: {refused:?}");
    }
    // A mistake behind such a number is told where it stands.
    let body = r#"{"model": "tiny", "input": "a", "dimensions": 64.0, "user": 1}"#;
    let refused = server.ask("POST", "/v1/embeddings", &[], body).await.error(400, "invalid_type");
    let column = body.find("1}").unwrap() + 1;
    assert!(refused["message"].as_str().unwrap().ends_with(&format!("line 1 column {column}")), "{refused}");
    server.end().await;
}

/// The number, and the next one that is too small or too large.
fn at_bound(schema: &Value, key: &str) -> Option<(Value, Value)> {
    let step = if key == "minimum" { -1 } else { 1 };
    match &schema[key] {
        Value::Null => None,
        bound if bound.is_f64() => Some((bound.clone(), json!(bound.as_f64()? * 1.5))),
        bound => Some((bound.clone(), json!(bound.as_i64()?.checked_add(step)?))),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_end_where_it_says() {
    let server = few(6).await;
    let described = Described::of(&server).await;
    let posted = described.posted();
    let step = json!({"text": "x", "temperature": 1});
    let completion = json!({"model": MODEL, "prompt": "x", "max_tokens": 1});
    let chat = json!({"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_completion_tokens": 1});
    let chat_of = |key: &str| json!({"model": MODEL, "messages": chat["messages"], key: 1});
    let sampled = ["temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"];
    let mut checked = 0;
    for (path, body, keys) in [
        ("/brain/conversations/a/step", step.clone(), &["count", "top", "n", "top_k", "seed", "deadline_ms"][..]),
        ("/brain/conversations/a/step", step, &sampled),
        ("/brain/embed", json!({"text": "x"}), &["dim", "deadline_ms"]),
        ("/brain/embed", json!({"text": "x", "pieces": "each"}), &["piece_tokens"]),
        ("/brain/rerank", json!({"query": "x", "documents": ["y"]}), &["mix"]),
        ("/v1/completions", completion.clone(), &["max_tokens", "logprobs", "n", "top_k", "seed"]),
        ("/v1/completions", completion, &sampled),
        ("/v1/embeddings", json!({"model": MODEL, "input": "x"}), &["dimensions"]),
        ("/v1/chat/completions", chat.clone(), &["n", "top_k", "seed"]),
        ("/v1/chat/completions", chat.clone(), &sampled),
        ("/v1/chat/completions", with(&chat, "logprobs", json!(true)), &["top_logprobs"]),
        ("/v1/chat/completions", chat_of("seed"), &["max_completion_tokens", "max_tokens"]),
        ("/v1/responses", json!({"model": MODEL, "input": "x"}), &["max_output_tokens"]),
    ] {
        let (_, schema) = posted.iter().find(|(posted, _)| posted == path).unwrap();
        for key in keys {
            let said = described.schema(&schema["properties"][key]);
            for (value, beyond) in ["minimum", "maximum"].into_iter().filter_map(|bound| at_bound(said, bound)) {
                let inside = server.post(path, &with(&body, key, value.clone())).await;
                assert!(inside.status == 200 || inside.status == 504, "{path} {key} {value}: {inside:?}");
                let outside = server.post(path, &with(&body, key, beyond.clone())).await;
                assert_eq!(outside.status, 400, "{path} {key} {beyond}: {outside:?}");
                assert_eq!(outside.json()["error"]["param"], *key, "{path} {key} {beyond}: {outside:?}");
                checked += 1;
            }
            if let Some(bound) = said.get("exclusiveMinimum") {
                let outside = server.post(path, &with(&body, key, bound.clone())).await;
                assert_eq!(outside.status, 400, "{path} {key} {bound}: {outside:?}");
            }
        }
    }
    assert!(checked > 60, "{checked} bounds were checked");
    let vocab = described.0["components"]["schemas"]["TokenId"]["maximum"].as_u64().unwrap();
    server.post("/brain/detokenize", &json!({"token_ids": [vocab]})).await.ok();
    server.post("/brain/detokenize", &json!({"token_ids": [vocab + 1]})).await.error(400, "invalid_token");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_texts_and_keys_are_as_it_says() {
    let server = few(16).await;
    let described = Described::of(&server).await;
    let step = |keys: Value| ("/brain/conversations/a/step", keys);
    let rerank = |query: &str, documents: &[&str]| ("/brain/rerank", json!({"query": query, "documents": documents}));
    let embeddings = |input: Value| ("/v1/embeddings", json!({"model": MODEL, "input": input}));
    let chat = |messages: Value| ("/v1/chat/completions", json!({"model": MODEL, "messages": messages}));
    let (user, nobody) = (json!([{"role": "user", "content": "x"}]), json!([{"role": "nobody", "content": "x"}]));
    for (place, said, (path, taken), (_, refused)) in [
        (
            "Steps/properties/token_ids/minItems",
            json!(1),
            step(json!({"token_ids": [5]})),
            step(json!({"token_ids": []})),
        ),
        ("Steps/properties/text/minLength", json!(1), step(json!({"text": "x"})), step(json!({"text": ""}))),
        (
            "Steps/properties/stop/maxItems",
            json!(16),
            step(json!({"stop": vec!["x"; 16]})),
            step(json!({"stop": vec!["x"; 17]})),
        ),
        (
            "Steps/properties/scope/maxLength",
            json!(1024),
            step(json!({"scope": "x".repeat(1024)})),
            step(json!({"scope": "x".repeat(1025)})),
        ),
        ("Reranks/properties/query/minLength", json!(1), rerank("x", &["y"]), rerank("", &["y"])),
        ("Reranks/properties/documents/minItems", json!(1), rerank("x", &["y"]), rerank("x", &[])),
        ("Inputs/oneOf/1/maxItems", json!(2), embeddings(json!(["x", "y"])), embeddings(json!(["x", "y", "z"]))),
        ("Inputs/oneOf/3/items/minItems", json!(1), embeddings(json!([[5]])), embeddings(json!([[]]))),
        ("ChatRequest/properties/messages/minItems", json!(1), chat(user.clone()), chat(json!([]))),
        ("ChatMessage/properties/role/enum/2", json!("user"), chat(user), chat(nobody)),
    ] {
        let found = described.0.pointer(&format!("/components/schemas/{place}"));
        assert_eq!(found, Some(&said), "{place}");
        server.post(path, &taken).await.ok();
        assert_eq!(server.post(path, &refused).await.status, 400, "{place}: {refused}");
    }
    server.end().await;
}
