//! Repairs of every small cluster: four real rows, each in one of a few states, answer.

use super::*;
use crate::chunk::ChunkId;
use crate::manifest::Record;
use crate::protocol::row::{
    CommitOrder, Current, NodeView, ReleaseOrder, Row, Upload, UploadState,
};
use crate::protocol::samples::{N1, N2, N3, N4, all_of, file, life, node_ref, tombstone};
use crate::tag::Hlc;

const NOW_MS: u64 = 1_000_000;

/// What a node has of the version that most nodes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Down,
    /// Never heard of the path.
    Empty,
    /// Prepared, its Commit got lost.
    Prepared,
    Whole,
    /// The record, no data.
    Bare,
    /// Its own chunks and those of its opposite.
    Spill,
    /// Says that it holds its chunks, and one of them has rotted.
    Rotten,
}

const STATES: [Is; 7] =
    [Is::Down, Is::Empty, Is::Prepared, Is::Whole, Is::Bare, Is::Spill, Is::Rotten];

struct World {
    nodes: PerNode<Is>,
    rows: PerNode<Row>,
    /// What is really readable.
    good: PerNode<ChunkSet>,
    log: Vec<Effect>,
}

fn version() -> Version {
    file(5, 5)
}

fn home(id: NodeId) -> ChunkSet {
    home_chunks(version().manifest().unwrap().x(), id)
}

fn view(position: NodeId) -> NodeView {
    let incarnations = NodeId::ALL.map(|id| Some(life(id.get())));
    NodeView { now_ms: NOW_MS, position, rejoining: false, incarnations }
}

impl World {
    fn new(nodes: PerNode<Is>, confirmed: bool) -> Self {
        let mut rows: PerNode<Row> = Default::default();
        let mut good = [ChunkSet::EMPTY; 4];
        for id in NodeId::ALL {
            let have = match nodes[id.index()] {
                Is::Down | Is::Empty | Is::Bare => ChunkSet::EMPTY,
                Is::Prepared | Is::Whole | Is::Rotten => home(id),
                Is::Spill => ChunkSet::ALL,
            };
            good[id.index()] = match nodes[id.index()] {
                Is::Rotten => have.without(have.iter().next().unwrap()),
                _ => have,
            };
            let row = &mut rows[id.index()];
            match nodes[id.index()] {
                Is::Down | Is::Empty => {}
                Is::Prepared => {
                    let state = UploadState::Prepared;
                    row.uploads.insert(version().upload, Upload { have, state, since_ms: NOW_MS });
                }
                Is::Whole | Is::Bare | Is::Spill | Is::Rotten => {
                    let record = Record { version: version(), have };
                    row.current = Some(Current { record, confirmed });
                }
            }
        }
        Self { nodes, rows, good, log: Vec::new() }
    }

    fn up(&self, id: NodeId) -> bool {
        self.nodes[id.index()] != Is::Down
    }

    fn held(&self, id: NodeId, bad: ChunkSet) -> Held {
        let have = self.rows[id.index()].have(version().upload);
        Held { incarnation: life(id.get()), have, bad }
    }

