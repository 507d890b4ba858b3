//! A repair of many paths: survey, repair, count. `dfsctl repair` is this on one node.

use dfs_proto::name::{Prefix, UserName};
use dfs_proto::placement::NodeId;
use dfs_proto::protocol::repair::{Mode, Report, State};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, StreamExt};

use super::survey::{Survey, Surveyed};
use super::{Healer, PARALLEL};
use crate::peers::UserPath;

/// Counts of a repair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) looked_at: u64,
    pub(crate) healthy: u64,
    pub(crate) repaired: u64,
    pub(crate) unfinished: u64,
    pub(crate) unreachable: u64,
    pub(crate) lost: u64,
    pub(crate) dead: u64,
    pub(crate) copied_bytes: u64,
}

impl Summary {
    fn count(&mut self, report: &Option<Report>) {
        self.looked_at += 1;
        let Some(report) = report else {
            self.healthy += 1;
            return;
        };
        self.copied_bytes += report.copied_bytes();
        *match report.state {
            State::Healthy => &mut self.healthy,
            State::Repaired => &mut self.repaired,
            State::Unfinished => &mut self.unfinished,
            State::Unreachable => &mut self.unreachable,
            State::Lost(_) => &mut self.lost,
            State::Dead(_) => &mut self.dead,
        } += 1;
    }
}

/// A repair of one user's files, or of everybody's, under way.
pub(crate) struct Sweep<'a> {
    healer: &'a Healer,
    mode: Mode,
    survey: Survey<'a>,
    running: FuturesOrdered<BoxFuture<'a, (UserPath, Option<Report>)>>,
    at_end: bool,
    pub(crate) summary: Summary,
}

/// What came of one path; no report where it was whole at first sight.
pub(crate) struct Swept {
    pub(crate) of: UserPath,
    pub(crate) report: Option<Report>,
}

impl<'a> Sweep<'a> {
    /// Starts to repair a user's files under a prefix, or everything, after a path if one is
    /// given.
    pub(crate) fn start(
        healer: &'a Healer,
        files: Option<(UserName, Prefix)>,
        after: Option<UserPath>,
        mode: Mode,
    ) -> Self {
        Self {
            healer,
            mode,
            survey: Survey::start(&healer.peers, files, after),
            running: FuturesOrdered::new(),
            at_end: false,
            summary: Summary::default(),
        }
    }

    /// The next path that is finished, in byte order; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Swept> {
        while !self.at_end && self.running.len() < PARALLEL {
            // What runs goes on while the survey waits for other nodes. A survey that is asked
            // again goes on where it was.
            tokio::select! {
                biased;
                surveyed = self.survey.next() => match surveyed {
                    Some(surveyed) => self.begin(surveyed),
                    None => self.at_end = true,
                },
                Some((of, report)) = self.running.next() => return Some(self.swept(of, report)),
            }
        }
        let (of, report) = self.running.next().await?;
        Some(self.swept(of, report))
    }

    fn swept(&mut self, of: UserPath, report: Option<Report>) -> Swept {
        self.summary.count(&report);
        Swept { of, report }
    }

    fn begin(&mut self, surveyed: Surveyed) {
        let (healer, mode) = (self.healer, self.mode);
        let skip = mode != Mode::Thorough && surveyed.is_whole();
        self.running.push_back(Box::pin(async move {
            let of = surveyed.of;
            let report = if skip { None } else { Some(healer.repair(&of, mode, 0).await) };
            (of, report)
        }));
    }

    /// Why nodes take no part.
    pub(crate) fn problems(&self) -> impl Iterator<Item = (NodeId, String)> + '_ {
        self.survey.problems.iter().map(|(id, error)| (*id, error.to_string()))
    }

    /// How many nodes take part.
    pub(crate) fn taking_part(&self) -> usize {
        self.survey.taking_part()
    }
}
