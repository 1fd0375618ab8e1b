//! Cluster templates and ClusterClasses, put together from the parts in `templates/parts`
//! (docs/spec/capi-contract.md section 5.3, K-113, K-151 to K-158).
//!
//! A part is YAML with three kinds of lines more: `#if feature` (or `#if !feature`), `#else`, `#end`; and
//! `#include part name=value …`, which is replaced by that part, as far in as the line is. `@name@` stands for a value.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

/// One released file.
pub struct Flavour {
    /// Suffix of `cluster-template-…`, or name of the class.
    pub name: &'static str,
    /// What it is for, in one line.
    pub about: &'static str,
    part: &'static str,
    features: &'static [&'static str],
}

const fn flavour(
    name: &'static str,
    part: &'static str,
    features: &'static [&'static str],
    about: &'static str,
) -> Flavour {
    Flavour { name, about, part, features }
}

/// In the order of their documentation. A name ending in `-v1beta1` is the same with our kinds in v1beta1.
pub const FLAVOURS: &[Flavour] = &[
    flavour(
        "pools",
        "workload",
        &["pools"],
        "A control plane, workers, a CNI and two address pools of the cluster's own.",
    ),
    flavour(
        "ip-reuse",
        "workload",
        &["pools", "ip-reuse"],
        "As pools; the provisioning network is configured on the machines too, so that both addresses are seen to be kept.",
    ),
    flavour(
        "md-remediation",
        "workload",
        &["pools", "md-remediation"],
        "As pools; workers that turn unhealthy are power-cycled through a MachineHealthCheck and a Metal3RemediationTemplate.",
    ),
    flavour(
        "md-taints",
        "workload",
        &["pools", "md-taints"],
        "As pools; Nodes get taints from their Machines. Cluster API needs its feature gate MachineTaintPropagation.",
    ),
    flavour(
        "upgrade-workload",
        "workload",
        &[],
        "As pools, without the pools: it takes addresses from pools that are there already.",
    ),
    flavour(
        "topology",
        "topology",
        &["metal3-remediation"],
        "A cluster of the class metal3-remediation, with pools and data templates of its own.",
    ),
    flavour(
        "fake",
        "topology",
        &["fake", "metal3"],
        "A cluster of the class metal3 for simulated API servers: whoever starts one puts its address in place of \
         CLUSTER_APIENDPOINT_HOST_HOLDER and CLUSTER_APIENDPOINT_PORT_HOLDER.",
    ),
    flavour("pools-v1beta1", "workload", &["pools", "v1beta1"], "As pools, with the infrastructure kinds in v1beta1."),
    flavour(
        "ip-reuse-v1beta1",
        "workload",
        &["pools", "ip-reuse", "v1beta1"],
        "As ip-reuse, with the infrastructure kinds in v1beta1.",
    ),
    flavour(
        "md-remediation-v1beta1",
        "workload",
        &["pools", "md-remediation", "v1beta1"],
        "As md-remediation, with the infrastructure kinds in v1beta1.",
    ),
    flavour(
        "md-taints-v1beta1",
        "workload",
        &["pools", "md-taints", "v1beta1"],
        "As md-taints, with the infrastructure kinds in v1beta1.",
    ),
];

pub const CLASSES: &[Flavour] = &[
    flavour(
        "metal3",
        "clusterclass",
        &["class", "metal3"],
        "A class whose clusters give their endpoint, image and data templates.",
    ),
    flavour(
        "metal3-remediation",
        "clusterclass",
        &["class", "remediation", "metal3-remediation"],
        "As metal3; machines whose Nodes turn unhealthy are power-cycled.",
    ),
];

const PARTS: &[(&str, &str)] = &[
    ("clusterclass", include_str!("../../templates/parts/clusterclass.yaml")),
    ("data-template", include_str!("../../templates/parts/data-template.yaml")),
    ("ippools", include_str!("../../templates/parts/ippools.yaml")),
    ("machine-template", include_str!("../../templates/parts/machine-template.yaml")),
    ("node-registration", include_str!("../../templates/parts/node-registration.yaml")),
    ("remediation-template", include_str!("../../templates/parts/remediation-template.yaml")),
    ("resource-set", include_str!("../../templates/parts/resource-set.yaml")),
    ("taints", include_str!("../../templates/parts/taints.yaml")),
    ("topology", include_str!("../../templates/parts/topology.yaml")),
    ("unhealthy", include_str!("../../templates/parts/unhealthy.yaml")),
    ("users", include_str!("../../templates/parts/users.yaml")),
    ("workload", include_str!("../../templates/parts/workload.yaml")),
];

type Values<'a> = BTreeMap<&'a str, &'a str>;

impl Flavour {
    fn has(&self, feature: &str) -> bool {
        self.features.contains(&feature)
    }

