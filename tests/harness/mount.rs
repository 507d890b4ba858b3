//! File systems of a test's own: one that loses what was not synced, and small ones that get
//! full.
//!
//! They need root, and a kernel that lends loop devices. Where there is none of that the reason
//! is returned, for the test to say that it was skipped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::Cluster;
use crate::cluster::NODES;
use crate::content::python;

/// A mounted file system. Dropping it unmounts it; drop what uses it first.
#[derive(Debug)]
pub struct Mount {
    /// The image for a loop device, if that is what is mounted.
    image: Option<PathBuf>,
    dir: TempDir,
}

impl Mount {
    /// Makes an image of `kind`, `ext4` or `xfs`, and mounts it.
    pub fn image(kind: &str, bytes: u64) -> Result<Self, String> {
        let dir = new_dir();
        let image = dir.path().join("image");
        File::create(&image).and_then(|file| file.set_len(bytes)).expect("a sparse file");
        let force = if kind == "xfs" { "-f" } else { "-F" };
        run(Command::new(format!("mkfs.{kind}")).args(["-q", force]).arg(&image))?;
        let mount = Self { image: Some(image), dir };
        mount.mount()?;
        Ok(mount)
    }

    /// Mounts memory with these options, such as `size=64m,nr_inodes=500`.
    pub fn memory(options: &str) -> Result<Self, String> {
        let mount = Self { image: None, dir: new_dir() };
        let mut command = Command::new("mount");
        run(command.args(["-t", "tmpfs", "-o", options, "none"]).arg(mount.path()))?;
        Ok(mount)
    }

    /// Shows a directory once more, without the right to change anything in it.
    pub fn read_only(of: &Path) -> Result<Self, String> {
        let mount = Self { image: None, dir: new_dir() };
        run(Command::new("mount").arg("--bind").arg(of).arg(mount.path()))?;
        let mut command = Command::new("mount");
        run(command.args(["-o", "remount,ro,bind"]).arg(mount.path()))?;
        Ok(mount)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    fn mount(&self) -> Result<(), String> {
        let image = self.image.as_ref().expect("only an image is mounted again");
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(self.path()))
    }

    /// Cuts the power: from now on nothing reaches the image, and what was not synced never
    /// did. Everything that uses it gets errors.
    pub fn cut_power(&self) {
        // The system's request to shut a file system down without writing its log.
        let program = "import fcntl,os,struct,sys\n\
            d=os.open(sys.argv[1],os.O_RDONLY)\n\
            fcntl.ioctl(d,0x8004587d,struct.pack('I',2))";
        let path = self.path();
        python(&["-c", program, path.to_str().expect("temporary directories are UTF-8")], b"");
    }

    /// Mounts the image again as after a restart. Nobody may use it any more.
    pub fn remount(&self) {
        run(Command::new("umount").arg(self.path())).expect("nobody uses it");
        self.mount().expect("it was mounted before");
    }

    /// Has the nodes of a cluster of which nothing runs keep their data here.
    pub fn take(&self, cluster: &Cluster, nodes: &[usize]) {
        for node in NODES.into_iter().filter(|node| nodes.contains(node)) {
            let (from, to) = (cluster.data_dir(node), self.path().join(format!("dfs{node}")));
            run(Command::new("cp").arg("-a").arg("--sparse=always").arg(&from).arg(&to))
                .expect("room for it");
            fs::remove_dir_all(&from).expect("the node does not run");
            std::os::unix::fs::symlink(&to, &from).expect("a free name");
        }
        run(Command::new("sync").arg("-f").arg(self.path())).expect("a disk that works");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let path = self.path();
        if run(Command::new("umount").arg(&path)).is_err() {
            // Something still uses it, while a test panics; at least the name goes.
            let _ = run(Command::new("umount").arg("-l").arg(&path));
        }
    }
}

fn new_dir() -> TempDir {
    let dir = tempfile::Builder::new().prefix("dfs-mount-").tempdir();
    let dir = dir.expect("the temporary directory is writable");
    fs::create_dir(dir.path().join("mounted")).expect("a new directory");
    dir
}

/// Runs a command to its end; what it says, if it fails.
fn run(command: &mut Command) -> Result<(), String> {
    let name = Path::new(command.get_program()).display().to_string();
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
