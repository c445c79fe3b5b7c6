//! The words and blocks of a keepalived.conf.

use core::iter::Peekable;
use core::str::Chars;
use std::borrow::ToOwned;
use std::string::String;
use std::vec::Vec;

use super::error::{Error, ErrorKind, Warning, WarningKind};
use super::words::Word;

/// A line's words, and the statements in the braces behind them.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) file: String,
    pub(super) words: Vec<Word>,
    pub(super) block: Vec<Self>,
}

impl Statement {
    /// Returns the first word.
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", |word| &word.text)
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.name() == name
    }

    pub(super) fn word(&self, at: usize, wanted: &'static str) -> Result<&Word, Error> {
        let nothing = Word::new("", 1);
        let last = self.words.last().unwrap_or(&nothing);
        self.words.get(at).ok_or_else(|| Error::at(last, ErrorKind::MissingValue, wanted))
    }
}

/// Files may include files so deep.
const MOST_INCLUDED: usize = 8;
/// Blocks may stand in blocks so deep.
const MOST_OPEN: usize = 64;
/// All files together may have so many statements.
const MOST_STATEMENTS: usize = 100_000;

/// Reads all statements, with those of included files in their place.
pub(super) fn statements(
    file: &str,
    text: &str,
    include: &mut dyn FnMut(&str) -> Option<String>,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<Statement>, Error> {
    let mut parser = Parser { include, warnings, macros: Vec::new(), count: 0 };
    parser.file(file, text, 0)
}

struct Parser<'p> {
    include: &'p mut dyn FnMut(&str) -> Option<String>,
    warnings: &'p mut Vec<Warning>,
    macros: Vec<(String, String)>,
    count: usize,
}

/// A token of a line.
enum Token {
    Word(Word),
    Open(Word),
    Close(Word),
    End,
}

impl Parser<'_> {
    fn file(&mut self, file: &str, text: &str, depth: usize) -> Result<Vec<Statement>, Error> {
        let tokens = tokens(text).map_err(|error| error.in_file(file))?;
        // Blocks that are open, each with the brace that opened it.
        let mut open: Vec<(Vec<Statement>, Word)> = Vec::new();
        let mut here = Vec::new();
        let mut words: Vec<Word> = Vec::new();
        for token in tokens {
            match token {
                Token::Word(word) => words.push(word),
                Token::End => self.line(file, core::mem::take(&mut words), &mut here, depth)?,
                Token::Open(brace) => {
                    // A brace on its own belongs to the line before it.
                    if !words.is_empty() || here.is_empty() {
                        let line = core::mem::take(&mut words);
                        self.push(file, line, &mut here);
                    }
                    if open.len() == MOST_OPEN {
                        let wanted = "close some of the blocks before it";
                        return Err(Error::at(&brace, ErrorKind::Misplaced, wanted).in_file(file));
                    }
                    open.push((core::mem::take(&mut here), brace));
                }
                Token::Close(brace) => {
                    self.line(file, core::mem::take(&mut words), &mut here, depth)?;
                    let block = core::mem::take(&mut here);
                    let Some((outer, _)) = open.pop() else {
                        let wanted = "open the block with { before it";
                        return Err(Error::at(&brace, ErrorKind::Misplaced, wanted).in_file(file));
                    };
                    here = outer;
                    if let Some(last) = here.last_mut() {
                        last.block = block;
                    }
                }
            }
        }
        match open.pop() {
            Some((_, brace)) => Err(Error::at(&brace, ErrorKind::MissingValue, "close the block with }").in_file(file)),
            None => Ok(here),
        }
    }

    /// A whole line: a macro, a file to include, or a statement.
    fn line(&mut self, file: &str, words: Vec<Word>, here: &mut Vec<Statement>, depth: usize) -> Result<(), Error> {
        let Some(first) = words.first() else { return Ok(()) };
        if let Some((name, value)) = first.text.strip_prefix('$').and_then(|text| text.split_once('=')) {
            let rest = words.iter().skip(1).map(|word| word.text.as_str());
            let value: Vec<&str> = core::iter::once(value).chain(rest).collect();
            self.macros.insert(0, (name.to_owned(), value.join(" ")));
            return Ok(());
        }
        if let ("include" | "includer" | "includem" | "includew" | "includea", Some(name)) =
            (first.text.as_str(), words.get(1))
        {
            let text = if depth < MOST_INCLUDED { (self.include)(&name.text) } else { None };
            match text {
                Some(text) => here.extend(self.file(&name.text, &text, depth + 1)?),
                None => {
                    self.warnings.push(Warning::new(WarningKind::NotRead, name.line, &name.text).in_file(file));
                }
            }
            return Ok(());
        }
        self.push(file, words, here);
        Ok(())
    }

    fn push(&mut self, file: &str, words: Vec<Word>, here: &mut Vec<Statement>) {
        if self.count < MOST_STATEMENTS {
            self.count += 1;
            let words = words.into_iter().map(|word| self.expand(file, word)).collect();
            here.push(Statement { file: file.to_owned(), words, block: Vec::new() });
        }
    }

    /// The word with the values of the macros in it: `$NAME` or `${NAME}`.
    fn expand(&mut self, file: &str, mut word: Word) -> Word {
        if word.quoted || !word.text.contains('$') {
            return word;
        }
        let mut expanded = String::new();
        let mut rest = word.text.as_str();
        while let Some((before, behind)) = rest.split_once('$') {
            expanded.push_str(before);
            let (name, after) = match behind.strip_prefix('{').and_then(|text| text.split_once('}')) {
                Some(named) => named,
                None => {
                    behind.split_at(behind.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(behind.len()))
                }
            };
            match self.macros.iter().find(|(known, _)| known == name) {
                Some((_, value)) => expanded.push_str(value),
                None => {
                    self.warnings.push(Warning::new(WarningKind::NoValue, word.line, &word.text).in_file(file));
                    return word;
                }
            }
            rest = after;
        }
        expanded.push_str(rest);
        word.text = expanded;
        word
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, Error> {
    let mut tokens = Vec::new();
    for (line, text) in (1u32..).zip(text.lines()) {
        let mut chars = text.chars().peekable();
        while let Some(first) = chars.peek().copied() {
            match first {
                '#' | '!' => break,
                '{' => tokens.push(Token::Open(Word::new("{", line))),
                '}' => tokens.push(Token::Close(Word::new("}", line))),
                c if c.is_whitespace() => {}
                _ => {
                    tokens.push(Token::Word(word(&mut chars, line)?));
                    continue;
                }
            }
            chars.next();
        }
        tokens.push(Token::End);
    }
    Ok(tokens)
}

/// A word, without its quotes. Braces end it, but for those of a macro.
fn word(chars: &mut Peekable<Chars<'_>>, line: u32) -> Result<Word, Error> {
    let mut word = Word::new("", line);
    let mut in_macro = false;
    while let Some(next) = chars.peek().copied() {
        match next {
            '"' => {
                chars.next();
                word.quoted = true;
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some(c) => word.text.push(c),
                        None => return Err(Error::at(&word, ErrorKind::UnclosedQuote, "close it with \"")),
                    }
                }
                continue;
            }
            '{' if word.text.ends_with('$') => in_macro = true,
            '}' if in_macro => in_macro = false,
            '{' | '}' | '#' | '!' => break,
            c if c.is_whitespace() => break,
            _ => {}
        }
        word.text.push(next);
        chars.next();
    }
    Ok(word)
}
