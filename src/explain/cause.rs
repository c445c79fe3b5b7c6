//! Causes as data.

use core::fmt;
use std::string::String;
use std::vec::Vec;

use super::remedy::Remedy;

/// A stable name for why an FTP session failed, or that it did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Code {
    /// Nothing failed.
    Healthy,
    /// No helper reads the control connection, and NAT or a firewall needs one.
    NoHelper,
    /// The helper is attached to another port.
    HelperPort,
    /// The helper is attached on another interface.
    HelperInterface,
    /// The helper's kernel module is not loaded.
    NoModule,
    /// The rules accept ESTABLISHED and not RELATED.
    NoRelated,
    /// The router drops the data connection.
    DropRouter,
    /// The router rejects the data connection.
    RejectRouter,
    /// The server's own firewall, or one near it, drops the data connection.
    DropServer,
    /// Nothing listens on the server's port, or its firewall rejects.
    RejectServer,
    /// The client's own firewall drops the data connection.
    DropClient,
    /// The server's passive ports are not those that the firewall opens.
    Range,
    /// The server does not offer passive mode.
    NoPassive,
    /// The announced address is not the announcer's.
    WrongAddress,
    /// The announced address is private, and the other side is elsewhere.
    PrivateAddress,
    /// The server refuses `PORT`.
    PortRefused,
    /// The server refuses `EPSV` or `EPRT`.
    ExtendedRefused,
    /// The control connection is encrypted, so that no helper reads it.
    Tls,
    /// TLS from the first byte, where the other side expects text, or the reverse.
    ImplicitTls,
    /// The server wants the data connection to resume the control connection's TLS session.
    TlsSessionReuse,
    /// The data connection comes from another address than the control connection's.
    OtherSource,
    /// The data connection reaches another server.
    OtherServer,
    /// A link takes smaller packets than announced, and nobody tells the sender.
    Mtu,
    /// The control connection was forgotten or closed while it was idle.
    IdleControl,
    /// The client's commands come in an order that the server refuses.
    BadSequence,
    /// A machine on the path rewrote an announcement wrongly.
    RewrittenByMiddlebox,
    /// The router's connection table is full.
    TableFull,
    /// Two control connections announce the same endpoint.
    SameEndpoint,
    /// The login is refused.
    Login,
    /// The server has too many clients.
    Busy,
    /// The server has no room left for the file.
    Quota,
    /// The file is not there, or may not be used.
    NoSuchFile,
    /// The capture has one direction only.
    OneSided,
    /// The capture begins after what matters.
    BeginsLate,
    /// The capture ends before what matters.
    TooShort,
    /// The evidence does not decide.
    Unknown,
}

impl Code {
    /// All codes, in the order of the documentation.
    pub const ALL: [Self; 36] = [
        Self::Healthy,
        Self::NoHelper,
        Self::HelperPort,
        Self::HelperInterface,
        Self::NoModule,
        Self::NoRelated,
        Self::DropRouter,
        Self::RejectRouter,
        Self::DropServer,
        Self::RejectServer,
        Self::DropClient,
        Self::Range,
        Self::NoPassive,
        Self::WrongAddress,
        Self::PrivateAddress,
        Self::PortRefused,
        Self::ExtendedRefused,
        Self::Tls,
        Self::ImplicitTls,
        Self::TlsSessionReuse,
        Self::OtherSource,
        Self::OtherServer,
        Self::Mtu,
        Self::IdleControl,
        Self::BadSequence,
        Self::RewrittenByMiddlebox,
        Self::TableFull,
        Self::SameEndpoint,
        Self::Login,
        Self::Busy,
        Self::Quota,
        Self::NoSuchFile,
        Self::OneSided,
        Self::BeginsLate,
        Self::TooShort,
        Self::Unknown,
    ];

