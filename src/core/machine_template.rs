//! What a Metal3MachineTemplate keeps passing on to the machines that were cloned from it, how disks are cleaned, and what it
//! tells whoever would clone the first: how much a machine of it brings.
//!
//! Rules: cluster-and-machine.md T-1 to T-8, H-45; capi-contract.md K-54, K-55.

use std::collections::BTreeSet;

use capm3_api::foreign::BareMetalHost;
use capm3_api::infra::v1beta2::{Metal3Machine, Metal3MachineTemplate, Metal3MachineTemplateStatus, NodeInfo};
use capm3_api::names::annotation;
use serde_json::{Value, json};

use crate::placement::Selector;

/// The template a machine was cloned from, if it was one of ours (T-1).
pub fn template_of(machine: &Metal3Machine) -> Option<&str> {
    let annotations = machine.metadata.annotations.as_ref()?;
    let kind = annotations.get(annotation::CLONED_FROM_GROUP_KIND)?;
    let name = annotations.get(annotation::CLONED_FROM_NAME)?;
    (kind == annotation::CLONED_FROM_MACHINE_TEMPLATE && !name.is_empty()).then_some(name)
}

pub fn is_paused(template: &Metal3MachineTemplate) -> bool {
    template.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(annotation::PAUSED))
}

/// The machines of the template's namespace that are behind, each with the merge patch it needs.
pub fn behind<'m>(
    template: &Metal3MachineTemplate,
    machines: impl IntoIterator<Item = &'m Metal3Machine>,
) -> Vec<(&'m Metal3Machine, Value)> {
    let mode = template.spec.template.spec.automated_cleaning_mode.as_deref().filter(|mode| !mode.is_empty());
    let Some(mode) = mode.filter(|_| !is_paused(template)) else { return Vec::new() };
    let paused = |machine: &Metal3Machine| {
        machine.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(annotation::PAUSED))
    };
    machines
        .into_iter()
        .filter(|machine| template_of(machine) == template.metadata.name.as_deref())
        .filter(|machine| machine.metadata.deletion_timestamp.is_none() && !paused(machine))
        .filter(|machine| machine.spec.automated_cleaning_mode.as_deref() != Some(mode))
        .map(|machine| (machine, json!({ "spec": { "automatedCleaningMode": mode } })))
        .collect()
}

/// What a host brings, as far as the host operator has found out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Brings<'a> {
    cpus: i64,
    mebibytes: i64,
    architecture: Option<&'a str>,
}

fn brings(host: &BareMetalHost) -> Option<Brings<'_>> {
    let hardware = host.status.as_ref()?.hardware.as_ref().filter(|_| host.metadata.deletion_timestamp.is_none())?;
    let cpu = hardware.cpu.as_ref()?;
    let architecture = cpu.arch.as_deref().and_then(|arch| match arch {
        "x86_64" | "amd64" => Some("amd64"),
        "aarch64" | "arm64" => Some("arm64"),
        "s390x" => Some("s390x"),
        "ppc64le" => Some("ppc64le"),
        _ => None,
    });
    let positive = |count: Option<i64>| count.filter(|count| *count > 0);
    Some(Brings { cpus: positive(cpu.count)?, mebibytes: positive(hardware.ram_mebibytes)?, architecture })
}

