//! Shows the FTP of a capture: what is announced, what Linux's helper makes of it, and which data connections come.
//!
//! `cargo run --example inspect -- CAPTURE`; without CAPTURE, a recording of this repository.

use std::error::Error;

use ftp_conntrack::capture::{ReadError, Reader};
use ftp_conntrack::inspect::{FramePos, FtpEvent, Inspector, Options, Sink};

struct Printer;

impl Sink for Printer {
    fn event(&mut self, at: FramePos, event: &FtpEvent<'_>) {
        let frame = at.frame;
        match event {
            FtpEvent::Opened(opened) => {
                println!("{frame:>6}  session {}: {} > {}", opened.session, opened.client, opened.server);
            }
            FtpEvent::Announced(announced) => {
                let line = String::from_utf8_lossy(announced.line);
                println!("{frame:>6}  session {}: {}: the helper {}", announced.session, line.trim(), announced.helper);
            }
            FtpEvent::DataOpened(data) => {
                println!("{frame:>6}  session {}: data connection {} > {}", data.session, data.from, data.to);
            }
            FtpEvent::Unfulfilled { session, why, .. } => {
                println!("{frame:>6}  session {session}: nothing came: {why}")
            }
            _ => {}
        }
    }

    fn broken(&mut self, error: &ReadError) {
        eprintln!("the capture is damaged: {error}");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/netfilter/masquerade-1/router.pcapng");
    let mut capture = Reader::open(std::env::args().nth(1).unwrap_or_else(|| bundled.to_owned()))?;
    let summary = Inspector::new(Options::default()).run(&mut capture, &mut Printer);
    println!("{} frames, {} FTP sessions, {} data connections", summary.frames, summary.sessions, summary.data);
    Ok(())
}
