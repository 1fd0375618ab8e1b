//! Keeping a host for the next machine of the same owner.
//!
//! The owner is a control plane, or a MachineDeployment behind a MachineSet. Rules: M-49, M-107 to M-109, H-12, H-13.

use capm3_api::foreign::{Machine, MachineSet};
use capm3_api::k8s::OwnerReference;
use capm3_api::names::{CAPI_CONTROL_PLANE_GROUP, CAPI_GROUP, label};

use super::ControlFlow::Continue;
use super::{Flow, Observed, Question, ask};
use crate::host::group_of;

/// Value of the node-reuse label that the machine answers to; none for a machine without such an owner.
pub(super) fn value(owner: &Machine, set: Option<&MachineSet>) -> Option<String> {
    if is_control_plane(owner) {
        return control_plane(owner).map(|plane| format!("cp-{}", plane.name));
    }
    let owners = set?.metadata.owner_references.as_deref().unwrap_or_default();
    let deployment = owners.iter().find(|o| o.kind == "MachineDeployment" && is_in(o, CAPI_GROUP))?;
    Some(format!("md-{}", deployment.name))
}

/// The same once it can be told: a MachineSet that the cache does not show may just have been made.
pub(super) fn told(o: &Observed<'_>, owner: &Machine) -> Flow<Option<String>> {
    match machine_set(owner) {
        Some(set) if o.machine_set.is_none() && !is_control_plane(owner) && !o.answers.machine_set_is_live => {
            ask(Question::MachineSet { name: set.name.clone() })
        }
        _ => Continue(value(owner, o.machine_set)),
    }
}

/// The MachineSet that owns the machine, by name (M-109).
pub fn machine_set(owner: &Machine) -> Option<&OwnerReference> {
    let owners = owner.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|o| o.kind == "MachineSet" && is_in(o, CAPI_GROUP))
}

/// Whether the host is to be kept, and under which value: what the owner's template of today says (M-107, M-108).
/// Without a MachineDeployment there is nobody to keep it for (H-12).
pub(super) fn wanted(o: &Observed<'_>, owner: &Machine) -> Flow<Option<String>> {
    let Some(value) = told(o, owner)? else { return Continue(None) };
    let template = if is_control_plane(owner) {
        let Some(plane) = control_plane(owner) else { return Continue(None) };
        match &o.answers.control_plane {
            Some(template) => template.clone(),
            None => {
                return ask(Question::ControlPlane {
                    api_version: plane.api_version.clone(),
                    kind: plane.kind.clone(),
                    name: plane.name.clone(),
                });
            }
        }
    } else {
        let template = o.machine_set.and_then(|set| set.spec.template.as_ref()).and_then(|t| t.spec.as_ref());
        template.and_then(|spec| spec.infrastructure_ref.as_ref()).map(|reference| reference.name.clone())
    };
    let Some(template) = template.filter(|name| !name.is_empty()) else { return Continue(None) };
    match o.answers.node_reuse {
        None => ask(Question::NodeReuse { template }),
        Some(flag) => Continue(flag.filter(|keep| *keep).map(|_| value)),
    }
}

fn is_control_plane(owner: &Machine) -> bool {
    owner.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(label::CONTROL_PLANE))
}

fn control_plane(owner: &Machine) -> Option<&OwnerReference> {
    let owners = owner.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|o| is_in(o, CAPI_CONTROL_PLANE_GROUP))
}

fn is_in(owner: &OwnerReference, group: &str) -> bool {
    group_of(&owner.api_version) == Some(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(group: &str, kind: &str, name: &str) -> OwnerReference {
        OwnerReference {
            api_version: format!("{group}/v1"),
            kind: kind.to_owned(),
            name: name.to_owned(),
            ..OwnerReference::default()
        }
    }

    fn machine(control_plane: bool, owners: &[OwnerReference]) -> Machine {
        let mut machine = Machine::named("ns", "m1");
        machine.metadata.owner_references = Some(owners.to_vec());
        if control_plane {
            machine.metadata.labels = Some([(label::CONTROL_PLANE.to_owned(), String::new())].into());
        }
        machine
    }

    fn set(owners: &[OwnerReference]) -> MachineSet {
        let mut set = MachineSet::named("ns", "set");
        set.metadata.owner_references = Some(owners.to_vec());
        set
    }

    #[test]
    fn a_nr_7_any_kind_of_control_plane_counts() {
        for kind in ["KubeadmControlPlane", "Other"] {
            let machine = machine(true, &[reference(CAPI_CONTROL_PLANE_GROUP, kind, "test1")]);
            assert_eq!(value(&machine, None).as_deref(), Some("cp-test1"));
        }
    }

    #[test]
    fn a_nr_8_without_such_an_owner_there_is_no_name() {
        assert_eq!(value(&machine(true, &[reference("other.io", "KubeadmControlPlane", "test1")]), None), None);
        assert_eq!(value(&machine(true, &[]), None), None);
    }

    #[test]
    fn a_s_10_the_label_alone_makes_a_control_plane() {
        let mut labelled = machine(false, &[]);
        assert!(!is_control_plane(&labelled));
        for value in ["", "true", "false"] {
            labelled.metadata.labels = Some([(label::CONTROL_PLANE.to_owned(), value.to_owned())].into());
            assert!(is_control_plane(&labelled), "{value:?}");
        }
    }

    #[test]
    fn a_nr_9_and_11_a_worker_answers_to_its_deployment() {
        let worker = machine(false, &[reference(CAPI_GROUP, "MachineSet", "set")]);
        let owned = set(&[reference(CAPI_GROUP, "MachineDeployment", "test1")]);
        assert_eq!(value(&worker, Some(&owned)).as_deref(), Some("md-test1"));
        assert_eq!(value(&worker, None), None);
        for wrong in [
            vec![reference(CAPI_GROUP, "Other", "test1")],
            vec![reference("other.io", "MachineDeployment", "test1")],
            Vec::new(),
        ] {
            assert_eq!(value(&worker, Some(&set(&wrong))), None, "A-NR-11");
        }
    }

    #[test]
    fn a_nr_12_and_13_finding_the_machine_set() {
        assert!(machine_set(&machine(false, &[reference(CAPI_GROUP, "MachineSet", "set")])).is_some());
        for wrong in [reference(CAPI_GROUP, "Other", "set"), reference("other.io", "MachineSet", "set")] {
            assert!(machine_set(&machine(false, &[wrong])).is_none());
        }
        let mut unowned = machine(true, &[]);
        assert!(machine_set(&unowned).is_none());
        unowned.metadata.owner_references = None;
        assert!(machine_set(&unowned).is_none());
        let by_uid = OwnerReference { uid: "uid-set".to_owned(), ..OwnerReference::default() };
        assert!(machine_set(&machine(false, &[by_uid])).is_none(), "A-NR-13");
    }
}
