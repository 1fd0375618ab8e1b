//! CRDs of baremetal-operator's kinds for the bed, built from the table of their fields.
//!
//! The bed plays baremetal-operator, so it installs what that installs. A field that the table lists without children and with
//! type object keeps whatever it is given.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

const FIELDS: &str = include_str!("data/host-crd-fields.tsv");
const VERSIONS: &str = include_str!("data/host-crd-versions.tsv");

type Row<'a> = BTreeMap<&'a str, &'a str>;

/// BareMetalHost, HardwareData and HostClaim.
pub fn all() -> Result<Vec<Value>> {
    rows(VERSIONS).iter().map(crd).collect()
}

fn rows(table: &'static str) -> Vec<Row<'static>> {
    let mut lines = table.lines().map(|line| line.split('\t'));
    let names: Vec<&str> = lines.next().into_iter().flatten().collect();
    lines.map(|cells| names.iter().copied().zip(cells).collect()).collect()
}

fn crd(version: &Row<'_>) -> Result<Value> {
    let kind = version["kind"];
    let mut root = json!({});
    for row in rows(FIELDS).iter().filter(|row| row["kind"] == kind && row["version"] == version["version"]) {
        insert(&mut root, row).with_context(|| format!("{kind} {}", row["path"]))?;
    }
    open_leaves(&mut root, true);
    let plural = version["plural"];
    let split = |text: &str| text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let mut served = json!({
        "name": version["version"],
        "served": true,
        "storage": true,
        "schema": {"openAPIV3Schema": root},
    });
    if version["status"] == "status" {
        served["subresources"] = json!({"status": {}});
    }
    let columns: Vec<Value> = version["columns"].split("; ").filter_map(column).collect();
    if !columns.is_empty() {
        served["additionalPrinterColumns"] = columns.into();
    }
    let mut names = json!({
        "kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": kind.to_lowercase(),
    });
    if !version["short"].is_empty() {
        names["shortNames"] = split(version["short"]).into();
    }
    Ok(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{}", version["group"])},
        "spec": {"group": version["group"], "scope": version["scope"], "names": names, "versions": [served]},
    }))
}

/// `State(string)p1=.status.provisioning.state`
fn column(text: &str) -> Option<Value> {
    let (head, path) = text.split_once('=')?;
    let (name, rest) = head.split_once('(')?;
    let (kind, priority) = rest.split_once(')')?;
    let mut column = json!({"name": name, "type": kind, "jsonPath": path});
    if let Some(priority) = priority.strip_prefix('p').and_then(|p| p.parse::<i32>().ok()) {
        column["priority"] = priority.into();
    }
    Some(column)
}

/// Puts the schema of one row where its path says, below parents that came before it.
fn insert(root: &mut Value, row: &Row<'_>) -> Result<()> {
    let path = row["path"].trim_start_matches('.');
    let mut at = root;
    let parts: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
    for (depth, part) in parts.iter().enumerate() {
        let last = depth + 1 == parts.len();
        let name = part.trim_end_matches("[]");
        if last && row["req"] == "r" && !part.ends_with("[]") {
            let required = at.as_object_mut().context("parent")?.entry("required").or_insert_with(|| json!([]));
            required.as_array_mut().context("required")?.push(name.into());
        }
        at = child(at, "properties").as_object_mut().context("properties")?.entry(name).or_insert_with(|| json!({}));
        for _ in 0..part.matches("[]").count() {
            at = child(at, "items");
        }
    }
    let schema = at.as_object_mut().context("schema")?;
    schema.extend(leaf(row)?);
    Ok(())
}

fn child<'a>(of: &'a mut Value, name: &str) -> &'a mut Value {
    if of.get(name).is_none() {
        of[name] = json!({});
    }
    &mut of[name]
}

fn leaf(row: &Row<'_>) -> Result<Map<String, Value>> {
    let kind = row["type"];
    let mut schema = Map::new();
    let scalar = |text: &str| -> Result<Value> {
        Ok(match kind {
            "integer" => text.parse::<i64>()?.into(),
            "number" => text.parse::<f64>()?.into(),
            "boolean" => text.parse::<bool>()?.into(),
            _ => text.trim_matches('"').into(),
        })
    };
    if !kind.is_empty() {
        schema.insert("type".into(), kind.into());
    }
    for (cell, key) in [("format", "format"), ("pattern", "pattern")] {
        if !row[cell].is_empty() {
            schema.insert(key.into(), row[cell].into());
        }
    }
    for (cell, key) in [
        ("min", "minimum"),
        ("max", "maximum"),
        ("minLen", "minLength"),
        ("maxLen", "maxLength"),
        ("minItems", "minItems"),
        ("maxItems", "maxItems"),
        ("minProps", "minProperties"),
        ("maxProps", "maxProperties"),
    ] {
        if !row[cell].is_empty() {
            schema.insert(key.into(), row[cell].parse::<i64>()?.into());
        }
    }
    if !row["default"].is_empty() {
        schema.insert("default".into(), scalar(row["default"])?);
    }
    if !row["enum"].is_empty() {
        schema.insert("enum".into(), row["enum"].split('|').map(scalar).collect::<Result<Vec<_>>>()?.into());
    }
    match row["list"].split_once(':') {
        Some(("map", keys)) => {
            schema.insert("x-kubernetes-list-type".into(), "map".into());
            schema.insert("x-kubernetes-list-map-keys".into(), keys.split(',').collect::<Vec<_>>().into());
        }
        Some(other) => bail!("unknown list type {other:?}"),
        None if !row["list"].is_empty() => {
            schema.insert("x-kubernetes-list-type".into(), row["list"].into());
        }
        None => {}
    }
    for flag in row.get("flags").copied().unwrap_or_default().split(',').filter(|flag| !flag.is_empty()) {
        match flag.trim() {
            "nullable" => schema.insert("nullable".into(), true.into()),
            "map-type=atomic" => schema.insert("x-kubernetes-map-type".into(), "atomic".into()),
            "preserve-unknown" => schema.insert("x-kubernetes-preserve-unknown-fields".into(), true.into()),
            other => bail!("unknown flag {other}"),
        };
    }
    Ok(schema)
}

/// Objects of which the table names no field keep what they are given.
fn open_leaves(schema: &mut Value, root: bool) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties.iter_mut() {
            if !(root && name == "metadata") {
                open_leaves(property, false);
            }
        }
    } else if object.get("type").and_then(Value::as_str) == Some("object") {
        object.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
    }
    if let Some(items) = object.get_mut("items") {
        open_leaves(items, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_crd_has_the_fields_the_provider_reads() {
        let crds = all().unwrap();
        let host = crds.iter().find(|crd| crd["metadata"]["name"] == "baremetalhosts.metal3.io").unwrap();
        let schema = &host["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        assert_eq!(schema["spec"]["properties"]["online"]["type"], "boolean");
        assert_eq!(schema["spec"]["required"], json!(["online"]));
        let nics = &schema["status"]["properties"]["hardware"]["properties"]["nics"];
        assert_eq!(nics["items"]["properties"]["mac"]["type"], "string");
        assert_eq!(schema["spec"]["properties"]["consumerRef"]["x-kubernetes-map-type"], "atomic");
        assert!(schema["metadata"].get("x-kubernetes-preserve-unknown-fields").is_none());
    }
}
