//! Every field of our kinds says what it means, and the pages of `docs/reference` name each of them. What was decided against a text
//! that others read stands in `docs/parity.md`.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod support;

use serde_json::Value;
use support::{read, root};

/// Path and schema of every property below, those of Kubernetes's own apart.
fn properties<'a>(schema: &'a Value, path: &str, found: &mut Vec<(String, &'a Value)>) {
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if !["apiVersion", "kind", "metadata"].contains(&path.as_str()) {
            found.push((path.clone(), below));
            properties(below, &path, found);
        }
    }
    for (key, step) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            properties(&schema[key], &format!("{path}{step}"), found);
        }
    }
}

fn each(mut test: impl FnMut(&str, &str, &str, &Value)) {
    let pages = [("infrastructure", capm3_api::crds::infrastructure()), ("ipam", capm3_api::crds::ipam())];
    let mut count = 0;
    for (page, crds) in pages {
        for crd in crds {
            for version in crd.spec.versions {
                let schema = serde_json::to_value(version.schema.unwrap().open_api_v3_schema.unwrap()).unwrap();
                let mut found = Vec::new();
                properties(&schema, "", &mut found);
                let title = format!("{} {}", crd.spec.names.kind, version.name);
                for (path, field) in found {
                    test(page, &title, &path, field);
                    count += 1;
                }
            }
        }
    }
    assert!(count > 900, "only {count} fields");
}

#[test]
fn every_field_says_what_it_means_and_in_which_unit() {
    let mut silent = Vec::new();
    each(|_, kind, path, field| {
        let about = field["description"].as_str().unwrap_or_default();
        let name = path.rsplit('.').next().unwrap();
        let unit = match name {
            _ if name.ends_with("Seconds") => "second",
            "mtu" => "byte",
            "prefix" if field["type"] == "integer" => "bit",
            _ => "",
        };
        if about.trim().is_empty() || !about.contains(unit) {
            silent.push(format!("{kind} {path}: {about:?} {unit}"));
        }
    });
    assert!(silent.is_empty(), "{}\n{} fields", silent.join("\n"), silent.len());
}

#[test]
fn the_pages_name_every_field_with_its_meaning() {
    let page = |name: &str| read(&root().join(format!("docs/reference/{name}.md")));
    let pages = [("infrastructure", page("infrastructure")), ("ipam", page("ipam"))];
    each(|page, kind, path, field| {
        let text = &pages.iter().find(|(name, _)| *name == page).unwrap().1;
        let (_, section) = text.split_once(&format!("\n## {kind}\n")).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let row = section.lines().find(|line| line.starts_with(&format!("| `{path}` |")));
        let row = row.unwrap_or_else(|| panic!("{kind} {path} is not on the page"));
        assert!(row.contains(field["description"].as_str().unwrap()), "{kind} {path}");
        assert_eq!(row.replace("\\|", "").matches('|').count(), 6, "{row}");
    });
}

#[test]
fn k_210_what_is_decided_where_contract_and_go_provider_differ_is_written_down() {
    let page = read(&root().join("docs/parity.md"));
    let (_, section) = page.split_once("\n## Where the contract's text and the Go provider differ\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    assert!(section.contains("Existing fields and names follow the Go provider, new fields the contract"), "{section}");
    for rule in ["K-21", "K-78", "K-130"] {
        let mut decided =
            section.lines().filter(|line| line.starts_with("| ")).map(|row| row.split('|').collect::<Vec<_>>());
        let says = |row: Vec<&str>| row.len() == 5 && row[3].contains(rule) && row[2].trim().len() > 10;
        assert!(decided.any(says), "{rule} is not decided");
    }
}
