//! What goes wrong, and when: a node crashes, or wires to it break, at a certain stage of what it
//! is asked to do. One fault after the other, drawn from a seed; each is mended again.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use harness::Rng;
use harness::cluster::NODES;
use turmoil::Sim;

use crate::cluster::host;
use crate::stages::Seen;

/// A stage: so many requests of a kind have begun, or have been answered, on any nodes.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stage {
    name: &'static str,
    method: &'static str,
    ended: bool,
    count: u32,
}

const fn begun(name: &'static str, method: &'static str, count: u32) -> Stage {
    Stage { name, method, ended: false, count }
}

const fn ended(name: &'static str, method: &'static str, count: u32) -> Stage {
    Stage { name, method, ended: true, count }
}

const STAGES: [Stage; 11] = [
    begun("a first node is sent chunks", "DfsService/PutChunk", 1),
    begun("all nodes are sent chunks", "DfsService/PutChunk", 4),
    ended("one node has prepared", "DfsService/PutChunk", 1),
    ended("three nodes have prepared", "DfsService/PutChunk", 3),
    begun("a first Commit has come", "DfsService/Commit", 1),
    ended("one node has committed", "DfsService/Commit", 1),
    ended("two nodes have committed", "DfsService/Commit", 2),
    ended("three nodes have committed", "DfsService/Commit", 3),
    begun("a Confirm has come", "DfsService/Confirm", 1),
    begun("a node is read from", "DfsService/GetChunks", 1),
    begun("a node heals another", "PeerService/Heal", 1),
];

/// Those of them at which a Commit is on its way.
const COMMITTING: Range<usize> = 3..6;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The process ends; its connections are closed.
    Crash,
    /// The machine is gone, and nobody is told.
    Vanish,
    /// Nothing passes.
    Cut,
    /// Nothing comes to the node; what it says arrives.
    Deaf,
    /// All comes to the node; what it says does not arrive.
    Mute,
    /// All is late, and then comes at once.
    Hold,
}

const KINDS: [Kind; 6] = [Kind::Crash, Kind::Vanish, Kind::Cut, Kind::Deaf, Kind::Mute, Kind::Hold];

/// How long a stage is waited for before another one is drawn.
const PATIENCE: Duration = Duration::from_secs(4);

/// In most cases longer than a client needs to see that two nodes do not answer.
const NOTICED: Duration = Duration::from_secs(6);

/// How long two clients see different nodes.
const PARTED: Duration = Duration::from_secs(2);

/// A fault that lasts.
struct Fault {
    kind: Kind,
    victims: Vec<usize>,
    /// Hosts and the victims that they have no good wire to.
    wires: Vec<(String, String)>,
}

