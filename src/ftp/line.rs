//! The text of a line.

use core::ops::Range;

/// The first line of `bytes` without its end: up to the first line feed, or all of it, and without the carriage
/// returns before that.
pub(super) fn content(bytes: &[u8]) -> &[u8] {
    let mut line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    while let [before @ .., b'\r'] = line {
        line = before;
    }
    line
}

/// `range` of `line` without the blanks and control bytes at its ends.
pub(super) fn trimmed(line: &[u8], range: Range<usize>) -> Range<usize> {
    let text = line.get(range.clone()).unwrap_or_default();
    let front = text.iter().take_while(|b| is_junk(**b)).count();
    let back = text.iter().rev().take_while(|b| is_junk(**b)).count();
    let start = range.start + front;
    start..(range.end - back.min(range.len())).max(start)
}

/// The length of the Telnet commands at the start of `line`: RFC 959 section 4.1 has a client send IP and Synch
/// before `ABOR`, so that they stand before the command.
pub(super) fn telnet(line: &[u8]) -> usize {
    const INTERPRET_AS_COMMAND: u8 = 255;
    let mut rest = line;
    loop {
        rest = match rest {
            // WILL, WONT, DO and DONT carry an option (RFC 854).
            [INTERPRET_AS_COMMAND, 251..=254, _, behind @ ..] => behind,
            // From NOP to Go Ahead; subnegotiation, whose end would have to be found, has no place here.
            [INTERPRET_AS_COMMAND, 241..=249, behind @ ..] => behind,
            // The Data Mark, if the command before it went as urgent data and was lost from the stream.
            [242, behind @ ..] => behind,
            _ => return line.len() - rest.len(),
        }
    }
}

/// Returns true for a blank or a control byte: some server skips it around a command's words, or ends a word with it.
pub(super) const fn is_junk(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ends_at_the_line_feed() {
        assert_eq!(content(b"QUIT\r\n"), b"QUIT");
        assert_eq!(content(b"QUIT\nPWD\r\n"), b"QUIT");
        assert_eq!(content(b"QUIT\r\r\n"), b"QUIT");
        assert_eq!(content(b"QUIT"), b"QUIT");
        assert_eq!(content(b"a\rb\r\n"), b"a\rb");
        assert_eq!(content(b"\r\n"), b"");
        assert_eq!(content(b""), b"");
    }

    #[test]
    fn trims_both_ends() {
        assert_eq!(trimmed(b" a b\t", 0..5), 1..4);
        assert_eq!(trimmed(b"ab", 0..2), 0..2);
        assert_eq!(trimmed(b"x   ", 1..4), 4..4);
        assert_eq!(trimmed(b"x", 1..1), 1..1);
    }

    #[test]
    fn telnet_commands_are_stepped_over() {
        assert_eq!(telnet(b"\xff\xf4\xff\xf2ABOR"), 4);
        assert_eq!(telnet(b"\xff\xf4\xf2ABOR"), 3);
        assert_eq!(telnet(b"\xff\xfb\x01X"), 3);
        assert_eq!(telnet(b"\xff\xfe\x01\xff\xf1\xff\xf9X"), 7);
        assert_eq!(telnet(b"\xff\xfa\x01X"), 0);
        assert_eq!(telnet(b"\xff\xf0X"), 0);
        assert_eq!(telnet(b"\xff\xffX"), 0);
        assert_eq!(telnet(b"\xff"), 0);
        assert_eq!(telnet(b"ABOR"), 0);
    }
}
