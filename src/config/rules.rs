//! Files of rules: what `iptables-save` writes, and commands as typed.

use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use super::error::{Error, ErrorKind, Warning, WarningKind};
use super::invocation::{Action, Invocation};
use super::rule::{Place, rules};
use super::words::{Word, commands};
use crate::netfilter::{Chain, Origin, Policy, Rule, Ruleset, Table, TableName, Target};
use crate::packet::Family;

/// Commands that a script of rules may hold and that change no rule.
#[rustfmt::skip]
pub(super) const HARMLESS: &[&str] = &[
    ":", "arp", "cat", "cd", "chmod", "chown", "clear", "conntrack", "cp", "date", "depmod", "dmesg", "echo",
    "ethtool", "exit", "export", "false", "grep", "ifconfig", "ifdown", "ifup", "insmod", "ip", "ip6tables-legacy-save",
    "ip6tables-save", "ipset", "iptables-legacy-save", "iptables-save", "ipvsadm", "kill", "ln", "logger", "ls", "lsmod",
    "mkdir", "modprobe", "mv", "printf", "read", "rm", "rmmod", "route", "service", "set", "sleep", "sync",
    "sysctl", "systemctl", "tc", "tee", "touch", "true", "ulimit", "umask", "unset", "wait", "which",
];

/// Words with which a shell decides which commands to run, or runs them later.
#[rustfmt::skip]
const CONTROL: &[&str] = &[
    "!", "(", "[", "[[", "case", "do", "done", "elif", "else", "esac", "eval", "exec", "fi", "for", "function", "if",
    "in", "return", "select", "shift", "test", "then", "until", "while", "{", "}",
];

/// Reads the rules of one family, as iptables-save (ip6tables-save) prints them or as commands were typed; the two may
/// be mixed. The rules are in the order in which Linux would ask them, and each knows its line.
///
/// # Errors
///
/// Returns an error for a line that iptables would refuse. Returns one too for a line that it would take but that cannot
/// be understood here, if it may matter to a packet: a variable without a value in the file, or `if`. A match or a
/// target that is not known is no error: its rule is loaded with `Unknown` in it, and a warning says so. `-m limit` is
/// taken to match always, with a warning. Commands for the other family, and those that change no rule (`modprobe`,
/// `echo`), are passed over, with one warning for all.
pub fn parse_rules(file: &str, text: &str, family: Family) -> Result<(Ruleset, Vec<Warning>), Error> {
    amend_rules(Ruleset::default(), file, text, family)
}

/// Reads commands on top of rules that are there, as [`parse_rules`] does.
///
/// # Errors
/// As [`parse_rules`].
pub(super) fn amend_rules(
    rules: Ruleset,
    file: &str,
    text: &str,
    family: Family,
) -> Result<(Ruleset, Vec<Warning>), Error> {
    load(rules, file, text, family).map_err(|error| error.in_file(file))
}

fn load(rules: Ruleset, file: &str, text: &str, family: Family) -> Result<(Ruleset, Vec<Warning>), Error> {
    let mut loader = Loader {
        rules,
        family,
        file: Arc::from(file),
        section: Section::Outside,
        warnings: Vec::new(),
        passed_over: PassedOver::default(),
        other_family: PassedOver::default(),
    };
    for words in commands(text)? {
        loader.line(&words)?;
    }
    loader.end_section();
    loader.note_passed_over();
    let warnings = loader.warnings.into_iter().map(|warning| warning.in_file(file)).collect();
    Ok((loader.rules, warnings))
}

/// The section of a saved file that a line is in.
#[derive(Clone, Copy)]
enum Section {
    /// Between tables, where commands stand as typed.
    Outside,
    /// Behind `*TABLE`, which stood on this line.
    Table(TableName, u32),
}

struct Loader {
    rules: Ruleset,
    family: Family,
    file: Arc<str>,
    section: Section,
    warnings: Vec<Warning>,
    passed_over: PassedOver,
    other_family: PassedOver,
}

/// Commands that are passed over: their programs, each once, and the first one's line.
#[derive(Default)]
struct PassedOver {
    programs: Vec<String>,
    first_line: u32,
}

impl PassedOver {
    fn add(&mut self, program: &Word) {
        if self.programs.is_empty() {
            self.first_line = program.line;
        }
        if !self.programs.contains(&program.text) {
            self.programs.push(program.text.clone());
        }
    }

    fn warning(&self, kind: WarningKind) -> Option<Warning> {
        (!self.programs.is_empty()).then(|| Warning::new(kind, self.first_line, &self.programs.join(", ")))
    }
}

