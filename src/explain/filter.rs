//! Verdicts of a router's rules on a connection's first packet, from iptables or nftables, with the rule.
//!
//! Only rules about addresses, ports, interfaces and states are judged; others are named as not judged.

use core::net::{IpAddr, SocketAddr};
use std::collections::HashMap;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use serde_json::Value;

use crate::nat::PortRange;
use crate::netfilter::{Cidr, Condition, Match, Policy, Rule, Ruleset, StateSet, Stateful, TableName, Target};
use crate::packet::Protocol;

/// The first packet of a connection that is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) state: StateSet,
    pub(super) arrives: Option<&'a str>,
    pub(super) leaves: Option<&'a str>,
}

/// The verdict on a packet, and its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop(String),
    Reject(String),
}

#[derive(Clone, Debug)]
enum Test {
    Tcp,
    Never,
    Source(Cidr),
    Destination(Cidr),
    Arrives(String),
    Leaves(String),
    SourcePorts(Vec<(u16, u16)>),
    DestinationPorts(Vec<(u16, u16)>),
    State(StateSet),
    Helper,
    NotJudged,
}

#[derive(Clone, Debug)]
enum Action {
    Accept,
    Drop,
    Reject,
    Jump(String),
    Goto(String),
    Return,
    Helper(String),
    Nothing,
}

#[derive(Clone, Debug)]
struct Step {
    tests: Vec<(Test, bool)>,
    action: Action,
    origin: String,
}

#[derive(Clone, Debug, Default)]
struct Chain {
    /// `forward`, `prerouting` ...; empty for a chain that only others call.
    hook: &'static str,
    is_filter: bool,
    priority: i64,
    accepts: bool,
    label: String,
    steps: Vec<Step>,
}

/// A router's chains, by table and name.
#[derive(Clone, Debug, Default)]
pub(super) struct Chains {
    chains: Vec<(String, String, Chain)>,
    /// Words that were not judged.
    pub(super) not_judged: Vec<String>,
}

/// Maximum depth of calls from chain to chain.
const DEPTH: usize = 16;

impl Chains {
    pub(super) fn of_iptables(rules: &Ruleset) -> Self {
        let mut this = Self::default();
        for (name, priority) in [(TableName::Raw, -300), (TableName::Mangle, -150), (TableName::Filter, 0)] {
            for chain in &rules.table(name).chains {
                let hook = hook_of(&chain.name);
                let steps = chain.rules.iter().map(step).collect();
                let made = Chain {
                    hook: if chain.policy.is_some() { hook } else { "" },
                    is_filter: true,
                    priority,
                    accepts: chain.policy != Some(Policy::Drop),
                    label: format!("chain {} (table {})", chain.name, name.name()),
                    steps,
                };
                this.chains.push((name.name().to_string(), chain.name.clone(), made));
            }
        }
        this
    }

    /// Reads the text of `nft -j list ruleset`. `None` if it is none.
    pub(super) fn of_nft(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let mut this = Self::default();
        let objects = value.get("nftables")?.as_array()?;
        let word = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
        for chain in objects.iter().filter_map(|object| object.get("chain")) {
            let table = format!("{} {}", word(chain, "family"), word(chain, "table"));
            let made = Chain {
                hook: hook_of(&word(chain, "hook").to_ascii_uppercase()),
                is_filter: word(chain, "type") == "filter",
                priority: chain.get("prio").and_then(Value::as_i64).unwrap_or(0),
                accepts: word(chain, "policy") != "drop",
                label: format!("chain {} (table {table})", word(chain, "name")),
                steps: Vec::new(),
            };
            this.chains.push((table, word(chain, "name"), made));
        }
        for rule in objects.iter().filter_map(|object| object.get("rule")) {
            let table = format!("{} {}", word(rule, "family"), word(rule, "table"));
            let name = word(rule, "chain");
            let steps = this.nft_steps(rule, &format!("{table} {name}"));
            if let Some((.., chain)) = this.chains.iter_mut().find(|(t, n, _)| *t == table && *n == name) {
                chain.steps.extend(steps);
            }
        }
        Some(this)
    }

