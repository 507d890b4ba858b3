//! S3: the one client of both peers that speak it.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::error::Error;
use crate::http::{Answer, Body, Connection, Request, Taker};
use crate::sign::Keys;
use crate::wait;

/// Length of a part of a large file, and of a range of one, in bytes.
const PART_BYTES: u64 = 32 << 20;

/// Parts and ranges under way at once.
const AT_ONCE: usize = 4;

/// A bucket.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    /// Where it may be asked for; never empty.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) name: String,
    pub(crate) keys: Keys,
}

/// A connection to a bucket.
pub(crate) struct S3 {
    bucket: Bucket,
    address: SocketAddr,
    connection: Connection,
}

impl Bucket {
    /// One of several connections, which go to the addresses in turn.
    pub(crate) fn connect(&self, number: usize) -> S3 {
        let address = self.addresses[number % self.addresses.len()];
        S3 { bucket: self.clone(), address, connection: Connection::to(address) }
    }

    /// Makes the bucket.
    pub(crate) async fn make(&self) -> Result<(), Error> {
        self.connect(0).ask("PUT", "", "", Body::NONE).await.map(drop)
    }

    /// Stores a file: in one request, or in parts, four at once.
    pub(crate) async fn put_file(&self, local: &Path, name: &str) -> Result<(), Error> {
        let file = File::open(local).map_err(Error::file("open", local))?;
        let size = file.metadata().map_err(Error::file("look at", local))?.len();
        let mut main = self.connect(0);
        if size <= PART_BYTES {
            let body = Body::Part(&file, 0, size);
            return main.ask("PUT", name, "", body).await.map(drop);
        }
        let begun = main.ask("POST", name, "uploads=", Body::NONE).await?;
        let begun = String::from_utf8_lossy(&begun.body).into_owned();
        let id = between(&begun, "<UploadId>", "</UploadId>").next();
        let id = encoded(id.ok_or_else(|| Error::refused(name, "no upload id"))?);
        let parts = Arc::new(Parts { file, name: name.to_owned(), size, next: AtomicU64::new(0) });
        let mut lanes = JoinSet::new();
        for lane in 0..AT_ONCE {
            lanes.spawn(put_parts(self.connect(lane), Arc::clone(&parts), id.clone()));
        }
        let mut tags = wait::all(lanes).await?.concat();
        tags.sort_unstable();
        let tags = tags.iter().map(|(number, tag)| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>")
        });
        let parts: String = tags.collect();
        let list = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let query = format!("uploadId={id}");
        let done = main.ask("POST", name, &query, Body::Bytes(list.into())).await?;
        let said = String::from_utf8_lossy(&done.body);
        if said.contains("<Error>") { Err(Error::refused(name, said)) } else { Ok(()) }
    }

    /// Reads a file of `size` bytes: in one request, or in ranges, four at once.
    pub(crate) async fn get_file(&self, name: &str, local: &Path, size: u64) -> Result<(), Error> {
        let file = File::create(local).map_err(Error::file("write", local))?;
        let parts = Arc::new(Parts { file, name: name.to_owned(), size, next: AtomicU64::new(0) });
        let mut lanes = JoinSet::new();
        for lane in 0..AT_ONCE {
            lanes.spawn(get_parts(self.connect(lane), Arc::clone(&parts)));
        }
        wait::all(lanes).await.map(drop)
    }
}

/// A file that is stored or read in parts.
struct Parts {
    file: File,
    name: String,
    size: u64,
    next: AtomicU64,
}

impl Parts {
    /// The next part that nobody has taken, counted from 1, and where it starts and ends.
    fn take(&self) -> Option<(u64, u64, u64)> {
        let part = self.next.fetch_add(1, Ordering::Relaxed);
        let start = part * PART_BYTES;
        (start < self.size).then(|| (part + 1, start, self.size.min(start + PART_BYTES)))
    }
}

async fn put_parts(
    mut lane: S3,
    parts: Arc<Parts>,
    id: String,
) -> Result<Vec<(u64, String)>, Error> {
    let mut tags = Vec::new();
    while let Some((number, start, end)) = parts.take() {
        let body = Body::Part(&parts.file, start, end - start);
        let query = format!("partNumber={number}&uploadId={id}");
        let answer = lane.ask("PUT", &parts.name, &query, body).await?;
        let tag = answer.header("etag");
        let tag = tag.ok_or_else(|| Error::refused(&parts.name, "a part without a tag"))?;
        tags.push((number, tag.to_owned()));
    }
    Ok(tags)
}

