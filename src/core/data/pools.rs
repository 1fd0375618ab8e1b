//! Which pools a template reads, and which of several references a field goes by.
//!
//! One address is claimed from every pool of the set, so a reference that rendering can never read is left out: one that
//! a field of higher precedence shadows, or that stands next to a literal gateway. The same functions say which pool a
//! field reads when it is rendered, so that the two cannot disagree.
//!
//! Rules: docs/spec/data-rendering.md D-55 to D-57 with hazards HD-20, HD-21 and HD-26 adopted.

use std::collections::BTreeMap;
use std::fmt;

use capm3_api::infra::v1beta2::{
    AnnotationRef, FromPool, Gateway, Metal3DataTemplateSpec, PoolRef, Services, StaticNetwork,
};

use capm3_api::ipam::v1alpha1::IPPool;
use capm3_api::names::IPAM_GROUP;

use super::objects::{Objects, Unrenderable};

/// What kind of pool a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolKind {
    pub group: String,
    pub kind: String,
}

/// The pools of a template by name.
pub type Pools = BTreeMap<String, PoolKind>;

/// One reference, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub name: String,
    pub kind: PoolKind,
}

impl PoolKind {
    #[must_use]
    pub fn metal3() -> Self {
        Self::new(None, None)
    }

    fn new(group: Option<&str>, kind: Option<&str>) -> Self {
        let or = |given: Option<&str>, default: &str| given.filter(|g| !g.is_empty()).unwrap_or(default).to_owned();
        Self { group: or(group, IPAM_GROUP), kind: or(kind, IPPool::KIND) }
    }

    /// Metal3 pools take IPClaims, all others the claims of Cluster API (D-58).
    #[must_use]
    pub fn is_metal3(&self) -> bool {
        self.group == IPAM_GROUP && self.kind == IPPool::KIND
    }
}

impl fmt::Display for PoolKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind, self.group)
    }
}

impl Pool {
    fn metal3(name: &str) -> Self {
        Self { name: name.to_owned(), kind: PoolKind::metal3() }
    }

    fn of_ref(reference: &PoolRef) -> Self {
        let kind = PoolKind::new(reference.api_group.as_deref(), reference.kind.as_deref());
        Self { name: reference.name.clone(), kind }
    }

    fn of_item(item: &FromPool) -> Self {
        let kind = PoolKind::new(item.api_group.as_deref(), item.kind.as_deref());
        Self { name: item.name.clone(), kind }
    }
}

/// All pools that rendering `template` for these objects reads.
pub fn pools(template: &Metal3DataTemplateSpec, objects: &Objects<'_>) -> Result<Pools, Unrenderable> {
    let mut pools = Pools::new();
    if let Some(meta) = &template.meta_data {
        let lists = [
            &meta.ip_addresses_from_pool,
            &meta.prefixes_from_pool,
            &meta.gateways_from_pool,
            &meta.dns_servers_from_pool,
        ];
        for item in lists.into_iter().flatten() {
            add(&mut pools, Some(Pool::of_item(item)))?;
        }
    }
    let Some(network_data) = &template.network_data else { return Ok(pools) };
    if let Some(networks) = &network_data.networks {
        for network in networks.ipv4.iter().chain(&networks.ipv6) {
            add(&mut pools, address_pool(network, objects)?)?;
        }
        let fixed = networks.ipv4.iter().chain(&networks.ipv6).map(|network| &network.routes);
        let dynamic = [&networks.ipv4_dhcp, &networks.ipv6_dhcp, &networks.ipv6_slaac];
        let dynamic = dynamic.into_iter().flatten().map(|network| &network.routes);
        for route in fixed.chain(dynamic).flatten() {
            add(&mut pools, gateway_pool(&route.gateway, objects)?)?;
            add(&mut pools, route.services.as_ref().and_then(dns_pool))?;
        }
    }
    add(&mut pools, network_data.services.as_ref().and_then(dns_pool))?;
    Ok(pools)
}

fn add(pools: &mut Pools, pool: Option<Pool>) -> Result<(), Unrenderable> {
    let Some(pool) = pool else { return Ok(()) };
    match pools.get(&pool.name) {
        Some(known) if *known != pool.kind => {
            Err(Unrenderable::PoolConflict { name: pool.name, first: known.to_string(), second: pool.kind.to_string() })
        }
        Some(_) => Ok(()),
        None => {
            pools.insert(pool.name, pool.kind);
            Ok(())
        }
    }
}

