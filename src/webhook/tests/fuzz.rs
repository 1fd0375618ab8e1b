//! Reviews that something happened to: real ones of every kind, changed by chance in a value here or a byte there.
//!
//! Whatever comes of it, the server answers a well-formed review about the same uid, or that this is none; and the next good
//! request is served. A run is repeated by its seed: `CAPM3_FUZZ_SEED`, and `CAPM3_FUZZ_ITERATIONS` for longer ones.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../api/tests/support/mod.rs"]
mod support;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use base64::Engine;
use capm3_runtime::Metrics;
use capm3_webhook::{Which, measured_router};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use support::Dice;
use tower::ServiceExt;

const INFRA: &str = "infrastructure.cluster.x-k8s.io";
const IPAM: &str = "ipam.metal3.io";
const MUTATED: [&str; 5] = ["Metal3Cluster", "Metal3RemediationTemplate", "IPPool", "IPClaim", "IPAddress"];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// A kind in one version, with its schema.
struct Model {
    group: &'static str,
    kind: String,
    version: &'static str,
    schema: Value,
}

impl Model {
    fn all() -> Vec<Self> {
        let of = |group, version: &'static str| {
            move |kind: String| Self { group, schema: support::schema(&kind, version), kind, version }
        };
        let ipam = ["IPPool", "IPClaim", "IPAddress"].map(str::to_owned);
        let infra = || support::kinds().into_iter();
        let old = infra().map(of(INFRA, "v1beta1"));
        infra().map(of(INFRA, "v1beta2")).chain(old).chain(ipam.into_iter().map(of(IPAM, "v1alpha1"))).collect()
    }

    fn object(&self, dice: &mut Dice) -> Value {
        let mut object = support::object(dice, &self.kind, self.version, &self.schema);
        object["apiVersion"] = format!("{}/{}", self.group, self.version).into();
        object
    }
}

/// A request that an API server could send: its path and its review.
fn request(dice: &mut Dice, models: &[Model]) -> (String, Value) {
    if dice.one_in(3) {
        let olds: Vec<_> = models.iter().filter(|model| model.group == INFRA).collect();
        let objects: Vec<_> = (0..=dice.below(3)).map(|_| olds[pick(dice, olds.len())].object(dice)).collect();
        let desired = format!("{INFRA}/{}", if dice.one_in(2) { "v1beta1" } else { "v1beta2" });
        let request = json!({"uid": "u-1", "desiredAPIVersion": desired, "objects": objects});
        let review = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": request});
        return ("/convert".to_owned(), review);
    }
    let hubs: Vec<_> = models.iter().filter(|model| model.version != "v1beta1").collect();
    let model = hubs[pick(dice, hubs.len())];
    let verb = if MUTATED.contains(&model.kind.as_str()) && dice.one_in(2) { "mutate" } else { "validate" };
    let path = format!("/{verb}-{}-{}-{}", model.group.replace('.', "-"), model.version, model.kind.to_lowercase());
    let operation = ["CREATE", "UPDATE", "UPDATE", "DELETE"][pick(dice, 4)];
    let old = if operation == "CREATE" { Value::Null } else { model.object(dice) };
    let mut object = if dice.one_in(2) && !old.is_null() { old.clone() } else { model.object(dice) };
    if dice.one_in(8) {
        object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    }
    let request = json!({"uid": "u-1", "operation": operation, "name": "some", "namespace": "there", "object": object, "oldObject": old});
    (path, json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}))
}

fn pick(dice: &mut Dice, n: usize) -> usize {
    usize::try_from(dice.below(n as u64)).unwrap()
}

