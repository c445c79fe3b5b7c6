//! The action of an iptables command, apart from the rule in it.

use std::vec::Vec;

use super::error::{Error, ErrorKind};
use super::options::Cursor;
use super::words::Word;
use crate::packet::Family;

/// The action of a command, and its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Append(Word),
    Insert(Word, Option<Word>),
    Delete(Word),
    DeleteNumber(Word, Word),
    Replace(Word, Word),
    NewChain(Word),
    DeleteChain(Word),
    DeleteChains,
    Flush(Word),
    FlushAll,
    Policy(Word, Word),
    Rename(Word, Word),
    /// It lists, checks or zeroes.
    Nothing,
}

/// A command, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Invocation {
    pub(super) table: Option<Word>,
    /// `-4` or `-6`.
    pub(super) family: Option<Family>,
    pub(super) action: Action,
    /// The words of the rule.
    pub(super) rule: Vec<Word>,
}

impl Invocation {
    /// Takes the arguments of an iptables command apart; `at` is the word to blame where there are none.
    pub(super) fn read(at: &Word, arguments: &[Word]) -> Result<Self, Error> {
        let words = separate(arguments);
        let mut cursor = Cursor::new(&words);
        let mut parts = Parts { table: None, family: None, action: None, rule: Vec::new() };
        while let Some(word) = cursor.next() {
            if word.quoted || !parts.setting(word, &mut cursor)? && !parts.command(word, &mut cursor)? {
                parts.rule.push(word.clone());
            }
        }
        let Parts { table, family, action: Some(action), rule } = parts else {
            return Err(Error::at(at, ErrorKind::MissingValue, "write what to do, such as -A FORWARD"));
        };
        Ok(Self { table, family, action, rule })
    }
}

struct Parts {
    table: Option<Word>,
    family: Option<Family>,
    action: Option<Action>,
    rule: Vec<Word>,
}

impl Parts {
    /// Options of the program itself.
    fn setting(&mut self, word: &Word, cursor: &mut Cursor<'_>) -> Result<bool, Error> {
        match word.text.as_str() {
            "-t" | "--table" => self.table = Some(cursor.value(word)?.clone()),
            "-4" | "--ipv4" => self.family = Some(Family::V4),
            "-6" | "--ipv6" => self.family = Some(Family::V6),
            "-w" | "--wait" | "-W" | "--wait-interval" => {
                if cursor.peek().is_some_and(is_number) {
                    cursor.next();
                }
            }
            "-c" | "--set-counters" => {
                if !cursor.value(word)?.text.contains(',') {
                    cursor.value(word)?;
                }
            }
            "-M" | "--modprobe" => drop(cursor.value(word)?),
            "-n" | "--numeric" | "-v" | "--verbose" | "-x" | "--exact" | "--line-numbers" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The command, of which there is one.
    fn command(&mut self, word: &Word, cursor: &mut Cursor<'_>) -> Result<bool, Error> {
        let action = match word.text.as_str() {
            "-A" | "--append" => Action::Append(cursor.value(word)?.clone()),
            "-I" | "--insert" => Action::Insert(cursor.value(word)?.clone(), number(cursor)),
            "-D" | "--delete" => {
                let chain = cursor.value(word)?.clone();
                match number(cursor) {
                    Some(number) => Action::DeleteNumber(chain, number),
                    None => Action::Delete(chain),
                }
            }
            "-R" | "--replace" => Action::Replace(cursor.value(word)?.clone(), cursor.value(word)?.clone()),
            "-N" | "--new-chain" => Action::NewChain(cursor.value(word)?.clone()),
            "-X" | "--delete-chain" => match cursor.argument() {
                Some(chain) => Action::DeleteChain(chain.clone()),
                None => Action::DeleteChains,
            },
            "-F" | "--flush" => match cursor.argument() {
                Some(chain) => Action::Flush(chain.clone()),
                None => Action::FlushAll,
            },
            "-P" | "--policy" => Action::Policy(cursor.value(word)?.clone(), cursor.value(word)?.clone()),
            "-E" | "--rename-chain" => Action::Rename(cursor.value(word)?.clone(), cursor.value(word)?.clone()),
            "-L" | "--list" | "-S" | "--list-rules" | "-Z" | "--zero" | "-C" | "--check" => {
                while cursor.argument().is_some() {}
                Action::Nothing
            }
            _ => return Ok(false),
        };
        match (&self.action, &action) {
            (None, _) | (Some(Action::Nothing), Action::Nothing) => self.action = Some(action),
            _ => return Err(Error::at(word, ErrorKind::Repeated, "write one command, such as -A, at a time")),
        }
        Ok(true)
    }
}

fn is_number(word: &Word) -> bool {
    !word.quoted && !word.text.is_empty() && word.text.bytes().all(|b| b.is_ascii_digit())
}

/// The rule's number, where one stands.
fn number(cursor: &mut Cursor<'_>) -> Option<Word> {
    cursor.peek().filter(|word| is_number(word))?;
    cursor.next().cloned()
}

/// Options whose value is any text; `iptables-save` leaves one such as `-x` without quotes.
const TEXT_OPTIONS: &[&str] = &["--comment", "--log-prefix", "--nflog-prefix", "--ulog-prefix"];

/// Parts what getopt lets stand together: `-nvL`, `-tnat`, `-jACCEPT`.
fn separate(words: &[Word]) -> Vec<Word> {
    let mut separated = Vec::new();
    let mut is_text = false;
    for word in words {
        if is_text {
            separated.push(Word { quoted: true, ..word.clone() });
        } else if let Some(parts) = together(word).or_else(|| joined_value(word)) {
            separated.extend(parts);
        } else {
            separated.push(word.clone());
        }
        is_text = !is_text && TEXT_OPTIONS.iter().any(|option| word.is(option));
    }
    separated
}

/// Parts `--OPTION=VALUE`, which getopt takes for every long option.
fn joined_value(word: &Word) -> Option<Vec<Word>> {
    let (option, value) = word.text.split_once('=')?;
    let name = option.strip_prefix("--")?;
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let is_text = TEXT_OPTIONS.contains(&option);
    is_name.then(|| {
        let option = Word { text: option.into(), quoted: false, ..word.clone() };
        std::vec![option, Word { text: value.into(), quoted: word.quoted || is_text, ..word.clone() }]
    })
}

fn together(word: &Word) -> Option<Vec<Word>> {
    let letters = word.text.strip_prefix('-').filter(|letters| letters.len() > 1 && !word.quoted)?;
    let mut parts = Vec::new();
    let mut rest = letters.chars();
    while let Some(letter) = rest.next() {
        parts.push(Word { text: std::format!("-{letter}"), ..word.clone() });
        match letter {
            'n' | 'v' | 'x' | 'f' => {}
            'A' | 'I' | 'D' | 'R' | 'N' | 'X' | 'F' | 'P' | 'E' | 'L' | 'S' | 'Z' | 'C' | 't' | 'w' | 'W' | 'c'
            | 'M' | 'p' | 's' | 'd' | 'i' | 'o' | 'm' | 'j' | 'g' => {
                let value = rest.as_str();
                if !value.is_empty() {
                    parts.push(Word { text: value.into(), ..word.clone() });
                }
                break;
            }
            _ => return None,
        }
    }
    Some(parts)
}