    fn nft_steps(&mut self, rule: &Value, at: &str) -> Vec<Step> {
        let handle = rule.get("handle").and_then(Value::as_u64).unwrap_or(0);
        let origin = format!("rule {handle} of {at}");
        let (mut tests, mut steps, mut action) = (Vec::new(), Vec::new(), Action::Nothing);
        for expression in rule.get("expr").and_then(Value::as_array).into_iter().flatten() {
            if let Some(test) = expression.get("match") {
                let negated = test.get("op").and_then(Value::as_str) == Some("!=");
                tests.push((nft_test(&test["left"], &test["right"]), negated));
            } else if let Some(map) = expression.get("vmap") {
                let pairs = map.pointer("/data/set").and_then(Value::as_array);
                for pair in pairs.into_iter().flatten() {
                    let (Some(value), Some(verdict)) = (pair.get(0), pair.get(1)) else { continue };
                    let mut tests = tests.clone();
                    tests.push((nft_test(&map["key"], value), false));
                    let action = nft_action(verdict).unwrap_or(Action::Nothing);
                    steps.push(Step { tests, action, origin: origin.clone() });
                }
            } else if let Some(name) = expression.get("ct helper") {
                action = Action::Helper(name.as_str().unwrap_or_default().to_string());
            } else if let Some(found) = nft_action(expression) {
                action = found;
            }
        }
        if !matches!(action, Action::Nothing) {
            steps.push(Step { tests, action, origin });
        }
        for step in &steps {
            if step.tests.iter().any(|(test, _)| matches!(test, Test::NotJudged)) {
                self.not_judged.push(step.origin.clone());
            }
        }
        steps
    }

    /// Returns the verdict on the packet at a hook: the first chain that does not accept it decides.
    pub(super) fn ask(&self, hook: &str, question: &Question<'_>) -> Verdict {
        let mut chains: Vec<_> =
            self.chains.iter().filter(|(.., chain)| chain.hook == hook && chain.is_filter).collect();
        chains.sort_by_key(|(.., chain)| chain.priority);
        for (table, _, chain) in chains {
            match self.run(table, chain, question, 0) {
                Some(Verdict::Accept) => {}
                Some(other) => return other,
                None if chain.accepts => {}
                None => return Verdict::Drop(format!("the policy of {}", chain.label)),
            }
        }
        Verdict::Accept
    }