impl Loader {
    fn note_passed_over(&mut self) {
        self.warnings.extend(self.passed_over.warning(WarningKind::PassedOver));
        self.warnings.extend(self.other_family.warning(WarningKind::OtherFamily));
    }

    fn line(&mut self, words: &[Word]) -> Result<(), Error> {
        let Some(first) = words.first() else { return Ok(()) };
        let expanded = words.iter().find(|word| word.expands);
        if words.windows(2).any(|pair| matches!(pair, [_, second] if second.is("()"))) || first.text.ends_with("()") {
            return Err(control(first));
        }
        match first.text.chars().next() {
            Some('[') if first.is("[") || first.is("[[") => Err(control(first)),
            Some('*') if !first.quoted => self.begin_table(first, words),
            Some(':') if !first.quoted && first.text.len() > 1 => self.declare_chain(first, words),
            _ if first.is("COMMIT") => {
                self.section = Section::Outside;
                Ok(())
            }
            Some('-' | '[') if !first.quoted => match expanded {
                Some(word) => Err(variable(word)),
                None => self.saved_rule(first, words),
            },
            _ => self.shell(words),
        }
    }

    fn warn(&mut self, kind: WarningKind, word: &Word) {
        self.warnings.push(Warning::new(kind, word.line, &word.text));
    }

    fn begin_table(&mut self, first: &Word, words: &[Word]) -> Result<(), Error> {
        self.end_section();
        if let Some(extra) = words.get(1) {
            return Err(Error::at(extra, ErrorKind::UnknownOption, "write nothing behind the table's name"));
        }
        let name = first.text.trim_start_matches('*');
        let table = table_name(name).ok_or_else(|| unknown_table(first))?;
        let fresh = Table::new(table);
        if *self.rules.table(table) != fresh {
            self.warn(WarningKind::Replaced, first);
        }
        *self.rules.table_mut(table) = fresh;
        self.section = Section::Table(table, first.line);
        Ok(())
    }

    fn end_section(&mut self) {
        if let Section::Table(table, line) = self.section {
            let name = std::format!("*{}", table.name());
            self.warnings.push(Warning::new(WarningKind::NotCommitted, line, &name));
        }
        self.section = Section::Outside;
    }

    /// `:CHAIN POLICY [PACKETS:BYTES]`.
    fn declare_chain(&mut self, first: &Word, words: &[Word]) -> Result<(), Error> {
        let name = Word { text: first.text.chars().skip(1).collect(), ..first.clone() };
        let Some(policy) = words.get(1) else {
            return Err(Error::at(
                first,
                ErrorKind::MissingValue,
                "write the policy behind the chain: ACCEPT, DROP or -",
            ));
        };
        // iptables takes any word after the policy of a chain of the user's, as in `:LOGGING - DROP [0:0]`.
        let extra = if policy.is("-") { None } else { words.get(2).filter(|word| !is_counters(word)).or(words.get(3)) };
        if let Some(extra) = extra {
            return Err(Error::at(extra, ErrorKind::UnknownOption, "write counters here, such as [0:0], or nothing"));
        }
        let table = match self.section {
            Section::Table(table, _) => table,
            Section::Outside => {
                return Err(Error::at(first, ErrorKind::Misplaced, "name the table before, such as *filter"));
            }
        };
        if self.rules.table(table).chain(&name.text).is_some_and(|chain| chain.policy.is_some()) {
            return if policy.is("-") { Ok(()) } else { self.set_policy(table, &name, policy) };
        }
        if !policy.is("-") {
            return Err(Error::bad_value(policy, "a user's chain has no policy; write -"));
        }
        check_chain_name(&name)?;
        self.rules.table_mut(table).chain_mut(&name.text).rules.clear();
        Ok(())
    }

    /// A rule as saved, perhaps with its counters before it, or a command without the program's name.
    fn saved_rule(&mut self, first: &Word, words: &[Word]) -> Result<(), Error> {
        let words = match words {
            [counters, rest @ ..] if is_counters(counters) => rest,
            _ => words,
        };
        let invocation = Invocation::read(first, words)?;
        if invocation.family.is_some_and(|family| family != self.family) {
            return Ok(());
        }
        let table = match (self.section, &invocation.table) {
            (Section::Outside, Some(word)) => table_name(&word.text).ok_or_else(|| unknown_table(word))?,
            (Section::Outside, None) => TableName::Filter,
            (_, Some(word)) => {
                return Err(Error::at(word, ErrorKind::Misplaced, "between *TABLE and COMMIT the table is settled"));
            }
            (Section::Table(table, _), None) => table,
        };
        self.act(table, invocation)
    }

