//! What bytes say stands in a template and around it; what comes of it says the same to every reader, or an error says why not.
//! `corpus.txt` has the inputs that are worth keeping.

use capm3_api::foreign::HostNic;

use super::super::message;
use super::*;
use crate::fuzz::{Bytes, run};
use crate::yaml::old_reader;

const CORPUS: &str = include_str!("corpus.txt");

#[test]
fn fuzz_meta_data() {
    run(CORPUS, "meta", fuzzed_meta_data);
}

#[test]
fn fuzz_network_data() {
    run(CORPUS, "network", fuzzed_network_data);
}

/// What trips writers of YAML, and what readers of the documents might want to carry out.
const WORDS: [&str; 44] = [
    "",
    "yes",
    "Off",
    "null",
    "~",
    "0x1F",
    "0777",
    "1e3",
    "1_000",
    "12:30:45",
    "2001-12-14",
    ": ",
    "a: b",
    "#",
    "a # b",
    "|",
    ">-",
    "- a",
    "? a",
    "\t",
    "a\tb",
    "one\r\ntwo\r\n",
    "one\n  two\n\n",
    "\u{feff}bom",
    "\u{85}",
    "\u{2028}",
    "\u{0}",
    "🦀",
    "Zürich",
    "&a *a",
    "!!python/object:os.system x",
    "{{ ds.meta_data.name }}",
    "{% if a %}",
    "${HOME}",
    "$(id)",
    "{\"a\": [1, null]}",
    "#cloud-config\nruncmd: [a]\n",
    "## template: jinja\n#!/bin/sh\n",
    "Content-Type: multipart/mixed; boundary=\"=a\"\n\n--=a\n",
    "---\n",
    "...",
    "%YAML 1.1",
    "<<",
    "=",
];

fn text(input: &mut Bytes<'_>) -> String {
    match input.below(8) {
        0..=2 => input.one_of(&WORDS).to_owned(),
        3 | 4 => {
            let digits = b"0123456789_+-.:eExXbBoOaFfnNyY~=<T ";
            (0..input.below(8)).map(|_| char::from(digits[input.below(digits.len())])).collect()
        }
        5 => (0..input.below(8)).map(|_| char::from(b' ' + input.next() % 95)).collect(),
        6 => {
            let any = |input: &mut Bytes<'_>| u32::from_le_bytes([input.next(), input.next(), input.next() % 17, 0]);
            (0..input.below(5)).filter_map(|_| char::from_u32(any(input))).collect()
        }
        _ => input.one_of(&WORDS).repeat(1 + input.below(40)),
    }
}

fn items(input: &mut Bytes<'_>, item: impl Fn(&mut Bytes<'_>) -> Value) -> Value {
    (0..input.below(3)).map(|_| item(input)).collect()
}

fn key(input: &mut Bytes<'_>) -> String {
    if input.below(2) == 0 { input.one_of(&["a", "b", "providerid"]).to_owned() } else { text(input) }
}

const OBJECTS: [&str; 4] = ["machine", "Metal3Machine", "baremetalhost", "baremetalhost2"];
const POOLS: [&str; 4] = ["v4", "v6", "odd", "missing"];
const NICS: [&str; 4] = ["eth0", "eth1", "twice", "missing"];

fn number(input: &mut Bytes<'_>) -> Value {
    [json!(null), json!(0), json!(1), json!(-1), json!(7), json!(i32::MAX), json!(i32::MIN)][input.below(7)].clone()
}

/// What is around the template.
struct Site {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    nics: Vec<HostNic>,
    boot_mac: String,
    index: i64,
    addresses: Addresses,
    dns_servers: bool,
}

