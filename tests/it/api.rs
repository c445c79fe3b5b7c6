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
use ftp_conntrack::netfilter::Rules;
use ftp_conntrack::packet::{Headers, Protocol};
use ftp_conntrack::router::{Outbox, Router, RouterConfig, Verdict};

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
