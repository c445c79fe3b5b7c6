//! Which reply answers which command, and the state of the session that follows from both.

use super::{Command, CommandKind, Reply, ReplyLines};

/// Maximum number of commands that wait for their replies, where equal ones in a row count once. Of more, only the number
/// is known, and not the kind.
const MAX_WAITING: usize = 32;

/// Commands in a row that wait for their replies and are of the same kind.
#[derive(Clone, Copy, Debug)]
struct Run<T> {
    /// `None` for commands that came when no more could be remembered.
    kind: Option<CommandKind>,
    /// Given by the caller, for a command that has a run of its own.
    tag: Option<T>,
    count: u32,
}

impl<T> Run<T> {
    const EMPTY: Self = Self { kind: None, tag: None, count: 0 };
}

/// State of the login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Login {
    /// Nothing is known.
    #[default]
    Unknown,
    /// The server refused as many times.
    Failed(u32),
    /// The client is logged in.
    Done,
}

/// A whole reply and the command that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer<T = ()> {
    /// The reply's code.
    pub code: u16,
    /// The kind of the command; `None` for a greeting, where the command was not seen, and where it is not remembered.
    pub kind: Option<CommandKind>,
    /// The number of the command, from 1; `None` for a greeting, and where the command was not seen.
    pub command: Option<u64>,
    /// The value that the caller gave with the command.
    pub tag: Option<T>,
}

impl<T> Answer<T> {
    /// Returns true for replies that data connections depend on.
    #[must_use]
    pub fn concerns_data(&self) -> bool {
        let by_kind = self.kind.is_some_and(|kind| !matches!(kind, CommandKind::Other | CommandKind::Login));
        by_kind || self.code >= 400 || matches!(self.code, 227..=230 | 234)
    }
}

/// Commands and replies of a control connection.
///
/// A reply answers the oldest command that waits; a preliminary one (1yz) leaves it waiting for another (RFC 959 section
/// 5.4). 227, 228, 229 and 234 name the kind of their command: older commands are taken as answered unseen. The caller may
/// give a value with a command, and gets it back with the answer.
///
/// ```
/// use ftp_conntrack::ftp::{CommandKind, Dialogue, Login};
///
/// let mut dialogue: Dialogue<&str> = Dialogue::from_beginning();
/// assert_eq!(dialogue.reply(b"220 ready\r\n").unwrap().command, None);
/// dialogue.command(b"USER anonymous\r\n", None);
/// dialogue.command(b"PORT 10,0,0,1,4,210\r\n", Some("an expectation"));
/// dialogue.reply(b"230-Welcome\r\n");
/// dialogue.reply(b"230 logged in\r\n");
/// assert_eq!(dialogue.login(), Login::Done);
/// let answer = dialogue.reply(b"500 no\r\n").unwrap();
/// assert_eq!((answer.kind, answer.command), (Some(CommandKind::Active), Some(2)));
/// assert_eq!(answer.tag, Some("an expectation"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Dialogue<T = ()> {
    runs: [Run<T>; MAX_WAITING],
    used: usize,
    /// Number of commands, and of those among them that were answered.
    commands: u64,
    answered: u64,
    /// True if everything since the connection began was seen.
    complete: bool,
    /// True if a greeting is not to be expected any more.
    greeted: bool,
    /// True if the client's first line was a command with which sessions begin.
    begins_as_ftp: Option<bool>,
    login: Login,
    replies: ReplyLines,
}

impl<T: Copy> Default for Dialogue<T> {
    fn default() -> Self {
        Self::from_middle()
    }
}

impl<T: Copy> Dialogue<T> {
    /// A dialogue that has gone on for a while.
    #[must_use]
    pub const fn from_middle() -> Self {
        Self {
            runs: [Run::EMPTY; MAX_WAITING],
            used: 0,
            commands: 0,
            answered: 0,
            complete: false,
            greeted: true,
            begins_as_ftp: None,
            login: Login::Unknown,
            replies: ReplyLines::new(),
        }
    }

    /// A dialogue whose connection begins now.
    #[must_use]
    pub const fn from_beginning() -> Self {
        Self { complete: true, greeted: false, ..Self::from_middle() }
    }

