//! Facts about the client, against servers that a test plays. The key beside the certificate is of these tests alone.

use super::*;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/stream/web/tests").join(name)
}

/// A TLS server that answers each connection's first bytes with `answer`; gives its port.
async fn serve(answer: &'static str) -> u16 {
    let certificate = CertificateDer::from_pem_file(fixture("certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture("key.pem")).unwrap();
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(ring).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            let count = stream.read(&mut request).await.unwrap_or(0);
            if count > 0 {
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.flush().await;
            }
        }
    });
    port
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn get(url: &str, trust: Trust) -> Result<Answer, String> {
    let headers = HeaderMap::new();
    let asked = Asked { method: Method::GET, target: "/x", headers: &headers, body: Bytes::new(), answer_size_max: 10 };
    Connection::new(Address::parse(url).unwrap(), trust).ask(&asked).await
}

#[test]
fn tls_is_spoken_with_whom_the_file_vouches_for_and_with_nobody_else() {
    run(async {
        let port = serve("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
        let trust = Trust::of_file(&fixture("certificate.pem")).unwrap();
        let answer = get(&format!("https://localhost:{port}/x"), trust.clone()).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.body.as_ref(), answer.cut_off), (200, &b"hi"[..], None));
        let by_address = get(&format!("https://127.0.0.1:{port}/x"), trust.clone()).await.unwrap();
        assert_eq!(by_address.body.as_ref(), b"hi");
        // It is another's name: the certificate does not have it.
        let other = get(&format!("https://127.0.0.2:{port}/x"), trust).await.unwrap_err();
        assert!(other.contains("TLS") || other.contains("refused"), "{other}");
        let machine = get(&format!("https://localhost:{port}/x"), Trust::Machine).await.unwrap_err();
        assert!(machine.contains("certificate"), "{machine}");
    });
}

#[test]
fn a_long_answer_is_read_so_far_and_a_file_without_certificates_is_told() {
    run(async {
        let port = serve("HTTP/1.1 500 X\r\ncontent-length: 20\r\n\r\n01234567890123456789").await;
        let trust = Trust::of_file(&fixture("certificate.pem")).unwrap();
        let answer = get(&format!("https://localhost:{port}/x"), trust).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (500, &b"0123456789"[..]));
        assert!(answer.cut_off.unwrap().contains("more than 10 bytes"));
    });
    assert!(Trust::of_file(&fixture("key.pem")).unwrap_err().contains("there is none in it"));
    assert!(Trust::of_file(&fixture("none.pem")).unwrap_err().contains("none.pem"));
}
