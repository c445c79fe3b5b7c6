//! The binary `ftp-conntrack`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ftp_conntrack_cli::command::main()
}
