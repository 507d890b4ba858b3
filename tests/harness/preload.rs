//! Small libraries that are loaded in front of the C library of a program under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A compiled library, in a folder of its own.
#[derive(Debug)]
pub(crate) struct Preload {
    dir: TempDir,
}

impl Preload {
    /// Compiles it; why that cannot be done here, if so.
    pub(crate) fn compile(source: &str) -> Result<Self, String> {
        let dir = tempfile::tempdir().expect("the temporary directory is writable");
        let preload = Self { dir };
        let file = preload.file("library.c");
        fs::write(&file, source).expect("a new file");
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O2", "-o"]).arg(preload.library()).arg(file);
        let output = command.arg("-ldl").output().map_err(|error| format!("cc: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(preload) } else { Err(said) }
    }

    /// A file in its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a program must find in its environment to load it.
    pub(crate) fn env(&self) -> (String, String) {
        ("LD_PRELOAD".to_owned(), Path::display(&self.library()).to_string())
    }

    fn library(&self) -> PathBuf {
        self.file("library.so")
    }
}
