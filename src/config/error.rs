//! Errors and warnings about a file.

use core::fmt;
use std::borrow::Cow;
use std::string::String;

use super::words::Word;

/// A file cannot be used: where, which word, what is wrong with it, and what would be right.
///
/// ```
/// use ftp_conntrack::config::parse_rules;
/// use ftp_conntrack::packet::Family;
///
/// let error = parse_rules("rules.v4", "-A INPUT -s 10.0.0.300 -j DROP", Family::V4).unwrap_err();
/// assert_eq!(error.line, Some(1));
/// assert_eq!(error.word, "10.0.0.300");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Error {
    /// The file's name.
    pub file: String,
    /// The line, from 1; absent where the whole file is meant.
    pub line: Option<u32>,
    /// The word; empty where none is to blame.
    pub word: String,
    /// Kind of the error.
    pub kind: ErrorKind,
    /// Words that would be right.
    pub wanted: Cow<'static, str>,
}

impl Error {
    pub(super) fn new(kind: ErrorKind, line: u32, word: &str, wanted: impl Into<Cow<'static, str>>) -> Self {
        Self { file: String::new(), line: Some(line), word: word.into(), kind, wanted: wanted.into() }
    }

    pub(super) fn at(word: &Word, kind: ErrorKind, wanted: impl Into<Cow<'static, str>>) -> Self {
        Self::new(kind, word.line, &word.text, wanted)
    }

    pub(super) fn bad_value(word: &Word, wanted: impl Into<Cow<'static, str>>) -> Self {
        Self::at(word, ErrorKind::BadValue, wanted)
    }

    pub(super) fn of_file(file: &str, kind: ErrorKind, wanted: impl Into<Cow<'static, str>>) -> Self {
        Self { file: file.into(), line: None, word: String::new(), kind, wanted: wanted.into() }
    }

    pub(super) fn in_file(self, file: &str) -> Self {
        Self { file: file.into(), ..self }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.file, self.line, &self.word)?;
        write!(f, "{}; {}", self.kind, self.wanted)
    }
}

impl core::error::Error for Error {}

/// The kind of an error in a word or a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file cannot be opened or read.
    Unreadable,
    /// The file is not UTF-8 text.
    NotText,
    /// The file is not the JSON that `ip -j` writes.
    Json,
    /// A quote is opened on this line and not closed.
    UnclosedQuote,
    /// A shell variable or substitution, whose value the file does not say.
    Variable,
    /// A word with which a shell decides what to run: `if`, `for`, `case`, a function.
    Control,
    /// A command that may change the rules, but is none that is known here.
    UnknownCommand,
    /// No table has this name.
    UnknownTable,
    /// No chain of the table has this name.
    UnknownChain,
    /// Neither a target nor a chain of the table has this name.
    UnknownTarget,
    /// No option has this name, or only one of a module that is not loaded.
    UnknownOption,
    /// An option without the value it takes, or a target without an option it needs.
    MissingValue,
    /// A value that is not of the kind its option takes.
    BadValue,
    /// Said twice where it can be said once.
    Repeated,
    /// Understood, but Linux refuses it at this place.
    Misplaced,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "cannot be read",
            Self::NotText => "is not UTF-8 text",
            Self::Json => "is not JSON as ip -j writes it",
            Self::UnclosedQuote => "a quote is not closed on its line",
            Self::Variable => "a variable has no value here",
            Self::Control => "decides in a shell which commands run, which only a shell can tell",
            Self::UnknownCommand => "is no command known here",
            Self::UnknownTable => "is no table",
            Self::UnknownChain => "is no chain of this table",
            Self::UnknownTarget => "is neither a target nor a chain of this table",
            Self::UnknownOption => "is no option known here",
            Self::MissingValue => "something is missing",
            Self::BadValue => "is no value this option takes",
            Self::Repeated => "is said twice",
            Self::Misplaced => "cannot be used here",
        })
    }
}

/// A file can be used, but something in it deserves to be known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// The file's name.
    pub file: String,
    /// The line, from 1; absent where the whole file is meant.
    pub line: Option<u32>,
    /// The word or words; empty where none is meant.
    pub word: String,
    /// Kind of the warning.
    pub kind: WarningKind,
}

impl Warning {
    pub(super) fn new(kind: WarningKind, line: u32, word: &str) -> Self {
        Self { file: String::new(), line: Some(line), word: word.into(), kind }
    }

