//! Interfaces from the config drive's `network_data.json` (OpenStack's format), found by MAC address.
//!
//! The site has static addresses only: no DHCP, no name service. What the data asks beyond that is said on the console and left out,
//! so a machine with a network it cannot have stays dark for a reason that can be read.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NetworkData {
    links: Vec<Link>,
    networks: Vec<Network>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Link {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    ethernet_mac_address: String,
    mtu: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Network {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    link: String,
    ip_address: String,
    netmask: serde_json::Value,
    routes: Vec<Route>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Route {
    network: String,
    netmask: serde_json::Value,
    gateway: String,
}

/// One thing to do, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Arguments of `ip`.
    Ip(Vec<String>),
    /// Neighbours learn of the address at once; a machine that took over an old address is otherwise unreachable for half a minute.
    Announce { interface: String },
    /// Something the data asks for and this site does not have.
    Complain(String),
}

/// What brings the network up as the data wants it. `interfaces`: MAC address in lower case to the name in this machine.
pub(crate) fn steps(data: &NetworkData, interfaces: &BTreeMap<String, String>) -> Vec<Step> {
    let mut steps = vec![ip("link set lo up")];
    let mut named = BTreeMap::new();
    for link in &data.links {
        if !matches!(link.kind.as_str(), "phy" | "ethernet") {
            steps.push(Step::Complain(format!("link {}: type {} is not simulated", link.id, link.kind)));
            continue;
        }
        let Some(interface) = interfaces.get(&link.ethernet_mac_address.to_lowercase()) else {
            let mac = &link.ethernet_mac_address;
            steps.push(Step::Complain(format!("link {}: this machine has no card with MAC address {mac}", link.id)));
            continue;
        };
        if let Some(mtu) = link.mtu {
            steps.push(ip(&format!("link set {interface} mtu {mtu}")));
        }
        steps.push(Step::Announce { interface: interface.clone() });
        steps.push(ip(&format!("link set {interface} up")));
        named.insert(link.id.as_str(), interface.as_str());
    }
    for network in &data.networks {
        let Some(interface) = named.get(network.link.as_str()) else {
            steps.push(Step::Complain(format!("network {}: link {} is not there", network.id, network.link)));
            continue;
        };
        match static_address(network) {
            Ok(address) => steps.push(ip(&format!("addr add {address} dev {interface}"))),
            Err(why) => {
                steps.push(Step::Complain(format!("network {}: {why}", network.id)));
                continue;
            }
        }
        for route in &network.routes {
            match prefix(&route.network, &route.netmask) {
                Some(to) => steps.push(ip(&format!("route add {to} via {} dev {interface}", route.gateway))),
                None => steps.push(Step::Complain(format!(
                    "network {}: route to {:?} cannot be read",
                    network.id, route.network
                ))),
            }
        }
    }
    steps
}

/// The address under which the machine is known: that of the network with the default route, else the first.
pub(crate) fn main_address(data: &NetworkData) -> Option<IpAddr> {
    let default = |n: &&Network| n.routes.iter().any(|r| bits(&r.netmask, &r.network) == Some(0));
    let network = data.networks.iter().find(default).or(data.networks.first())?;
    network.ip_address.split('/').next()?.parse().ok()
}

fn static_address(network: &Network) -> Result<String, String> {
    if !matches!(network.kind.as_str(), "ipv4" | "ipv6") {
        return Err(format!("type {} is not simulated, the site has static addresses only", network.kind));
    }
    prefix(&network.ip_address, &network.netmask)
        .ok_or_else(|| format!("address {:?} with netmask {} cannot be read", network.ip_address, network.netmask))
}

/// `address/bits`, whether the bits come with the address, as a number or as a mask.
fn prefix(address: &str, netmask: &serde_json::Value) -> Option<String> {
    let (ip, with) = address.split_once('/').map_or((address, None), |(ip, bits)| (ip, Some(bits)));
    ip.parse::<IpAddr>().ok()?;
    let bits = match with {
        Some(bits) => bits.parse().ok()?,
        None => bits(netmask, ip)?,
    };
    Some(format!("{ip}/{bits}"))
}

fn bits(netmask: &serde_json::Value, address: &str) -> Option<u32> {
    let bits = match netmask {
        serde_json::Value::Number(n) => u32::try_from(n.as_u64()?).ok()?,
        serde_json::Value::String(mask) => match mask.parse::<IpAddr>() {
            Ok(IpAddr::V4(mask)) => contiguous(u32::from(mask).into(), 32)?,
            Ok(IpAddr::V6(mask)) => contiguous(u128::from(mask), 128)?,
            Err(_) => mask.parse().ok()?,
        },
        _ => return None,
    };
    let width = if address.contains(':') { 128 } else { 32 };
    (bits <= width).then_some(bits)
}

fn contiguous(mask: u128, width: u32) -> Option<u32> {
    let ones = mask.count_ones();
    let expected = if ones == 0 { 0 } else { (u128::MAX >> (128 - ones)) << (width - ones) };
    (mask == expected).then_some(ones)
}

fn ip(args: &str) -> Step {
    Step::Ip(args.split(' ').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> BTreeMap<String, String> {
        BTreeMap::from([("00:5a:52:00:00:01".to_owned(), "eth0".to_owned())])
    }

    fn data(json: serde_json::Value) -> NetworkData {
        serde_json::from_value(json).unwrap()
    }

    fn shown(steps: &[Step]) -> Vec<String> {
        steps
            .iter()
            .map(|step| match step {
                Step::Ip(args) => args.join(" "),
                Step::Announce { interface } => format!("announce {interface}"),
                Step::Complain(what) => format!("! {what}"),
            })
            .collect()
    }

    fn static_ipv4() -> NetworkData {
        data(serde_json::json!({
            "links": [{"id": "enp1s0", "type": "phy", "ethernet_mac_address": "00:5A:52:00:00:01", "mtu": 1500}],
            "networks": [{"id": "prov", "type": "ipv4", "link": "enp1s0", "ip_address": "192.0.2.100", "netmask": "255.255.255.0",
                "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "192.0.2.1", "services": []}]}],
            "services": [],
        }))
    }

    #[test]
    fn a_static_network_goes_to_the_card_with_its_mac_address() {
        assert_eq!(
            shown(&steps(&static_ipv4(), &card())),
            [
                "link set lo up",
                "link set eth0 mtu 1500",
                "announce eth0",
                "link set eth0 up",
                "addr add 192.0.2.100/24 dev eth0",
                "route add 0.0.0.0/0 via 192.0.2.1 dev eth0",
            ]
        );
    }

    #[test]
    fn a_mac_address_of_another_machine_leaves_the_network_down_and_says_so() {
        let strange = BTreeMap::from([("00:5a:52:00:00:99".to_owned(), "eth0".to_owned())]);
        assert_eq!(
            shown(&steps(&static_ipv4(), &strange)),
            [
                "link set lo up",
                "! link enp1s0: this machine has no card with MAC address 00:5A:52:00:00:01",
                "! network prov: link enp1s0 is not there",
            ]
        );
    }

    #[test]
    fn masks_are_numbers_dotted_or_with_the_address_and_never_with_holes() {
        let text = |s: &str| serde_json::Value::from(s);
        assert_eq!(prefix("192.0.2.1", &text("255.255.255.128")), Some("192.0.2.1/25".into()));
        assert_eq!(prefix("192.0.2.1", &24.into()), Some("192.0.2.1/24".into()));
        assert_eq!(prefix("192.0.2.1/26", &serde_json::Value::Null), Some("192.0.2.1/26".into()));
        assert_eq!(prefix("2001:db8::1", &text("ffff:ffff:ffff:ffff::")), Some("2001:db8::1/64".into()));
        assert_eq!(prefix("2001:db8::1", &text("64")), Some("2001:db8::1/64".into()));
        assert_eq!(prefix("192.0.2.1", &text("255.0.255.0")), None);
        assert_eq!(prefix("192.0.2.1", &33.into()), None);
        assert_eq!(prefix("{{ here }}", &24.into()), None);
    }

    #[test]
    fn dhcp_is_refused_in_words() {
        let mut wanted = static_ipv4();
        wanted.networks[0].kind = "ipv4_dhcp".into();
        let last = shown(&steps(&wanted, &card())).pop().unwrap();
        assert_eq!(last, "! network prov: type ipv4_dhcp is not simulated, the site has static addresses only");
    }

    #[test]
    fn the_machine_is_known_by_the_address_with_the_default_route() {
        let two = data(serde_json::json!({"networks": [
            {"id": "a", "type": "ipv4", "ip_address": "198.51.100.7", "netmask": "255.255.255.0"},
            {"id": "b", "type": "ipv4", "ip_address": "192.0.2.7", "netmask": "255.255.255.0",
                "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "192.0.2.1"}]},
        ]}));
        assert_eq!(main_address(&two), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(main_address(&data(serde_json::json!({}))), None);
    }
}
