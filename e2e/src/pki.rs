//! Certificates and kubeconfigs of the management cluster: one authority, made anew with every start.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

/// One authority, and the folder that `ca.crt` and what it signs for programs lie in.
pub struct Authority {
    folder: PathBuf,
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Name and group, as RBAC sees them.
type User<'a> = (&'a str, Option<&'a str>);

impl Authority {
    pub fn new(folder: &Path) -> Result<Authority> {
        fs::create_dir_all(folder)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "capm3-bed");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        fs::write(folder.join("ca.crt"), &certificate)?;
        fs::write(folder.join("ca.key"), key.serialize_pem())?;
        Ok(Authority { folder: folder.to_owned(), certificate, issuer: Issuer::new(params, key) })
    }

    /// `<name>.crt` and `<name>.key` of a program that serves at `addresses` and `names`, and calls as `user` of `group`.
    pub fn serving(&self, name: &str, (user, group): User<'_>, addresses: &[IpAddr], names: &[&str]) -> Result<()> {
        let (certificate, key) = self.sign((user, group), addresses, names)?;
        fs::write(self.folder.join(format!("{name}.crt")), certificate)?;
        fs::write(self.folder.join(format!("{name}.key")), key)?;
        Ok(())
    }

    fn sign(&self, (user, group): User<'_>, addresses: &[IpAddr], names: &[&str]) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        params.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }

    /// The key pair that signs ServiceAccount tokens: `sa.key`, `sa.pub`.
    pub fn service_account_key(&self) -> Result<()> {
        let key = KeyPair::generate()?;
        fs::write(self.folder.join("sa.key"), key.serialize_pem())?;
        fs::write(self.folder.join("sa.pub"), key.public_key_pem())?;
        Ok(())
    }

    /// A kubeconfig with everything embedded.
    pub fn kubeconfig(&self, path: &Path, server: &str, (user, group): User<'_>) -> Result<()> {
        let (certificate, key) = self.sign((user, group), &[], &[])?;
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "management", "cluster": {"server": server, "certificate-authority-data": BASE64.encode(&self.certificate)}}],
            "users": [{"name": user, "user": {"client-certificate-data": BASE64.encode(certificate), "client-key-data": BASE64.encode(key)}}],
            "contexts": [{"name": "management", "context": {"cluster": "management", "user": user}}],
            "current-context": "management",
        });
        fs::write(path, serde_json::to_string_pretty(&config)?)?; // JSON is YAML
        Ok(())
    }
}
