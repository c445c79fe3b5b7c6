//! The match modules and their options.

mod content;
mod header;
mod link;
mod memory;
mod set;
mod tracking;
mod transport;

pub(super) use header::{dscp_class, type_of_service};
pub(super) use set::{set_name, sources};

use std::vec;
use std::vec::Vec;

use super::error::{Error, ErrorKind};
use super::options::{Given, OptionSpec};
use super::values;
use super::words::Word;
use crate::netfilter::{Condition, Match, Number, NumberMatch, TableName};
use crate::packet::{Family, Protocol};

/// A match module.
#[derive(Debug)]
pub(super) struct ModuleSpec {
    pub(super) name: &'static str,
    /// The only family that has it.
    family: Option<Family>,
    pub(super) options: &'static [OptionSpec],
    /// The protocols it goes with, and what to write; any for none.
    protocols: &'static [u8],
    /// True if iptables refuses the module when none of its options is given.
    needs_option: bool,
    /// Reads all options at once.
    read: fn(&MatchWords<'_, '_>) -> Result<Vec<Condition>, Error>,
}

/// A match module that is known.
pub(super) type Module = &'static ModuleSpec;

impl PartialEq for ModuleSpec {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.family == other.family
    }
}

impl ModuleSpec {
    const fn new(
        name: &'static str,
        options: &'static [OptionSpec],
        read: fn(&MatchWords<'_, '_>) -> Result<Vec<Condition>, Error>,
    ) -> Self {
        Self { name, family: None, options, protocols: &[], needs_option: true, read }
    }

    const fn of(self, family: Family) -> Self {
        Self { family: Some(family), ..self }
    }

    const fn with(self, protocols: &'static [u8]) -> Self {
        Self { protocols, ..self }
    }

    const fn bare(self) -> Self {
        Self { needs_option: false, ..self }
    }
}

/// The words from which a match is read: the options given to it, and the rule around it.
pub(super) struct MatchWords<'w, 'a> {
    /// The word that loads the module.
    pub(super) name: &'a Word,
    pub(super) module: Module,
    pub(super) given: &'w [Given<'a>],
    pub(super) family: Family,
    /// The rule's protocol; none where it is negated.
    pub(super) protocol: Option<Protocol>,
    pub(super) table: TableName,
    /// The rule's chain, where a hook calls it.
    pub(super) built_in: Option<&'a str>,
}

impl<'w, 'a> MatchWords<'w, 'a> {
    fn option(&self, name: &str) -> Option<&'w Given<'a>> {
        self.given.iter().find(|given| given.name == name)
    }

    fn has(&self, name: &str) -> bool {
        self.option(name).is_some()
    }

    /// The value of an option that must be there.
    fn required(&self, name: &str, wanted: &'static str) -> Result<&'w Given<'a>, Error> {
        self.option(name).ok_or_else(|| self.missing(wanted))
    }

    fn missing(&self, wanted: &'static str) -> Error {
        Error::at(self.name, ErrorKind::MissingValue, wanted)
    }

    /// Refuses more than one of these options.
    fn at_most_one(&self, names: &[&str]) -> Result<Option<&'w Given<'a>>, Error> {
        let mut found = self.given.iter().filter(|given| names.contains(&given.name));
        let first = found.next();
        match found.next() {
            Some(second) => {
                Err(Error::at(second.word, ErrorKind::Misplaced, "it does not go with the option before it"))
            }
            None => Ok(first),
        }
    }

    fn number(&self, name: &str, most: u32) -> Result<Option<u32>, Error> {
        self.option(name).map(|given| number(given.value(), 0, most)).transpose()
    }

    /// The whole match as typed, which nobody here decides.
    fn unknown(&self) -> Vec<Condition> {
        let mut text = std::string::String::new();
        if !self.module.name.is_empty() {
            text = std::format!("-m {}", self.module.name);
        }
        for given in self.given {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&given.text());
        }
        vec![Condition { test: Match::Unknown(text), negated: false }]
    }

    /// Reads the options and makes conditions of them.
    pub(super) fn conditions(&self) -> Result<Vec<Condition>, Error> {
        let module = self.module;
        if let Some(negated) = self.given.iter().find(|given| given.negated && !given.option.negatable) {
            return Err(Error::at(negated.word, ErrorKind::Misplaced, "it cannot be negated"));
        }
        let fits = |protocol: Protocol| module.protocols.contains(&protocol.0);
        if !module.protocols.is_empty() && !self.protocol.is_some_and(fits) {
            return Err(Error::at(self.name, ErrorKind::Misplaced, wanted_protocol(module)));
        }
        if module.needs_option && self.given.is_empty() {
            let option = module.options.first().map_or("", |option| option.name);
            let wanted = std::format!("write an option of this module, such as {option}");
            return Err(Error::at(self.name, ErrorKind::MissingValue, wanted));
        }
        let conditions = (module.read)(self)?;
        let undecided = self.given.iter().any(|given| !given.option.decided);
        Ok(if undecided { self.unknown() } else { conditions })
    }
}

