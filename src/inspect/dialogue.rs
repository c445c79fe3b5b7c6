//! Which reply answers which command, and which of them matter to data connections.

use std::collections::VecDeque;

use crate::ftp::{Command, Reply};

/// So many commands wait for a reply; servers read no further ahead.
const MAX_WAITING: usize = 32;

/// The command that a reply answers, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Asked {
    /// `USER`, `PASS`, `ACCT`: to be let in.
    Login,
    /// `PORT`, `EPRT`, `LPRT`: to connect to the client.
    Active,
    /// `PASV`, `EPSV`, `LPSV`: to say where to connect to.
    Passive,
    /// `AUTH`.
    Auth,
    /// `CCC`.
    Ccc,
    /// A transfer.
    Transfer,
    /// `ABOR`.
    Abort,
    /// `QUIT`.
    Quit,
    /// Anything else.
    Other,
}

/// A reply, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// Command that it answers; `None` for a greeting, and where the command was not seen.
    pub asked: Option<Asked>,
    /// The number of the command that it answers, from 1; `None` as for `asked`, or where the code alone tells the kind.
    pub command: Option<u64>,
    /// True if it matters to data connections.
    pub matters: bool,
}

/// The commands that wait for replies.
///
/// ```
/// use ftp_conntrack::ftp::{Command, Reply};
/// use ftp_conntrack::inspect::{Asked, Dialogue};
///
/// let mut dialogue = Dialogue::default();
/// assert!(dialogue.command(&Command::parse(b"PORT 10,0,0,1,4,210\r\n").unwrap()));
/// let answer = dialogue.reply(&Reply::parse(b"200 Okay\r\n").unwrap()).unwrap();
/// assert_eq!((answer.asked, answer.matters), (Some(Asked::Active), true));
/// assert!(!dialogue.command(&Command::parse(b"SYST\r\n").unwrap()));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Dialogue {
    waiting: VecDeque<(u64, Asked)>,
    /// Number of commands so far.
    commands: u64,
    /// The code of the reply whose last line has not come.
    inside: Option<u16>,
}

impl Dialogue {
    /// Notes a command. Returns true if it matters to data connections.
    pub fn command(&mut self, command: &Command<'_>) -> bool {
        let asked = asked(command);
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
        }
        self.commands += 1;
        self.waiting.push_back((self.commands, asked));
        !matches!(asked, Asked::Other) && !matches!(command, Command::Pass(_))
    }

    /// Number of commands so far.
    #[must_use]
    pub const fn commands(&self) -> u64 {
        self.commands
    }

    /// Returns true if a command of this kind was not answered yet.
    #[must_use]
    pub fn awaits(&self, kind: Asked) -> bool {
        self.waiting.iter().any(|(_, asked)| *asked == kind)
    }

    /// Notes a line of a reply. Returns `None` if it is not the reply's last.
    pub fn reply(&mut self, reply: &Reply<'_>) -> Option<Answer> {
        match self.inside {
            // RFC 959 section 4.2: the same code and a blank end it.
            Some(code) if code != reply.code || reply.continues => return None,
            None if reply.continues => {
                self.inside = Some(reply.code);
                return None;
            }
            _ => self.inside = None,
        }
        let (command, asked) = match self.answered(reply) {
            Some((command, asked)) => (command, Some(asked)),
            None => (None, None),
        };
        let wanted = asked.is_some_and(|asked| !matches!(asked, Asked::Other | Asked::Login));
        Some(Answer { asked, command, matters: wanted || reply.code >= 400 || matches!(reply.code, 227..=230 | 234) })
    }

    /// The code of the reply of several lines whose last line has not come.
    #[must_use]
    pub const fn inside(&self) -> Option<u16> {
        self.inside
    }

    /// Something of the server is missing: a reply of several lines may have ended in it.
    pub(super) const fn lose(&mut self) {
        self.inside = None;
    }

    /// Returns the command that a reply answers. After a preliminary reply comes another.
    fn answered(&mut self, reply: &Reply<'_>) -> Option<(Option<u64>, Asked)> {
        let code = reply.code;
        // Some replies tell by themselves what they answer, wherever a capture begins or lacks something.
        let certain = match code {
            227..=229 if reply.endpoint().is_some() => Some(Asked::Passive),
            234 => Some(Asked::Auth),
            _ => None,
        };
        if let Some(certain) = certain {
            match self.waiting.iter().position(|(_, asked)| *asked == certain) {
                Some(at) => drop(self.waiting.drain(..at)),
                None => return Some((None, certain)),
            }
        }
        // 120 and 220 greet; 220 answers HOST and REIN too, which do not matter here.
        if code == 120 || code == 220 && self.waiting.front().is_none_or(|(_, asked)| *asked != Asked::Other) {
            return None;
        }
        let found = if code < 200 { self.waiting.front().copied() } else { self.waiting.pop_front() };
        found.map(|(number, asked)| (Some(number), asked))
    }
}

