//! Metal3DataTemplate, Metal3DataClaim and Metal3Data (D-17 to D-23, W-24 to W-30, W-36 to W-42).

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use super::{Admission, Verdict, is_blank, namespace};
use crate::common::NamespacedRef;
use crate::convert::convert;
use crate::infra::v1beta2::{
    MacAddress, MetaData, Metal3Data, Metal3DataClaim, Metal3DataTemplate, NetworkData, StaticNetwork,
};
use crate::names::{INFRA_API_VERSION, INFRA_API_VERSION_V1BETA1, IPAM_GROUP};

const DEFAULT_MTU: i32 = 1500;
/// What users write freely stays readable by everyone who parses it: readers give up at some depth, most at 128.
const DEEPEST: usize = 64;

impl Admission for Metal3DataTemplate {
    fn judge(&self, old: Option<&Self>, verdict: &mut Verdict) {
        if !is_blank(self.spec.cluster_name.as_ref()) {
            verdict.warn("spec.clusterName is deprecated: nothing reads it");
        }
        let Some(old) = old else {
            if let Some(metadata) = &self.spec.meta_data {
                judge_metadata(metadata, verdict);
            }
            if let Some(network_data) = &self.spec.network_data {
                judge_network_data(network_data, verdict);
            }
            return;
        };
        if self.same_spec(old) {
            return;
        }
        let (before, after) = (settled(old), settled(self));
        judge_recipe("spec.metaData", &before.0, &after.0, verdict);
        judge_recipe("spec.networkData", &before.1, &after.1, verdict);
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

/// Refuses a change, and names the first place where there is one.
fn judge_recipe<T: PartialEq + Serialize>(path: &str, before: &T, after: &T, verdict: &mut Verdict) {
    if before == after {
        return;
    }
    let [before, after] = [before, after].map(|recipe| serde_json::to_value(recipe).unwrap_or_default());
    let (at, before, after) = first_difference(String::new(), &before, &after);
    verdict.immutable(path, after, before, &format!("{path}{at} cannot change, make a new template"));
}

fn first_difference<'a>(path: String, before: &'a Value, after: &'a Value) -> (String, &'a Value, &'a Value) {
    let below = match (before, after) {
        (Value::Object(a), Value::Object(b)) => a.keys().chain(b.keys()).find_map(|key| {
            let (a, b) = (&before[key.as_str()], &after[key.as_str()]);
            (a != b).then(|| first_difference(format!("{path}.{key}"), a, b))
        }),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let differ = a.iter().zip(b).enumerate().find(|(_, (a, b))| a != b);
            differ.map(|(i, (a, b))| first_difference(format!("{path}[{i}]"), a, b))
        }
        _ => None,
    };
    below.unwrap_or((path, before, after))
}

/// The recipe after a way through v1beta1 and after the schema's defaults: two that are equal here mean the same (W-42).
fn settled(template: &Metal3DataTemplate) -> (MetaData, NetworkData) {
    let through_v1beta1 = serde_json::to_value(template)
        .ok()
        .and_then(|object| convert(object, INFRA_API_VERSION_V1BETA1).ok())
        .and_then(|object| convert(object, INFRA_API_VERSION).ok())
        .and_then(|object| serde_json::from_value::<Metal3DataTemplate>(object).ok());
    let spec = through_v1beta1.unwrap_or_else(|| template.clone()).spec;
    let (mut metadata, mut network_data) = (spec.meta_data.unwrap_or_default(), spec.network_data.unwrap_or_default());

    let pool = |group: &mut Option<String>, kind: &mut Option<String>| {
        group.get_or_insert_with(|| IPAM_GROUP.to_owned());
        kind.get_or_insert_with(|| "IPPool".to_owned());
    };
    for list in [
        &mut metadata.ip_addresses_from_pool,
        &mut metadata.prefixes_from_pool,
        &mut metadata.gateways_from_pool,
        &mut metadata.dns_servers_from_pool,
    ] {
        list.iter_mut().for_each(|item| pool(&mut item.api_group, &mut item.kind));
    }
    metadata.indexes.iter_mut().for_each(|item| _ = item.step.get_or_insert(1));
    if let Some(links) = &mut network_data.links {
        let mtus = (links.ethernets.iter_mut().map(|l| &mut l.mtu))
            .chain(links.bonds.iter_mut().map(|l| &mut l.mtu))
            .chain(links.vlans.iter_mut().map(|l| &mut l.mtu));
        mtus.for_each(|mtu| _ = mtu.get_or_insert(DEFAULT_MTU));
    }
    if let Some(networks) = &mut network_data.networks {
        let fixed = networks.ipv4.iter_mut().chain(&mut networks.ipv6);
        let (references, routes): (Vec<_>, Vec<_>) =
            fixed.map(|network| (&mut network.from_pool_ref, &mut network.routes)).unzip();
        let dynamic = networks.ipv4_dhcp.iter_mut().chain(&mut networks.ipv6_dhcp).chain(&mut networks.ipv6_slaac);
        let routes = routes.into_iter().chain(dynamic.map(|network| &mut network.routes)).flatten();
        let gateways = routes.map(|route| &mut route.gateway.from_pool_ref);
        for reference in references.into_iter().chain(gateways).flatten() {
            pool(&mut reference.api_group, &mut reference.kind);
        }
    }
    (metadata, network_data)
}

