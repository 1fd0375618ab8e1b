//! The real operator's admission, as far as a provider can run into it.

use capm3_api::names::{annotation, host_state};

use super::decide::unacceptable;
use super::view::{HARDWARE_DETAILS, Host, INSPECT, REBOOT, SecretRef, Status};

/// All reasons to refuse the new host; `old` is what an update replaces.
pub fn admit(old: Option<&Host>, new: &Host) -> Result<(), Vec<String>> {
    let mut refused = Vec::new();
    secrets_stay_at_home(new, &mut refused);
    refused.extend(new.spec.image.as_ref().filter(|image| !image.url.is_empty()).and_then(unacceptable));
    if new.spec.image.as_ref().is_some_and(|image| image.url.is_empty()) {
        refused.push("image URL  is invalid: parse \"\": empty url".to_owned());
    }
    annotations(new, &mut refused);
    if new.spec.disable_power_off && !new.spec.online {
        refused.push("node can't simultaneously have online set to false and have power off disabled".to_owned());
    }
    if let Some(old) = old {
        changes(old, new, &mut refused);
    }
    if refused.is_empty() { Ok(()) } else { Err(refused) }
}

fn secrets_stay_at_home(host: &Host, refused: &mut Vec<String>) {
    let spec = &host.spec;
    let named = [("userData", &spec.user_data), ("networkData", &spec.network_data), ("metaData", &spec.meta_data)];
    let own = host.metadata.namespace.as_deref();
    let strays = |secret: &SecretRef| {
        secret.namespace.as_deref().is_some_and(|namespace| !namespace.is_empty() && Some(namespace) != own)
    };
    let strays = named.into_iter().filter(|(_, secret)| secret.as_ref().is_some_and(strays));
    refused.extend(strays.map(|(field, _)| format!("{field}: cross-namespace Secret references are not allowed")));
}

fn annotations(host: &Host, refused: &mut Vec<String>) {
    for (name, value) in host.annotations() {
        let problem = match name.as_str() {
            annotation::HOST_STATUS if !value.is_empty() => serde_json::from_str::<Status>(value)
                .err()
                .map(|error| format!("error decoding status annotation: {error}")),
            INSPECT => (!matches!(value.as_str(), "disabled" | ""))
                .then(|| format!("invalid value for the {INSPECT} annotation, allowed are \"disabled\" or \"\"")),
            HARDWARE_DETAILS => (!value.is_empty() && !host.inspection_disabled())
                .then(|| "when hardware details are provided, inspection must be disabled".to_owned()),
            _ if name == REBOOT || name.strip_prefix(REBOOT).is_some_and(|rest| rest.starts_with('/')) => reboot(value),
            _ => None,
        };
        refused.extend(problem);
    }
}

fn reboot(value: &str) -> Option<String> {
    if value.is_empty() {
        return None;
    }
    match serde_json::from_str::<serde_json::Value>(value) {
        Ok(serde_json::Value::Object(arguments)) => {
            let mode = arguments.get("mode").and_then(|mode| mode.as_str()).unwrap_or_default();
            (!matches!(mode, "hard" | "soft" | ""))
                .then(|| format!("invalid mode in the {REBOOT} annotation, allowed are \"hard\", \"soft\" or \"\""))
        }
        Ok(_) | Err(_) => Some(format!("failed to unmarshal the data from the {REBOOT} annotation")),
    }
}

fn changes(old: &Host, new: &Host, refused: &mut Vec<String>) {
    let movable = |host: &Host| host.status.operational_status == "detached" || host.state() == host_state::REGISTERING;
    let address = &old.spec.bmc.address;
    if !address.is_empty() && *address != new.spec.bmc.address && !movable(old) && !movable(new) {
        let text =
            "BMC address can not be changed if the BMH is not in the Registering state, or if the BMH is not detached";
        refused.push(text.to_owned());
    }
    let mac = |host: &Host| host.spec.boot_mac_address.clone().unwrap_or_default().to_lowercase();
    if !mac(old).is_empty() && mac(old) != mac(new) {
        refused.push("bootMACAddress can not be changed once it is set".to_owned());
    }
    let enabled = !old.spec.externally_provisioned && new.spec.externally_provisioned;
    if enabled && old.state() != host_state::AVAILABLE && new.state() != host_state::AVAILABLE {
        let state = old.state();
        refused
            .push(format!("externallyProvisioned can only be enabled when in Available state, currently in {state}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn host(spec: &Value, annotations: &Value) -> Host {
        let metadata = json!({"namespace": "x", "name": "h", "annotations": annotations});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    #[track_caller]
    fn refuses(host: &Host, text: &str) {
        let refused = admit(None, host).unwrap_err().join("; ");
        assert!(refused.contains(text), "{refused}");
    }

    #[test]
    fn images_need_a_known_scheme_and_a_checksum() {
        let image = |image: &Value| host(&json!({"online": true, "image": image}), &json!({}));
        refuses(&image(&json!({"url": "file:///etc/passwd", "checksum": "abc"})), "invalid scheme in URL, \"file\"");
        refuses(&image(&json!({"url": "no-url", "checksum": "abc"})), "invalid URI");
        refuses(&image(&json!({"url": "http://x/y"})), "checksum is required");
        refuses(
            &image(&json!({"url": "http://x/y", "checksum": "a", "checksumType": "crc"})),
            "unknown checksumType crc",
        );
        for good in [
            json!({"url": "http://x/y", "checksum": "a", "checksumType": "sha256"}),
            json!({"url": "http://x/y.iso", "format": "live-iso"}),
            json!({"url": "oci://x/y"}),
        ] {
            assert_eq!(admit(None, &image(&good)), Ok(()));
        }
    }

    #[test]
    fn secrets_of_other_namespaces_and_bad_annotations_are_refused() {
        refuses(
            &host(&json!({"online": true, "userData": {"name": "s", "namespace": "y"}}), &json!({})),
            "userData: cross-namespace",
        );
        refuses(&host(&json!({"online": true}), &json!({"inspect.metal3.io": "please"})), "invalid value");
        refuses(&host(&json!({"online": true}), &json!({"reboot.metal3.io/x": "{\"mode\":\"cold\"}"})), "invalid mode");
        refuses(&host(&json!({"online": true}), &json!({"baremetalhost.metal3.io/status": "{"})), "decoding status");
        refuses(&host(&json!({"online": false, "disablePowerOff": true}), &json!({})), "power off disabled");
        let fine =
            json!({"reboot.metal3.io": "", "reboot.metal3.io/key": "{\"mode\":\"hard\"}", "inspect.metal3.io": ""});
        assert_eq!(admit(None, &host(&json!({"online": true}), &fine)), Ok(()));
    }

    #[test]
    fn address_and_mac_stay() {
        let old = host(&json!({"bmc": {"address": "ipmi://a"}, "bootMACAddress": "AA:00:00:00:00:01"}), &json!({}));
        let mut new = old.clone();
        new.spec.boot_mac_address = Some("aa:00:00:00:00:01".into());
        assert_eq!(admit(Some(&old), &new), Ok(()));
        new.spec.bmc.address = "ipmi://b".into();
        new.spec.boot_mac_address = None;
        assert_eq!(admit(Some(&old), &new).unwrap_err().len(), 2);
    }
}
