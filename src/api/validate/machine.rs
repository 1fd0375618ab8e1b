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
        if old.is_some_and(|old| *old != self.spec.template.spec) {
            verdict.warn_of_change("spec.template.spec: machines that exist keep what they were made with; make a new template to roll a change out"); // K-43
        }
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
    const URL: &str = "must be an absolute URL";
    let url = image.map_or("", |image| image.url.as_str());
    let checksum = image.and_then(|image| image.checksum.as_deref());
    match (url, checksum) {
        ("", None) => return verdict.required(path, "give an image, or a customDeploy method in its place"),
        ("", Some(_)) => verdict.required(format!("{path}.url"), "a checksum alone is no image: give its URL"),
        (url, _) if !is_request_uri(url) => verdict.invalid(format!("{path}.url"), url, URL),
        _ => {}
    }
    if url.to_ascii_lowercase().starts_with("oci://") {
        let unwanted =
            [("checksum", checksum), ("checksumType", image.and_then(|image| image.checksum_type.as_deref()))];
        for (field, text) in unwanted {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                verdict.invalid(
                    format!("{path}.{field}"),
                    text,
                    "must be left out: an oci:// image carries its own digest",
                );
            }
        }
        return;
    }
    if image.and_then(|image| image.disk_format.as_deref()) == Some(FORMAT_LIVE_ISO) {
        return;
    }
    match checksum.filter(|text| !text.is_empty()) {
        None => verdict.required(
            format!("{path}.checksum"),
            "give a digest or the URL of one; only oci:// and live-iso images go without",
        ),
        Some(text) if (text.starts_with("http://") || text.starts_with("https://")) && !is_request_uri(text) => {
            verdict.invalid(format!("{path}.checksum"), text, URL);
        }
        Some(_) => {}
    }
}
