//! Words as a shell and `iptables-save` write them.

use core::iter::Peekable;
use core::mem;
use core::str::Chars;
use std::collections::BTreeMap;
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

    /// Returns true if it is `text`, not quoted.
    pub(super) fn is(&self, text: &str) -> bool {
        !self.quoted && self.text == text
    }

    /// Returns true if it looks like an option: a dash and a character that is no digit.
    pub(super) fn is_option(&self) -> bool {
        let rest = self.text.strip_prefix('-');
        !self.quoted && rest.and_then(|rest| rest.chars().next()).is_some_and(|c| !c.is_ascii_digit())
    }
}

/// Maximum number of bytes of a constant's value; a longer one has no value.
const MAX_CONSTANT: usize = 4096;
/// Maximum number of constants of one file; later ones have no value.
const MAX_CONSTANTS: usize = 4096;

/// Returns the words of each command that is not empty. A command ends with its line, unless a backslash (with nothing
/// but blanks after it) continues the line.
///
/// A line that only assigns constants (`EXT=eth0`, `export IPT="/sbin/iptables -w"`) is no command; where the constant
/// is used (`$EXT`, `${EXT}`), its value takes its place, as a shell does it: without quotes it is split at blanks.
pub(super) fn commands(text: &str) -> Result<Vec<Vec<Word>>, Error> {
    let mut lexer = Lexer { chars: text.chars().peekable(), line: 1, shell: true, constants: BTreeMap::new() };
    let mut commands = Vec::new();
    while lexer.chars.peek().is_some() {
        let words = lexer.command()?;
        if !words.is_empty() && !lexer.assign(&words) {
            commands.push(words);
        }
    }
    Ok(commands)
}

/// Splits `NAME=VALUE` of a shell.
fn assignment(word: &Word) -> Option<(&str, &str)> {
    let (name, value) = word.text.split_once('=')?;
    let first = name.chars().next()?;
    let is_name = (first.is_ascii_alphabetic() || first == '_') && name.chars().all(is_name_char);
    (is_name && !word.operator).then_some((name, value))
}

const fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    line: u32,
    /// True if this line is a shell's; `iptables-save` begins its lines with one of `-[:*`.
    shell: bool,
    /// The constants assigned so far; `None` where the value is not in the file, such as `$(hostname)`.
    constants: BTreeMap<String, Option<String>>,
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
                    self.word_or_operator(first, &mut words)?;
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

    /// Takes the constants that a command assigns and says whether it does nothing else.
    fn assign(&mut self, words: &[Word]) -> bool {
        let words = match words.split_first() {
            Some((first, rest))
                if ["export", "readonly", "declare", "local", "typeset"].iter().any(|w| first.is(w)) =>
            {
                rest
            }
            _ => words,
        };
        let words: Vec<&Word> = words.iter().filter(|word| !word.is(";")).collect();
        if words.is_empty() || words.iter().any(|word| assignment(word).is_none()) {
            return false;
        }
        for word in words {
            let Some((name, value)) = assignment(word) else { continue };
            if self.constants.len() < MAX_CONSTANTS || self.constants.contains_key(name) {
                let known = !word.expands && value.len() <= MAX_CONSTANT;
                self.constants.insert(name.into(), known.then(|| value.into()));
            }
        }
        true
    }

    fn word_or_operator(&mut self, first: char, words: &mut Vec<Word>) -> Result<(), Error> {
        if self.is_operator(first) {
            words.push(self.operator(Word::new("", self.line)));
            return Ok(());
        }
        self.word(words)
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

    /// Reads one word onto `words`: none, or several, where a constant without quotes is empty or holds blanks.
    fn word(&mut self, words: &mut Vec<Word>) -> Result<(), Error> {
        let mut word = Word::new("", self.line);
        let mut vanishes = false;
        while let Some(c) = self.chars.peek().copied() {
            if c.is_whitespace() {
                break;
            }
            if self.is_operator(c) {
                // `2>` redirects the second descriptor; the digit is no word.
                if matches!(c, '<' | '>') && word.text.bytes().all(|b| b.is_ascii_digit()) {
                    word = self.operator(word);
                }
                break;
            }
            if c == '\\' && self.continuation() {
                continue;
            }
            self.chars.next();
            match c {
                '\\' => word.text.extend(self.chars.next()),
                '\'' => self.single_quotes(&mut word)?,
                '"' => self.double_quotes(&mut word)?,
                '`' => self.substitution('`', &mut word),
                '$' if !self.shell => {
                    word.expands = true;
                    word.text.push('$');
                }
                '$' => {
                    vanishes = word.text.is_empty();
                    if let Some(value) = self.dollar(&mut word) {
                        // An assignment takes the value whole, without quotes too.
                        if assignment(&word).is_some() {
                            word.text.push_str(&value);
                        } else {
                            split_onto(&value, &mut word, words);
                        }
                    }
                }
                _ => word.text.push(c),
            }
        }
        if !(vanishes && word.text.is_empty() && !word.quoted) {
            words.push(word);
        }
        Ok(())
    }

    /// Reads what follows a `$`: returns the value of a constant, or adds to the word what has no value here.
    fn dollar(&mut self, word: &mut Word) -> Option<String> {
        if self.chars.peek() == Some(&'(') {
            self.chars.next();
            self.substitution('(', word);
            return None;
        }
        let braces = self.chars.next_if_eq(&'{').is_some();
        let mut name = String::new();
        while let Some(c) = self.chars.next_if(|&c| is_name_char(c)) {
            name.push(c);
        }
        let closed = !braces || self.chars.next_if_eq(&'}').is_some();
        if closed && let Some(Some(value)) = self.constants.get(&name) {
            return Some(value.clone());
        }
        word.expands = true;
        word.text.push('$');
        if braces {
            word.text.push('{');
        }
        word.text.push_str(&name);
        if braces && closed {
            word.text.push('}');
        }
        None
    }

    /// Reads `$(...)` or `` `...` `` whole. Only a shell knows its value, unless it asks where a program is.
    fn substitution(&mut self, opened: char, word: &mut Word) {
        let close = if opened == '`' { '`' } else { ')' };
        let mut inside = String::new();
        let mut depth = 1_u32;
        while let Some(c) = self.chars.next_if(|&c| c != '\n') {
            if c == close {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    break;
                }
            } else if c == opened {
                depth = depth.saturating_add(1);
            }
            inside.push(c);
        }
        if let Some(program) = located_program(&inside) {
            word.text.push_str(program);
            return;
        }
        word.expands = true;
        word.text.push_str(if opened == '`' { "`" } else { "$(" });
        word.text.push_str(&inside);
        word.text.push(close);
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
                Some('$') if self.shell => {
                    if let Some(value) = self.dollar(word) {
                        word.text.push_str(&value);
                    }
                }
                Some('`') if self.shell => self.substitution('`', word),
                Some(c) if c != '\n' => word.text.push(c),
                _ => return Err(Error::at(word, ErrorKind::UnclosedQuote, "close it with \"")),
            }
        }
    }
}

