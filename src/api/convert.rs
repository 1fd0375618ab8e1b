//! Conversion between v1beta1 and v1beta2 (api-types 7 and 8, hazards CH-1 to CH-12 adopted).
//!
//! It works on the JSON itself: what both versions share is never touched, so only the differences are written down here,
//! and any object an API server hands over converts, also one of which only a few fields are left. *Up* leads to v1beta2,
//! *down* to v1beta1. Four kinds carry the whole v1beta2 object in an annotation while they are v1beta1; on the way back
//! only what v1beta1 cannot say is restored from it, so an edit made through v1beta1 wins.
//!
//! Every object of ours converts. Were one not to, no list that holds it could be read, in any namespace: so an annotation
//! that says nothing we understand counts as none.

mod cluster;
mod data;
pub(crate) mod json;
mod machine;
mod remediation;

use serde_json::{Map, Value, json};

use crate::names::{INFRA_API_VERSION, INFRA_API_VERSION_V1BETA1, annotation};

pub(crate) type Object = Map<String, Value>;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConvertError {
    #[error("{kind:?} of {api_version:?} is not converted here")]
    NotOurs { api_version: String, kind: String },
    #[error("{0:?} is not a version of this group")]
    UnknownVersion(String),
    #[error("not an object")]
    NotAnObject,
}

/// One kind's two directions. `up` also gets what the annotation preserved, if anything.
struct Conversion {
    kind: &'static str,
    /// Whether v1beta1 objects of this kind carry the annotation (C-4).
    preserves: bool,
    up: fn(&mut Object, Option<&Value>),
    down: fn(&mut Object),
}

const CONVERSIONS: [Conversion; 9] = [
    Conversion { kind: "Metal3Cluster", preserves: true, up: cluster::up, down: cluster::down },
    Conversion {
        kind: "Metal3ClusterTemplate",
        preserves: true,
        up: cluster::template_up,
        down: cluster::template_down,
    },
    Conversion { kind: "Metal3Machine", preserves: true, up: machine::up, down: machine::down },
    Conversion {
        kind: "Metal3MachineTemplate",
        preserves: true,
        up: machine::template_up,
        down: machine::template_down,
    },
    Conversion { kind: "Metal3DataTemplate", preserves: false, up: data::template_up, down: data::template_down },
    Conversion { kind: "Metal3DataClaim", preserves: false, up: data::claim_up, down: data::claim_down },
    Conversion { kind: "Metal3Data", preserves: false, up: data::up, down: data::down },
    Conversion { kind: "Metal3Remediation", preserves: false, up: remediation::up, down: remediation::down },
    Conversion {
        kind: "Metal3RemediationTemplate",
        preserves: false,
        up: remediation::template_up,
        down: remediation::template_down,
    },
];

/// `object` as `desired_api_version` says it. An object that already is of that version comes back as it is.
pub fn convert(object: Value, desired_api_version: &str) -> Result<Value, ConvertError> {
    let Value::Object(mut object) = object else { return Err(ConvertError::NotAnObject) };
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let ours = [INFRA_API_VERSION, INFRA_API_VERSION_V1BETA1];
    let conversion = CONVERSIONS.iter().find(|c| c.kind == kind && ours.contains(&api_version.as_str()));
    let Some(conversion) = conversion else { return Err(ConvertError::NotOurs { api_version, kind }) };
    if !ours.contains(&desired_api_version) {
        return Err(ConvertError::UnknownVersion(desired_api_version.to_owned()));
    }
    if api_version == desired_api_version {
        return Ok(Value::Object(object));
    }
    for part in ["spec", "status"] {
        json::drop_nulls(&mut object, part);
    }
    if desired_api_version == INFRA_API_VERSION {
        let preserved = if conversion.preserves { take_preserved(&mut object) } else { None };
        (conversion.up)(&mut object, preserved.as_ref());
        for part in ["spec", "status"] {
            object.get_mut(part).map(json::saturate);
        }
    } else {
        let hub = conversion.preserves.then(|| object.clone());
        (conversion.down)(&mut object);
        if let Some(hub) = hub {
            preserve(&mut object, hub);
        }
    }
    object.insert("apiVersion".into(), desired_api_version.into());
    json::drop_empty(&mut object, "status");
    Ok(Value::Object(object))
}

/// Room for all annotations of an object; one with more can be read and never written again.
const ANNOTATIONS: usize = 256 << 10;

/// What cannot be told from a v1beta1 object (C-24, C-31, C-42, C-50, C-62).
const UNTOLD: [&str; 5] =
    ["/spec/template/metadata", "/spec/image", "/spec/template/spec/image", "/status/initialization", "/kind"];

/// Puts the v1beta2 object into the annotation (C-4): whole, or where that is too much, what would else be lost.
fn preserve(object: &mut Object, mut hub: Object) {
    hub.remove("metadata");
    let metadata = json::object_or_new(object, "metadata");
    let annotations = json::object_or_new(metadata, "annotations");
    annotations.remove(annotation::CONVERSION_DATA);
    let others: usize = annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    let room = ANNOTATIONS.saturating_sub(others + annotation::CONVERSION_DATA.len());
    let mut whole = Value::Object(hub);
    whole.sort_all_objects(); // as Go writes it, so that it does not matter which of the two wrote it
    let untold = || {
        let mut parts = json!({"apiVersion": INFRA_API_VERSION});
        for pointer in UNTOLD {
            if let Some(value) = whole.pointer(pointer) {
                let names = pointer.split('/').skip(1);
                *names.fold(&mut parts, |parts, name| &mut parts[name]) = value.clone();
            }
        }
        parts.to_string()
    };
    let text = Some(whole.to_string()).filter(|text| text.len() <= room).unwrap_or_else(untold);
    if text.len() <= room {
        annotations.insert(annotation::CONVERSION_DATA.into(), text.into());
    }
    json::drop_empty(metadata, "annotations");
}

/// Takes the annotation off, so that stored objects never carry it (C-5), and reads it as far as it can be read.
fn take_preserved(object: &mut Object) -> Option<Value> {
    let kind = object.get("kind").cloned();
    let metadata = json::object(object, "metadata")?;
    let text = json::object(metadata, "annotations")?.remove(annotation::CONVERSION_DATA)?;
    json::drop_empty(metadata, "annotations");
    let mut preserved: Value = serde_json::from_str(text.as_str()?).ok()?;
    let parts = preserved.as_object_mut()?;
    for part in ["spec", "status"] {
        json::drop_nulls(parts, part);
    }
    // Whoever copied it from an object of another kind did not mean it.
    let other_kind = parts.get("kind").is_some_and(|of| *of != "" && Some(of) != kind.as_ref());
    (!other_kind).then_some(preserved)
}

/// A core ObjectReference keeps only what a reference of ours can say; the way back fills only that (C-8).
fn name_and_namespace(parent: &mut Object, key: &str) {
    if let Some(reference) = json::object(parent, key) {
        reference.retain(|part, value| matches!(part.as_str(), "name" | "namespace") && !json::is_blank(value));
    }
}
