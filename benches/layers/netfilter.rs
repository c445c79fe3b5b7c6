//! Chains of rules.

use std::hint::black_box;
use std::net::IpAddr;

use criterion::Criterion;
use ftp_conntrack::conntrack::Template;
use ftp_conntrack::netfilter::{
    AddressTypes, Cidr, EvalContext, Hook, HostInfo, Match, PortRange, Rule, RuleVerdict, Rules, Ruleset, StateSet,
    TableName, Target, Tracking,
};
use ftp_conntrack::packet::{Headers, Packet, Protocol};

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
                    nft: &mut ftp_conntrack::netfilter::nft::NftState::default(),
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
    group.finish();
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
