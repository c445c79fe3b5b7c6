//! The settings of an FTP server's own files that concern data connections.
//!
//! Each software has a reader of its own; all fill one model. A setting keeps the line that set it, so that a cause can name
//! it. Passwords and users are not read.

mod iis;
mod options;
mod proftpd;
mod pure_ftpd;
mod vsftpd;
mod xml;

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::ops::RangeInclusive;
use std::format;
use std::fs;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::vec::Vec;

use super::remedy::Language;

/// A value, and the line that set it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// The file and the line, as `vsftpd.conf line 7`.
    pub place: String,
    /// The line as it stands there.
    pub text: String,
}

impl Setting<()> {
    /// Returns a setting that the same line made.
    fn with<T>(&self, value: T) -> Setting<T> {
        Setting { value, place: self.place.clone(), text: self.text.clone() }
    }
}

/// The TLS that a server offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerTls {
    /// None.
    Off,
    /// A client may ask for it.
    Allowed,
    /// A client must ask for it.
    Required,
    /// The control connection begins with it.
    Implicit,
}

/// The settings of one server, or of one of its virtual hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerSettings {
    /// True if the server listens for data connections.
    pub passive: Option<Setting<bool>>,
    /// True if the server dials data connections.
    pub active: Option<Setting<bool>>,
    /// The ports on which it listens.
    pub passive_ports: Option<Setting<RangeInclusive<u16>>>,
    /// The address, or name, that it announces.
    pub passive_address: Option<Setting<String>>,
    /// True if it listens for IPv6 too, on the same socket. vsftpd then announces no IPv4 address that its file sets.
    pub listens_for_ipv6: Option<Setting<bool>>,
    /// The TLS that it offers.
    pub tls: Option<Setting<ServerTls>>,
    /// True if data connections must resume the control connection's TLS session.
    pub session_reuse: Option<Setting<bool>>,
}

/// A server, or a virtual host of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerHost {
    /// The name in the file; empty for the main server.
    pub name: String,
    /// Addresses on which it listens; empty for all.
    pub addresses: Vec<IpAddr>,
    /// Control ports; empty for 21.
    pub ports: Vec<u16>,
    /// The settings that it has.
    pub settings: ServerSettings,
}

/// An FTP server's own files.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerFiles {
    /// The software's language.
    pub language: Language,
    /// The main server, and then its virtual hosts.
    pub hosts: Vec<ServerHost>,
    /// Lines that concern data connections and were not understood, and files that could not be read.
    pub notes: Vec<String>,
}

/// A server's file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerFileError {
    /// The file system says so.
    NotReadable(String),
    /// It is no file of a known FTP server.
    NotRecognised,
    /// It is XML, and broken.
    NotXml(String),
}

impl fmt::Display for ServerFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReadable(error) => f.write_str(error),
            Self::NotRecognised => f.write_str(
                "is no file of a known FTP server; known are vsftpd.conf, proftpd.conf, pure-ftpd.conf and its directory conf, pyftpdlib's options, FileZilla Server's XML, and IIS' applicationHost.config and MetaBase.xml",
            ),
            Self::NotXml(error) => write!(f, "is not well-formed XML: {error}"),
        }
    }
}

impl core::error::Error for ServerFileError {}

/// A file's text, and the name by which its lines are told.
#[derive(Clone, Copy)]
struct Source<'a> {
    name: &'a str,
    text: &'a str,
}

impl Source<'_> {
    /// Returns a setting that a line made. `number` counts from 1.
    fn setting<T>(&self, value: T, number: usize, line: &str) -> Setting<T> {
        Setting { value, place: format!("{} line {number}", self.name), text: line.trim().to_string() }
    }

    /// Returns the lines that are neither empty nor comments, with their numbers from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    }
}

/// Finds the files that an `Include` names: a file, a pattern, or a directory. Relative to the including file.
type Include<'a> = &'a dyn Fn(&str) -> Vec<(String, String)>;

