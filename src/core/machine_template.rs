//! The one thing a Metal3MachineTemplate keeps passing on to the machines that were cloned from it: how disks are cleaned.
//!
//! Rules: cluster-and-machine.md T-1 to T-8, H-45.

use capm3_api::infra::v1beta2::{Metal3Machine, Metal3MachineTemplate};
use capm3_api::names::annotation;
use serde_json::{Value, json};

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

#[cfg(test)]
mod tests {
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
        assert_eq!(template_of(&cloned("t", "")), Some("t"));
        assert_eq!(template_of(&machine("t", "Other.example.com", "")), None); // H-45
    }

    #[test]
    fn a_t_7_and_8_every_cloned_machine_follows() {
        for (mode, old) in [("disabled", "metadata"), ("metadata", "disabled")] {
            let machines = [cloned("t", old), cloned("t", old), cloned("t", old)];
            let patches = behind(&template(Some(mode)), &machines);
            assert_eq!(patches.len(), 3);
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
}
