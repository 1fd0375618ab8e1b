//! The two documents a machine boots with.
//!
//! Rendering is all or nothing: the first thing that cannot be resolved is the answer, and nothing partial is stored.
//! Values are copied as they are found; only network masks are computed.
//!
//! Rules: docs/spec/data-rendering.md D-69 to D-79 and N-1 to N-16 with hazards HD-19 and HD-32 to HD-35 adopted.

#[cfg(test)]
mod fuzz;
#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases are JSON literals")]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use capm3_api::infra::v1beta2::{
    Bond, DynamicNetwork, Gateway, MacAddress, MetaData, Metal3DataTemplateSpec, NetworkData, Route, Services,
    StaticNetwork,
};
use serde_json::{Map, Value, json};

use super::objects::{Host, Meta, Objects, Unrenderable};
use super::pools::{self, Pool};
use crate::yaml::to_yaml;

/// What one pool delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Address {
    pub address: String,
    /// `None` only for pools of Cluster API that do not say.
    pub prefix: Option<i64>,
    /// Empty when the pool has none.
    pub gateway: String,
    pub dns: Vec<String>,
}

/// What the pools delivered, by pool name.
pub type Addresses = BTreeMap<String, Address>;

/// The machine a template is rendered for.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Namespace of the Metal3Data, and of everything around it.
    pub namespace: &'a str,
    pub index: i64,
    pub machine: Meta<'a>,
    pub metal3_machine: Meta<'a>,
    pub host: Host<'a>,
    pub addresses: &'a Addresses,
    /// Whether `dnsServersFromPool` renders: the template asks for it by annotation, because the Go provider never does (HD-19).
    pub dns_servers: bool,
}

impl<'a> Facts<'a> {
    fn objects(&self) -> Objects<'a> {
        Objects { machine: Some(self.machine), metal3_machine: Some(self.metal3_machine), host: Some(self.host) }
    }

    fn object(&self, kind: &str) -> Result<Meta<'a>, Unrenderable> {
        self.objects().find(kind)?.ok_or(Unrenderable::UnknownObject)
    }

    fn address(&self, pool: &str) -> Result<&'a Address, Unrenderable> {
        self.addresses.get(pool).ok_or(Unrenderable::AddressMissing)
    }
}

/// The metadata document: a flat map of strings.
pub fn meta_data(template: &MetaData, facts: &Facts<'_>) -> Result<String, Unrenderable> {
    let values = meta_data_values(template, facts)?;
    Ok(to_yaml(&Value::Object(values.into_iter().map(|(key, value)| (key, Value::String(value))).collect())))
}

/// Later lists win over earlier ones, and `providerid` over all.
fn meta_data_values(template: &MetaData, facts: &Facts<'_>) -> Result<BTreeMap<String, String>, Unrenderable> {
    let mut values = BTreeMap::new();
    let mut set = |key: &str, value: &str| values.insert(key.to_owned(), value.to_owned());

    for item in &template.from_host_interfaces {
        let mac = if item.from_boot_mac == Some(true) {
            boot_mac(&item.key, &facts.host)?
        } else {
            facts.objects().mac_of(item.interface.as_deref().unwrap_or_default())?
        };
        set(&item.key, mac);
    }
    for item in &template.ip_addresses_from_pool {
        set(&item.key, &facts.address(&item.name)?.address);
    }
    for item in &template.prefixes_from_pool {
        let prefix = facts.address(&item.name)?.prefix;
        set(&item.key, &prefix.map(|prefix| prefix.to_string()).unwrap_or_default());
    }
    for item in &template.gateways_from_pool {
        set(&item.key, &facts.address(&item.name)?.gateway);
    }
    for item in template.dns_servers_from_pool.iter().filter(|_| facts.dns_servers) {
        set(&item.key, &facts.address(&item.name)?.dns.join(","));
    }
    for item in &template.indexes {
        let step = item.step.filter(|step| *step != 0).unwrap_or(1);
        let number = i64::from(item.offset.unwrap_or_default()) + facts.index * i64::from(step);
        let (prefix, suffix) = (item.prefix.as_deref().unwrap_or_default(), item.suffix.as_deref().unwrap_or_default());
        set(&item.key, &format!("{prefix}{number}{suffix}"));
    }
    for item in &template.namespaces {
        set(&item.key, facts.namespace);
    }
    for item in &template.object_names {
        set(&item.key, facts.object(&item.object)?.name);
    }
    for item in &template.from_labels {
        set(&item.key, facts.object(&item.object)?.label(&item.label).unwrap_or_default());
    }
    for item in &template.from_annotations {
        set(&item.key, facts.object(&item.object)?.annotation(&item.annotation).unwrap_or_default());
    }
    for item in &template.strings {
        set(&item.key, &item.value);
    }
    let machine = facts.metal3_machine;
    set("providerid", &format!("{}/{}/{}", machine.namespace, facts.host.meta.name, machine.name));
    Ok(values)
}

