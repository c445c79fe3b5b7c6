//! Tokens in the order they are read, with variables replaced by what they stand for.

use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::vec::Vec;

use super::tokens::{Kind, Token};

/// Maximum number of tokens that a script may come to, with its variables replaced.
const MAX_TOKENS: usize = 5_000_000;

/// The text at this place cannot be read.
pub(super) struct Unread;

pub(super) type Parsed<T> = Result<T, Unread>;

/// Tokens that are still to be read.
#[derive(Default)]
pub(super) struct Cursor {
    /// The tokens, the next one last.
    ahead: Vec<Token>,
    /// The tokens that were read since the last mark.
    read: Vec<Token>,
    /// The variables of each block that is open, the outermost first.
    scopes: Vec<BTreeMap<String, Vec<Token>>>,
    taken: usize,
    /// The place of the last token.
    pub(super) line: u32,
    pub(super) file: u16,
}

impl Cursor {
    pub(super) fn new() -> Self {
        Self { scopes: std::vec![BTreeMap::new()], line: 1, ..Self::default() }
    }

    /// Puts tokens in front of those that are to be read.
    pub(super) fn insert(&mut self, tokens: Vec<Token>) {
        self.ahead.extend(tokens.into_iter().rev());
    }

    /// True if the script has more tokens than are read.
    pub(super) const fn is_too_long(&self) -> bool {
        self.taken > MAX_TOKENS
    }

    /// The next token; none at the end.
    pub(super) fn peek(&mut self) -> Option<&Kind> {
        while let Some(Token { kind: Kind::Variable(name), line, file }) = self.ahead.last() {
            // One without a value is a word that nothing understands.
            let Some(value) = self.scopes.iter().rev().find_map(|scope| scope.get(name)) else { break };
            let (line, file) = (*line, *file);
            let value: Vec<Token> = value.iter().rev().map(|token| Token { line, file, ..token.clone() }).collect();
            self.taken += value.len();
            self.ahead.pop();
            if !self.is_too_long() {
                self.ahead.extend(value);
            }
        }
        if self.is_too_long() {
            self.ahead.clear();
        }
        self.ahead.last().map(|token| &token.kind)
    }

    /// The token after the next one.
    pub(super) fn peek_second(&mut self) -> Option<&Kind> {
        self.peek()?;
        let next = self.ahead.pop()?;
        self.peek();
        self.ahead.push(next);
        self.ahead.get(self.ahead.len().checked_sub(2)?).map(|token| &token.kind)
    }

    #[allow(clippy::should_implement_trait)]
    pub(super) fn next(&mut self) -> Option<Kind> {
        self.peek();
        let token = self.ahead.pop()?;
        self.taken += 1;
        (self.line, self.file) = (token.line, token.file);
        let kind = token.kind.clone();
        self.read.push(token);
        Some(kind)
    }

    /// Forgets what was read; [`Cursor::rewind`] goes back to here.
    pub(super) fn mark(&mut self) {
        self.read.clear();
    }

    /// Returns the number of tokens read since the last mark.
    pub(super) const fn position(&self) -> usize {
        self.read.len()
    }

    /// Goes back to a position.
    pub(super) fn rewind(&mut self, position: usize) {
        let again = self.read.split_off(position.min(self.read.len()));
        self.ahead.extend(again.into_iter().rev());
    }

    /// Returns the tokens read since a position, in words.
    pub(super) fn text_since(&self, position: usize) -> String {
        let words: Vec<String> = self.read.iter().skip(position).map(|token| token.kind.text()).collect();
        words.join(" ")
    }

    pub(super) fn is_sign(&mut self, sign: &str) -> bool {
        matches!(self.peek(), Some(Kind::Sign(found)) if *found == sign)
    }

    pub(super) fn is_word(&mut self, word: &str) -> bool {
        matches!(self.peek(), Some(Kind::Word(found)) if found == word)
    }

    /// Takes a sign, if it is the next token.
    pub(super) fn take_sign(&mut self, sign: &str) -> bool {
        let is_next = self.is_sign(sign);
        if is_next {
            self.next();
        }
        is_next
    }

