//! Models of FTP servers: the spellings of PORT that each reads, as `tests/servers/ask.py` measured them.

const WHITE: &[u8] = b"\t\x0b\x0c\r ";

/// A server's reading of PORT.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    /// True if Telnet commands are taken out of the line.
    telnet: bool,
    /// Bytes before the verb that are skipped.
    before_verb: &'static [u8],
    /// Bytes that end the verb.
    ends_verb: &'static [u8],
    /// Bytes that are skipped before the first number, and before each other.
    before_numbers: [&'static [u8]; 2],
    /// Bytes between a number and its comma that are skipped; `None`: any.
    after_number: Option<&'static [u8]>,
    /// True if a field without a number is 0.
    empty_is_zero: bool,
    /// Bytes that may follow the last number; `None`: any.
    at_end: Option<&'static [u8]>,
    /// True if underscores may be between digits.
    underscores: bool,
}

pub(crate) const SERVERS: [Server; 4] = [
    Server {
        name: "vsftpd",
        telnet: false,
        before_verb: b"",
        ends_verb: b" ",
        before_numbers: [b"\0\t\x0b\x0c\r ", WHITE],
        after_number: None,
        empty_is_zero: true,
        at_end: None,
        underscores: false,
    },
    Server {
        name: "proftpd",
        telnet: true,
        before_verb: b"\r",
        ends_verb: WHITE,
        before_numbers: [b"\t\x0b\x0c\r \"", b""],
        after_number: Some(b""),
        empty_is_zero: false,
        at_end: None,
        underscores: false,
    },
    Server {
        name: "pure-ftpd",
        telnet: false,
        before_verb: b"",
        ends_verb: b" ",
        before_numbers: [b" ", b" "],
        after_number: Some(b""),
        empty_is_zero: false,
        at_end: None,
        underscores: false,
    },
    Server {
        name: "pyftpdlib",
        telnet: false,
        before_verb: b"",
        ends_verb: b" ",
        before_numbers: [WHITE, WHITE],
        after_number: Some(WHITE),
        empty_is_zero: false,
        at_end: Some(WHITE),
        underscores: true,
    },
];

impl Server {
    /// The address and the port's two numbers, if the server reads an announcement in this line, which has no LF.
    pub(crate) fn reads(&self, line: &[u8]) -> Option<[u32; 6]> {
        let mut line = if self.telnet { without_telnet(line) } else { line.to_vec() };
        while line.last() == Some(&b'\r') {
            line.pop();
        }
        let rest = skip(&line, self.before_verb);
        let verb = rest.iter().position(|byte| self.ends_verb.contains(byte))?;
        if !rest[..verb].eq_ignore_ascii_case(b"PORT") {
            return None;
        }
        let mut rest = skip(&rest[verb..], self.ends_verb);
        let mut numbers = [0; 6];
        for (index, number) in numbers.iter_mut().enumerate() {
            if index > 0 {
                let skipped = match self.after_number {
                    Some(bytes) => skip(rest, bytes),
                    None => &rest[rest.iter().position(|byte| *byte == b',')?..],
                };
                rest = skipped.strip_prefix(b",")?;
            }
            rest = skip(rest, self.before_numbers[usize::from(index > 0)]);
            let signed = rest.strip_prefix(b"+").unwrap_or(rest);
            let is_digit = |byte: &&u8| byte.is_ascii_digit() || self.underscores && **byte == b'_';
            let digits: Vec<u8> = signed.iter().take_while(is_digit).copied().collect();
            rest = if digits.is_empty() { rest } else { &signed[digits.len()..] };
            let text: String = digits.iter().filter(|byte| **byte != b'_').map(|byte| char::from(*byte)).collect();
            *number = match text.trim_start_matches('0') {
                "" if text.is_empty() && !self.empty_is_zero => return None,
                "" => 0,
                text => text.parse().ok().filter(|number| *number < 256)?,
            };
        }
        let is_end = self.at_end.is_none_or(|allowed| skip(rest, allowed).is_empty());
        is_end.then_some(numbers)
    }
}

fn skip<'t>(text: &'t [u8], bytes: &[u8]) -> &'t [u8] {
    &text[text.iter().take_while(|byte| bytes.contains(byte)).count()..]
}

fn without_telnet(mut line: &[u8]) -> Vec<u8> {
    let mut left = Vec::new();
    while let [first, rest @ ..] = line {
        line = match (first, rest) {
            (255, [251..=254, _, rest @ ..]) => rest,
            (255, [241..=250, rest @ ..]) => rest,
            _ => {
                left.push(*first);
                rest
            }
        };
    }
    left
}