enum State {
    /// All is well until then.
    Calm(Duration),
    /// Waits for a stage, which so many requests are short of.
    Waiting { stage: &'static Stage, short: u32, since: Duration },
    /// The stage was reached at this node.
    Reached { stage: &'static Stage, node: usize, at: Duration },
    /// Until then.
    Broken(Fault, Duration),
}

/// The faults of one run.
pub(crate) struct Faults {
    rng: Rng,
    clients: Vec<String>,
    /// How many are still to come.
    left: u32,
    state: State,
    /// The last client has lost two opposite nodes: what comes next, in the midst of a Commit, is
    /// that the others lose the other two.
    parted: Option<Fault>,
    counts: Counts,
    /// Every one that there was.
    told: Vec<String>,
}

/// How often what went wrong at which stage.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts(BTreeMap<(&'static Stage, Kind), u32>);

impl Faults {
    /// So many faults beside these clients.
    pub(crate) fn new(seed: u64, count: u32, clients: Vec<String>) -> Self {
        let state = State::Calm(Duration::from_millis(300));
        let (counts, told, parted) = (Counts::default(), Vec::new(), None);
        Self { rng: Rng::new(seed), clients, left: count, state, parted, counts, told }
    }

    /// First, two clients will see different nodes.
    pub(crate) fn part(&mut self, sim: &mut Sim<'_>) {
        let victims = if self.rng.below(2) == 0 { vec![1, 3] } else { vec![2, 4] };
        let client = self.clients.last().expect("there are clients").clone();
        let wires = victims.iter().map(|victim| (client.clone(), host(*victim))).collect();
        let fault = Fault { kind: Kind::Cut, victims, wires };
        fault.begin(sim);
        self.told.push(format!("{:?}: {client} is parted: {fault}", sim.elapsed()));
        self.parted = Some(fault);
        self.state = State::Calm(sim.elapsed() + NOTICED);
    }

    /// Breaks and mends what is due, after a step in which this was seen. Whether more is to come.
    pub(crate) fn go_on(&mut self, sim: &mut Sim<'_>, seen: &[Seen]) -> bool {
        let now = sim.elapsed();
        match &mut self.state {
            State::Calm(until) if now < *until => {}
            State::Calm(_) if self.left == 0 => return false,
            State::Calm(_) => {
                let stages = if self.parted.is_some() { &STAGES[COMMITTING] } else { &STAGES[..] };
                let stage = &stages[self.rng.index(stages.len())];
                self.state = State::Waiting { stage, short: stage.count, since: now };
            }
            State::Waiting { stage, short, since } => {
                let stage = *stage;
                let fits = |seen: &&Seen| seen.method == stage.method && seen.ended == stage.ended;
                let mut reached = None;
                for seen in seen.iter().filter(fits) {
                    *short = short.saturating_sub(1);
                    if *short == 0 && reached.is_none() {
                        reached = NODES.into_iter().find(|node| host(*node) == seen.host);
                    }
                }
                if let Some(node) = reached {
                    let delay = self.rng.below(8).saturating_sub(2);
                    self.state = State::Reached { stage, node, at: now + millis(delay) };
                } else if now > *since + PATIENCE {
                    self.state = State::Calm(now);
                }
            }
            State::Reached { at, .. } if now < *at => {}
            State::Reached { stage, node, .. } => {
                let (stage, node) = (*stage, *node);
                let fault = match &self.parted {
                    Some(parted) => self.other_side(&parted.victims),
                    None => self.draw(node),
                };
                fault.begin(sim);
                self.told.push(format!("{now:?}: {}: {fault}", stage.name));
                *self.counts.0.entry((stage, fault.kind)).or_default() += 1;
                self.left -= 1;
                let length = if self.parted.is_some() { PARTED } else { self.length() };
                self.state = State::Broken(fault, now + length);
            }
            State::Broken(_, until) if now < *until => {}
            State::Broken(fault, _) => {
                fault.end(sim);
                self.parted.take().iter().for_each(|fault| fault.end(sim));
                self.told.push(format!("{now:?}: mended"));
                self.state = State::Calm(now + millis(20 + self.rng.below(400)));
            }
        }
        true
    }

    /// Whether two clients see different nodes, or are about to.
    pub(crate) fn parted(&self) -> bool {
        self.parted.is_some() && !matches!(self.state, State::Calm(_))
    }

    /// What there was.
    pub(crate) fn counts(&self) -> Counts {
        self.counts.clone()
    }

    /// What there was, one after the other.
    pub(crate) fn told(&self) -> String {
        self.told.join("\n")
    }

    /// Something that goes wrong with this node, or another one, or two opposite ones.
    fn draw(&mut self, node: usize) -> Fault {
        let kind = KINDS[self.rng.index(KINDS.len())];
        let opposite = (node + 1) % 4 + 1;
        let victims = match self.rng.below(6) {
            0 => vec![node, opposite],
            1 => vec![opposite],
            2 => vec![NODES[self.rng.index(4)]],
            _ => vec![node],
        };
        let nodes: Vec<String> = NODES.into_iter().map(host).collect();
        let all: Vec<String> = [self.clients.clone(), nodes.clone()].concat();
        let others = match self.rng.below(4) {
            _ if matches!(kind, Kind::Crash | Kind::Vanish) => all,
            0 => vec![self.clients[self.rng.index(self.clients.len())].clone()],
            1 => self.clients.clone(),
            2 => nodes,
            _ => all,
        };
        let mut wires: Vec<(String, String)> = Vec::new();
        for victim in victims.iter().map(|victim| host(*victim)) {
            let known = |other: &String, wires: &[(String, String)]| {
                *other == victim || wires.contains(&(victim.clone(), other.clone()))
            };
            for other in &others {
                if !known(other, &wires) {
                    wires.push((other.clone(), victim.clone()));
                }
            }
        }
        Fault { kind, victims, wires }
    }

    /// All clients but the last lose the nodes that it has.
    fn other_side(&self, lost: &[usize]) -> Fault {
        let victims: Vec<usize> = NODES.into_iter().filter(|node| !lost.contains(node)).collect();
        let others = self.clients.split_last().map_or(&[][..], |(_, others)| others);
        let wires = others
            .iter()
            .flat_map(|other| victims.iter().map(|victim| (other.clone(), host(*victim))));
        Fault { kind: Kind::Cut, wires: wires.collect(), victims }
    }

    /// Most are short; some outlast every deadline of a client.
    fn length(&mut self) -> Duration {
        millis(match self.rng.below(6) {
            0 => 5500 + self.rng.below(6000),
            _ => 5 + self.rng.below(900),
        })
    }
}

impl Fault {
    fn begin(&self, sim: &mut Sim<'_>) {
        for (other, victim) in &self.wires {
            match self.kind {
                Kind::Crash => {}
                Kind::Vanish | Kind::Cut => sim.partition(&**other, &**victim),
                Kind::Deaf => sim.partition_oneway(&**other, &**victim),
                Kind::Mute => sim.partition_oneway(&**victim, &**other),
                Kind::Hold => sim.hold(&**other, &**victim),
            }
        }
        if matches!(self.kind, Kind::Crash | Kind::Vanish) {
            self.victims.iter().for_each(|victim| sim.crash(host(*victim)));
        }
    }

    fn end(&self, sim: &mut Sim<'_>) {
        for (other, victim) in &self.wires {
            match self.kind {
                Kind::Hold => sim.release(&**other, &**victim),
                _ => sim.repair(&**other, &**victim),
            }
        }
        if matches!(self.kind, Kind::Crash | Kind::Vanish) {
            self.victims.iter().for_each(|victim| sim.bounce(host(*victim)));
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, victims, wires } = self;
        write!(f, "{kind:?} {victims:?}, {} wires", wires.len())
    }
}

impl Counts {
    /// Adds those of another run.
    pub(crate) fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(key, count)| *self.0.entry(*key).or_default() += count);
    }

    /// The stages that no fault has hit.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let hit = |stage: &&Stage| self.0.keys().any(|(other, _)| other == stage);
        STAGES.iter().filter(|stage| !hit(stage)).map(|stage| stage.name).collect()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stage in &STAGES {
            let of_stage = KINDS.map(|kind| (kind, self.0.get(&(stage, kind)).copied()));
            let each = of_stage.map(|(kind, count)| format!("{kind:?} {}", count.unwrap_or(0)));
            writeln!(f, "{:28} {}", stage.name, each.join(", "))?;
        }
        Ok(())
    }
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