fn boot_mac<'a>(key: &str, host: &Host<'a>) -> Result<&'a str, Unrenderable> {
    if host.boot_mac.is_empty() {
        return Err(Unrenderable::NoBootMac {
            key: key.to_owned(),
            namespace: host.meta.namespace.to_owned(),
            host: host.meta.name.to_owned(),
        });
    }
    Ok(host.boot_mac)
}

/// The network data document, in the form OpenStack gave it.
pub fn network_data(template: &NetworkData, facts: &Facts<'_>) -> Result<String, Unrenderable> {
    let services = template.services.as_ref().map(|services| dns(services, facts)).transpose()?;
    let document = json!({
        "links": links(template, &facts.objects())?,
        "networks": networks(template, facts)?,
        "services": services.unwrap_or_else(|| json!([])),
    });
    Ok(to_yaml(&document))
}

/// Bonds, then ethernets, then vlans.
fn links(template: &NetworkData, objects: &Objects<'_>) -> Result<Vec<Value>, Unrenderable> {
    let mut entries = Vec::new();
    let Some(links) = &template.links else { return Ok(entries) };
    for bond in &links.bonds {
        entries.push(bond_entry(bond, objects)?);
    }
    for ethernet in &links.ethernets {
        let mut entry = link(&ethernet.type_, &ethernet.id, ethernet.mtu, ethernet.name.as_deref());
        set_mac(&mut entry, "ethernet_mac_address", ethernet.mac_address.as_ref(), objects)?;
        entries.push(Value::Object(entry));
    }
    for vlan in &links.vlans {
        let mut entry = link("vlan", &vlan.id, vlan.mtu, vlan.name.as_deref());
        entry.insert("vlan_id".to_owned(), vlan.vlan_id.into());
        entry.insert("vlan_link".to_owned(), vlan.vlan_link.as_str().into());
        set_mac(&mut entry, "vlan_mac_address", vlan.mac_address.as_ref(), objects)?;
        entries.push(Value::Object(entry));
    }
    Ok(entries)
}

/// What the schema fills in when a link does not say; an object stored before the default existed has none.
const DEFAULT_MTU: i32 = 1500;

fn link(kind: &str, id: &str, mtu: Option<i32>, name: Option<&str>) -> Map<String, Value> {
    let mut entry = Map::new();
    entry.insert("type".to_owned(), kind.into());
    entry.insert("id".to_owned(), id.into());
    entry.insert("mtu".to_owned(), mtu.unwrap_or(DEFAULT_MTU).into());
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        entry.insert("name".to_owned(), name.into());
    }
    entry
}

fn bond_entry(bond: &Bond, objects: &Objects<'_>) -> Result<Value, Unrenderable> {
    let mut entry = link("bond", &bond.id, bond.mtu, bond.name.as_deref());
    entry.insert("bond_mode".to_owned(), bond.bond_mode.as_str().into());
    // Users of the Go provider compare documents: an unset policy is there as an empty text.
    let policy = bond.bond_xmit_hash_policy.as_deref().unwrap_or_default();
    entry.insert("bond_xmit_hash_policy".to_owned(), policy.into());
    entry.insert("bond_links".to_owned(), bond.bond_links.clone().into());
    set_mac(&mut entry, "ethernet_mac_address", bond.mac_address.as_ref(), objects)?;

    let mut illegal = Vec::new();
    for parameter in &bond.parameters {
        let key = format!("bond_{}", parameter.name);
        if entry.contains_key(&key) {
            illegal.push(parameter.name.clone());
        } else {
            entry.insert(key, parameter.value.clone().unwrap_or_default());
        }
    }
    if !illegal.is_empty() {
        return Err(Unrenderable::BondParameters { id: bond.id.clone(), names: illegal });
    }
    Ok(Value::Object(entry))
}