    /// Takes a word, if it is the next token.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let is_next = self.is_word(word);
        if is_next {
            self.next();
        }
        is_next
    }

    pub(super) fn sign(&mut self, sign: &str) -> Parsed<()> {
        if self.take_sign(sign) { Ok(()) } else { Err(Unread) }
    }

    pub(super) fn word(&mut self, word: &str) -> Parsed<()> {
        if self.take_word(word) { Ok(()) } else { Err(Unread) }
    }

    /// A word that may be quoted.
    pub(super) fn name(&mut self) -> Parsed<String> {
        match self.peek() {
            Some(Kind::Word(name) | Kind::Quoted(name) | Kind::Number(name)) => {
                let name = name.clone();
                self.next();
                Ok(name)
            }
            _ => Err(Unread),
        }
    }

    /// A whole number.
    pub(super) fn number(&mut self) -> Parsed<u64> {
        let Some(Kind::Number(digits)) = self.peek() else { return Err(Unread) };
        let number = super::super::datatype::number(digits).and_then(|number| u64::try_from(number).ok());
        self.next();
        number.ok_or(Unread)
    }

    /// Takes ends of lines.
    pub(super) fn skip_lines(&mut self) {
        while matches!(self.peek(), Some(Kind::Newline)) {
            self.next();
        }
    }

    /// Takes ends of lines and semicolons.
    pub(super) fn skip_ends(&mut self) {
        while matches!(self.peek(), Some(Kind::Newline | Kind::Sign(";"))) {
            self.next();
        }
    }

    /// True at the end of a statement: of the line, of the block, or a semicolon.
    pub(super) fn is_end(&mut self) -> bool {
        matches!(self.peek(), None | Some(Kind::Newline | Kind::Sign(";" | "}")))
    }

    /// Takes what is left of a statement, with the braces in it.
    pub(super) fn skip_statement(&mut self) {
        let mut depth = 0usize;
        loop {
            match self.peek() {
                None => break,
                Some(Kind::Newline | Kind::Sign(";")) if depth == 0 => break,
                Some(Kind::Sign("}")) if depth == 0 => break,
                Some(Kind::Sign("{")) => depth += 1,
                Some(Kind::Sign("}")) => depth -= 1,
                Some(_) => {}
            }
            self.next();
        }
    }

    pub(super) fn open_scope(&mut self) {
        self.scopes.push(BTreeMap::new());
    }

    pub(super) fn close_scope(&mut self) {
        if self.scopes.len() > 1 {
            self.scopes.pop();
        }
    }

    /// `define NAME = VALUE`, after the first word.
    pub(super) fn define(&mut self) -> Parsed<()> {
        let name = self.name()?;
        self.sign("=")?;
        let start = self.position();
        self.skip_statement();
        let value: Vec<Token> = self.read.get(start..).unwrap_or_default().to_vec();
        if value.is_empty() {
            return Err(Unread);
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name, value);
        }
        Ok(())
    }

    /// `undefine NAME`, after the first word.
    pub(super) fn undefine(&mut self) -> Parsed<()> {
        let name = self.name()?;
        for scope in &mut self.scopes {
            scope.remove(&name);
        }
        Ok(())
    }

    /// The next token, to be named where it is not understood.
    pub(super) fn next_text(&mut self) -> String {
        match self.peek() {
            None => "the end of the file".to_string(),
            Some(Kind::Newline) => "the end of the line".to_string(),
            Some(kind) => kind.text(),
        }
    }

    /// The line of the next token.
    pub(super) fn next_line(&mut self) -> u32 {
        self.peek();
        self.ahead.last().map_or(self.line, |token| token.line)
    }

    /// The file of the next token.
    pub(super) fn next_file(&mut self) -> u16 {
        self.peek();
        self.ahead.last().map_or(self.file, |token| token.file)
    }
}

impl Cursor {
    /// Takes ends of lines, if this sign follows them.
    pub(super) fn skip_lines_before(&mut self, sign: &str) {
        let start = self.position();
        self.skip_lines();
        if !self.is_sign(sign) {
            self.rewind(start);
        }
    }
}
