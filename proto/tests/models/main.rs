//! Small models of the protocol, explored completely: every order in which messages can arrive.
//!
//! [`register`] has tags and reads but no data, [`data`] has chunks but no reads. Both have one
//! path and two writers. Each rule can be left out by itself: then a broken promise is found,
//! with the shortest way to it, so the rule is needed and the model can fail. With all rules
//! the number of states is asserted: a change of a model that hides states is noticed.
//!
//! The ignored tests take minutes: `cargo test --release -p dfs-proto --test models -- --ignored`.

mod data;

mod explore;

mod register;

use data::{Cleaning, Data, Restored};
use explore::{Found, Model, explore};
use register::{Disk, Forgetting, ReadRule, Register, TagRule};

#[track_caller]
fn holds<M: Model>(model: &M, states: usize) {
    match explore(model) {
        Found::Nothing { states: found } => assert_eq!(found, states, "states of {model:?}"),
        Found::Broken { promise, trace, .. } => {
            panic!("{model:?}: {promise}\n{}", trace.join("\n"));
        }
    }
}

/// A rule is left out: `steps` is the length of the shortest way to the broken promise.
#[track_caller]
fn breaks<M: Model>(model: &M, steps: usize) {
    match explore(model) {
        Found::Nothing { states } => panic!("{model:?} holds in all {states} states"),
        Found::Broken { promise, trace, .. } => {
            assert_eq!(trace.len(), steps, "{promise}\n{}", trace.join("\n"));
        }
    }
}

mod reads {
    use super::*;

    #[test]
    fn every_history_is_linearizable() {
        holds(&Register::PROTOCOL, 379_804);
    }

    #[test]
    fn so_with_a_removal() {
        holds(&Register { removal: true, ..Register::PROTOCOL }, 340_393);
    }

    #[test]
    #[ignore = "long: minutes"]
    fn so_with_confirmed_marks() {
        holds(&Register { marks: true, ..Register::PROTOCOL }, 9_084_742);
    }

    #[test]
    #[ignore = "long: minutes"]
    fn so_with_three_reads() {
        holds(&Register { reads: 3, ..Register::PROTOCOL }, 1_519_142);
    }

    #[test]
    #[ignore = "long: minutes"]
    fn so_with_a_replaced_disk() {
        holds(&Register { disk: Disk::Rejoins, ..Register::PROTOCOL }, 7_556_246);
    }

    /// H3: the larger of two answers may be unseen by the next reader.
    #[test]
    fn the_larger_of_two_answers_is_not_enough() {
        breaks(&Register { read: ReadRule::LargestOfTwo, ..Register::PROTOCOL }, 13);
    }

    /// H4: two equal answers may be the only two.
    #[test]
    fn two_equal_answers_are_not_enough() {
        breaks(&Register { read: ReadRule::TwoEqual, ..Register::PROTOCOL }, 14);
    }

    /// H5: a slow clock's write is acknowledged and lost.
    #[test]
    fn a_tag_from_the_writers_clock_is_not_enough() {
        breaks(&Register { tags: TagRule::OwnClock, ..Register::PROTOCOL }, 15);
    }

    /// H15: a write that is tried again under a new tag happens twice.
    #[test]
    #[ignore = "long: minutes"]
    fn a_retry_keeps_its_tag() {
        let retry = Register { tags: TagRule::NewOnRetry, reads: 3, ..Register::PROTOCOL };
        breaks(&retry, 36);
    }

    /// H19: two acknowledgements and two answers need not meet.
    #[test]
    fn two_acknowledgements_are_not_enough() {
        breaks(&Register { acks: 2, ..Register::PROTOCOL }, 11);
    }

    /// H18: an empty disk answers "never written".
    #[test]
    fn an_empty_disk_must_not_answer() {
        breaks(&Register { disk: Disk::ServesEmpty, ..Register::PROTOCOL }, 13);
    }

    #[test]
    fn a_new_disk_must_wait_before_it_reads_the_others() {
        breaks(&Register { disk: Disk::RejoinsAtOnce, ..Register::PROTOCOL }, 16);
    }

    /// H10: a reader may get the file from one node and nothing from the others.
    #[test]
    fn a_tombstone_must_stay() {
        for (forgetting, steps) in [(Forgetting::OnThree, 22), (Forgetting::OnAll, 23)] {
            let model = Register { removal: true, forgetting, ..Register::PROTOCOL };
            breaks(&model, steps);
        }
    }
}

mod chunks {
    use super::*;

    const ONE_PUT: Data = Data { puts: 1, ..Data::PROTOCOL };
    const LOST_DISK: Data = Data { replaces_disk: true, ..ONE_PUT };

    #[test]
    fn the_newest_version_survives_every_allowed_failure() {
        holds(&ONE_PUT, 209_724);
    }

    #[test]
    fn so_with_two_puts() {
        let model = Data { at_once: true, janitor: false, repair: false, ..Data::PROTOCOL };
        holds(&model, 390_988);
    }

    #[test]
    #[ignore = "long: 18 million states, a few minutes, 2 GB"]
    fn so_with_a_lost_disk() {
        holds(&LOST_DISK, 17_992_519);
    }

    #[test]
    fn chunks_of_an_absent_node_go_to_its_opposite() {
        breaks(&Data { spill: false, ..ONE_PUT }, 5);
    }

    /// H14.
    #[test]
    fn staged_data_does_not_go_by_age() {
        breaks(&Data { cleaning: Cleaning::ByAge, ..ONE_PUT }, 7);
    }

    #[test]
    fn three_fences_are_not_enough() {
        breaks(&Data { cleaning: Cleaning::FencedByThree, ..ONE_PUT }, 10);
    }

    #[test]
    fn nothing_is_dropped_after_a_commit() {
        breaks(&Data { drops_after_commit: true, ..ONE_PUT }, 8);
    }

    /// V1: the Commit rests on data prepared on the lost disk.
    #[test]
    fn a_commit_names_the_disks_it_rests_on() {
        breaks(&Data { commit_names_disks: false, ..LOST_DISK }, 13);
    }

    /// V2: the lost disk's fence does not bind its successor.
    #[test]
    fn a_drop_names_the_disks_that_fenced() {
        breaks(&Data { drop_names_disks: false, ..LOST_DISK }, 16);
    }

    /// V3: a rejoined node that holds its pair of an undecided version is not restored.
    #[test]
    fn a_node_is_restored_by_confirmed_versions_only() {
        breaks(&Data { restored: Restored::HoldsItsPair, ..LOST_DISK }, 13);
    }

    /// V4: a late write-back whose only source was the lost disk.
    #[test]
    fn a_write_back_names_the_disk_it_was_read_from() {
        breaks(&Data { write_back_names_disk: false, ..LOST_DISK }, 15);
    }

    #[test]
    fn a_rejoining_node_takes_no_writes() {
        breaks(&Data { rejoining_refuses_writes: false, ..LOST_DISK }, 12);
    }

    #[test]
    fn a_rejoining_node_fences_nothing() {
        breaks(&Data { rejoining_refuses_fences: false, ..LOST_DISK }, 13);
    }

    #[test]
    fn a_rejoining_node_adopts_fences() {
        breaks(&Data { adopts_fences: false, ..LOST_DISK }, 16);
    }

    #[test]
    fn a_rejoining_node_reads_all_three_others() {
        breaks(&Data { reads_out: 2, ..LOST_DISK }, 12);
    }
}
