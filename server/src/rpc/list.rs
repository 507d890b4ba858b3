//! `List`: pages of paths in byte order.

use dfs_proto::digest::Crc32c;
use dfs_proto::name::{FilePath, Prefix, UserName};
use dfs_proto::protocol::row::Current;
use dfs_proto::wire::convert::{Malformed, bad_name};
use dfs_proto::wire::page::{Row, Writer};
use dfs_proto::wire::{DEFAULT_PAGE, MAX_PAGE, pb};
use tonic::Status;

use super::whole::Beside;
use super::{Answer, Api, status};
use crate::index::codec::CurrentHead;
use crate::node::look::{Listed, Page, PageLimit};

/// A page ends when it has about this many bytes.
const PAGE_BYTES: usize = 1 << 20;

/// What most entries take at most without a manifest, in bytes.
const ENTRY_BYTES: usize = 128;

/// What a page token starts with: the format, should it ever change. The checksum of the
/// request follows, and the last path of the page.
const TOKEN_FORMAT: &str = "2:";

pub(super) async fn list(
    api: &Api,
    user: UserName,
    request: pb::ListRequest,
) -> Answer<pb::ListResponse> {
    let prefix = Prefix::new(&*request.prefix).map_err(|error| bad_name("prefix", &error))?;
    let full = request.view() == pb::ListView::Full;
    let limit = PageLimit { entries: page_size(request.page_size)?, bytes: PAGE_BYTES, full };
    let sum = request_sum(&request);
    let start_after = start_after(&request)?;
    let writer = Writer::new(PAGE_BYTES.min(limit.entries * ENTRY_BYTES));
    let put = |writer: &mut Writer, entry: Listed| writer.put(&row(&entry));
    let page = api.node.list(user, prefix, start_after, limit, writer, put).await;
    let Page { entries: writer, more_after } = page.map_err(status::node)?;
    let next_page_token = more_after.map_or_else(String::new, |last| page_token(sum, &last));
    let rest = pb::ListResponse { next_page_token, entries: Vec::new(), node: api.identity() };
    Ok(Beside::page(writer.end(&rest)))
}

fn row(listed: &Listed) -> Row<'_> {
    let CurrentHead { version, have, confirmed } = listed.head;
    Row {
        path: &listed.path,
        tag: version.tag,
        upload: version.upload,
        have,
        confirmed,
        file: version.file,
        manifest: listed.manifest.as_deref(),
    }
}

fn page_size(asked: i32) -> Result<usize, Status> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT_PAGE),
        Ok(size) => Ok(size.min(MAX_PAGE)),
        Err(_) => Err(Malformed::new("page_size", format!("is {asked}, a negative number")).into()),
    }
}

/// The checksum of what must not change from page to page.
fn request_sum(request: &pb::ListRequest) -> Crc32c {
    let text = format!("{}\0{}", request.view().as_str_name(), request.prefix);
    Crc32c::of(text.as_bytes())
}

fn page_token(request: Crc32c, last: &FilePath) -> String {
    format!("{TOKEN_FORMAT}{:08x}:{last}", request.get())
}

/// The path after which the page starts. `start_after` may be any text: it is only compared.
fn start_after(request: &pb::ListRequest) -> Result<Option<String>, Malformed> {
    if request.page_token.is_empty() {
        let path = &request.start_after;
        return Ok((!path.is_empty()).then(|| path.clone()));
    }
    let token = request.page_token.strip_prefix(TOKEN_FORMAT);
    let parts = token.and_then(|token| token.split_once(':'));
    let parts = parts.filter(|(_, path)| FilePath::new(*path).is_ok());
    let (sum, path) =
        parts.ok_or_else(|| Malformed::new("page_token", "was not given by this node"))?;
    if u32::from_str_radix(sum, 16) != Ok(request_sum(request).get()) {
        let why = "was given for another prefix or view";
        return Err(Malformed::new("page_token", why));
    }
    Ok(Some(path.to_owned()))
}

pub(super) fn entry(path: &FilePath, current: &Current, full: bool) -> pb::ListEntry {
    let version = &current.record.version;
    let manifest = version.manifest();
    let kind = match manifest {
        Some(_) => pb::Kind::File,
        None => pb::Kind::Tombstone,
    };
    pb::ListEntry {
        path: path.as_str().to_owned(),
        tag: Some(version.tag.into()),
        kind: kind.into(),
        have: current.record.have.mask().into(),
        confirmed: current.confirmed,
        size: manifest.map_or(0, |manifest| manifest.size()),
        x: manifest.map_or(0, |manifest| manifest.x().get().into()),
        upload_id: version.upload.bytes().to_vec(),
        manifest: manifest.filter(|_| full).map(Into::into),
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_follow_the_api() {
        assert_eq!(page_size(0).unwrap(), 1000);
        assert_eq!(page_size(7).unwrap(), 7);
        assert_eq!(page_size(i32::MAX).unwrap(), 10_000);
        assert!(page_size(-1).is_err());
    }

    #[test]
    fn tokens_survive_and_others_are_refused() {
        let path = FilePath::new("a/ü b").unwrap();
        let request = |page_token: &str| pb::ListRequest {
            page_token: page_token.to_owned(),
            prefix: "a/".to_owned(),
            start_after: "ignored".to_owned(),
            ..Default::default()
        };
        let token = page_token(request_sum(&request("")), &path);
        assert_eq!(start_after(&request(&token)), Ok(Some("a/ü b".to_owned())));
        let other_prefix = pb::ListRequest { prefix: "a".to_owned(), ..request(&token) };
        let view = pb::ListView::Full.into();
        let other_view = pb::ListRequest { view, ..request(&token) };
        for other in [other_prefix, other_view] {
            assert!(start_after(&other).unwrap_err().to_string().contains("another prefix"));
        }
        let (front, _) = token.split_at(token.len() - path.as_str().len());
        for token in ["x", "2:", "1:a", "2:a", "2::a", front, &format!("{front}/a")] {
            assert!(start_after(&request(token)).is_err(), "{token}");
        }
        assert_eq!(start_after(&request("")), Ok(Some("ignored".to_owned())));
    }
}
