//! The hosts of a namespace, as the choice of a host for a machine without wishes sees them.

use capm3_api::foreign::BareMetalHost;
use capm3_core::host::{candidate, consumer_text};
use capm3_core::placement::{Selector, Verdict, Wanted, judge};

const HEADER: [&str; 5] = ["NAME", "STATE", "POWER", "HELD BY", "FOR A NEW MACHINE"];

/// One line a host, in columns; a host that could not be taken says why.
pub fn table(hosts: &[BareMetalHost]) -> String {
    if hosts.is_empty() {
        return "no BareMetalHost in this namespace\n".to_owned();
    }
    let rows: Vec<[String; 5]> = hosts.iter().map(row).collect();
    let header = HEADER.map(str::to_owned);
    let width = |column: usize| rows.iter().chain([&header]).map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADER.len()).map(width).collect();
    let mut text = String::new();
    for row in [&header].into_iter().chain(&rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
        text.push('\n');
    }
    text
}

fn row(host: &BareMetalHost) -> [String; 5] {
    let seen = candidate(host, false);
    let selector = Selector::default();
    let wanted = Wanted { machine: "", cluster: "", selector: &selector, failure_domain: None, reuse: None };
    let fit = match judge(&wanted, &seen) {
        Verdict::Free => "free".to_owned(),
        Verdict::Out(reason) => reason.to_string(),
        Verdict::Mine | Verdict::KeptForUs { .. } => "held".to_owned(),
    };
    let status = host.status.as_ref();
    let error = status.and_then(|status| status.error_message.as_deref()).filter(|error| !error.is_empty());
    let power = match status.and_then(|status| status.powered_on) {
        Some(true) => "on",
        Some(false) => "off",
        None => "unknown",
    };
    let state = if seen.state.is_empty() { "new" } else { seen.state };
    let holder = if host.spec.consumer_ref.is_some() { consumer_text(host) } else { String::new() };
    let fit = error.map_or(fit.clone(), |error| format!("{fit}: {error}"));
    [seen.name.to_owned(), state.to_owned(), power.to_owned(), holder, fit]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, spec: &str, status: &str) -> BareMetalHost {
        let text = format!(
            r#"{{"metadata": {{"name": "{name}", "namespace": "metal3"}}, "spec": {spec}, "status": {status}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn each_host_says_whether_it_could_be_taken() {
        let hosts = [
            host("a", "{}", r#"{"provisioning": {"state": "available"}, "poweredOn": false}"#),
            host(
                "b",
                r#"{"consumerRef": {"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2", "kind": "Metal3Machine", "namespace": "metal3", "name": "m"}}"#,
                r#"{"provisioning": {"state": "provisioned"}, "poweredOn": true}"#,
            ),
            host(
                "c",
                "{}",
                r#"{"provisioning": {"state": "available"}, "errorType": "power management error", "errorMessage": "no answer from the BMC"}"#,
            ),
        ];
        let expected = "\
NAME   STATE         POWER     HELD BY                  FOR A NEW MACHINE
a      available     off                                free
b      provisioned   on        Metal3Machine metal3/m   claimed
c      available     unknown                            in error: no answer from the BMC
";
        assert_eq!(table(&hosts), expected);
    }

    #[test]
    fn an_empty_namespace_is_said() {
        assert_eq!(table(&[]), "no BareMetalHost in this namespace\n");
    }
}
