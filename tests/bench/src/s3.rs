//! S3: the one client of both peers that speak it.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;

use crate::error::Error;
use crate::http::{Answer, Body, Connection, Request, Taker};
use crate::sign::Keys;

/// Length of a part of a large file, and of a range of one, in bytes.
const PART_BYTES: u64 = 32 << 20;

/// Parts and ranges under way at once.
const AT_ONCE: u64 = 4;

/// A bucket.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    pub(crate) address: SocketAddr,
    pub(crate) name: String,
    pub(crate) keys: Keys,
}

/// A connection to a bucket.
pub(crate) struct S3 {
    bucket: Bucket,
    connection: Connection,
}

impl Bucket {
    pub(crate) fn connect(&self) -> S3 {
        S3 { bucket: self.clone(), connection: Connection::to(self.address) }
    }

    /// Makes the bucket.
    pub(crate) async fn make(&self) -> Result<(), Error> {
        self.connect().ask("PUT", "", "", "", Body::NONE).await.map(drop)
    }

    /// Stores a file: in one request, or in parts, four at once.
    pub(crate) async fn put_file(&self, local: &Path, name: &str) -> Result<(), Error> {
        let file = File::open(local).map_err(Error::file("open", local))?;
        let size = file.metadata().map_err(Error::file("look at", local))?.len();
        if size <= PART_BYTES {
            let body = Body::Part(&file, 0, size);
            return self.connect().ask("PUT", name, "", "", body).await.map(drop);
        }
        let mut main = self.connect();
        let begun = main.ask("POST", name, "uploads=", "", Body::NONE).await?;
        let begun = String::from_utf8_lossy(&begun.body).into_owned();
        let id = between(&begun, "<UploadId>", "</UploadId>").next();
        let id = id.ok_or_else(|| Error::refused(name, "no upload id"))?;
        let parts = size.div_ceil(PART_BYTES);
        let file = &file;
        let lane = |first: u64| async move {
            let mut connection = self.connect();
            let mut tags = Vec::new();
            for part in (first..parts).step_by(AT_ONCE as usize) {
                let start = part * PART_BYTES;
                let body = Body::Part(file, start, PART_BYTES.min(size - start));
                let number = part + 1;
                let query = format!("partNumber={number}&uploadId={}", encoded(id));
                let answer = connection.ask("PUT", name, &query, "", body).await?;
                let tag = answer.header("etag");
                let tag = tag.ok_or_else(|| Error::refused(name, "a part without a tag"))?;
                tags.push((number, tag.to_owned()));
            }
            Ok::<_, Error>(tags)
        };
        let (a, b, c, d) = tokio::try_join!(lane(0), lane(1), lane(2), lane(3))?;
        let mut tags = [a, b, c, d].concat();
        tags.sort_unstable();
        let tags = tags.iter().map(|(number, tag)| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>")
        });
        let parts: String = tags.collect();
        let list = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let query = format!("uploadId={}", encoded(id));
        let done = main.ask("POST", name, &query, "", Body::Bytes(list.into())).await?;
        let said = String::from_utf8_lossy(&done.body);
        if said.contains("<Error>") { Err(Error::refused(name, said)) } else { Ok(()) }
    }

    /// Reads a file of `size` bytes: in one request, or in ranges, four at once.
    pub(crate) async fn get_file(&self, name: &str, local: &Path, size: u64) -> Result<(), Error> {
        let file = File::create(local).map_err(Error::file("write", local))?;
        let parts = size.div_ceil(PART_BYTES);
        let file = &file;
        let lane = |first: u64| async move {
            let mut connection = self.connect();
            for part in (first..parts).step_by(AT_ONCE as usize) {
                let start = part * PART_BYTES;
                let end = size.min(start + PART_BYTES);
                let range = format!("Range: bytes={start}-{}\r\n", end - 1);
                let mut at = start;
                let mut write = |piece: &[u8]| {
                    file.write_all_at(piece, at)?;
                    at += piece.len() as u64;
                    Ok(())
                };
                connection.get_range(name, &range, &mut write).await?;
                if at != end {
                    return Err(Error::refused(name, "a range of another length"));
                }
            }
            Ok::<_, Error>(())
        };
        tokio::try_join!(lane(0), lane(1), lane(2), lane(3)).map(drop)
    }
}

impl S3 {
    /// Asks for an object, or with an empty name for the bucket itself.
    async fn ask(
        &mut self,
        method: &str,
        name: &str,
        query: &str,
        headers: &str,
        body: Body<'_>,
    ) -> Result<Answer, Error> {
        self.ask_for(method, name, query, headers, body, None).await
    }

    async fn get_range(&mut self, name: &str, range: &str, take: Taker<'_>) -> Result<(), Error> {
        self.ask_for("GET", name, "", range, Body::NONE, Some(take)).await.map(drop)
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
        let host = bucket.address.to_string();
        let signed = bucket.keys.headers(method, &host, &path, query, &when);
        let target = if query.is_empty() { path } else { format!("{path}?{query}") };
        let headers = format!("{signed}{headers}");
        let request = Request { method, target: &target, headers: &headers, body };
        self.connection.ask_for(request, taker).await?.ok(&format!("{method} {target}"))
    }

    pub(crate) async fn put(&mut self, name: &str, body: Bytes) -> Result<(), Error> {
        self.ask("PUT", name, "", "", Body::Bytes(body)).await.map(drop)
    }

    pub(crate) async fn get(&mut self, name: &str) -> Result<Vec<u8>, Error> {
        Ok(self.ask("GET", name, "", "", Body::NONE).await?.body)
    }

    pub(crate) async fn remove(&mut self, name: &str) -> Result<(), Error> {
        self.ask("DELETE", name, "", "", Body::NONE).await.map(drop)
    }

    /// One page of names that start with `prefix`, and where the next one starts.
    pub(crate) async fn list(
        &mut self,
        prefix: &str,
        from: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), Error> {
        let from = from.map(|token| format!("continuation-token={}&", encoded(&token)));
        let from = from.unwrap_or_default();
        let query = format!("{from}list-type=2&max-keys=1000&prefix={}", encoded(prefix));
        let answer = self.ask("GET", "", &query, "", Body::NONE).await?;
        let text = String::from_utf8_lossy(&answer.body);
        let names = between(&text, "<Key>", "</Key>").map(str::to_owned).collect();
        let next = between(&text, "<NextContinuationToken>", "</NextContinuationToken>").next();
        Ok((names, next.map(str::to_owned)))
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