impl Site {
    fn from(input: &mut Bytes<'_>) -> Self {
        let given = |address: &str, prefix, gateway: &str| Address {
            address: address.to_owned(),
            prefix,
            gateway: gateway.to_owned(),
            dns: vec!["192.0.2.53".to_owned(), "2001:db8::53".to_owned()],
        };
        let prefix =
            [None, Some(0), Some(33), Some(129), Some(-1), Some(i64::MAX), Some(32), Some(128)][input.below(8)];
        let odd = input.one_of(&["192.0.2.8", "2001:db8::8", "192.0.2.08", "nonsense", ""]);
        let nic = |name: &str, mac: String| HostNic { name: name.to_owned(), mac, ..HostNic::default() };
        let mac =
            input.one_of(&["00:11:22:33:44:55", "DE-AD-be-ef-00-01", "00:11:22:33:44:5", "", "00:11:22:33:44:55\n"]);
        let texts = |input: &mut Bytes<'_>| {
            BTreeMap::from([("known".to_owned(), text(input)), ("mac".to_owned(), mac.to_owned())])
        };
        Self {
            labels: texts(input),
            annotations: BTreeMap::from([("pool".to_owned(), input.one_of(&POOLS).to_owned())])
                .into_iter()
                .chain(texts(input))
                .collect(),
            nics: vec![
                nic("eth0", "52:54:00:12:34:56".to_owned()),
                nic("eth1", mac.to_owned()),
                nic("twice", "52:54:00:00:00:01".to_owned()),
                nic("twice", "52:54:00:00:00:02".to_owned()),
            ],
            boot_mac: text(input),
            index: [0, 1, 10_000, i64::from(i32::MAX)][input.below(4)],
            addresses: Addresses::from([
                ("v4".to_owned(), given("192.0.2.9", Some(24), "192.0.2.1")),
                ("v6".to_owned(), given("2001:db8::9", Some(64), "2001:db8::1")),
                ("odd".to_owned(), given(odd, prefix, "")),
            ]),
            dns_servers: input.below(2) == 0,
        }
    }

    fn facts(&self) -> Facts<'_> {
        let meta =
            |name| Meta { namespace: "ns", name, labels: Some(&self.labels), annotations: Some(&self.annotations) };
        Facts {
            namespace: "ns",
            index: self.index,
            machine: meta("machine-0"),
            metal3_machine: meta("m3m-0"),
            host: Host { meta: meta("host-0"), boot_mac: &self.boot_mac, nics: Some(&self.nics) },
            addresses: &self.addresses,
            dns_servers: self.dns_servers,
        }
    }
}

/// The content of a document, to which every reader agrees.
fn content(document: &str) -> Value {
    let plain = |c: char| c == '\n' || !(c.is_control() || "\u{feff}\u{2028}\u{2029}".contains(c));
    assert!(document.ends_with('\n') && document.chars().all(plain), "{document:?}");
    let read: Value = serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}\n{document}"));
    assert_eq!(old_reader::read(document), read, "{document}");
    read
}

fn check_error(error: &Unrenderable) {
    let told = message(&error.to_string());
    assert!(!told.is_empty() && told.chars().count() <= 512, "{told}");
}

fn fuzzed_meta_data(input: &mut Bytes<'_>) {
    let pools = |input: &mut Bytes<'_>| items(input, |input| json!({"key": key(input), "name": input.one_of(&POOLS)}));
    let read = |input: &mut Bytes<'_>, what: &str| {
        items(
            input,
            |input| json!({"key": key(input), "object": input.one_of(&OBJECTS), what: input.one_of(&["known", "none"])}),
        )
    };
    let template = json!({
        "strings": items(input, |input| json!({"key": key(input), "value": text(input)})),
        "indexes": items(input, |input| json!({
            "key": key(input), "offset": number(input), "step": number(input), "prefix": text(input), "suffix": text(input),
        })),
        "namespaces": items(input, |input| json!({"key": key(input)})),
        "objectNames": items(input, |input| json!({"key": key(input), "object": input.one_of(&OBJECTS)})),
        "fromLabels": read(input, "label"),
        "fromAnnotations": read(input, "annotation"),
        "fromHostInterfaces": items(input, |input| json!({
            "key": key(input), "interface": input.one_of(&NICS), "fromBootMAC": input.below(3) == 0,
        })),
        "ipAddressesFromPool": pools(input),
        "prefixesFromPool": pools(input),
        "gatewaysFromPool": pools(input),
        "dnsServersFromPool": pools(input),
    });
    let site = Site::from(input);
    let expected = meant(&template, &site);
    let template: MetaData = serde_json::from_value(template).unwrap();
    let rendered = meta_data(&template, &site.facts());
    assert_eq!(rendered, meta_data(&template, &site.facts()), "the same input gives the same document");
    match rendered {
        Ok(document) => assert_eq!(Some(content(&document)), expected),
        Err(error) => {
            check_error(&error);
            assert_eq!(expected, None, "{error}");
        }
    }
}

