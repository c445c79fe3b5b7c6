//! Standard output, line by line.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};

use crate::failure::Failure;

/// Takes lines until nobody reads on; what is written after that is dropped, so that the work ends as it would have.
pub(crate) struct Output {
    writer: BufWriter<StdoutLock<'static>>,
    failed: Option<io::Error>,
}

impl Output {
    pub(crate) fn standard() -> Self {
        Self { writer: BufWriter::new(io::stdout().lock()), failed: None }
    }

    pub(crate) fn line(&mut self, line: impl Display) {
        if self.failed.is_none() {
            self.failed = writeln!(self.writer, "{line}").err();
        }
    }

    pub(crate) fn blank(&mut self) {
        self.line("");
    }

    /// Whoever stops reading (`| head`) does no harm; a full disk does.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        let flushed = self.writer.flush().err();
        let failed = self.failed.or(flushed).filter(|error| error.kind() != ErrorKind::BrokenPipe);
        // Output that could not be written is not tried again.
        let _ = self.writer.into_parts();
        failed.map_or(Ok(()), |error| Err(Failure::new(format_args!("standard output cannot be written: {error}"))))
    }
}
