//! Tells the FTP story of a capture; with the files of the router that it was taken on, what that router makes of it.
//!
//! ```text
//! replay                                 the bundled recording
//! replay --router DIR [CAPTURE]          a router of one's own
//! replay --router DIR --verify           does the library send what that router sent?
//! replay --router DIR --what-if FILE      every session re-enacted, as it was and with changes
//! replay CAPTURE --masquerade ADDR        a capture from the inside, as the outside would have seen it
//! replay CAPTURE                         any capture, from anywhere: what FTP there is in it
//! ```
//!
//! Exit status: 0 done (with `--verify`: all agree, and something was compared), 1 something differs, 2 the arguments or an
//! input are wrong, or there was nothing to compare.

mod anywhere;
mod arguments;
mod balanced;
mod decode;
mod differences;
mod facts;
mod fan;
mod input;
mod json;
mod masquerading;
mod notices;
mod progress;
mod record;
mod seen;
mod session;
mod story;
mod talk;
mod tell;
mod what_if;
mod words;

use std::process::ExitCode;

use ftp_conntrack::replay::{Sink, Summary};

use crate::command::{self, Run};
use crate::failure::Failure;
use crate::output::Output;
pub use arguments::Arguments;
use differences::Differences;
use fan::Fan;
use input::Input;
use json::JsonLines;
use notices::Notices;
use progress::Progress;
use record::Recorder;
use story::Story;

/// Runs the command under its own name.
pub fn main() -> ExitCode {
    command::start::<Arguments>()
}

impl Run for Arguments {
    fn run(&self) -> Result<bool, Failure> {
        run(self)
    }
}

/// Returns true if all agrees, as far as it was compared.
fn run(arguments: &Arguments) -> Result<bool, Failure> {
    arguments.check()?;
    if let (Some(capture), true) =
        (&arguments.capture, arguments.masquerade.is_some() || arguments.unmasquerade.is_some())
    {
        return masquerading::run(capture, arguments).map(|()| true);
    }
    if let (None, Some(capture)) = (&arguments.router, &arguments.capture) {
        return anywhere::run(capture, arguments).map(|()| true);
    }
    if let Some(changes) = &arguments.what_if {
        return what_if::run(changes, arguments);
    }
    let mut input = Input::open(arguments)?;
    let watch = input.watch(arguments);
    let mut recorder = Recorder::of_router(arguments.write.as_deref(), &input)?;
    let mut notices = Notices::new(&input.capture_name);
    let mut output = Output::standard();
    let mut sinks: [&mut dyn Sink; 2] = [&mut recorder, &mut notices];
    let summary = if arguments.json {
        let mut lines = JsonLines::new(&mut output, (arguments.verify, input.is_exact), watch);
        let summary = replay(&mut input, &mut lines, &mut sinks, Progress::beside_lines());
        lines.summary(&summary);
        summary
    } else if arguments.verify {
        let mut differences = Differences::default();
        let summary = replay(&mut input, &mut differences, &mut sinks, Progress::alone());
        differences.tell(&input, &summary, &mut output);
        summary
    } else {
        let mut story = Story { watch, watched: input.watched_ports(), ..Story::default() };
        let summary = replay(&mut input, &mut story, &mut sinks, Progress::alone());
        story.finish(input.replay.router());
        tell::tell(&story, &input, &summary, &mut output);
        summary
    };
    notices.finish()?;
    recorder.finish()?;
    output.finish()?;
    match summary.nothing_compared.filter(|_| arguments.verify) {
        Some(nothing) => Err(Failure::new(format_args!("nothing to compare: {nothing}"))),
        None => Ok(!arguments.verify || summary.agrees()),
    }
}

/// Runs the capture through the router. The sign of progress is gone when it is done.
fn replay(input: &mut Input, first: &mut dyn Sink, others: &mut [&mut dyn Sink], mut progress: Progress) -> Summary {
    let mut fan = Fan { first, others };
    let mut both: [&mut dyn Sink; 1] = [&mut progress];
    input.replay.run(&mut input.capture, &mut Fan { first: &mut fan, others: &mut both })
}