/// D-69 to D-78 once more, over JSON; `None` when something cannot be resolved.
fn meant(template: &Value, site: &Site) -> Option<Value> {
    let given = |item: &Value| site.addresses.get(item["name"].as_str().unwrap());
    let object = |item: &Value| match item["object"].as_str().unwrap() {
        "machine" => Some("machine-0"),
        "Metal3Machine" => Some("m3m-0"),
        "baremetalhost" => Some("host-0"),
        _ => None,
    };
    let known = |item: &Value, all: &BTreeMap<String, String>, what: &str| {
        object(item).map(|_| all.get(item[what].as_str().unwrap()).cloned().unwrap_or_default())
    };
    let mac = |item: &Value| {
        if item["fromBootMAC"] == true {
            return Some(site.boot_mac.clone()).filter(|mac| !mac.is_empty());
        }
        site.nics.iter().find(|nic| item["interface"] == nic.name.as_str()).map(|nic| nic.mac.clone())
    };
    let index = |item: &Value| {
        let step = item["step"].as_i64().filter(|step| *step != 0).unwrap_or(1);
        let number = i128::from(item["offset"].as_i64().unwrap_or(0)) + i128::from(site.index) * i128::from(step);
        Some(format!("{}{number}{}", item["prefix"].as_str().unwrap(), item["suffix"].as_str().unwrap()))
    };
    let mut map = Map::new();
    for (list, value) in [
        ("fromHostInterfaces", &mac as &dyn Fn(&Value) -> Option<String>),
        ("ipAddressesFromPool", &|item| Some(given(item)?.address.clone())),
        ("prefixesFromPool", &|item| Some(given(item)?.prefix.map_or(String::new(), |prefix| prefix.to_string()))),
        ("gatewaysFromPool", &|item| Some(given(item)?.gateway.clone())),
        ("dnsServersFromPool", &|item| Some(given(item)?.dns.join(","))),
        ("indexes", &index),
        ("namespaces", &|_| Some("ns".to_owned())),
        ("objectNames", &|item| object(item).map(str::to_owned)),
        ("fromLabels", &|item| known(item, &site.labels, "label")),
        ("fromAnnotations", &|item| known(item, &site.annotations, "annotation")),
        ("strings", &|item| item["value"].as_str().map(str::to_owned)),
    ] {
        if list == "dnsServersFromPool" && !site.dns_servers {
            continue;
        }
        for item in template[list].as_array().unwrap() {
            map.insert(item["key"].as_str().unwrap().to_owned(), value(item)?.into());
        }
    }
    map.insert("providerid".to_owned(), "ns/host-0/m3m-0".into());
    Some(map.into())
}

fn some_mac(input: &mut Bytes<'_>) -> Value {
    match input.below(8) {
        0 => json!(null),
        1 => json!({"string": text(input)}),
        2 => {
            json!({"string": input.one_of(&["aB:cd:EF:00:11:22", "00-11-22-33-44-55", "00-11:22-33:44-55", "00:11:22:33:44", "00:00:00:00:00:0٣"])})
        }
        3 | 4 => json!({"fromHostInterface": input.one_of(&NICS)}),
        5 => {
            json!({"fromAnnotation": {"object": input.one_of(&OBJECTS), "annotation": input.one_of(&["mac", "known", "none"])}})
        }
        6 => json!({}),
        _ => json!({"string": "52:54:00:12:34:56"}),
    }
}

fn some_services(input: &mut Bytes<'_>) -> Value {
    let pool = (input.below(3) == 0).then(|| input.one_of(&POOLS));
    if input.below(3) == 0 {
        json!(null)
    } else {
        json!({"dns": items(input, |input| text(input).into()), "dnsFromIPPool": pool})
    }
}

