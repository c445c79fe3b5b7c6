//! Options, their values, and walking along the words of a command.

use std::string::String;
use std::vec::Vec;

use super::error::{Error, ErrorKind};
use super::words::Word;

/// The words that follow an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    One,
    Two,
    /// One value that may look like an option.
    Text,
}

/// An option of a match or a target.
#[derive(Debug)]
pub(super) struct OptionSpec {
    pub(super) name: &'static str,
    pub(super) takes: Takes,
    /// True if `!` may stand before it.
    pub(super) negatable: bool,
    /// False if a packet that reaches a rule with it is undecided.
    pub(super) decided: bool,
}

impl OptionSpec {
    const fn new(name: &'static str, takes: Takes) -> Self {
        Self { name, takes, negatable: false, decided: true }
    }

    /// The same, where `!` may stand before it.
    pub(super) const fn or_not(self) -> Self {
        Self { negatable: true, ..self }
    }

    /// The same, where it is not decided here.
    pub(super) const fn undecided(self) -> Self {
        Self { decided: false, ..self }
    }
}

pub(super) const fn flag(name: &'static str) -> OptionSpec {
    OptionSpec::new(name, Takes::Nothing)
}

pub(super) const fn one(name: &'static str) -> OptionSpec {
    OptionSpec::new(name, Takes::One)
}

pub(super) const fn two(name: &'static str) -> OptionSpec {
    OptionSpec::new(name, Takes::Two)
}

pub(super) const fn text(name: &'static str) -> OptionSpec {
    OptionSpec::new(name, Takes::Text)
}

/// The option of exactly this name.
pub(super) fn exact(options: &'static [OptionSpec], name: &str) -> Option<&'static OptionSpec> {
    options.iter().find(|option| option.name == name)
}

/// The only option whose name begins like this, as getopt has it (`--to` for `--to-destination`).
pub(super) fn abbreviated(options: &'static [OptionSpec], name: &str) -> Option<&'static OptionSpec> {
    if !name.starts_with("--") || name.len() < 3 {
        return None;
    }
    let mut found = options.iter().filter(|option| option.name.starts_with(name));
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// An option as it was given.
#[derive(Debug)]
pub(super) struct Given<'a> {
    pub(super) option: &'static OptionSpec,
    pub(super) name: &'static str,
    /// The word that names it.
    pub(super) word: &'a Word,
    /// `!` stands before it, or before its value as iptables once had it.
    pub(super) negated: bool,
    values: Vec<&'a Word>,
}

impl<'a> Given<'a> {
    /// Reads the values of an option.
    pub(super) fn read(
        option: &'static OptionSpec,
        word: &'a Word,
        mut negated: bool,
        cursor: &mut Cursor<'a>,
    ) -> Result<Self, Error> {
        let mut values = Vec::new();
        if option.takes != Takes::Nothing && cursor.pass("!") {
            if negated {
                return Err(Error::at(word, ErrorKind::Repeated, "write ! once, before the option"));
            }
            negated = true;
        }
        match option.takes {
            Takes::Nothing => {}
            Takes::One => values.push(cursor.value(word)?),
            Takes::Two => values.extend([cursor.value(word)?, cursor.value(word)?]),
            Takes::Text => values.push(cursor.text(word)?),
        }
        Ok(Self { option, name: option.name, word, negated, values })
    }

    /// Returns its first value; the option itself where it has none.
    pub(super) fn value(&self) -> &'a Word {
        self.values.first().unwrap_or(&self.word)
    }

    /// Returns its second value; the option itself where it has none.
    pub(super) fn second(&self) -> &'a Word {
        self.values.get(1).unwrap_or(&self.word)
    }

    /// It as it could be typed.
    pub(super) fn text(&self) -> String {
        let mut text = String::from(if self.negated { "! " } else { "" });
        text.push_str(self.name);
        for value in &self.values {
            push_word(&mut text, value);
        }
        text
    }
}

/// Adds a word, in quotes where it needs them.
pub(super) fn push_word(text: &mut String, word: &Word) {
    text.push(' ');
    if word.quoted || word.text.is_empty() || word.text.contains(char::is_whitespace) {
        text.push('"');
        for c in word.text.chars() {
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push('"');
    } else {
        text.push_str(&word.text);
    }
}

/// A place in the words of a command.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    words: &'a [Word],
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(words: &'a [Word]) -> Self {
        Self { words }
    }

    pub(super) fn peek(&self) -> Option<&'a Word> {
        self.words.first()
    }

    pub(super) fn next(&mut self) -> Option<&'a Word> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    /// Passes the next word if it is this one.
    pub(super) fn pass(&mut self, text: &str) -> bool {
        let found = self.peek().is_some_and(|word| word.is(text));
        if found {
            self.next();
        }
        found
    }

    /// The next word, unless it is another option.
    pub(super) fn argument(&mut self) -> Option<&'a Word> {
        self.peek().filter(|word| !word.is_option() && !word.is("!"))?;
        self.next()
    }

    /// The value of `option`.
    pub(super) fn value(&mut self, option: &Word) -> Result<&'a Word, Error> {
        self.argument().ok_or_else(|| Error::at(option, ErrorKind::MissingValue, "write a value behind it"))
    }

    /// The option that a `!` is for.
    pub(super) fn negated_option(&mut self, negation: &Word) -> Result<&'a Word, Error> {
        self.next().ok_or_else(|| Error::at(negation, ErrorKind::MissingValue, "write the option that it negates"))
    }

    /// Returns true if the next word is a `!` before a value, not before an option.
    pub(super) fn negated_value(&self) -> bool {
        matches!(self.words, [negation, value, ..] if negation.is("!") && !value.is_option())
    }

    /// The value of `option`, whatever it looks like.
    fn text(&mut self, option: &Word) -> Result<&'a Word, Error> {
        self.next().ok_or_else(|| Error::at(option, ErrorKind::MissingValue, "write a text behind it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static OPTIONS: &[OptionSpec] =
        &[one("--to-destination"), flag("--random"), flag("--random-fully"), two("--flags")];

    #[test]
    fn an_abbreviation_must_be_the_only_one() {
        assert_eq!(abbreviated(OPTIONS, "--to").unwrap().name, "--to-destination");
        assert!(abbreviated(OPTIONS, "--rand").is_none());
        assert!(abbreviated(OPTIONS, "--").is_none());
        assert_eq!(exact(OPTIONS, "--random").unwrap().name, "--random");
    }

    #[test]
    fn values_and_their_absence() {
        let words = super::super::words::commands("--flags ! a 'b c' --to-destination -x").unwrap().remove(0);
        let mut cursor = Cursor::new(&words);
        let word = cursor.next().unwrap();
        let given = Given::read(&OPTIONS[3], word, false, &mut cursor).unwrap();
        assert_eq!(given.text(), "! --flags a \"b c\"");
        let word = cursor.next().unwrap();
        let error = Given::read(&OPTIONS[0], word, false, &mut cursor).unwrap_err();
        assert_eq!((error.kind, error.word.as_str()), (ErrorKind::MissingValue, "--to-destination"));
    }

    #[test]
    fn twice_negated_is_refused() {
        let words = super::super::words::commands("--to-destination ! x").unwrap().remove(0);
        let mut cursor = Cursor::new(&words);
        let word = cursor.next().unwrap();
        assert_eq!(Given::read(&OPTIONS[0], word, true, &mut cursor).unwrap_err().kind, ErrorKind::Repeated);
    }
}