    pub(super) fn of_file(file: &str, kind: WarningKind) -> Self {
        Self { file: file.into(), line: None, word: String::new(), kind }
    }

    pub(super) fn in_file(self, file: &str) -> Self {
        Self { file: file.into(), ..self }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.file, self.line, &self.word)?;
        self.kind.fmt(f)
    }
}

/// The kind of a warning about a file that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WarningKind {
    /// A match that is not known: loaded as [`Match::Unknown`](crate::netfilter::Match::Unknown).
    UnknownMatch,
    /// A target that is not known: loaded as [`Target::Unknown`](crate::netfilter::Target::Unknown).
    UnknownTarget,
    /// A command of the other address family: passed over.
    OtherFamily,
    /// A command that changes no rule: passed over.
    PassedOver,
    /// An object to be deleted is not there, or is still in use: nothing is done.
    NotDeleted,
    /// The chain to be made is there already: nothing is done.
    AlreadyThere,
    /// A table without COMMIT: loaded nevertheless.
    NotCommitted,
    /// A table that replaces the rules that earlier lines put there.
    Replaced,
    /// A file of the directory that is not understood yet: not read.
    NotRead,
    /// A word of keepalived.conf that is not known: passed over.
    UnknownWord,
    /// A macro of keepalived.conf that nothing defines: left as it stands.
    NoValue,
    /// A file that says what another one has said already: not used.
    NotUsed,
    /// A kernel setting that changes what a router does: not imitated.
    NotImitated,
    /// A statement of nftables that is not known: a packet that reaches it is undecided.
    UnknownStatement,
    /// A table of nftables for other packets than IP: passed over.
    OtherPackets,
    /// A flowtable: packets that it takes do not meet the rules of forward.
    Flowtable,
    /// An object of nftables that is not known: what names it is not known either.
    UnknownObject,
    /// A table in which iptables keeps its rules: not used, since its own file has them.
    KeptByIptables,
}

impl fmt::Display for WarningKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownMatch => "this match is not known; a packet that reaches it is undecided",
            Self::UnknownTarget => "this target is not known; a packet that reaches it is undecided",
            Self::OtherFamily => "is for the other address family and passed over",
            Self::PassedOver => "changes no rule and is passed over",
            Self::NotDeleted => "is not there or in use; nothing is deleted",
            Self::AlreadyThere => "is there already",
            Self::NotCommitted => "has no COMMIT; loaded nevertheless",
            Self::Replaced => "replaces the rules that this table had from earlier lines",
            Self::NotRead => "is not understood yet and not read",
            Self::UnknownWord => "is not known and passed over",
            Self::NoValue => "a macro has no value here",
            Self::NotImitated => "is not imitated; the kernel may handle packets in another way",
            Self::NotUsed => "is not used, since ipvs.rules has its services",
            Self::UnknownStatement => "is not known; a packet that reaches it is undecided",
            Self::OtherPackets => "is no table for IP packets and passed over",
            Self::Flowtable => "takes packets past the rules of forward",
            Self::UnknownObject => "is not known; a packet that reaches a rule with it is undecided",
            Self::KeptByIptables => "is not used, since the files of iptables have its rules",
        })
    }
}

/// `FILE:LINE: "WORD": `, on one line whatever is in the word.
fn place(f: &mut fmt::Formatter<'_>, file: &str, line: Option<u32>, word: &str) -> fmt::Result {
    write!(f, "{}", file.escape_debug())?;
    if let Some(line) = line {
        write!(f, ":{line}")?;
    }
    f.write_str(": ")?;
    if word.is_empty() { Ok(()) } else { write!(f, "{word:?} ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn an_error_is_one_line() {
        let error = Error::new(ErrorKind::BadValue, 3, "a\nb", "write an address").in_file("rules.v4");
        assert_eq!(error.to_string(), r#"rules.v4:3: "a\nb" is no value this option takes; write an address"#);
        let error = Error::of_file("addr.json", ErrorKind::NotText, "save it again");
        assert_eq!(error.to_string(), "addr.json: is not UTF-8 text; save it again");
    }

    #[test]
    fn a_warning_is_one_line() {
        let warning = Warning::new(WarningKind::UnknownMatch, 7, "-m limit").in_file("rules.v6");
        assert_eq!(
            warning.to_string(),
            r#"rules.v6:7: "-m limit" this match is not known; a packet that reaches it is undecided"#
        );
    }
}
