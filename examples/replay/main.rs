//! `ftp-conntrack replay`, under the name that people know: shows every FTP session in a capture, and what a router makes of
//! it. `cli` declares this example, and `cli/src/replay` is all of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ftp_conntrack_cli::replay::main()
}
