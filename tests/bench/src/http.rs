//! HTTP/1.1 over one connection that is kept open: as little client as can be, so that what is
//! measured is the server.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::error::Error;

/// Limit for one exchange.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(120);

/// How much is read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// How much of a file is sent at once.
const PIECE_BYTES: usize = 1 << 20;

/// The longest head of an answer.
const HEAD_BYTES: usize = 64 << 10;

/// A connection; made when it is first needed, and again after it broke.
pub(crate) struct Connection {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

/// What to ask for.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    /// Path and query, encoded.
    pub(crate) target: &'a str,
    /// Lines besides Host and Content-Length, each with its end.
    pub(crate) headers: &'a str,
    pub(crate) body: Body<'a>,
}

/// What goes with a request.
pub(crate) enum Body<'a> {
    /// This.
    Bytes(Bytes),
    /// So many bytes of a file from there on, read as they are sent.
    Part(&'a File, u64, u64),
}

impl Body<'_> {
    pub(crate) const NONE: Self = Self::Bytes(Bytes::new());

    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Part(_, _, length) => *length,
        }
    }
}

/// Takes the body of a success piece by piece, in place of [`Answer::body`].
pub(crate) type Taker<'a> = &'a mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send);

/// An answer. Its body is whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Fails unless it says that there is no such file.
    pub(crate) fn missed(self, what: &str) -> Result<(), Error> {
        if self.status == 404 {
            return Ok(());
        }
        self.ok(what).and_then(|_| Err(Error::refused(what, "is there")))
    }

    /// The body of a success.
    pub(crate) fn ok(self, what: &str) -> Result<Self, Error> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let said = String::from_utf8_lossy(&self.body);
        let said: String = said.chars().take(300).collect();
        Err(Error::refused(what, format!("{} {said}", self.status)))
    }
}

impl Connection {
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// Asks and reads the whole answer. After a failure the connection is made anew.
    pub(crate) async fn ask(&mut self, request: Request<'_>) -> Result<Answer, Error> {
        self.ask_for(request, None).await
    }

    /// Asks, and gives the body to `taker` if it succeeds and there is one.
    pub(crate) async fn ask_for(
        &mut self,
        request: Request<'_>,
        taker: Option<Taker<'_>>,
    ) -> Result<Answer, Error> {
        let what = format!("{} {}", request.method, request.target);
        let exchange = self.exchange(request, taker);
        let exchange = tokio::time::timeout(EXCHANGE_LIMIT, exchange).await;
        let late = || Error::Late { what: what.clone(), limit: EXCHANGE_LIMIT };
        match exchange.map_err(|_| late()) {
            Ok(Ok(answer)) => {
                if answer.header("connection").is_some_and(|value| value == "close") {
                    self.stream = None;
                }
                Ok(answer)
            }
            Ok(Err(error)) => {
                self.stream = None;
                Err(Error::io(what)(error))
            }
            Err(error) => {
                self.stream = None;
                Err(error)
            }
        }
    }