fn set_mac(
    entry: &mut Map<String, Value>,
    key: &str,
    source: Option<&MacAddress>,
    objects: &Objects<'_>,
) -> Result<(), Unrenderable> {
    if let Some(source) = source {
        entry.insert(key.to_owned(), mac(source, objects)?.into());
    }
    Ok(())
}

/// The first source that is given (N-7).
fn mac<'a>(source: &'a MacAddress, objects: &Objects<'a>) -> Result<&'a str, Unrenderable> {
    let given = |text: &'a Option<String>| text.as_deref().filter(|text| !text.is_empty());
    let mac = if let Some(literal) = given(&source.string) {
        literal
    } else if let Some(interface) = given(&source.from_host_interface) {
        objects.mac_of(interface)?
    } else if let Some(reference) = source.from_annotation.as_ref().filter(|reference| !reference.object.is_empty()) {
        let object = objects.get(&reference.object, &reference.annotation)?;
        object.annotation(&reference.annotation).unwrap_or_default()
    } else {
        ""
    };
    if is_mac(mac) { Ok(mac) } else { Err(Unrenderable::BadMac(mac.to_owned())) }
}

/// Six pairs of hexadecimal digits, with colons or dashes between them.
fn is_mac(text: &str) -> bool {
    text.len() == 17
        && text.bytes().enumerate().all(|(at, byte)| match at % 3 {
            2 => matches!(byte, b':' | b'-'),
            _ => byte.is_ascii_hexdigit(),
        })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    fn owns(self, address: &str) -> bool {
        match (self, address.parse()) {
            (Self::V4, Ok(IpAddr::V4(_))) | (Self::V6, Ok(IpAddr::V6(_))) => true,
            (Self::V4, Ok(IpAddr::V6(_)) | Err(_)) | (Self::V6, Ok(IpAddr::V4(_)) | Err(_)) => false,
        }
    }

    /// The mask of a prefix length as an address, or `None` when the family has no such prefix (N-11).
    fn netmask(self, prefix: i64) -> Option<String> {
        match self {
            Self::V4 => {
                let host_bits = 32_u32.checked_sub(u32::try_from(prefix).ok()?)?;
                Some(Ipv4Addr::from(u32::MAX.checked_shl(host_bits).unwrap_or(0)).to_string())
            }
            Self::V6 => {
                let host_bits = 128_u32.checked_sub(u32::try_from(prefix).ok()?)?;
                Some(Ipv6Addr::from(u128::MAX.checked_shl(host_bits).unwrap_or(0)).to_string())
            }
        }
    }
}

/// Static networks of both families, then dynamic ones.
fn networks(template: &NetworkData, facts: &Facts<'_>) -> Result<Vec<Value>, Unrenderable> {
    let mut entries = Vec::new();
    let Some(networks) = &template.networks else { return Ok(entries) };
    for (list, family) in [(&networks.ipv4, Family::V4), (&networks.ipv6, Family::V6)] {
        for network in list {
            entries.push(static_network(network, family, facts)?);
        }
    }
    let dynamic: [(&[DynamicNetwork], _, _); 3] = [
        (&networks.ipv4_dhcp, "ipv4_dhcp", Family::V4),
        (&networks.ipv6_dhcp, "ipv6_dhcp", Family::V6),
        (&networks.ipv6_slaac, "ipv6_slaac", Family::V6),
    ];
    for (list, kind, family) in dynamic {
        for network in list {
            let routes = routes(&network.routes, &network.id, family, facts)?;
            entries.push(json!({"type": kind, "id": network.id, "link": network.link, "routes": routes}));
        }
    }
    Ok(entries)
}

