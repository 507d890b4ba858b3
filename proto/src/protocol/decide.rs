//! The read decision: which version of a path counts, given what the nodes answered.
//!
//! Any two Serving nodes include one of the three that have every completed version, so the
//! largest tag among two answers is never older than the last completed operation. Whether it
//! may be returned without a flag is another question: a version on two nodes only might be
//! missed by the next reader. Hence the rules, in this order:
//!
//! 0. fewer than two answers: unavailable;
//! 1. the largest tag is confirmed somewhere: it;
//! 2. it is on three nodes: it;
//! 3. three or more answers: write it back until three nodes have it; where that cannot be
//!    done and all four answered, the third-largest tag, which is on three nodes;
//! 4. otherwise it, flagged unconfirmed.

use crate::placement::{NodeId, PerNode};
use crate::tag::Tag;

/// A decision that is not flagged rests on this many nodes.
pub const QUORUM: usize = 3;

/// What is known of one node's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// It may still answer.
    Waiting,
    /// It failed, or its answer does not count.
    Out,
    /// It answered.
    Here {
        /// Its newest tag; `None`, a confirmed tombstone below all tags, where it has none.
        tag: Option<Tag>,
        /// Whether it knows that tag to be on three nodes.
        confirmed: bool,
    },
}

/// What the answers so far allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet; more answers may come.
    Wait,
    /// Fewer than two nodes answered and no more will.
    Unavailable,
    /// This version counts.
    Decided {
        /// Its tag; `None`: the path was never written.
        tag: Option<Tag>,
        /// A node that has it.
        holder: NodeId,
        /// Whether three nodes could not be shown to have it.
        unconfirmed: bool,
    },
    /// This version counts once three nodes have it.
    WriteBack {
        /// Its tag.
        tag: Tag,
        /// A node that has it.
        holder: NodeId,
    },
}

/// Decides as soon as a rule allows.
pub fn decide(views: &PerNode<View>) -> Verdict {
    let answers = answers(views);
    let answered = answers.clone().count();
    let waiting = views.contains(&View::Waiting);
    let Some((tag, _, holder)) = answers.clone().max_by_key(|(tag, ..)| *tag) else {
        return if waiting { Verdict::Wait } else { Verdict::Unavailable };
    };
    if answered < 2 {
        return if waiting { Verdict::Wait } else { Verdict::Unavailable };
    }
    let equal = answers.filter(|(other, ..)| *other == tag);
    let confirmed = equal.clone().any(|(_, confirmed, _)| confirmed);
    match tag {
        None => Verdict::Decided { tag, holder, unconfirmed: false },
        _ if confirmed || equal.count() >= QUORUM => {
            Verdict::Decided { tag, holder, unconfirmed: false }
        }
        Some(tag) if answered >= QUORUM => Verdict::WriteBack { tag, holder },
        _ if waiting => Verdict::Wait,
        _ => Verdict::Decided { tag, holder, unconfirmed: true },
    }
}

/// Decides where a write-back was called for and cannot be done.
pub fn decide_without_write_back(views: &PerNode<View>) -> Verdict {
    match decide(views) {
        Verdict::WriteBack { tag, holder } => {
            let mut answers: Vec<_> = answers(views).collect();
            answers.sort_by_key(|(tag, ..)| std::cmp::Reverse(*tag));
            match answers[..] {
                [_, _, (third, _, holder), _] => {
                    Verdict::Decided { tag: third, holder, unconfirmed: false }
                }
                _ => Verdict::Decided { tag: Some(tag), holder, unconfirmed: true },
            }
        }
        other => other,
    }
}

