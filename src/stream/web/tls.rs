//! TLS of a client: whom it believes.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Certificates that a client believes; cheap to clone.
#[derive(Clone)]
pub(in crate::stream) enum Trust {
    /// Those that the machine believes (`SSL_CERT_FILE` names others), read at the first connection.
    Machine,
    /// Those of one file alone.
    File(Arc<ClientConfig>),
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trust::Machine => "Machine",
            Trust::File(_) => "File",
        })
    }
}

impl Trust {
    /// Believes the certificates in a PEM file and no other.
    ///
    /// # Errors
    /// It cannot be read, or has none.
    pub(in crate::stream) fn of_file(path: &Path) -> Result<Trust, String> {
        let failed = |error: &dyn fmt::Display| format!("cannot read certificates of {}: {error}", path.display());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(&error))? {
            let added = certificate.map(|certificate| roots.add(certificate)).map_err(|error| failed(&error))?;
            added.map_err(|error| failed(&error))?;
        }
        match roots.is_empty() {
            true => Err(failed(&"there is none in it")),
            false => Ok(Trust::File(config(roots)?)),
        }
    }

    /// What a client of TLS goes by.
    ///
    /// # Errors
    /// The machine has no list of certificates.
    pub(in crate::stream) fn config(&self) -> Result<Arc<ClientConfig>, String> {
        static MACHINE: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        match (self, MACHINE.get()) {
            (Trust::File(config), _) | (Trust::Machine, Some(config)) => Ok(config.clone()),
            (Trust::Machine, None) => {
                // Not kept if it fails: somebody may install them.
                let found = rustls_native_certs::load_native_certs();
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    let why = found.errors.first().map_or(String::new(), |error| format!(" ({error})"));
                    return Err(format!(
                        "this machine has no list of certificates to believe{why}: install one (ca-certificates), or name a file with ca"
                    ));
                }
                let made = config(roots)?;
                Ok(MACHINE.get_or_init(|| made).clone())
            }
        }
    }

    /// # Errors
    /// The other side's certificate is not believed, or it speaks no TLS that we do.
    pub(super) async fn connect(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))?;
        let connector = TlsConnector::from(self.config()?);
        connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))
    }
}

fn config(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| error.to_string())?.with_root_certificates(roots);
    Ok(Arc::new(builder.with_no_client_auth()))
}
