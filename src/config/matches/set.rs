//! `-m set`.

use std::vec;
use std::vec::Vec;

use super::super::error::{Error, ErrorKind};
use super::super::options::{OptionSpec, flag, one, two};
use super::super::values;
use super::super::words::Word;
use super::{MatchWords, ModuleSpec, when};
use crate::netfilter::{Compared, Condition, IpSetMatch, Match, Stateful};

static SET: &[OptionSpec] = &[
    two("--match-set").or_not(),
    two("--set").or_not(),
    flag("--return-nomatch"),
    flag("--update-counters").or_not(),
    flag("--update-subcounters").or_not(),
    one("--packets-eq").or_not(),
    one("--packets-lt"),
    one("--packets-gt"),
    one("--bytes-eq").or_not(),
    one("--bytes-lt"),
    one("--bytes-gt"),
];

pub(super) static MODULES: &[ModuleSpec] = &[ModuleSpec::new("set", SET, set)];

/// `src,dst`: true for each `src`.
pub(in super::super) fn sources(word: &Word) -> Result<Vec<bool>, Error> {
    let source = |text: &str| match text {
        _ if text.starts_with("src") => Some(true),
        _ if text.starts_with("dst") => Some(false),
        _ => None,
    };
    let sources: Option<Vec<bool>> = word.text.split(',').map(source).collect();
    let sources = sources.filter(|list| list.len() <= 6);
    sources.ok_or_else(|| Error::bad_value(word, "list at most six of src and dst"))
}

/// Refuses a name that no set can have.
pub(in super::super) fn set_name(word: &Word) -> Result<(), Error> {
    if word.text.is_empty() || word.text.len() > 31 {
        return Err(Error::bad_value(word, "write a set's name of at most 31 bytes"));
    }
    Ok(())
}

fn set(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let Some(given) = words.at_most_one(&["--match-set", "--set"])? else {
        return Err(words.missing("write --match-set NAME src or --match-set NAME dst"));
    };
    set_name(given.value())?;
    let compared = |names: [&str; 3]| -> Result<Option<(Compared, u64)>, Error> {
        let Some(given) = words.at_most_one(&names)? else { return Ok(None) };
        let number = values::number64(&given.value().text);
        let number = number.ok_or_else(|| Error::bad_value(given.value(), "write a number"))?;
        let how = match given.name.rsplit('-').next() {
            Some("lt") => Compared::Less,
            Some("gt") => Compared::More,
            _ if given.negated => Compared::NotEqual,
            _ => Compared::Equal,
        };
        Ok(Some((how, number)))
    };
    for name in ["--update-counters", "--update-subcounters"] {
        if let Some(given) = words.option(name).filter(|given| !given.negated) {
            return Err(Error::at(given.word, ErrorKind::Misplaced, "write ! before it"));
        }
    }
    let test = IpSetMatch {
        set: given.value().text.clone(),
        sources: sources(given.second())?,
        return_nomatch: words.has("--return-nomatch"),
        counts: !words.has("--update-counters"),
        packets: compared(["--packets-eq", "--packets-lt", "--packets-gt"])?,
        bytes: compared(["--bytes-eq", "--bytes-lt", "--bytes-gt"])?,
    };
    Ok(vec![when(Match::Stateful(Stateful::Set(test)), given.negated)])
}
