//! The commands and replies of a control connection, as far as they matter to announcements.

use crate::conntrack::ExpectationId;
use crate::ftp::{Command, Reply, ReplyLines};

/// Maximum number of requests that wait for their replies, where equal ones in a row count once. Of more, it is known only
/// how many they are: their replies mean nothing.
pub(super) const MOST: usize = 32;

/// A request that waits for its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// USER, PASS, ACCT.
    Login,
    /// PASV, EPSV, LPSV.
    Passive,
    /// PORT, EPRT, LPRT, and what was expected for it.
    Active(Option<ExpectationId>),
    /// AUTH TLS or AUTH SSL.
    Tls,
    Other,
    /// One of those that came when no more could be remembered.
    Unknown,
}

/// The effect of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing that matters.
    Nothing,
    /// The server wants no data connection there.
    Unwanted(ExpectationId),
    /// TLS follows.
    Tls,
    /// TLS may follow.
    Unreadable,
}

/// Follows requests and replies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialogue {
    /// True if everything since the connection's beginning was read.
    complete: bool,
    logged_in: bool,
    /// True if the client's first line was a command of FTP.
    begun: Option<bool>,
    replies: ReplyLines,
    /// Each with how many like it follow each other.
    requests: [(Request, u32); MOST],
    waiting: usize,
}

impl Dialogue {
    /// A dialogue whose beginning was not heard.
    pub(super) fn new() -> Self {
        Self {
            complete: false,
            logged_in: false,
            begun: None,
            replies: ReplyLines::default(),
            requests: [(Request::Other, 0); MOST],
            waiting: 0,
        }
    }

    /// It begins.
    pub(super) fn begin(&mut self) {
        *self = Self { complete: true, ..Self::new() };
    }

    /// Returns true if the client is logged in, or the beginning was not read. Where the beginning was not heard, it
    /// has.
    pub(super) const fn is_logged_in(&self) -> bool {
        self.logged_in || !self.complete
    }

    /// Returns true if the connection began as something else: a browser's request, say, whose text has the lines of a
    /// session.
    pub(super) fn is_something_else(&self) -> bool {
        self.complete && self.begun == Some(false)
    }

    /// Returns true if the client waits for the server's passive endpoint.
    pub(super) fn awaits_passive(&self) -> bool {
        !self.complete || self.waiting().iter().any(|(request, _)| *request == Request::Passive)
    }

    fn waiting(&self) -> &[(Request, u32)] {
        self.requests.get(..self.waiting).unwrap_or_default()
    }

    /// The client says a line, or at least its beginning; `expected` is what was expected for it.
    pub(super) fn command(&mut self, line: &[u8], expected: Option<ExpectationId>) {
        let command = Command::parse(line);
        if self.begun.is_none() {
            self.begun = Some(command.as_ref().is_some_and(may_begin));
        }
        let request = match command {
            None => return,
            Some(Command::User(_) | Command::Pass(_)) => Request::Login,
            Some(Command::Pasv | Command::Epsv(_) | Command::Lpsv) => Request::Passive,
            Some(Command::Port(_) | Command::Eprt(_) | Command::Lprt(_)) => Request::Active(expected),
            Some(Command::Auth(mechanism)) if is_tls(mechanism) => Request::Tls,
            Some(Command::Other { verb, .. }) if verb.eq_ignore_ascii_case(b"ACCT") => Request::Login,
            Some(Command::Other { verb, .. }) if verb.eq_ignore_ascii_case(b"REIN") => {
                self.logged_in = false;
                Request::Other
            }
            Some(_) => Request::Other,
        };
        self.wait_for(request);
    }

    /// Notes a request. The last place takes what has none of its own, as unknown, until it is empty again.
    fn wait_for(&mut self, request: Request) {
        let is_last = self.waiting == MOST;
        if let Some((known, count)) = self.waiting.checked_sub(1).and_then(|last| self.requests.get_mut(last))
            && (is_last || (*known == request && !matches!(request, Request::Active(_))))
        {
            if *known != request {
                *known = Request::Unknown;
            }
            *count = count.saturating_add(1);
            return;
        }
        if let Some(slot) = self.requests.get_mut(self.waiting) {
            *slot = (request, 1);
            self.waiting += 1;
        }
    }

    fn take(&mut self, at: usize) -> Option<Request> {
        let (request, count) = *self.waiting().get(at)?;
        if let Some((_, count)) = self.requests.get_mut(at).filter(|_| count > 1) {
            *count -= 1;
            return Some(request);
        }
        self.requests.copy_within(at + 1..self.waiting, at);
        self.waiting -= 1;
        Some(request)
    }

    /// A reply that was not read as a whole answers the oldest request.
    pub(super) fn lose_reply(&mut self) {
        self.take(0);
        self.replies = ReplyLines::default();
    }

    /// The reply lines before the next line.
    pub(super) const fn replies(&self) -> ReplyLines {
        self.replies
    }

    /// The server says a line, or at least its beginning: `replies` is what they are after it.
    pub(super) fn reply(&mut self, line: &[u8], replies: ReplyLines) -> Answer {
        self.replies = replies;
        let Some(reply) = Reply::parse(line).filter(|reply| !replies.continues() && reply.code >= 200) else {
            return Answer::Nothing;
        };
        let is_passive = |(request, _): &(Request, u32)| *request == Request::Passive;
        let at = match reply.code {
            227..=229 => self.waiting().iter().position(is_passive).unwrap_or(0),
            _ => 0,
        };
        match self.take(at) {
            Some(Request::Login) => {
                self.logged_in |= matches!(reply.code, 202 | 230 | 232);
                Answer::Nothing
            }
            Some(Request::Active(Some(expected))) if reply.code >= 400 => Answer::Unwanted(expected),
            // One that is unknown may have been AUTH. What follows is not read, and nothing more is opened for it.
            Some(Request::Tls) if reply.code == 234 => Answer::Tls,
            Some(Request::Unknown) if reply.code == 234 => Answer::Unreadable,
            _ => Answer::Nothing,
        }
    }
}

