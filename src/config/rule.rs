//! One rule: what stands behind `-A CHAIN`.

use std::string::String;
use std::vec;
use std::vec::Vec;

use super::error::{Error, ErrorKind, Warning, WarningKind};
use super::matches::{self, MatchWords, Module};
use super::options::{Cursor, Given, OptionSpec, abbreviated, exact, flag, one, push_word};
use super::targets::{self, TargetModule, TargetWords, looks_like_target};
use super::values::{self, Network};
use super::words::Word;
use crate::netfilter::{Cidr, Condition, Match, Number, NumberMatch, Rule, Table, TableName, Target};
use crate::packet::{Family, Protocol};

/// More rules than this out of one line are a mistake.
const MOST_RULES: usize = 65_536;

static GENERAL: &[OptionSpec] = &[
    one("-p"),
    one("--protocol"),
    one("-s"),
    one("--source"),
    one("--src"),
    one("-d"),
    one("--destination"),
    one("--dst"),
    one("-i"),
    one("--in-interface"),
    one("-o"),
    one("--out-interface"),
    one("-m"),
    one("--match"),
    one("-j"),
    one("--jump"),
    one("-g"),
    one("--goto"),
    flag("-f"),
    flag("--fragment"),
    flag("--fragments"),
];

/// The place of a rule, which decides what may be in it.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) family: Family,
    pub(super) name: TableName,
    pub(super) table: &'a Table,
    pub(super) chain: &'a str,
}

/// Reads a rule; lists of addresses make several of it. The rules have no origin yet.
pub(super) fn rules(words: &[Word], place: Place<'_>) -> Result<(Vec<Rule>, Vec<Warning>), Error> {
    let mut reader = Reader::new(words, place);
    while reader.option()? {}
    reader.finish()
}

/// A match or target that was loaded by `-m`, `-j`, or by an option of the protocol.
struct Extension<'a> {
    kind: Kind,
    word: &'a Word,
    given: Vec<Given<'a>>,
}

enum Kind {
    Match(Module),
    /// A match that is not known, in its words.
    UnknownMatch(String),
    Target(TargetModule),
    /// A target that is not known, in its words.
    UnknownTarget(String),
}

