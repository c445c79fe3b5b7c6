//! The part of a side's bytes that is TLS: after `AUTH TLS` and its 234 reply (RFC 4217 section 4), or from the first
//! byte (implicit TLS), until `CCC` (RFC 4217 section 12.3), which itself cannot be read.

/// A change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// TLS begins.
    Tls,
    /// Text can be read again.
    Clear,
}

/// The TLS records of one side, and the number of bytes of the current record that are still to come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cipher {
    on: bool,
    rest: usize,
    /// The beginning of a record's header, where a segment ends within it.
    header: [u8; HEADER],
    begun: usize,
    /// True if the place in the records was lost.
    lost: bool,
}

/// Type, version, length (RFC 8446 section 5.1).
const HEADER: usize = 5;

impl Cipher {
    pub(crate) const fn is_on(&self) -> bool {
        self.on
    }

    /// The place in the records is lost: bytes are missing.
    #[cfg(any(test, feature = "capture"))]
    pub(crate) const fn lose(&mut self) {
        self.lost = true;
    }

    /// Returns true if the place in the records was lost.
    pub(crate) const fn is_lost(&self) -> bool {
        self.lost
    }

    /// Steps over TLS at the start of `bytes`, which begin where a line would; what follows is text. `missing` bytes
    /// follow that were not captured.
    pub(crate) fn pass<'a>(&mut self, bytes: &'a [u8], missing: u32) -> (&'a [u8], Option<Turn>) {
        if !self.on {
            if !may_begin_tls(bytes) {
                return (bytes, None);
            }
            *self = Self { on: true, ..Self::default() };
            let (text, _) = self.records(bytes, missing);
            return (text, Some(Turn::Tls));
        }
        self.records(bytes, missing)
    }

    /// Completes the header of a record that was cut. Returns what follows; the place is lost if it is none.
    fn go_on<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let came = bytes.len().min(HEADER.saturating_sub(self.begun));
        let (more, rest) = bytes.split_at_checked(came).unwrap_or_default();
        if let Some(place) = self.header.get_mut(self.begun..self.begun + came) {
            place.copy_from_slice(more);
        }
        self.begun += came;
        match self.header.get(..self.begun).unwrap_or_default() {
            [high @ 0x80..=0xfe, low, 1, beyond @ ..] => {
                let length = 2 + (usize::from(high & 0x7f) << 8 | usize::from(*low));
                (self.rest, self.begun) = (length.saturating_sub(3 + beyond.len()), 0);
            }
            header @ [_, _, _, high, low] if begins_record(header) => {
                (self.rest, self.begun) = (usize::from(u16::from_be_bytes([*high, *low])), 0);
            }
            header => self.lost = !may_begin_record(header),
        }
        rest
    }

    fn records<'a>(&mut self, mut bytes: &'a [u8], missing: u32) -> (&'a [u8], Option<Turn>) {
        if self.lost {
            if begins_record(bytes) {
                (self.rest, self.begun, self.lost) = (0, 0, false);
            } else if is_text(bytes) {
                *self = Self::default();
                return (bytes, Some(Turn::Clear));
            } else {
                return (&[], None);
            }
        }
        loop {
            let step = self.rest.min(bytes.len());
            self.rest -= step;
            bytes = bytes.get(step..).unwrap_or_default();
            if bytes.is_empty() {
                self.lost |= missing > 0;
                return (&[], None);
            }
            if self.begun > 0 {
                bytes = self.go_on(bytes);
                if self.lost {
                    return (&[], None);
                }
                continue;
            }
            match bytes {
                // An SSL 2 hello: its length without the first bit, then its type.
                [high @ 0x80..=0xff, low, 1, ..] => self.rest = 2 + (usize::from(high & 0x7f) << 8 | usize::from(*low)),
                [_, _, _, high, low, ..] if begins_record(bytes) => {
                    self.rest = HEADER + usize::from(u16::from_be_bytes([*high, *low]));
                }
                _ if may_begin_record(bytes) && missing == 0 => {
                    if let Some(place) = self.header.get_mut(..bytes.len()) {
                        place.copy_from_slice(bytes);
                    }
                    self.begun = bytes.len();
                    return (&[], None);
                }
                _ if is_text(bytes) => {
                    *self = Self::default();
                    return (bytes, Some(Turn::Clear));
                }
                _ => {
                    self.lost = true;
                    return (&[], None);
                }
            }
        }
    }
}