/// The pool a static network takes its address from (N-9).
pub fn address_pool(network: &StaticNetwork, objects: &Objects<'_>) -> Result<Option<Pool>, Unrenderable> {
    first_of(
        network.from_pool_annotation.as_ref(),
        network.from_pool_ref.as_ref(),
        network.ip_address_from_ip_pool.as_deref(),
        objects,
    )
}

/// The pool a route takes its gateway from; none when the gateway is literal (N-13).
pub fn gateway_pool(gateway: &Gateway, objects: &Objects<'_>) -> Result<Option<Pool>, Unrenderable> {
    if gateway.string.is_some() {
        return Ok(None);
    }
    first_of(
        gateway.from_pool_annotation.as_ref(),
        gateway.from_pool_ref.as_ref(),
        gateway.from_ip_pool.as_deref(),
        objects,
    )
}

/// The pool that services take their name servers from.
#[must_use]
pub fn dns_pool(services: &Services) -> Option<Pool> {
    services.dns_from_ip_pool.as_deref().filter(|name| !name.is_empty()).map(Pool::metal3)
}

fn first_of(
    annotation: Option<&AnnotationRef>,
    reference: Option<&PoolRef>,
    name: Option<&str>,
    objects: &Objects<'_>,
) -> Result<Option<Pool>, Unrenderable> {
    // An annotation that nobody can look up yet shadows nothing.
    if let Some(annotation) = annotation.filter(|a| !a.object.is_empty() && !objects.is_empty()) {
        return annotation_pool(annotation, objects).map(Some);
    }
    if let Some(reference) = reference.filter(|reference| !reference.name.is_empty()) {
        return Ok(Some(Pool::of_ref(reference)));
    }
    Ok(name.filter(|name| !name.is_empty()).map(Pool::metal3))
}

