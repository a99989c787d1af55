//! TLS toward servers, with rustls.

use std::{
    io,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
        SignatureScheme,
        client::{
            Resumption,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    },
};

use super::{Fault, Stage, fault};
use crate::config::{Script, TlsCheck};

/// Shakes hands with a server, which has to prove who it is if the check wants it.
pub(super) async fn handshake(
    stream: TcpStream,
    address: IpAddr,
    check: &TlsCheck,
    stage: &Stage,
) -> Result<TlsStream<TcpStream>, Fault> {
    stage.set("during the TLS handshake");
    let own = |why: String| Fault::Own(format!("the balancer cannot use TLS: {why}"));
    let name = check.server_name.clone().map(ServerName::try_from);
    let name = name.unwrap_or(Ok(address.into())).map_err(|error| own(error.to_string()))?;
    let config = config(check).map_err(own)?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.map_err(|error| refusal(&error))
}

fn config(check: &TlsCheck) -> Result<ClientConfig, String> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = if check.verify {
        builder.with_root_certificates(roots(check.ca_file.as_deref())?).with_no_client_auth()
    } else {
        let anybody = Arc::new(Anybody(Arc::clone(provider)));
        builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()
    };
    // A resumed session does not show the certificate: its end would go unseen.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(ring::default_provider()))
}

/// What certificates must lead to.
fn roots(ca_file: Option<&Script>) -> Result<Arc<RootCertStore>, String> {
    let Some(file) = ca_file else { return Ok(Arc::clone(system_roots())) };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(file.source.as_bytes()) {
        let added = certificate.map_err(|error| error.to_string());
        let added = added.and_then(|it| roots.add(it).map_err(|error| error.to_string()));
        added.map_err(|error| format!("{}: {error}", file.path.display()))?;
    }
    Ok(Arc::new(roots))
}

/// Read once: they change with the system's packages.
fn system_roots() -> &'static Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    })
}

/// Why there was no handshake, in words.
fn refusal(error: &io::Error) -> Fault {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let words = match inner {
        Some(rustls::Error::InvalidCertificate(why)) => match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the certificate has expired".to_owned()
            }
            CertificateError::UnknownIssuer => {
                "the certificate is of an issuer that is not trusted".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the certificate is not made out to this name".to_owned()
            }
            other => format!("the certificate is not valid: {other}"),
        },
        Some(rustls::Error::InvalidMessage(_)) => "the answer is not TLS".to_owned(),
        Some(other) => format!("TLS: {other}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "closed the connection during the TLS handshake".to_owned()
        }
        None => return fault("cannot shake hands", error),
    };
    Fault::Server(words)
}

/// Takes any certificate, for `verify = false`; that the server has its key is checked still.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