fn static_network(network: &StaticNetwork, family: Family, facts: &Facts<'_>) -> Result<Value, Unrenderable> {
    let pool = pools::address_pool(network, &facts.objects())?.ok_or(Unrenderable::AddressMissing)?;
    let given = facts.address(&pool.name)?;
    if !family.owns(&given.address) {
        return Err(Unrenderable::WrongFamily {
            network: network.id.clone(),
            address: given.address.clone(),
            family: family.number(),
        });
    }
    // A prefix of 0 is how an unset one looks; the whole internet is nobody's link.
    let netmask = match given.prefix {
        None => String::new(),
        Some(0) => return Err(bad_prefix(&network.id, 0, family)),
        Some(prefix) => family.netmask(prefix).ok_or_else(|| bad_prefix(&network.id, prefix, family))?,
    };
    Ok(json!({
        "type": format!("ipv{}", family.number()),
        "id": network.id,
        "link": network.link,
        "ip_address": given.address,
        "netmask": netmask,
        "routes": routes(&network.routes, &network.id, family, facts)?,
    }))
}

fn bad_prefix(network: &str, prefix: i64, family: Family) -> Unrenderable {
    Unrenderable::BadPrefix { network: network.to_owned(), prefix, family: family.number() }
}

fn routes(routes: &[Route], network: &str, family: Family, facts: &Facts<'_>) -> Result<Vec<Value>, Unrenderable> {
    let entry = |route: &Route| {
        let prefix = i64::from(route.prefix.unwrap_or_default());
        let services = route.services.as_ref().map(|services| dns(services, facts)).transpose()?;
        Ok(json!({
            "network": route.network,
            "netmask": family.netmask(prefix).ok_or_else(|| bad_prefix(network, prefix, family))?,
            "gateway": gateway(&route.gateway, facts)?,
            "services": services.unwrap_or_else(|| json!([])),
        }))
    };
    routes.iter().map(entry).collect()
}

/// A literal gateway, that of a pool, or an empty text when nothing is given (N-13).
fn gateway<'a>(gateway: &'a Gateway, facts: &Facts<'a>) -> Result<&'a str, Unrenderable> {
    if let Some(literal) = &gateway.string {
        return Ok(literal);
    }
    match pools::gateway_pool(gateway, &facts.objects())? {
        Some(Pool { name, .. }) => {
            facts.addresses.get(&name).map(|given| given.gateway.as_str()).ok_or(Unrenderable::GatewayMissing)
        }
        None => Ok(""),
    }
}

/// The pools whose gateway the template asks for and that have none: what is rendered is an empty text, which some who read it
/// refuse (HD-34).
#[must_use]
pub fn pools_without_gateway(template: &Metal3DataTemplateSpec, facts: &Facts<'_>) -> BTreeSet<String> {
    let in_meta_data =
        template.meta_data.iter().flat_map(|meta| &meta.gateways_from_pool).map(|item| item.name.clone());
    let networks = template.network_data.iter().filter_map(|network_data| network_data.networks.as_ref());
    let routes = networks.flat_map(|networks| {
        let fixed = networks.ipv4.iter().chain(&networks.ipv6).map(|network| &network.routes);
        let dynamic = [&networks.ipv4_dhcp, &networks.ipv6_dhcp, &networks.ipv6_slaac];
        fixed.chain(dynamic.into_iter().flatten().map(|network| &network.routes)).flatten()
    });
    let in_routes = routes.filter_map(|route| pools::gateway_pool(&route.gateway, &facts.objects()).ok().flatten());
    let asked = in_meta_data.chain(in_routes.map(|pool| pool.name));
    asked.filter(|pool| facts.addresses.get(pool).is_some_and(|given| given.gateway.is_empty())).collect()
}

/// Literal name servers, then those of the pool.
fn dns(services: &Services, facts: &Facts<'_>) -> Result<Value, Unrenderable> {
    let from_pool = match pools::dns_pool(services) {
        Some(pool) => facts.address(&pool.name)?.dns.as_slice(),
        None => &[],
    };
    Ok(services.dns.iter().chain(from_pool).map(|address| json!({"type": "dns", "address": address})).collect())
}