    /// A line of a shell: one or more commands.
    fn shell(&mut self, words: &[Word]) -> Result<(), Error> {
        let mut alternative = false;
        for part in words.split_inclusive(|word| word.operator && !is_redirection(word)) {
            let (part, separator) = match part.split_last() {
                Some((last, rest)) if last.operator && !is_redirection(last) => (rest, Some(last)),
                _ => (part, None),
            };
            // The output of a command that changes no rule may go anywhere.
            let is_piped = |word: &Word| word.text == "|" && part.first().is_some_and(is_harmless);
            let splits = |word: &Word| matches!(word.text.as_str(), ";" | "&&" | "||" | "&") || is_piped(word);
            if let Some(word) = separator.filter(|word| !splits(word)) {
                return Err(Error::at(word, ErrorKind::UnknownCommand, "write one command a line"));
            }
            self.simple_command(&without_redirections(part), alternative)?;
            alternative = separator.is_some_and(|word| word.text == "||");
        }
        Ok(())
    }

    fn simple_command(&mut self, words: &[Word], alternative: bool) -> Result<(), Error> {
        let words = without_sudo(words);
        let Some((program, arguments)) = words.split_first() else { return Ok(()) };
        let name = program_name(program);
        let family = match name {
            "iptables" | "iptables-legacy" | "iptables-nft" => Family::V4,
            "ip6tables" | "ip6tables-legacy" | "ip6tables-nft" => Family::V6,
            _ if program.expands => return Err(variable(program)),
            _ if is_harmless(program) => {
                self.passed_over.add(program);
                return Ok(());
            }
            _ if CONTROL.contains(&name) => return Err(control(program)),
            _ => {
                return Err(Error::at(
                    program,
                    ErrorKind::UnknownCommand,
                    "write an iptables command or a line of iptables-save",
                ));
            }
        };
        if alternative {
            return Err(Error::at(
                program,
                ErrorKind::Misplaced,
                "whether || runs it is not known; write it on a line of its own",
            ));
        }
        if family != self.family {
            self.other_family.add(program);
            return Ok(());
        }
        if let Some(word) = arguments.iter().find(|word| word.expands) {
            return Err(variable(word));
        }
        if let Section::Table(..) = self.section {
            return Err(Error::at(program, ErrorKind::Misplaced, "write COMMIT before it"));
        }
        let invocation = Invocation::read(program, arguments)?;
        let table = match &invocation.table {
            Some(word) => table_name(&word.text).ok_or_else(|| unknown_table(word))?,
            None => TableName::Filter,
        };
        self.act(table, invocation)
    }

    fn act(&mut self, table: TableName, invocation: Invocation) -> Result<(), Error> {
        let rest = invocation.rule.as_slice();
        let takes_rule = matches!(
            invocation.action,
            Action::Append(_) | Action::Insert(..) | Action::Delete(_) | Action::Replace(..)
        );
        if let Some(word) = rest.first().filter(|_| !takes_rule && invocation.action != Action::Nothing) {
            return Err(Error::at(word, ErrorKind::UnknownOption, "this command takes nothing more"));
        }
        match &invocation.action {
            Action::Append(chain) => {
                let rules = self.read_rules(table, chain, rest)?;
                self.chain(table, chain)?.rules.extend(rules);
                Ok(())
            }
            Action::Insert(chain, at) => self.insert(table, chain, at, rest),
            Action::Replace(chain, at) => self.replace(table, chain, at, rest),
            Action::Delete(chain) => self.delete(table, chain, rest),
            Action::DeleteNumber(chain, at) => {
                let index = self.index(table, chain, at, 0)?;
                self.chain(table, chain)?.rules.remove(index);
                Ok(())
            }
            Action::NewChain(chain) => self.new_chain(table, chain),
            Action::DeleteChain(chain) => {
                self.delete_chain(table, chain);
                Ok(())
            }
            Action::DeleteChains => {
                self.delete_chains(table);
                Ok(())
            }
            Action::Flush(chain) => {
                self.chain(table, chain)?.rules.clear();
                Ok(())
            }
            Action::FlushAll => {
                self.rules.table_mut(table).chains.iter_mut().for_each(|chain| chain.rules.clear());
                Ok(())
            }
            Action::Policy(chain, policy) => self.set_policy(table, chain, policy),
            Action::Rename(old, new) => self.rename(table, old, new),
            Action::Nothing => Ok(()),
        }
    }