/// The status to store, if another is stored (K-54): the least that any host of the selector has, whoever holds it now. Hosts that
/// are not inspected yet promise nothing; without any other there is nothing to tell.
pub fn status<'h>(
    template: &Metal3MachineTemplate,
    hosts: impl IntoIterator<Item = &'h BareMetalHost>,
) -> Option<Metal3MachineTemplateStatus> {
    if is_paused(template) || template.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let selector = Selector::of(&template.spec.template.spec).ok()?; // machines say what is wrong with it
    let hosts = hosts.into_iter().filter(|host| selector.matches(host.metadata.labels.as_ref()));
    let known: Vec<_> = hosts.filter_map(brings).collect();
    let cpus = known.iter().map(|host| ("cpu", host.cpus, "")).min();
    let memory = known.iter().map(|host| ("memory", host.mebibytes, "Mi")).min();
    let least = cpus.into_iter().chain(memory);
    let architectures: BTreeSet<_> = known.iter().map(|host| host.architecture).collect();
    let common = architectures.first().copied().flatten().filter(|_| architectures.len() == 1);
    let status = Metal3MachineTemplateStatus {
        capacity: least.map(|(resource, count, unit)| (resource.to_owned(), format!("{count}{unit}"))).collect(),
        node_info: common.map(|architecture| NodeInfo { architecture: Some(architecture.to_owned()) }),
    };
    (template.status.clone().unwrap_or_default() != status).then_some(status)
}

/// Whether a host that was `old` and is `new` may change what a template tells.
pub fn matters(template: &Metal3MachineTemplate, old: Option<&BareMetalHost>, new: Option<&BareMetalHost>) -> bool {
    let Ok(selector) = Selector::of(&template.spec.template.spec) else { return false };
    let counts = |host: &&BareMetalHost| selector.matches(host.metadata.labels.as_ref());
    old.filter(counts).and_then(brings) != new.filter(counts).and_then(brings)
}

#[cfg(test)]
mod tests {
    use capm3_api::foreign::{BareMetalHostStatus, HostCpu, HostHardware};

    use super::*;

    fn template(mode: Option<&str>) -> Metal3MachineTemplate {
        let mut template = Metal3MachineTemplate::named("ns", "t");
        template.spec.template.spec.automated_cleaning_mode = mode.map(str::to_owned);
        template
    }

    fn machine(from: &str, kind: &str, mode: &str) -> Metal3Machine {
        let mut machine = Metal3Machine::named("ns", "m");
        machine.metadata.annotations = Some(
            [(annotation::CLONED_FROM_NAME, from), (annotation::CLONED_FROM_GROUP_KIND, kind)]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
        );
        machine.spec.automated_cleaning_mode = Some(mode.to_owned());
        machine
    }

    fn cloned(from: &str, mode: &str) -> Metal3Machine {
        machine(from, annotation::CLONED_FROM_MACHINE_TEMPLATE, mode)
    }

    #[test]
    fn a_t_1_and_2_a_machine_knows_its_template() {
        assert_eq!(template_of(&Metal3Machine::named("ns", "m")), None);
        assert_eq!(template_of(&cloned("t", "")), Some("t"), "A-T-2");
        assert_eq!(template_of(&machine("t", "Other.example.com", "")), None); // H-45
    }

    #[test]
    fn a_t_7_and_8_every_cloned_machine_follows() {
        for (row, mode, old) in [("A-T-7", "disabled", "metadata"), ("A-T-8", "metadata", "disabled")] {
            let machines = [cloned("t", old), cloned("t", old), cloned("t", old)];
            let patches = behind(&template(Some(mode)), &machines);
            assert_eq!(patches.len(), 3, "{row}");
            assert!(patches.iter().all(|(_, p)| *p == json!({ "spec": { "automatedCleaningMode": mode } })));
        }
    }

    #[test]
    fn a_t_9_and_t_5_others_stay_as_they_are() {
        assert!(behind(&template(Some("disabled")), &[cloned("other", "metadata")]).is_empty());
        assert!(behind(&template(Some("disabled")), &[cloned("t", "disabled")]).is_empty());
        assert!(behind(&template(None), &[cloned("t", "metadata")]).is_empty());
    }

    #[test]
    fn h_45_paused_and_leaving_machines_are_skipped() {
        let mut paused = cloned("t", "metadata");
        paused.metadata.annotations.get_or_insert_default().insert(annotation::PAUSED.to_owned(), String::new());
        let mut leaving = cloned("t", "metadata");
        leaving.metadata.deletion_timestamp = Some(capm3_api::k8s::Time(capm3_api::k8s::Timestamp::UNIX_EPOCH));
        assert!(behind(&template(Some("disabled")), &[paused, leaving]).is_empty());
    }

