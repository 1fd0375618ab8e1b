//! Metal3Data, Metal3DataClaim and Metal3DataTemplate (C-80 to C-125). Nothing is remembered for them: what one version
//! cannot say is lost on the way, as users of the Go provider know it (CH-7).

use serde_json::{Value, json};

use super::json::{
    default, drop_each_empty, drop_empty, drop_empty_lists, drop_unless_any, each, each_of, list_to_map, map_to_list,
    object, rename,
};
use super::{Object, name_and_namespace};

pub(super) fn up(data: &mut Object, _: Option<&Value>) {
    if let Some(spec) = object(data, "spec") {
        default(spec, "index", 0);
        spec.remove("templateReference");
        for reference in ["claim", "template"] {
            name_and_namespace(spec, reference);
            drop_empty(spec, reference);
        }
    }
    if let Some(status) = object(data, "status") {
        default(status, "ready", false);
        drop_empty(status, "errorMessage");
    }
}

pub(super) fn down(data: &mut Object) {
    if let Some(spec) = object(data, "spec") {
        drop_empty(spec, "index"); // zero goes without saying there (C-80)
        for reference in ["claim", "template"] {
            default(spec, reference, json!({}));
        }
    }
    if let Some(status) = object(data, "status") {
        default(status, "ready", false);
        drop_empty(status, "errorMessage");
    }
}

pub(super) fn claim_up(claim: &mut Object, _: Option<&Value>) {
    for (part, reference) in [("spec", "template"), ("status", "renderedData")] {
        if let Some(part) = object(claim, part) {
            name_and_namespace(part, reference);
            drop_each_empty(part, &[reference, "errorMessage"]);
        }
    }
}

pub(super) fn claim_down(claim: &mut Object) {
    if let Some(spec) = object(claim, "spec") {
        default(spec, "template", json!({}));
    }
    if let Some(status) = object(claim, "status") {
        drop_each_empty(status, &["errorMessage", "renderedData"]);
    }
}

/// The lists of pool values, by their names in v1beta1 and v1beta2 (C-102 to C-105).
const POOL_LISTS: [(&str, &str); 4] = [
    ("ipAddressesFromIPPool", "ipAddressesFromPool"),
    ("prefixesFromIPPool", "prefixesFromPool"),
    ("gatewaysFromIPPool", "gatewaysFromPool"),
    ("dnsServersFromIPPool", "dnsServersFromPool"),
];
const LINKS: [&str; 3] = ["ethernets", "bonds", "vlans"];
const NETWORKS: [&str; 5] = ["ipv4", "ipv4DHCP", "ipv6", "ipv6DHCP", "ipv6SLAAC"];
const SECTIONS: [&str; 3] = ["links", "networks", "services"];
const POOL_REF: &[&str] = &["name", "kind", "apiGroup"];
const ANNOTATION: &[&str] = &["object", "annotation"];

pub(super) fn template_up(template: &mut Object, _: Option<&Value>) {
    if let Some(spec) = object(template, "spec") {
        spec.remove("templateReference");
        drop_empty(spec, "clusterName");
        if let Some(metadata) = object(spec, "metaData") {
            metadata_up(metadata);
        }
        if let Some(network_data) = object(spec, "networkData") {
            network_data_up(network_data);
        }
    }
    if let Some(status) = object(template, "status") {
        map_to_list(status, "indexes", |name, index| {
            Object::from_iter([("name".to_owned(), name.into()), ("index".to_owned(), index)])
        });
        if let Some(Value::Array(entries)) = status.get_mut("indexes") {
            entries.sort_by_key(|entry| entry["index"].as_i64()); // stable: equal indexes stay in name order
        }
    }
}

pub(super) fn template_down(template: &mut Object) {
    if let Some(spec) = object(template, "spec") {
        default(spec, "clusterName", "");
        if let Some(metadata) = object(spec, "metaData") {
            metadata_down(metadata);
        }
        if let Some(network_data) = object(spec, "networkData") {
            network_data_down(network_data);
        }
    }
    if let Some(status) = object(template, "status") {
        list_to_map(status, "indexes", |mut entry| entry.remove("index")); // one without an index is left out (CH-10)
    }
}

