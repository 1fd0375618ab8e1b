//! Sequences of requests made from a seed: few objects, many ways to write them, so that they meet.

use serde_json::{Value, json};

use crate::cases::{LAMPS, MAPS, at, lamp, map, with};
use crate::harness::{Case, Step};

const LENGTH: usize = 30;

/// The sequence of a seed. Its name makes its namespace.
pub(crate) fn case(seed: u64) -> Case {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut case = Case::new(Box::leak(format!("sequence-{seed}").into_boxed_str()));
    while case.steps.len() < LENGTH {
        case = step(case, &mut rng);
    }
    case
}

fn step(case: Case, rng: &mut fastrand::Rng) -> Case {
    let lamps = rng.u8(..4) > 0;
    let list = if lamps { LAMPS } else { MAPS };
    let name = *rng.choice(&["a", "a", "b"]).unwrap();
    let path = at(list, name);
    let metadata = metadata(&case, rng);
    match rng.u8(..20) {
        0..=3 => case.post(list, object(lamps, name, rng, metadata)),
        4..=5 => case.put(&path, object(lamps, name, rng, metadata)),
        6..=9 => {
            let mut patch = json!({"metadata": metadata});
            if rng.bool() {
                patch[if lamps { "spec" } else { "data" }] = content(lamps, rng);
            }
            case.merge(&path, patch)
        }
        10..=12 if lamps => {
            let phase = rng.choice(&[json!("On"), json!("Off"), json!("Wrong"), Value::Null]).unwrap().clone();
            let patch = json!({"status": {"phase": phase, "count": rng.u8(..2)}, "metadata": metadata});
            case.merge(&format!("{path}/status"), patch)
        }
        10..=12 => case.strategic(&path, json!({"metadata": metadata})),
        13 => {
            let test = json!({"op": "test", "path": "/metadata/name", "value": rng.choice(&["a", "b"]).unwrap()});
            let add = json!({"op": "add", "path": "/metadata/annotations", "value": {"n": rng.u8(..3).to_string()}});
            case.patch(&path, json!([test, add]))
        }
        14..=16 => {
            let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
            if rng.u8(..3) == 0 {
                options["preconditions"] = json!({"uid": earlier(&case, rng, "uid")});
            }
            if rng.u8(..3) == 0 {
                options["preconditions"]["resourceVersion"] = earlier(&case, rng, "resourceVersion").into();
            }
            if rng.u8(..3) == 0 {
                options["propagationPolicy"] = (*rng.choice(&["Foreground", "Orphan", "Background"]).unwrap()).into();
            }
            case.delete(&path, options)
        }
        17 => case.get(list),
        18 => case.get(&format!("{list}?labelSelector=x{}", rng.choice(&["%3D1", "!%3D1", "", "+in+(1,2)"]).unwrap())),
        _ => case.get(&path),
    }
}

/// What an earlier answer says: mostly something old. Versions of lists move with whatever else the server does.
fn earlier(case: &Case, rng: &mut fastrand::Rng, field: &str) -> String {
    let far = rng.usize(..4).min(case.steps.len());
    let at = case.steps.len() - far;
    let is_list = |step: &Step| step.method == "GET" && !step.path.ends_with(['a', 'b']);
    match case.steps.get(at) {
        Some(step) if !is_list(step) => format!("${at}/metadata/{field}"),
        Some(_) | None => "$0/metadata/none".into(),
    }
}

fn metadata(case: &Case, rng: &mut fastrand::Rng) -> Value {
    let mut metadata = json!({});
    if rng.u8(..3) == 0 && !case.steps.is_empty() {
        metadata["resourceVersion"] = earlier(case, rng, "resourceVersion").into();
    }
    if rng.u8(..4) == 0 && !case.steps.is_empty() {
        metadata["uid"] = earlier(case, rng, "uid").into();
    }
    if rng.u8(..3) == 0 {
        metadata["labels"] = json!({"x": rng.u8(..3).to_string()});
    }
    match rng.u8(..8) {
        0 => metadata["finalizers"] = json!(["example.com/hold"]),
        1 => metadata["finalizers"] = json!(["example.com/hold", "example.com/more"]),
        2 => metadata["finalizers"] = json!([]),
        _ => {}
    }
    metadata
}

fn content(lamps: bool, rng: &mut fastrand::Rng) -> Value {
    if !lamps {
        return json!({"k": rng.u8(..3).to_string()});
    }
    let mut spec = json!({"watts": rng.u8(..4)});
    if rng.bool() {
        spec["color"] = (*rng.choice(&["red", "green", "blue"]).unwrap()).into();
    }
    if rng.u8(..4) == 0 {
        spec["tags"] = json!(rng.choice(&[vec!["a"], vec!["a", "a"], vec![]]).unwrap());
    }
    if rng.u8(..4) == 0 {
        spec["unknown"] = 1.into();
    }
    spec
}

fn object(lamps: bool, name: &str, rng: &mut fastrand::Rng, metadata: Value) -> Value {
    let content = content(lamps, rng);
    if lamps {
        return with(lamp(name, content), metadata);
    }
    let mut map = with(map(name), metadata);
    map["data"] = content;
    map
}

/// A sequence is made of steps that can be told.
#[test]
fn a_seed_makes_one_sequence() {
    let tell = |seed| case(seed).steps.iter().map(Step::to_string).collect::<Vec<_>>();
    assert_eq!(tell(3), tell(3));
    assert_ne!(tell(3), tell(4));
}