/// Returns the program of `which PROGRAM` or `command -v PROGRAM`.
fn located_program(command: &str) -> Option<&str> {
    let mut words = command.split_whitespace().filter(|word| !word.starts_with("2>"));
    let program = match (words.next()?, words.next()?) {
        ("which", program) => program,
        ("command", "-v") | ("type", "-p" | "-P") => words.next()?,
        _ => return None,
    };
    let plain = |c: char| is_name_char(c) || matches!(c, '/' | '-' | '.');
    (words.next().is_none() && program.chars().all(plain)).then_some(program)
}

/// Adds a value to a word as a shell without quotes does: each blank in it ends a word.
fn split_onto(value: &str, word: &mut Word, words: &mut Vec<Word>) {
    let mut pieces = value.split(|c: char| c.is_whitespace());
    word.text.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let next = Word::new(piece, word.line);
        let ended = mem::replace(word, next);
        if !ended.text.is_empty() || ended.quoted {
            words.push(ended);
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
    fn constants_take_their_place() {
        assert_eq!(texts("EXT=eth0\niptables -i $EXT -o \"${EXT}\""), [vec!["iptables", "-i", "eth0", "-o", "eth0"]]);
        assert_eq!(
            texts("IPT='/sbin/iptables -t  nat'; E=''\n$IPT$E -F $E"),
            [vec!["/sbin/iptables", "-t", "nat", "-F"]]
        );
        assert_eq!(
            texts("A=10.0.0.1 # one\nexport B=\"$A:21\"\nx '$A' $B $B$A."),
            [vec!["x", "$A", "10.0.0.1:21", "10.0.0.1:2110.0.0.1."]]
        );
        assert_eq!(texts("A=x\nA=y\necho \"$A\" \"\""), [vec!["echo", "y", ""]]);
        assert_eq!(texts("A='x y'\nB=$A\necho $B"), [vec!["echo", "x", "y"]]);
        assert_eq!(
            texts("A=$(which iptables)\nB=`command -v ip6tables 2>/dev/null`\n$A $B"),
            [vec!["iptables", "ip6tables"]]
        );
    }

    #[test]
    fn what_only_a_shell_knows_is_one_word_that_expands() {
        let words = commands("A=$(ip addr | grep \"x\")\niptables -s $A -d `date; ls` -i ${B:-x}").unwrap().remove(0);
        let texts: Vec<_> = words.iter().map(|word| (word.text.as_str(), word.expands)).collect();
        assert_eq!(texts[2], ("$A", true));
        assert_eq!(texts[4], ("`date; ls`", true));
        assert!(texts[6].1);
        assert_eq!(texts.len(), 7);
    }

    #[test]
    fn operators_stand_alone_in_a_shell() {
        assert_eq!(texts("a;b&&c 2>/dev/null"), [vec!["a", ";", "b", "&&", "c", "2>", "/dev/null"]]);
        assert_eq!(texts("-A a;b"), [vec!["-A", "a;b"]]);
        assert!(commands("a 2>b").unwrap()[0][1].operator);
    }
}