fn some_routes(input: &mut Bytes<'_>) -> Value {
    items(input, |input| {
        let gateway = match input.below(5) {
            0 => json!({"string": text(input)}),
            1 => json!({"fromIPPool": input.one_of(&POOLS)}),
            2 => json!({"fromPoolRef": {"name": input.one_of(&POOLS)}}),
            3 => {
                json!({"fromPoolAnnotation": {"object": input.one_of(&OBJECTS), "annotation": input.one_of(&["pool", "none"])}})
            }
            _ => json!({}),
        };
        let prefix = [json!(null), json!(0), json!(24), json!(32), json!(64), json!(128), json!(129), json!(-1)]
            [input.below(8)]
        .clone();
        json!({"network": text(input), "prefix": prefix, "gateway": gateway, "services": some_services(input)})
    })
}

fn some_static(input: &mut Bytes<'_>) -> Value {
    items(input, |input| {
        let mut network = json!({"id": text(input), "link": text(input), "routes": some_routes(input)});
        match input.below(4) {
            0 => {
                network["fromPoolAnnotation"] =
                    json!({"object": input.one_of(&OBJECTS), "annotation": input.one_of(&["pool", "none"])})
            }
            1 => network["fromPoolRef"] = json!({"name": input.one_of(&POOLS)}),
            _ => network["ipAddressFromIPPool"] = input.one_of(&POOLS).into(),
        }
        network
    })
}

fn some_dynamic(input: &mut Bytes<'_>) -> Value {
    items(input, |input| json!({"id": text(input), "link": text(input), "routes": some_routes(input)}))
}

fn fuzzed_network_data(input: &mut Bytes<'_>) {
    let link = |input: &mut Bytes<'_>, more: Value| {
        let mtu = [json!(null), json!(1280), json!(9000), json!(-1)][input.below(4)].clone();
        let mut link = json!({"id": text(input), "mtu": mtu, "name": text(input), "macAddress": some_mac(input)});
        link.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        link
    };
    let parameter = |input: &mut Bytes<'_>| {
        let value = match input.below(6) {
            0 => json!(null),
            1 => json!(input.next()),
            2 => json!([text(input), {text(input): 1.5e300}]),
            3 => json!({}),
            _ => json!(text(input)),
        };
        json!({"name": if input.below(3) > 0 { text(input) } else { input.one_of(&["miimon", "mode", "links"]).to_owned() }, "value": value})
    };
    let bonds = items(input, |input| {
        let more = json!({"bondMode": text(input), "bondXmitHashPolicy": text(input), "bondLinks": items(input, |input| text(input).into()), "parameters": items(input, parameter)});
        link(input, more)
    });
    let ethernets = items(input, |input| {
        let more = json!({"type": text(input)});
        link(input, more)
    });
    let vlans = items(input, |input| {
        let more = json!({"vlanID": input.below(5), "vlanLink": text(input)});
        link(input, more)
    });
    let template = json!({
        "links": {"bonds": bonds, "ethernets": ethernets, "vlans": vlans},
        "networks": {
            "ipv4": some_static(input), "ipv6": some_static(input), "ipv4DHCP": some_dynamic(input),
            "ipv6DHCP": some_dynamic(input), "ipv6SLAAC": some_dynamic(input),
        },
        "services": some_services(input),
    });
    let site = Site::from(input);
    let typed: NetworkData = serde_json::from_value(template.clone()).unwrap();
    let rendered = network_data(&typed, &site.facts());
    assert_eq!(rendered, network_data(&typed, &site.facts()), "the same input gives the same document");
    match rendered {
        Ok(document) => check_networks(&template, &content(&document), &site),
        Err(error) => check_error(&error),
    }
}

fn chained<'a>(of: &'a Value, lists: &[&str]) -> Vec<&'a Value> {
    lists.iter().flat_map(|list| of[*list].as_array().unwrap()).collect()
}

