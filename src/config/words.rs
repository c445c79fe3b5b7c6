//! Words as a shell and `iptables-save` write them.

use core::iter::Peekable;
use core::str::Chars;
use std::string::String;
use std::vec::Vec;

use super::error::{Error, ErrorKind};

/// One word of a command, without its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// The line it begins on, from 1.
    pub(super) line: u32,
    /// Part of it stood in quotes, so it is no option whatever it looks like.
    pub(super) quoted: bool,
    /// A shell would put something else in its place.
    pub(super) expands: bool,
    /// `;`, `&&`, `>` and the like.
    pub(super) operator: bool,
}

impl Word {
    pub(super) fn new(text: &str, line: u32) -> Self {
        Self { text: text.into(), line, quoted: false, expands: false, operator: false }
    }

    /// Whether it is `text`, not quoted.
    pub(super) fn is(&self, text: &str) -> bool {
        !self.quoted && self.text == text
    }

    /// Whether it looks like an option: a dash and something that is no digit.
    pub(super) fn is_option(&self) -> bool {
        let rest = self.text.strip_prefix('-');
        !self.quoted && rest.and_then(|rest| rest.chars().next()).is_some_and(|c| !c.is_ascii_digit())
    }
}

/// The words of each command that is not empty. A command ends with its line, unless a backslash (with nothing but
/// blanks behind it) continues the line.
pub(super) fn commands(text: &str) -> Result<Vec<Vec<Word>>, Error> {
    let mut lexer = Lexer { chars: text.chars().peekable(), line: 1, shell: true };
    let mut commands = Vec::new();
    while lexer.chars.peek().is_some() {
        let words = lexer.command()?;
        if !words.is_empty() {
            commands.push(words);
        }
    }
    Ok(commands)
}

struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    line: u32,
    /// Whether this line is a shell's; `iptables-save` begins its lines with one of `-[:*`.
    shell: bool,
}