/// Something that nobody expects there.
fn odd(dice: &mut Dice) -> Value {
    let texts = [
        "",
        "\u{0}",
        "2001:db8::/129",
        "0.0.0.0/0",
        "::",
        "10.0.0.300",
        "http://[",
        "\u{202e}é😀",
        "-1",
        "oci://",
        "a/b/c",
        "9999999999999999999s",
        "{",
        "{\"spec\": 1}",
    ];
    match dice.below(10) {
        0 => Value::Null,
        1 => dice.one_in(2).into(),
        2 => [0, -1, i64::MAX, i64::MIN, 65_536, 4_294_967_296][pick(dice, 6)].into(),
        3 => [u64::MAX.into(), json!(1e300), json!(-0.0), json!(0.1)][pick(dice, 4)].clone(),
        4 => "long".repeat(pick(dice, 3000)).into(),
        5 => json!([]),
        6 => json!({}),
        7 => (0..dice.below(110))
            .fold(json!(1), |inner, n| if n % 2 == 0 { json!([inner]) } else { json!({"a": inner}) }),
        _ => texts[pick(dice, texts.len())].into(),
    }
}

/// An object that the review is about.
fn part<'a>(dice: &mut Dice, review: &'a mut Value) -> &'a mut Value {
    if !review["request"].is_object() {
        return review;
    }
    let request = &mut review["request"];
    match request.get("objects").and_then(Value::as_array).map(Vec::len) {
        Some(n) if n > 0 => &mut request["objects"][pick(dice, n)],
        Some(_) => request,
        None => &mut request[if dice.one_in(3) { "oldObject" } else { "object" }],
    }
}

/// Changes one value somewhere below.
fn disturb(dice: &mut Dice, value: &mut Value) {
    let deeper = !dice.one_in(4);
    match value {
        Value::Object(members) if deeper && !members.is_empty() => {
            let nth = pick(dice, members.len());
            let name = members.keys().nth(nth).unwrap().clone();
            match dice.below(12) {
                0 => drop(members.remove(&name)),
                1 => drop(members.insert(format!("{name}s"), odd(dice))),
                2 => {
                    let moved = members.remove(&name).unwrap();
                    members.insert(["spec", "status", "metadata", "kind"][pick(dice, 4)].to_owned(), moved);
                }
                _ => disturb(dice, &mut members[&name]),
            }
        }
        Value::Array(items) if deeper && !items.is_empty() => {
            let nth = pick(dice, items.len());
            match dice.below(8) {
                0 => drop(items.remove(nth)),
                1 => items.push(items[nth].clone()),
                2 => items.reverse(),
                _ => disturb(dice, &mut items[nth]),
            }
        }
        other => *other = odd(dice),
    }
}

/// Changes the text: what no JSON library writes.
fn damage(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let at = pick(dice, bytes.len() + 1);
    let until = at + pick(dice, (bytes.len() - at).min(40) + 1);
    match dice.below(6) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..until)),
        2 => {
            let copy = bytes[at..until].to_vec();
            bytes.splice(at..at, copy);
        }
        3 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
        4 => drop(bytes.splice(at..at, *b"\"uid\":\"other\",")),
        _ => {
            let bits: [&[u8]; 6] = [b"\xff", b"\0", b"1e999", b"\\ud800", b"[[[[", b",,"];
            bytes.splice(at..at, bits[pick(dice, bits.len())].iter().copied());
        }
    }
}

async fn send(router: &Router, path: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
    let request = Request::post(path).header("content-type", "application/json").body(Body::from(body)).unwrap();
    let reply = router.clone().oneshot(request).await.unwrap();
    let code = reply.status().as_u16();
    (code, reply.into_body().collect().await.unwrap().to_bytes().to_vec())
}