    /// Notes a line of the client, or at least its beginning. Returns the command's kind; `None` if it is no command.
    pub fn command(&mut self, line: &[u8], tag: Option<T>) -> Option<CommandKind> {
        let command = Command::parse(line);
        if self.begins_as_ftp.is_none() {
            self.begins_as_ftp = Some(command.as_ref().is_some_and(Command::may_begin_session));
        }
        let kind = command?.kind();
        if kind == CommandKind::Reinitialize {
            self.login = Login::Unknown;
        }
        self.commands += 1;
        self.wait(kind, tag);
        Some(kind)
    }

    /// Notes a line of the server, or at least its beginning. Returns the reply that it completes, and what that answers.
    pub fn reply(&mut self, line: &[u8]) -> Option<Answer<T>> {
        self.replies.code_of(line);
        if self.replies.continues() {
            return None;
        }
        let reply = Reply::parse(line)?;
        let answer = self.answer(&reply);
        self.greeted |= reply.code >= 200;
        self.note_login(&answer);
        Some(answer)
    }

    /// Number of commands so far.
    #[must_use]
    pub const fn commands(&self) -> u64 {
        self.commands
    }

    /// Returns true if a command of this kind waits for its reply.
    #[must_use]
    pub fn awaits(&self, kind: CommandKind) -> bool {
        self.waiting().iter().any(|run| run.kind == Some(kind))
    }

    /// Returns true if a command of this kind waits for its reply, or may have been sent unseen.
    #[must_use]
    pub fn may_await(&self, kind: CommandKind) -> bool {
        !self.complete || self.awaits(kind)
    }

    /// State of the login, as far as it was seen.
    #[must_use]
    pub const fn login(&self) -> Login {
        self.login
    }

    /// Returns true if the client is logged in, or may have logged in unseen.
    #[must_use]
    pub const fn may_be_logged_in(&self) -> bool {
        matches!(self.login, Login::Done) || !self.complete
    }

    /// Returns true if the client's first line is no command with which sessions begin: a browser's request, for example,
    /// in whose body somebody put the lines of a session.
    #[must_use]
    pub fn is_other_protocol(&self) -> bool {
        self.complete && self.begins_as_ftp == Some(false)
    }

    /// Which reply the server's next line belongs to.
    #[must_use]
    pub const fn replies(&self) -> ReplyLines {
        self.replies
    }

    /// Notes that a reply was not read as a whole: it answers the oldest command.
    pub fn lose_reply(&mut self) {
        self.take(0);
        self.replies = ReplyLines::new();
    }

    /// Notes that lines of either side may have passed unseen.
    pub const fn lose(&mut self) {
        self.replies = ReplyLines::new();
        self.complete = false;
    }

    fn waiting(&self) -> &[Run<T>] {
        debug_assert!(self.used <= MAX_WAITING, "more runs than there are");
        self.runs.get(..self.used).unwrap_or_default()
    }

    /// Adds a command. The last run takes what has none of its own, as unknown, until it is empty again.
    fn wait(&mut self, kind: CommandKind, tag: Option<T>) {
        let is_full = self.used == MAX_WAITING;
        if let Some(last) = self.used.checked_sub(1).and_then(|last| self.runs.get_mut(last)) {
            let joins = last.kind == Some(kind) && last.tag.is_none() && tag.is_none();
            if is_full && !joins {
                (last.kind, last.tag) = (None, None);
            }
            if is_full || joins {
                last.count = last.count.saturating_add(1);
                return;
            }
        }
        if let Some(run) = self.runs.get_mut(self.used) {
            *run = Run { kind: Some(kind), tag, count: 1 };
            self.used += 1;
        }
    }

    fn answer(&mut self, reply: &Reply<'_>) -> Answer<T> {
        let code = reply.code;
        let unknown = Answer { code, kind: None, command: None, tag: None };
        let named = self.named(reply);
        let at = named.and_then(|named| self.position(named));
        if named.is_some() && at.is_none() {
            return Answer { kind: named, ..unknown };
        }
        if self.is_greeting(code) {
            return unknown;
        }
        let at = at.unwrap_or(0);
        if code < 200 {
            let Some(run) = self.waiting().get(at) else { return unknown };
            return Answer { code, kind: run.kind, command: Some(self.answered + 1), tag: run.tag };
        }
        match self.take(at) {
            Some(Run { kind, tag, .. }) => Answer { code, kind, command: Some(self.answered), tag },
            None => unknown,
        }
    }

