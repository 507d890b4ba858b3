//! What this machine can do with no store at all.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::content::Contents;
use crate::error::Error;
use crate::http::{Body, Connection, Request};
use crate::server::{self, Server};

const PIECE_BYTES: usize = 1 << 20;

fn piece() -> Result<Vec<u8>, Error> {
    Ok(Contents::fresh()?.body(0, PIECE_BYTES).to_vec())
}

/// Digests so many bytes that are in memory.
pub(crate) fn md5(bytes: u64) -> Result<(), Error> {
    let piece = piece()?;
    let mut context = md5::Context::new();
    (0..bytes / PIECE_BYTES as u64).for_each(|_| context.consume(&piece));
    std::hint::black_box(context.finalize());
    Ok(())
}

/// Sends so many bytes through one connection, from one thread to another.
pub(crate) fn loopback(bytes: u64) -> Result<(), Error> {
    let failed = || Error::io("send over loopback");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed())?;
    let address = listener.local_addr().map_err(failed())?;
    let sender = thread::spawn(move || {
        let piece = piece()?;
        let mut stream = TcpStream::connect(address).map_err(failed())?;
        for _ in 0..bytes / PIECE_BYTES as u64 {
            stream.write_all(&piece).map_err(failed())?;
        }
        Ok::<_, Error>(())
    });
    let (mut stream, _) = listener.accept().map_err(failed())?;
    let mut buffer = vec![0; PIECE_BYTES];
    while stream.read(&mut buffer).map_err(failed())? > 0 {}
    sender.join().map_err(|_| Error::refused("the sender", "panicked"))?
}

/// Writes so many bytes to a new file and syncs it once.
pub(crate) fn disk(bytes: u64, dir: &Path) -> Result<(), Error> {
    let path = dir.join("floor");
    let failed = || Error::file("write", &path);
    let piece = piece()?;
    let mut file = File::create(&path).map_err(failed())?;
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
        let (file, target) = (&file, &format!("/{name}"));
        let range = |quarter: u64| async move {
            let (start, end) = (quarter * size / 4, (quarter + 1) * size / 4);
            let headers = format!("Range: bytes={start}-{}\r\n", end - 1);
            let request = Request { method: "GET", target, headers: &headers, body: Body::NONE };
            let mut at = start;
            let mut take = |piece: &[u8]| {
                file.write_all_at(piece, at)?;
                at += piece.len() as u64;
                Ok(())
            };
            let mut connection = Connection::to(self.address);
            let answer = connection.ask_for(request, Some(&mut take)).await?.ok(target);
            answer.map(drop)
        };
        tokio::try_join!(range(0), range(1), range(2), range(3)).map(drop)
    }
}
