//! Notices about a capture's faults, printed on standard error while it is read.

use ftp_conntrack::capture::ReadError;
use ftp_conntrack::replay::Sink;

use crate::failure::{Failure, warn};

/// So many damaged places are told one by one.
const MOST: u64 = 10;

pub(crate) struct Notices {
    capture: String,
    places: u64,
    unreadable: Option<Failure>,
}

impl Notices {
    pub(crate) fn new(capture: &str) -> Self {
        Self { capture: capture.to_owned(), places: 0, unreadable: None }
    }

    /// Tells how much more there was.
    ///
    /// A capture that ends early was processed up to there; one that the system could not read is a wrong input.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        if self.places > MOST {
            warn(format_args!("replay: {}: {} more damaged places", self.capture, self.places - MOST));
        }
        self.unreadable.map_or(Ok(()), Err)
    }
}

impl Sink for Notices {
    fn broken(&mut self, error: &ReadError) {
        self.damaged(error);
    }
}

impl Notices {
    /// The capture is damaged, or ends, here.
    pub(crate) fn damaged(&mut self, error: &ReadError) {
        let capture = &self.capture;
        match error {
            ReadError::Io { .. } => self.unreadable = Some(Failure::new(format_args!("{capture}: {error}"))),
            _ if self.places >= MOST => self.places += 1,
            _ => {
                self.places += 1;
                warn(format_args!("replay: {capture}: {error}; what could be read is processed"));
            }
        }
    }
}
