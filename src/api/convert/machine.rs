//! Metal3Machine and Metal3MachineTemplate (C-40 to C-62).

use serde_json::{Value, json};

use super::cluster::{status_down, status_up, template_metadata_down, template_metadata_up, template_spec};
use super::json::{default, drop_each_empty, drop_empty, drop_unless_any, object, rename};
use super::{Object, name_and_namespace};

pub(super) fn up(machine: &mut Object, preserved: Option<&Value>) {
    if let Some(spec) = object(machine, "spec") {
        spec_up(spec, preserved.map(|p| &p["spec"]));
    }
    if let Some(status) = object(machine, "status") {
        status.remove("phase");
        status_up(status, preserved);
        name_and_namespace(status, "renderedData");
        drop_empty(status, "addresses");
    }
}

pub(super) fn down(machine: &mut Object) {
    if let Some(spec) = object(machine, "spec") {
        spec_down(spec);
    }
    if let Some(status) = object(machine, "status") {
        status_down(status);
    }
}

pub(super) fn template_up(template: &mut Object, preserved: Option<&Value>) {
    template_metadata_up(template, preserved);
    if let Some(spec) = template_spec(template) {
        spec_up(spec, preserved.and_then(|p| p.pointer("/spec/template/spec")));
    }
    if let Some(spec) = object(template, "spec") {
        spec.retain(|key, value| key != "nodeReuse" || *value == true);
    }
}

pub(super) fn template_down(template: &mut Object) {
    template_metadata_down(template);
    if let Some(spec) = template_spec(template) {
        spec_down(spec);
    }
    if let Some(spec) = object(template, "spec") {
        default(spec, "nodeReuse", false);
    }
}

fn spec_up(spec: &mut Object, preserved: Option<&Value>) {
    drop_each_empty(spec, &["providerID", "automatedCleaningMode", "failureDomain"]);
    let checksum_before = preserved.and_then(|p| p.pointer("/image/checksum")).is_some_and(Value::is_string);
    image_up(spec, checksum_before);
    drop_unless_any(spec, "customDeploy", &["method"]);
    if let Some(selector) = object(spec, "hostSelector") {
        drop_each_empty(selector, &["matchLabels", "matchExpressions"]);
    }
    drop_empty(spec, "hostSelector");
    name_and_namespace(spec, "dataTemplate");
}

/// v1beta1 cannot tell an empty checksum from none. An empty one is what it was before; a checksum that is written wins
/// over whatever was remembered (C-42, CH-3). A block that says nothing is no image (CH-4).
fn image_up(spec: &mut Object, checksum_before: bool) {
    let Some(image) = object(spec, "image") else { return };
    rename(image, "format", "diskFormat");
    drop_each_empty(image, &["checksum", "checksumType", "diskFormat"]);
    if checksum_before {
        default(image, "checksum", "");
    }
    let says_nothing = image.iter().all(|(key, value)| key == "url" && value == "");
    if says_nothing {
        spec.remove("image");
    }
}

fn spec_down(spec: &mut Object) {
    drop_each_empty(spec, &["providerID", "automatedCleaningMode"]);
    if let Some(image) = object(spec, "image") {
        rename(image, "diskFormat", "format");
        drop_each_empty(image, &["checksum", "checksumType", "format"]);
        default(image, "url", "");
    }
    drop_unless_any(spec, "customDeploy", &["method"]);
    default(spec, "hostSelector", json!({}));
}
