//! A place in a text, moving forward.

/// Reads a text from one place on; a step that fails may leave the place moved.
#[derive(Clone, Copy)]
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

/// The reason why there was no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberError {
    /// No digit.
    Missing,
    /// More digits than allowed, or a value above the greatest allowed.
    TooLarge,
}

impl<'a> Scanner<'a> {
    pub(super) const fn new(text: &'a [u8], at: usize) -> Self {
        Self { text, at }
    }

    /// Returns the number of bytes of the text before the current place.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(super) fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// Steps over `byte` if it is next; says whether it was.
    pub(super) fn skip(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// Steps over everything before the next `delimiter`, and over that too; gives what was before it.
    pub(super) fn until(&mut self, delimiter: u8) -> Option<&'a [u8]> {
        let rest = self.rest();
        let length = rest.iter().position(|b| *b == delimiter)?;
        self.at += length + 1;
        rest.get(..length)
    }

    /// Steps over a decimal number of at most as many digits as `max` has.
    pub(super) fn number(&mut self, max: u16) -> Result<u16, NumberError> {
        let start = self.at;
        let mut value = 0_u32;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            self.at += 1;
            value = value * 10 + u32::from(digit - b'0');
            if self.at - start > digits(max) || value > u32::from(max) {
                return Err(NumberError::TooLarge);
            }
        }
        if self.at == start {
            return Err(NumberError::Missing);
        }
        u16::try_from(value).map_err(|_| NumberError::TooLarge)
    }

    /// Steps over a decimal number up to 255, of at most three digits.
    pub(super) fn octet(&mut self) -> Result<u8, NumberError> {
        let value = self.number(u8::MAX.into())?;
        u8::try_from(value).map_err(|_| NumberError::TooLarge)
    }
}

const fn digits(max: u16) -> usize {
    max.ilog10() as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &[u8], max: u16) -> Result<u16, NumberError> {
        Scanner::new(text, 0).number(max)
    }

    #[test]
    fn numbers_have_a_range_and_a_width() {
        assert_eq!(number(b"255,", 255), Ok(255));
        assert_eq!(number(b"007", 255), Ok(7));
        assert_eq!(number(b"256", 255), Err(NumberError::TooLarge));
        assert_eq!(number(b"0007", 255), Err(NumberError::TooLarge));
        assert_eq!(number(b"65535", 65535), Ok(65535));
        assert_eq!(number(b"65536", 65535), Err(NumberError::TooLarge));
        assert_eq!(number(b"99999999999999999999", 65535), Err(NumberError::TooLarge));
        assert_eq!(number(b"", 255), Err(NumberError::Missing));
        assert_eq!(number(b"+1", 255), Err(NumberError::Missing));
    }

    #[test]
    fn steps() {
        let mut s = Scanner::new(b"a1|b", 1);
        assert!(!s.skip(b'a'));
        assert_eq!(s.until(b'|'), Some(&b"1"[..]));
        assert_eq!((s.at(), s.rest(), s.until(b'|')), (3, &b"b"[..], None));
        assert_eq!((s.next(), s.next(), s.peek()), (Some(b'b'), None, None));
        assert_eq!(Scanner::new(b"a", 5).rest(), b"");
    }
}
