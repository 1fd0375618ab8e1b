//! Every generated file and its content.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::flavours::{CLASSES, FLAVOURS};
use crate::packaging::{Certificates, INFRASTRUCTURE, IPAM, Provider, VERSION};
use crate::{argocd, host_crds, pages, yaml};

/// Folders in which nothing but generated files lives.
pub const FOLDERS: [&str; 3] = ["crds", "clusterctl", "docs/reference"];

/// These are written by hand in `templates/` and copied into the release folder of the infrastructure provider; the other
/// templates are made of parts.
const TEMPLATES: [(&str, &str); 3] = [
    ("cluster-template.yaml", include_str!("../../templates/cluster-template.yaml")),
    ("cluster-template-development.yaml", include_str!("../../templates/cluster-template-development.yaml")),
    ("example_variables.rc", include_str!("../../templates/example_variables.rc")),
];
const METADATA: &str = include_str!("../../metadata.yaml");

pub fn all() -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for (title, page, crds) in [
        ("Infrastructure kinds", "infrastructure", capm3_api::crds::infrastructure()),
        ("Address kinds", "ipam", capm3_api::crds::ipam()),
    ] {
        let mut objects = Vec::new();
        for crd in crds {
            let name = crd.metadata.name.clone().context("a CRD without a name")?;
            let mut object = serde_json::to_value(crd).context("serialise a CRD")?;
            object.as_object_mut().map(|crd| crd.remove("status"));
            files.push((PathBuf::from(format!("crds/{name}.yaml")), yaml::documents(&[&object])?));
            objects.push(object);
        }
        files.push((format!("docs/reference/{page}.md").into(), pages::reference(title, &objects)?));
    }
    for provider in [&INFRASTRUCTURE, &IPAM] {
        let folder = release(provider);
        for certificates in [Certificates::CertManager, Certificates::SelfSigned] {
            let text = yaml::documents(&provider.objects(certificates)?)?;
            files.push((folder.join(provider.components(certificates)), text));
        }
        // A series that is newer than the release would hide it: clusterctl looks for `latest` there (K-98).
        files.push((folder.join("metadata.yaml"), METADATA.to_owned()));
    }
    for (name, text) in TEMPLATES {
        files.push((release(&INFRASTRUCTURE).join(name), text.to_owned()));
    }
    for (kind, flavours) in [("cluster-template", FLAVOURS), ("clusterclass", CLASSES)] {
        for flavour in flavours {
            files.push((release(&INFRASTRUCTURE).join(format!("{kind}-{}.yaml", flavour.name)), flavour.text()?));
        }
    }
    files.push(("docs/flavours.md".into(), pages::flavours(&TEMPLATES[..2])?));
    files.push(("docs/argocd/argocd-cm.yaml".into(), argocd::settings()?));
    files.push(("clusterctl/clusterctl.yaml".into(), yaml::documents(&[settings()])?));
    files.push(("e2e/manifests/host-crds.yaml".into(), yaml::documents(&host_crds::all()?)?));
    Ok(files)
}

fn release(provider: &Provider) -> PathBuf {
    PathBuf::from("clusterctl").join(provider.label).join(VERSION)
}

/// A clusterctl configuration that installs both providers from this folder; `CLUSTERCTL_REPOSITORY_PATH` is its absolute path.
fn settings() -> Value {
    let entry = |provider: &Provider, kind: &str| {
        json!({
            "name": "metal3",
            "type": kind,
            "url": format!(
                "${{CLUSTERCTL_REPOSITORY_PATH}}/{}/latest/{}", provider.label, provider.components(Certificates::CertManager)
            ),
        })
    };
    json!({"providers": [entry(&INFRASTRUCTURE, "InfrastructureProvider"), entry(&IPAM, "IPAMProvider")]})
}
