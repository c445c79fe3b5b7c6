//! Lines on a control connection, as text or as within TLS.

use std::vec::Vec;

/// The type of a TLS record that carries data, and the version that all records name.
const RECORD: [u8; 3] = [0x17, 3, 3];
/// Length of a record's header in bytes.
const HEADER: usize = 5;
/// The value that bytes are changed with within TLS: enough that nobody takes them for text.
const MASK: u8 = 0xa5;

/// One side's way to write and read lines.
#[derive(Debug, Default)]
pub(super) struct Talk {
    pub(super) received: Vec<u8>,
    /// True once TLS has begun.
    pub(super) is_encrypted: bool,
}

impl Talk {
    /// Returns the bytes of a line.
    pub(super) fn write(&self, line: &[u8]) -> Vec<u8> {
        if !self.is_encrypted {
            return [line, b"\r\n"].concat();
        }
        let length = u16::try_from(line.len()).unwrap_or(u16::MAX);
        let masked = line.iter().take(length.into()).map(|byte| byte ^ MASK);
        RECORD.into_iter().chain(length.to_be_bytes()).chain(masked).collect()
    }

    /// Takes bytes that arrived.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.received.extend(bytes);
    }

    /// Returns the next complete line, without its end.
    pub(super) fn next_line(&mut self) -> Option<Vec<u8>> {
        if self.is_encrypted {
            let length = usize::from(u16::from_be_bytes([*self.received.get(3)?, *self.received.get(4)?]));
            let line = self.received.get(HEADER..HEADER + length)?.iter().map(|byte| byte ^ MASK).collect();
            self.received.drain(..HEADER + length);
            return Some(line);
        }
        let end = self.received.iter().position(|byte| *byte == b'\n')?;
        let mut line: Vec<u8> = self.received.drain(..=end).collect();
        while matches!(line.last(), Some(b'\r' | b'\n')) {
            line.pop();
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_arrive_whole_however_they_are_cut() {
        for is_encrypted in [false, true] {
            let mut talk = Talk { is_encrypted, ..Talk::default() };
            let sent = [talk.write(b"PASV"), talk.write(b"LIST")].concat();
            assert_eq!(sent.windows(4).any(|word| word == b"PASV"), !is_encrypted);
            let mut lines = Vec::new();
            for byte in sent {
                talk.receive(&[byte]);
                lines.extend(talk.next_line());
            }
            assert_eq!(lines, [b"PASV", b"LIST"]);
        }
    }
}
