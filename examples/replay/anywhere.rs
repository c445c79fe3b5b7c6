//! A capture from anywhere: nothing is translated, and what FTP there is in it is told.

use std::fs::File;
use std::path::Path;

use ftp_conntrack::capture::Reader;
use ftp_conntrack::inspect::{Inspector, Options, Sink};

use crate::arguments::Arguments;
use crate::facts::JsonFacts;
use crate::failure::Failure;
use crate::input;
use crate::output::Output;

/// Where servers listen when nothing says where.
const FTP: u16 = 21;

/// Tells it.
pub(crate) fn run(path: &Path, arguments: &Arguments) -> Result<(), Failure> {
    let mut capture = input::open(path)?;
    let mut output = Output::standard();
    let mut lines = JsonFacts::new(&mut output);
    let mut options = Options::default();
    if !arguments.ports.is_empty() {
        options.ports = arguments.ports.clone();
    }
    let summary = Inspector::new(options).run(&mut capture, &mut lines);
    lines.summary(&summary);
    output.finish()
}