/// Returns the kind of a command.
pub(super) fn asked(command: &Command<'_>) -> Asked {
    match command {
        Command::User(_) | Command::Pass(_) => Asked::Login,
        Command::Port(_) | Command::Eprt(_) | Command::Lprt(_) => Asked::Active,
        Command::Pasv | Command::Epsv(_) | Command::Lpsv => Asked::Passive,
        Command::Auth(_) => Asked::Auth,
        Command::Ccc => Asked::Ccc,
        Command::Abor => Asked::Abort,
        Command::Quit => Asked::Quit,
        Command::Other { verb, .. } if is_transfer(verb) => Asked::Transfer,
        _ => Asked::Other,
    }
}

fn is_transfer(verb: &[u8]) -> bool {
    let verbs: [&[u8]; 7] = [b"RETR", b"STOR", b"STOU", b"APPE", b"LIST", b"NLST", b"MLSD"];
    verbs.iter().any(|transfer| verb.eq_ignore_ascii_case(transfer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(dialogue: &mut Dialogue, line: &str) -> bool {
        dialogue.command(&Command::parse(line.as_bytes()).unwrap())
    }

    fn answered(dialogue: &mut Dialogue, line: &str) -> Option<(Option<Asked>, bool)> {
        dialogue.reply(&Reply::parse(line.as_bytes()).unwrap()).map(|answer| (answer.asked, answer.matters))
    }

    #[test]
    fn replies_find_their_commands() {
        let mut dialogue = Dialogue::default();
        assert_eq!(answered(&mut dialogue, "220 ready"), Some((None, false)));
        assert!(said(&mut dialogue, "USER a") && !said(&mut dialogue, "PASS b"));
        assert_eq!(answered(&mut dialogue, "331 password"), Some((Some(Asked::Login), false)));
        assert_eq!(answered(&mut dialogue, "230 in"), Some((Some(Asked::Login), true)));
        assert!(said(&mut dialogue, "RETR x"));
        assert_eq!(answered(&mut dialogue, "150 now"), Some((Some(Asked::Transfer), true)));
        assert_eq!(answered(&mut dialogue, "226 done"), Some((Some(Asked::Transfer), true)));
        assert_eq!(answered(&mut dialogue, "226 what"), Some((None, false)));
        assert_eq!(answered(&mut dialogue, "421 bye"), Some((None, true)));
    }

    #[test]
    fn pipelined_commands_are_answered_in_turn() {
        let mut dialogue = Dialogue::default();
        assert!(!said(&mut dialogue, "SYST") && said(&mut dialogue, "PASV"));
        assert_eq!(answered(&mut dialogue, "215 UNIX"), Some((Some(Asked::Other), false)));
        assert_eq!(answered(&mut dialogue, "227 (1,2,3,4,5,6)"), Some((Some(Asked::Passive), true)));
        // The reply to SYST is not in the capture.
        assert!(!said(&mut dialogue, "SYST") && said(&mut dialogue, "EPSV") && said(&mut dialogue, "LIST"));
        assert_eq!(answered(&mut dialogue, "229 (|||1|)"), Some((Some(Asked::Passive), true)));
        assert_eq!(answered(&mut dialogue, "150 now"), Some((Some(Asked::Transfer), true)));
    }

    #[test]
    fn replies_name_their_command() {
        let mut dialogue = Dialogue::default();
        said(&mut dialogue, "RETR x");
        said(&mut dialogue, "QUIT");
        let mut answer = |line: &str| dialogue.reply(&Reply::parse(line.as_bytes()).unwrap()).unwrap();
        assert_eq!([answer("150 now").command, answer("226 done").command], [Some(1), Some(1)]);
        let logout = answer("227 Logout.");
        assert_eq!((logout.asked, logout.command), (Some(Asked::Quit), Some(2)));
    }

    #[test]
    fn longer_replies_count_once() {
        let mut dialogue = Dialogue::default();
        said(&mut dialogue, "STAT");
        said(&mut dialogue, "QUIT");
        assert_eq!(answered(&mut dialogue, "211-status"), None);
        assert_eq!(dialogue.inside(), Some(211));
        assert_eq!(answered(&mut dialogue, "227 (1,2,3,4,5,6)"), None);
        assert_eq!(answered(&mut dialogue, "211-more"), None);
        assert_eq!(answered(&mut dialogue, "211 end"), Some((Some(Asked::Other), false)));
        assert_eq!(answered(&mut dialogue, "221 bye"), Some((Some(Asked::Quit), true)));
    }
}