fn answers(views: &PerNode<View>) -> impl Iterator<Item = (Option<Tag>, bool, NodeId)> + Clone {
    let answer = |node: NodeId| match views[node.index()] {
        View::Here { tag, confirmed } => Some((tag, confirmed, node)),
        View::Waiting | View::Out => None,
    };
    NodeId::ALL.into_iter().filter_map(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tag::Hlc;

    const TAGS: u64 = 4;

    fn tag(number: u64) -> Option<Tag> {
        (number > 0).then_some(Tag { hlc: Hlc::new(number), writer: [0; 16] })
    }

    /// Waiting, out, and all of absent and three tags, each confirmed or not.
    fn possible_views() -> Vec<View> {
        let here = (0..TAGS).flat_map(|number| {
            [false, true].map(|confirmed| View::Here { tag: tag(number), confirmed })
        });
        [View::Waiting, View::Out].into_iter().chain(here).collect()
    }

    fn all_answers() -> impl Iterator<Item = PerNode<View>> {
        let views = possible_views();
        let n = views.len();
        (0..n.pow(4)).map(move |code| {
            [code % n, code / n % n, code / n / n % n, code / n / n / n].map(|i| views[i])
        })
    }

    fn tags(views: &PerNode<View>) -> Vec<Option<Tag>> {
        let mut tags: Vec<_> = answers(views).map(|(tag, ..)| tag).collect();
        tags.sort_unstable();
        tags
    }

    /// The rules once more, written as a specification over every possible answer.
    #[test]
    fn follows_the_rules_for_every_combination_of_answers() {
        for views in all_answers() {
            let tags = tags(&views);
            let waiting = views.contains(&View::Waiting);
            let verdict = decide(&views);
            if tags.len() < 2 {
                let expected = if waiting { Verdict::Wait } else { Verdict::Unavailable };
                assert_eq!(verdict, expected, "{views:?}");
                continue;
            }
            let largest = tags[tags.len() - 1];
            let on = tags.iter().filter(|tag| **tag == largest).count();
            let confirmed =
                largest.is_none() || views.contains(&View::Here { tag: largest, confirmed: true });
            match verdict {
                Verdict::Unavailable => panic!("two nodes answered: {views:?}"),
                Verdict::Wait => {
                    assert!(waiting && tags.len() == 2 && !confirmed, "{views:?}");
                }
                Verdict::Decided { tag, holder, unconfirmed } => {
                    assert_eq!(tag, largest, "{views:?}");
                    assert!(matches!(views[holder.index()], View::Here { tag: t, .. } if t == tag));
                    assert_eq!(unconfirmed, !(confirmed || on >= 3), "{views:?}");
                    assert!(!unconfirmed || (tags.len() == 2 && !waiting), "{views:?}");
                }
                Verdict::WriteBack { tag, holder } => {
                    assert_eq!(Some(tag), largest, "{views:?}");
                    assert!(tags.len() >= 3 && !confirmed && on < 3, "{views:?}");
                    assert!(
                        matches!(views[holder.index()], View::Here { tag: t, .. } if t == largest)
                    );
                }
            }
        }
    }

    #[test]
    fn without_write_back_an_unflagged_answer_is_on_three_nodes_or_confirmed() {
        for views in all_answers() {
            let tags = tags(&views);
            match decide_without_write_back(&views) {
                Verdict::WriteBack { .. } => panic!("asked not to: {views:?}"),
                Verdict::Decided { tag, unconfirmed: false, .. } => {
                    let as_new = tags.iter().filter(|other| **other >= tag).count();
                    let confirmed = views.contains(&View::Here { tag, confirmed: true });
                    assert!(tag.is_none() || confirmed || as_new >= 3, "{views:?}");
                }
                Verdict::Decided { tag, unconfirmed: true, .. } => {
                    assert_eq!(tag, tags[tags.len() - 1], "{views:?}");
                }
                Verdict::Wait | Verdict::Unavailable => {}
            }
        }
    }

    /// Whatever three nodes had before the read began is never missed.
    #[test]
    fn no_answer_is_older_than_a_version_on_three_nodes() {
        for views in all_answers() {
            for completed in 1..TAGS {
                let old =
                    |view: &View| matches!(view, View::Here { tag: t, .. } if *t < tag(completed));
                if views.iter().filter(|view| old(view)).count() > 1 {
                    continue; // not possible: at most one node lacks a completed version
                }
                for verdict in [decide(&views), decide_without_write_back(&views)] {
                    if let Verdict::Decided { tag: decided, .. } = verdict {
                        assert!(decided >= tag(completed), "{views:?} gave {decided:?}");
                    }
                }
            }
        }
    }
}