/// Returns true if a session may begin with this command: RFC 959's of access and information, and those of its
/// extensions that clients send before they log in.
fn may_begin(command: &Command<'_>) -> bool {
    const OTHERS: [&[u8]; 14] = [
        b"ACCT", b"REIN", b"NOOP", b"HELP", b"STAT", b"SYST", b"OPTS", b"CLNT", b"LANG", b"CSID", b"ADAT", b"XAUT",
        b"SITE", b"MODE",
    ];
    match command {
        Command::Other { verb, .. } => OTHERS.iter().any(|other| verb.eq_ignore_ascii_case(other)),
        _ => true,
    }
}

fn is_tls(mechanism: &[u8]) -> bool {
    // RFC 4217 section 17 has TLS and TLS-C, and SSL and TLS-P of its drafts are still said.
    mechanism.get(..3).is_some_and(|name| name.eq_ignore_ascii_case(b"TLS") || name.eq_ignore_ascii_case(b"SSL"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn says(dialogue: &mut Dialogue, line: &str) -> Answer {
        let line = line.as_bytes();
        if line.first().is_some_and(u8::is_ascii_digit) {
            let mut replies = dialogue.replies();
            replies.code_of(line);
            dialogue.reply(line, replies)
        } else {
            dialogue.command(line, None);
            Answer::Nothing
        }
    }

    fn begun(lines: &[&str]) -> Dialogue {
        let mut dialogue = Dialogue::new();
        dialogue.begin();
        for line in lines {
            says(&mut dialogue, line);
        }
        dialogue
    }

    #[test]
    fn login() {
        assert!(!begun(&["220 hi", "USER a", "331 pass", "PASS b"]).is_logged_in());
        assert!(begun(&["220-hi", "230 no", "220 hi", "USER a", "331 pass", "PASS b", "230 in"]).is_logged_in());
        assert!(begun(&["220 hi", "USER a", "230-welcome", "230 in"]).is_logged_in());
        assert!(!begun(&["220 hi", "NOOP", "230 in"]).is_logged_in(), "nobody asked to be let in");
        assert!(!begun(&["220 hi", "USER a", "230 in", "REIN", "220 ok"]).is_logged_in());
        assert!(Dialogue::new().is_logged_in());
    }

    #[test]
    fn what_is_no_session_does_not_become_one() {
        let post = ["220 hi", "POST / HTTP/1.1", "Host: x", "USER a", "331 pass", "PASS b", "230 in"];
        assert!(begun(&post).is_something_else());
        assert!(begun(&["220 hi", "EHLO mail"]).is_something_else() && begun(&["220 hi", ""]).is_something_else());
        for first in ["USER a", "auth TLS", "FEAT", "OPTS UTF8 ON", "noop"] {
            assert!(!begun(&["220 hi", first, "PORT 1"]).is_something_else(), "{first}");
        }
        let mut joined = Dialogue::new();
        says(&mut joined, "RETR file");
        assert!(!joined.is_something_else(), "its beginning was not heard");
    }

    #[test]
    fn passive_replies_are_asked_for() {
        assert!(!begun(&["220 hi"]).awaits_passive());
        assert!(begun(&["220 hi", "TYPE I", "PASV"]).awaits_passive());
        assert!(begun(&["220 hi", "TYPE I", "EPSV", "200 ok"]).awaits_passive());
        assert!(!begun(&["220 hi", "PASV", "227 (1,2,3,4,5,6)"]).awaits_passive());
        assert!(begun(&["220 hi", "PASV", "227-(1,2,3,4,5,6)"]).awaits_passive());
        assert!(!begun(&["220 hi", "PASV", "502 no"]).awaits_passive());
        assert!(begun(&["220 hi", "PASV", "150 one moment"]).awaits_passive());
    }

    #[test]
    fn tls() {
        let mut dialogue = begun(&["220 hi", "AUTH TLS"]);
        assert_eq!(says(&mut dialogue, "234 go on"), Answer::Tls);
        let mut dialogue = begun(&["220 hi", "AUTH TLS", "502 no"]);
        assert_eq!(says(&mut dialogue, "234 go on"), Answer::Nothing);
    }

    #[test]
    fn more_requests_than_are_remembered() {
        let mut lines = vec!["220 hi"];
        (0..MOST).for_each(|_| lines.extend(["NOOP", "PWD", "SYST", "USER a", "PASV"]));
        let mut dialogue = begun(&lines);
        assert!(dialogue.waiting == MOST && dialogue.awaits_passive());
        assert!(!dialogue.is_logged_in() && !dialogue.is_something_else(), "nothing is taken for granted");
        (0..MOST * 5).for_each(|_| {
            says(&mut dialogue, "230 in");
        });
        assert_eq!(dialogue.waiting, 0, "every reply answers one");
        says(&mut dialogue, "PASV");
        assert!(dialogue.awaits_passive(), "what is asked then is known again");
        let dialogue = begun(&[&["220 hi", "POST / HTTP/1.1"][..], &["NOOP"; 1000]].concat());
        assert!(dialogue.waiting < MOST && dialogue.is_something_else());
    }
}
