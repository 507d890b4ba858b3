//! Clients that put, get and remove, and write down what they are told.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dfs_client::{Client, Error, FilePath, GetOptions, GetReport, Prefix, PutOptions};
use dfs_proto::manifest::Manifest;

use crate::Rng;
use crate::history::{Done, Effect, State};

/// What clients quarrel about.
#[derive(Debug)]
pub struct Ground {
    /// A few paths, so that operations meet; the first half is in more demand.
    pub paths: &'static [&'static str],
    /// How long contents are, in bytes.
    pub lengths: &'static [usize],
}

/// Tells the time since some moment.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The note of a put that says which content it is.
const NOTE: &str = "content";

/// The content of a put, made from its number.
fn content(number: u64, lengths: &[usize]) -> Vec<u8> {
    let mut rng = Rng::new(number);
    let length = lengths[rng.index(lengths.len())];
    rng.bytes(length)
}

/// What the clients are told while they work.
#[derive(Debug, Default)]
pub struct Told {
    /// To end.
    pub stop: AtomicBool,
    /// To do one thing after the other, all at the first path.
    pub hurry: AtomicBool,
}

/// A client and its history.
pub struct Load {
    client: Client,
    number: u64,
    ground: &'static Ground,
    clock: Clock,
    folder: Option<PathBuf>,
    rng: Rng,
    puts: u64,
    done: Vec<Done>,
}

impl Load {
    /// A client that will do what follows from `seed`.
    pub fn new(
        client: Client,
        number: u64,
        seed: u64,
        ground: &'static Ground,
        clock: Clock,
    ) -> Self {
        let (rng, folder, done) = (Rng::new(seed), None, Vec::new());
        Self { client, number, ground, clock, folder, rng, puts: 0, done }
    }

    /// Has it read into files of this folder, not into streams.
    #[must_use]
    pub fn reading_to(self, folder: PathBuf) -> Self {
        Self { folder: Some(folder), ..self }
    }

    /// Does this and that until told to stop; returns what was done.
    pub async fn run(mut self, told: Arc<Told>) -> Vec<Done> {
        while !told.stop.load(Ordering::Relaxed) {
            let hurry = told.hurry.load(Ordering::Relaxed);
            let paths = self.ground.paths.len();
            let path = self.rng.index(paths + paths / 2) % paths;
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
    pub async fn read_all(mut self) -> Vec<Done> {
        self.list().await;
        let listed = |done: &Done| done.effect != Effect::Failed;
        assert!(self.done.iter().all(listed), "the listing, after all faults");
        for (path, name) in self.ground.paths.iter().enumerate() {
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
        let bytes = content(number, self.ground.lengths).into();
        let put = self.client.put_bytes(self.file_path(path), bytes, options);
        let patience = patience(&mut self.rng);
        let started = (self.clock)();
        let ended = tokio::time::timeout(patience, put).await;
        let effect = outcome_of_write(Some(number), ended.ok().map(|done| done.map(drop)));
        self.note(path, started, effect);
    }

    async fn remove(&mut self, path: usize) {
        let options = GetOptions::default();
        let remove = self.client.remove(self.file_path(path), &options.cancel);
        let patience = patience(&mut self.rng);
        let started = (self.clock)();
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
        let started = (self.clock)();
        let effect = match self.read(path, options).await {
            Ok((report, bytes)) => {
                let state = recognized(&report, &bytes, self.ground.lengths);
                if report.unconfirmed {
                    Effect::ReadUnconfirmed(state)
                } else {
                    Effect::Read(state)
                }
            }
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
            Err(error) => panic!("client {}: {}: {error:?}", self.number, self.ground.paths[path]),
        };
        self.note(path, started, effect);
        effect
    }

    async fn read(&self, path: usize, options: GetOptions) -> Result<(GetReport, Vec<u8>), Error> {
        let path = self.file_path(path);
        if let Some(folder) = &self.folder {
            let local = folder.join(format!("got-by-{}", self.number));
            let report = self.client.get(path, &local, options).await?;
            return Ok((report, fs::read(&local).expect("what was got")));
        }
        let sink = Sink::default();
        let report = self.client.get_stream(path, Box::new(sink.clone()), options).await?;
        Ok((report, sink.taken()))
    }

    /// Lists everything: what is said of each path is a read of it, as good as a get's. What is
    /// missing may have been removed by one whom not enough nodes have heard: no listing tells.
    async fn list(&mut self) {
        let started = (self.clock)();
        let mut lister = self.client.list(Prefix::new("").expect("all there is"), true);
        let mut effects = vec![Effect::ReadUnconfirmed(None); self.ground.paths.len()];
        loop {
            match lister.next().await {
                Ok(Some(listed)) => {
                    let path =
                        self.ground.paths.iter().position(|path| *path == listed.path.as_str());
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
            effects.fill(Effect::Failed);
        }
        for (path, effect) in effects.into_iter().enumerate() {
            self.note(path, started, effect);
        }
    }

    fn file_path(&self, path: usize) -> FilePath {
        FilePath::new(self.ground.paths[path]).expect("a valid path")
    }

    fn note(&mut self, path: usize, started: Duration, effect: Effect) {
        let ended = (self.clock)();
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

/// Which put a manifest is of.
fn number_of(manifest: &Manifest) -> u64 {
    manifest.metadata()[NOTE].parse().expect("a number was noted")
}

/// The put whose bytes these are, exactly.
fn recognized(report: &GetReport, bytes: &[u8], lengths: &[usize]) -> State {
    let number = number_of(&report.manifest);
    assert!(*bytes == content(number, lengths), "{} bytes are not those of {number}", bytes.len());
    Some(number)
}

/// Where the bytes of a get go.
#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn taken(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
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
