//! What the user reads while waiting: one line at a time on stderr, past the capture of test runners, so that
//! a long build is never silent.

use std::fmt::Display;
use std::io::Write;

/// Writes one line. A closed stderr is not worth an error.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "testenv: {line}");
}
