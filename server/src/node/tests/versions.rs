//! Commits, fences, removals and what becomes of superseded data.

use super::known::Meeting;
use super::*;
use crate::index::txn::Txn;
use crate::telemetry::state::Uploads;

#[tokio::test]
async fn introductions_at_the_same_time_are_judged_one_after_the_other() {
    let fixture = Fixture::new();
    let met = |count| Identity {
        node: NodeId::N2,
        incarnation: Incarnation::new([2; 16]),
        boot: Boot { count, nonce: count },
        ..fixture.node.identity().clone()
    };
    // Keeps the writer busy until both have seen that nothing is remembered yet.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let blocker = fixture.node.index.submit(move |_| Ok(held.recv().is_ok())).await;
    let (later, earlier) = (fixture.node.meet(says(met(7))), fixture.node.meet(says(met(6))));
    let release = async {
        tokio::task::yield_now().await;
        release.send(()).unwrap();
    };
    let (later, earlier, ()) = tokio::join!(later, earlier, release);
    assert_eq!(later.unwrap().0, Meeting::Expected);
    assert_eq!(earlier.unwrap().0, Meeting::Restored);
    assert_eq!(fixture.node.known().peer(NodeId::N2).unwrap().boot.count, 7);
    assert!(blocker.done().await.unwrap());
}

#[tokio::test]
async fn nobody_is_told_that_he_is_recorded_before_that_is_durable() {
    let fixture = Fixture::new();
    let met = Identity { node: NodeId::N2, ..fixture.node.identity() };
    let blocker = async || {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let change = move |_: &mut Txn<'_>| {
            let _ = begin.send(());
            Ok(held.recv().is_ok())
        };
        (fixture.node.index.submit(change).await, begun, release)
    };
    // Three changes of one group, which does not end before the last of them.
    let (first, _, release_first) = blocker().await;
    let mut meeting = Box::pin(fixture.node.meet(says(met.clone())));
    assert!(futures_util::poll!(&mut meeting).is_pending());
    let (last, begun, release_last) = blocker().await;
    release_first.send(()).unwrap();
    begun.await.unwrap();
    assert!(fixture.node.known().peer(NodeId::N2).is_some(), "commits are checked against it");
    assert_eq!(fixture.node.remembered(NodeId::N2).unwrap(), None);
    let mut again = Box::pin(fixture.node.meet(says(met)));
    assert!(futures_util::poll!(&mut again).is_pending(), "the sync is waited for");

    release_last.send(()).unwrap();
    assert!(first.done().await.unwrap() && last.done().await.unwrap());
    assert_eq!(meeting.await.unwrap().0, Meeting::Expected);
    assert_eq!(again.await.unwrap().0, Meeting::Expected);
    assert!(fixture.node.remembered(NodeId::N2).unwrap().is_some());
}

#[tokio::test]
async fn how_far_another_node_was_is_remembered() {
    let fixture = Fixture::new();
    let met = |count, at_start, now| Introduction {
        identity: Identity {
            node: NodeId::N2,
            boot: Boot { count, nonce: count },
            ..fixture.node.identity()
        },
        index: IndexAge { at_start, now },
    };
    let group = || fixture.node.remembered(NodeId::N2).unwrap().unwrap().group;
    // Answers may come in another order than they were sent in.
    for (heard, remembered) in [(5, 5), (9, 9), (7, 9)] {
        let (meeting, _) = fixture.node.meet(met(1, 5, heard)).await.unwrap();
        assert_eq!((meeting, group()), (Meeting::Expected, remembered));
    }
    let (meeting, before) = fixture.node.meet(met(2, 8, 20)).await.unwrap();
    assert_eq!((meeting, before.unwrap().group, group()), (Meeting::Restored, 9, 9));
    assert_eq!(fixture.node.meet(met(2, 9, 20)).await.unwrap().0, Meeting::Expected);
    assert_eq!(group(), 20);
}

