//! Promises of the public interface, besides the behaviour of each layer.

use std::error::Error;
use std::fmt::{Debug, Display};

use ftp_conntrack::Instant;
use ftp_conntrack::conntrack::{
    ConnectionId, Conntrack, ConntrackConfig, ExpectPolicy, ExpectationId, InvalidReason, OnMatch, TcpInvalid,
    Template, Tuple,
};
use ftp_conntrack::event::{DestroyReason, DropReason, Event};
use ftp_conntrack::helper::{FtpHelper, RefusalReason};
use ftp_conntrack::ipvs::{EntryId, Ipvs};
use ftp_conntrack::nat::Nat;
use ftp_conntrack::netfilter::{Cidr, Hook, Match, Policy, Rule, Rules, TableName, Target};
use ftp_conntrack::packet::{Headers, Protocol};
use ftp_conntrack::router::{Interface, Outbox, Route, Router, RouterConfig, Verdict};

#[test]
fn routers_and_their_parts_move_between_threads() {
    fn send_sync<T: Send + Sync + Debug>() {}
    send_sync::<Router>();
    send_sync::<RouterConfig>();
    send_sync::<Conntrack>();
    send_sync::<FtpHelper>();
    send_sync::<Nat>();
    send_sync::<Rules>();
    send_sync::<Ipvs>();
    send_sync::<Outbox>();
    send_sync::<Event>();
    send_sync::<Verdict>();
}

#[test]
fn reasons_are_errors_with_words() {
    fn words<T: Error + Display>(reason: T) -> String {
        let text = reason.to_string();
        assert!(text.len() > 8 && !text.ends_with('.'), "{text}");
        text
    }
    words(DropReason::TableFull);
    words(InvalidReason::Checksum);
    assert_eq!(words(InvalidReason::Tcp(TcpInvalid::OldReset)), words(TcpInvalid::OldReset));
    let _: fn(RefusalReason) -> String = words::<RefusalReason>;
}

/// 10.77.1.2:40000 > 198.51.100.9:21, SYN.
const SYN: [u8; 40] = [
    0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 77, 1, 2, 198, 51, 100, 9, 0x9c, 0x40, 0, 21, 0, 0, 0, 7, 0, 0, 0,
    0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0,
];

fn tracked(now: Instant) -> (Conntrack, ConnectionId) {
    let mut conntrack = Conntrack::new(ConntrackConfig::default(), [1, 2]);
    let mut template = Template::default();
    template.helper = true;
    let id = conntrack.track(now, &SYN, &Headers::find(&SYN).unwrap(), template).unwrap().connection.unwrap();
    conntrack.confirm(now, id).unwrap();
    (conntrack, id)
}

#[test]
fn ids_convert_to_numbers_and_back() {
    let (_, id) = tracked(Instant::from_secs(0));
    assert_eq!(ConnectionId::try_from(u64::from(id)), Ok(id));
    assert!(ConnectionId::try_from(7).is_err(), "no generation");
    let entry = EntryId::try_from(5 << 32 | 9).unwrap();
    assert_eq!((u64::from(entry), entry.to_string()), (5 << 32 | 9, "9.5".to_owned()));
}

#[test]
fn expectations_are_listed_with_ids_and_deleted() {
    let now = Instant::from_secs(0);
    let (mut conntrack, master) = tracked(now);
    while conntrack.poll_event().is_some() {}
    let tuple =
        Tuple::new(Protocol::TCP, "198.51.100.9:0".parse().unwrap(), "10.77.1.2:2881".parse().unwrap()).unwrap();
    let id = conntrack.expect(now, master, tuple, OnMatch::Nothing, ExpectPolicy::FTP).unwrap();
    let listed: Vec<ExpectationId> = conntrack.iter_expectations(now).map(|(id, _)| id).collect();
    assert_eq!(listed, [id]);
    assert_eq!(ExpectationId::from(u64::from(id)), id);
    assert!(conntrack.delete_expectation(now, id));
    assert!(!conntrack.delete_expectation(now, id), "gone");
    assert_eq!(conntrack.iter_expectations(now).count(), 0);
    let event = conntrack.poll_event().map(|(_, event)| event);
    assert_eq!(event, Some(Event::Unfulfilled { master, expected: tuple, reason: DestroyReason::Deleted }));
}

