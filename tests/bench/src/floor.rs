//! What this machine can do with no store at all.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use dfs_proto::digest::Md5Hasher;
use tokio::task::JoinSet;

use crate::content::Contents;
use crate::error::Error;
use crate::http::{Body, Connection, Request};
use crate::server::{self, Server};
use crate::wait;

const PIECE_BYTES: usize = 1 << 20;

fn piece() -> Result<Vec<u8>, Error> {
    Ok(Contents::fresh()?.body(0, PIECE_BYTES).to_vec())
}

/// Digests so many bytes that are in memory, as dfs does.
pub(crate) fn md5(bytes: u64) -> Result<(), Error> {
    let piece = piece()?;
    let mut hasher = Md5Hasher::new();
    (0..bytes / PIECE_BYTES as u64).for_each(|_| hasher.update(&piece));
    std::hint::black_box(hasher.finish());
    Ok(())
}

/// Sends so many bytes through one connection, from one thread to another.
pub(crate) fn loopback(bytes: u64) -> Result<(), Error> {
    let failed = || Error::io("send over loopback");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed())?;
    let address = listener.local_addr().map_err(failed())?;
    let failed_to_send = failed();
    let piece = piece()?;
    // The kernel connects the two before anybody accepts: neither waits for the other in vain.
    let mut sending = TcpStream::connect(address).map_err(failed())?;
    let (mut stream, _) = listener.accept().map_err(failed())?;
    let sender = thread::spawn(move || {
        let mut pieces = 0..bytes / PIECE_BYTES as u64;
        pieces.try_for_each(|_| sending.write_all(&piece)).map_err(failed_to_send)
    });
    let mut buffer = vec![0; PIECE_BYTES];
    while stream.read(&mut buffer).map_err(failed())? > 0 {}
    sender.join().map_err(|_| Error::refused("the sender", "panicked"))?
}

/// Writes so many bytes to a new file and syncs it once.
pub(crate) fn disk(bytes: u64, path: &Path) -> Result<(), Error> {
    let failed = || Error::file("write", path);
    let piece = piece()?;
    let mut file = File::create(path).map_err(failed())?;
    for _ in 0..bytes / PIECE_BYTES as u64 {
        file.write_all(&piece).map_err(failed())?;
    }
    file.sync_all().map_err(failed())
}

/// nginx in front of a folder.
pub(crate) struct Nginx {
    address: SocketAddr,
    server: Server,
}

impl Nginx {
    /// Serves `root`, with its own files in `dir`.
    pub(crate) async fn start(nginx: &Path, root: &Path, dir: &Path) -> Result<Self, Error> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server::free_ports(1, 0)?));
        fs::create_dir_all(dir).map_err(Error::file("make", dir))?;
        let (root, home) = (root.display(), dir.display());
        let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let places = kinds.map(|kind| format!("  {kind}_temp_path {home}/{kind};\n")).concat();
        let text = format!(
            "daemon off; master_process off; worker_processes 1; pid {home}/pid;\n\
             error_log {home}/error.log;\nevents {{ worker_connections 64; }}\nhttp {{\n{places}  \
             access_log off; sendfile on; tcp_nopush on;\n  server {{ listen {address}; root \
             {root}; }}\n}}\n"
        );
        let config = dir.join("nginx.conf");
        fs::write(&config, text).map_err(Error::file("write", &config))?;
        let set_up = |command: &mut Command| {
            command.args(["-p"]).arg(dir).arg("-c").arg(&config);
        };
        let server = Server::start(nginx, set_up, &dir.join("log"))?;
        server::listens(address, "nginx").await?;
        Ok(Self { address, server })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Reads a file of `size` bytes in four ranges at once into a local file.
    pub(crate) async fn get(&self, name: &str, size: u64, local: &Path) -> Result<(), Error> {
        let file = File::create(local).map_err(Error::file("write", local))?;
        let file = Arc::new(file);
        let mut ranges = JoinSet::new();
        for quarter in 0..4 {
            let range = quarter * size / 4..(quarter + 1) * size / 4;
            ranges.spawn(read_range(self.address, format!("/{name}"), range, Arc::clone(&file)));
        }
        wait::all(ranges).await.map(drop)
    }
}

async fn read_range(
    address: SocketAddr,
    target: String,
    range: Range<u64>,
    file: Arc<File>,
) -> Result<(), Error> {
    let headers = format!("Range: bytes={}-{}\r\n", range.start, range.end - 1);
    let request = Request { method: "GET", target: &target, headers: &headers, body: Body::NONE };
    let mut at = range.start;
    let mut take = |piece: &[u8]| {
        file.write_all_at(piece, at)?;
        at += piece.len() as u64;
        Ok(())
    };
    let answer = Connection::to(address).ask_for(request, Some(&mut take)).await?;
    answer.ok(&target).map(drop)
}
