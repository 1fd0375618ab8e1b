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
    dns_servers: bool,
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
            dns_servers: false,
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
            dns_servers: self.dns_servers,
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
    let spec = include_str!("../../../../docs/spec/data-rendering.md");
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
        dns_servers: false,
    };
    assert_eq!(super::meta_data(template.meta_data.as_ref().unwrap(), &facts).unwrap(), meta_data);
    assert_eq!(super::network_data(template.network_data.as_ref().unwrap(), &facts).unwrap(), network_data);
}

/// A file of `golden/`: a machine, a template, and the documents that come of them, which the bed has cloud-init and netplan read.
struct Golden {
    name: String,
    content: Value,
}

impl Golden {
    fn all() -> Vec<Self> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/render/golden");
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let read = |path: std::path::PathBuf| Self {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            content: serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap(),
        };
        files.map(read).collect()
    }

    fn rendered(&self) -> [Option<String>; 2] {
        let template: Metal3DataTemplateSpec = serde_json::from_value(self.content["template"].clone()).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let nics = self.content["nics"].as_object().unwrap().iter().map(|(name, mac)| nic(name, mac.as_str().unwrap()));
        let pools = self.content["pools"].as_object().unwrap().iter();
        let addresses = pools.map(|(name, given)| {
            let dns = given["dns"].as_array().into_iter().flatten().map(text).collect();
            let (address, gateway) = (text(&given["address"]), text(&given["gateway"]));
            (name.clone(), Address { address, prefix: given["prefix"].as_i64(), gateway, dns })
        });
        let world = World { nics: Some(nics.collect()), addresses: addresses.collect(), ..World::default() };
        let meta_data = template.meta_data.as_ref().map(|meta| super::meta_data(meta, &world.facts()).unwrap());
        let network_data =
            template.network_data.as_ref().map(|data| super::network_data(data, &world.facts()).unwrap());
        [meta_data, network_data]
    }
}