    /// The kind of command that the reply's code names.
    fn named(&self, reply: &Reply<'_>) -> Option<CommandKind> {
        match reply.code {
            // "227 Logout." names none.
            227..=229 if self.awaits(CommandKind::Passive) || reply.endpoint().is_some() => Some(CommandKind::Passive),
            234 if self.awaits(CommandKind::Auth) => Some(CommandKind::Auth),
            234 => Some(CommandKind::Tls),
            _ => None,
        }
    }

    /// Place of the oldest command of this kind, or of those that may be of it.
    fn position(&self, kind: CommandKind) -> Option<usize> {
        let place = |kind| self.waiting().iter().position(|run| run.kind == kind);
        place(Some(kind)).or_else(|| place(None))
    }

    /// Returns true for the replies with which a server greets. 220 answers HOST and REIN too.
    fn is_greeting(&self, code: u16) -> bool {
        let answers_220 = |run: &Run<T>| {
            matches!(run.kind, None | Some(CommandKind::Other | CommandKind::Reinitialize)) && self.greeted
        };
        code == 120 || code == 220 && !self.waiting().first().is_some_and(answers_220)
    }

    /// Takes the oldest command of the run at a place, and all commands before it.
    fn take(&mut self, at: usize) -> Option<Run<T>> {
        let run = *self.waiting().get(at)?;
        let before: u64 = self.runs.iter().take(at).map(|run| u64::from(run.count)).sum();
        self.answered += before + 1;
        let gone = if run.count > 1 { at } else { at + 1 };
        self.runs.copy_within(gone..self.used, 0);
        self.used -= gone;
        if let Some(first) = self.runs.first_mut().filter(|_| run.count > 1) {
            first.count -= 1;
        }
        Some(run)
    }

    fn note_login(&mut self, answer: &Answer<T>) {
        self.login = match (answer.kind, answer.code) {
            // RFC 2228 section 6 has 232.
            (Some(CommandKind::Login), 202 | 230 | 232) => Login::Done,
            (_, 230) if !self.complete => Login::Done,
            (Some(CommandKind::Login), 530) => self.login.failed_again(),
            (None, 530) if !self.complete => self.login.failed_again(),
            _ => return,
        };
    }
}

