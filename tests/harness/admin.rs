//! Asking a node's admin address, as a scraper or a browser does.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::api::block_on;

/// A page that needs no node to be asked comes at once; one that does waits two seconds for it.
const LIMIT: Duration = Duration::from_secs(20);

/// An answer over HTTP/1.1.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status, such as 200.
    pub status: u16,
    /// The head, with its names in lower case.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Asks for a path as a scraper on the same machine does.
#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

/// Sends the bytes of a request and reads the answer to its end.
#[track_caller]
pub fn send(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("the admin address answers");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    stream.write_all(request.as_bytes()).expect("a request can be sent");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    parsed(bytes)
}

/// Sends the bytes of a request over TLS, believes the authority in `ca` only, and reads the
/// answer to its end. The error is what TLS says.
pub fn send_over_tls(address: SocketAddr, ca: &Path, request: &str) -> io::Result<Answer> {
    let mut roots = RootCertStore::empty();
    for one in CertificateDer::pem_file_iter(ca).expect("an authority") {
        roots.add(one.expect("a certificate")).expect("an authority");
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider speaks them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    block_on(async {
        let tcp = tokio::net::TcpStream::connect(address).await.expect("the admin address answers");
        let name = ServerName::from(address.ip());
        let mut stream = connector.connect(name, tcp).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        tokio::time::timeout(LIMIT, stream.read_to_end(&mut bytes)).await??;
        Ok(parsed(bytes))
    })
}

fn parsed(bytes: Vec<u8>) -> Answer {
    let text = String::from_utf8(bytes).expect("an answer is text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}