fn metadata_up(metadata: &mut Object) {
    for (older, newer) in POOL_LISTS {
        rename(metadata, older, newer);
        each(metadata, newer).for_each(|item| drop_each_empty(item, &["apiGroup", "kind"]));
    }
    each(metadata, "indexes").for_each(|item| drop_each_empty(item, &["offset", "step", "prefix", "suffix"]));
    for item in each(metadata, "fromHostInterfaces") {
        default(item, "fromBootMAC", false);
        drop_empty(item, "interface");
    }
    drop_empty_lists(metadata);
}

fn metadata_down(metadata: &mut Object) {
    for (older, newer) in POOL_LISTS {
        rename(metadata, newer, older);
        for item in each(metadata, older) {
            default(item, "apiGroup", "");
            default(item, "kind", "");
        }
    }
    each(metadata, "indexes").for_each(|item| drop_empty(item, "offset"));
    each(metadata, "fromHostInterfaces").for_each(|item| default(item, "fromBootMAC", false));
}

fn network_data_up(network_data: &mut Object) {
    if let Some(links) = object(network_data, "links") {
        for link in each_of(links, &LINKS) {
            drop_each_empty(link, &["mtu", "name"]);
            mac_address(link);
            drop_empty_lists(link);
        }
        for bond in each(links, "bonds") {
            drop_empty(bond, "bondXmitHashPolicy");
            map_to_list(bond, "parameters", |name, value| {
                Object::from_iter([("name".to_owned(), name.into()), ("value".to_owned(), value)])
            });
            drop_empty(bond, "parameters");
        }
        each(links, "vlans").for_each(|vlan| default(vlan, "vlanID", 0));
        drop_empty_lists(links);
    }
    if let Some(networks) = object(network_data, "networks") {
        for network in each_of(networks, &NETWORKS) {
            drop_empty(network, "ipAddressFromIPPool");
            pool_source(network);
            for route in each(network, "routes") {
                drop_empty(route, "prefix");
                gateway(route);
                if let Some(services) = object(route, "services") {
                    drop_each_empty(services, &["dns", "dnsFromIPPool"]);
                }
                drop_empty(route, "services");
            }
            drop_empty_lists(network);
        }
        drop_empty_lists(networks);
    }
    if let Some(services) = object(network_data, "services") {
        drop_each_empty(services, &["dns", "dnsFromIPPool"]);
    }
    drop_each_empty(network_data, &SECTIONS);
}

fn network_data_down(network_data: &mut Object) {
    for section in SECTIONS {
        default(network_data, section, json!({}));
    }
    if let Some(links) = object(network_data, "links") {
        each_of(links, &LINKS).for_each(mac_address);
        for bond in each(links, "bonds") {
            drop_empty(bond, "bondXmitHashPolicy");
            list_to_map(bond, "parameters", |mut parameter| Some(parameter.remove("value").unwrap_or_default()));
        }
        each(links, "vlans").for_each(|vlan| default(vlan, "vlanID", 0));
    }
    if let Some(networks) = object(network_data, "networks") {
        for network in each_of(networks, &NETWORKS) {
            pool_source(network);
            pool_reference_down(network);
            for route in each(network, "routes") {
                drop_empty(route, "prefix");
                gateway(route);
                if let Some(gateway) = object(route, "gateway") {
                    pool_reference_down(gateway);
                }
                default(route, "services", json!({}));
            }
        }
        each(networks, "ipv6").for_each(|network| default(network, "ipAddressFromIPPool", ""));
    }
}

fn mac_address(link: &mut Object) {
    if let Some(mac) = object(link, "macAddress") {
        drop_each_empty(mac, &["string", "fromHostInterface"]);
        drop_unless_any(mac, "fromAnnotation", ANNOTATION);
    }
}

/// The pool of a network or a gateway: absent rather than empty, in either version (C-119, C-120).
fn pool_source(parent: &mut Object) {
    drop_unless_any(parent, "fromPoolRef", POOL_REF);
    drop_unless_any(parent, "fromPoolAnnotation", ANNOTATION);
    if let Some(reference) = object(parent, "fromPoolRef") {
        drop_each_empty(reference, &["apiGroup", "kind"]);
    }
}

/// v1beta1 demands both of these.
fn pool_reference_down(parent: &mut Object) {
    if let Some(reference) = object(parent, "fromPoolRef") {
        default(reference, "kind", "");
        default(reference, "name", "");
    }
}

fn gateway(route: &mut Object) {
    if let Some(gateway) = object(route, "gateway") {
        drop_each_empty(gateway, &["string", "fromIPPool"]);
        pool_source(gateway);
    }
}