    /// Returns the name that is printed, which never changes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::NoHelper => "no-helper",
            Self::HelperPort => "helper-port",
            Self::HelperInterface => "helper-interface",
            Self::NoModule => "no-module",
            Self::NoRelated => "no-related",
            Self::DropRouter => "drop-router",
            Self::RejectRouter => "reject-router",
            Self::DropServer => "drop-server",
            Self::RejectServer => "reject-server",
            Self::DropClient => "drop-client",
            Self::Range => "range",
            Self::NoPassive => "no-passive",
            Self::WrongAddress => "wrong-address",
            Self::PrivateAddress => "private-address",
            Self::PortRefused => "port-refused",
            Self::ExtendedRefused => "extended-refused",
            Self::Tls => "tls",
            Self::ImplicitTls => "implicit-tls",
            Self::TlsSessionReuse => "tls-session-reuse",
            Self::OtherSource => "other-source",
            Self::OtherServer => "other-server",
            Self::Mtu => "mtu",
            Self::IdleControl => "idle-control",
            Self::BadSequence => "bad-sequence",
            Self::RewrittenByMiddlebox => "rewritten-by-middlebox",
            Self::TableFull => "table-full",
            Self::SameEndpoint => "same-endpoint",
            Self::Login => "login",
            Self::Busy => "busy",
            Self::Quota => "quota",
            Self::NoSuchFile => "no-such-file",
            Self::OneSided => "one-sided",
            Self::BeginsLate => "begins-late",
            Self::TooShort => "too-short",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the machine at fault, where the code alone tells.
    #[must_use]
    pub const fn machine(self) -> Machine {
        match self {
            Self::NoHelper
            | Self::HelperPort
            | Self::HelperInterface
            | Self::NoModule
            | Self::NoRelated
            | Self::DropRouter
            | Self::RejectRouter
            | Self::Range
            | Self::Tls
            | Self::TableFull => Machine::Router,
            Self::DropServer => Machine::ServerFirewall,
            Self::DropClient => Machine::ClientFirewall,
            Self::Mtu | Self::RewrittenByMiddlebox | Self::IdleControl => Machine::Path,
            Self::RejectServer
            | Self::NoPassive
            | Self::WrongAddress
            | Self::PortRefused
            | Self::ExtendedRefused
            | Self::TlsSessionReuse
            | Self::OtherServer
            | Self::Busy
            | Self::Quota => Machine::Server,
            Self::Login | Self::NoSuchFile | Self::BadSequence | Self::ImplicitTls => Machine::Client,
            _ => Machine::Unknown,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The machine on which something is to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Machine {
    /// The client.
    Client,
    /// The client's own firewall, or one near it.
    ClientFirewall,
    /// The router of the capture, or of the router directory.
    Router,
    /// A machine between that nobody recorded.
    Path,
    /// The server's own firewall, or one near it.
    ServerFirewall,
    /// The server.
    Server,
    /// The evidence does not tell.
    Unknown,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "the client",
            Self::ClientFirewall => "the client's firewall",
            Self::Router => "the router",
            Self::Path => "a machine on the path",
            Self::ServerFirewall => "the server's firewall",
            Self::Server => "the server",
            Self::Unknown => "an unknown machine",
        })
    }
}

/// The certainty of a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Certainty {
    /// The frames and files at hand show it.
    Shown,
    /// It is the likeliest reading of frames that allow another.
    Inferred,
}

impl Certainty {
    /// Returns the word that is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shown => "shown",
            Self::Inferred => "inferred",
        }
    }
}

/// A frame, or a line of a file, that shows something.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evidence {
    /// The capture, and the interface where it has several; empty for a line of a file.
    pub view: String,
    /// The frame's number in that capture; 0 if it is none.
    pub frame: u64,
    /// The line, packet or rule.
    pub shown: String,
    /// Meaning of the finding.
    pub means: String,
}

/// A cause of a session's failure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cause {
    /// The stable name.
    pub code: Code,
    /// The machine at fault.
    pub machine: Machine,
    /// Certainty of the cause.
    pub certainty: Certainty,
    /// One sentence for people.
    pub sentence: String,
    /// The frames and lines that show it.
    pub evidence: Vec<Evidence>,
    /// Other possible causes, where the evidence does not decide.
    pub candidates: Vec<Code>,
    /// The evidence that is missing, and how to get it.
    pub missing: Vec<String>,
    /// Changes that remedy it.
    pub remedies: Vec<Remedy>,
}

impl Cause {
    pub(super) fn new(code: Code, certainty: Certainty, sentence: impl Into<String>) -> Self {
        Self {
            code,
            machine: code.machine(),
            certainty,
            sentence: sentence.into(),
            evidence: Vec::new(),
            candidates: Vec::new(),
            missing: Vec::new(),
            remedies: Vec::new(),
        }
    }

    pub(super) fn on(mut self, machine: Machine) -> Self {
        self.machine = machine;
        self
    }

    pub(super) fn seen(mut self, evidence: impl IntoIterator<Item = Evidence>) -> Self {
        self.evidence.extend(evidence);
        self
    }

    pub(super) fn lacking(mut self, missing: impl Into<String>) -> Self {
        self.missing.push(missing.into());
        self
    }

    pub(super) fn or(mut self, candidates: &[Code]) -> Self {
        self.candidates.extend(candidates);
        self
    }
}
