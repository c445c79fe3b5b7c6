//! The subcommands of the binary: each is a module of this package with its arguments, and a line here.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::{Failure, warn};
use crate::{DIFFERS, WRONG_INPUT, explain, replay};

/// Shows the FTP in captures, and what a Linux router makes of it.
#[derive(Debug, Parser)]
#[command(name = "ftp-conntrack", version)]
struct Tool {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Explain(explain::Arguments),
    Replay(replay::Arguments),
}

impl Run for Tool {
    fn run(&self) -> Result<bool, Failure> {
        match &self.command {
            Command::Explain(arguments) => arguments.run(),
            Command::Replay(arguments) => arguments.run(),
        }
    }
}

/// Arguments that know what to do.
pub(crate) trait Run: Parser {
    /// Does it. Returns false if something differs or was found (exit status 1).
    fn run(&self) -> Result<bool, Failure>;
}

/// Runs the subcommand that this process's arguments name.
pub fn main() -> ExitCode {
    start::<Tool>()
}

/// Reads this process's arguments, does what they say, and reports what is wrong in one line on standard error.
pub(crate) fn start<R: Run>() -> ExitCode {
    let name = name::<R>();
    let arguments = match R::try_parse() {
        Ok(arguments) => arguments,
        // Help or version; nobody reads it if this fails.
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            warn(format_args!("{name}: {}; {name} --help tells more", one_line(&error)));
            return ExitCode::from(WRONG_INPUT);
        }
    };
    match arguments.run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(DIFFERS),
        Err(failure) => {
            warn(format_args!("{name}: {failure}"));
            ExitCode::from(WRONG_INPUT)
        }
    }
}

/// Returns the command's name as it was typed, with the subcommand if there is one.
fn name<R: Run>() -> String {
    let command = R::command();
    let typed = std::env::args_os().nth(1);
    let subcommand = typed.and_then(|word| command.find_subcommand(word).map(|found| found.get_name().to_owned()));
    subcommand.map_or_else(|| command.get_name().to_owned(), |found| format!("{} {found}", command.get_name()))
}

/// Returns the error's sentence without the paragraphs and tips that follow it.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "name a command, as in ftp-conntrack replay CAPTURE".to_owned();
    }
    let lines = text.lines().map(str::trim);
    let about = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let words: Vec<&str> = about.filter(|line| !line.is_empty() && !line.starts_with("tip:")).collect();
    words.join("; ").trim_start_matches("error: ").to_owned()
}