    /// What `@name@` stands for in every part of this flavour.
    fn values(&self) -> Values<'static> {
        let pools = if self.part == "topology" {
            ["${CLUSTER_NAME}-provisioning-pool", "${CLUSTER_NAME}-baremetalv4-pool"]
        } else {
            ["${IPAM_PROVISIONING_POOL_NAME:=provisioning-pool}", "${IPAM_EXTERNALV4_POOL_NAME:=baremetalv4-pool}"]
        };
        let words =
            if self.has("v1beta1") { ["v1beta1", "IPPool", "format"] } else { ["v1beta2", "Pool", "diskFormat"] };
        let class = if self.has("metal3-remediation") { "metal3-remediation" } else { "metal3" };
        let remediation = if self.has("class") { "metal3-remediation" } else { "${CLUSTER_NAME}-remediation" };
        BTreeMap::from([
            ("provisioning", pools[0]),
            ("external", pools[1]),
            ("infra", words[0]),
            ("pool", words[1]),
            ("format", words[2]),
            ("class", class),
            ("remediation", remediation),
        ])
    }

    pub fn text(&self) -> Result<String> {
        let mut text = format!("# {}\n# Generated by `make generate` from templates/parts; do not edit.\n", self.about);
        self.include(self.part, &self.values(), "", &mut text).with_context(|| format!("flavour {}", self.name))?;
        Ok(text)
    }

    fn include(&self, part: &str, values: &Values<'_>, indent: &str, text: &mut String) -> Result<()> {
        let (_, source) = PARTS.iter().find(|(name, _)| *name == part).with_context(|| format!("no part {part}"))?;
        let mut open: Vec<bool> = Vec::new();
        for line in source.lines() {
            let shown = open.iter().all(|open| *open);
            let word = line.trim_start();
            if let Some(feature) = word.strip_prefix("#if ") {
                open.push(feature.strip_prefix('!').map_or_else(|| self.has(feature), |feature| !self.has(feature)));
            } else if word == "#else" {
                let last = open.last_mut().with_context(|| format!("{part}: #else without #if"))?;
                *last = !*last;
            } else if word == "#end" {
                open.pop().with_context(|| format!("{part}: #end without #if"))?;
            } else if !shown {
            } else if let Some(what) = word.strip_prefix("#include ") {
                let mut words = what.split(' ');
                let name = words.next().unwrap_or_default();
                let given = words.map(|word| word.split_once('=').with_context(|| format!("{part}: {word}")));
                let given = given.collect::<Result<Vec<_>>>()?;
                let given: Vec<_> =
                    given.iter().map(|(name, value)| Ok((*name, fill(value, values)?))).collect::<Result<_>>()?;
                let mut below = values.clone();
                below.extend(given.iter().map(|(name, value)| (*name, value.as_str())));
                let deeper = format!("{indent}{}", &line[..line.len() - word.len()]);
                self.include(name, &below, &deeper, text)?;
            } else if line.is_empty() {
                text.push('\n');
            } else {
                let indent = if line.starts_with("${") { "" } else { indent };
                text.push_str(&format!("{indent}{}\n", fill(line, values).with_context(|| part.to_owned())?));
            }
        }
        if !open.is_empty() {
            bail!("{part}: #if without #end");
        }
        Ok(())
    }
}

fn fill(line: &str, values: &Values<'_>) -> Result<String> {
    let mut pieces = line.split('@');
    let mut filled = pieces.next().unwrap_or_default().to_owned();
    while let Some(name) = pieces.next() {
        filled.push_str(values.get(name).with_context(|| format!("@{name}@ has no value"))?);
        filled.push_str(pieces.next().with_context(|| format!("one @ in {line:?}"))?);
    }
    Ok(filled)
}

/// A variable of a template: whether it must be given, and its default.
pub fn variables(text: &str) -> BTreeMap<String, Option<String>> {
    let mut found = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for piece in text.split("${").skip(1) {
        let Some((inside, _)) = piece.split_once('}') else { continue };
        let end = inside.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inside.len());
        let (name, rest) = inside.split_at(end);
        let default = [":=", ":-", "="].iter().find_map(|operator| rest.strip_prefix(operator));
        if seen.insert(name.to_owned()) {
            found.insert(name.to_owned(), default.filter(|default| !default.is_empty()).map(str::to_owned));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_features_are_filled_in() {
        assert_eq!(fill("a: @x@-@y@", &Values::from([("x", "1"), ("y", "2")])).unwrap(), "a: 1-2");
        assert!(fill("a: @x@", &Values::new()).is_err());
        assert!(fill("a: b@c", &Values::new()).is_err());
    }

    /// K-106: what decides is the first occurrence.
    #[test]
    fn k_106_variables_and_their_defaults() {
        let found = variables("a: ${A}\nb: ${B:=x}${C:-0} ${D:=} ${A:=late}");
        let expected = [("A", None), ("B", Some("x")), ("C", Some("0")), ("D", None)];
        let expected = expected.map(|(name, default)| (name.to_owned(), default.map(str::to_owned)));
        assert_eq!(found, BTreeMap::from(expected));
    }
}