    fn answer(&mut self, effect: &Effect) -> Option<Event> {
        let upload = version().upload;
        match effect {
            Effect::Ask(id) | Effect::Look { node: id, .. } | Effect::Pull { to: id, .. }
                if !self.up(*id) =>
            {
                Some(Event::Failed(*id))
            }
            Effect::Ask(id) => {
                let current = self.rows[id.index()].current.clone();
                Some(Event::Reply(
                    *id,
                    Box::new(Reply {
                        incarnation: life(id.get()),
                        confirmed: current.as_ref().is_none_or(|current| current.confirmed),
                        current: current.map(|current| current.record),
                        proposed: Hlc::from_ms(NOW_MS),
                    }),
                ))
            }
            Effect::Look { node, reread, .. } => {
                let row = &mut self.rows[node.index()];
                let have = row.have(upload);
                let rotten = have.minus(self.good[node.index()]);
                let bad: ChunkSet = reread.iter().filter(|c| rotten.contains(*c)).collect();
                row.lose_chunks(upload, bad);
                Some(Event::Held(*node, self.held(*node, bad)))
            }
            Effect::WriteBack { to, version, source } => {
                let sources = vec![*source];
                let order = CommitOrder { version: version.clone(), write_back: true, sources };
                let acked = self.rows[to.index()].commit(&view(*to), &order);
                Some(Event::WriteBack(
                    *to,
                    match acked {
                        Ok(_) => CommitAnswer::Acked,
                        Err(refused) => CommitAnswer::Refused(refused),
                    },
                ))
            }
            Effect::Confirm(id, tag) => {
                let holders = self.rows.iter().filter(|row| row.tag() >= Some(*tag)).count();
                let known = self.rows.iter().filter_map(|row| row.current.as_ref());
                let known = known.clone().any(|current| current.confirmed);
                assert!(holders >= QUORUM || known, "confirmed on {holders} nodes");
                self.rows[id.index()].confirm(*tag);
                None
            }
            Effect::Pull { to, chunks, from, .. } => {
                for chunk in chunks.iter() {
                    let mut sources = NodeId::ALL.into_iter().filter(|id| {
                        from[id.index()].contains(chunk) && self.good[id.index()].contains(chunk)
                    });
                    if sources.next().is_some()
                        && self.rows[to.index()].restore(&view(*to), upload, chunk).is_ok()
                    {
                        self.good[to.index()] = self.good[to.index()].with(chunk);
                    }
                }
                Some(Event::Held(*to, self.held(*to, ChunkSet::EMPTY)))
            }
            Effect::Release { node, version, chunks, homes } => {
                let order = ReleaseOrder {
                    tag: version.tag,
                    upload,
                    chunks: *chunks,
                    homes: homes.clone(),
                };
                let released = self.rows[node.index()].release(&view(*node), &order);
                if let Ok(released) = released {
                    self.good[node.index()] = self.good[node.index()].minus(released);
                }
                Some(Event::Released(*node, released.is_ok()))
            }
            Effect::Finish(_) => None,
        }
    }

    /// How many good copies there are of each chunk, on nodes that are up.
    fn copies(&self) -> [usize; 4] {
        ChunkId::ALL.map(|chunk| self.good.iter().filter(|good| good.contains(chunk)).count())
    }

    fn repair(&mut self, mode: Mode) -> Report {
        let (mut repair, mut waiting) = Repair::start(mode);
        let mut steps = 0;
        while !waiting.is_empty() {
            let effect = waiting.remove(0);
            steps += 1;
            assert!(steps < 100, "it does not end");
            self.log.push(effect.clone());
            let before = self.copies();
            let event = self.answer(&effect);
            for (chunk, (before, after)) in before.iter().zip(self.copies()).enumerate() {
                assert!(after >= *before.min(&2), "chunk {chunk} lost a copy by {effect:?}");
            }
            if let Some(event) = event {
                waiting.extend(repair.on(event));
            }
            if let Effect::Finish(report) = effect {
                assert!(waiting.is_empty(), "{waiting:?} after the end");
                return report;
            }
        }
        panic!("it waits for nothing");
    }
}

fn with_version(nodes: &PerNode<Is>) -> usize {
    let has = |is: &&Is| matches!(is, Is::Whole | Is::Bare | Is::Spill | Is::Rotten);
    nodes.iter().filter(has).count()
}

#[test]
fn every_cluster_of_four_is_made_whole_or_left_alone() {
    for nodes in all_of(&STATES) {
        for confirmed in [false, true] {
            // A version is confirmed only once three nodes have it.
            if confirmed && with_version(&nodes) < 3 {
                continue;
            }
            for mode in [Mode::Thorough, Mode::Quick] {
                check(nodes, confirmed, mode);
            }
        }
    }
}

