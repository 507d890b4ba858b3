//! Clients that put, get and remove, and write down what they are told.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dfs_client::{
    Client, Config, Credentials, Error, FilePath, GetOptions, GetReport, Prefix, PutOptions,
};
use dfs_proto::manifest::Manifest;
use harness::Rng;

use super::history::{Done, Effect, State};

/// What the clients quarrel about: a few paths, so that operations meet.
pub(super) const PATHS: [&str; 6] = ["a", "b", "c", "d/1", "d/2", "d/3"];

/// Nothing, fewer bytes than chunks, chunks inside the index, chunks in files.
const LENGTHS: [usize; 7] = [0, 1, 3, 5, 1 << 10, 100 << 10, 300 << 10];

/// The note of a put that says which content it is.
const NOTE: &str = "content";

/// The content of a put, made from its number.
fn content(number: u64) -> Vec<u8> {
    let mut rng = Rng::new(number);
    let length = LENGTHS[usize::try_from(rng.below(LENGTHS.len() as u64)).expect("an index")];
    rng.bytes(length)
}

/// What the clients are told while they work.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// To end.
    pub(super) stop: AtomicBool,
    /// To do one thing after the other, all at the first path.
    pub(super) hurry: AtomicBool,
}

/// A client and its history.
pub(super) struct Load {
    client: Client,
    number: u64,
    rng: Rng,
    puts: u64,
    began: Instant,
    done: Vec<Done>,
}

impl Load {
    /// Connects a client, which counts time from `began`.
    pub(super) async fn connect(config: &Path, number: u64, seed: u64, began: Instant) -> Self {
        let config = Config::load(config).expect("a valid configuration");
        let password = config.password_file.as_ref().expect("it names one");
        let password = Config::read_password(password).expect("a password");
        let user = config.user.clone().expect("it names one");
        let client = Client::connect(&config, Credentials::new(user, password)).await;
        let client = client.expect("the nodes are up");
        Self { client, number, rng: Rng::new(seed), puts: 0, began, done: Vec::new() }
    }