    async fn exchange(
        &mut self,
        request: Request<'_>,
        taker: Option<Taker<'_>>,
    ) -> std::io::Result<Answer> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                none.insert(BufReader::with_capacity(BUFFER_BYTES, stream))
            }
        };
        let Request { method, target, headers, body } = request;
        let (address, length) = (self.address, body.len());
        let mut head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\
             {headers}\r\n"
        )
        .into_bytes();
        let out = stream.get_mut();
        match body {
            // One packet for a small body: a head of its own would wait to be acknowledged.
            Body::Bytes(body) if body.len() <= BUFFER_BYTES => {
                head.extend_from_slice(&body);
                out.write_all(&head).await?;
            }
            Body::Bytes(body) => {
                out.write_all(&head).await?;
                out.write_all(&body).await?;
            }
            Body::Part(file, start, length) => {
                out.write_all(&head).await?;
                let mut buffer = vec![0; PIECE_BYTES];
                let mut at = start;
                while at < start + length {
                    let piece = (start + length - at).min(buffer.len() as u64) as usize;
                    // On this thread: a hop to another one costs more than the copy.
                    file.read_exact_at(&mut buffer[..piece], at)?;
                    out.write_all(&buffer[..piece]).await?;
                    at += piece as u64;
                }
            }
        }
        let mut answer = read_head(stream).await?;
        let has_body = method != "HEAD" && answer.status != 204 && answer.status != 304;
        if !has_body {
            return Ok(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = read_chunks(stream).await?;
        } else {
            let length = answer.header("content-length").and_then(|text| text.parse().ok());
            let length: usize = length.ok_or_else(|| odd("an answer without a length"))?;
            match taker {
                Some(take) if (200..300).contains(&answer.status) => {
                    hand_over(stream, length, take).await?;
                }
                _ => {
                    answer.body = vec![0; length];
                    stream.read_exact(&mut answer.body).await?;
                }
            }
        }
        Ok(answer)
    }
}

fn odd(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}

async fn read_head(stream: &mut BufReader<TcpStream>) -> std::io::Result<Answer> {
    let status = read_line(stream).await?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| odd("an answer without a status"))?;
    let (mut headers, mut length) = (Vec::new(), 0);
    loop {
        let line = read_line(stream).await?;
        length += line.len();
        if line.is_empty() || length > HEAD_BYTES {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| odd("a header without a name"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Answer { status, headers, body: Vec::new() })
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = Vec::new();
    stream.take(HEAD_BYTES as u64).read_until(b'\n', &mut line).await?;
    let line = line.strip_suffix(b"\r\n").ok_or_else(|| odd("the connection was closed"))?;
    Ok(String::from_utf8_lossy(line).into_owned())
}

async fn hand_over(
    stream: &mut BufReader<TcpStream>,
    length: usize,
    take: Taker<'_>,
) -> std::io::Result<()> {
    let mut left = length;
    while left > 0 {
        let ready = stream.fill_buf().await?;
        if ready.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let count = ready.len().min(left);
        take(&ready[..count])?;
        stream.consume(count);
        left -= count;
    }
    Ok(())
}

async fn read_chunks(stream: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(stream).await?;
        let length = line.split(';').next().unwrap_or_default();
        let length = usize::from_str_radix(length.trim(), 16);
        let length = length.map_err(|_| odd("a chunk without a length"))?;
        let start = body.len();
        body.resize(start + length, 0);
        stream.read_exact(&mut body[start..]).await?;
        // The end of the chunk; after the last one, of the body.
        while !read_line(stream).await?.is_empty() {}
        if length == 0 {
            return Ok(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Answers each request on one connection with the next of these texts.
    async fn serving(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in answers {
                assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        address
    }

    fn get(target: &str) -> Request<'_> {
        Request { method: "GET", target, headers: "", body: Body::NONE }
    }

    #[tokio::test]
    async fn answers_of_each_kind_are_read_to_their_ends() {
        let mut connection = Connection::to(
            serving(&[
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\nhello",
                "HTTP/1.1 204 No Content\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5\r\nhello\r\n7; x=y\r\n, world\r\n0\r\n\r\n",
                "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone",
            ])
            .await,
        );
        let first = connection.ask(get("/a")).await.unwrap();
        assert_eq!((first.header("etag"), &first.body[..]), (Some("\"x\""), &b"hello"[..]));
        assert_eq!(connection.ask(get("/b")).await.unwrap().status, 204);
        assert_eq!(connection.ask(get("/c")).await.unwrap().body, b"hello, world");
        let refused = connection.ask(get("/d")).await.unwrap().ok("d").map(drop);
        assert_eq!(refused.unwrap_err().to_string(), "d: 404 none");
        assert!(connection.ask(get("/e")).await.is_err(), "the server is gone");
    }
}