    fn read_rules(&mut self, table: TableName, chain: &Word, words: &[Word]) -> Result<Vec<Rule>, Error> {
        let place = Place { family: self.family, name: table, table: self.rules.table(table), chain: &chain.text };
        if place.table.chain(&chain.text).is_none() {
            return Err(unknown_chain(chain));
        }
        let (mut rules, warnings) = rules(words, place)?;
        self.warnings.extend(warnings);
        let origin = Origin { file: self.file.clone(), line: chain.line, rule: None };
        rules.iter_mut().for_each(|rule| rule.origin = Some(origin.clone()));
        Ok(rules)
    }

    fn chain(&mut self, table: TableName, name: &Word) -> Result<&mut Chain, Error> {
        let chains = &mut self.rules.table_mut(table).chains;
        chains.iter_mut().find(|chain| chain.name == name.text).ok_or_else(|| unknown_chain(name))
    }

    /// The index that a rule's number (from 1) stands for; `beyond` as many may lie behind the last rule.
    fn index(&mut self, table: TableName, chain: &Word, at: &Word, beyond: usize) -> Result<usize, Error> {
        let count = self.chain(table, chain)?.rules.len().saturating_add(beyond);
        let index = super::values::decimal::<usize>(&at.text).and_then(|number| number.checked_sub(1));
        index.filter(|index| *index < count).ok_or_else(|| {
            Error::bad_value(
                at,
                std::format!("write a rule's number from 1 to {count}, which is what the chain has room for"),
            )
        })
    }

    fn insert(&mut self, table: TableName, chain: &Word, at: &Option<Word>, words: &[Word]) -> Result<(), Error> {
        let index = match at {
            Some(at) => self.index(table, chain, at, 1)?,
            None => 0,
        };
        let rules = self.read_rules(table, chain, words)?;
        self.chain(table, chain)?.rules.splice(index..index, rules);
        Ok(())
    }

    fn replace(&mut self, table: TableName, chain: &Word, at: &Word, words: &[Word]) -> Result<(), Error> {
        let index = self.index(table, chain, at, 0)?;
        let rules = self.read_rules(table, chain, words)?;
        if rules.len() != 1 {
            return Err(Error::at(at, ErrorKind::Misplaced, "one rule can be replaced by one only; list no addresses"));
        }
        self.chain(table, chain)?.rules.splice(index..=index, rules);
        Ok(())
    }

    /// Deletes the first rule that says the same.
    fn delete(&mut self, table: TableName, chain: &Word, words: &[Word]) -> Result<(), Error> {
        let before = self.warnings.len();
        let rules = self.read_rules(table, chain, words)?;
        self.warnings.truncate(before);
        for rule in rules {
            let chain_rules = &mut self.chain(table, chain)?.rules;
            let same = |other: &Rule| other.conditions == rule.conditions && other.target == rule.target;
            match chain_rules.iter().position(same) {
                Some(index) => drop(chain_rules.remove(index)),
                None => self.warnings.push(Warning::new(WarningKind::NotDeleted, chain.line, &typed(chain, words))),
            }
        }
        Ok(())
    }

    fn new_chain(&mut self, table: TableName, name: &Word) -> Result<(), Error> {
        check_chain_name(name)?;
        if self.rules.table(table).chain(&name.text).is_some() {
            self.warn(WarningKind::AlreadyThere, name);
        }
        self.rules.table_mut(table).chain_mut(&name.text);
        Ok(())
    }

    /// Linux deletes a user's chain only when it is empty and nothing calls it.
    fn delete_chain(&mut self, table: TableName, name: &Word) {
        let chains = &mut self.rules.table_mut(table).chains;
        let unused = !chains.iter().any(|chain| chain.rules.iter().any(|rule| calls(rule) == Some(name.text.as_str())));
        let before = chains.len();
        chains.retain(|chain| !(unused && chain.name == name.text && chain.policy.is_none() && chain.rules.is_empty()));
        if chains.len() == before {
            self.warn(WarningKind::NotDeleted, name);
        }
    }

    fn delete_chains(&mut self, table: TableName) {
        let chains = &self.rules.table(table).chains;
        let users: Vec<String> = chains.iter().filter(|c| c.policy.is_none()).map(|c| c.name.clone()).collect();
        for name in users {
            self.delete_chain(table, &Word::new(&name, 0));
        }
    }