async fn get_parts(mut lane: S3, parts: Arc<Parts>) -> Result<(), Error> {
    while let Some((_, start, end)) = parts.take() {
        let range = format!("Range: bytes={start}-{}\r\n", end - 1);
        let mut at = start;
        let mut write = |piece: &[u8]| {
            parts.file.write_all_at(piece, at)?;
            at += piece.len() as u64;
            Ok(())
        };
        lane.get_range(&parts.name, &range, &mut write).await?;
        if at != end {
            return Err(Error::refused(&parts.name, "a range of another length"));
        }
    }
    Ok(())
}

impl S3 {
    /// Asks for an object, or with an empty name for the bucket itself.
    async fn ask(
        &mut self,
        method: &str,
        name: &str,
        query: &str,
        body: Body<'_>,
    ) -> Result<Answer, Error> {
        let answer = self.ask_for(method, name, query, "", body, None).await?;
        answer.ok(&format!("{method} {name}?{query}"))
    }

    async fn get_range(&mut self, name: &str, range: &str, take: Taker<'_>) -> Result<(), Error> {
        let answer = self.ask_for("GET", name, "", range, Body::NONE, Some(take)).await?;
        answer.ok(name).map(drop)
    }

    async fn ask_for(
        &mut self,
        method: &str,
        name: &str,
        query: &str,
        headers: &str,
        body: Body<'_>,
        taker: Option<Taker<'_>>,
    ) -> Result<Answer, Error> {
        let bucket = &self.bucket;
        let slash = if name.is_empty() { "" } else { "/" };
        let path = format!("/{}{slash}{name}", bucket.name);
        let when = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let host = self.address.to_string();
        let signed = bucket.keys.headers(method, &host, &path, query, &when);
        let target = if query.is_empty() { path } else { format!("{path}?{query}") };
        let headers = format!("{signed}{headers}");
        let request = Request { method, target: &target, headers: &headers, body };
        self.connection.ask_for(request, taker).await
    }

    pub(crate) async fn put(&mut self, name: &str, body: Bytes) -> Result<(), Error> {
        self.ask("PUT", name, "", Body::Bytes(body)).await.map(drop)
    }

    pub(crate) async fn get(&mut self, name: &str) -> Result<Vec<u8>, Error> {
        Ok(self.ask("GET", name, "", Body::NONE).await?.body)
    }

    pub(crate) async fn remove(&mut self, name: &str) -> Result<(), Error> {
        self.ask("DELETE", name, "", Body::NONE).await.map(drop)
    }

    /// Reads an object that is not there.
    pub(crate) async fn miss(&mut self, name: &str) -> Result<(), Error> {
        self.ask_for("GET", name, "", "", Body::NONE, None).await?.missed(name)
    }

    /// Tells `seen` how many names that start with `prefix` each page has.
    pub(crate) async fn list(
        &mut self,
        prefix: &str,
        mut seen: impl FnMut(usize),
    ) -> Result<(), Error> {
        let mut from = String::new();
        loop {
            let query = format!("{from}list-type=2&max-keys=1000&prefix={}", encoded(prefix));
            let answer = self.ask("GET", "", &query, Body::NONE).await?;
            let text = String::from_utf8_lossy(&answer.body);
            seen(between(&text, "<Key>", "</Key>").count());
            let next = between(&text, "<NextContinuationToken>", "</NextContinuationToken>").next();
            let Some(token) = next else { return Ok(()) };
            from = format!("continuation-token={}&", encoded(token));
        }
    }
}

/// The texts between each `start` and the next `end`.
fn between<'a>(text: &'a str, start: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(start).skip(1).filter_map(move |rest| rest.split(end).next())
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let one = |byte| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded_as_signatures_want_them() {
        assert_eq!(encoded("a/b c~d=é"), "a%2Fb%20c~d%3D%C3%A9");
    }

    #[test]
    fn texts_between_marks_are_found() {
        let found: Vec<_> = between("x<K>a</K><K></K>y", "<K>", "</K>").collect();
        assert_eq!(found, ["a", ""]);
    }
}
