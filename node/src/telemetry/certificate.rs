//! When the certificates that this node shows are over.
//!
//! Files are read when a node starts, so what is told here is of those, not of what a file
//! holds by now.

use std::{path::Path, sync::Arc, time::Duration};

use cardea_storage::{Clock, Timestamp};
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::registry::{MetricsSource, Samples};
use crate::{config::Config, listener::tls};

/// From how long before its end on a certificate is spoken of.
const SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How often.
const AGAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// A file of certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    /// The setting that names it.
    setting: &'static str,
    /// When the first of those in it is over.
    ends: Timestamp,
}

/// The certificates of a node.
#[derive(Debug, Clone, Default)]
pub struct Certificates(Arc<[File]>);

impl Certificates {
    /// Reads those that a configuration names. One that cannot be read is left out: whoever
    /// needs it says so.
    pub fn of(config: &Config) -> Self {
        let (cluster, public, admin) = (&config.cluster, &config.public, &config.admin);
        let named = [
            ("cluster.authority_file", &cluster.authority_file),
            ("cluster.certificate_file", &cluster.certificate_file),
            ("public.tls_certificate_file", &public.tls_certificate_file),
            ("admin.tls_certificate_file", &admin.tls_certificate_file),
            ("admin.client_authority_file", &admin.client_authority_file),
        ];
        let read = |(setting, path): (_, &Option<_>)| {
            Some(File { setting, ends: first_end(AsRef::<Path>::as_ref(path.as_ref()?))? })
        };
        Self(named.into_iter().filter_map(read).collect())
    }

    /// Speaks of those that are over soon, at once and then every day, until `stop`.
    pub async fn warn(self, clock: impl Clock, stop: CancellationToken) {
        loop {
            for (File { setting, ends }, left) in self.ending(clock.now()) {
                let days = left.as_secs() / (24 * 60 * 60);
                tracing::warn!(setting, %ends, days, "a certificate is over soon: renew it");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    /// Those that are over soon, with how long they have.
    fn ending(&self, now: Timestamp) -> impl Iterator<Item = (&File, Duration)> {
        let left = move |file: &File| file.ends.since(now);
        self.0.iter().map(move |file| (file, left(file))).filter(|(_, left)| *left < SOON)
    }
}

impl MetricsSource for Certificates {
    fn gather(&self, samples: &mut Samples) {
        for File { setting, ends } in self.0.iter() {
            let labels = vec![("setting", (*setting).to_owned())];
            let help = "When the first certificate of a file is over, in seconds since 1970";
            let seconds = ends.as_millis() as f64 / 1000.0;
            samples.gauge("certificate_ends_timestamp_seconds", help, labels, seconds);
        }
    }
}

/// When the first of a file's certificates is over.
fn first_end(path: &Path) -> Option<Timestamp> {
    let chain = tls::certificates(path).ok()?;
    let end = |der: &rustls::pki_types::CertificateDer<'_>| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let seconds = certificate.validity().not_after.timestamp();
        Some(Timestamp(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)))
    };
    chain.iter().filter_map(end).min()
}

#[cfg(test)]
mod tests {
    use cardea_raft::{
        ClusterId,
        tls::{Authority, Subject, Validity},
    };

    use super::*;
    use crate::{
        config::{Sources, load},
        telemetry::registry::Metrics,
    };

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    #[test]
    fn the_first_end_of_a_file_is_told_and_spoken_of_a_month_before() {
        let directory = tempfile::tempdir().unwrap();
        let until = |not_after_ms| Validity { not_before_ms: 0, not_after_ms };
        let authority = Authority::create(ClusterId([7; 16]), until(900 * DAY_MS));
        let authority = authority.unwrap();
        let subject = Subject { node: "eu-1".to_owned(), hosts: vec!["localhost".to_owned()] };
        let issue = |days| authority.issue(&subject, until(days * DAY_MS)).unwrap();
        let chain = format!("{}{}", issue(400).certificate_pem, issue(200).certificate_pem);
        let path = directory.path().join("chain.pem");
        std::fs::write(&path, chain).unwrap();
        assert_eq!(first_end(&path), Some(Timestamp(200 * DAY_MS)));
        std::fs::write(directory.path().join("none.pem"), "no certificate").unwrap();
        assert_eq!(first_end(&directory.path().join("none.pem")), None);

        let file = directory.path().join("cardea.toml");
        let text = "[cluster]\nlisten = \"127.0.0.1:7433\"\ntls = \"off\"\n\
                    [public]\ntls_certificate_file = \"chain.pem\"\ntls_key_file = \"key\"\n\
                    [admin]\ntls_certificate_file = \"none.pem\"\ntls_key_file = \"key\"\n";
        std::fs::write(&file, text).unwrap();
        let sources = Sources { file: Some(file), ..Sources::default() };
        let certificates = Certificates::of(&load(sources).unwrap().config);
        let soon = |day: u64| certificates.ending(Timestamp(day * DAY_MS)).count();
        assert_eq!((soon(169), soon(171), soon(300)), (0, 1, 1));
        let metrics = Metrics::new(|_| ());
        metrics.add(Arc::new(certificates));
        let told = "cardea_certificate_ends_timestamp_seconds{setting=\"public.tls_certificate_file\"} 17280000";
        assert!(metrics.encode().contains(told), "{}", metrics.encode());
    }
}
