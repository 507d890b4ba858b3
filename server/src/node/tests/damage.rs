//! What the disk did to the node, and a start after a crash.

use super::*;

#[tokio::test]
async fn a_bad_chunk_is_quarantined_and_may_be_put_again() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, LARGE);
    fixture.put(&file, &[C1, C2]).await.unwrap();
    fixture.commit(&file, 5).await.unwrap();
    let good = check::Checked { have: ChunkSet::from_mask(3).unwrap(), bad: ChunkSet::EMPTY };
    assert_eq!(fixture.check(&file).await, good);

    let path = fixture.files("chunks").into_iter().find(|p| p.extension().unwrap() == "1").unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    // A read sends it with the checksum that it does not match: who gets it finds out.
    let checked = fixture.check(&file).await;
    assert_eq!((checked.have.mask(), checked.bad.mask()), (0b10, 0b01));
    assert_eq!(fixture.files("quarantine").len(), 1);
    assert!(matches!(fixture.read(&file, C1).await, Err(fetch::FetchError::NotFound(_))));

    assert_eq!(fixture.put(&file, &[C1]).await.unwrap()[0].result, Ok(()));
    assert_eq!(fixture.check(&file).await, good);
    assert_eq!(fixture.read(&file, C1).await.unwrap(), file.chunk(C1));
}

#[tokio::test]
async fn a_missing_or_short_file_is_corrupt_for_readers_and_found_by_a_check() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, LARGE);
    fixture.put(&file, &[C1, C2]).await.unwrap();
    for path in fixture.files("chunks") {
        if path.extension().unwrap() == "1" {
            std::fs::remove_file(path).unwrap();
        } else {
            std::fs::File::options().write(true).open(path).unwrap().set_len(5000).unwrap();
        }
    }
    for chunk in [C1, C2] {
        let error = fixture.read(&file, chunk).await.unwrap_err();
        assert!(matches!(error, fetch::FetchError::Corrupt { .. }), "{error}");
    }
    let checked = fixture.check(&file).await;
    assert_eq!((checked.have.mask(), checked.bad.mask()), (0, 0b11));
}

#[tokio::test]
async fn a_start_puts_chunks_without_a_row_aside() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, LARGE);
    fixture.put(&file, &[C1]).await.unwrap();
    let known = fixture.files("chunks").remove(0);
    std::fs::copy(&known, known.with_extension("4")).unwrap();
    std::fs::write(fixture.dir.path().join("staging/half"), "x").unwrap();
    let fixture = fixture.reopen().await;
    assert_eq!(fixture.files("chunks"), [known]);
    assert_eq!(fixture.files("staging").len(), 0);
    assert_eq!(fixture.files("quarantine").len(), 1);
    assert_eq!(fixture.read(&file, C1).await.unwrap(), file.chunk(C1));
}

#[tokio::test]
async fn a_poisoned_node_acknowledges_nothing() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, SMALL);
    fixture.put(&file, &[C1]).await.unwrap();
    fixture.node.poison.trip("on purpose");
    assert!(matches!(fixture.put(&file, &[C2]).await, Err(NodeError::Poisoned)));
    let order = vec![(file.path.clone(), file.order(5))];
    assert!(matches!(fixture.node.commit(alice(), order).await, Err(NodeError::Poisoned)));
    let fence = vec![(file.path.clone(), file.upload)];
    assert!(matches!(fixture.node.fence(alice(), fence).await, Err(NodeError::Poisoned)));
    assert!(fixture.node.confirm(alice(), vec![]).await.is_err());
    assert!(fixture.node.drop_uploads(alice(), vec![]).await.is_err());
}