/// Owner of an option.
enum Owner {
    General(&'static OptionSpec),
    /// The match or target at this place among the loaded.
    Loaded(usize, &'static OptionSpec),
    /// The protocol's match, which is loaded by its first option.
    Implied(Module, &'static OptionSpec),
    /// The unknown match or target at this place among the loaded.
    Unknown(usize),
}

/// A way to find an option by its name.
type FindOption = fn(&'static [OptionSpec], &str) -> Option<&'static OptionSpec>;

/// A place among the conditions: any of these, which is several only for lists of addresses.
struct Slot {
    any: Vec<Condition>,
    line: u32,
}

struct Reader<'a> {
    place: Place<'a>,
    cursor: Cursor<'a>,
    slots: Vec<Slot>,
    loaded: Vec<Extension<'a>>,
    /// Module that `-p` loads, anywhere in the rule.
    implied: Option<Module>,
    protocol: Option<Protocol>,
    /// The general options seen, each of which may stand once.
    seen: Vec<&'static str>,
    /// The options of modules seen, each with the place of its module among the loaded.
    taken: Vec<(Option<usize>, &'static str)>,
    verdict: Option<Target>,
    warnings: Vec<Warning>,
}

impl<'a> Reader<'a> {
    fn new(words: &'a [Word], place: Place<'a>) -> Self {
        Self {
            place,
            cursor: Cursor::new(words),
            slots: Vec::new(),
            loaded: Vec::new(),
            implied: implied_module(words, place.family),
            protocol: None,
            seen: Vec::new(),
            taken: Vec::new(),
            verdict: None,
            warnings: Vec::new(),
        }
    }

    /// Reads the next option with its values.
    fn option(&mut self) -> Result<bool, Error> {
        let Some(mut word) = self.cursor.next() else { return Ok(false) };
        let negated = word.is("!");
        if negated {
            word = self.cursor.negated_option(word)?;
        }
        match self.owner(word)? {
            Owner::General(option) => {
                let given = Given::read(option, word, negated, &mut self.cursor)?;
                self.general(&given)?;
            }
            Owner::Implied(module, option) => {
                self.loaded.push(Extension { kind: Kind::Match(module), word, given: Vec::new() });
                self.implied = None;
                self.give(self.loaded.len().saturating_sub(1), option, word, negated)?;
            }
            Owner::Loaded(index, option) => self.give(index, option, word, negated)?,
            Owner::Unknown(index) => self.absorb(index, word, negated),
        }
        Ok(true)
    }

    /// Gives an option to its match or target.
    fn give(&mut self, index: usize, option: &'static OptionSpec, word: &'a Word, negated: bool) -> Result<(), Error> {
        self.once(Some(index), option, word)?;
        let given = Given::read(option, word, negated, &mut self.cursor)?;
        if let Some(extension) = self.loaded.get_mut(index) {
            extension.given.push(given);
        }
        Ok(())
    }

    /// Refuses an option that one module is given twice.
    fn once(&mut self, owner: Option<usize>, option: &'static OptionSpec, word: &Word) -> Result<(), Error> {
        if self.taken.contains(&(owner, option.name)) {
            return Err(Error::at(word, ErrorKind::Repeated, "write it once, or load its module again with -m"));
        }
        self.taken.push((owner, option.name));
        Ok(())
    }

    /// Finds whose option a word is. As with iptables, what is loaded comes before what `-p` brings along, even
    /// abbreviated: so `-m multiport --dport 20,21` means `--dports`. A module that is not known takes the rest.
    fn owner(&self, word: &Word) -> Result<Owner, Error> {
        if !word.is_option() {
            return Err(Error::at(word, ErrorKind::UnknownOption, "write an option here, such as -p, -d or -j"));
        }
        let name = word.text.as_str();
        if let Some(option) = exact(GENERAL, name) {
            return Ok(Owner::General(option));
        }
        let loaded = self.loaded_owner(name, exact).or_else(|| self.loaded_owner(name, abbreviated));
        if let Some(owner) = loaded.or_else(|| self.implied_owner(name, exact)) {
            return Ok(owner);
        }
        let unknown =
            |extension: &Extension<'_>| matches!(extension.kind, Kind::UnknownMatch(_) | Kind::UnknownTarget(_));
        if let Some(index) = self.loaded.iter().rposition(unknown) {
            return Ok(Owner::Unknown(index));
        }
        if let Some(owner) = self.implied_owner(name, abbreviated) {
            return Ok(owner);
        }
        if let Some(option) = abbreviated(GENERAL, name).filter(|_| name.len() > 3) {
            return Ok(Owner::General(option));
        }
        Err(Error::at(
            word,
            ErrorKind::UnknownOption,
            "name the module it belongs to before it (-m MODULE, -p PROTOCOL or -j TARGET)",
        ))
    }

    /// The latest that was loaded and has the option.
    fn loaded_owner(&self, name: &str, find: FindOption) -> Option<Owner> {
        for (index, extension) in self.loaded.iter().enumerate().rev() {
            let options = match extension.kind {
                Kind::Match(module) => module.options,
                Kind::Target(module) => module.options,
                Kind::UnknownMatch(_) | Kind::UnknownTarget(_) => continue,
            };
            if let Some(option) = find(options, name) {
                return Some(Owner::Loaded(index, option));
            }
        }
        None
    }

    fn implied_owner(&self, name: &str, find: FindOption) -> Option<Owner> {
        let module = self.implied?;
        find(module.options, name).map(|option| Owner::Implied(module, option))
    }

    /// Gives an option and its values to a module that is not known.
    fn absorb(&mut self, index: usize, word: &'a Word, negated: bool) {
        let mut text = String::from(if negated { " !" } else { "" });
        push_word(&mut text, word);
        loop {
            if let Some(value) = self.cursor.argument() {
                push_word(&mut text, value);
            } else if self.cursor.negated_value() {
                self.cursor.next();
                text.push_str(" !");
            } else {
                break;
            }
        }
        let Some(extension) = self.loaded.get_mut(index) else { return };
        if let Kind::UnknownTarget(words) | Kind::UnknownMatch(words) = &mut extension.kind {
            words.push_str(&text);
        }
    }

    fn push(&mut self, word: &Word, test: Match, negated: bool) {
        self.slots.push(Slot { any: vec![Condition { test, negated }], line: word.line });
    }

    fn general(&mut self, given: &Given<'a>) -> Result<(), Error> {
        let name = short_name(given.name);
        if name != "-m" && self.seen.contains(&name) {
            return Err(Error::at(given.word, ErrorKind::Repeated, "write it once"));
        }
        self.seen.push(name);
        if given.negated && matches!(name, "-m" | "-j" | "-g") {
            return Err(Error::at(given.word, ErrorKind::Misplaced, "it cannot be negated"));
        }
        match name {
            "-p" => self.protocol(given),
            "-s" => self.networks(given, Match::Source),
            "-d" => self.networks(given, Match::Destination),
            "-i" => self.interface(given, &["OUTPUT", "POSTROUTING"], Match::InInterface),
            "-o" => self.interface(given, &["PREROUTING", "INPUT"], Match::OutInterface),
            "-m" => self.load(given.value()),
            "-f" => self.fragments(given),
            _ => self.target(given.value(), name == "-g"),
        }
    }

    fn protocol(&mut self, given: &Given<'_>) -> Result<(), Error> {
        match values::protocol(given.value())? {
            Some(protocol) => {
                self.protocol = Some(protocol).filter(|_| !given.negated);
                self.push(given.word, Match::Protocol(protocol), given.negated);
                Ok(())
            }
            None if given.negated => {
                Err(Error::at(given.value(), ErrorKind::Misplaced, "the rule would match nothing; leave the ! out"))
            }
            None => Ok(()),
        }
    }

    fn networks(&mut self, given: &Given<'_>, test: fn(Cidr) -> Match) -> Result<(), Error> {
        let networks = values::networks(given.value(), self.place.family)?;
        if given.negated && networks.len() > 1 {
            return Err(Error::at(given.value(), ErrorKind::Misplaced, "negate one network, not a list"));
        }
        let everything = |network: &Network| matches!(network, Network::Prefix(cidr) if cidr.prefix() == 0);
        if !given.negated && networks.len() == 1 && networks.iter().all(everything) {
            return Ok(());
        }
        let condition = |network| match network {
            Network::Prefix(cidr) => Condition { test: test(cidr), negated: given.negated },
            Network::Scattered(network) => {
                let source = matches!(test(Cidr::host(network.address)), Match::Source(_));
                Condition { test: Match::Address { source, network }, negated: given.negated }
            }
        };
        self.slots.push(Slot { any: networks.into_iter().map(condition).collect(), line: given.word.line });
        Ok(())
    }

    fn interface(&mut self, given: &Given<'_>, not_in: &[&str], test: fn(String) -> Match) -> Result<(), Error> {
        if not_in.contains(&self.place.chain) {
            return Err(Error::at(given.word, ErrorKind::Misplaced, "no packet of this chain has that interface"));
        }
        let name = given.value();
        // Linux gives a name 16 bytes, the last of them zero.
        if name.text.is_empty() || name.text.len() > 15 || name.text.contains(['/', ' ']) {
            return Err(Error::bad_value(name, "write an interface's name of at most 15 bytes, such as eth0 or ppp+"));
        }
        self.push(given.word, test(name.text.clone()), given.negated);
        Ok(())
    }

    fn fragments(&mut self, given: &Given<'_>) -> Result<(), Error> {
        if self.place.family == Family::V6 {
            return Err(Error::at(given.word, ErrorKind::Misplaced, "ip6tables has no such option; write -m frag"));
        }
        let later_part = NumberMatch::range(Number::LaterPart, 1, 1);
        self.push(given.word, Match::Number(later_part), given.negated);
        Ok(())
    }

    fn load(&mut self, name: &'a Word) -> Result<(), Error> {
        let kind = match matches::by_name(&name.text, self.place.family) {
            Some(module) => Kind::Match(module),
            None if matches::by_name(&name.text, other(self.place.family)).is_some() => {
                return Err(Error::at(name, ErrorKind::Misplaced, "the other address family has this match"));
            }
            None => Kind::UnknownMatch(std::format!("-m {}", name.text)),
        };
        self.loaded.push(Extension { kind, word: name, given: Vec::new() });
        Ok(())
    }

    fn target(&mut self, name: &'a Word, goto: bool) -> Result<(), Error> {
        if self.verdict.is_some()
            || self.loaded.iter().any(|e| matches!(e.kind, Kind::Target(_) | Kind::UnknownTarget(_)))
        {
            return Err(Error::at(name, ErrorKind::Repeated, "write one -j or -g"));
        }
        let verdict = match name.text.as_str() {
            "ACCEPT" => Some(Target::Accept),
            "DROP" => Some(Target::Drop),
            "RETURN" => Some(Target::Return),
            _ => None,
        };
        if let Some(verdict) = verdict.filter(|_| !goto) {
            self.verdict = Some(verdict);
            return Ok(());
        }
        if let Some(chain) = self.place.table.chain(&name.text) {
            if chain.policy.is_some() {
                return Err(Error::at(name, ErrorKind::Misplaced, "a built-in chain is called by the kernel alone"));
            }
            let name = name.text.clone();
            self.verdict = Some(if goto { Target::Goto(name) } else { Target::Jump(name) });
            return Ok(());
        }
        if goto {
            return Err(Error::at(name, ErrorKind::UnknownChain, "make it before with -N"));
        }
        let kind = match targets::by_name(&name.text, self.place.family) {
            Some(module) => Kind::Target(module),
            None if targets::by_name(&name.text, other(self.place.family)).is_some() => {
                return Err(Error::at(name, ErrorKind::Misplaced, "the other address family has this target"));
            }
            None => Kind::UnknownTarget(std::format!("-j {}", name.text)),
        };
        self.loaded.push(Extension { kind, word: name, given: Vec::new() });
        Ok(())
    }

    fn finish(mut self) -> Result<(Vec<Rule>, Vec<Warning>), Error> {
        // Linux asks for addresses, interfaces and protocol before any module, and modules in their order.
        let mut conditions = Vec::new();
        for extension in &self.loaded {
            match &extension.kind {
                Kind::Match(module) => {
                    let words = MatchWords {
                        name: extension.word,
                        module,
                        given: &extension.given,
                        family: self.place.family,
                        protocol: self.protocol,
                        table: self.place.name,
                        built_in: self.built_in_chain(),
                    };
                    conditions
                        .extend(words.conditions()?.into_iter().map(|condition| (extension.word.line, condition)));
                }
                Kind::UnknownMatch(words) => {
                    let test = Match::Unknown(words.clone());
                    conditions.push((extension.word.line, Condition { test, negated: false }));
                }
                Kind::Target(_) | Kind::UnknownTarget(_) => {}
            }
        }
        let target = self.finish_target()?;
        self.slots.extend(conditions.into_iter().map(|(line, condition)| Slot { any: vec![condition], line }));
        self.warn_of_unknown_matches();
        Ok((self.expand(&target)?, self.warnings))
    }

    /// Returns the rule's chain, if it is one that a hook calls.
    fn built_in_chain(&self) -> Option<&'a str> {
        let chain = self.place.table.chain(self.place.chain)?;
        chain.policy.is_some().then_some(self.place.chain)
    }

    fn finish_target(&mut self) -> Result<Target, Error> {
        if let Some(verdict) = self.verdict.take() {
            return Ok(verdict);
        }
        for extension in &self.loaded {
            match &extension.kind {
                Kind::Target(module) => {
                    let words = TargetWords {
                        name: extension.word,
                        given: &extension.given,
                        table: self.place.name,
                        built_in: self.built_in_chain(),
                        family: self.place.family,
                        protocol: self.protocol,
                    };
                    if let Some(target) = module.target(&words)? {
                        return Ok(target);
                    }
                    let options: Vec<String> = extension.given.iter().map(Given::text).collect();
                    let text = std::format!("-j {} {}", extension.word.text, options.join(" "));
                    self.warnings.push(Warning::new(WarningKind::UnknownTarget, extension.word.line, &text));
                    return Ok(Target::Unknown(text));
                }
                Kind::UnknownTarget(text) => {
                    let has_options = text.len() > extension.word.text.len().saturating_add(3);
                    if !has_options && !looks_like_target(&extension.word.text) {
                        let wanted = "write a target such as ACCEPT, or make the chain before with -N";
                        return Err(Error::at(extension.word, ErrorKind::UnknownTarget, wanted));
                    }
                    self.warnings.push(Warning::new(WarningKind::UnknownTarget, extension.word.line, text));
                    return Ok(Target::Unknown(text.clone()));
                }
                Kind::Match(_) | Kind::UnknownMatch(_) => {}
            }
        }
        Ok(Target::Continue)
    }

    fn warn_of_unknown_matches(&mut self) {
        for slot in &self.slots {
            for condition in &slot.any {
                if let Match::Unknown(words) = &condition.test {
                    self.warnings.push(Warning::new(WarningKind::UnknownMatch, slot.line, words));
                }
            }
        }
    }

    /// One rule for each choice out of the lists, the first list varying slowest.
    fn expand(&self, target: &Target) -> Result<Vec<Rule>, Error> {
        let mut rules = vec![Rule::new(target.clone())];
        for slot in &self.slots {
            if rules.len().saturating_mul(slot.any.len()) > MOST_RULES {
                return Err(Error::new(
                    ErrorKind::BadValue,
                    slot.line,
                    "",
                    "list fewer addresses, or use a chain for them",
                ));
            }
            let with = |rule: &Rule, condition: &Condition| {
                let mut rule = rule.clone();
                rule.conditions.push(condition.clone());
                rule
            };
            rules = rules.iter().flat_map(|rule| slot.any.iter().map(move |condition| with(rule, condition))).collect();
        }
        Ok(rules)
    }
}

const fn other(family: Family) -> Family {
    match family {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    }
}

/// The module of the protocol that the rule names anywhere.
fn implied_module(words: &[Word], family: Family) -> Option<Module> {
    let is_option = |word: &Word| ["-p", "--protocol", "--proto"].iter().any(|name| word.is(name));
    let at = words.iter().position(is_option)?;
    let protocol = values::protocol(words.get(at.checked_add(1)?)?).ok()??;
    let negated = at.checked_sub(1).and_then(|before| words.get(before)).is_some_and(|word| word.is("!"));
    if negated { None } else { matches::of_protocol(protocol, family) }
}

fn short_name(name: &'static str) -> &'static str {
    match name {
        "--protocol" => "-p",
        "--source" | "--src" => "-s",
        "--destination" | "--dst" => "-d",
        "--in-interface" => "-i",
        "--out-interface" => "-o",
        "--match" => "-m",
        "--jump" => "-j",
        "--goto" => "-g",
        "--fragment" | "--fragments" => "-f",
        _ => name,
    }
}
