//! The kubeconfig of a workload cluster: Secret `<cluster>-kubeconfig`, key `value`.

use capm3_api::foreign::Secret;
use capm3_runtime::{ClientOptions, Key, Metrics, Reader, client_of};
use kube::config::{AuthInfo, KubeConfigOptions};
use kube::{Client, Config};

use crate::{Dial, Reason, words};

const IN_FLIGHT: usize = 16;

/// Does not print, because it is a credential.
pub(crate) struct Kubeconfig(kube::config::Kubeconfig);

impl Kubeconfig {
    pub(crate) async fn read(reader: &Reader, cluster: &Key) -> Result<Self, Reason> {
        let key = cluster.sibling(format!("{}-kubeconfig", cluster.name));
        let secret: Option<Secret> = reader.get(&key).await.map_err(|error| Reason::Unreadable(words(&error)))?;
        let secret = secret.ok_or(Reason::NoKubeconfig)?;
        Self::parse(secret.data.get("value").ok_or_else(|| Reason::Refused("its Secret has no key value".into()))?)
    }

    /// K-174: nothing that runs a program; for the same reason nothing that names a file of the manager's.
    fn parse(value: &[u8]) -> Result<Self, Reason> {
        let refuse = |why: &str| Reason::Refused(why.to_owned());
        let text = std::str::from_utf8(value).map_err(|_| refuse("it is not text"))?;
        // The parser's own words could quote the file.
        let kubeconfig = kube::config::Kubeconfig::from_yaml(text).map_err(|_| refuse("it does not parse"))?;
        for user in kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref()) {
            if user.exec.is_some() {
                return Err(refuse("it runs a program to authenticate"));
            }
            if user.auth_provider.is_some() {
                return Err(refuse("it names an auth provider"));
            }
            if names_a_file(user) {
                return Err(refuse("it refers to files"));
            }
        }
        let clusters = kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref());
        if clusters.into_iter().any(|cluster| cluster.certificate_authority.is_some()) {
            return Err(refuse("it refers to files"));
        }
        Ok(Self(kubeconfig))
    }

    pub(crate) async fn client(
        &self,
        user_agent: &str,
        metrics: &Metrics,
        dial: Option<&Dial>,
    ) -> Result<Client, Reason> {
        let config = Config::from_custom_kubeconfig(self.0.clone(), &KubeConfigOptions::default()).await;
        let config = config.map_err(|error| Reason::Refused(words(&error)))?;
        if let Some(dial) = dial {
            return Ok(dial(&config));
        }
        let options =
            ClientOptions { user_agent: user_agent.to_owned(), in_flight: IN_FLIGHT, metrics: metrics.clone() };
        client_of(config, &options).map_err(|error| Reason::Refused(words(&error)))
    }
}

fn names_a_file(user: &AuthInfo) -> bool {
    user.token_file.is_some() || user.client_certificate.is_some() || user.client_key.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_user(user: &str) -> Result<Kubeconfig, Reason> {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{{name: a, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://192.0.2.1:6443'}}}}]\nusers: [{{name: u, user: {user}}}]\n"
        );
        Kubeconfig::parse(text.as_bytes())
    }

    #[test]
    fn k_174_refuses_what_would_run_a_program_or_read_our_files() {
        for user in [
            "{exec: {apiVersion: client.authentication.k8s.io/v1, command: sh}}",
            "{auth-provider: {name: gcp, config: {}}}",
            "{tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token}",
            "{client-certificate: /etc/x, client-key: /etc/y}",
        ] {
            assert!(matches!(with_user(user), Err(Reason::Refused(_))), "{user}");
        }
        assert!(with_user("{token: abc}").is_ok());
    }

    #[test]
    fn what_does_not_parse_is_refused_without_quoting_it() {
        let Err(Reason::Refused(why)) = Kubeconfig::parse(b"token: [hunter2") else { panic!("accepted") };
        assert_eq!(why, "it does not parse");
    }
}
