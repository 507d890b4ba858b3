//! Page tokens, and entries of pages, from any bytes.

use dfs_proto::protocol::listing::Entry;
use dfs_proto::wire::convert::listed_version;

use super::*;
use crate::index::codec::read_current;

/// The first byte chooses the view; a token, a prefix and a path follow, with NULs between them.
pub(crate) fn page_token(bytes: &[u8]) -> bool {
    let Some((view, bytes)) = bytes.split_first() else { return false };
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut parts = text.splitn(3, '\0').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    let request = pb::ListRequest {
        view: (view % 4).into(),
        page_token: part(),
        prefix: part(),
        start_after: part(),
        ..Default::default()
    };
    if let Ok(path) = FilePath::new(&*request.start_after) {
        let token = super::page_token(request_sum(&request), &path);
        given(&pb::ListRequest { page_token: token, ..request.clone() }, &path);
    }
    let Ok(Some(path)) = start_after(&request) else { return false };
    if !request.page_token.is_empty() {
        let path = FilePath::new(path).expect("a token names a path");
        let token = super::page_token(request_sum(&request), &path);
        given(&pb::ListRequest { page_token: token, ..request }, &path);
    }
    true
}

/// A token that this node gave is taken, and for no other listing.
fn given(request: &pb::ListRequest, path: &FilePath) {
    assert_eq!(start_after(request), Ok(Some(path.to_string())));
    let view = if request.view() == pb::ListView::Full { 0 } else { pb::ListView::Full.into() };
    assert!(start_after(&pb::ListRequest { view, ..request.clone() }).is_err());
    let mut prefix = request.prefix.clone();
    let last = prefix.pop();
    prefix.push(if last == Some('a') { 'b' } else { 'a' });
    assert!(start_after(&pb::ListRequest { prefix, ..request.clone() }).is_err());
}

/// A row that is listed arrives as it is.
pub(crate) fn entry_of_row(bytes: &[u8]) {
    let Ok(current) = read_current(bytes) else { return };
    let path = FilePath::new("a/b").expect("a valid path");
    for full in [false, true] {
        let message = entry(&path, &current, full);
        let arrived = Entry::try_from(&message).expect("an entry is valid");
        assert_eq!((&arrived.path, arrived.confirmed), (&path, current.confirmed));
        assert_eq!(arrived.tag, current.record.version.tag);
        let manifest = current.record.version.manifest();
        assert_eq!(arrived.file.is_some(), manifest.is_some());
        if let Some(file) = arrived.file {
            assert_eq!(file.have, current.record.have);
            assert_eq!(file.manifest.as_deref(), manifest.filter(|_| full));
        }
        if full {
            let listed = listed_version(&message);
            assert_eq!(
                listed,
                Ok((path.clone(), current.record.version.clone(), current.confirmed))
            );
        }
    }
}
