//! The reason why the tool cannot do as it was asked.

use std::fmt::{self, Display, Formatter};
use std::io::{IsTerminal, Write};
use std::path::Path;

/// One sentence: what is wrong, where, and what would be right.
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(sentence: impl Display) -> Self {
        Self(sentence.to_string())
    }

    /// Something is wrong with the file of this name.
    pub(crate) fn of_file(path: &Path, wrong: impl Display) -> Self {
        Self(format!("{}: {wrong}", path.display()))
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Writes a line on standard error, on one line whatever is in it.
pub(crate) fn warn(line: impl Display) {
    let mut stderr = std::io::stderr();
    // A count of packets may stand there.
    let wiped = if stderr.is_terminal() { "\r\x1b[K" } else { "" };
    let line: String = line.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let _ = writeln!(stderr, "{wiped}{line}");
}