    fn run(&self, table: &str, chain: &Chain, question: &Question<'_>, depth: usize) -> Option<Verdict> {
        for step in &chain.steps {
            if !step.tests.iter().all(|(test, negated)| test.holds(question) == Some(!negated)) {
                continue;
            }
            match &step.action {
                Action::Accept => return Some(Verdict::Accept),
                Action::Drop => return Some(Verdict::Drop(format!("{} in {}", step.origin, chain.label))),
                Action::Reject => return Some(Verdict::Reject(format!("{} in {}", step.origin, chain.label))),
                Action::Return => return None,
                Action::Jump(name) | Action::Goto(name) if depth < DEPTH => {
                    let found = self.chains.iter().find(|(t, n, _)| t == table && n == name);
                    let verdict = found.and_then(|(.., called)| self.run(table, called, question, depth + 1));
                    if verdict.is_some() || matches!(step.action, Action::Goto(_)) {
                        return verdict;
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Rules that attach the FTP helper: where they are, and whether the control connection's first packet meets them, and
    /// the first test that it does not pass.
    pub(super) fn helper_rules(&self, question: &Question<'_>) -> Vec<HelperRule> {
        let steps = self.chains.iter().flat_map(|(.., chain)| chain.steps.iter().map(move |step| (chain, step)));
        let attaching = steps.filter(|(_, step)| matches!(&step.action, Action::Helper(name) if name.contains("ftp")));
        let rule = |(chain, step): (&Chain, &Step)| {
            let fails = |wanted: fn(&Test) -> bool| {
                step.tests.iter().any(|(test, negated)| wanted(test) && test.holds(question) == Some(*negated))
            };
            let ports = step.tests.iter().find_map(|(test, _)| match test {
                Test::DestinationPorts(ports) => Some(ports.iter().map(|(low, _)| *low).collect()),
                _ => None,
            });
            HelperRule {
                origin: format!("{} in {}", step.origin, chain.label),
                ports: ports.unwrap_or_default(),
                other_port: fails(|test| matches!(test, Test::DestinationPorts(_))),
                other_interface: fails(|test| matches!(test, Test::Arrives(_) | Test::Leaves(_))),
                other: fails(|test| {
                    matches!(test, Test::Source(_) | Test::Destination(_) | Test::SourcePorts(_) | Test::Never)
                }),
            }
        };
        attaching.map(rule).collect()
    }

    /// Ranges of ports that a rule accepts by number at a hook.
    pub(super) fn open_ranges(&self, hook: &str) -> Vec<(u16, u16)> {
        let chains = self.chains.iter().filter(|(.., chain)| chain.hook == hook || chain.hook.is_empty());
        let steps = chains.flat_map(|(.., chain)| &chain.steps).filter(|step| matches!(step.action, Action::Accept));
        let ranges = steps.flat_map(|step| &step.tests).filter_map(|(test, negated)| match test {
            Test::DestinationPorts(ports) if !negated => Some(ports.clone()),
            _ => None,
        });
        ranges.flatten().filter(|(low, high)| high > low && *low >= 1024).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chains.iter().all(|(.., chain)| chain.steps.is_empty() && chain.accepts)
    }
}

/// A rule that attaches the helper, and why it does not to a certain connection.
#[derive(Clone, Debug)]
pub(super) struct HelperRule {
    pub(super) origin: String,
    pub(super) ports: Vec<u16>,
    pub(super) other_port: bool,
    pub(super) other_interface: bool,
    pub(super) other: bool,
}

impl Test {
    /// `None` if it cannot be told.
    fn holds(&self, question: &Question<'_>) -> Option<bool> {
        let within = |ports: &[(u16, u16)], port: u16| ports.iter().any(|(low, high)| (*low..=*high).contains(&port));
        let is_device = |pattern: &str, device: Option<&str>| {
            let device = device?;
            Some(match pattern.strip_suffix(['+', '*']) {
                Some(start) => device.starts_with(start),
                None => device == pattern,
            })
        };
        Some(match self {
            Self::Tcp => true,
            Self::Never | Self::Helper => false,
            Self::Source(network) => network.contains(question.from.ip()),
            Self::Destination(network) => network.contains(question.to.ip()),
            Self::Arrives(pattern) => return is_device(pattern, question.arrives),
            Self::Leaves(pattern) => return is_device(pattern, question.leaves),
            Self::SourcePorts(ports) => within(ports, question.from.port()),
            Self::DestinationPorts(ports) => within(ports, question.to.port()),
            Self::State(states) => states.intersects(question.state),
            Self::NotJudged => return None,
        })
    }
}

fn hook_of(name: &str) -> &'static str {
    match name {
        "PREROUTING" => "prerouting",
        "INPUT" => "input",
        "FORWARD" => "forward",
        "OUTPUT" => "output",
        "POSTROUTING" => "postrouting",
        _ => "",
    }
}

fn step(rule: &Rule) -> Step {
    let action = match &rule.target {
        Target::Accept => Action::Accept,
        Target::Drop => Action::Drop,
        Target::Reject(_) => Action::Reject,
        Target::Return => Action::Return,
        Target::Jump(chain) => Action::Jump(chain.clone()),
        Target::Goto(chain) => Action::Goto(chain.clone()),
        Target::Ct { helper: Some(helper), .. } => Action::Helper(helper.clone()),
        _ => Action::Nothing,
    };
    let origin = rule.origin.as_ref().map_or_else(|| "a rule".to_string(), |origin| format!("rule {origin}"));
    Step { tests: rule.conditions.iter().map(test).collect(), action, origin }
}

fn test(condition: &Condition) -> (Test, bool) {
    let ranges = |ports: &[PortRange]| ports.iter().map(|range| (range.first, range.last)).collect();
    let test = match &condition.test {
        Match::Protocol(Protocol::TCP) => Test::Tcp,
        Match::Protocol(_) | Match::IcmpType { .. } => Test::Never,
        Match::Source(network) => Test::Source(*network),
        Match::Destination(network) => Test::Destination(*network),
        Match::InInterface(name) => Test::Arrives(name.clone()),
        Match::OutInterface(name) => Test::Leaves(name.clone()),
        Match::SourcePorts(ports) => Test::SourcePorts(ranges(ports)),
        Match::DestinationPorts(ports) => Test::DestinationPorts(ranges(ports)),
        Match::ConnectionState(states) => Test::State(*states),
        // A first packet is within a limit, unless others used it up.
        Match::Stateful(Stateful::Limit { .. } | Stateful::Random(_)) => Test::Tcp,
        Match::TcpFlags { mask, set } => {
            // Asked about a SYN.
            if 2 & mask == *set { Test::Tcp } else { Test::Never }
        }
        Match::Helper(_) => Test::Helper,
        _ => Test::NotJudged,
    };
    (test, condition.negated)
}

fn nft_action(value: &Value) -> Option<Action> {
    let object = value.as_object()?;
    let target = |value: &Value| value.get("target").and_then(Value::as_str).unwrap_or_default().to_string();
    object.iter().find_map(|(key, value)| match key.as_str() {
        "accept" => Some(Action::Accept),
        "drop" => Some(Action::Drop),
        "reject" => Some(Action::Reject),
        "return" => Some(Action::Return),
        "jump" => Some(Action::Jump(target(value))),
        "goto" => Some(Action::Goto(target(value))),
        _ => None,
    })
}

fn nft_test(left: &Value, right: &Value) -> Test {
    let field = left.pointer("/payload/field").and_then(Value::as_str).unwrap_or_default();
    let meta = left.pointer("/meta/key").and_then(Value::as_str).unwrap_or_default();
    let ct = left.pointer("/ct/key").and_then(Value::as_str).unwrap_or_default();
    let one = || right.as_str().map(ToString::to_string);
    match (field, meta, ct) {
        ("dport", ..) => ports(right).map_or(Test::NotJudged, Test::DestinationPorts),
        ("sport", ..) => ports(right).map_or(Test::NotJudged, Test::SourcePorts),
        ("saddr", ..) => network(right).map_or(Test::NotJudged, Test::Source),
        ("daddr", ..) => network(right).map_or(Test::NotJudged, Test::Destination),
        (_, "iifname" | "iif", _) => one().map_or(Test::NotJudged, Test::Arrives),
        (_, "oifname" | "oif", _) => one().map_or(Test::NotJudged, Test::Leaves),
        (_, "l4proto", _) | ("protocol" | "nexthdr", ..) => {
            if values(right).iter().any(|value| value.as_str() == Some("tcp") || value.as_u64() == Some(6)) {
                Test::Tcp
            } else {
                Test::Never
            }
        }
        (_, "nfproto", _) => Test::Tcp,
        (.., "state") => Test::State(
            values(right).iter().filter_map(|value| state(value.as_str()?)).fold(StateSet(0), StateSet::union),
        ),
        (.., "helper") => Test::Helper,
        _ => Test::NotJudged,
    }
}

/// The values of a set, a list, or one alone.
fn values(value: &Value) -> Vec<&Value> {
    match value.get("set").unwrap_or(value) {
        Value::Array(values) => values.iter().collect(),
        one => [one].into(),
    }
}

fn state(word: &str) -> Option<StateSet> {
    let states: HashMap<&str, StateSet> = [
        ("new", StateSet::NEW),
        ("established", StateSet::ESTABLISHED),
        ("related", StateSet::RELATED),
        ("invalid", StateSet::INVALID),
        ("untracked", StateSet::UNTRACKED),
    ]
    .into();
    states.get(word).copied()
}

fn ports(value: &Value) -> Option<Vec<(u16, u16)>> {
    let port = |value: &Value| match value {
        Value::String(name) if name == "ftp" => Some(21),
        Value::String(name) if name == "ftp-data" => Some(20),
        other => other.as_u64().and_then(|port| u16::try_from(port).ok()),
    };
    let range = |value: &&Value| match value.get("range").and_then(Value::as_array).map(Vec::as_slice) {
        Some([low, high]) => Some((port(low)?, port(high)?)),
        _ => port(value).map(|port| (port, port)),
    };
    values(value).iter().map(range).collect()
}

fn network(value: &Value) -> Option<Cidr> {
    let address = |value: &Value| value.as_str()?.parse::<IpAddr>().ok();
    match value.get("prefix") {
        Some(prefix) => Cidr::new(address(&prefix["addr"])?, u8::try_from(prefix["len"].as_u64()?).ok()?),
        None => address(value).map(Cidr::host),
    }
}