fn judge_metadata(metadata: &MetaData, verdict: &mut Verdict) {
    for (i, item) in metadata.from_host_interfaces.iter().enumerate() {
        let path = format!("spec.metaData.fromHostInterfaces.{i}.interface");
        match (item.from_boot_mac == Some(true), is_blank(item.interface.as_ref())) {
            (false, true) => verdict.required(path, "name an interface, or set fromBootMAC"),
            (true, false) => verdict.invalid(path, &item.interface, "must be left out next to fromBootMAC"),
            _ => {}
        }
    }
    let keys = (metadata.strings.iter().map(|i| &i.key))
        .chain(metadata.object_names.iter().map(|i| &i.key))
        .chain(metadata.indexes.iter().map(|i| &i.key))
        .chain(metadata.namespaces.iter().map(|i| &i.key))
        .chain(metadata.ip_addresses_from_pool.iter().map(|i| &i.key))
        .chain(metadata.prefixes_from_pool.iter().map(|i| &i.key))
        .chain(metadata.gateways_from_pool.iter().map(|i| &i.key))
        .chain(metadata.dns_servers_from_pool.iter().map(|i| &i.key))
        .chain(metadata.from_host_interfaces.iter().map(|i| &i.key))
        .chain(metadata.from_labels.iter().map(|i| &i.key))
        .chain(metadata.from_annotations.iter().map(|i| &i.key));
    let mut seen = BTreeSet::from(["providerid"]);
    let doubled: BTreeSet<_> = keys.map(String::as_str).filter(|key| !seen.insert(key)).collect();
    for key in doubled {
        verdict.warn(format!("spec.metaData: key {key:?} is set more than once; one value replaces the other")); // HD-31
    }
}

fn judge_network_data(network_data: &NetworkData, verdict: &mut Verdict) {
    if let Some(networks) = &network_data.networks {
        judge_pools("ipv4", &networks.ipv4, verdict);
        judge_pools("ipv6", &networks.ipv6, verdict);
    }
    let Some(links) = &network_data.links else { return };
    let all = (links.ethernets.iter().enumerate().map(|(i, l)| ("ethernets", i, &l.mac_address)))
        .chain(links.bonds.iter().enumerate().map(|(i, l)| ("bonds", i, &l.mac_address)))
        .chain(links.vlans.iter().enumerate().map(|(i, l)| ("vlans", i, &l.mac_address)));
    for (list, i, mac) in all {
        if let Some(mac) = mac.as_ref().filter(|mac| sources(mac) != 1) {
            let path = format!("spec.networkData.links.{list}.{i}.macAddress");
            verdict.invalid(path, mac, "must have one of string, fromHostInterface and fromAnnotation, or be left out"); // HD-2
        }
        // Rendered as it stands (N-7), and compared as text by cloud-init with what the kernel says.
        if let Some(text) = mac.as_ref().and_then(|mac| mac.string.as_ref()).filter(|text| text.contains('-')) {
            let path = format!("spec.networkData.links.{list}.{i}.macAddress.string");
            verdict.warn(format!("{path}: cloud-init finds no interface by {text:?}; write it with colons"));
        }
    }
    for (i, bond) in links.bonds.iter().enumerate() {
        for (j, parameter) in bond.parameters.iter().enumerate() {
            if parameter.value.as_ref().is_some_and(|value| depth(value) > DEEPEST) {
                let path = format!("spec.networkData.links.bonds.{i}.parameters.{j}.value");
                verdict.invalid(path, &parameter.value, format!("must not be nested deeper than {DEEPEST}"));
            }
        }
    }
}

