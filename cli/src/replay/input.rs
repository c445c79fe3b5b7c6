//! The inputs of a replay: a capture, and the router it goes through.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ftp_conntrack::capture::{Merged, Reader};
use ftp_conntrack::config::{Directory, interface_of_capture};
use ftp_conntrack::replay::{Options, Replay, Watch, count_connections};

use crate::archive::RouterPath;
use crate::failure::{Failure, warn};
use crate::replay::arguments::{Arguments, Behaviour};

/// A capture on its way through a router, before the first packet.
pub(crate) struct Input {
    /// The router's files.
    pub(crate) directory: Directory,
    /// The router, as its directory is called.
    pub(crate) router_name: String,
    pub(crate) capture_paths: Vec<PathBuf>,
    pub(crate) capture_name: String,
    pub(crate) capture: Merged<File>,
    pub(crate) replay: Replay,
    /// True for behaviour Exact, false for Linux.
    pub(crate) is_exact: bool,
    /// Control ports that were asked for by number.
    pub(crate) ports: Vec<u16>,
    /// True if connections older than the capture are taken over.
    pub(crate) adopts: bool,
    /// Keeps an unpacked archive as long as its captures are read.
    _unpacked: RouterPath,
}

impl Input {
    pub(crate) fn open(arguments: &Arguments) -> Result<Self, Failure> {
        match (&arguments.router, &arguments.capture) {
            (Some(router), capture) => Self::of_router(router, capture.as_deref(), arguments),
            (None, _) => Self::of_router(&bundled()?, None, arguments),
        }
    }

    /// Whoever looks for holes that the router's load balancer leaves, if it has one.
    pub(crate) fn watch(&self, arguments: &Arguments) -> Option<Watch> {
        let mut config = self.directory.router_config().ok().filter(|config| config.ipvs.is_some())?;
        let options = options(arguments);
        config.helper_ports.extend(&options.ports);
        config.helper = config.helper.behaving(options.behaviour);
        Some(Watch::new(config))
    }

    /// Ports of control connections: 21, those asked for, and those that rules attach the helper to.
    pub(crate) fn watched_ports(&self) -> Vec<u16> {
        let mut ports = vec![21];
        ports.extend(&self.ports);
        ports
    }

    fn of_router(path: &Path, capture: Option<&Path>, arguments: &Arguments) -> Result<Self, Failure> {
        let unpacked = RouterPath::open(path)?;
        let mut directory = Directory::read(unpacked.directory()).map_err(|error| in_directory(path, error))?;
        for (name, value) in &arguments.policy {
            directory.policy.set(name, value).map_err(Failure::new)?;
        }
        for warning in &directory.warnings {
            warn(format_args!("warning: {warning}"));
        }
        let capture_paths = capture.map_or_else(|| directory.captures.clone(), |capture| vec![capture.to_owned()]);
        if capture_paths.is_empty() {
            let wrong = "has no router.pcapng, router.pcap or router-NAME.pcap; put one there or name a CAPTURE";
            return Err(Failure::of_file(path, wrong));
        }
        let capture = merged(&capture_paths)?;
        let mut options = options(arguments);
        options.sessions = match arguments.sessions {
            Some(sessions) => sessions,
            None => count(&capture_paths)?,
        };
        let replay = Replay::new(&directory, options).map_err(|error| in_directory(path, error))?;
        Ok(Self {
            directory,
            router_name: name_of(path),
            capture_name: names_of(&capture_paths),
            capture_paths,
            capture,
            replay,
            is_exact: arguments.behaviour == Some(Behaviour::Exact),
            ports: arguments.ports.clone(),
            adopts: arguments.adopt,
            _unpacked: unpacked,
        })
    }
}

fn options(arguments: &Arguments) -> Options {
    let mut options = Options::default();
    options.adopt = arguments.adopt;
    // Also where nobody asks for the differences: what the router's own machine sent can only be told from what it
    // forwarded by comparing.
    options.verify = true;
    options.behaviour = match arguments.behaviour {
        Some(Behaviour::Exact) => ftp_conntrack::Behaviour::Exact,
        _ => ftp_conntrack::Behaviour::Linux,
    };
    options.ports = arguments.ports.clone();
    options
}

/// The recording that comes with the sources.
fn bundled() -> Result<PathBuf, Failure> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/netfilter/masquerade-1");
    if path.is_dir() {
        return Ok(path);
    }
    Err(Failure::of_file(&path, "the bundled recording is not there; name a CAPTURE or a --router DIR"))
}

/// Returns the number of connections in captures; 0 if one of them is a pipe, which cannot be read twice.
fn count(paths: &[PathBuf]) -> Result<u32, Failure> {
    if !paths.iter().all(|path| path.is_file()) {
        return Ok(0);
    }
    Ok(count_connections(&mut merged(paths)?))
}

/// Opens one capture for each interface, or one of all.
fn merged(paths: &[PathBuf]) -> Result<Merged<File>, Failure> {
    let mut merged = Merged::default();
    for path in paths {
        let interface = if paths.len() > 1 { interface_of_capture(path) } else { None };
        merged.add(interface, open(path)?);
    }
    Ok(merged)
}

/// Returns the names of captures, as they are printed.
fn names_of(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| name_of(path)).collect();
    names.join(" + ")
}

pub(crate) fn open(path: &Path) -> Result<Reader<File>, Failure> {
    if fs::metadata(path).is_ok_and(|file| file.is_dir()) {
        return Err(Failure::of_file(path, "is a directory, no capture; with a router's files in it: --router DIR"));
    }
    Reader::open(path).map_err(|error| Failure::of_file(path, error))
}

fn in_directory(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::new(format_args!("{}/{error}", path.display().to_string().trim_end_matches('/')))
}

/// The last part of a path.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().escape_debug().to_string()
}
