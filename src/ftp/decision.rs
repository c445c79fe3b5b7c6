//! The decision about an announcement: the connection to expect, and the text to write.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use super::{Announcement, Form, Reading, Sender};

/// The four addresses of a control connection.
///
/// Without NAT `dialled` equals `server` and `seen` equals `client`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs)]
pub struct Endpoints {
    /// The client's own address (the source of conntrack's ORIGINAL tuple).
    pub client: IpAddr,
    /// The address that the client dialled (the destination of the ORIGINAL tuple).
    pub dialled: IpAddr,
    /// The address of the real server (the source of the REPLY tuple).
    pub server: IpAddr,
    /// The client as the server sees it (the destination of the REPLY tuple).
    pub seen: IpAddr,
}

impl Endpoints {
    /// The sender's own address: what it may announce, and what [`read_segment`](super::read_segment) wants to know.
    #[inline]
    #[must_use]
    pub const fn own(&self, sender: Sender) -> IpAddr {
        match sender {
            Sender::Client => self.client,
            Sender::Server => self.server,
        }
    }

    /// The address by which the other side reaches `sender`: what an announcement must say there.
    #[inline]
    #[must_use]
    pub const fn public(&self, sender: Sender) -> IpAddr {
        match sender {
            Sender::Client => self.seen,
            Sender::Server => self.dialled,
        }
    }
}

/// A data connection that is to be expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Expect {
    /// Address from which the data connection will be opened, from any port.
    pub source: IpAddr,
    /// Endpoint to which the data connection will be opened, as its opener dials it. NAT may have to choose another
    /// port.
    pub destination: SocketAddr,
    /// The address to write into the text if the control connection is under NAT.
    ///
    /// It differs from `destination`'s only for a foreign address that `loose` let through: Linux writes this address
    /// and expects the foreign one.
    pub announce: IpAddr,
    /// Announcement that was read.
    pub announcement: Announcement,
}

/// The action on a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Decision {
    /// Let it pass as it is; expect nothing.
    Pass(PassReason),
    /// Drop it: it begins like an announcement of this form but is incomplete or malformed.
    Drop(Form),
    /// Expect a data connection, and if the control connection is under NAT, replace the text.
    Expect(Expect),
}

/// The reason why a segment passes without an expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PassReason {
    /// It announces nothing.
    NoAnnouncement,
    /// It announces this address, which is not its sender's own (a bounce, RFC 2577 section 2, or a server behind NAT
    /// that announces its outer address).
    ForeignAddress(IpAddr),
}

impl fmt::Display for PassReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnnouncement => f.write_str("announces nothing"),
            Self::ForeignAddress(address) => write!(f, "announces {address}, which is not its sender's own"),
        }
    }
}

/// Decides as Linux's FTP helper does: an announcement of the sender's own address is expected where the other side
/// sees that address; of another address only if `loose` (the module parameter of `nf_conntrack_ftp`), and then there.
///
/// `reading` must have been read with [`Endpoints::own`] of the same `sender`.
///
/// ```
/// use core::net::{IpAddr, SocketAddr};
/// use ftp_conntrack::ftp::{Decision, Endpoints, PassReason, Sender, decide, read_segment};
///
/// let ip = |text: &str| text.parse::<IpAddr>();
/// let ends = Endpoints {
///     client: ip("192.168.1.10")?, dialled: ip("203.0.113.5")?, server: ip("203.0.113.5")?, seen: ip("198.51.100.7")?,
/// };
/// let bounce = read_segment(Sender::Client, ends.client, b"PORT 192,0,2,1,0,25\r\n");
/// assert_eq!(
///     decide(bounce, Sender::Client, &ends, false),
///     Decision::Pass(PassReason::ForeignAddress(ip("192.0.2.1")?))
/// );
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
#[must_use]
pub fn decide(reading: Reading, sender: Sender, ends: &Endpoints, loose: bool) -> Decision {
    match reading {
        Reading::Nothing => Decision::Pass(PassReason::NoAnnouncement),
        Reading::Partial(form) => Decision::Drop(form),
        Reading::Announcement(announcement) => expect(announcement, sender, ends, loose),
    }
}

fn expect(announcement: Announcement, sender: Sender, ends: &Endpoints, loose: bool) -> Decision {
    let announce = ends.public(sender);
    let address = if announcement.address == ends.own(sender) {
        announce
    } else if loose {
        announcement.address
    } else {
        return Decision::Pass(PassReason::ForeignAddress(announcement.address));
    };
    Decision::Expect(Expect {
        source: ends.own(sender.other()),
        destination: SocketAddr::new(address, announcement.port),
        announce,
        announcement,
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use std::string::ToString;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const DIALLED: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
    const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 9, 9));
    const SEEN: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
    const FOREIGN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const ENDS: Endpoints = Endpoints { client: CLIENT, dialled: DIALLED, server: SERVER, seen: SEEN };

    fn announcement(form: Form, address: IpAddr) -> Announcement {
        Announcement { form, address, port: 1025, start: 5, end: 17 }
    }

    fn decided(form: Form, address: IpAddr, loose: bool) -> Decision {
        decide(Reading::Announcement(announcement(form, address)), form.sender(), &ENDS, loose)
    }

    #[test]
    fn nothing_passes_and_a_part_is_dropped() {
        assert_eq!(decide(Reading::Nothing, Sender::Client, &ENDS, false), Decision::Pass(PassReason::NoAnnouncement));
        assert_eq!(decide(Reading::Partial(Form::Eprt), Sender::Client, &ENDS, true), Decision::Drop(Form::Eprt));
    }

    #[test]
    fn the_client_is_expected_where_the_server_sees_it() {
        assert_eq!(
            decided(Form::Port, CLIENT, false),
            Decision::Expect(Expect {
                source: SERVER,
                destination: SocketAddr::new(SEEN, 1025),
                announce: SEEN,
                announcement: announcement(Form::Port, CLIENT),
            })
        );
    }

    #[test]
    fn the_server_is_expected_where_the_client_dialled() {
        assert_eq!(
            decided(Form::Pasv, SERVER, false),
            Decision::Expect(Expect {
                source: CLIENT,
                destination: SocketAddr::new(DIALLED, 1025),
                announce: DIALLED,
                announcement: announcement(Form::Pasv, SERVER),
            })
        );
    }

    #[test]
    fn a_foreign_address_passes_unless_loose() {
        assert_eq!(decided(Form::Port, FOREIGN, false), Decision::Pass(PassReason::ForeignAddress(FOREIGN)));
        assert_eq!(decided(Form::Pasv, DIALLED, false), Decision::Pass(PassReason::ForeignAddress(DIALLED)));
        assert_eq!(
            decided(Form::Port, FOREIGN, true),
            Decision::Expect(Expect {
                source: SERVER,
                destination: SocketAddr::new(FOREIGN, 1025),
                announce: SEEN,
                announcement: announcement(Form::Port, FOREIGN),
            })
        );
    }

    #[test]
    fn a_mapped_address_is_not_the_address_it_maps() {
        let mapped = IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x0a00, 1));
        assert_eq!(decided(Form::Eprt, mapped, false), Decision::Pass(PassReason::ForeignAddress(mapped)));
    }

    #[test]
    fn reasons_can_be_read() {
        assert_eq!(PassReason::NoAnnouncement.to_string(), "announces nothing");
        assert_eq!(
            PassReason::ForeignAddress(FOREIGN).to_string(),
            "announces 192.0.2.1, which is not its sender's own"
        );
    }
}
