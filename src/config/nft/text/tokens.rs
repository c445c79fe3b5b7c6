//! The words of an nftables script.

use core::net::Ipv6Addr;
use std::string::{String, ToString};
use std::vec::Vec;

use crate::config::error::{Error, ErrorKind};

/// A word or sign, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: u32,
    /// The number of its file, among those that were read.
    pub(super) file: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name, keyword, time or class.
    Word(String),
    /// Decimal or hexadecimal digits.
    Number(String),
    /// An IPv4, IPv6 or Ethernet address.
    Address(String),
    /// A text in quotes.
    Quoted(String),
    /// `$name`.
    Variable(String),
    /// `@name`.
    At(String),
    Sign(&'static str),
    /// The end of a line.
    Newline,
    /// A character that no sign has.
    Other(char),
}

/// Signs, longer ones first.
const SIGNS: [&str; 27] = [
    "==", "!=", "<=", ">=", "<<", ">>", "{", "}", "(", ")", "[", "]", ",", ";", ":", ".", "=", "<", ">", "!", "&", "|",
    "^", "+", "-", "/", "*",
];

/// Splits a text into its tokens.
///
/// # Errors
/// A quote that is not closed.
pub(super) fn tokens(text: &str, file: u16) -> Result<Vec<Token>, Error> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (text, 1u32);
    while let Some(first) = rest.chars().next() {
        let (kind, length) = match first {
            '\n' => (Some(Kind::Newline), 1),
            '#' => (None, rest.find('\n').unwrap_or(rest.len())),
            '\\' if line_goes_on(rest).is_some() => (None, line_goes_on(rest).unwrap_or(1)),
            '"' => {
                let inner = rest.get(1..).unwrap_or_default();
                let end = inner.find('"').ok_or_else(|| {
                    Error::new(ErrorKind::UnclosedQuote, line, inner.lines().next().unwrap_or_default(), "close it")
                })?;
                (Some(Kind::Quoted(inner.get(..end).unwrap_or_default().to_string())), end + 2)
            }
            '$' | '@' => {
                let name = run(rest.get(1..).unwrap_or_default(), is_name);
                match first {
                    _ if name.is_empty() => (Some(Kind::Other(first)), 1),
                    '$' => (Some(Kind::Variable(name.to_string())), 1 + name.len()),
                    _ => (Some(Kind::At(name.to_string())), 1 + name.len()),
                }
            }
            _ if first.is_whitespace() => (None, first.len_utf8()),
            _ => {
                let (kind, length) = word(rest);
                (Some(kind), length)
            }
        };
        found.extend(kind.map(|kind| Token { kind, line, file }));
        let (taken, left) = rest.split_at_checked(length.max(1)).unwrap_or((rest, ""));
        line = line.saturating_add(taken.bytes().filter(|byte| *byte == b'\n').count() as u32);
        rest = left;
    }
    Ok(found)
}

/// Returns the number of bytes that a backslash at the end of a line takes with it.
fn line_goes_on(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('\\')?.trim_start_matches([' ', '\t', '\r']);
    after.strip_prefix('\n').map(|left| rest.len() - left.len())
}

const fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '-')
}

/// The characters in front that are of a kind.
fn run(text: &str, is: fn(char) -> bool) -> &str {
    text.get(..text.find(|character| !is(character)).unwrap_or(text.len())).unwrap_or_default()
}

/// The token in front of a text, and its length.
fn word(rest: &str) -> (Kind, usize) {
    if let Some(address) = address(rest) {
        return (Kind::Address(address.to_string()), address.len());
    }
    let first = rest.chars().next().unwrap_or(' ');
    if first.is_ascii_digit() {
        let digits = run(rest, |character| character.is_ascii_alphanumeric() || character == '_');
        let is_hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
        let is_number = match is_hex {
            Some(hex) => !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
            None => digits.bytes().all(|byte| byte.is_ascii_digit()),
        };
        // A class of traffic: `1:10`.
        let after = rest.get(digits.len()..).and_then(|after| after.strip_prefix(':')).unwrap_or_default();
        let class = run(after, |character| character.is_ascii_hexdigit());
        if is_number && !class.is_empty() {
            let length = digits.len() + 1 + class.len();
            return (Kind::Word(rest.get(..length).unwrap_or_default().to_string()), length);
        }
        let kind = if is_number { Kind::Number(digits.to_string()) } else { Kind::Word(digits.to_string()) };
        return (kind, digits.len());
    }
    if first.is_ascii_alphabetic() || first == '_' || first == '\\' {
        let mut name = run(rest, |character| is_name(character) || character == '\\');
        let after = rest.get(name.len()..).unwrap_or_default();
        if name.is_empty() || name == "\\" {
            return (Kind::Other(first), 1);
        }
        // Any ending of an interface's name.
        if after.starts_with('*') {
            name = rest.get(..=name.len()).unwrap_or(name);
        }
        return (Kind::Word(name.to_string()), name.len());
    }
    match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
        Some(sign) => (Kind::Sign(sign), sign.len()),
        None => (Kind::Other(first), first.len_utf8()),
    }
}