    fn set_policy(&mut self, table: TableName, chain: &Word, policy: &Word) -> Result<(), Error> {
        let policy = match policy.text.as_str() {
            "ACCEPT" => Policy::Accept,
            "DROP" => Policy::Drop,
            _ => return Err(Error::bad_value(policy, "write ACCEPT or DROP")),
        };
        match &mut self.chain(table, chain)?.policy {
            Some(current) => *current = policy,
            None => return Err(Error::at(chain, ErrorKind::Misplaced, "only a built-in chain has a policy")),
        }
        Ok(())
    }

    fn rename(&mut self, table: TableName, old: &Word, new: &Word) -> Result<(), Error> {
        check_chain_name(new)?;
        if self.rules.table(table).chain(&new.text).is_some() {
            return Err(Error::at(new, ErrorKind::Repeated, "write a name that no chain has"));
        }
        let chain = self.chain(table, old)?;
        if chain.policy.is_some() {
            return Err(Error::at(old, ErrorKind::Misplaced, "a built-in chain keeps its name"));
        }
        chain.name.clone_from(&new.text);
        for rule in self.rules.table_mut(table).chains.iter_mut().flat_map(|chain| chain.rules.iter_mut()) {
            if let Target::Jump(name) | Target::Goto(name) = &mut rule.target
                && *name == old.text
            {
                name.clone_from(&new.text);
            }
        }
        Ok(())
    }
}

fn table_name(name: &str) -> Option<TableName> {
    TableName::ALL.into_iter().find(|table| table.name() == name)
}

/// The chain that a rule calls.
fn calls(rule: &Rule) -> Option<&str> {
    match &rule.target {
        Target::Jump(chain) | Target::Goto(chain) => Some(chain),
        _ => None,
    }
}

/// `CHAIN` and the rule's words, as typed.
fn typed(chain: &Word, words: &[Word]) -> String {
    let mut text = chain.text.clone();
    words.iter().for_each(|word| super::options::push_word(&mut text, word));
    text
}

/// `[PACKETS:BYTES]`.
fn is_counters(word: &Word) -> bool {
    let inside = word.text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    inside.and_then(|text| text.split_once(':')).is_some_and(|(packets, bytes)| digits(packets) && digits(bytes))
}

/// The kernel has room for 28 bytes and a zero; a dash or `!` in front would read as something else.
fn check_chain_name(name: &Word) -> Result<(), Error> {
    let bad = name.text.is_empty() || name.text.len() > 28 || name.text.starts_with(['-', '!']);
    let verdict = matches!(name.text.as_str(), "ACCEPT" | "DROP" | "RETURN" | "QUEUE");
    if bad || verdict || name.text.contains(char::is_whitespace) {
        return Err(Error::bad_value(
            name,
            "write a name of 1 to 28 bytes that is no target's and begins with no - or !",
        ));
    }
    Ok(())
}

/// Returns the program of a command without its folders.
fn program_name(program: &Word) -> &str {
    program.text.rsplit('/').next().unwrap_or_default()
}

fn is_harmless(program: &Word) -> bool {
    !program.expands && HARMLESS.contains(&program_name(program))
}

fn is_redirection(word: &Word) -> bool {
    word.operator && word.text.contains(['<', '>'])
}

/// The words without `>FILE` and the like.
fn without_redirections(words: &[Word]) -> Vec<Word> {
    let mut kept = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if is_redirection(word) {
            words.next();
        } else {
            kept.push(word.clone());
        }
    }
    kept
}

/// The words behind `sudo` and its options.
fn without_sudo(words: &[Word]) -> &[Word] {
    match words.split_first() {
        Some((first, rest)) if first.is("sudo") || first.is("/usr/bin/sudo") => {
            let command = rest.iter().position(|word| !word.is_option()).unwrap_or(rest.len());
            rest.get(command..).unwrap_or_default()
        }
        _ => words,
    }
}

fn variable(word: &Word) -> Error {
    Error::at(word, ErrorKind::Variable, "write the value itself, or save the rules with iptables-save > rules.v4")
}

fn control(word: &Word) -> Error {
    Error::at(word, ErrorKind::Control, "run the script on the router and save what it made: iptables-save > rules.v4")
}

fn unknown_table(word: &Word) -> Error {
    Error::at(word, ErrorKind::UnknownTable, "write raw, mangle, nat, filter or security")
}

fn unknown_chain(word: &Word) -> Error {
    Error::at(word, ErrorKind::UnknownChain, "write a built-in chain such as FORWARD, or make the chain before with -N")
}