/// Every entry of the template in its order, with its texts as they stand there, and nothing computed wrongly.
fn check_networks(template: &Value, made: &Value, site: &Site) {
    assert_eq!(made.as_object().unwrap().keys().collect::<Vec<_>>(), ["links", "networks", "services"]);
    let links = chained(&template["links"], &["bonds", "ethernets", "vlans"]);
    assert_eq!(links.len(), made["links"].as_array().unwrap().len());
    for (asked, made) in links.iter().zip(made["links"].as_array().unwrap()) {
        let named = if asked["name"] == "" { &Value::Null } else { &asked["name"] };
        assert_eq!((&made["id"], &made["name"]), (&asked["id"], named));
        for parameter in asked["parameters"].as_array().into_iter().flatten() {
            assert_eq!(made[format!("bond_{}", parameter["name"].as_str().unwrap())], parameter["value"]);
        }
        let mac = made.get("ethernet_mac_address").or(made.get("vlan_mac_address"));
        assert_eq!(mac.is_some(), !asked["macAddress"].is_null());
        let octet = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(mac.is_none_or(|mac| {
            let octets: Vec<_> = mac.as_str().unwrap().split([':', '-']).collect();
            octets.len() == 6 && octets.into_iter().all(octet)
        }));
    }
    let networks = chained(&template["networks"], &["ipv4", "ipv6", "ipv4DHCP", "ipv6DHCP", "ipv6SLAAC"]);
    assert_eq!(networks.len(), made["networks"].as_array().unwrap().len());
    for (asked, made) in networks.iter().zip(made["networks"].as_array().unwrap()) {
        assert_eq!((&made["id"], &made["link"]), (&asked["id"], &asked["link"]));
        let v4 = made["type"].as_str().unwrap().starts_with("ipv4");
        if let Some(address) = made["ip_address"].as_str() {
            assert_eq!(address.parse::<IpAddr>().unwrap().is_ipv4(), v4);
            let given = site.addresses.values().find(|given| given.address == address).unwrap();
            check_mask(&made["netmask"], given.prefix, v4);
        }
        for (asked, made) in asked["routes"].as_array().unwrap().iter().zip(made["routes"].as_array().unwrap()) {
            assert_eq!(made["network"], asked["network"]);
            check_mask(&made["netmask"], Some(asked["prefix"].as_i64().unwrap_or(0)), v4);
            assert!(asked["gateway"]["string"].is_null() || made["gateway"] == asked["gateway"]["string"]);
            check_services(&asked["services"], &made["services"]);
        }
    }
    check_services(&template["services"], &made["services"]);
}

/// As many ones as the prefix says, and nothing but zeros after them.
fn check_mask(mask: &Value, prefix: Option<i64>, v4: bool) {
    let Some(prefix) = prefix else { return assert_eq!(mask, "") };
    let (ones, bits) = match mask.as_str().unwrap().parse().unwrap() {
        IpAddr::V4(mask) => {
            (mask.to_bits().leading_ones() + mask.to_bits().trailing_zeros(), mask.to_bits().count_ones())
        }
        IpAddr::V6(mask) => {
            (mask.to_bits().leading_ones() + mask.to_bits().trailing_zeros(), mask.to_bits().count_ones())
        }
    };
    assert_eq!((i64::from(bits), ones), (prefix, if v4 { 32 } else { 128 }), "{mask}");
}

/// The literal ones first.
fn check_services(asked: &Value, made: &Value) {
    let literal = asked["dns"].as_array().map_or(0, Vec::len);
    let pool = if asked["dnsFromIPPool"].is_null() { 0 } else { 2 };
    let made = made.as_array().unwrap();
    assert_eq!(made.len(), literal + pool);
    for (asked, made) in asked["dns"].as_array().into_iter().flatten().zip(made) {
        assert_eq!(*made, json!({"type": "dns", "address": asked}));
    }
}

/// What does not fit into a Secret is not for the renderer to shorten.
#[test]
fn a_string_of_a_mebibyte_reads_back() {
    let long = "{{ ds }}: #\n".repeat(90_000);
    let template = serde_json::from_value(json!({"strings": [{"key": "a", "value": long}]})).unwrap();
    let document = meta_data(&template, &Site::from(&mut Bytes(&[])).facts()).unwrap();
    assert_eq!(content(&document)["a"], long);
}
