//! Metal3Machine and Metal3MachineTemplate (W-20 to W-23; Secrets of templates too, WH-3).

use super::url::is_request_uri;
use super::{Admission, Verdict, is_blank, namespace};
use crate::infra::v1beta2::{Image, Metal3Machine, Metal3MachineSpec, Metal3MachineTemplate};
use crate::names::FORMAT_LIVE_ISO;

impl Admission for Metal3Machine {
    fn judge(&self, old: Option<&Self>, verdict: &mut Verdict) {
        judge_spec("spec", &self.spec, old.map(|old| &old.spec), namespace(self), verdict);
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Admission for Metal3MachineTemplate {
    fn judge(&self, old: Option<&Self>, verdict: &mut Verdict) {
        let old = old.map(|old| &old.spec.template.spec);
        judge_spec("spec.template.spec", &self.spec.template.spec, old, namespace(self), verdict);
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

fn judge_spec(path: &str, spec: &Metal3MachineSpec, old: Option<&Metal3MachineSpec>, own: &str, verdict: &mut Verdict) {
    if old == Some(spec) {
        return; // WH-2
    }
    if is_blank(spec.custom_deploy.as_ref().map(|deploy| &deploy.method)) {
        judge_image(&format!("{path}.image"), spec.image.as_ref(), verdict);
    }
    for (field, secret) in
        [("userData", &spec.user_data), ("metaData", &spec.meta_data), ("networkData", &spec.network_data)]
    {
        verdict.own_namespace(&format!("{path}.{field}"), secret.as_ref().and_then(|s| s.namespace.as_deref()), own);
    }
    // A claim on a template elsewhere is refused (W-29), so such a machine would wait for ever.
    if old.is_none_or(|old| old.data_template != spec.data_template) {
        let template = spec.data_template.as_ref().and_then(|template| template.namespace.as_deref());
        verdict.own_namespace(&format!("{path}.dataTemplate"), template, own);
    }
}

fn judge_image(path: &str, image: Option<&Image>, verdict: &mut Verdict) {
    let url = image.map_or("", |image| image.url.as_str());
    let checksum = image.and_then(|image| image.checksum.as_deref());
    match (url, checksum) {
        ("", None) => return verdict.required(path, "an image or a customDeploy method is required"),
        ("", Some(_)) => verdict.required(format!("{path}.url"), "a checksum alone is no image"),
        (url, _) if !is_request_uri(url) => verdict.invalid(format!("{path}.url"), format!("{url:?} is not a URL")),
        _ => {}
    }
    let set = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
    if url.to_ascii_lowercase().starts_with("oci://") {
        if set(checksum) {
            verdict.invalid(format!("{path}.checksum"), "an OCI image is named by its digest and takes no checksum");
        }
        if set(image.and_then(|image| image.checksum_type.as_deref())) {
            verdict.invalid(format!("{path}.checksumType"), "an OCI image takes no checksum");
        }
        return;
    }
    if image.and_then(|image| image.disk_format.as_deref()) == Some(FORMAT_LIVE_ISO) {
        return;
    }
    match checksum.filter(|text| !text.is_empty()) {
        None => verdict.required(format!("{path}.checksum"), "a checksum is required for this kind of image"),
        Some(text) if (text.starts_with("http://") || text.starts_with("https://")) && !is_request_uri(text) => {
            verdict.invalid(format!("{path}.checksum"), format!("{text:?} is not a URL"));
        }
        Some(_) => {}
    }
}