    /// Does this and that until told to stop; returns what was done.
    pub(super) async fn run(mut self, told: Arc<Told>) -> Vec<Done> {
        while !told.stop.load(Ordering::Relaxed) {
            let hurry = told.hurry.load(Ordering::Relaxed);
            // The second three paths are in less demand.
            let path = usize::try_from(self.rng.below(9)).expect("an index") % PATHS.len();
            let path = if hurry { 0 } else { path };
            match self.rng.below(11) {
                0..4 => self.put(path).await,
                4..9 => {
                    let strict = self.rng.below(2) == 0;
                    self.get(path, strict).await;
                }
                9 => self.remove(path).await,
                _ => self.list().await,
            }
            let pause = if hurry { 2 } else { 20 + self.rng.below(160) };
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        self.close().await
    }

    /// Reads every path once, and lists all; all of it has to succeed.
    pub(super) async fn read_all(mut self) -> Vec<Done> {
        self.list().await;
        let listed = |done: &Done| done.effect != Effect::Failed;
        assert!(self.done.iter().all(listed), "the listing, after all faults");
        for (path, name) in PATHS.iter().enumerate() {
            let effect = self.get(path, true).await;
            assert!(matches!(effect, Effect::Read(_)), "{name}, after all faults: {effect:?}");
        }
        self.close().await
    }

    async fn close(self) -> Vec<Done> {
        self.client.close().await;
        self.done
    }

    async fn put(&mut self, path: usize) {
        self.puts += 1;
        let number = self.number << 32 | self.puts;
        let mut options = PutOptions::default();
        options.metadata.insert(NOTE.to_owned(), number.to_string());
        let bytes = content(number).into();
        let put = self.client.put_bytes(file_path(path), bytes, options);
        let patience = patience(&mut self.rng);
        let started = self.began.elapsed();
        let ended = tokio::time::timeout(patience, put).await;
        let effect = outcome_of_write(Some(number), ended.ok().map(|done| done.map(drop)));
        self.note(path, started, effect);
    }

    async fn remove(&mut self, path: usize) {
        let options = GetOptions::default();
        let remove = self.client.remove(file_path(path), &options.cancel);
        let patience = patience(&mut self.rng);
        let started = self.began.elapsed();
        let ended = tokio::time::timeout(patience, remove).await;
        let effect = match ended {
            Ok(Err(Error::NotFound { .. })) => Effect::Read(None),
            other => outcome_of_write(None, other.ok()),
        };
        self.note(path, started, effect);
    }

    async fn get(&mut self, path: usize, strict: bool) -> Effect {
        let verify = self.rng.below(2) == 0;
        let options = GetOptions { strict, verify, ..GetOptions::default() };
        let sink = Sink::default();
        let started = self.began.elapsed();
        let got = self.client.get_stream(file_path(path), Box::new(sink.clone()), options).await;
        let effect = match got {
            Ok(report) if report.unconfirmed => Effect::ReadUnconfirmed(sink.recognize(&report)),
            Ok(report) => Effect::Read(sink.recognize(&report)),
            // Nothing says whether this one is confirmed, unless that was asked for.
            Err(Error::NotFound { unconfirmed: false, .. }) => Effect::Read(None),
            Err(Error::NotFound { .. }) => Effect::ReadUnconfirmed(None),
            Err(
                Error::Unavailable { .. }
                | Error::Incomplete { .. }
                | Error::Corrupt { .. }
                | Error::Unconfirmed { .. }
                | Error::Replaced { .. },
            ) => Effect::Failed,
            Err(error) => panic!("client {}: {}: {error:?}", self.number, PATHS[path]),
        };
        self.note(path, started, effect);
        effect
    }

    /// Lists everything: what is said of each path is a read of it, as good as a get's. What is
    /// missing may have been removed by one whom not enough nodes have heard: no listing tells.
    async fn list(&mut self) {
        let started = self.began.elapsed();
        let mut lister = self.client.list(Prefix::new("").expect("all there is"), true);
        let mut effects = [Effect::ReadUnconfirmed(None); PATHS.len()];
        loop {
            match lister.next().await {
                Ok(Some(listed)) => {
                    let path = PATHS.iter().position(|path| *path == listed.path.as_str());
                    let path = path.unwrap_or_else(|| panic!("nobody put {}", listed.path));
                    let manifest = listed.file.manifest.as_ref();
                    let manifest = manifest.expect("the listing is a full one");
                    let state = Some(number_of(manifest));
                    effects[path] = match listed.unconfirmed {
                        true => Effect::ReadUnconfirmed(state),
                        false => Effect::Read(state),
                    };
                }
                Ok(None) => break,
                Err(Error::Unavailable { .. }) => break,
                Err(error) => panic!("client {}: list: {error:?}", self.number),
            }
        }
        if lister.taking_part() < 2 {
            effects = [Effect::Failed; PATHS.len()];
        }
        for (path, effect) in effects.into_iter().enumerate() {
            self.note(path, started, effect);
        }
    }

    fn note(&mut self, path: usize, started: Duration, effect: Effect) {
        let ended = self.began.elapsed();
        self.done.push(Done { path, client: self.number, started, ended, effect });
    }
}

/// How long a client goes on with a write. Some end in the middle of it, as if killed.
fn patience(rng: &mut Rng) -> Duration {
    match rng.below(12) {
        0 => Duration::from_micros(200 + rng.below(60_000)),
        _ => Duration::from_secs(3600),
    }
}

/// What is known of a write that ended so; without an end it was left.
fn outcome_of_write(state: State, ended: Option<Result<(), Error>>) -> Effect {
    match ended {
        Some(Ok(())) => Effect::Wrote(state),
        None | Some(Err(Error::Unknown { .. })) => Effect::MayWrite(state),
        Some(Err(Error::Unavailable { .. } | Error::Refused { .. })) => Effect::DidNotWrite(state),
        Some(Err(error)) => panic!("no write ends so: {error:?}"),
    }
}

fn file_path(path: usize) -> FilePath {
    FilePath::new(PATHS[path]).expect("a valid path")
}

/// Which put a manifest is of.
fn number_of(manifest: &Manifest) -> u64 {
    manifest.metadata()[NOTE].parse().expect("a number was noted")
}

/// Where the bytes of a get go.
#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    /// The put whose bytes these are, exactly.
    fn recognize(&self, report: &GetReport) -> State {
        let number = number_of(&report.manifest);
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(*bytes == content(number), "{} bytes are not those of {number}", bytes.len());
        Some(number)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
