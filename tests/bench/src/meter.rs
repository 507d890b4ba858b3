//! What work costs: time, processor time and memory of the processes that do it, from /proc.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

/// Ticks of /proc/PID/stat in a second, on every Linux of today.
const TICKS: u64 = 100;

/// What one piece of work cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) elapsed: Duration,
    /// Processor time of this process and of the tools it ran.
    pub(crate) client: Duration,
    /// Processor time of the servers.
    pub(crate) servers: Duration,
    /// The most memory the servers had resident, one by one and added up, in KiB.
    pub(crate) servers_peak_kib: u64,
    /// The most memory that any one server had resident, in KiB.
    pub(crate) server_peak_kib: u64,
    /// The most memory this process had resident, in KiB.
    pub(crate) driver_peak_kib: u64,
}

/// Measures from its start on.
pub(crate) struct Meter<'a> {
    servers: &'a [u32],
    began: Instant,
    client: u64,
    before: u64,
}

impl<'a> Meter<'a> {
    /// Starts; the peaks of memory are counted anew.
    pub(crate) fn start(servers: &'a [u32]) -> Self {
        servers.iter().for_each(|pid| forget_peak(*pid));
        forget_peak(std::process::id());
        let (client, before) = (own_ticks(), ticks_of(servers));
        Self { servers, began: Instant::now(), client, before }
    }

    /// What it has cost so far.
    pub(crate) fn stop(&self) -> Cost {
        let elapsed = self.began.elapsed();
        let peaks: Vec<u64> = self.servers.iter().map(|pid| peak_kib(*pid)).collect();
        Cost {
            elapsed,
            client: time(own_ticks().saturating_sub(self.client)),
            servers: time(ticks_of(self.servers).saturating_sub(self.before)),
            servers_peak_kib: peaks.iter().sum(),
            server_peak_kib: peaks.iter().copied().max().unwrap_or_default(),
            driver_peak_kib: peak_kib(std::process::id()),
        }
    }
}

fn time(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Processor time of this process and of its children that have ended, in ticks.
fn own_ticks() -> u64 {
    stat(std::process::id()).iter().sum()
}

fn ticks_of(pids: &[u32]) -> u64 {
    pids.iter().flat_map(|pid| stat(*pid).into_iter().take(2)).sum()
}

/// Ticks in user mode, in the kernel, and the same of children that have ended; zeros for a
/// process that is gone.
fn stat(pid: u32) -> [u64; 4] {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may have spaces in it.
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    let mut fields = after.split_whitespace().skip(11).map(|field| field.parse().unwrap_or(0));
    std::array::from_fn(|_| fields.next().unwrap_or(0))
}

/// The most memory a process had resident, in KiB; 0 for one that is gone.
pub(crate) fn peak_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn forget_peak(pid: u32) {
    // Where this is not allowed the peak is that of the whole run, which is no less.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// A page of memory, in bytes.
const PAGE_BYTES: usize = 4096;

/// Waits until all that was written is on disk, so that no work pays for what came before it,
/// and has as much free memory at hand as work on so many bytes may take. A virtual machine gives
/// memory that it has not used for two seconds back to its host, and to get it again takes longer
/// than to store what goes into it: which of the systems pays for that would be chance.
pub(crate) fn settle(bytes: u64) {
    rustix::fs::sync();
    let wanted = bytes.saturating_mul(2).saturating_add(64 << 20).min(available_bytes() / 2);
    // By a process of its own: what an allocator keeps would count as the client's memory.
    let Ok(program) = std::env::current_exe() else { return };
    // Without enough of it the work pays as it would have.
    let _ = Command::new(program).arg("touch").arg(wanted.to_string()).status();
}

/// Takes so many bytes of memory, for a moment.
pub(crate) fn touch(bytes: u64) {
    let mut memory = vec![0_u8; usize::try_from(bytes).unwrap_or(0)];
    memory.iter_mut().step_by(PAGE_BYTES).for_each(|byte| *byte = 1);
    std::hint::black_box(memory);
}

/// What programs may still take, in bytes.
fn available_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0_u64).saturating_mul(1024)
}

/// Empties the page cache. `false` where that is not allowed: it needs root.
pub(crate) fn chill() -> bool {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen() {
        let pids = [std::process::id()];
        let meter = Meter::start(&pids);
        let mut digest = md5::compute([0; 1000]);
        let block = vec![1; 1 << 20];
        while meter.began.elapsed() < Duration::from_millis(200) {
            digest = md5::compute([&digest[..], &block].concat());
        }
        let cost = meter.stop();
        assert!(cost.client >= Duration::from_millis(50), "{cost:?} {digest:?}");
        assert!(cost.servers >= Duration::from_millis(50), "{cost:?}");
        assert!(cost.server_peak_kib >= 1024, "{cost:?}");
    }
}