impl Lexer<'_> {
    fn command(&mut self) -> Result<Vec<Word>, Error> {
        let mut words = Vec::new();
        loop {
            self.blanks();
            match self.chars.peek().copied() {
                None => return Ok(words),
                Some('\n') => {
                    self.newline();
                    return Ok(words);
                }
                Some('#') => while self.chars.next_if(|&c| c != '\n').is_some() {},
                Some(first) => {
                    if words.is_empty() {
                        self.shell = !matches!(first, '-' | '[' | ':' | '*');
                    }
                    words.push(self.word_or_operator(first)?);
                }
            }
        }
    }

    fn newline(&mut self) {
        self.chars.next();
        self.line = self.line.saturating_add(1);
    }

    fn blanks(&mut self) {
        while self.chars.next_if(|&c| c != '\n' && c.is_whitespace()).is_some() || self.continuation() {}
    }

    /// Passes a backslash at the end of a line, and that end.
    fn continuation(&mut self) -> bool {
        let mut ahead = self.chars.clone();
        if ahead.next_if_eq(&'\\').is_none() {
            return false;
        }
        while ahead.next_if(|&c| c != '\n' && c.is_whitespace()).is_some() {}
        match ahead.peek() {
            None => self.chars = ahead,
            Some('\n') => {
                self.chars = ahead;
                self.newline();
            }
            Some(_) => return false,
        }
        true
    }

    fn word_or_operator(&mut self, first: char) -> Result<Word, Error> {
        if self.is_operator(first) { Ok(self.operator(Word::new("", self.line))) } else { self.word() }
    }

    fn is_operator(&self, c: char) -> bool {
        self.shell && matches!(c, ';' | '&' | '|' | '<' | '>')
    }

    fn operator(&mut self, mut word: Word) -> Word {
        while let Some(c) = self.chars.next_if(|c| matches!(c, ';' | '&' | '|' | '<' | '>')) {
            word.text.push(c);
        }
        word.operator = true;
        word
    }

    fn word(&mut self) -> Result<Word, Error> {
        let mut word = Word::new("", self.line);
        while let Some(c) = self.chars.peek().copied() {
            if c.is_whitespace() {
                break;
            }
            if self.is_operator(c) {
                // `2>` redirects the second descriptor; the digit is no word.
                let descriptor = matches!(c, '<' | '>') && word.text.bytes().all(|b| b.is_ascii_digit());
                return Ok(if descriptor { self.operator(word) } else { word });
            }
            if c == '\\' && self.continuation() {
                continue;
            }
            self.chars.next();
            match c {
                '\\' => word.text.extend(self.chars.next()),
                '\'' => self.single_quotes(&mut word)?,
                '"' => self.double_quotes(&mut word)?,
                _ => {
                    word.expands |= matches!(c, '$' | '`');
                    word.text.push(c);
                }
            }
        }
        Ok(word)
    }

    fn single_quotes(&mut self, word: &mut Word) -> Result<(), Error> {
        word.quoted = true;
        loop {
            match self.chars.next() {
                Some('\'') => return Ok(()),
                Some(c) if c != '\n' => word.text.push(c),
                _ => return Err(Error::at(word, ErrorKind::UnclosedQuote, "close it with '")),
            }
        }
    }

    fn double_quotes(&mut self, word: &mut Word) -> Result<(), Error> {
        word.quoted = true;
        loop {
            if self.continuation() {
                continue;
            }
            match self.chars.next() {
                Some('"') => return Ok(()),
                Some('\\') => match self.chars.next_if(|c| matches!(c, '"' | '\\' | '\'' | '$' | '`')) {
                    Some(escaped) => word.text.push(escaped),
                    None => word.text.push('\\'),
                },
                Some(c) if c != '\n' => {
                    word.expands |= self.shell && matches!(c, '$' | '`');
                    word.text.push(c);
                }
                _ => return Err(Error::at(word, ErrorKind::UnclosedQuote, "close it with \"")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn texts(text: &str) -> Vec<Vec<String>> {
        commands(text).unwrap().into_iter().map(|words| words.into_iter().map(|w| w.text).collect()).collect()
    }

    #[test]
    fn a_backslash_continues_even_with_blanks_behind_it() {
        assert_eq!(texts("a b \\ \t\r\n  c\nd\\\ne"), [vec!["a", "b", "c"], vec!["de"]]);
        let words = commands("\n# x\na \\\nb\n").unwrap();
        assert_eq!((words[0][0].line, words[0][1].line), (3, 4));
        assert_eq!(texts("a \\"), [vec!["a"]]);
    }

    #[test]
    fn quotes_and_escapes() {
        assert_eq!(
            texts(r#"a "b c" 'd "e' f\ g "h\"i\\j" "k\l" """#),
            [vec!["a", "b c", "d \"e", "f g", "h\"i\\j", "k\\l", ""]]
        );
        for text in ["a 'b", "a \"b\nc\"", "\""] {
            assert_eq!(commands(text).unwrap_err().kind, ErrorKind::UnclosedQuote);
        }
    }

    #[test]
    fn comments_begin_where_a_word_would() {
        assert_eq!(texts("# all\na b#c # d 'e\n"), [vec!["a", "b#c"]]);
    }

    #[test]
    fn a_shell_expands_and_iptables_save_does_not() {
        let expands = |text: &str| commands(text).unwrap()[0].iter().any(|w| w.expands);
        assert!(expands("iptables -i $EXT"));
        assert!(expands("iptables -i \"$EXT\""));
        assert!(expands("-A INPUT -i $EXT"));
        assert!(!expands("iptables -i '$EXT'"));
        assert!(!expands("-A INPUT --comment \"5$\""));
    }

    #[test]
    fn operators_stand_alone_in_a_shell() {
        assert_eq!(texts("a;b&&c 2>/dev/null"), [vec!["a", ";", "b", "&&", "c", "2>", "/dev/null"]]);
        assert_eq!(texts("-A a;b"), [vec!["-A", "a;b"]]);
        assert!(commands("a 2>b").unwrap()[0][1].operator);
    }
}
