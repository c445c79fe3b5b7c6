//! A capture from anywhere: nothing is translated, and what FTP there is in it is told.

use std::path::Path;

use ftp_conntrack::capture::{Interface, ReadError};
use ftp_conntrack::inspect::{FramePos, FtpEvent, Inspector, Options, Sink, Summary};
use ftp_conntrack::packet::link::LinkType;

use crate::failure::{Failure, warn};
use crate::output::Output;
use crate::replay::arguments::Arguments;
use crate::replay::facts::JsonFacts;
use crate::replay::input;
use crate::replay::notices::Notices;
use crate::replay::progress::Progress;
use crate::replay::record::Recorder;
use crate::replay::seen::Watched;

/// Tells it.
pub(crate) fn run(path: &Path, arguments: &Arguments) -> Result<(), Failure> {
    let mut capture = input::open(path)?;
    let name = input::name_of(path);
    let mut options = Options::default();
    if !arguments.ports.is_empty() {
        options.ports.clone_from(&arguments.ports);
    }
    let ports = options.ports.clone();
    let interface = Interface::named("capture", LinkType::RAW);
    let mut recorder = Recorder::create(arguments.write.as_deref(), &[path.to_owned()], &[interface])?;
    if arguments.write.is_some() {
        warn("-w copies the packets unchanged: only --router, --masquerade and --unmasquerade change them");
    }
    let mut notices = Notices::new(&name);
    let mut output = Output::standard();
    let mut inspector = Inspector::new(options);
    let mut look = |first: &mut dyn Sink, progress: Progress| -> Summary {
        let others = (&mut recorder, &mut notices);
        inspector.run(&mut capture, &mut Listeners { first, recorder: others.0, notices: others.1, progress })
    };
    if arguments.json {
        let mut lines = JsonFacts::new(&mut output);
        let summary = look(&mut lines, Progress::beside_lines());
        lines.summary(&summary);
    } else {
        let progress = if arguments.all { Progress::beside_lines() } else { Progress::alone() };
        let mut watched = Watched::new(arguments.all.then_some(&mut output));
        let summary = look(&mut watched, progress);
        watched.finish().tell(&name, &ports, &summary, &mut output);
    }
    notices.finish()?;
    recorder.finish()?;
    output.finish()
}

/// All who listen.
struct Listeners<'l> {
    first: &'l mut dyn Sink,
    recorder: &'l mut Recorder,
    notices: &'l mut Notices,
    progress: Progress,
}

impl Sink for Listeners<'_> {
    fn frame(&mut self, at: FramePos) {
        self.progress.count();
        self.first.frame(at);
    }

    fn packet(&mut self, at: FramePos, bytes: &[u8]) {
        self.recorder.write(0, at.time, bytes);
    }

    fn event(&mut self, at: FramePos, event: &FtpEvent<'_>) {
        self.first.event(at, event);
    }

    fn broken(&mut self, error: &ReadError) {
        self.first.broken(error);
        self.notices.damaged(error);
    }
}