/// How deep a value is nested; no deeper than there is a use in knowing.
fn depth(value: &Value) -> usize {
    let below: Vec<&Value> = match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => return 0,
    };
    1 + below.into_iter().map(depth).max().unwrap_or(0)
}

fn judge_pools(family: &str, networks: &[StaticNetwork], verdict: &mut Verdict) {
    for (i, network) in networks.iter().enumerate() {
        let named = network.from_pool_ref.as_ref().is_some_and(|reference| !reference.name.is_empty())
            || !is_blank(network.ip_address_from_ip_pool.as_ref())
            || network.from_pool_annotation.as_ref().is_some_and(|annotation| !annotation.object.is_empty());
        if !named {
            let path = format!("spec.networkData.networks.{family}.{i}.fromPoolRef.name");
            verdict.required(path, "an address needs a pool: fromPoolRef, ipAddressFromIPPool or fromPoolAnnotation");
        }
    }
}

fn sources(mac: &MacAddress) -> usize {
    usize::from(!is_blank(mac.string.as_ref()))
        + usize::from(!is_blank(mac.from_host_interface.as_ref()))
        + usize::from(mac.from_annotation.is_some())
}

/// A reference as it is meant: absent is empty, no namespace is the own one (HD-14).
fn meant<'a>(reference: Option<&'a NamespacedRef>, own: &'a str) -> (&'a str, &'a str) {
    reference.map_or(("", own), |reference| (reference.name.as_str(), reference.namespace_or(own)))
}

impl Admission for Metal3DataClaim {
    fn judge(&self, old: Option<&Self>, verdict: &mut Verdict) {
        let own = namespace(self);
        let template = self.spec.template.as_ref();
        match old {
            None if meant(template, own).0.is_empty() => {
                verdict.required("spec.template.name", "name the Metal3DataTemplate to render")
            }
            Some(old) if meant(template, own) != meant(old.spec.template.as_ref(), own) => {
                verdict.immutable("spec.template", template, &old.spec.template, "make a new claim");
            }
            _ => {}
        }
        verdict.own_namespace("spec.template", template.and_then(|template| template.namespace.as_deref()), own);
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

const WHOLE: &str = "delete the object and it is made anew";

impl Admission for Metal3Data {
    fn judge(&self, old: Option<&Self>, verdict: &mut Verdict) {
        let (spec, own) = (&self.spec, namespace(self));
        match old {
            None => {
                if let Some(index) = spec.index.filter(|index| *index < 0) {
                    verdict.invalid("spec.index", index, "must be 0 or more");
                }
                match (spec.template.as_ref(), spec.index) {
                    (Some(template), Some(index)) => {
                        let expected = format!("{}-{index}", template.name);
                        if self.metadata.name.as_ref() != Some(&expected) {
                            let wanted = format!("must be {expected:?}, the template's name and the index");
                            verdict.invalid("name", &self.metadata.name, wanted);
                        }
                    }
                    (Some(_), None) => verdict.required("spec.index", "must be the index in the template, 0 or more"), // HD-6
                    (None, _) => {}
                }
            }
            Some(old) => {
                if spec.index.unwrap_or(0) != old.spec.index.unwrap_or(0) {
                    verdict.immutable("spec.index", spec.index, old.spec.index.unwrap_or(0), WHOLE);
                }
                for (path, new, old) in [
                    ("spec.template", &spec.template, &old.spec.template),
                    ("spec.claim", &spec.claim, &old.spec.claim),
                ] {
                    if meant(new.as_ref(), own) != meant(old.as_ref(), own) {
                        verdict.immutable(path, new, old, WHOLE);
                    }
                }
            }
        }
        // References leave the namespace in none of their four forms (HD-15).
        let changed = |same: Option<bool>| same != Some(true);
        if old.is_none() {
            for (path, reference) in [("spec.template", &spec.template), ("spec.claim", &spec.claim)] {
                verdict.own_namespace(path, reference.as_ref().and_then(|r| r.namespace.as_deref()), own);
            }
        }
        if changed(old.map(|old| old.spec.meta_data == spec.meta_data)) {
            verdict.own_namespace("spec.metaData", spec.meta_data.as_ref().and_then(|s| s.namespace.as_deref()), own);
        }
        if changed(old.map(|old| old.spec.network_data == spec.network_data)) {
            let secret = spec.network_data.as_ref();
            verdict.own_namespace("spec.networkData", secret.and_then(|s| s.namespace.as_deref()), own);
        }
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}
