//! The two documents a machine boots with.
//!
//! Rendering is all or nothing: the first thing that cannot be resolved is the answer, and nothing partial is stored.
//! Values are copied as they are found; only network masks are computed.
//!
//! Rules: docs/spec/data-rendering.md D-69 to D-79 and N-1 to N-16 with hazards HD-32, HD-33 and HD-35 adopted.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use capm3_api::infra::v1beta2::{
    Bond, DynamicNetwork, Gateway, MacAddress, MetaData, NetworkData, Route, Services, StaticNetwork,
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

/// Literal name servers, then those of the pool.
fn dns(services: &Services, facts: &Facts<'_>) -> Result<Value, Unrenderable> {
    let from_pool = match pools::dns_pool(services) {
        Some(pool) => facts.address(&pool.name)?.dns.as_slice(),
        None => &[],
    };
    Ok(services.dns.iter().chain(from_pool).map(|address| json!({"type": "dns", "address": address})).collect())
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases are JSON literals")]
mod tests {
    use std::fmt::Write as _;

    use capm3_api::foreign::HostNic;
    use capm3_api::infra::v1beta2::Metal3DataTemplateSpec;

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn nic(name: &str, mac: &str) -> HostNic {
        HostNic { name: name.to_owned(), mac: mac.to_owned(), ..HostNic::default() }
    }

    fn address(address: &str, prefix: i64, gateway: &str, dns: &[&str]) -> Address {
        let dns = dns.iter().map(|server| (*server).to_owned()).collect();
        Address { address: address.to_owned(), prefix: Some(prefix), gateway: gateway.to_owned(), dns }
    }

    fn pool(name: &str, given: Address) -> Addresses {
        Addresses::from([(name.to_owned(), given)])
    }

    /// A machine on a host, with labels and annotations to read.
    struct World {
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
        nics: Option<Vec<HostNic>>,
        boot_mac: &'static str,
        index: i64,
        addresses: Addresses,
    }

    impl Default for World {
        fn default() -> Self {
            Self {
                labels: map(&[]),
                annotations: map(&[]),
                nics: None,
                boot_mac: "",
                index: 0,
                addresses: Addresses::new(),
            }
        }
    }

    impl World {
        fn with(addresses: Addresses) -> Self {
            Self { addresses, ..Self::default() }
        }

        fn annotated(pairs: &[(&str, &str)]) -> Self {
            Self { annotations: map(pairs), ..Self::default() }
        }

        fn facts(&self) -> Facts<'_> {
            let meta =
                |name| Meta { namespace: "ns", name, labels: Some(&self.labels), annotations: Some(&self.annotations) };
            Facts {
                namespace: "ns",
                index: self.index,
                machine: meta("machine-0"),
                metal3_machine: meta("m3m-0"),
                host: Host { meta: meta("host-0"), boot_mac: self.boot_mac, nics: self.nics.as_deref() },
                addresses: &self.addresses,
            }
        }

        fn meta_data(&self, template: Value) -> Result<BTreeMap<String, String>, Unrenderable> {
            meta_data_values(&serde_json::from_value(template).unwrap(), &self.facts())
        }

        fn network_data(&self, template: Value) -> Result<Value, String> {
            let template = serde_json::from_value(template).unwrap();
            let document = network_data(&template, &self.facts()).map_err(|error| error.to_string())?;
            Ok(serde_saphyr::from_str(&document).unwrap())
        }

        fn links(&self, links: Value) -> Result<Value, String> {
            Ok(self.network_data(json!({"links": links}))?["links"].take())
        }

        fn networks(&self, networks: Value) -> Result<Value, String> {
            Ok(self.network_data(json!({"networks": networks}))?["networks"].take())
        }
    }

    /// Section 15: template, then both documents, byte for byte as published.
    #[test]
    fn worked_example() {
        let spec = include_str!("../../../docs/spec/data-rendering.md");
        let example = spec.split("## 15. Worked example").nth(1).unwrap();
        let blocks: Vec<_> = example.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        let [template, meta_data, network_data] = blocks[..] else { panic!("{} blocks", blocks.len()) };
        let template: Metal3DataTemplateSpec = serde_saphyr::from_str(template).unwrap();

        let (none, labels) = (map(&[]), map(&[("rack", "12")]));
        let meta = |name, labels| Meta { namespace: "metal3", name, labels: Some(labels), annotations: Some(&none) };
        let nics = [nic("eth0", "00:11:22:33:44:55"), nic("eth1", "DE:F0:12:34:56:78")];
        let addresses = Addresses::from([
            ("prov".to_owned(), address("172.22.0.104", 24, "172.22.0.1", &["172.22.0.2"])),
            ("ext6".to_owned(), address("2001:db8:0:1::68", 64, "2001:db8:0:1::1", &["2001:4860:4860::8888"])),
        ]);
        let facts = Facts {
            namespace: "metal3",
            index: 4,
            machine: meta("prod-md-0-x7k2p", &none),
            metal3_machine: meta("prod-md-0-x7k2p", &none),
            host: Host { meta: meta("node-3", &labels), boot_mac: "aa:bb:cc:dd:ee:01", nics: Some(&nics) },
            addresses: &addresses,
        };
        assert_eq!(super::meta_data(template.meta_data.as_ref().unwrap(), &facts).unwrap(), meta_data);
        assert_eq!(super::network_data(template.network_data.as_ref().unwrap(), &facts).unwrap(), network_data);
    }

    #[track_caller]
    fn check_meta(world: &World, template: Value, expected: &[(&str, &str)]) {
        let mut expected = map(expected);
        expected.insert("providerid".to_owned(), "ns/host-0/m3m-0".to_owned());
        assert_eq!(world.meta_data(template).unwrap(), expected);
    }

    #[track_caller]
    fn check_meta_error(world: &World, template: Value, expected: &str) {
        assert_eq!(world.meta_data(template).unwrap_err().to_string(), expected);
    }

    #[test]
    fn td_94_td_95_td_145_indexes() {
        let world = World { index: 2, ..World::default() };
        let full = json!({"key": "k", "offset": 10, "step": 2, "prefix": "abc", "suffix": "def"});
        check_meta(&world, json!({"indexes": [full]}), &[("k", "abc14def")]);
        check_meta(&world, json!({"indexes": [{"key": "k"}]}), &[("k", "2")]);
        let world = World { index: 2_000_000_000, ..World::default() };
        check_meta(&world, json!({"indexes": [{"key": "k", "step": 2}]}), &[("k", "4000000000")]);
    }

    #[test]
    fn td_96_addresses_prefixes_and_gateways() {
        let world = World::with(Addresses::from([
            ("abcd".to_owned(), address("192.168.0.14", 25, "192.168.0.1", &[])),
            ("bcde".to_owned(), address("192.168.1.14", 26, "192.168.1.1", &[])),
        ]));
        let from = |prefix: &str| json!([{"key": format!("{prefix}1"), "name": "abcd"}, {"key": format!("{prefix}2"), "name": "bcde"}]);
        check_meta(
            &world,
            json!({"ipAddressesFromPool": from("a"), "prefixesFromPool": from("p"), "gatewaysFromPool": from("g")}),
            &[
                ("a1", "192.168.0.14"),
                ("a2", "192.168.1.14"),
                ("p1", "25"),
                ("p2", "26"),
                ("g1", "192.168.0.1"),
                ("g2", "192.168.1.1"),
            ],
        );
    }

    #[test]
    fn td_97_labels_and_annotations_that_are_missing_are_empty() {
        let world = World { labels: map(&[("Empty", ""), ("M3M", "v")]), ..World::annotated(&[("zone", "a")]) };
        let label = |key: &str, label: &str| json!({"key": key, "object": "metal3machine", "label": label});
        let annotation = |key: &str, name: &str| json!({"key": key, "object": "Machine", "annotation": name});
        check_meta(
            &world,
            json!({
                "fromLabels": [label("a", "Doesnotexist"), label("b", "Empty"), label("c", "M3M")],
                "fromAnnotations": [annotation("d", "zone"), annotation("e", "none")],
                "objectNames": [{"key": "f", "object": "BareMetalHost"}, {"key": "g", "object": "machine"}, {"key": "h", "object": "metal3machine"}],
                "namespaces": [{"key": "i"}],
            }),
            &[
                ("a", ""),
                ("b", ""),
                ("c", "v"),
                ("d", "a"),
                ("e", ""),
                ("f", "host-0"),
                ("g", "machine-0"),
                ("h", "m3m-0"),
                ("i", "ns"),
            ],
        );
    }

    #[test]
    fn td_98_td_99_td_105_interfaces_by_name() {
        let template = json!({"fromHostInterfaces": [{"key": "k", "interface": "eth1"}]});
        let nics = |nics: &[HostNic]| World { nics: Some(nics.to_vec()), ..World::default() };
        let mac = "XX:XX:XX:XX:XX:YY";
        check_meta(&nics(&[nic("eth0", "a"), HostNic::default(), nic("eth1", mac)]), template.clone(), &[("k", mac)]);
        check_meta(&nics(&[nic("eth1", "")]), template.clone(), &[("k", "")]);
        check_meta_error(&nics(&[nic("eth0", "a")]), template.clone(), "NIC name not found eth1");
        check_meta_error(&nics(&[]), template.clone(), "NIC name not found eth1");
        check_meta_error(&World::default(), template, "NICs list not populated");
    }

    #[test]
    fn td_100_td_101_the_boot_mac() {
        let template = json!({"fromHostInterfaces": [{"key": "k", "fromBootMAC": true}]});
        let world = World { boot_mac: "aa:bb:cc:dd:ee:ff", ..World::default() };
        check_meta(&world, template.clone(), &[("k", "aa:bb:cc:dd:ee:ff")]);
        let expected = "metadata key \"k\": BareMetalHost ns/host-0 spec.bootMACAddress is empty";
        check_meta_error(&World::default(), template, expected);
    }

    #[test]
    fn td_102_a_pool_that_delivered_nothing() {
        for list in ["ipAddressesFromPool", "prefixesFromPool", "gatewaysFromPool"] {
            check_meta_error(&World::default(), json!({list: [{"key": "k", "name": "p"}]}), "pool not found in cache");
        }
    }

    #[test]
    fn td_103_an_unknown_object() {
        for (list, field) in [("objectNames", "key"), ("fromLabels", "label"), ("fromAnnotations", "annotation")] {
            let item = json!({"key": "k", "object": "baremetalhost2", field: "x"});
            check_meta_error(&World::default(), json!({list: [item]}), "unknown object type");
        }
    }

    #[test]
    fn td_104_the_provider_id_wins() {
        check_meta(&World::default(), json!({"strings": [{"key": "providerid", "value": "x"}]}), &[]);
    }

    const MAC: &str = "12:34:56:78:9A:BC";

    fn literal() -> Value {
        json!({"string": MAC})
    }

    #[test]
    fn tn_1_sections_that_are_absent_are_empty_lists() {
        let document = World::default().network_data(json!({})).unwrap();
        assert_eq!(document, json!({"links": [], "networks": [], "services": []}));
    }

    #[test]
    fn tn_2_to_tn_4_ethernets() {
        let ethernets = |ethernet: Value| World::default().links(json!({"ethernets": [ethernet]})).unwrap();
        let plain = json!({"type": "phy", "id": "eth0", "mtu": 1500, "macAddress": literal()});
        assert_eq!(ethernets(plain), json!([{"type": "phy", "id": "eth0", "mtu": 1500, "ethernet_mac_address": MAC}]));
        let named = json!({"type": "phy", "id": "eth0", "mtu": 1500, "name": "enp1s0"});
        assert_eq!(ethernets(named), json!([{"type": "phy", "id": "eth0", "mtu": 1500, "name": "enp1s0"}]));
    }

    #[test]
    fn tn_5_tn_6_tn_8_bonds() {
        let bonds = |bond: Value| World::default().links(json!({"bonds": [bond]})).unwrap();
        let full = json!({
            "id": "bond0", "mtu": 1500, "bondMode": "802.3ad", "bondXmitHashPolicy": "layer3+4", "bondLinks": ["eth0"],
            "macAddress": literal(), "parameters": [{"name": "miimon", "value": 100}, {"name": "primary"}],
        });
        let expected = json!([{
            "type": "bond", "id": "bond0", "mtu": 1500, "bond_mode": "802.3ad", "bond_xmit_hash_policy": "layer3+4",
            "bond_links": ["eth0"], "ethernet_mac_address": MAC, "bond_miimon": 100, "bond_primary": null,
        }]);
        assert_eq!(bonds(full), expected);
        let bare = json!({"id": "bond0", "mtu": 1500, "bondMode": "balance-rr"});
        let expected = json!([{
            "type": "bond", "id": "bond0", "mtu": 1500, "bond_mode": "balance-rr", "bond_xmit_hash_policy": "", "bond_links": [],
        }]);
        assert_eq!(bonds(bare), expected);
    }

    #[test]
    fn tn_7_bond_parameters_that_have_a_field_of_their_own() {
        let bond = json!({"id": "bond0", "bondMode": "802.3ad", "parameters": [{"name": "mode"}, {"name": "x"}, {"name": "links"}]});
        let error = World::default().links(json!({"bonds": [bond]})).unwrap_err();
        assert!(error.contains("bond0") && error.contains("mode, links"), "{error}");
    }

    #[test]
    fn tn_9_tn_10_vlans_come_last_and_bonds_first() {
        let ethernet = |id: &str| json!({"type": "phy", "id": id, "mtu": 1500});
        let links = World::default().links(json!({
            "vlans": [{"id": "v", "mtu": 1500, "vlanID": 2222, "vlanLink": "eth0", "macAddress": literal()}],
            "ethernets": [ethernet("a"), ethernet("b")],
            "bonds": [{"id": "bond0", "bondMode": "802.3ad"}],
        }));
        let links = links.unwrap();
        let types: Vec<_> = links.as_array().unwrap().iter().map(|link| link["type"].as_str().unwrap()).collect();
        assert_eq!(types, ["bond", "phy", "phy", "vlan"]);
        let expected = json!({"type": "vlan", "id": "v", "mtu": 1500, "vlan_id": 2222, "vlan_link": "eth0", "vlan_mac_address": MAC});
        assert_eq!(links[3], expected);
    }

    #[test]
    fn tn_11_to_tn_14_where_a_mac_comes_from() {
        let mac = |world: &World, source: Value| {
            let ethernet = json!({"type": "phy", "id": "e", "mtu": 1500, "macAddress": source});
            Ok::<_, String>(world.links(json!({"ethernets": [ethernet]}))?[0]["ethernet_mac_address"].clone())
        };
        let from = |object: &str| json!({"fromAnnotation": {"object": object, "annotation": "mac"}});
        let world = World {
            nics: Some(vec![nic("eth0", "12:34:56:78:9A:BD")]),
            ..World::annotated(&[("mac", "12:34:56:78:9A:BD")])
        };
        for source in
            [from("machine"), from("metal3machine"), from("baremetalhost"), json!({"fromHostInterface": "eth0"})]
        {
            assert_eq!(mac(&world, source).unwrap(), "12:34:56:78:9A:BD");
        }
        assert_eq!(mac(&world, json!({"string": "de-ad-be-ef-00-01"})).unwrap(), "de-ad-be-ef-00-01");
        for (world, source, error) in [
            (&world, json!({"fromHostInterface": "eth2"}), "NIC name not found eth2"),
            (&World::default(), json!({"fromHostInterface": "eth2"}), "NICs list not populated"),
            (&World::default(), from("machine"), "bad MAC address: "),
            (&world, from("wrflbrmpfd"), "unknown object type"),
            (&world, json!({"string": "XX:XX:XX:XX:XX:XX"}), "bad MAC address: XX:XX:XX:XX:XX:XX"),
            (&world, json!({}), "bad MAC address: "),
        ] {
            assert_eq!(mac(world, source).unwrap_err(), error);
        }
    }

    /// Blocks A and B of section 14.10, by their heading.
    fn block(name: &str) -> Value {
        let spec = include_str!("../../../docs/spec/data-rendering.md");
        let from = spec.split(&format!("\nBlock {name}")).nth(1).unwrap();
        serde_saphyr::from_str(from.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap()).unwrap()
    }

    #[test]
    fn tn_15_tn_16_an_ipv4_network() {
        let world = World::with(pool("pool", address("192.168.0.14", 24, "192.168.1.1", &[])));
        for source in [json!("IPPool"), json!("InClusterIPPool")] {
            let pool = json!({"name": "pool", "kind": source});
            let route = json!({"network": "10.0.0.0", "prefix": 16, "gateway": {"fromPoolRef": pool}, "services": {"dns": ["8.8.8.8"]}});
            let network = json!({"id": "abc", "link": "def", "fromPoolRef": pool, "routes": [route]});
            assert_eq!(world.networks(json!({"ipv4": [network]})).unwrap(), block("A"));
        }
    }

    #[test]
    fn tn_17_an_ipv6_network() {
        let world = World::with(pool("pool", address("fe80::2001:38", 96, "fe80::2001:1", &[])));
        let route = json!({"network": "2001::", "prefix": 64, "gateway": {"fromIPPool": "pool"}, "services": {"dns": ["2001::8888"]}});
        let network = json!({"id": "abc", "link": "def", "ipAddressFromIPPool": "pool", "routes": [route]});
        assert_eq!(world.networks(json!({"ipv6": [network]})).unwrap(), block("B"));
    }

    #[test]
    fn tn_18_dynamic_networks_have_no_address() {
        let network =
            |to: &str| json!([{"id": "i", "link": "l", "routes": [{"network": to, "gateway": {"string": "g"}}]}]);
        let networks = World::default()
            .networks(json!({"ipv6SLAAC": network("::"), "ipv6DHCP": network("::"), "ipv4DHCP": network("0.0.0.0")}))
            .unwrap();
        let expected = [("ipv4_dhcp", "0.0.0.0"), ("ipv6_dhcp", "::"), ("ipv6_slaac", "::")].map(|(kind, any)| {
            let route = json!({"network": any, "netmask": any, "gateway": "g", "services": []});
            json!({"type": kind, "id": "i", "link": "l", "routes": [route]})
        });
        assert_eq!(networks, json!(expected));
    }

    #[test]
    fn tn_19_tn_20_pools_named_by_annotations() {
        let annotated = |addresses| World { addresses, ..World::annotated(&[("pool", "test-pool")]) };
        let network = |object: &str| json!([{"id": "i", "link": "l", "fromPoolAnnotation": {"object": object, "annotation": "pool"}}]);
        let world = annotated(pool("test-pool", address("192.168.10.20", 24, "", &[])));
        let v4 = world.networks(json!({"ipv4": network("baremetalhost")})).unwrap();
        assert_eq!((&v4[0]["netmask"], &v4[0]["routes"]), (&json!("255.255.255.0"), &json!([])));
        let world = annotated(pool("test-pool", address("2001:db8::100", 64, "", &[])));
        let v6 = world.networks(json!({"ipv6": network("machine")})).unwrap();
        assert_eq!(v6[0]["netmask"], "ffff:ffff:ffff:ffff::");
    }

    #[test]
    fn tn_21_tn_25_pools_that_delivered_nothing() {
        let error =
            |template: Value| World::with(pool("pool2", Address::default())).network_data(template).unwrap_err();
        let missing = "pool not found in cache";
        assert_eq!(error(json!({"networks": {"ipv4": [{"id": "i", "ipAddressFromIPPool": "pool1"}]}})), missing);
        assert_eq!(error(json!({"services": {"dnsFromIPPool": "pool1"}})), missing);
        let gateway = json!([{"id": "i", "routes": [{"network": "::", "gateway": {"fromIPPool": "pool1"}}]}]);
        assert_eq!(error(json!({"networks": {"ipv6DHCP": gateway}})), "failed to fetch pool from cache");
    }

    fn routes_of(world: &World, kind: &str, routes: Value) -> Value {
        world.networks(json!({kind: [{"id": "i", "link": "l", "routes": routes}]})).unwrap()[0]["routes"].take()
    }

    fn servers(of: &Value) -> Vec<&str> {
        of.as_array().unwrap().iter().map(|entry| entry["address"].as_str().unwrap()).collect()
    }

    #[test]
    fn tn_22_routes_of_ipv4() {
        let world = World::with(pool("pool", address("192.168.2.9", 24, "192.168.2.1", &["1.1.1.1"])));
        let routes = routes_of(
            &world,
            "ipv4DHCP",
            json!([
                {"network": "192.168.0.0", "prefix": 24, "gateway": {"string": "192.168.1.1"}},
                {"network": "10.0.0.0", "prefix": 16, "gateway": {"fromIPPool": "pool"}, "services": {"dns": ["8.8.8.8", "8.8.4.4"], "dnsFromIPPool": "pool"}},
                {"gateway": {"fromPoolRef": {"name": "pool"}}},
            ]),
        );
        assert_eq!(
            routes[0],
            json!({"network": "192.168.0.0", "netmask": "255.255.255.0", "gateway": "192.168.1.1", "services": []})
        );
        assert_eq!(routes[1]["gateway"], "192.168.2.1");
        assert_eq!(servers(&routes[1]["services"]), ["8.8.8.8", "8.8.4.4", "1.1.1.1"]);
        assert_eq!(routes[2], json!({"network": "", "netmask": "0.0.0.0", "gateway": "192.168.2.1", "services": []}));
    }

    #[test]
    fn tn_23_routes_of_ipv6() {
        let world = World::with(pool("pool", address("fe80::9", 64, "fe80::1", &["fe80:2001::1111"])));
        let routes = routes_of(
            &world,
            "ipv6SLAAC",
            json!([
                {"network": "2001::0", "prefix": 96, "gateway": {"string": "2001::1"}},
                {"network": "fe80::0", "prefix": 64, "gateway": {"fromIPPool": "pool"}, "services": {"dns": ["a", "b"], "dnsFromIPPool": "pool"}},
                {"gateway": {"fromPoolRef": {"name": "pool"}}},
            ]),
        );
        let expected = json!({"network": "2001::0", "netmask": "ffff:ffff:ffff:ffff:ffff:ffff::", "gateway": "2001::1", "services": []});
        assert_eq!(routes[0], expected);
        assert_eq!(servers(&routes[1]["services"]), ["a", "b", "fe80:2001::1111"]);
        assert_eq!(routes[2]["netmask"], "::");
    }

    #[test]
    fn tn_24_services_keep_their_order() {
        let world = World::with(pool("pool1", address("", 0, "", &["8.8.4.4"])));
        let document =
            world.network_data(json!({"services": {"dns": ["8.8.8.8", "2001::8888"], "dnsFromIPPool": "pool1"}}));
        let document = document.unwrap();
        assert_eq!(servers(&document["services"]), ["8.8.8.8", "2001::8888", "8.8.4.4"]);
        assert_eq!(document["services"][0]["type"], "dns");
    }

    #[test]
    fn tn_26_tn_27_netmasks() {
        let mut table = String::new();
        for (family, prefixes) in
            [(Family::V4, vec![0, 1, 16, 24, 31, 32]), (Family::V6, vec![0, 56, 64, 96, 112, 127, 128])]
        {
            for prefix in prefixes {
                let _ = writeln!(table, "{prefix} {}", family.netmask(prefix).unwrap());
            }
        }
        let expected = "0 0.0.0.0\n1 128.0.0.0\n16 255.255.0.0\n24 255.255.255.0\n31 255.255.255.254\n32 255.255.255.255\n\
            0 ::\n56 ffff:ffff:ffff:ff00::\n64 ffff:ffff:ffff:ffff::\n96 ffff:ffff:ffff:ffff:ffff:ffff::\n\
            112 ffff:ffff:ffff:ffff:ffff:ffff:ffff:0\n127 ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe\n\
            128 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff\n";
        assert_eq!(table, expected);
        assert_eq!([Family::V4.netmask(33), Family::V6.netmask(129), Family::V4.netmask(-1)], [None, None, None]);
    }

    #[test]
    fn tn_28_a_pool_of_cluster_api_may_not_say_its_prefix() {
        let world = World::with(pool("p", Address { prefix: None, ..address("10.0.0.9", 0, "", &[]) }));
        let networks = world.networks(json!({"ipv4": [{"id": "i", "link": "l", "ipAddressFromIPPool": "p"}]})).unwrap();
        assert_eq!(networks[0]["netmask"], "");
    }

    #[test]
    fn tn_29_prefixes_and_families_that_do_not_fit() {
        for (kind, given, expected) in [
            ("ipv4", address("10.0.0.9", 64, "", &[]), "network i: prefix 64 is not one of an IPv4 network"),
            ("ipv4", address("10.0.0.9", 0, "", &[]), "network i: prefix 0 is not one of an IPv4 network"),
            ("ipv6", address("fd00::9", 129, "", &[]), "network i: prefix 129 is not one of an IPv6 network"),
            ("ipv4", address("fd00::9", 24, "", &[]), "network i: fd00::9 is not an IPv4 address"),
            ("ipv6", address("10.0.0.9", 24, "", &[]), "network i: 10.0.0.9 is not an IPv6 address"),
        ] {
            let world = World::with(pool("p", given));
            let error =
                world.networks(json!({kind: [{"id": "i", "link": "l", "ipAddressFromIPPool": "p"}]})).unwrap_err();
            assert_eq!(error, expected);
        }
    }
}
