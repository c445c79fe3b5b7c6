//! Chains of rules.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use criterion::Criterion;
use ftp_conntrack::conntrack::Template;
use ftp_conntrack::netfilter::nft::{
    Base, ChainKind, Data, Element, Expression, Header, Nft, NftChain, NftRule, NftRuleset, NftState, NftTable,
    NftVerdict, SetRef, Span, Statement, TableFamily,
};
use ftp_conntrack::netfilter::{
    AddressTypes, Cidr, EvalContext, Hook, HostInfo, Match, MemoryPlan, Policy, PortRange, Rule, RuleVerdict, Rules,
    Ruleset, StateSet, TableName, Target, Tracking,
};
use ftp_conntrack::packet::{Family, Headers, Packet, Protocol};

use crate::flow::{Flow, conntrack, open, track};

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("netfilter");
    let flow = Flow::numbered(1, 443);
    let mut table = conntrack(1024);
    open(&mut table, None, &flow, Template::default());
    let [frame, _] = flow.pair();
    let tracked = track(&mut table, &frame, Template::default()).expect("no new connection");
    let headers = Headers::find(frame.bytes()).expect("a whole packet");
    for count in [1, 10, 100] {
        let rules = Rules::new(&ruleset(count), &["lan", "wan"]).expect("no chain is called");
        let mut headers = headers;
        let mut bytes = frame.bytes().to_vec();
        let len = bytes.len();
        let mut packet = Packet::new(&mut bytes, 0..len).expect("it stands in its buffer");
        group.bench_function(format!("evaluate, none matches/{count} rules"), |b| {
            b.iter(|| {
                let mut subject = EvalContext {
                    packet: black_box(&mut packet),
                    headers: &mut headers,
                    in_interface: Some(0),
                    out_interface: Some(1),
                    tracked: Some(&tracked),
                    tracking: &mut Tracking::default(),
                    surroundings: &Nowhere,
                    now: ftp_conntrack::Instant::from_secs(0),
                    nft: &mut NftState::default(),
                    memory: &mut ftp_conntrack::netfilter::RuleMemory::default(),
                    hot_drop: false,
                    logged: None,
                    not_understood: None,
                };
                let verdict = rules.evaluate(TableName::Filter, Hook::Forward, &mut table, &mut subject);
                debug_assert_eq!(verdict, RuleVerdict::Accept);
                verdict
            });
        });
    }
    // A lookup among many elements costs what one among few does; so does a rule for what is established.
    for count in [10, 1000, 100_000] {
        for form in ["set", "verdict map", "pairs"] {
            let rules = nft_rules(form, count);
            let mut state = rules.1;
            let mut headers = headers;
            let mut bytes = frame.bytes().to_vec();
            let len = bytes.len();
            let mut packet = Packet::new(&mut bytes, 0..len).expect("it stands in its buffer");
            group.bench_function(format!("nftables, {form}/{count} elements"), |b| {
                b.iter(|| {
                    let mut subject = EvalContext {
                        packet: black_box(&mut packet),
                        headers: &mut headers,
                        in_interface: Some(0),
                        out_interface: Some(1),
                        tracked: Some(&tracked),
                        tracking: &mut Tracking::default(),
                        surroundings: &Nowhere,
                        now: ftp_conntrack::Instant::from_secs(0),
                        nft: &mut state,
                        memory: &mut ftp_conntrack::netfilter::RuleMemory::default(),
                        hot_drop: false,
                        logged: None,
                        not_understood: None,
                    };
                    rules.0.evaluate(TableName::Filter, Hook::Forward, &mut table, &mut subject)
                });
            });
        }
    }
    group.finish();
}

/// A chain of nftables with one rule that looks a packet up among so many elements.
fn nft_rules(form: &str, count: u32) -> (Rules, NftState) {
    let element = |number: u32| {
        let address = Span::one(0x0b00_0000 + u128::from(number));
        let port = Span::one(u128::from(number % 60_000));
        let key = if form == "pairs" { vec![address, port] } else { vec![address] };
        let data = if form == "verdict map" { Data::Verdict(NftVerdict::Drop) } else { Data::None };
        Element { data, ..Element::new(key) }
    };
    let elements = (0..count).map(element).collect();
    let payload = |header, offset, bits| Expression::Payload { header, offset, bits };
    let source = payload(Header::Ipv4, 96, 32);
    let key = if form == "pairs" { vec![source, payload(Header::Protocol(6), 16, 16)] } else { vec![source] };
    let statements = if form == "verdict map" {
        vec![Statement::VerdictMap { key, map: SetRef::Anonymous(elements) }]
    } else {
        let lookup = Statement::Lookup { key, set: SetRef::Anonymous(elements), negated: false };
        vec![lookup, Statement::Verdict(NftVerdict::Drop)]
    };
    let base = Base { kind: ChainKind::Filter, hook: Hook::Forward, priority: 0, policy: Policy::Accept };
    let mut table = NftTable::new(TableFamily::Ip, "t");
    let rules = vec![NftRule { statements, origin: None }];
    table.chains.push(NftChain { name: "forward".into(), base: Some(base), rules });
    let nft = Nft::new(&NftRuleset { tables: vec![table] }, &["lan", "wan"]).expect("every chain is there");
    let state = nft.initial_state(16, [1, 2]);
    let mut plan = MemoryPlan::default();
    let rules = Rules::with_memory(&Ruleset::default(), Family::V4, &["lan", "wan"], &mut plan, Some(Arc::new(nft)));
    (rules.expect("no chain is called"), state)
}

/// A machine without addresses.
struct Nowhere;

impl HostInfo for Nowhere {
    fn address_type(&self, _: IpAddr) -> AddressTypes {
        AddressTypes::UNICAST
    }

    fn path_mtu(&self, _: IpAddr, _: IpAddr) -> usize {
        1500
    }
}

/// Rules of two or three tests each, of which the last never holds.
fn ruleset(count: u16) -> Ruleset {
    let mut rules = Ruleset::default();
    let inside = Cidr::new([10, 0, 0, 0].into(), 8).expect("a network");
    for number in 0..count {
        let rule = Rule::new(Target::Drop);
        let rule = match number % 3 {
            0 => rule.when(Match::ConnectionState(StateSet::INVALID)),
            1 => rule.when(Match::Source(inside)).when(Match::Protocol(Protocol::UDP)),
            _ => rule
                .when(Match::InInterface("lan".into()))
                .when(Match::Protocol(Protocol::TCP))
                .when(Match::DestinationPorts(vec![PortRange::one(number)])),
        };
        rules.append(TableName::Filter, Hook::Forward, rule);
    }
    rules
}
