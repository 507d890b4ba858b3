//! Servers that end with this program, and tools that run to their end.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::meter;

/// A server comes up in seconds; a busy machine may take longer.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(60);

/// How often the memory of a tool is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A server. Dropping it kills it; so does the kernel, should this program be killed.
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// Starts `program`; what it says goes to `log`.
    ///
    /// Call it on the main thread: the kernel kills the child when the thread ends that made it.
    pub(crate) fn start(
        program: &Path,
        set_up: impl FnOnce(&mut Command),
        log: &Path,
    ) -> Result<Self, Error> {
        let says = File::create(log).map_err(Error::file("write", log))?;
        let twin = says.try_clone().map_err(Error::file("write", log))?;
        let mut command = tethered(program);
        set_up(&mut command);
        command.stdin(Stdio::null()).stdout(says).stderr(twin);
        let child = command.spawn().map_err(Error::file("run", program))?;
        Ok(Self { child })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that is killed when this program is, where util-linux is installed.
fn tethered(program: &Path) -> Command {
    const SETPRIV: &str = "/usr/bin/setpriv";
    if Path::new(SETPRIV).exists() {
        let mut command = Command::new(SETPRIV);
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// Runs a tool to its end and returns the most memory it had resident, in KiB. What it prints
/// is dropped, unless it fails. Call it on the main thread, like [`Server::start`].
pub(crate) async fn run_tool(
    program: &Path,
    set_up: impl FnOnce(&mut Command),
    limit: Duration,
) -> Result<u64, Error> {
    let (ended, peak) = run(program, set_up, limit).await?;
    if ended.status.success() {
        return Ok(peak);
    }
    let said = [ended.stdout, ended.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing said");
    Err(Error::refused(program.display().to_string(), format!("{}: {last}", ended.status)))
}

/// Runs a tool to its end and returns what it printed.
pub(crate) async fn ask_tool(
    program: &Path,
    set_up: impl FnOnce(&mut Command),
) -> Result<String, Error> {
    let (ended, _) = run(program, set_up, START_LIMIT).await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if ended.status.success() {
        Ok(text(&ended.stdout))
    } else {
        Err(Error::refused(program.display().to_string(), text(&ended.stderr)))
    }
}

async fn run(
    program: &Path,
    set_up: impl FnOnce(&mut Command),
    limit: Duration,
) -> Result<(std::process::Output, u64), Error> {
    let mut command = tethered(program);
    set_up(&mut command);
    command.stdin(Stdio::null());
    let mut command = tokio::process::Command::from(command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().map_err(Error::file("run", program))?;
    let pid = child.id();
    let mut peak = 0;
    let ended = async {
        let mut ended = std::pin::pin!(child.wait_with_output());
        loop {
            tokio::select! {
                ended = &mut ended => return ended,
                () = tokio::time::sleep(LOOK_EVERY) => {
                    peak = peak.max(pid.map_or(0, meter::peak_kib));
                }
            }
        }
    };
    let what = program.display().to_string();
    let ended = tokio::time::timeout(limit, ended).await;
    let ended = ended.map_err(|_| Error::Late { what, limit })?;
    Ok((ended.map_err(Error::file("wait for", program))?, peak))
}

/// Waits until somebody listens there.
pub(crate) async fn listens(address: SocketAddr, who: &str) -> Result<(), Error> {
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        if began.elapsed() > START_LIMIT {
            let what = format!("{who} listens on {address}");
            return Err(Error::Late { what, limit: START_LIMIT });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The first of `count` free ports in a row, below the ephemeral range, so that no outgoing
/// connection takes one. The same number of ports `above` them are free as well.
pub(crate) fn free_ports(count: u16, above: u16) -> Result<u16, Error> {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let mut random = [0; 2];
    // Without random numbers two runs may meet; then one of them looks on.
    let _ = getrandom::fill(&mut random);
    let start = u16::from_ne_bytes(random) % 400;
    let firsts = (0..400).map(|step| 12_000 + (start + step) % 400 * 20);
    let mut firsts = firsts.filter(|first| (*first..first + count).all(free));
    let first = firsts.find(|first| (first + above..first + above + count).all(free));
    first.ok_or_else(|| Error::refused("this machine", "no free ports between 12000 and 20000"))
}
