//! Asking a node's admin address, as a scraper or a browser does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

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
    let text = String::from_utf8(bytes).expect("an answer is text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}
