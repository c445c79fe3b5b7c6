//! The subcommand `explain`: why an FTP session failed, and what to change.

mod json;
mod text;

use std::path::PathBuf;

use clap::Parser;
use ftp_conntrack::explain::{Explanation, Options, Report, RouterFiles, ServerFiles};

use crate::archive::RouterPath;
use crate::command::Run;
use crate::failure::Failure;

/// Says why an FTP session failed, on which machine, and what to change there.
///
/// Several captures are views of the same sessions: taken on the client, on the server, or on a router between. With the
/// router's files it names the rule. Exits with 0 if all sessions are healthy, 1 if something was found, 2 if the input is
/// wrong.
#[derive(Debug, Parser)]
#[command(name = "explain", version)]
pub struct Arguments {
    /// Captures, pcap or pcapng [default: those in the router directory]
    capture: Vec<PathBuf>,

    /// The router's own files: rules.v4, ruleset.json, addr.json, route.json, sysctl.conf, modules, router.pcap
    #[arg(long, value_name = "DIR|FILE.tar.gz")]
    router: Option<PathBuf>,

    /// The FTP server's own file: vsftpd.conf, proftpd.conf, pure-ftpd.conf or its directory conf, pyftpdlib's options,
    /// FileZilla Server's XML, IIS' applicationHost.config or MetaBase.xml. Remedies come in its language
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,

    /// A client's log instead of a capture: FileZilla, curl -v, lftp -d, WinSCP, ftplib
    #[arg(long, value_name = "FILE")]
    transcript: Option<PathBuf>,

    /// Look only at control connections to these ports [default: every port on which FTP is spoken]
    #[arg(long, value_name = "PORT,PORT", value_delimiter = ',')]
    ports: Vec<u16>,

    /// Show this session in full
    #[arg(long, value_name = "N")]
    session: Option<usize>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Run for Arguments {
    fn run(&self) -> Result<bool, Failure> {
        let report = self.report()?;
        if let Some(number) = self.session
            && !report.sessions.iter().any(|session| session.number == number)
        {
            let there = report.sessions.len();
            return Err(Failure::new(format_args!("there is no session {number}; sessions are numbered 1 to {there}")));
        }
        if self.json {
            json::print(&report, self.session)?;
        } else {
            text::print(&report, self.session)?;
        }
        Ok(match self.session.and_then(|number| report.sessions.get(number - 1)) {
            Some(session) => session.code() == ftp_conntrack::explain::Code::Healthy,
            None => report.is_healthy(),
        })
    }
}

impl Arguments {
    fn report(&self) -> Result<Report, Failure> {
        let mut options = Options::default();
        options.ports.clone_from(&self.ports);
        options.session = self.session;
        let server = |path: &PathBuf| ServerFiles::read(path).map_err(|error| Failure::of_file(path, error));
        options.server = self.server.as_ref().map(server).transpose()?;
        let mut captures: Vec<(PathBuf, bool)> = self.capture.iter().map(|path| (path.clone(), false)).collect();
        // Kept until its captures are read.
        let mut unpacked = None;
        if let Some(directory) = &self.router {
            let unpacked = unpacked.insert(RouterPath::open(directory)?);
            let router = RouterFiles::read(unpacked.directory()).map_err(|error| Failure::of_file(directory, error))?;
            for path in router.captures() {
                let same = |(other, _): &(PathBuf, bool)| other.canonicalize().ok() == path.canonicalize().ok();
                captures.retain(|capture| !same(capture));
                captures.push((path, true));
            }
            options.router = Some(router);
        }
        if captures.is_empty() && self.transcript.is_none() {
            return Err(Failure::new("name a capture, as in ftp-conntrack explain capture.pcap"));
        }
        let mut explanation = Explanation::of(options);
        for (path, is_router) in &captures {
            explanation.read_file(path, *is_router).map_err(|error| Failure::of_file(path, error))?;
        }
        if let Some(path) = &self.transcript {
            let log = std::fs::read(path).map_err(|error| Failure::of_file(path, error))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !explanation.read_log(&name, &String::from_utf8_lossy(&log)) {
                return Err(Failure::of_file(
                    path,
                    "has no line of FTP; name a log with the commands and replies in it",
                ));
            }
        }
        let report = explanation.report();
        if report.frames == 0 {
            return Err(Failure::new("the capture has no frames"));
        }
        Ok(report)
    }
}