fn check(nodes: PerNode<Is>, confirmed: bool, mode: Mode) {
    let mut world = World::new(nodes, confirmed);
    let before = world.copies();
    let what = format!("{nodes:?} confirmed {confirmed} {mode:?}");
    let report = world.repair(mode);
    let down = nodes.iter().filter(|is| **is == Is::Down).count();
    let versions = with_version(&nodes);
    let gone = before.contains(&0);
    // A quick repair believes in a rotten chunk, until it wants to copy from it.
    let rotten = nodes.contains(&Is::Rotten) && mode == Mode::Quick;
    match report.state {
        State::Healthy | State::Repaired => {
            assert_eq!(down, 0, "{what}");
            let row = &world.rows[0];
            assert!(world.rows.iter().all(|other| other.tag() == row.tag()), "{what}");
            if versions > 0 {
                for id in NodeId::ALL {
                    let row = &world.rows[id.index()];
                    assert_eq!(row.have(version().upload), home(id), "{what}");
                    assert!(row.current.as_ref().is_some_and(|c| c.confirmed), "{what}");
                    assert!(rotten || world.good[id.index()] == home(id), "{what}");
                }
            }
            let whole = nodes == [Is::Whole; 4] || versions == 0;
            assert!(whole || rotten || report.state == State::Repaired, "{what}");
        }
        State::Unfinished => assert!(down > 0 || rotten, "{what}"),
        State::Unreachable => {
            assert!(down > 0, "{what}");
            assert!(gone || down > 1, "{what}");
        }
        State::Lost(lost) => {
            assert!(down == 0 && gone && versions >= 3, "{what}");
            assert!(!lost.is_empty());
        }
        State::Dead(_) => {
            assert!(down == 0 && gone && versions < 3, "{what}");
            let changes = |effect: &Effect| {
                !matches!(effect, Effect::Ask(_) | Effect::Look { .. } | Effect::Finish(_))
            };
            assert!(!world.log.iter().any(changes), "{what}");
        }
    }
    if mode == Mode::Thorough && down == 0 && !gone {
        assert!(matches!(report.state, State::Healthy | State::Repaired), "{what}: {report:?}");
        let again = world.repair(mode);
        assert_eq!(again.state, State::Healthy, "{what}: twice");
        assert_eq!(again.copied_bytes(), 0);
    }
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_a_quick_repair_does() {
    for nodes in all_of(&STATES) {
        if nodes.contains(&Is::Rotten) {
            continue;
        }
        let mut world = World::new(nodes, false);
        let before = world.rows.clone();
        let dry = world.repair(Mode::DryRun);
        assert_eq!(world.rows, before, "{nodes:?}");
        let done = world.repair(Mode::Quick);
        assert_eq!(dry, done, "{nodes:?}");
    }
}

#[test]
fn a_tombstone_is_spread_and_confirmed() {
    let removed = tombstone(6, 6);
    let mut world = World::new([Is::Whole, Is::Whole, Is::Whole, Is::Whole], true);
    for id in [N1, N2] {
        let sources = vec![node_ref(N1, 1)];
        let order = CommitOrder { version: removed.clone(), write_back: true, sources };
        world.rows[id.index()].commit(&view(id), &order).unwrap();
    }
    let report = world.repair(Mode::Thorough);
    assert_eq!(report.state, State::Repaired);
    assert_eq!(report.written_back, [N3, N4]);
    let confirmed = |row: &Row| row.current.as_ref().is_some_and(|current| current.confirmed);
    assert!(world.rows.iter().all(|row| row.tag() == Some(removed.tag) && confirmed(row)));
}

#[test]
fn nothing_is_released_on_the_word_of_a_disk_that_was_swapped() {
    let (mut repair, effects) = Repair::start(Mode::Quick);
    assert_eq!(effects.len(), 4);
    let mut world = World::new([Is::Spill, Is::Whole, Is::Whole, Is::Whole], true);
    let mut waiting = effects;
    let mut finished = None;
    while let Some(effect) = waiting.pop() {
        let mut event = world.answer(&effect);
        if let Some(Event::Held(id, held)) = &mut event
            && *id == N3
            && matches!(&effect, Effect::Look { reread, .. } if !reread.is_empty())
        {
            held.incarnation = life(9);
        }
        assert!(!matches!(effect, Effect::Release { .. }));
        if let Effect::Finish(report) = effect {
            finished = Some(report);
        }
        waiting.extend(event.map(|event| repair.on(event)).unwrap_or_default());
    }
    let report = finished.unwrap();
    assert_eq!((report.state, report.failed), (State::Unfinished, vec![N3]));
}