/// The metal3 pool whose name an object carries in an annotation (D-57).
fn annotation_pool(reference: &AnnotationRef, objects: &Objects<'_>) -> Result<Pool, Unrenderable> {
    let object = objects.get(&reference.object, &reference.annotation)?;
    match object.annotation(&reference.annotation) {
        Some(name) if !name.is_empty() => Ok(Pool::metal3(name)),
        _ => Err(Unrenderable::AnnotationMissing {
            object: reference.object.clone(),
            annotation: reference.annotation.clone(),
        }),
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases are JSON literals")]
mod tests {
    use serde_json::{Value, json};

    use super::super::objects::{Host, Meta};
    use super::*;

    fn template(spec: Value) -> Metal3DataTemplateSpec {
        serde_json::from_value(spec).unwrap()
    }

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn meta(annotations: &BTreeMap<String, String>) -> Meta<'_> {
        Meta { namespace: "ns", name: "x", labels: None, annotations: Some(annotations) }
    }

    fn host(annotations: &BTreeMap<String, String>) -> Objects<'_> {
        Objects { host: Some(Host { meta: meta(annotations), boot_mac: "", nics: None }), ..Objects::default() }
    }

    fn names(pools: &Pools) -> Vec<&str> {
        pools.keys().map(String::as_str).collect()
    }

    #[track_caller]
    fn check(spec: Value, objects: &Objects<'_>, expected: &[&str]) {
        assert_eq!(names(&pools(&template(spec), objects).unwrap()), expected);
    }

    fn networks(ipv4: Value) -> Value {
        json!({"networkData": {"networks": {"ipv4": ipv4}}})
    }

    const NOTHING: Objects<'_> = Objects { machine: None, metal3_machine: None, host: None };

    #[test]
    fn td_47_a_reference_without_group_and_kind_is_a_metal3_pool() {
        for spec in [
            networks(json!([{"fromPoolRef": {"name": "foo"}}])),
            networks(json!([{"ipAddressFromIPPool": "foo"}])),
            json!({"metaData": {"ipAddressesFromPool": [{"key": "k", "name": "foo"}]}}),
        ] {
            let pools = pools(&template(spec), &NOTHING).unwrap();
            assert_eq!(pools, Pools::from([("foo".to_owned(), PoolKind::metal3())]));
            assert!(pools["foo"].is_metal3());
        }
    }

    #[test]
    fn td_48_the_same_pool_twice_is_one() {
        let in_cluster = json!({"fromPoolRef": {"name": "foo", "kind": "InClusterIPPool"}});
        check(networks(json!([in_cluster, in_cluster])), &NOTHING, &["foo"]);
    }

    #[test]
    fn td_49_one_name_for_two_kinds_of_pool_is_an_error() {
        let first = json!({"fromPoolRef": {"name": "foo", "kind": "InClusterIPPool"}});
        for second in [
            json!({"fromPoolRef": {"name": "foo", "kind": "IPPool"}}),
            json!({"fromPoolRef": {"name": "foo", "kind": "InClusterIPPool", "apiGroup": "ipam.cluster.x-k8s.io"}}),
            json!({"ipAddressFromIPPool": "foo"}),
        ] {
            let error = pools(&template(networks(json!([first, second]))), &NOTHING).unwrap_err();
            assert!(matches!(error, Unrenderable::PoolConflict { .. }), "{error}");
        }
        let mut spec = networks(json!([first]));
        spec["metaData"] = json!({"prefixesFromPool": [{"key": "k", "name": "foo"}]});
        assert!(pools(&template(spec), &NOTHING).is_err());
    }

    #[test]
    fn td_50_an_annotation_of_the_host_names_a_metal3_pool() {
        let known = annotations(&[("ippool-annotation", "test-pool")]);
        let spec =
            networks(json!([{"fromPoolAnnotation": {"object": "BareMetalHost", "annotation": "ippool-annotation"}}]));
        assert!(pools(&template(spec), &host(&known)).unwrap()["test-pool"].is_metal3());
    }

    #[track_caller]
    fn check_annotation(objects: &Objects<'_>, object: &str, annotation: &str, expected: &str) {
        let spec = networks(json!([{"fromPoolAnnotation": {"object": object, "annotation": annotation}}]));
        assert_eq!(pools(&template(spec), objects).unwrap_err().to_string(), expected);
    }

    #[test]
    fn td_51_an_annotation_without_a_name_is_an_error() {
        let on_host = annotations(&[("empty", "")]);
        let objects = host(&on_host);
        check_annotation(&objects, "baremetalhost", "none", "annotation none not found or empty on baremetalhost");
        check_annotation(&objects, "baremetalhost", "empty", "annotation empty not found or empty on baremetalhost");
    }

    #[test]
    fn td_52_an_annotation_of_an_object_that_nobody_knows() {
        check_annotation(&host(&annotations(&[])), "unknownobject", "pool", "unknown object type");
    }

    #[test]
    fn td_53_an_annotation_of_an_object_that_alone_is_missing() {
        let on_host = annotations(&[("pool", "a")]);
        for object in ["machine", "metal3machine"] {
            let expected = format!("{object} is nil but referenced in annotation pool");
            check_annotation(&host(&on_host), object, "pool", &expected);
        }
    }

    #[test]
    fn td_54_without_objects_annotations_name_nothing() {
        check(networks(json!([{"fromPoolAnnotation": {"object": "machine", "annotation": "a"}}])), &NOTHING, &[]);
    }

    #[test]
    fn td_55_annotation_and_reference_side_by_side() {
        let known = annotations(&[("pool", "pool-from-annotation")]);
        let spec = networks(json!([
            {"fromPoolAnnotation": {"object": "baremetalhost", "annotation": "pool"}},
            {"fromPoolRef": {"name": "pool-from-ref"}},
        ]));
        check(spec, &host(&known), &["pool-from-annotation", "pool-from-ref"]);
    }

    #[test]
    fn td_56_five_pools_from_five_places() {
        let on_host = annotations(&[("v4", "pool-from-bmh"), ("gw", "gateway-from-bmh")]);
        let on_metal3_machine = annotations(&[("v6", "pool-from-m3m")]);
        let on_machine = annotations(&[("v6", "pool-from-machine")]);
        let objects = Objects {
            machine: Some(meta(&on_machine)),
            metal3_machine: Some(meta(&on_metal3_machine)),
            ..host(&on_host)
        };
        let spec = json!({
            "metaData": {"ipAddressesFromPool": [{"key": "k", "name": "metadata-pool"}]},
            "networkData": {"networks": {
                "ipv4": [{
                    "fromPoolAnnotation": {"object": "baremetalhost", "annotation": "v4"},
                    "routes": [{"gateway": {"fromPoolAnnotation": {"object": "baremetalhost", "annotation": "gw"}}}],
                }],
                "ipv6": [
                    {"fromPoolAnnotation": {"object": "metal3machine", "annotation": "v6"}},
                    {"fromPoolAnnotation": {"object": "machine", "annotation": "v6"}},
                ],
            }},
        });
        let expected = ["gateway-from-bmh", "metadata-pool", "pool-from-bmh", "pool-from-m3m", "pool-from-machine"];
        check(spec, &objects, &expected);
    }

    /// The row as hazard HD-26 has it: shadowed references cost no address.
    #[test]
    fn td_57_an_annotation_goes_before_a_reference_and_a_name() {
        let known = annotations(&[("pool", "a")]);
        let network = json!({
            "id": "i",
            "fromPoolAnnotation": {"object": "baremetalhost", "annotation": "pool"},
            "fromPoolRef": {"name": "b"},
            "ipAddressFromIPPool": "c",
        });
        check(networks(json!([network])), &host(&known), &["a"]);
        let network: StaticNetwork = serde_json::from_value(network).unwrap();
        let rendered = address_pool(&network, &host(&known)).unwrap().unwrap();
        assert_eq!(rendered, Pool::metal3("a"), "rendering reads the same");
    }

    #[test]
    fn td_58_a_reference_goes_before_a_name() {
        check(networks(json!([{"fromPoolRef": {"name": "b"}, "ipAddressFromIPPool": "c"}])), &NOTHING, &["b"]);
    }

    /// The row as hazard HD-26 has it: next to a literal gateway no pool is asked.
    #[test]
    fn td_59_a_literal_gateway_needs_no_pool() {
        let gateway = json!({"string": "10.0.0.1", "fromIPPool": "d"});
        check(networks(json!([{"ipAddressFromIPPool": "c", "routes": [{"gateway": gateway}]}])), &NOTHING, &["c"]);
        let gateway: Gateway = serde_json::from_value(gateway).unwrap();
        assert_eq!(gateway_pool(&gateway, &NOTHING).unwrap(), None, "rendering reads the text");
    }

    #[test]
    fn td_135_a_metadata_item_keeps_its_group_and_kind() {
        let item = json!({"key": "k", "name": "p", "kind": "InClusterIPPool", "apiGroup": "ipam.cluster.x-k8s.io"});
        let pools = pools(&template(json!({"metaData": {"ipAddressesFromPool": [item]}})), &NOTHING).unwrap();
        assert_eq!(pools["p"].to_string(), "InClusterIPPool.ipam.cluster.x-k8s.io");
        assert!(!pools["p"].is_metal3());
    }

    #[test]
    fn td_136_annotation_gateways_of_dhcp_networks_are_claimed() {
        let known = annotations(&[("gw", "gateways")]);
        for kind in ["ipv4DHCP", "ipv6DHCP", "ipv6SLAAC"] {
            let routes = json!([{"gateway": {"fromPoolAnnotation": {"object": "baremetalhost", "annotation": "gw"}}}]);
            check(json!({"networkData": {"networks": {kind: [{"routes": routes}]}}}), &host(&known), &["gateways"]);
        }
    }

    #[test]
    fn d_56_name_servers_are_asked_of_metal3_pools() {
        let spec = json!({"networkData": {
            "networks": {"ipv6SLAAC": [{"routes": [{"services": {"dnsFromIPPool": "a"}}]}]},
            "services": {"dnsFromIPPool": "b"},
        }});
        check(spec, &NOTHING, &["a", "b"]);
    }

    #[test]
    fn d_58_a_metal3_pool_is_known_by_group_and_kind() {
        let of = |group, kind| PoolKind::new(group, kind).is_metal3();
        assert!(of(None, None) && of(Some(""), Some("IPPool")));
        assert!(!of(Some("ipam.example.com"), None) && !of(None, Some("InClusterIPPool")));
    }
}