/// Returns the words in which a router refuses a configuration with two interfaces, after a change.
fn refused(change: impl FnOnce(&mut RouterConfig)) -> String {
    let mut config = RouterConfig::default();
    config.interfaces = vec![
        Interface::new("lan").with_address("10.77.1.1".parse().unwrap(), 24),
        Interface::new("wan").with_address("2001:db8::1".parse().unwrap(), 64),
    ];
    let network = Cidr::new("10.77.1.0".parse().unwrap(), 24).unwrap();
    config.routes = vec![Route::on_link(network, 0)];
    assert!(Router::new(config.clone(), [1, 2, 3, 4]).is_ok());
    change(&mut config);
    Router::new(config, [1, 2, 3, 4]).unwrap_err().to_string()
}

#[test]
fn a_route_to_a_missing_interface_is_refused() {
    let refused = refused(|config| config.routes[0].interface = 5);
    assert_eq!(refused, "the route to 10.77.1.0/24 leaves by interface 5, but only interfaces 0 to 1 are there");
}

#[test]
fn two_interfaces_of_one_name_are_refused() {
    let refused = refused(|config| config.interfaces[1].name = "lan".into());
    assert_eq!(refused, "two interfaces are called lan: rename one");
}

#[test]
fn a_prefix_longer_than_its_address_is_refused() {
    let too_long =
        |interface: usize, prefix| refused(|config| config.interfaces[interface].addresses[0].prefix = prefix);
    assert_eq!(too_long(0, 200), "interface lan: 10.77.1.1/200: IPv4 addresses have 32 bits");
    assert_eq!(too_long(1, 129), "interface wan: 2001:db8::1/129: IPv6 addresses have 128 bits");
}

#[test]
fn an_unknown_helper_is_refused() {
    let attach = |name: &str| Rule::new(Target::helper(name)).when(Match::Protocol(Protocol::TCP));
    let refused = refused(|config| config.rules6.append(TableName::Raw, Hook::Prerouting, attach("fpt")));
    assert_eq!(refused, "no helper is called fpt: the one of FTP is ftp");
    for known in ["ftp", "ftp-2121", "tftp", "netbios-ns"] {
        let mut config = RouterConfig::default();
        config.rules4.append(TableName::Raw, Hook::Prerouting, attach(known));
        assert!(Router::new(config, [1, 2, 3, 4]).is_ok(), "{known}");
    }
}

#[test]
fn a_built_in_chain_that_its_table_has_not_is_refused() {
    let words = "table filter has no chain PREROUTING, only INPUT, FORWARD, OUTPUT";
    let rule = Rule::new(Target::Drop);
    assert_eq!(refused(|config| config.rules4.append(TableName::Filter, Hook::Prerouting, rule)), words);
    assert_eq!(refused(|config| config.rules4.set_policy(TableName::Filter, Hook::Prerouting, Policy::Drop)), words);
}

#[test]
fn events_and_verdicts_have_words() {
    let now = Instant::from_secs(0);
    let (mut conntrack, master) = tracked(now);
    let Some((_, begins)) = conntrack.poll_event() else { panic!("no event") };
    let words = format!(
        "connection {master} begins: tcp 10.77.1.2:40000 > 198.51.100.9:21, replies tcp 198.51.100.9:21 > \
         10.77.1.2:40000, read by the helper"
    );
    assert_eq!(begins.to_string().replace("tcp ", ""), words.replace("tcp ", ""));
    let dropped = Event::Dropped { reason: DropReason::HopLimit, connection: Some(master), direction: None };
    assert_eq!(dropped.to_string(), format!("a packet is dropped: time to live exceeded, of connection {master}"));
    assert_eq!(Verdict::Drop(DropReason::NoRoute).to_string(), "drop: no route");
    assert_eq!(Verdict::NeedsRoom(8).to_string(), "needs 8 bytes of room after it");
}