/// An address in front of a text.
fn address(rest: &str) -> Option<&str> {
    let digits = run(rest, |character| character.is_ascii_hexdigit() || matches!(character, ':' | '.'));
    if digits.bytes().filter(|byte| *byte == b':').count() >= 2 {
        let groups: Vec<&str> = digits.split(':').collect();
        let is_ethernet = groups.len() == 6 && groups.iter().all(|group| group.len() == 2);
        let ends =
            !rest.get(digits.len()..).unwrap_or_default().starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if ends && (is_ethernet || digits.parse::<Ipv6Addr>().is_ok()) {
            return Some(digits);
        }
        // A colon that follows an address is not part of it.
        let shorter = digits.strip_suffix(':').filter(|shorter| shorter.parse::<Ipv6Addr>().is_ok());
        if shorter.is_some() {
            return shorter;
        }
    }
    let mut length = 0;
    for part in 0..4 {
        if part > 0 {
            length += usize::from(rest.get(length..)?.starts_with('.'));
        }
        let digits = run(rest.get(length..)?, |character| character.is_ascii_digit());
        if digits.is_empty() || digits.len() > 3 || (part > 0 && !rest.get(..length)?.ends_with('.')) {
            return None;
        }
        length += digits.len();
    }
    rest.get(..length)
}

impl Kind {
    /// The token as it is written.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Word(text) | Self::Number(text) | Self::Address(text) => text.clone(),
            Self::Quoted(text) => std::format!("\"{text}\""),
            Self::Variable(name) => std::format!("${name}"),
            Self::At(name) => std::format!("@{name}"),
            Self::Sign(sign) => (*sign).to_string(),
            Self::Newline => "\n".to_string(),
            Self::Other(character) => character.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn words(text: &str) -> Vec<Kind> {
        tokens(text, 0).unwrap().into_iter().map(|token| token.kind).collect()
    }

    fn address(text: &str) -> Kind {
        Kind::Address(text.into())
    }

    fn name(text: &str) -> Kind {
        Kind::Word(text.into())
    }

    fn digits(text: &str) -> Kind {
        Kind::Number(text.into())
    }

    #[test]
    fn addresses_ranges_and_ports_are_told_apart() {
        let dash = || Kind::Sign("-");
        assert_eq!(words("10.0.0.1-10.0.0.9"), [address("10.0.0.1"), dash(), address("10.0.0.9")]);
        assert_eq!(words("1.2.3.4:80"), [address("1.2.3.4"), Kind::Sign(":"), digits("80")]);
        assert_eq!(words("fe80::/10"), [address("fe80::"), Kind::Sign("/"), digits("10")]);
        let with_port = vec![Kind::Sign("["), address("::1"), Kind::Sign("]"), Kind::Sign(":"), digits("80")];
        assert_eq!(words("[::1]:80"), with_port);
        assert_eq!(words("00:11:22:33:44:55"), [address("00:11:22:33:44:55")]);
        assert_eq!(words("1000-2000"), [digits("1000"), dash(), digits("2000")]);
        assert_eq!(
            words("10/second 1h30m 1:10 0x1f"),
            [digits("10"), Kind::Sign("/"), name("second"), name("1h30m"), name("1:10"), digits("0x1f")]
        );
        assert_eq!(words("established:accept"), [name("established"), Kind::Sign(":"), name("accept")]);
    }

    #[test]
    fn lines_are_counted_over_comments_and_ends_that_go_on() {
        let found = tokens("a # b\n\\\n  c \"d\ne\" f", 3).unwrap();
        let lines: Vec<(String, u32)> = found.iter().map(|token| (token.kind.text(), token.line)).collect();
        let expected = [("a", 1), ("\n", 1), ("c", 3), ("\"d\ne\"", 3), ("f", 4)];
        assert_eq!(lines, expected.map(|(text, line)| (text.to_string(), line)));
        assert!(found.iter().all(|token| token.file == 3));
        assert_eq!(tokens("\n\"a", 0).unwrap_err().line, Some(2));
    }
}