/// What is wrong with an answer, if anything is.
fn judge(path: &str, body: &[u8], code: u16, answer: &[u8]) -> Result<(), String> {
    let wrong = |what: &str| Err(what.to_owned());
    if (400..500).contains(&code) {
        return if answer.starts_with(b"not a review: panic") { wrong("a panic") } else { Ok(()) };
    }
    let (Ok(review), Ok(answer)) = (serde_json::from_slice::<Value>(body), serde_json::from_slice::<Value>(answer))
    else {
        return wrong("200 to or with what is no JSON");
    };
    let (request, response) = (&review["request"], &answer["response"]);
    if code != 200 || answer["apiVersion"] != review["apiVersion"] || response["uid"] != request["uid"] {
        return wrong("not about this review");
    }
    if path == "/convert" {
        let converted = response["convertedObjects"].as_array().map(Vec::as_slice).unwrap_or_default();
        let success = response["result"]["status"] == "Success";
        let message = response["result"]["message"].as_str().unwrap_or_default();
        let objects = request["objects"].as_array().map_or(0, Vec::len);
        let named = |object: &Value| object["apiVersion"] == request["desiredAPIVersion"];
        return match success {
            _ if answer["kind"] != "ConversionReview" => wrong("not a ConversionReview"),
            true if converted.len() == objects && converted.iter().all(named) => Ok(()),
            true => wrong("not what was to be converted"),
            false if message.is_empty() || message.starts_with("panic") || !converted.is_empty() => wrong("no failure"),
            false => Ok(()),
        };
    }
    let status = &response["status"];
    match (response["allowed"].as_bool(), status["code"].as_u64()) {
        _ if answer["kind"] != "AdmissionReview" => wrong("not an AdmissionReview"),
        (Some(true), Some(200)) => match response.get("patch").and_then(Value::as_str) {
            None => Ok(()),
            Some(patch) => additions(&request["object"], patch),
        },
        (Some(false), Some(400 | 422)) if !status["message"].as_str().unwrap_or_default().is_empty() => Ok(()),
        _ => wrong("neither allowed nor refused"),
    }
}

/// A patch adds and replaces where it can (W-5).
fn additions(object: &Value, patch: &str) -> Result<(), String> {
    let patch = base64::engine::general_purpose::STANDARD.decode(patch).map_err(|error| error.to_string())?;
    let patch: Vec<Value> = serde_json::from_slice(&patch).map_err(|error| error.to_string())?;
    for operation in patch {
        let path = operation["path"].as_str().ok_or("no path")?;
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let found = match operation["op"].as_str() {
            Some("add") => object.pointer(parent).is_some_and(Value::is_object),
            Some("replace") => object.pointer(path).is_some(),
            _ => false,
        };
        if !found {
            return Err(format!("{operation} does not apply"));
        }
    }
    Ok(())
}

#[tokio::test]
async fn whatever_happens_to_a_review_it_is_answered_and_the_next_one_is_served() {
    let (seed, iterations) = (number("CAPM3_FUZZ_SEED", 1), number("CAPM3_FUZZ_ITERATIONS", 15_000));
    let metrics = Metrics::new();
    let (router, models) = (measured_router(Which::Both, &metrics), Model::all());
    let (mut reviews, mut refused, mut converted) = (0, 0, 0);
    for round in 0..iterations {
        let seed = seed.wrapping_add(round);
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (path, mut review) = request(&mut dice, &models);
        let good = review.to_string().into_bytes();
        for _ in 0..=dice.below(3) {
            let about = if dice.one_in(10) { &mut review } else { part(&mut dice, &mut review) };
            disturb(&mut dice, about);
        }
        let mut bytes = review.to_string().into_bytes();
        if dice.one_in(4) {
            damage(&mut dice, &mut bytes);
        }
        let (code, answer) = send(&router, &path, bytes.clone()).await;
        if let Err(what) = judge(&path, &bytes, code, &answer) {
            let (bytes, answer) = (String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&answer));
            panic!("CAPM3_FUZZ_SEED={seed} CAPM3_FUZZ_ITERATIONS=1: {what}\n{path}\n{bytes}\n{code} {answer}");
        }
        reviews += u64::from(code == 200);
        refused += u64::from(code == 200 && answer.windows(15).any(|w| w == b"\"allowed\":false"));
        converted += u64::from(code == 200 && path == "/convert" && !answer.windows(7).any(|w| w == b"Failure"));
        if round % 16 == 0 {
            let (code, answer) = send(&router, &path, good.clone()).await;
            judge(&path, &good, code, &answer)
                .unwrap_or_else(|what| panic!("CAPM3_FUZZ_SEED={seed}: good, but {what}"));
            assert_eq!(code, 200, "CAPM3_FUZZ_SEED={seed}");
        }
    }
    // That this is no test of 400 alone.
    if iterations >= 1000 {
        assert!(
            reviews > iterations / 2 && refused > iterations / 20 && converted > iterations / 20,
            "{reviews} {refused} {converted}"
        );
    }
    assert!(metrics.render().contains("controller_runtime_webhook_panics_total 0"));
}
