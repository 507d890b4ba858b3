//! DELETE: carries the messages of [`protocol::remove::Remove`].

use std::sync::Arc;

use dfs_proto::name::FilePath;
use dfs_proto::protocol::read;
use dfs_proto::protocol::remove::{Effect, Event, Outcome, Remove};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::drive::{Drive, Open, drive, finish_behind};
use crate::error::{Error, NodeError, Operation};
use crate::nodes::Nodes;
use crate::random::random;
use crate::stop::Stopped;
use crate::trace::carried;

pub(crate) async fn remove(
    nodes: &Arc<Nodes>,
    path: FilePath,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    let (machine, effects) = Remove::start(nodes.next_upload(), random());
    let mut run = Run {
        nodes: nodes.clone(),
        path,
        machine,
        open: Open::new(),
        errors: Vec::new(),
        started: Instant::now(),
    };
    run.apply(effects);
    let outcome = drive(&mut run, cancel).await;
    run.finish(outcome)
}

struct Run {
    nodes: Arc<Nodes>,
    path: FilePath,
    machine: Remove,
    open: Open<Event>,
    errors: Vec<NodeError>,
    started: Instant,
}

impl Run {
    fn apply(&mut self, effects: Vec<Effect>) -> Option<Outcome> {
        let mut outcome = None;
        for effect in effects {
            match effect {
                Effect::Read(read::Effect::Ask(id)) => {
                    let (member, path) = (self.nodes.get(id).clone(), self.path.clone());
                    self.open.push(Box::pin(async move {
                        let (event, error) = match member.stat(&path).await {
                            Ok(reply) => (read::Event::Reply(id, Box::new(reply)), None),
                            Err(error) => (read::Event::Failed(id), Some(error)),
                        };
                        (Event::Read(event), error)
                    }));
                }
                Effect::Read(read::Effect::WriteBack { to, version, source }) => {
                    let (member, path) = (self.nodes.get(to).clone(), self.path.clone());
                    self.open.push(Box::pin(async move {
                        let (answer, error) = member.commit(&path, &version, true, &[source]).await;
                        (Event::Read(read::Event::WriteBack(to, answer)), error)
                    }));
                }
                Effect::Commit(id, version) => {
                    let (member, path) = (self.nodes.get(id).clone(), self.path.clone());
                    self.open.push(Box::pin(async move {
                        let (answer, error) = member.commit(&path, &version, false, &[]).await;
                        (Event::Commit(id, answer), error)
                    }));
                }
                Effect::Read(read::Effect::Confirm(id, tag)) | Effect::Confirm(id, tag) => {
                    let (member, path) = (self.nodes.get(id).clone(), self.path.clone());
                    self.nodes
                        .background()
                        .spawn(carried(async move { member.confirm(&path, tag).await }));
                }
                Effect::Finish(end) => outcome = Some(end),
                Effect::Read(read::Effect::Finish(_)) => {}
            }
        }
        outcome
    }

    fn finish(mut self, outcome: Outcome) -> Result<(), Error> {
        let (path, nodes) = (self.path.clone(), std::mem::take(&mut self.errors));
        let operation = Operation::Remove;
        match outcome {
            Outcome::Removed => {
                let tracker = self.nodes.background().clone();
                tracker.spawn(carried(finish_behind(self)));
                Ok(())
            }
            // A removal that is on two nodes only is made good, not reported.
            Outcome::NotFound => Err(Error::NotFound { path, unconfirmed: false }),
            Outcome::Unavailable => Err(Error::unavailable(operation, Some(path), nodes)),
            Outcome::Refused => Err(Error::Refused { operation, path, nodes }),
            Outcome::Interrupted => Err(Error::Interrupted),
            Outcome::Unknown => Err(Error::Unknown { operation, path, nodes }),
        }
    }
}

impl Drive for Run {
    type Event = Event;
    type Outcome = Outcome;

    fn open(&mut self) -> &mut Open<Event> {
        &mut self.open
    }

    fn on(&mut self, event: Event, error: Option<NodeError>) -> Option<Outcome> {
        self.errors.extend(error);
        let effects = self.machine.on(event, self.started.elapsed());
        self.apply(effects)
    }
}

impl From<Stopped> for Event {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Interrupted => Self::Interrupted,
            Stopped::GiveUp => Self::GiveUp,
        }
    }
}