impl ServerFiles {
    /// Reads a server's file, or pure-ftpd's directory with a file for each option.
    ///
    /// # Errors
    /// A file that cannot be read, or is no known server's.
    pub fn read(path: &Path) -> Result<Self, ServerFileError> {
        let unreadable = |error: std::io::Error| ServerFileError::NotReadable(error.to_string());
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            return pure_ftpd::read_directory(path).map_err(unreadable)?.ok_or(ServerFileError::NotRecognised);
        }
        let text = fs::read(path).map_err(unreadable)?;
        let parent = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Self::parse_with(&name, &text_of(&text), &|pattern| included(&parent, pattern))
    }

    /// Reads the text of a server's file. `name` tells the software where the text alone does not.
    ///
    /// ```
    /// use ftp_conntrack::explain::ServerFiles;
    ///
    /// let files = ServerFiles::parse("vsftpd.conf", "pasv_min_port=10000\npasv_max_port=10100\n").unwrap();
    /// let ports = files.hosts[0].settings.passive_ports.as_ref().unwrap();
    /// assert_eq!(ports.value, 10000..=10100);
    /// assert_eq!(ports.place, "vsftpd.conf line 1");
    /// ```
    ///
    /// # Errors
    /// As [`Self::read`]. Files that it includes are noted, not read.
    pub fn parse(name: &str, text: &str) -> Result<Self, ServerFileError> {
        Self::parse_with(name, text, &|_| Vec::new())
    }

    fn parse_with(name: &str, text: &str, include: Include) -> Result<Self, ServerFileError> {
        let source = Source { name, text };
        match recognise(name, text).ok_or(ServerFileError::NotRecognised)? {
            Language::Vsftpd => Ok(vsftpd::read(source)),
            Language::Proftpd => Ok(proftpd::read(source, include)),
            Language::PureFtpd => Ok(pure_ftpd::read(source)),
            Language::Pyftpdlib => Ok(options::read_pyftpdlib(source)),
            Language::FileZilla => xml::read_filezilla(source),
            _ => iis::read(source),
        }
    }

    /// Returns the settings that hold for clients of this address and port.
    #[must_use]
    pub fn settings_for(&self, server: SocketAddr) -> Option<&ServerSettings> {
        let fits = |host: &&ServerHost| {
            let port = host.ports.contains(&server.port()) || host.ports.is_empty();
            port && (host.addresses.is_empty() || host.addresses.contains(&server.ip()))
        };
        // A host that names the address comes before one that takes all.
        let named = self.hosts.iter().filter(fits).max_by_key(|host| !host.addresses.is_empty());
        named.or(self.hosts.first()).map(|host| &host.settings)
    }
}

/// Decodes a file: UTF-8, or UTF-16 with its mark, as Windows writes it.
fn text_of(bytes: &[u8]) -> String {
    let wide = |decode: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes[2..].chunks_exact(2).map(|pair| decode([pair[0], pair[1]])).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Tells whose file it is: by its text, and where that is common to several, by its name.
fn recognise(name: &str, text: &str) -> Option<Language> {
    let name = name.to_ascii_lowercase();
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let is_apache_like = ["<Global", "<VirtualHost", "<Limit", "<IfModule"].iter().any(|tag| start.starts_with(tag));
    if start.starts_with('<') && !is_apache_like {
        let has = |word: &str| text.contains(word);
        return if has("<FileZillaServer") || has("<filezilla") {
            Some(Language::FileZilla)
        } else if has("ftpServer") {
            Some(Language::Iis)
        } else if has("IIsFtp") {
            Some(Language::IisMetabase)
        } else {
            None
        };
    }
    let by_name = [
        ("vsftpd", Language::Vsftpd),
        ("proftpd", Language::Proftpd),
        ("pure-ftpd", Language::PureFtpd),
        ("pureftpd", Language::PureFtpd),
        ("pyftpdlib", Language::Pyftpdlib),
    ];
    if let Some((_, language)) = by_name.iter().find(|(start, _)| name.contains(start)) {
        return Some(*language);
    }
    let lines = || text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let first_words = |words: &[&str]| {
        lines().any(|line| {
            let first = line.split([' ', '\t', '=']).next().unwrap_or_default();
            words.iter().any(|word| first.eq_ignore_ascii_case(word))
        })
    };
    if text.contains("pyftpdlib") || text.contains("masquerade_address") || text.contains("passive_ports") {
        Some(Language::Pyftpdlib)
    } else if lines().any(|line| line.contains("pure-ftpd ")) || first_words(&["PassivePortRange", "ForcePassiveIP"]) {
        Some(Language::PureFtpd)
    } else if first_words(&["PassivePorts", "MasqueradeAddress", "ServerType", "DefaultServer"]) {
        Some(Language::Proftpd)
    } else if first_words(&["pasv_enable", "pasv_min_port", "anonymous_enable", "local_enable", "listen_ipv6"]) {
        Some(Language::Vsftpd)
    } else {
        None
    }
}

/// Reads the files that a pattern names, in the order of their names.
fn included(parent: &Path, pattern: &str) -> Vec<(String, String)> {
    let path = parent.join(pattern);
    let mut paths: Vec<PathBuf> = if path.is_dir() {
        entries(&path)
    } else if pattern.contains(['*', '?']) {
        let wanted = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let all = path.parent().map(entries).unwrap_or_default();
        all.into_iter().filter(|path| fits(&wanted, &path.file_name().unwrap_or_default().to_string_lossy())).collect()
    } else {
        [path].into()
    };
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some((name, text_of(&fs::read(&path).ok()?)))
    };
    paths.into_iter().filter_map(read).collect()
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}