/// Returns true if these bytes are fewer than a record's header, or a hello's in SSL 2's form, and may be its beginning.
fn may_begin_record(bytes: &[u8]) -> bool {
    let begins = match bytes {
        [kind] => matches!(kind, 0x14..=0x18 | 0x80..=0xfe),
        [0x80..=0xfe, _] => true,
        [kind, major] => matches!((kind, major), (0x14..=0x18, 3)),
        _ => begins_record(bytes),
    };
    begins && bytes.len() < HEADER
}

/// Returns true if TLS begins here, or may begin with a record whose header is cut.
fn may_begin_tls(bytes: &[u8]) -> bool {
    begins_tls(bytes) || matches!(bytes, [0x16] | [0x16, 3])
}

/// Returns true if a TLS record begins here: a known type and a version (RFC 8446 section 5.1).
fn begins_record(bytes: &[u8]) -> bool {
    matches!(bytes, [0x14..=0x18, 3, 0..=4, ..])
}

/// Returns true if TLS begins here: a record, or a hello in SSL 2's form (RFC 5246 appendix E.2).
pub(crate) fn begins_tls(bytes: &[u8]) -> bool {
    begins_record(bytes) || matches!(bytes, [0x80..=0xff, _, 1, 3, 0..=4, ..] | [0x80..=0xff, _, 1, 0, 2, ..])
}

/// Returns true if this looks like a line of FTP, or its beginning: letters or digits, and nothing but ASCII in the first
/// line.
fn is_text(bytes: &[u8]) -> bool {
    let mut line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if let [before @ .., b'\r'] = line {
        line = before;
    }
    let printable = |byte: &u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t');
    let is_cut = line.len() == bytes.len() && !bytes.is_empty();
    (line.len() >= 3 || is_cut) && line.iter().take(3).all(u8::is_ascii_alphanumeric) && line.iter().all(printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hellos() {
        assert!(begins_tls(b"\x16\x03\x01\x02\x00\x01"));
        assert!(begins_tls(b"\x80\x2e\x01\x03\x01"));
        assert!(!begins_tls(b"220 ready\r\n"));
        assert!(!begins_tls(b"\xff\xf4\xff\xf2ABOR\r\n"), "Telnet's commands are none");
        assert!(!begins_tls(b"\x16\x02"));
    }

    #[test]
    fn records_over_segments() {
        let mut cipher = Cipher::default();
        assert_eq!(cipher.pass(b"\x16\x03\x03\x00\x04ab", 0), (&[][..], Some(Turn::Tls)));
        assert_eq!(cipher.pass(b"cd\x17\x03\x03\x00\x01x", 0), (&[][..], None));
        assert_eq!(cipher.pass(b"\x15\x03\x03\x00\x01x200 clear\r\n", 0), (&b"200 clear\r\n"[..], Some(Turn::Clear)));
        assert!(!cipher.is_on());
    }

    #[test]
    fn records_whose_headers_are_cut_anywhere() {
        let talk = b"\x16\x03\x03\x00\x04abcd\x17\x03\x03\x00\x01x\x15\x03\x03\x00\x02xy";
        for first in 1..talk.len() {
            for second in first..talk.len() {
                let mut cipher = Cipher::default();
                for piece in [&talk[..first], &talk[first..second], &talk[second..]] {
                    if !piece.is_empty() {
                        assert_eq!(cipher.pass(piece, 0).0, b"", "{first} {second}");
                    }
                }
                assert!(cipher.is_on() && !cipher.is_lost(), "{first} {second}");
                assert_eq!(cipher.pass(b"2", 0), (&b"2"[..], Some(Turn::Clear)), "{first} {second}");
            }
        }
        let mut cipher = Cipher::default();
        cipher.pass(b"\x16\x03", 0);
        assert_eq!(cipher.pass(b"PORT 10,0,0,5,4,210\r\n", 0).0, b"");
        assert!(cipher.is_lost(), "no record, and no text either");
    }

    #[test]
    fn a_lost_place_is_found_again() {
        let mut cipher = Cipher::default();
        cipher.pass(b"\x16\x03\x03\x40\x00ab", 0);
        cipher.lose();
        assert_eq!(cipher.pass(b"\x01\x02garbage", 0), (&[][..], None));
        assert_eq!(cipher.pass(b"\x17\x03\x03\x00\x01x", 0), (&[][..], None));
        assert!(cipher.is_on() && !cipher.lost);
        cipher.lose();
        assert_eq!(cipher.pass(b"221 Bye\r\n", 0), (&b"221 Bye\r\n"[..], Some(Turn::Clear)));
    }

    #[test]
    fn the_capture_may_cut_a_record() {
        let mut cipher = Cipher::default();
        cipher.pass(b"\x16\x03\x03\x00\x40ab", 62);
        assert!(cipher.lost);
    }
}
