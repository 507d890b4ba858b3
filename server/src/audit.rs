//! The audit log: who logged in, put, removed and was refused; one JSON object a line.
//!
//! The file is the operator's: paths are in it, passwords and tokens never. A thread of its own
//! writes the lines, so that no caller waits for the disk. Where the disk does not keep up, or
//! callers are refused by the thousand, lines are lost, and a line says how many. The file is only ever appended to: who rotates it copies
//! it and truncates it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

use crate::clock::now_ms;

/// Most lines that wait for the disk.
const WAITING: usize = 8192;

/// Lines about callers that were refused that are written at once: whoever reaches the port can
/// cause them.
const REFUSALS: f64 = 1000.0;
/// And how many more a second.
const REFUSALS_A_SECOND: f64 = 10.0;

/// What is told of.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    /// A user got a token.
    Login { user: &'a str },
    /// Somebody got none. What cannot be a user's name is not written: it may be a password.
    LoginRefused { user: Option<&'a str>, why: String },
    /// A token was ended by its user.
    Logout { user: &'a str },
    /// A call that its caller may not make.
    Refused { user: Option<&'a str>, method: &'a str, why: &'a str },
    /// A version of a file was committed here.
    Put { user: &'a str, path: &'a str, bytes: u64, upload: String },
    /// A removal was committed here.
    Removed { user: &'a str, path: &'a str },
    /// A repair was started here.
    Repair { user: &'a str, prefix: &'a str, all_users: bool },
}

#[derive(Serialize)]
struct Line<'a> {
    /// Milliseconds since 1970.
    time_ms: u64,
    /// Where the call came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<IpAddr>,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

/// Where events are told. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Audit(Option<Arc<Log>>);

#[derive(Debug)]
struct Log {
    lines: SyncSender<String>,
    lost: Arc<AtomicU64>,
    /// Held to take one.
    refusals: Mutex<Refusals>,
}

/// How many lines about refused callers may be written.
#[derive(Debug)]
struct Refusals {
    left: f64,
    at: Instant,
}

impl Refusals {
    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let left = (self.left + passed * REFUSALS_A_SECOND).min(REFUSALS);
        let taken = left >= 1.0;
        *self = Self { left: if taken { left - 1.0 } else { left }, at: now };
        taken
    }
}

impl Event<'_> {
    /// Whether anybody at all can cause it, as often as he likes.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::LoginRefused { .. } | Self::Refused { .. })
    }
}

impl Audit {
    /// Opens the log; without a file nothing is told.
    pub(crate) fn open(file: Option<&Path>) -> io::Result<Self> {
        let Some(file) = file else { return Ok(Self(None)) };
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
        let (lines, waiting) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        std::thread::Builder::new()
            .name("audit-log".into())
            .spawn(move || write(file, &waiting, &counted))?;
        Ok(Self(Some(Arc::new(Log::new(lines, lost)))))
    }

