//! A client's log: its FTP lines are found by what they are, whatever the client and its language.
//!
//! Known are FileZilla (`Response:` in any language), `curl -v`, lftp's debug output, WinSCP's log and ftplib's debug
//! output. A line counts if a mark of one of these stands before a reply or a command.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::boxed::Box;
use std::string::{String, ToString};

use super::flow::{Flow, Mark};
use super::text::{Line, Text};
use super::view::{View, is_ftp_command};
use crate::ftp::{Command, Reply};

/// Reads a log as a view with one connection for each greeting. `None` if it has no FTP line.
pub(super) fn read(name: &str, file: usize, log: &str) -> Option<View> {
    let mut view = View::of_log(name, file);
    let mut server = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 21);
    let mut text = Text::default();
    for (number, line) in log.lines().enumerate() {
        let at = Mark { frame: number as u64 + 1, time: 0 };
        let Some((side, said)) = ftp_line(line) else {
            server = dialled(line).unwrap_or(server);
            continue;
        };
        let greets = side == 1 && Reply::parse(said).is_some_and(|reply| matches!(reply.code, 120 | 220 | 421));
        if greets && text.lines.iter().any(|line| line.side == 0) && !is_answered_by(&text, said) {
            view.add(server, core::mem::take(&mut text));
        }
        if side == 1 && said.starts_with(b"234") {
            text.tls.get_or_insert(at);
        }
        text.lines.push(Line { side, text: said.to_vec(), at });
    }
    if text.lines.is_empty() && view.flows.is_empty() {
        return None;
    }
    view.add(server, text);
    Some(view)
}

/// True if a 220 answers a command rather than greets.
fn is_answered_by(text: &Text, said: &[u8]) -> bool {
    let last = text.lines.last();
    last.is_some_and(|line| {
        // Inside a reply of many lines, or after HOST and REIN, a 220 is no greeting.
        line.side == 1 && Reply::parse(&line.text).is_none_or(|reply| reply.continues)
            || line.side == 0
                && line.text.get(..4).is_some_and(|verb| matches!(&verb.to_ascii_uppercase()[..], b"HOST" | b"REIN"))
    }) && !said.is_empty()
}

/// Returns the FTP line within a line of a log: 0 for a command, 1 for a reply.
fn ftp_line(line: &str) -> Option<(usize, &[u8])> {
    if let Some(said) = quoted(line, "*resp* ") {
        return Some((1, said));
    }
    if let Some(said) = quoted(line, "*cmd* ") {
        return Some((0, said));
    }
    // ftplib tells each line twice.
    if line.starts_with("*get* ") || line.starts_with("*put* ") || line.starts_with("*welcome* ") {
        return None;
    }
    let places = line.char_indices().filter(|(at, _)| is_marked(&line[..*at]));
    for (at, _) in places {
        let rest = line.get(at..)?.trim_end();
        let bytes = rest.as_bytes();
        if Reply::parse(bytes).is_some() && has_words(rest) {
            return Some((1, bytes));
        }
        let upper = rest.starts_with(|c: char| c.is_ascii_uppercase());
        let verb: String = rest.chars().take_while(char::is_ascii_uppercase).collect();
        let whole = verb.len() >= 3 && rest[verb.len()..].chars().next().is_none_or(|next| next == ' ');
        let is_command =
            is_ftp_command(bytes) || matches!(Command::parse(bytes), Some(Command::Quit | Command::Pass(_)));
        if upper && whole && is_command {
            return Some((0, bytes));
        }
    }
    None
}

/// True where an FTP line may begin: after a client's mark.
fn is_marked(before: &str) -> bool {
    const MARKS: [&str; 8] = ["< ", "> ", "<-- ", "--> ", "<--- ", "---> ", ": ", ":\t"];
    if before.is_empty() {
        return true;
    }
    if MARKS.iter().any(|mark| before.ends_with(mark)) {
        return true;
    }
    // WinSCP has a time after its mark, FileZilla several blanks.
    let winscp = before.starts_with("> ") || before.starts_with("< ");
    let rest = before.get(2..).unwrap_or_default();
    let is_time =
        rest.chars().all(|c| c.is_ascii_digit() || " -:.".contains(c)) && rest.ends_with(' ') && rest.len() > 10;
    winscp && is_time
        || before.ends_with(' ')
            && before.trim_end().ends_with(':')
            && !before.trim_end().ends_with(|c: char| c.is_ascii_digit())
}

