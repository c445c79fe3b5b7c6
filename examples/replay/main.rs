//! Replays a capture through a router made from the router's own files, and tells what became of FTP in it.
//!
//! ```text
//! replay                                 the bundled recording
//! replay --router DIR [CAPTURE]          a router of one's own
//! replay --router DIR --verify           does the library send what that router sent?
//! replay CAPTURE                         any capture; packets are followed, nothing is translated
//! ```
//!
//! Exit status: 0 done (with `--verify`: all agree), 1 something differs, 2 the arguments or an input are wrong.

mod arguments;
mod decode;
mod differences;
mod failure;
mod fan;
mod input;
mod json;
mod notices;
mod output;
mod progress;
mod record;
mod session;
mod story;
mod style;
mod talk;
mod tell;

use std::process::ExitCode;

use ftp_conntrack::replay::{Sink, Summary};

use arguments::Arguments;
use differences::Differences;
use failure::Failure;
use fan::Fan;
use input::Input;
use json::JsonLines;
use notices::Notices;
use output::Output;
use progress::Progress;
use record::Recorder;
use story::Story;

const DIFFERS: u8 = 1;
const WRONG_INPUT: u8 = 2;

fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(stop) => return stop,
    };
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(DIFFERS),
        Err(failure) => {
            failure.tell();
            ExitCode::from(WRONG_INPUT)
        }
    }
}

/// Whether all agrees, as far as it was compared.
fn run(arguments: &Arguments) -> Result<bool, Failure> {
    arguments.check()?;
    let mut input = Input::open(arguments)?;
    let mut recorder = Recorder::create(arguments.write.as_deref(), &input)?;
    let mut output = Output::standard();
    let mut notices = Notices::new(&input.capture_name);
    let mut progress = Progress::new(arguments.json);

    let mut sinks: [&mut dyn Sink; 3] = [&mut recorder, &mut notices, &mut progress];
    let summary = if arguments.json {
        show_json(&mut input, arguments.verify, &mut sinks, &mut output)
    } else if arguments.verify {
        show_differences(&mut input, &mut sinks, &mut output)
    } else {
        show_story(&mut input, &mut sinks, &mut output)
    };

    notices.finish()?;
    recorder.finish()?;
    output.finish()?;
    Ok(!arguments.verify || summary.agrees())
}

fn show_json(input: &mut Input, verify: bool, sinks: &mut [&mut dyn Sink], output: &mut Output) -> Summary {
    let mut lines = JsonLines::new(output, verify);
    let summary = input.replay.run(&mut input.capture, &mut Fan { first: &mut lines, others: sinks });
    lines.summary(&summary);
    summary
}

fn show_differences(input: &mut Input, sinks: &mut [&mut dyn Sink], output: &mut Output) -> Summary {
    let mut differences = Differences::default();
    let summary = input.replay.run(&mut input.capture, &mut Fan { first: &mut differences, others: sinks });
    differences.tell(input, &summary, output);
    summary
}

fn show_story(input: &mut Input, sinks: &mut [&mut dyn Sink], output: &mut Output) -> Summary {
    let mut story = Story::default();
    let summary = input.replay.run(&mut input.capture, &mut Fan { first: &mut story, others: sinks });
    story.finish(input.replay.router());
    tell::tell(&story, input, &summary, output);
    summary
}
