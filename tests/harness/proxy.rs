//! A TCP proxy in front of a node that fails on command, and an address where nobody answers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

use crate::frames::Frames;

/// What a proxy does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything on.
    Forward,
    /// Accepts connections and closes them at once, the open ones too.
    Close,
    /// Keeps connections open and passes nothing on any more.
    Swallow,
    /// Passes on what goes to the node, and nothing that comes from it.
    Mute,
    /// Keeps connections open and what comes through them for later.
    Hold,
}

/// A proxy in front of one node. Ends with all its connections when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    /// A std mutex is enough: it is held for a few instructions.
    mode: Mutex<Mode>,
    open: Mutex<Vec<TcpStream>>,
    to_node: AtomicU64,
    from_node: AtomicU64,
    calls: AtomicU64,
    resets: AtomicU64,
    /// Once so many bytes have come from the node, all is closed, as when the node dies.
    die_after: AtomicU64,
    /// Bytes per second in each direction of each connection.
    pace: AtomicU64,
    over: AtomicBool,
}

impl Proxy {
    /// Starts a proxy in front of `node` that passes everything on.
    pub fn to(node: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State {
            mode: Mutex::new(Mode::Forward),
            open: Mutex::new(Vec::new()),
            to_node: AtomicU64::new(0),
            from_node: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            resets: AtomicU64::new(0),
            die_after: AtomicU64::new(u64::MAX),
            pace: AtomicU64::new(u64::MAX),
            over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        let acceptor = std::thread::spawn(move || accept(&listener, node, &shared));
        Self { address, state, acceptor: Some(acceptor) }
    }

    /// Starts a proxy in front of each of these nodes.
    pub fn to_all(nodes: [SocketAddr; 4]) -> [Self; 4] {
        nodes.map(Self::to)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on does this.
    pub fn set(&self, mode: Mode) {
        *lock(&self.state.mode) = mode;
        if mode == Mode::Close {
            self.state.close_all();
        }
    }

    /// Lets at most so many bytes a second through, in each direction of each connection.
    pub fn pace(&self, bytes_per_second: u64) {
        self.state.pace.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Closes everything for good once the node has sent so many more bytes.
    pub fn die_after(&self, bytes: u64) {
        let limit = self.from_node() + bytes;
        self.state.die_after.store(limit, Ordering::Relaxed);
    }

    /// Bytes passed on to the node so far.
    pub fn to_node(&self) -> u64 {
        self.state.to_node.load(Ordering::Relaxed)
    }

    /// Calls of the node so far; 0 where the connection is encrypted.
    pub fn calls(&self) -> u64 {
        self.state.calls.load(Ordering::Relaxed)
    }

    /// Calls that the client has broken off so far; 0 where the connection is encrypted.
    pub fn resets(&self) -> u64 {
        self.state.resets.load(Ordering::Relaxed)
    }

    /// Bytes passed on from the node so far.
    pub fn from_node(&self) -> u64 {
        self.state.from_node.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
        self.state.close_all();
        // Wakes the acceptor.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            // A panic there is no reason for a second one here.
            let _ = acceptor.join();
        }
    }
}

impl State {
    fn close_all(&self) {
        for stream in lock(&self.open).drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn mode(&self) -> Mode {
        *lock(&self.mode)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, node: SocketAddr, state: &Arc<State>) {
    while let Ok((client, _)) = listener.accept() {
        if state.over.load(Ordering::Relaxed) {
            return;
        }
        if state.mode() == Mode::Close {
            continue;
        }
        let Ok(server) = TcpStream::connect(node) else {
            continue;
        };
        join(&client, &server, state);
    }
}

/// Passes bytes on in both directions, each in a thread that ends with its connection.
fn join(client: &TcpStream, server: &TcpStream, state: &Arc<State>) {
    let twin = |stream: &TcpStream| stream.try_clone().expect("a file descriptor");
    lock(&state.open).extend([twin(client), twin(server)]);
    for stream in [client, server] {
        stream.set_nodelay(true).expect("it is a TCP stream");
    }
    let (up, down) = ((twin(client), twin(server)), (twin(server), twin(client)));
    let shared = Arc::clone(state);
    std::thread::spawn(move || copy(up, &shared, |state| &state.to_node));
    let shared = Arc::clone(state);
    std::thread::spawn(move || copy(down, &shared, |state| &state.from_node));
}

fn copy(
    (mut from, mut to): (TcpStream, TcpStream),
    state: &State,
    counter: fn(&State) -> &AtomicU64,
) {
    let mut buffer = vec![0; 64 << 10];
    let to_node = std::ptr::eq(counter(state), &raw const state.to_node);
    let mut frames = Frames::default();
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while state.mode() == Mode::Hold && !state.over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let started = Instant::now();
        let is_lost = match state.mode() {
            Mode::Swallow => true,
            Mode::Mute => !to_node,
            Mode::Forward | Mode::Close | Mode::Hold => false,
        };
        if is_lost {
            continue;
        }
        // Counted first: who has seen the bytes sees them counted.
        counter(state).fetch_add(count as u64, Ordering::Relaxed);
        if to_node {
            let seen = frames.take(&buffer[..count]);
            state.calls.fetch_add(seen.calls, Ordering::Relaxed);
            state.resets.fetch_add(seen.resets, Ordering::Relaxed);
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        if state.from_node.load(Ordering::Relaxed) >= state.die_after.load(Ordering::Relaxed) {
            *lock(&state.mode) = Mode::Close;
            state.close_all();
            break;
        }
        keep_pace(state.pace.load(Ordering::Relaxed), count, started);
    }
    // The other direction may be over already.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

fn keep_pace(bytes_per_second: u64, count: usize, started: Instant) {
    if bytes_per_second < u64::MAX {
        let due = Duration::from_secs_f64(count as f64 / bytes_per_second as f64);
        std::thread::sleep(due.saturating_sub(started.elapsed()));
    }
}

/// An address that swallows every attempt to connect, as one behind a firewall does: its
/// queue of connections is full and nobody takes any.
#[derive(Debug)]
pub struct BlackHole {
    address: SocketAddr,
    _listener: tokio::net::TcpListener,
    _fillers: Vec<TcpStream>,
}

impl BlackHole {
    /// Makes one. Call it in a runtime.
    pub async fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        socket.bind(any).expect("a free port");
        let listener = socket.listen(1).expect("it is bound");
        let address = listener.local_addr().expect("it is bound");
        let mut fillers = Vec::new();
        while let Ok(filler) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            fillers.push(filler);
            assert!(fillers.len() < 100, "the queue of {address} does not fill");
        }
        Self { address, _listener: listener, _fillers: fillers }
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets, for one connection.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = stream.try_clone().unwrap();
            let _ = std::io::copy(&mut reader, &mut &stream);
        });
        address
    }

    fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_millis(300)))?;
        stream.write_all(&[7; 1000])?;
        stream.read_exact(&mut [0; 1000])
    }

    #[test]
    fn forwards_and_counts_until_told_otherwise() {
        let proxy = Proxy::to(echo());
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        exchange(&mut stream).unwrap();
        assert_eq!((proxy.to_node(), proxy.from_node()), (1000, 1000));
        proxy.set(Mode::Swallow);
        exchange(&mut stream).expect_err("nothing comes back");
        assert_eq!(proxy.to_node(), 1000);
    }

    #[test]
    fn loses_the_answers_only() {
        let proxy = Proxy::to(echo());
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        exchange(&mut stream).unwrap();
        proxy.set(Mode::Mute);
        exchange(&mut stream).expect_err("nothing comes back");
        assert_eq!((proxy.to_node(), proxy.from_node()), (2000, 1000));
    }

    #[test]
    fn dies_after_so_many_bytes() {
        let proxy = Proxy::to(echo());
        proxy.die_after(2500);
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        let exchanged = (0..9).take_while(|_| exchange(&mut stream).is_ok()).count();
        assert!((2..=3).contains(&exchanged), "{exchanged}");
        let mut next = TcpStream::connect(proxy.address()).unwrap();
        exchange(&mut next).expect_err("it stays dead");
    }

    #[test]
    fn closes_what_is_open_and_what_is_new() {
        let proxy = Proxy::to(echo());
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        exchange(&mut stream).unwrap();
        proxy.set(Mode::Close);
        exchange(&mut stream).expect_err("it is closed");
        let mut next = TcpStream::connect(proxy.address()).unwrap();
        exchange(&mut next).expect_err("it is closed");
    }

    #[test]
    fn nobody_connects_to_a_black_hole() {
        crate::api::block_on(async {
            let hole = BlackHole::new().await;
            let limit = Duration::from_millis(500);
            let error = TcpStream::connect_timeout(&hole.address(), limit).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        });
    }
}