#[tokio::test]
async fn what_a_node_says_of_its_index_is_durable() {
    let fixture = Fixture::new();
    let age = |fixture: &Fixture| fixture.node.introduction().index;
    let start = age(&fixture);
    fixture
        .node
        .index
        .update_lazy(|txn| {
            txn.put_scrub(&Default::default());
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(age(&fixture), start, "a crash may undo this");
    fixture.put(&File::new("a", 1, SMALL), &[C1]).await.unwrap();
    let later = age(&fixture);
    assert!(later.at_start == start.at_start && later.now > start.now + 1, "{later:?}");
    let fixture = fixture.reopen().await;
    assert!(age(&fixture).at_start >= later.now);
}

#[tokio::test]
async fn a_commit_rests_on_what_is_prepared_and_on_incarnations_that_are_known() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, SMALL);
    assert_eq!(fixture.commit(&file, 5).await, Err(Refused::NotPrepared));
    fixture.put(&file, &[C1]).await.unwrap();
    let other = |byte, rejoining| Identity {
        cluster: ClusterName::new("demo").unwrap(),
        node: NodeId::N2,
        incarnation: Incarnation::new([byte; 16]),
        boot: Boot { count: 1, nonce: 1 },
        rejoining,
    };
    fixture.node.meet(says(other(8, false))).await.unwrap();
    let lost = NodeRef { node: NodeId::N2, incarnation: Incarnation::new([8; 16]) };
    assert_eq!(fixture.commit(&file, 5).await, Err(Refused::PrepareLost(lost)));
    // A serving node with another disk is not believed; one that rejoins is.
    let (meeting, before) = fixture.node.meet(says(other(9, false))).await.unwrap();
    assert_eq!(meeting, known::Meeting::Replaced);
    assert_eq!(before.unwrap().incarnation, Incarnation::new([8; 16]));
    assert_eq!(fixture.commit(&file, 5).await, Err(Refused::PrepareLost(lost)));
    fixture.node.meet(says(other(9, true))).await.unwrap();
    assert_eq!(fixture.commit(&file, 5).await, Ok(Ack { superseded: false }));

    let fixture = fixture.reopen().await;
    let remembered = fixture.node.known().peer(NodeId::N2).unwrap();
    assert_eq!(remembered.incarnation, Incarnation::new([9; 16]));
}

#[tokio::test]
async fn a_fenced_upload_is_dropped_with_its_files() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, LARGE);
    fixture.put(&file, &[C1, C2]).await.unwrap();
    let entry = || vec![(file.path.clone(), file.upload, DropEvidence::NeverCommitted)];
    let drop_it = || fixture.node.drop_uploads(alice(), entry());
    assert_eq!(drop_it().await.unwrap(), [Err(Refused::NotFenced)]);
    let fenced = fixture.node.fence(alice(), vec![(file.path.clone(), file.upload)]).await;
    assert_eq!(fenced.unwrap(), [Ok(FenceAnswer::Fenced)]);
    assert_eq!(fixture.files("chunks").len(), 2);
    let held = fixture.put(&file, &[C1]).await.unwrap().remove(0);
    assert_eq!(held.result, Err(Refused::Fenced.into()), "though the chunk is here");
    assert_eq!(drop_it().await.unwrap(), [Ok(())]);
    assert_eq!(fixture.files("chunks").len(), 0);
    assert_eq!(fixture.node.uploads_by_state().await.unwrap(), Uploads::default());
    assert_eq!(fixture.commit(&file, 5).await, Err(Refused::Fenced));
    assert_eq!(fixture.put(&file, &[C1]).await.unwrap()[0].result, Err(Refused::Fenced.into()));
    let status = fixture.node.upload_status(&alice(), &file.path, file.upload).unwrap();
    assert!(status.fenced && !status.committed && status.have.is_empty());
}

#[tokio::test]
async fn superseded_data_is_pruned_when_the_newer_version_is_confirmed() {
    for size in [SMALL, LARGE] {
        let fixture = Fixture::with_grace(Duration::ZERO);
        let (old, new) = (File::new("a", 1, size), File::new("a", 2, size));
        for (file, hlc) in [(&old, 5), (&new, 6)] {
            fixture.put(file, &[C1, C2]).await.unwrap();
            fixture.commit(file, hlc).await.unwrap();
        }
        assert_eq!(fixture.node.prune().await.unwrap(), 0, "not confirmed");
        assert_eq!(fixture.read(&old, C1).await.unwrap(), old.chunk(C1));
        let tag = new.order(6).version.tag;
        fixture.node.confirm(alice(), vec![(new.path.clone(), tag)]).await.unwrap();
        assert_eq!(fixture.node.prune().await.unwrap(), 1);
        assert!(fixture.read(&old, C1).await.is_err());
        assert_eq!(fixture.read(&new, C1).await.unwrap(), new.chunk(C1));
        assert_eq!(fixture.files("chunks").len(), if size == LARGE { 2 } else { 0 });
        let stats = fixture.node.stat(alice(), vec![(new.path.clone(), None)], true).await;
        assert!(stats.unwrap()[0].superseded.is_empty());
    }
}

#[tokio::test]
async fn the_grace_is_kept() {
    let fixture = Fixture::new();
    let (old, new) = (File::new("a", 1, SMALL), File::new("a", 2, SMALL));
    for (file, hlc) in [(&old, 5), (&new, 6)] {
        fixture.put(file, &[C1]).await.unwrap();
        fixture.commit(file, hlc).await.unwrap();
    }
    let tag = new.order(6).version.tag;
    fixture.node.confirm(alice(), vec![(new.path.clone(), tag)]).await.unwrap();
    assert_eq!(fixture.node.prune().await.unwrap(), 0);
    let stats = fixture.node.stat(alice(), vec![(new.path.clone(), Some(old.upload))], true);
    let stat = stats.await.unwrap().remove(0);
    assert_eq!(stat.superseded.len(), 1);
    assert_eq!(stat.upload_have.unwrap().mask(), 1);
    assert!(stat.current.unwrap().confirmed);
}
