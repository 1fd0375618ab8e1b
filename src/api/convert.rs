//! Conversion between v1beta1 and v1beta2 (api-types 7 and 8, hazards CH-1 to CH-12 adopted).
//!
//! It works on the JSON itself: what both versions share is never touched, so only the differences are written down here,
//! and any object an API server hands over converts, also one of which only a few fields are left. *Up* leads to v1beta2,
//! *down* to v1beta1. Four kinds carry the whole v1beta2 object in an annotation while they are v1beta1; on the way back
//! only what v1beta1 cannot say is restored from it, so an edit made through v1beta1 wins.

mod cluster;
mod data;
pub(crate) mod json;
mod machine;
mod remediation;

use serde_json::{Map, Value};

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
    #[error("annotation {key}: {why}", key = annotation::CONVERSION_DATA)]
    ConversionData { why: String },
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
        let preserved = if conversion.preserves { take_preserved(&mut object)? } else { None };
        (conversion.up)(&mut object, preserved.as_ref());
        for part in ["spec", "status"] {
            object.get_mut(part).map(json::saturate);
        }
    } else {
        let preserved = conversion.preserves.then(|| {
            let parts = object.iter().filter(|(key, _)| *key != "metadata");
            Value::Object(parts.map(|(key, value)| (key.clone(), value.clone())).collect()).to_string()
        });
        (conversion.down)(&mut object);
        if let Some(preserved) = preserved {
            let metadata = json::object_or_new(&mut object, "metadata");
            json::object_or_new(metadata, "annotations").insert(annotation::CONVERSION_DATA.into(), preserved.into());
        }
    }
    object.insert("apiVersion".into(), desired_api_version.into());
    json::drop_empty(&mut object, "status");
    Ok(Value::Object(object))
}

/// Takes the annotation off, so that stored objects never carry it (C-5).
fn take_preserved(object: &mut Object) -> Result<Option<Value>, ConvertError> {
    let Some(metadata) = json::object(object, "metadata") else { return Ok(None) };
    let Some(annotations) = json::object(metadata, "annotations") else { return Ok(None) };
    let Some(text) = annotations.remove(annotation::CONVERSION_DATA) else { return Ok(None) };
    json::drop_empty(metadata, "annotations");
    let failed = |why: &dyn ToString| ConvertError::ConversionData { why: why.to_string() };
    let text = text.as_str().ok_or_else(|| failed(&"not text"))?;
    let mut preserved: Value = serde_json::from_str(text).map_err(|e| failed(&e))?;
    let parts = preserved.as_object_mut().ok_or_else(|| failed(&"not an object"))?;
    for part in ["spec", "status"] {
        json::drop_nulls(parts, part);
    }
    Ok(Some(preserved))
}

/// A core ObjectReference keeps only what a reference of ours can say; the way back fills only that (C-8).
fn name_and_namespace(parent: &mut Object, key: &str) {
    if let Some(reference) = json::object(parent, key) {
        reference.retain(|part, value| matches!(part.as_str(), "name" | "namespace") && !json::is_blank(value));
    }
}
