//! The certificate authority of a cluster, for `cardea cert`. Keys leave it as
//! PEM text; files and their modes are the caller's.

use std::{fmt, net::IpAddr, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use webpki::EndEntityCert;

use super::{TlsError, authority_name, cluster_of_authority, node_name};
use crate::ids::ClusterId;

/// 9999-12-31T23:59:59Z, which stands for no end (RFC 5280 section 4.1.2.5).
const LAST_MS: u64 = 253_402_300_799_000;

/// Between which times a certificate holds, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before_ms: u64,
    /// The last moment.
    pub not_after_ms: u64,
}

impl Validity {
    fn write(self, params: &mut CertificateParams) {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let written = |ms: u64| epoch + Duration::from_millis(ms.min(LAST_MS));
        params.not_before = written(self.not_before_ms);
        params.not_after = written(self.not_after_ms);
    }
}

/// The node that a certificate is issued for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The node's name: 1 to 64 letters, digits, `.`, `_` and `-`.
    pub node: String,
    /// The DNS names and IP addresses at which other nodes reach it.
    pub hosts: Vec<String>,
}

/// A certificate and its key, in PEM. `Debug` shows no key.
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key: for a file that only the node may read.
    pub key_pem: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("certificate", &self.certificate_pem).finish_non_exhaustive()
    }
}

/// Issues the certificates of one cluster.
pub struct Authority {
    cluster: ClusterId,
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes the authority of `cluster`, with a new key (ECDSA P-256).
    pub fn create(cluster: ClusterId, validity: Validity) -> Result<Self, TlsError> {
        let key = KeyPair::generate().map_err(TlsError::Issue)?;
        let mut params = authority_params(cluster)?;
        validity.write(&mut params);
        let certificate_pem = params.self_signed(&key).map_err(TlsError::Issue)?.pem();
        Ok(Self { cluster, certificate_pem, issuer: Issuer::new(params, key) })
    }

    /// Reads an authority that [`Authority::create`] made.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, TlsError> {
        let nameless = TlsError::Nameless { what: "authority" };
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| TlsError::Certificate { what: "authority" })?;
        let cluster = cluster_of_authority(&der).ok_or(nameless)?;
        let key = KeyPair::from_pem(key).map_err(|_| TlsError::Key { what: "authority key" })?;
        let parsed = EndEntityCert::try_from(&der)
            .map_err(|_| TlsError::Certificate { what: "authority" })?;
        if key.subject_public_key_info() != parsed.subject_public_key_info().as_ref() {
            return Err(TlsError::KeyMismatch);
        }
        Ok(Self {
            cluster,
            certificate_pem: certificate.to_owned(),
            issuer: Issuer::new(authority_params(cluster)?, key),
        })
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The authority's certificate, which every node needs.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's key, which no node needs.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Issues a certificate with a new key, good for calling and being called.
    pub fn issue(&self, subject: &Subject, validity: Validity) -> Result<Issued, TlsError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !(1..=64).contains(&subject.node.len()) || !subject.node.chars().all(allowed) {
            return Err(TlsError::Name(subject.node.clone()));
        }
        let mut names = vec![uri(node_name(self.cluster, &subject.node))?];
        for host in &subject.hosts {
            names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(
                    host.clone().try_into().map_err(|_| TlsError::Name(host.clone()))?,
                ),
            });
        }
        let mut params = CertificateParams::default();
        validity.write(&mut params);
        params.distinguished_name = common_name(&subject.node);
        params.subject_alt_names = names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(TlsError::Issue)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(TlsError::Issue)?;
        Ok(Issued { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// What is in the authority's certificate follows from the cluster id, so that
/// an issuer can be made again from certificate and key.
fn authority_params(cluster: ClusterId) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&format!("Cardea {cluster}"));
    params.subject_alt_names = vec![uri(authority_name(cluster))?];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn uri(name: String) -> Result<SanType, TlsError> {
    name.clone().try_into().map(SanType::URI).map_err(|_| TlsError::Name(name))
}

#[cfg(test)]
impl Authority {
    /// Signs for another cluster under the name and key of this one.
    pub(super) fn for_another_cluster(&self, cluster: ClusterId) -> Self {
        let key = KeyPair::from_pem(&self.key_pem()).unwrap();
        let params = authority_params(self.cluster).unwrap();
        let certificate_pem = self.certificate_pem.clone();
        Self { cluster, certificate_pem, issuer: Issuer::new(params, key) }
    }
}
