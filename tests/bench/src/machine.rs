//! What a run was measured on, and with which programs.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::error::Error;
use crate::results::Run;
use crate::target::Programs;

/// Describes this machine and the programs.
pub(crate) fn describe(
    programs: &Programs,
    nginx: Option<&Path>,
    commit: Option<String>,
) -> Result<Run, Error> {
    let mut versions = vec![version("dfs", &programs.bin.join("dfsd"), "--version")];
    versions.extend(programs.weed.as_deref().map(|path| version("SeaweedFS", path, "version")));
    versions.extend(programs.garage.as_deref().map(|path| version("Garage", path, "--version")));
    versions.extend(nginx.map(|path| version("nginx", path, "-v")));
    let day = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let mut id = [0; 4];
    getrandom::fill(&mut id)
        .map_err(|error| Error::refused("the system's random numbers", error))?;
    let id = format!("{:08x}", u32::from_ne_bytes(id));
    Ok(Run { id, commit, day, machine: machine(), versions })
}

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (cpus, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kib: u64 = field(&memory, "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    let gib = (kib as f64 / f64::from(1 << 20)).round();
    let cpu = field(&cpus, "model name");
    format!("{cores} cores of {cpu}, {gib} GiB of memory, Linux {}", kernel.trim())
}

/// A program and the first line of what it says its version is.
fn version(name: &str, program: &Path, flag: &str) -> (String, String) {
    let said = Command::new(program).arg(flag).output();
    let said = said.map(|said| [said.stdout, said.stderr].concat()).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().next().unwrap_or("unknown").trim();
    (name.to_owned(), line.to_owned())
}
