//! A capture from anywhere: nobody says which router it was taken on, or whether on a router at all.

use std::borrow::ToOwned;
use std::vec::Vec;

use super::frames::Frames;
use super::{Options, Replay, ReplayError};
use crate::config::{Directory, InterfaceConfig, RouteConfig, RouteType};
use crate::packet::Family;

/// The name of the only interface.
const INTERFACE: &str = "capture";

impl Replay {
    /// A replay without a router's files: every packet, whatever device and direction the capture gives it, arrives on
    /// the one interface of a router without rules and leaves by it again. Connections are tracked, and the helper
    /// reads those on [`Options::ports`]; nothing is translated. [`Options::verify`] has no meaning here.
    ///
    /// # Errors
    /// As [`Replay::new`].
    ///
    /// ```
    /// use ftp_conntrack::replay::{Options, Replay};
    ///
    /// let mut options = Options::default();
    /// options.ports.push(21);
    /// let replay = Replay::anywhere(options)?;
    /// assert_eq!(replay.router().interfaces().len(), 1);
    /// # Ok::<(), ftp_conntrack::replay::ReplayError>(())
    /// ```
    pub fn anywhere(options: Options) -> Result<Self, ReplayError> {
        let interface = InterfaceConfig {
            index: 1,
            name: INTERFACE.to_owned(),
            // Captures show segments before the network card cuts them: none is too long.
            mtu: u32::MAX,
            loopback: false,
            up: true,
            resolves_neighbours: true,
            link_address: None,
            master: None,
            parent: None,
            addresses: Vec::new(),
        };
        let directory = Directory {
            interfaces: Vec::from([interface]),
            routes: [Family::V4, Family::V6].map(default_route).into(),
            ..Directory::default()
        };
        // Nor is a checksum that hardware was to fill in any reason.
        let mut replay = Self::with_header_checksums(&directory, Options { verify: false, ..options }, false)?;
        replay.frames = Frames::anywhere();
        Ok(replay)
    }
}

fn default_route(family: Family) -> RouteConfig {
    RouteConfig {
        family,
        destination: None,
        interface: Some(INTERFACE.to_owned()),
        gateway: None,
        prefsrc: None,
        metric: 0,
        kind: RouteType::Unicast,
        table: None,
        dead: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instant;
    use crate::capture::{Direction, Interface, Reader, Writer};
    use crate::packet::link::LinkType;
    use crate::replay::NoopSink;

    /// 10.77.1.2:40000 > 198.51.100.9:21, SYN.
    const SYN: [u8; 40] = [
        0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0xb6, 0x03, 10, 77, 1, 2, 198, 51, 100, 9, 0x9c, 0x40, 0, 21, 0, 0, 0, 7,
        0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0,
    ];

    #[test]
    fn any_device_and_direction_arrives() {
        let devices = ["eth0", "lo"].map(|name| Interface::named(name, LinkType::RAW));
        let mut writer = Writer::new(Vec::new(), &devices).unwrap();
        writer.write(0, Instant::from_secs(1), Direction::Out, &SYN).unwrap();
        writer.write(1, Instant::from_secs(2), Direction::Unknown, &SYN).unwrap();
        writer.write(1, Instant::from_secs(3), Direction::In, b"\0no packet").unwrap();
        let file = writer.into_inner().unwrap();
        let mut replay = Replay::anywhere(Options { verify: true, ports: [21].into(), ..Options::default() }).unwrap();
        let summary = replay.run(&mut Reader::new(&file[..]).unwrap(), &mut NoopSink);
        assert_eq!((summary.arrived, summary.left, summary.not_ip, summary.ignored), (2, 0, 1, 0));
        assert!(summary.agrees());
        let (_, connection) = replay.router().conntrack().iter(Instant::from_secs(3)).next().unwrap();
        assert!(connection.has_helper());
    }
}
