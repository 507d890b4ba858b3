//! What does not run on this machine, said so that it is seen.

use std::io::Write;

/// Says loudly that a test, or a part of it, does not run. What `eprintln!` says is shown of tests that
/// fail only; this goes past that.
pub fn skipped(test: &str, why: &str) {
    let text = format!("SKIPPED {test}: {why}\n");
    // Nobody is left to be told that it could not be said.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set in the run of this program that [`a_passing_test_is_heard`] looks at.
    const INSIDE: &str = "DFS_TEST_SKIPS";

    #[test]
    fn a_passing_test_is_heard() {
        if std::env::var_os(INSIDE).is_some() {
            return skipped("an example", "it only shows that this is seen");
        }
        let program = std::env::current_exe().unwrap();
        let test = ["--exact", "skip::tests::a_passing_test_is_heard"];
        let output = Command::new(program).args(test).env(INSIDE, "1").output().unwrap();
        let heard = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(heard, "SKIPPED an example: it only shows that this is seen\n");
    }
}