/// True if what looks like a reply is more than a number at the start of a time or a size.
fn has_words(reply: &str) -> bool {
    let rest = reply.get(3..).unwrap_or_default();
    rest.is_empty()
        || rest.starts_with([' ', '-'])
            && rest.get(1..).is_some_and(|text| !text.starts_with(|c: char| c.is_ascii_digit()) || text.len() > 12)
}

fn quoted<'l>(line: &'l str, mark: &str) -> Option<&'l [u8]> {
    let said = line.strip_prefix(mark)?.trim();
    let said = said.strip_prefix(['\'', '"']).unwrap_or(said);
    let said = said.strip_suffix(['\'', '"']).unwrap_or(said);
    Some(said.split("\\n").next().unwrap_or(said).as_bytes())
}

/// Returns the server's address where a log names the one that is dialled.
fn dialled(line: &str) -> Option<SocketAddr> {
    let ends = |c: char| c.is_whitespace() || "()[]|,'\"".contains(c);
    line.split(ends).map(|word| word.trim_end_matches(['.', ':'])).find_map(|word| {
        let plain = word.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 21));
        word.parse::<SocketAddr>().ok().or(plain.filter(|_| word.contains('.') && word.len() >= 7))
    })
}

impl View {
    fn of_log(name: &str, file: usize) -> Self {
        let mut view = Self::empty(name.to_string(), file, false);
        view.is_log = true;
        view
    }

    fn add(&mut self, server: SocketAddr, text: Text) {
        let number = u16::try_from(self.flows.len() + 1).unwrap_or(u16::MAX);
        let client = SocketAddr::new(
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { core::net::Ipv6Addr::UNSPECIFIED.into() },
            number,
        );
        let first = text.lines.first().map(|line| line.at).unwrap_or_default();
        let mut flow = Flow::new([client, server], first);
        for side in &mut flow.sides {
            side.packets = 1;
            side.bytes = 1;
        }
        flow.text = Some(Box::new(text));
        self.flows.push(flow);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn said(log: &str) -> Vec<(usize, String)> {
        let lines = log.lines().filter_map(ftp_line);
        lines.map(|(side, line)| (side, String::from_utf8_lossy(line).into_owned())).collect()
    }

    #[test]
    fn lines_are_found_whatever_the_client() {
        let expected: Vec<(usize, String)> = [
            (1, "220 ready"),
            (0, "USER anonymous"),
            (1, "230 in"),
            (0, "PASV"),
            (1, "227 Entering Passive Mode (10,0,0,5,195,80)."),
        ]
        .map(|(side, line)| (side, line.to_string()))
        .into();
        let filezilla = "Status:\tVerbinde mit 192.0.2.7:21...\nAntwort:\t220 ready\nBefehl:\tUSER anonymous\nОтвет:\t230 in\n\
                         명령:\tPASV\n응답:\t227 Entering Passive Mode (10,0,0,5,195,80).\nFehler:\tZeitüberschreitung nach 20 Sekunden";
        let curl = "*   Trying 192.0.2.7:21...\n< 220 ready\n> USER anonymous\n< 230 in\n> PASV\n\
                    < 227 Entering Passive Mode (10,0,0,5,195,80).\n* Connection timed out";
        let lftp = "---- Connecting to h (192.0.2.7) port 21\n<--- 220 ready\n---> USER anonymous\n<--- 230 in\n---> PASV\n\
                    <--- 227 Entering Passive Mode (10,0,0,5,195,80).";
        let winscp = ". 2024-02-03 10:11:12.001 Connecting\n< 2024-02-03 10:11:12.041 220 ready\n\
                      > 2024-02-03 10:11:12.042 USER anonymous\n< 2024-02-03 10:11:12.050 230 in\n> 2024-02-03 10:11:12.052 PASV\n\
                      < 2024-02-03 10:11:12.060 227 Entering Passive Mode (10,0,0,5,195,80).";
        let ftplib = "*resp* '220 ready'\n*cmd* 'USER anonymous'\n*put* 'USER anonymous\\r\\n'\n*get* '230 in\\n'\n\
                      *resp* '230 in'\n*cmd* 'PASV'\n*resp* '227 Entering Passive Mode (10,0,0,5,195,80).'";
        for log in [filezilla, curl, lftp, winscp, ftplib] {
            assert_eq!(said(log), expected, "{log}");
        }
    }

    #[test]
    fn the_dialled_address_is_read() {
        assert_eq!(dialled("*   Trying 192.0.2.7:2121..."), Some("192.0.2.7:2121".parse().unwrap()));
        assert_eq!(dialled("---- Connecting to h (192.0.2.7) port 21"), Some("192.0.2.7:21".parse().unwrap()));
        assert_eq!(dialled("Status: no address"), None);
    }
}
