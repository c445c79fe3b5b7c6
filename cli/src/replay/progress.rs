//! The progress of long work, for people at a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use ftp_conntrack::replay::{Seen, Sink};
use ftp_conntrack::router::{Router, Verdict};

/// Short work needs no sign of life.
const PATIENCE: Duration = Duration::from_millis(500);
/// The clock is looked at once in so many packets.
const STRIDE: u64 = 1024;

/// Counts packets on a terminal's standard error, and wipes the count away in the end.
pub(crate) struct Progress {
    shown: Option<Instant>,
    packets: u64,
    visible: bool,
}

impl Progress {
    /// Progress that is shown while nothing else is written.
    pub(crate) fn alone() -> Self {
        Self::shown(std::io::stderr().is_terminal())
    }

    /// Progress beside lines on standard output: on the same terminal they are progress enough.
    pub(crate) fn beside_lines() -> Self {
        Self::shown(std::io::stderr().is_terminal() && !std::io::stdout().is_terminal())
    }

    fn shown(wanted: bool) -> Self {
        Self { shown: wanted.then(Instant::now), packets: 0, visible: false }
    }
}

impl Sink for Progress {
    fn packet(&mut self, _: Seen<'_>, _: Verdict, _: &Router) {
        self.count();
    }
}

impl Progress {
    /// One packet more.
    pub(crate) fn count(&mut self) {
        self.packets += 1;
        let Some(shown) = &mut self.shown else { return };
        if self.packets.is_multiple_of(STRIDE) && shown.elapsed() >= PATIENCE {
            *shown = Instant::now();
            self.visible = true;
            let _ = write!(std::io::stderr(), "\r{} packets ", self.packets);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.visible {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