    /// Whether anybody listens: else an event need not be made.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Tells of an event.
    pub(crate) fn tell(&self, from: Option<IpAddr>, event: &Event<'_>) {
        let Some(log) = &self.0 else { return };
        if event.is_refusal() && !log.may_refuse() {
            log.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let line = Line { time_ms: now_ms(), from, event };
        let sent = serde_json::to_string(&line).map(|line| log.lines.try_send(line));
        if !matches!(sent, Ok(Ok(()))) {
            log.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Log {
    fn new(lines: SyncSender<String>, lost: Arc<AtomicU64>) -> Self {
        let refusals = Mutex::new(Refusals { left: REFUSALS, at: Instant::now() });
        Self { lines, lost, refusals }
    }

    fn may_refuse(&self) -> bool {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now())
    }
}

/// Writes what comes until nobody can tell any more; what is there goes out together.
fn write(file: File, waiting: &Receiver<String>, lost: &AtomicU64) {
    let mut file = BufWriter::new(file);
    let mut failed = false;
    while let Ok(first) = waiting.recv() {
        let written = write_all(&mut file, first, waiting, lost);
        if let (Err(error), false) = (&written, failed) {
            tracing::error!(%error, "the audit log cannot be written; lines are lost");
        }
        failed = written.is_err();
    }
}

fn write_all(
    file: &mut impl Write,
    first: String,
    waiting: &Receiver<String>,
    lost: &AtomicU64,
) -> io::Result<()> {
    let mut next = Some(first);
    while let Some(line) = next {
        if let Err(error) = writeln!(file, "{line}") {
            lost.fetch_add(1, Ordering::Relaxed);
            return Err(error);
        }
        next = waiting.try_recv().ok();
    }
    let missing = lost.swap(0, Ordering::Relaxed);
    if missing > 0 {
        let time_ms = now_ms();
        writeln!(file, "{{\"time_ms\":{time_ms},\"event\":\"lost\",\"lines\":{missing}}}")?;
    }
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};

    /// The lines of a log, once there are as many.
    fn lines(file: &Path, count: usize) -> Vec<serde_json::Value> {
        let started = Instant::now();
        loop {
            let text = std::fs::read_to_string(file).unwrap();
            if text.lines().count() >= count {
                return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            }
            assert!(started.elapsed() < Duration::from_secs(10), "{text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn events_are_lines_and_the_file_is_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.log");
        let from = Some(IpAddr::from([10, 0, 0, 7]));
        let path = "odd \"name\"\\ ✓";
        let put = Event::Put { user: "alice", path, bytes: 7, upload: "00ff".to_owned() };
        for round in 1..=2 {
            let audit = Audit::open(Some(&file)).unwrap();
            audit.tell(from, &put);
            audit.tell(None, &Event::LoginRefused { user: None, why: "no".to_owned() });
            let lines = lines(&file, round * 2);
            assert_eq!(lines[0]["event"], "put");
            assert_eq!(lines[0]["path"], path);
            assert_eq!(lines[0]["from"], "10.0.0.7");
            assert!(lines[0]["time_ms"].as_u64().unwrap() > 1_700_000_000_000);
            let last = lines.last().unwrap();
            assert_eq!((&last["event"], last.get("from")), (&"login_refused".into(), None));
        }
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn lines_that_find_no_room_are_counted() {
        let (lines, waiting) = sync_channel(2);
        let lost = Arc::new(AtomicU64::new(0));
        let audit = Audit(Some(Arc::new(Log::new(lines, Arc::clone(&lost)))));
        for _ in 0..5 {
            audit.tell(None, &Event::Login { user: "alice" });
        }
        let mut text = Vec::new();
        write_all(&mut text, waiting.recv().unwrap(), &waiting, &lost).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.matches("\"login\"").count(), 2, "{text}");
        assert!(text.ends_with("\"event\":\"lost\",\"lines\":3}\n"), "{text}");
        assert_eq!(lost.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn refused_callers_do_not_fill_the_disk() {
        let (lines, waiting) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let audit = Audit(Some(Arc::new(Log::new(lines, Arc::clone(&lost)))));
        let refused = Event::Refused { user: None, method: "/x", why: "no token" };
        for _ in 0..3000 {
            audit.tell(None, &refused);
        }
        audit.tell(None, &Event::Login { user: "alice" });
        let written = waiting.try_iter().count();
        assert!((1001..1100).contains(&written), "{written}");
        assert_eq!(lost.load(Ordering::Relaxed), 3001 - written as u64);
        let (mut bucket, now) = (Refusals { left: 0.0, at: Instant::now() }, Instant::now());
        assert!(!bucket.take(now));
        assert!(bucket.take(now + std::time::Duration::from_millis(150)));
    }

    #[test]
    fn without_a_file_nothing_is_told_and_a_bad_one_is_an_error() {
        let audit = Audit::open(None).unwrap();
        assert!(!audit.is_on());
        audit.tell(None, &Event::Login { user: "alice" });
        assert!(Audit::open(Some(Path::new("/nowhere/audit.log"))).is_err());
    }
}