    #[test]
    fn a_t_5_a_paused_template_changes_nothing() {
        let mut paused = template(Some("disabled"));
        paused.metadata.annotations = Some([(annotation::PAUSED.to_owned(), String::new())].into());
        assert!(behind(&paused, &[cloned("t", "metadata")]).is_empty());
    }

    fn host(labels: &[(&str, &str)], arch: &str, cpus: i64, mebibytes: i64) -> BareMetalHost {
        let mut host = BareMetalHost::named("ns", "h");
        host.metadata.labels = Some(labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        let cpu = Some(HostCpu { arch: Some(arch.to_owned()), count: Some(cpus) });
        let hardware = HostHardware { cpu, ram_mebibytes: Some(mebibytes), ..HostHardware::default() };
        host.status = Some(BareMetalHostStatus { hardware: Some(hardware), ..BareMetalHostStatus::default() });
        host
    }

    fn told(status: Option<Metal3MachineTemplateStatus>) -> Value {
        serde_json::to_value(status.unwrap()).unwrap()
    }

    const RACK: &[(&str, &str)] = &[("rack", "1")];

    #[test]
    fn k_54_the_least_of_the_hosts_that_the_selector_allows() {
        let mut template = template(None);
        template.spec.template.spec.host_selector = Some(capm3_api::infra::v1beta2::HostSelector {
            match_labels: [("rack".to_owned(), "1".to_owned())].into(),
            ..Default::default()
        });
        let hosts = [
            host(RACK, "x86_64", 32, 65_536),
            host(RACK, "x86_64", 64, 32_768),
            host(&[], "aarch64", 1, 512),
            BareMetalHost { status: None, ..host(RACK, "", 0, 0) },
        ];
        let status = status(&template, &hosts);
        let expected =
            json!({ "capacity": { "cpu": "32", "memory": "32768Mi" }, "nodeInfo": { "architecture": "amd64" } });
        assert_eq!(told(status.clone()), expected);
        template.status = status;
        assert_eq!(super::status(&template, &hosts), None, "the same again is no write");
        assert_eq!(told(super::status(&template, &hosts[2..])), json!({}), "what is not known any more is not told");
    }

    #[test]
    fn k_54_architectures_that_differ_are_not_told() {
        let hosts = [host(&[], "x86_64", 8, 1024), host(&[], "aarch64", 4, 2048)];
        let expected = json!({ "capacity": { "cpu": "4", "memory": "1024Mi" } });
        assert_eq!(told(status(&template(None), &hosts)), expected);
        assert_eq!(status(&template(None), &[host(&[], "x86_64", 0, 1024)]), None, "not inspected");
        for (given, told_as) in [("amd64", "amd64"), ("aarch64", "arm64"), ("s390x", "s390x"), ("ppc64le", "ppc64le")] {
            let told = told(status(&template(None), &[host(&[], given, 4, 2048)]));
            assert_eq!(told["nodeInfo"]["architecture"], told_as);
        }
    }

    #[test]
    fn k_54_only_what_a_host_brings_wakes_its_templates() {
        let (plain, template) = (host(&[], "x86_64", 8, 1024), template(None));
        let mut claimed = plain.clone();
        claimed.metadata.resource_version = Some("2".to_owned());
        assert!(!matters(&template, Some(&plain), Some(&claimed)));
        assert!(matters(&template, None, Some(&plain)) && matters(&template, Some(&plain), None));
        assert!(matters(&template, Some(&plain), Some(&host(&[], "x86_64", 4, 1024))));
        assert!(!matters(&template, None, Some(&host(&[], "x86_64", 0, 0))));
    }
}
