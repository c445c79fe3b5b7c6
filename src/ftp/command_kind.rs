//! Kinds of commands, as far as they matter to data connections and to the state of a session.

use super::Command;

/// A command by its purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CommandKind {
    /// `USER`, `PASS`, `ACCT`: to log in.
    Login,
    /// `REIN`: to log out, and stay connected.
    Reinitialize,
    /// `PORT`, `EPRT`, `LPRT`: to connect to the client.
    Active,
    /// `PASV`, `EPSV`, `LPSV`: to listen for the client.
    Passive,
    /// `AUTH TLS` and its older names: to continue in TLS.
    Tls,
    /// `AUTH` with another mechanism.
    Auth,
    /// `CCC`: to continue in clear text.
    Ccc,
    /// A transfer: `RETR`, `STOR`, `STOU`, `APPE`, `LIST`, `NLST`, `MLSD`.
    Transfer,
    /// `ABOR`: to stop a transfer.
    Abort,
    /// `QUIT`: to end the session.
    Quit,
    /// Anything else.
    Other,
}

impl Command<'_> {
    /// Returns the command's kind.
    ///
    /// ```
    /// use ftp_conntrack::ftp::{Command, CommandKind};
    ///
    /// assert_eq!(Command::parse(b"retr file\r\n").map(|command| command.kind()), Some(CommandKind::Transfer));
    /// ```
    #[must_use]
    pub fn kind(&self) -> CommandKind {
        match self {
            Self::User(_) | Self::Pass(_) => CommandKind::Login,
            Self::Port(_) | Self::Eprt(_) | Self::Lprt(_) => CommandKind::Active,
            Self::Pasv | Self::Epsv(_) | Self::Lpsv => CommandKind::Passive,
            Self::Auth(mechanism) if is_tls(mechanism) => CommandKind::Tls,
            Self::Auth(_) => CommandKind::Auth,
            Self::Ccc => CommandKind::Ccc,
            Self::Abor => CommandKind::Abort,
            Self::Quit => CommandKind::Quit,
            Self::Other { verb, .. } => of_verb(verb),
            Self::Host(_) | Self::Feat | Self::Prot(_) | Self::Pbsz(_) => CommandKind::Other,
        }
    }

    /// Returns true for commands that data connections depend on. A password is none of them.
    #[must_use]
    pub fn concerns_data(&self) -> bool {
        self.kind() != CommandKind::Other && !matches!(self, Self::Pass(_))
    }

    /// Returns true if a session may begin with this command: RFC 959's commands of access and information, and those of
    /// its extensions that clients send before they log in.
    pub(super) fn may_begin_session(&self) -> bool {
        const OTHERS: [&[u8]; 14] = [
            b"ACCT", b"REIN", b"NOOP", b"HELP", b"STAT", b"SYST", b"OPTS", b"CLNT", b"LANG", b"CSID", b"ADAT", b"XAUT",
            b"SITE", b"MODE",
        ];
        match self {
            Self::Other { verb, .. } => is_one_of(verb, &OTHERS),
            _ => true,
        }
    }
}

fn of_verb(verb: &[u8]) -> CommandKind {
    const TRANSFERS: [&[u8]; 7] = [b"RETR", b"STOR", b"STOU", b"APPE", b"LIST", b"NLST", b"MLSD"];
    match verb {
        _ if is_one_of(verb, &TRANSFERS) => CommandKind::Transfer,
        _ if verb.eq_ignore_ascii_case(b"ACCT") => CommandKind::Login,
        _ if verb.eq_ignore_ascii_case(b"REIN") => CommandKind::Reinitialize,
        _ => CommandKind::Other,
    }
}

fn is_one_of(verb: &[u8], verbs: &[&[u8]]) -> bool {
    verbs.iter().any(|other| verb.eq_ignore_ascii_case(other))
}

fn is_tls(mechanism: &[u8]) -> bool {
    // RFC 4217 section 17 has TLS and TLS-C; SSL and TLS-P of its drafts are still in use.
    mechanism.get(..3).is_some_and(|name| name.eq_ignore_ascii_case(b"TLS") || name.eq_ignore_ascii_case(b"SSL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_commands() {
        for (line, kind, concerns_data) in [
            ("USER a", CommandKind::Login, true),
            ("PASS b", CommandKind::Login, false),
            ("acct c", CommandKind::Login, true),
            ("REIN", CommandKind::Reinitialize, true),
            ("PORT 1", CommandKind::Active, true),
            ("EPSV ALL", CommandKind::Passive, true),
            ("AUTH TLS-C", CommandKind::Tls, true),
            ("AUTH ssl", CommandKind::Tls, true),
            ("AUTH GSSAPI", CommandKind::Auth, true),
            ("mlsd", CommandKind::Transfer, true),
            ("ABOR", CommandKind::Abort, true),
            ("MLST", CommandKind::Other, false),
            ("FEAT", CommandKind::Other, false),
        ] {
            let command = Command::parse(line.as_bytes()).unwrap();
            assert_eq!((command.kind(), command.concerns_data()), (kind, concerns_data), "{line}");
        }
    }
}