/// True if a name fits a pattern of `*` and `?`.
fn fits(pattern: &str, name: &str) -> bool {
    match (pattern.chars().next(), name.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            fits(&pattern[1..], name)
                || name.chars().next().is_some_and(|first| fits(pattern, &name[first.len_utf8()..]))
        }
        (Some('?'), Some(got)) => fits(&pattern[1..], &name[got.len_utf8()..]),
        (Some(wanted), Some(got)) if wanted == got => fits(&pattern[wanted.len_utf8()..], &name[got.len_utf8()..]),
        _ => false,
    }
}

/// Reads a range of ports: two numbers with any of these between them.
fn range(text: &str, between: &[char]) -> Option<RangeInclusive<u16>> {
    let mut parts = text.split(between).map(str::trim).filter(|part| !part.is_empty());
    let low: u16 = parts.next()?.parse().ok()?;
    let high: u16 = match parts.next() {
        Some(high) => high.parse().ok()?,
        None => low,
    };
    (low <= high && parts.next().is_none()).then_some(low..=high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str, text: &str) -> ServerSettings {
        ServerFiles::parse(name, text).unwrap().hosts[0].settings.clone()
    }

    #[test]
    fn a_file_is_recognised_by_its_text() {
        let of = |text| recognise("a.conf", text);
        assert_eq!(of("# x\nanonymous_enable=NO\n"), Some(Language::Vsftpd));
        assert_eq!(of("ServerType standalone\n"), Some(Language::Proftpd));
        assert_eq!(of("PassivePortRange 30000 50000\n"), Some(Language::PureFtpd));
        assert_eq!(of("python3 -m pyftpdlib -w -p 2121\n"), Some(Language::Pyftpdlib));
        assert_eq!(of("<FileZillaServer></FileZillaServer>"), Some(Language::FileZilla));
        assert_eq!(of("port = 21\n"), None);
    }

    #[test]
    fn a_range_in_the_wrong_order_is_none() {
        assert_eq!(range("30000 50000", &[' ']), Some(30000..=50000));
        assert_eq!(range("50000:30000", &[':']), None);
        assert_eq!(range("1:2:3", &[':']), None);
        assert_eq!(range("70000:80000", &[':']), None);
    }

    #[test]
    fn a_pattern_fits_names() {
        assert!(fits("*.conf", "tls.conf"));
        assert!(!fits("*.conf", "tls.conf~"));
        assert!(fits("m?d*", "mod_tls"));
    }

    #[test]
    fn utf_16_of_windows_is_read() {
        let text: Vec<u8> = [0xff, 0xfe].into_iter().chain("<a/>".encode_utf16().flat_map(u16::to_le_bytes)).collect();
        assert_eq!(text_of(&text), "<a/>");
    }

    #[test]
    fn unknown_text_is_refused() {
        assert_eq!(ServerFiles::parse("x", "hello"), Err(ServerFileError::NotRecognised));
        assert_eq!(ServerFiles::parse("x", "<html></html>"), Err(ServerFileError::NotRecognised));
    }

    #[test]
    fn the_host_that_names_the_address_counts() {
        let text = "ServerName a\nPassivePorts 1000 2000\n<VirtualHost 192.0.2.1>\nPort 2121\nPassivePorts 3000 4000\n</VirtualHost>\n";
        let files = ServerFiles::parse("proftpd.conf", text).unwrap();
        let ports = |server: &str| {
            files.settings_for(server.parse().unwrap()).unwrap().passive_ports.as_ref().unwrap().value.clone()
        };
        assert_eq!(ports("192.0.2.1:2121"), 3000..=4000);
        assert_eq!(ports("192.0.2.1:21"), 1000..=2000);
        assert_eq!(ports("192.0.2.2:21"), 1000..=2000);
        assert_eq!(settings("proftpd.conf", text).passive_ports.unwrap().place, "proftpd.conf line 2");
    }
}