#[test]
fn golden_documents_are_rendered_byte_for_byte() {
    let all = Golden::all();
    assert!(all.len() >= 6);
    for golden in all {
        let written = ["metaData", "networkData"].map(|key| golden.content[key].as_str().map(str::to_owned));
        assert_eq!(golden.rendered(), written, "{}", golden.name);
    }
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

fn indexed(index: i64) -> World {
    World { index, ..World::default() }
}

#[test]
fn td_94_an_index_with_offset_step_prefix_and_suffix() {
    let full = json!({"key": "k", "offset": 10, "step": 2, "prefix": "abc", "suffix": "def"});
    check_meta(&indexed(2), json!({"indexes": [full]}), &[("k", "abc14def")]);
}

#[test]
fn td_95_a_bare_index() {
    check_meta(&indexed(2), json!({"indexes": [{"key": "k"}]}), &[("k", "2")]);
}

#[test]
fn td_145_an_index_beyond_32_bits() {
    check_meta(&indexed(2_000_000_000), json!({"indexes": [{"key": "k", "step": 2}]}), &[("k", "4000000000")]);
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

fn inspected(nics: &[HostNic]) -> World {
    World { nics: Some(nics.to_vec()), ..World::default() }
}

fn mac_of_eth1() -> Value {
    json!({"fromHostInterfaces": [{"key": "k", "interface": "eth1"}]})
}

#[test]
fn td_98_an_interface_by_name_whatever_its_mac_looks_like() {
    let mac = "XX:XX:XX:XX:XX:YY";
    let world = inspected(&[nic("eth0", "a"), HostNic::default(), nic("eth1", mac)]);
    check_meta(&world, mac_of_eth1(), &[("k", mac)]);
}

#[test]
fn td_99_an_interface_that_the_host_does_not_have() {
    let template = json!({"fromHostInterfaces": [{"key": "k", "interface": "eth2"}]});
    let nics = [nic("eth0", "a"), HostNic::default(), nic("eth1", "b")];
    check_meta_error(&inspected(&nics), template, "NIC name not found eth2");
}

#[test]
fn td_100_the_boot_mac() {
    let template = json!({"fromHostInterfaces": [{"key": "k", "fromBootMAC": true}]});
    let world = World { boot_mac: "aa:bb:cc:dd:ee:ff", ..World::default() };
    check_meta(&world, template, &[("k", "aa:bb:cc:dd:ee:ff")]);
}

#[test]
fn td_101_a_host_without_boot_mac() {
    let template = json!({"fromHostInterfaces": [{"key": "k", "fromBootMAC": true}]});
    let expected = "metadata key \"k\": BareMetalHost ns/host-0 spec.bootMACAddress is empty";
    check_meta_error(&World::default(), template, expected);
}

#[test]
fn td_105_what_a_host_may_know_of_its_interfaces() {
    for (status, error) in [
        (json!({}), "NICs list not populated"),
        (json!({"hardware": {}}), "NICs list not populated"),
        (json!({"hardware": {"nics": []}}), "NICs list not populated"),
        (json!({"hardware": {"nics": [{"name": "eth0", "mac": "a"}]}}), "NIC name not found eth1"),
    ] {
        let host =
            serde_json::from_value(json!({"metadata": {"name": "host-0"}, "spec": {}, "status": status})).unwrap();
        let nics = Host::of(&host).nics.map(<[_]>::to_vec);
        check_meta_error(&World { nics, ..World::default() }, mac_of_eth1(), error);
    }
    for mac in ["00:11:22:33:44:55", ""] {
        check_meta(&inspected(&[nic("eth1", mac)]), mac_of_eth1(), &[("k", mac)]);
    }
}

/// Off, as the Go provider renders nothing; on by the template's annotation.
#[test]
fn hd_19_name_servers_in_the_metadata_are_asked_for() {
    let template = json!({"dnsServersFromPool": [{"key": "dns", "name": "p"}, {"key": "none", "name": "q"}]});
    let addresses = || {
        let mut both = pool("p", address("10.0.0.9", 24, "", &["8.8.8.8", "fd00::53"]));
        both.extend(pool("q", address("10.1.0.9", 24, "", &[])));
        both
    };
    check_meta(&World::with(addresses()), template.clone(), &[]);
    let asked = World { dns_servers: true, ..World::with(addresses()) };
    check_meta(&asked, template.clone(), &[("dns", "8.8.8.8,fd00::53"), ("none", "")]);
    check_meta_error(&World { dns_servers: true, ..World::default() }, template, "pool not found in cache");
}

#[test]
fn hd_34_a_pool_that_is_asked_for_a_gateway_and_has_none_is_known() {
    let mut addresses = pool("with", address("10.0.0.9", 24, "10.0.0.1", &[]));
    for name in ["meta", "static", "slaac", "only-its-address"] {
        addresses.extend(pool(name, address("10.0.0.9", 24, "", &[])));
    }
    let world = World::with(addresses);
    let route = |gateway: Value| json!([{"network": "0.0.0.0", "gateway": gateway}]);
    let template: Metal3DataTemplateSpec = serde_json::from_value(json!({
        "metaData": {
            "ipAddressesFromPool": [{"key": "a", "name": "only-its-address"}],
            "gatewaysFromPool": [{"key": "b", "name": "meta"}, {"key": "c", "name": "with"}],
        },
        "networkData": {"networks": {
            "ipv4": [
                {"id": "i", "ipAddressFromIPPool": "with", "routes": route(json!({"fromPoolRef": {"name": "static"}}))},
                {"id": "j", "ipAddressFromIPPool": "with", "routes": route(json!({"string": "", "fromIPPool": "only-its-address"}))},
            ],
            "ipv6SLAAC": [{"id": "k", "routes": route(json!({"fromIPPool": "slaac"}))}],
        }},
    })).unwrap();
    let without: Vec<_> = pools_without_gateway(&template, &world.facts()).into_iter().collect();
    assert_eq!(without, ["meta", "slaac", "static"]);
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
fn n_1_sections_that_are_absent_are_empty_lists() {
    let document = World::default().network_data(json!({})).unwrap();
    assert_eq!(document, json!({"links": [], "networks": [], "services": []}));
}

fn ethernet(ethernet: Value) -> Value {
    World::default().links(json!({"ethernets": [ethernet]})).unwrap()
}

#[test]
fn tn_2_an_ethernet() {
    let plain = json!({"type": "phy", "id": "eth0", "mtu": 1500, "macAddress": literal()});
    assert_eq!(ethernet(plain), json!([{"type": "phy", "id": "eth0", "mtu": 1500, "ethernet_mac_address": MAC}]));
}

#[test]
fn tn_3_an_ethernet_without_mac() {
    let bare = json!({"type": "phy", "id": "eth0", "mtu": 1500});
    assert_eq!(ethernet(bare), json!([{"type": "phy", "id": "eth0", "mtu": 1500}]));
}

#[test]
fn tn_4_an_ethernet_with_a_name() {
    let named = json!({"type": "phy", "id": "eth0", "mtu": 1500, "name": "enp1s0", "macAddress": literal()});
    let expected = json!([{"type": "phy", "id": "eth0", "mtu": 1500, "name": "enp1s0", "ethernet_mac_address": MAC}]);
    assert_eq!(ethernet(named), expected);
}

/// A bond whose other fields are as little as the schema admits.
fn bond(more: Value) -> Value {
    let mut bond = json!({"id": "bond0", "mtu": 1500, "bondMode": "802.3ad"});
    bond.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    World::default().links(json!({"bonds": [bond]})).unwrap()[0].take()
}

#[test]
fn tn_5_a_bond() {
    let full = json!({"bondXmitHashPolicy": "layer3+4", "bondLinks": ["eth0"], "macAddress": literal()});
    let expected = json!({
        "type": "bond", "id": "bond0", "mtu": 1500, "bond_mode": "802.3ad", "bond_xmit_hash_policy": "layer3+4",
        "bond_links": ["eth0"], "ethernet_mac_address": MAC,
    });
    assert_eq!(bond(full), expected);
}

/// The links as hazard HD-35 has them: a list.
#[test]
fn tn_6_a_bond_without_policy() {
    let expected = json!({
        "type": "bond", "id": "bond0", "mtu": 1500, "bond_mode": "802.3ad", "bond_xmit_hash_policy": "", "bond_links": [],
    });
    assert_eq!(bond(json!({})), expected);
}

#[test]
fn tn_8_a_bond_parameter() {
    let rendered = bond(json!({"parameters": [{"name": "miimon", "value": 100}, {"name": "primary"}]}));
    assert_eq!((&rendered["bond_miimon"], rendered.get("bond_primary")), (&json!(100), Some(&Value::Null)));
}

#[test]
fn tn_7_bond_parameters_that_have_a_field_of_their_own() {
    let bond = json!({"id": "bond0", "bondMode": "802.3ad", "parameters": [{"name": "mode"}, {"name": "x"}, {"name": "links"}]});
    let error = World::default().links(json!({"bonds": [bond]})).unwrap_err();
    assert!(error.contains("bond0") && error.contains("mode, links"), "{error}");
}

#[test]
fn tn_9_a_vlan() {
    let vlan = json!({"id": "v", "mtu": 1500, "vlanID": 2222, "vlanLink": "eth0", "macAddress": literal()});
    let expected =
        json!({"type": "vlan", "id": "v", "mtu": 1500, "vlan_id": 2222, "vlan_link": "eth0", "vlan_mac_address": MAC});
    assert_eq!(World::default().links(json!({"vlans": [vlan]})).unwrap(), json!([expected]));
}

#[test]
fn tn_10_bonds_come_first_and_vlans_last() {
    let ethernet = |id: &str| json!({"type": "phy", "id": id, "mtu": 1500});
    let links = World::default().links(json!({
        "vlans": [{"id": "v", "mtu": 1500, "vlanID": 2222, "vlanLink": "eth0"}],
        "ethernets": [ethernet("b"), ethernet("a")],
        "bonds": [{"id": "bond0", "bondMode": "802.3ad"}],
    }));
    let links = links.unwrap();
    let ids: Vec<_> = links.as_array().unwrap().iter().map(|link| link["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["bond0", "b", "a", "v"]);
}

/// Older lists may hold what list keys forbid now.
#[test]
fn hd_3_nothing_is_taken_to_be_unique() {
    let vlan = |link: &str| json!({"id": "v", "mtu": 1500, "vlanID": 310, "vlanLink": link});
    let links = World::default().links(json!({"vlans": [vlan("eth0"), vlan("eth1")]})).unwrap();
    let parents: Vec<_> = links.as_array().unwrap().iter().map(|link| &link["vlan_link"]).collect();
    assert_eq!(parents, ["eth0", "eth1"]);
    let route = |prefix: u8| json!({"network": "0.0.0.0", "prefix": prefix, "gateway": {"string": "10.0.0.1"}});
    let routes = routes_of(&World::default(), "ipv4DHCP", json!([route(0), route(1)]));
    let masks: Vec<_> = routes.as_array().unwrap().iter().map(|route| &route["netmask"]).collect();
    assert_eq!(masks, ["0.0.0.0", "128.0.0.0"]);
}

fn mac_from(world: &World, source: Value) -> Result<Value, String> {
    let ethernet = json!({"type": "phy", "id": "e", "mtu": 1500, "macAddress": source});
    Ok(world.links(json!({"ethernets": [ethernet]}))?[0]["ethernet_mac_address"].take())
}

fn mac_annotation(object: &str) -> Value {
    json!({"fromAnnotation": {"object": object, "annotation": "mac"}})
}

#[track_caller]
fn check_no_mac(world: &World, source: Value, error: &str) {
    assert_eq!(mac_from(world, source).unwrap_err(), error);
}

#[test]
fn tn_11_an_interface_that_is_missing() {
    let of_eth2 = json!({"fromHostInterface": "eth2"});
    check_no_mac(&inspected(&[nic("eth0", MAC)]), of_eth2.clone(), "NIC name not found eth2");
    check_no_mac(&World::default(), of_eth2, "NICs list not populated");
    assert_eq!(mac_from(&inspected(&[nic("eth0", MAC)]), json!({"fromHostInterface": "eth0"})).unwrap(), MAC);
}

#[test]
fn tn_12_a_mac_from_an_annotation() {
    let world = World::annotated(&[("mac", "12:34:56:78:9A:BD")]);
    for object in ["machine", "metal3machine", "baremetalhost"] {
        assert_eq!(mac_from(&world, mac_annotation(object)).unwrap(), "12:34:56:78:9A:BD");
    }
}

#[test]
fn tn_13_annotations_that_hold_no_mac() {
    let no_mac = "XX:XX:XX:XX:XX:XX";
    check_no_mac(&World::default(), mac_annotation("machine"), "bad MAC address: ");
    check_no_mac(&World::annotated(&[("mac", MAC)]), mac_annotation("wrflbrmpfd"), "unknown object type");
    let annotated = World::annotated(&[("mac", no_mac)]);
    check_no_mac(&annotated, mac_annotation("machine"), "bad MAC address: XX:XX:XX:XX:XX:XX");
    check_no_mac(&World::default(), json!({"string": no_mac}), "bad MAC address: XX:XX:XX:XX:XX:XX");
    check_no_mac(&World::default(), json!({}), "bad MAC address: ");
}

#[test]
fn tn_14_a_mac_with_dashes_is_kept() {
    let mac = "de-ad-be-ef-00-01";
    assert_eq!(mac_from(&World::default(), json!({"string": mac})).unwrap(), mac);
}

/// Blocks A and B of section 14.10, by their heading.
fn block(name: &str) -> Value {
    let spec = include_str!("../../../../docs/spec/data-rendering.md");
    let from = spec.split(&format!("\nBlock {name}")).nth(1).unwrap();
    serde_saphyr::from_str(from.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap()).unwrap()
}

/// Block A's network with the pool as given.
fn network_of(pool: Value) -> Value {
    let world = World::with(self::pool("pool", address("192.168.0.14", 24, "192.168.1.1", &[])));
    let route = json!({"network": "10.0.0.0", "prefix": 16, "gateway": {"fromPoolRef": pool}, "services": {"dns": ["8.8.8.8"]}});
    let network = json!({"id": "abc", "link": "def", "fromPoolRef": pool, "routes": [route]});
    world.networks(json!({"ipv4": [network]})).unwrap()
}

#[test]
fn tn_15_an_ipv4_network() {
    assert_eq!(network_of(json!({"name": "pool", "kind": "IPPool"})), block("A"));
}

#[test]
fn tn_16_an_ipv4_network_of_a_pool_of_cluster_api() {
    let pool = json!({"name": "pool", "kind": "InClusterIPPool", "apiGroup": "ipam.cluster.x-k8s.io"});
    assert_eq!(network_of(pool), block("A"));
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
    let network = |to: &str| json!([{"id": "i", "link": "l", "routes": [{"network": to, "gateway": {"string": "g"}}]}]);
    let networks = World::default()
        .networks(json!({"ipv6SLAAC": network("::"), "ipv6DHCP": network("::"), "ipv4DHCP": network("0.0.0.0")}))
        .unwrap();
    let expected = [("ipv4_dhcp", "0.0.0.0"), ("ipv6_dhcp", "::"), ("ipv6_slaac", "::")].map(|(kind, any)| {
        let route = json!({"network": any, "netmask": any, "gateway": "g", "services": []});
        json!({"type": kind, "id": "i", "link": "l", "routes": [route]})
    });
    assert_eq!(networks, json!(expected));
}

/// A network whose pool is named by an annotation of `object`.
fn annotated_network(kind: &str, object: &str, given: Address) -> Value {
    let world = World { addresses: pool("test-pool", given), ..World::annotated(&[("pool", "test-pool")]) };
    let network = json!({"id": "i", "link": "l", "fromPoolAnnotation": {"object": object, "annotation": "pool"}});
    world.networks(json!({kind: [network]})).unwrap()[0].take()
}

#[test]
fn tn_19_an_ipv4_pool_that_the_host_names() {
    let network = annotated_network("ipv4", "baremetalhost", address("192.168.10.20", 24, "", &[]));
    let expected = json!({
        "type": "ipv4", "id": "i", "link": "l", "ip_address": "192.168.10.20", "netmask": "255.255.255.0", "routes": [],
    });
    assert_eq!(network, expected);
}

#[test]
fn tn_20_an_ipv6_pool_that_the_machine_names() {
    let network = annotated_network("ipv6", "machine", address("2001:db8::100", 64, "", &[]));
    assert_eq!(
        (&network["ip_address"], &network["netmask"]),
        (&json!("2001:db8::100"), &json!("ffff:ffff:ffff:ffff::"))
    );
}

/// What a document says of pools that delivered nothing.
fn undelivered(template: Value) -> String {
    World::with(pool("pool2", Address::default())).network_data(template).unwrap_err()
}

#[test]
fn tn_21_a_pool_that_delivered_nothing() {
    let network = json!({"networks": {"ipv4": [{"id": "i", "ipAddressFromIPPool": "pool1"}]}});
    assert_eq!(undelivered(network), "pool not found in cache");
    let gateway = json!([{"id": "i", "routes": [{"network": "::", "gateway": {"fromIPPool": "pool1"}}]}]);
    assert_eq!(undelivered(json!({"networks": {"ipv6DHCP": gateway}})), "failed to fetch pool from cache");
}

#[test]
fn tn_25_name_servers_of_a_pool_that_delivered_nothing() {
    assert_eq!(undelivered(json!({"services": {"dnsFromIPPool": "pool1"}})), "pool not found in cache");
}

/// HD-21: claimed (TD-136), and rendered.
#[test]
fn td_136_the_gateway_of_a_dhcp_network_from_an_annotation() {
    let addresses = pool("gateways", address("10.0.0.9", 24, "10.0.0.1", &[]));
    let world = World { addresses, ..World::annotated(&[("gw", "gateways")]) };
    let gateway = json!({"fromPoolAnnotation": {"object": "baremetalhost", "annotation": "gw"}});
    let routes = routes_of(&world, "ipv4DHCP", json!([{"network": "0.0.0.0", "gateway": gateway}]));
    assert_eq!(routes[0]["gateway"], "10.0.0.1");
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

#[track_caller]
fn check_netmasks(family: Family, expected: &[(i64, &str)]) {
    for (prefix, netmask) in expected {
        assert_eq!(family.netmask(*prefix).as_deref(), Some(*netmask), "/{prefix}");
    }
}

#[test]
fn tn_26_netmasks() {
    check_netmasks(Family::V4, &[(24, "255.255.255.0"), (16, "255.255.0.0")]);
    check_netmasks(Family::V6, &[(64, "ffff:ffff:ffff:ffff::"), (96, "ffff:ffff:ffff:ffff:ffff:ffff::")]);
}

#[test]
fn tn_27_netmasks_at_their_limits() {
    check_netmasks(Family::V4, &[(0, "0.0.0.0"), (1, "128.0.0.0"), (31, "255.255.255.254"), (32, "255.255.255.255")]);
    check_netmasks(
        Family::V6,
        &[
            (0, "::"),
            (56, "ffff:ffff:ffff:ff00::"),
            (112, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:0"),
            (127, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"),
            (128, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ],
    );
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
        let error = world.networks(json!({kind: [{"id": "i", "link": "l", "ipAddressFromIPPool": "p"}]})).unwrap_err();
        assert_eq!(error, expected);
    }
}