impl Login {
    const fn failed_again(self) -> Self {
        match self {
            Self::Unknown => Self::Failed(1),
            Self::Failed(times) => Self::Failed(times.saturating_add(1)),
            Self::Done => Self::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;

    type Told = Option<(Option<CommandKind>, Option<u64>)>;

    /// Returns the command that a line answers; `None` for a command, and a line that ends no reply.
    fn says(dialogue: &mut Dialogue, line: &str) -> Told {
        let line = line.as_bytes();
        if line.first().is_some_and(u8::is_ascii_digit) {
            dialogue.reply(line).map(|answer| (answer.kind, answer.command))
        } else {
            dialogue.command(line, None);
            None
        }
    }

    fn spoken(mut dialogue: Dialogue, lines: &[&str]) -> Dialogue {
        for line in lines {
            says(&mut dialogue, line);
        }
        dialogue
    }

    fn begun(lines: &[&str]) -> Dialogue {
        spoken(Dialogue::from_beginning(), lines)
    }

    fn joined(lines: &[&str]) -> Dialogue {
        spoken(Dialogue::from_middle(), lines)
    }

    const NONE: Told = Some((None, None));

    fn answers(kind: CommandKind, command: u64) -> Told {
        Some((Some(kind), Some(command)))
    }

    #[test]
    fn replies_answer_commands_in_turn() {
        let mut dialogue = begun(&[]);
        assert_eq!(says(&mut dialogue, "220 ready"), NONE);
        for (line, told) in [
            ("USER a", None),
            ("PASS b", None),
            ("331 password", answers(CommandKind::Login, 1)),
            ("230 in", answers(CommandKind::Login, 2)),
            ("RETR x", None),
            ("QUIT", None),
            ("150 now", answers(CommandKind::Transfer, 3)),
            ("226 done", answers(CommandKind::Transfer, 3)),
            ("227 Logout.", answers(CommandKind::Quit, 4)),
            ("226 what", NONE),
            ("421 bye", NONE),
        ] {
            assert_eq!(says(&mut dialogue, line), told, "{line}");
        }
    }

    #[test]
    fn replies_that_name_their_command_leave_out_older_ones() {
        for mut dialogue in [begun(&["220 hi"]), joined(&[])] {
            spoken_on(&mut dialogue, &["SYST", "EPSV", "LIST"]);
            assert_eq!(says(&mut dialogue, "229 (|||1|)"), answers(CommandKind::Passive, 2));
            assert_eq!(says(&mut dialogue, "150 now"), answers(CommandKind::Transfer, 3));
        }
        // Nobody asked, or the command was not seen.
        let passive = Some((Some(CommandKind::Passive), None));
        assert_eq!(says(&mut joined(&["NOOP"]), "227 (1,2,3,4,5,6)"), passive);
        let mut dialogue = begun(&["220 hi", "NOOP"]);
        assert_eq!(says(&mut dialogue, "227 (1,2,3,4,5,6)"), passive);
        assert_eq!(says(&mut dialogue, "200 ok"), answers(CommandKind::Other, 1));
    }

    fn spoken_on(dialogue: &mut Dialogue, lines: &[&str]) {
        *dialogue = spoken(*dialogue, lines);
    }

    #[test]
    fn a_greeting_answers_nothing() {
        let mut dialogue = begun(&["USER a", "120 soon", "220 ready"]);
        assert_eq!(says(&mut dialogue, "331 password"), answers(CommandKind::Login, 1));
        let mut dialogue = begun(&["220 ready", "HOST b"]);
        assert_eq!(says(&mut dialogue, "220 that one"), answers(CommandKind::Other, 1));
        let mut dialogue = begun(&["NOOP", "220 ready"]);
        assert_eq!(says(&mut dialogue, "200 yes"), answers(CommandKind::Other, 1));
    }

    #[test]
    fn longer_replies_answer_once() {
        let mut dialogue = begun(&["220 hi", "STAT", "QUIT"]);
        for line in ["211-status", "227 (1,2,3,4,5,6)", "211-more"] {
            assert_eq!(says(&mut dialogue, line), None, "{line}");
        }
        assert_eq!(dialogue.replies().within(), Some(211));
        assert_eq!(says(&mut dialogue, "211 end"), answers(CommandKind::Other, 1));
        assert_eq!(says(&mut dialogue, "221 bye"), answers(CommandKind::Quit, 2));
    }

    #[test]
    fn a_lost_reply_answers_the_oldest_command() {
        let mut dialogue = begun(&["220 hi", "STAT", "QUIT", "211-status"]);
        dialogue.lose_reply();
        assert_eq!(says(&mut dialogue, "221 bye"), answers(CommandKind::Quit, 2));
    }

    #[test]
    fn login() {
        let state = |lines: &[&str]| {
            let dialogue = begun(lines);
            (dialogue.login(), dialogue.may_be_logged_in())
        };
        assert_eq!(state(&["220 hi", "USER a", "331 pass", "PASS b"]), (Login::Unknown, false));
        assert_eq!(
            state(&["220-hi", "230 no", "220 hi", "USER a", "331 pass", "PASS b", "230 in"]),
            (Login::Done, true)
        );
        assert_eq!(state(&["220 hi", "USER a", "230-welcome", "230 in"]), (Login::Done, true));
        assert_eq!(state(&["220 hi", "ACCT a", "202 in"]), (Login::Done, true));
        assert_eq!(state(&["220 hi", "NOOP", "230 in"]), (Login::Unknown, false), "nobody asked to log in");
        assert_eq!(state(&["220 hi", "USER a", "230 in", "REIN", "220 ok"]), (Login::Unknown, false));
        assert_eq!(state(&["220 hi", "USER a", "530 no", "USER b", "530 no"]), (Login::Failed(2), false));
        assert_eq!(joined(&["230 in"]).login(), Login::Done);
        assert!(joined(&[]).may_be_logged_in());
    }

    #[test]
    fn what_is_no_session_does_not_become_one() {
        let post = ["220 hi", "POST / HTTP/1.1", "Host: x", "USER a", "331 pass", "PASS b", "230 in"];
        assert!(begun(&post).is_other_protocol());
        assert!(begun(&["220 hi", "EHLO mail"]).is_other_protocol() && begun(&["220 hi", ""]).is_other_protocol());
        for first in ["USER a", "auth TLS", "FEAT", "OPTS UTF8 ON", "noop"] {
            assert!(!begun(&["220 hi", first, "PORT 1"]).is_other_protocol(), "{first}");
        }
        assert!(!joined(&["RETR file"]).is_other_protocol(), "its beginning was not seen");
    }

    #[test]
    fn passive_replies_are_asked_for() {
        let awaits = |lines: &[&str]| begun(lines).may_await(CommandKind::Passive);
        assert!(!awaits(&["220 hi"]));
        assert!(awaits(&["220 hi", "TYPE I", "PASV"]));
        assert!(awaits(&["220 hi", "TYPE I", "EPSV", "200 ok"]));
        assert!(!awaits(&["220 hi", "PASV", "227 (1,2,3,4,5,6)"]));
        assert!(awaits(&["220 hi", "PASV", "227-(1,2,3,4,5,6)"]));
        assert!(!awaits(&["220 hi", "PASV", "502 no"]));
        assert!(awaits(&["220 hi", "PASV", "150 one moment"]));
        assert!(joined(&[]).may_await(CommandKind::Passive) && !joined(&[]).awaits(CommandKind::Passive));
    }

    #[test]
    fn tls_is_agreed_to_where_it_was_asked_for() {
        assert_eq!(says(&mut begun(&["220 hi", "AUTH TLS"]), "234 go on"), answers(CommandKind::Tls, 1));
        assert_eq!(says(&mut begun(&["220 hi", "AUTH GSSAPI"]), "234 go on"), answers(CommandKind::Auth, 1));
        assert_eq!(
            says(&mut begun(&["220 hi", "AUTH TLS", "502 no"]), "234 go on"),
            Some((Some(CommandKind::Tls), None))
        );
        assert_eq!(says(&mut joined(&[]), "234 go on"), Some((Some(CommandKind::Tls), None)));
    }

    #[test]
    fn more_commands_than_are_remembered() {
        let mut lines = vec!["220 hi"];
        (0..MAX_WAITING).for_each(|_| lines.extend(["NOOP", "PWD", "SYST", "USER a", "PASV"]));
        let mut dialogue = begun(&lines);
        assert!(dialogue.used == MAX_WAITING && dialogue.awaits(CommandKind::Passive));
        // Three runs hold five commands: of the 53 before, the kinds are known.
        let tls = says(&mut dialogue.clone(), "234 go on");
        assert_eq!(tls, Some((None, Some(54))), "a command that is not remembered may have asked for it");
        assert!(!dialogue.may_be_logged_in() && !dialogue.is_other_protocol(), "nothing is taken for granted");
        let all = MAX_WAITING as u64 * 5;
        for number in 1..=all {
            assert_eq!(says(&mut dialogue, "230 in").and_then(|(_, command)| command), Some(number));
        }
        assert_eq!((dialogue.used, says(&mut dialogue, "230 in")), (0, NONE), "every reply answers one");
        says(&mut dialogue, "PASV");
        assert!(dialogue.awaits(CommandKind::Passive), "what is asked then is known again");
        let dialogue = begun(&[&["220 hi", "POST / HTTP/1.1"][..], &["NOOP"; 1000]].concat());
        assert!(dialogue.used < MAX_WAITING && dialogue.is_other_protocol());
    }

    #[test]
    fn tags_come_back_with_the_answer() {
        let mut dialogue = Dialogue::from_beginning();
        for (line, tag) in [("PORT 1", Some(7)), ("PORT 2", Some(8)), ("PORT 3", None), ("PORT 4", None)] {
            dialogue.command(line.as_bytes(), tag);
        }
        let tags = [(); 5].map(|()| dialogue.reply(b"200 ok").and_then(|answer| answer.tag));
        assert_eq!(tags, [Some(7), Some(8), None, None, None]);
    }
}
