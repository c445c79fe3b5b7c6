//! What is wrong with the capture, told on standard error while it is read.

use ftp_conntrack::capture::ReadError;
use ftp_conntrack::replay::Sink;

use crate::failure::{Failure, warn};

/// So many damaged places are told one by one.
const MOST: u64 = 10;

pub(crate) struct Notices {
    capture: String,
    damaged: u64,
    unreadable: Option<Failure>,
}

impl Notices {
    pub(crate) fn new(capture: &str) -> Self {
        Self { capture: capture.to_owned(), damaged: 0, unreadable: None }
    }

    /// Tells how much more there was.
    ///
    /// A capture that ends early was processed up to there; one that the system could not read is a wrong input.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        if self.damaged > MOST {
            warn(format_args!("replay: {}: {} more damaged places", self.capture, self.damaged - MOST));
        }
        self.unreadable.map_or(Ok(()), Err)
    }
}

impl Sink for Notices {
    fn broken(&mut self, error: &ReadError) {
        let capture = &self.capture;
        match error {
            ReadError::Io { .. } => self.unreadable = Some(Failure::new(format_args!("{capture}: {error}"))),
            _ if self.damaged >= MOST => self.damaged += 1,
            _ => {
                self.damaged += 1;
                warn(format_args!("replay: {capture}: {error}; what could be read is processed"));
            }
        }
    }
}