fn wanted_protocol(module: Module) -> std::string::String {
    match module.name {
        "icmp6" => "it needs -p ipv6-icmp".into(),
        "multiport" => "it needs -p tcp or -p udp".into(),
        name => std::format!("it needs -p {name}"),
    }
}

/// Every module, in the order of the manual page.
static MODULES: &[&[ModuleSpec]] = &[
    transport::MODULES,
    tracking::MODULES,
    header::MODULES,
    memory::MODULES,
    content::MODULES,
    link::MODULES,
    set::MODULES,
];

fn all_modules() -> impl Iterator<Item = Module> {
    MODULES.iter().flat_map(|modules| modules.iter())
}

/// The modules that are undecided, or have options that are: names and options.
pub(super) fn undecided() -> Vec<(&'static str, Vec<&'static str>)> {
    let options = |module: Module| module.options.iter().filter(|option| !option.decided).map(|option| option.name);
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    for module in all_modules() {
        let undecided: Vec<&str> = options(module).collect();
        // A module without options that is known only by name.
        let is_undecided = !undecided.is_empty() || module.options.is_empty();
        if is_undecided && !module.name.is_empty() && !found.iter().any(|(name, _)| *name == module.name) {
            found.push((module.name, if undecided.len() == module.options.len() { Vec::new() } else { undecided }));
        }
    }
    found.sort();
    found
}

/// The module that `-m` names.
pub(super) fn by_name(name: &str, family: Family) -> Option<Module> {
    let name = match name {
        "icmpv6" | "ipv6-icmp" => "icmp6",
        "ipv6-mh" => "mh",
        name => name,
    };
    all_modules().find(|module| module.name == name && !name.is_empty() && module.family.is_none_or(|of| of == family))
}

/// The module that `-p` brings along.
pub(super) fn of_protocol(protocol: Protocol, family: Family) -> Option<Module> {
    let name = match (protocol.0, family) {
        (6, _) => "tcp",
        (17, _) => "udp",
        (33, _) => "dccp",
        (50, _) => "esp",
        (51, _) => "ah",
        (108, _) => "ipcomp",
        (132, _) => "sctp",
        (135, Family::V6) => "mh",
        (136, _) => "udplite",
        (1, Family::V4) => "icmp",
        (58, Family::V6) => "icmp6",
        _ => return None,
    };
    by_name(name, family)
}

const fn when(test: Match, negated: bool) -> Condition {
    Condition { test, negated }
}

/// Conditions without a module's own opinion: nothing is tested.
const fn nothing(_: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    Ok(Vec::new())
}

/// A module that nobody here decides.
fn undecided_module(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    Ok(words.unknown())
}

/// A number as C writes it, within bounds.
fn number(word: &Word, least: u32, most: u32) -> Result<u32, Error> {
    let number = values::number(word.text.trim_start()).filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| Error::bad_value(word, std::format!("write a number from {least} to {most}")))
}

/// `NUMBER`, or `FIRST:LAST` of which either may be left out.
fn number_range(word: &Word, most: u32) -> Result<(u64, u64), Error> {
    let parse = || {
        let bound = |text: &str, empty: u32| if text.is_empty() { Some(empty) } else { values::number(text) };
        let (first, last) = match word.text.split_once(':') {
            Some((first, last)) => (bound(first, 0)?, bound(last, most)?),
            None => {
                let only = values::number(&word.text)?;
                (only, only)
            }
        };
        (first <= most && last <= most).then_some((u64::from(first), u64::from(last)))
    };
    parse().ok_or_else(|| Error::bad_value(word, std::format!("write a number up to {most}, or a range: FIRST:LAST")))
}

fn ranged(number: Number, (first, last): (u64, u64)) -> Match {
    Match::Number(NumberMatch::range(number, first, last))
}

/// `VALUE`, or `VALUE/MASK`.
fn value_and_mask(word: &Word, most: u32) -> Result<(u32, u32), Error> {
    let parse = || {
        let (value, mask) = match word.text.split_once('/') {
            Some((value, mask)) => (values::number(value)?, values::number(mask)?),
            None => (values::number(&word.text)?, most),
        };
        (value <= most && mask <= most).then_some((value, mask))
    };
    parse().ok_or_else(|| Error::bad_value(word, "write a number, or VALUE/MASK"))
}
