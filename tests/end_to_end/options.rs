//! The options of a dialogue, drawn from a seed.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ftp_conntrack::Behaviour;

use crate::link::Weather;
use crate::rng::Rng;

/// The options that the dialogues of a test may have.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Class {
    /// Links lose, repeat and reorder.
    pub(crate) weather: bool,
    /// Control connections' segments are cut and merged anywhere, and lines are written in pieces.
    pub(crate) cuts: bool,
    /// Windows are small, down to one byte.
    pub(crate) windows: bool,
    /// Links take little, and what they take differs.
    pub(crate) links: bool,
    /// Several commands are written at once.
    pub(crate) pipelining: bool,
    /// All that FTP's text may look like, and text that only looks like an announcement.
    pub(crate) dresses: bool,
    /// The control connection may turn opaque.
    pub(crate) opaque: bool,
    /// Some bytes of control connections are called urgent, and clients interrupt transfers with them.
    pub(crate) urgent: bool,
    /// The router only routes: it shows what two stacks can do without anybody's help.
    pub(crate) open: bool,
    /// The router is a load balancer.
    pub(crate) director: bool,
    /// Everything that attackers and odd hosts do: spellings that only some servers read, lines of any length, more
    /// commands and announcements than are remembered.
    pub(crate) wild: bool,
}

/// The translation of clients and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    /// No translation, no helper, and nothing is dropped.
    Open,
    /// No translation; what is not allowed is dropped.
    Plain,
    /// The clients are behind the router's address.
    Masquerade,
    /// The server is behind the router's address.
    Dnat,
    /// Both.
    Both,
    /// The server is one that a load balancer knows.
    Director,
}

impl Topology {
    fn hides_clients(self) -> bool {
        matches!(self, Self::Masquerade | Self::Both)
    }

    fn hides_server(self) -> bool {
        matches!(self, Self::Dnat | Self::Both | Self::Director)
    }
}

/// A dialogue's circumstances.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) class: Class,
    pub(crate) behaviour: Behaviour,
    pub(crate) topology: Topology,
    pub(crate) addresses: Addresses,
    pub(crate) clients: usize,
    /// Of the clients' link, and the server's.
    pub(crate) mtu: [usize; 2],
    pub(crate) delay: [Duration; 2],
    pub(crate) weather: Weather,
    pub(crate) cuts: u32,
    pub(crate) merges: u32,
    pub(crate) client_control: SocketOptions,
    pub(crate) server_control: SocketOptions,
    pub(crate) client_data: SocketOptions,
    pub(crate) server_data: SocketOptions,
    /// Number of bytes of text that are written at once.
    pub(crate) written_at_once: usize,
    /// The longest file.
    pub(crate) longest_file: u32,
    /// The port that every client announces first.
    pub(crate) first_port: u16,
    pub(crate) opaque: Opaque,
    /// Packets are handed over without room, so that the router asks for it.
    pub(crate) tight: bool,
    /// The helper is loose.
    pub(crate) loose: bool,
    /// Number of streams that may be held back at once.
    pub(crate) hold_buffers: usize,
    /// Of a hundred segments on control connections, this number is followed by a FIN that no host sent.
    pub(crate) false_fins: u32,
    /// The interval between the parts of an upload, each longer than idle connections are remembered.
    pub(crate) pause: Option<Duration>,
}

/// Neither side learns of the other's link.
const CLAMP: &str = "*mangle\n-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu\nCOMMIT\n";

/// The request for TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opaque {
    No,
    Refused,
    /// The client speaks first then, as in TLS.
    Accepted,
    /// The server goes on at once, with what may be in the same segment as its reply.
    AtOnce,
    /// Both sides send TLS records, and then text again (`CCC`).
    Ends,
}

impl Opaque {
    pub(crate) const fn is_accepted(self) -> bool {
        matches!(self, Self::Accepted | Self::AtOnce)
    }
}

/// The addresses of all hosts.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    /// The first client's; the others follow.
    pub(crate) client: IpAddr,
    /// The router's on the clients' link.
    pub(crate) near: IpAddr,
    /// Address on the server's link.
    pub(crate) far: IpAddr,
    pub(crate) server: IpAddr,
    pub(crate) prefix: u8,
}

/// A socket's.
#[derive(Clone, Debug)]
pub(crate) struct SocketOptions {
    pub(crate) receive: usize,
    pub(crate) send: usize,
    pub(crate) nagle: bool,
    pub(crate) ack_delay: Option<Duration>,
    pub(crate) timestamps: bool,
}

impl Class {
    /// Drops some options where many are possible, so that each is in most dialogues; small windows, which cost many
    /// packets, and the end of readable text, in some.
    fn thinned(self, rng: &mut Rng) -> Self {
        let [weather, cuts, links, pipelining, dresses] =
            [self.weather, self.cuts, self.links, self.pipelining, self.dresses].map(|met| met && rng.percent(80));
        let [windows, opaque] = [self.windows, self.opaque].map(|met| met && rng.percent(25));
        Self { weather, cuts, windows, links, pipelining, dresses, opaque, ..self }
    }

    /// Returns true if it has more than three options.
    fn has_many(self) -> bool {
        let met = [self.weather, self.cuts, self.windows, self.links, self.pipelining, self.dresses, self.opaque];
        met.into_iter().filter(|met| *met).count() > 3
    }
}

impl Options {
    pub(crate) fn draw(class: Class, behaviour: Behaviour, rng: &mut Rng) -> Self {
        let class = if class.has_many() { class.thinned(rng) } else { class };
        let behind = [Topology::Masquerade, Topology::Masquerade, Topology::Dnat, Topology::Both, Topology::Plain];
        let topology = match class {
            Class { open: true, .. } => Topology::Open,
            Class { director: true, .. } => Topology::Director,
            _ => rng.pick(&behind),
        };
        let v6 = rng.percent(30);
        let mtu = || if v6 { [1500, 1280, 1400] } else { [1500, 576, 1006] };
        let mtu = if class.links { [rng.pick(&mtu()), rng.pick(&mtu())] } else { [1500; 2] };
        let weather = if class.weather {
            // Small windows make many packets, and each that is lost costs a second or more.
            let loss = if class.windows { 4 } else { 12 };
            let [loss, repetition, reordering] = [loss, 10, 20].map(|most| rng.range(0, most) * rng.range(0, 2));
            Weather { loss: loss.max(1), repetition, reordering }
        } else {
            Weather::default()
        };
        let [cuts, merges] = if class.cuts { [rng.pick(&[0, 30, 80]), rng.pick(&[0, 20, 60])] } else { [0, 0] };
        let client_data = SocketOptions::for_data(class, rng);
        let server_data = SocketOptions::for_data(class, rng);
        let narrowest = client_data.receive.min(server_data.receive) as u32;
        // An announcement is waited for five minutes, while transfers before it may take their time.
        let longest_file = match narrowest {
            ..1000 => (narrowest * 60).min(4000),
            _ if class.weather => rng.pick(&[600, 600, 6000, 6000, 20_000]),
            _ => rng.pick(&[600, 600, 6000, 6000, 20_000, 100_000]),
        };
        let opaque = match class.opaque {
            true if class.wild => rng.pick(&[Opaque::Refused, Opaque::Accepted, Opaque::Ends, Opaque::Ends]),
            true => rng.pick(&[Opaque::Refused, Opaque::Accepted, Opaque::AtOnce]),
            false => Opaque::No,
        };
        let mut options = Self {
            class,
            behaviour,
            topology,
            addresses: Addresses::draw(topology, v6, rng),
            clients: rng.pick(&[1, 1, 1, 2, 3]),
            mtu,
            delay: [rng.range(200, 40_000), rng.range(200, 40_000)].map(|micros| Duration::from_micros(micros.into())),
            weather,
            cuts,
            merges,
            client_control: SocketOptions::for_control(class, rng),
            server_control: SocketOptions::for_control(class, rng),
            client_data,
            server_data,
            written_at_once: if class.cuts { rng.pick(&[1, 3, 10, 1000, 1000]) } else { usize::MAX },
            longest_file,
            first_port: rng.pick(&[1024, 5000, 40_000, 65_500]),
            opaque,
            tight: rng.percent(20),
            loose: false,
            hold_buffers: 128,
            false_fins: 0,
            pause: None,
        };
        if class.wild {
            options.draw_wild(rng);
        }
        options
    }

    fn draw_wild(&mut self, rng: &mut Rng) {
        self.loose = rng.percent(30);
        if rng.percent(40) {
            // Both streams of every client; with fewer, lines would have to be given up.
            self.hold_buffers = 2 * self.clients;
        }
        self.false_fins = rng.pick(&[0, 0, 3, 20]);
        if rng.percent(20) && self.is_fair() {
            self.pause = Some(Duration::from_secs(40));
            // Maximum length of a file, so that a stack takes it at once.
            self.longest_file = 600;
        }
    }

    /// A client's own address.
    pub(crate) fn client(&self, number: usize) -> IpAddr {
        match self.addresses.client {
            IpAddr::V4(v4) => std::net::Ipv4Addr::from(v4.to_bits() + number as u32).into(),
            IpAddr::V6(v6) => std::net::Ipv6Addr::from(v6.to_bits() + number as u128).into(),
        }
    }

    pub(crate) fn is_ipv6(&self) -> bool {
        self.addresses.client.is_ipv6()
    }

    /// Returns true if the clients are translated.
    pub(crate) fn hides_clients(&self) -> bool {
        self.topology.hides_clients()
    }

    /// Returns true if the server is translated.
    pub(crate) fn hides_server(&self) -> bool {
        self.topology.hides_server()
    }

    /// A client as the server sees it.
    pub(crate) fn seen(&self, number: usize) -> IpAddr {
        if self.hides_clients() { self.addresses.far } else { self.client(number) }
    }

    /// Returns the endpoint that the clients dial.
    pub(crate) fn dialled(&self) -> SocketAddr {
        SocketAddr::new(if self.hides_server() { self.addresses.near } else { self.addresses.server }, 21)
    }

    /// Returns true if every packet that is sent should come through: none is late, lost or longer than a window.
    pub(crate) const fn is_fair(&self) -> bool {
        !self.class.weather && !self.class.windows
    }

    pub(crate) fn rules(&self) -> String {
        if self.topology == Topology::Open {
            return CLAMP.into();
        }
        let public = self.dialled().ip();
        let server = self.addresses.server;
        let masquerade = if self.hides_clients() { "-A POSTROUTING -o far -j MASQUERADE\n" } else { "" };
        let dnat = if matches!(self.topology, Topology::Dnat | Topology::Both) {
            format!("-A PREROUTING -i near -d {public} -p tcp -m tcp --dport 21 -j DNAT --to-destination {server}\n")
        } else {
            String::new()
        };
        // Packets for the virtual address are balanced on their way to the machine itself.
        let input =
            if self.topology == Topology::Director { "-A INPUT -p tcp -m tcp --dport 21 -j ACCEPT\n" } else { "" };
        format!(
            "*raw\n-A PREROUTING -i near -p tcp -m tcp --dport 21 -j CT --helper ftp\nCOMMIT\n\
             {CLAMP}\
             *nat\n{dnat}{masquerade}COMMIT\n\
             *filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n{input}\
             -A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT\n\
             -A FORWARD -i near -p tcp -m tcp --dport 21 -m state --state NEW -j ACCEPT\nCOMMIT\n"
        )
    }
}

impl Options {
    /// The load balancer's service, as ipvsadm has it: by port, without persistence.
    pub(crate) fn service(&self) -> Option<String> {
        let [virtual_one, real] = [self.dialled(), SocketAddr::new(self.addresses.server, 21)];
        let rules = format!("-A -t {virtual_one} -s rr\n-a -t {virtual_one} -r {real} -m\n");
        (self.topology == Topology::Director).then_some(rules)
    }
}

impl Addresses {
    fn draw(topology: Topology, v6: bool, rng: &mut Rng) -> Self {
        let mut pick = |v4: &[&'static str], v6_: &[&'static str]| -> IpAddr {
            let text = rng.pick(if v6 { v6_ } else { v4 });
            text.parse().expect("the lists below hold addresses")
        };
        // Inside and outside addresses, each side with a router; short ones and long ones, so that text grows and
        // shrinks.
        let inside_client =
            pick(&["10.0.0.5", "10.77.1.2", "192.168.100.200"], &["fd00::5", "fd77:1:2:3:4567:89ab:cdef:1230"]);
        let outside_client =
            pick(&["8.8.4.4", "198.51.100.107"], &["2001:db8::7", "2001:db8:1111:2222:3333:4444:5555:6660"]);
        let inside_server = pick(&["10.9.9.9", "172.16.131.219"], &["fd09::9", "fd99:1:2:3:4567:89ab:cdef:9990"]);
        let outside_server =
            pick(&["9.9.9.9", "203.0.113.109"], &["2001:db9::9", "2001:db9:1111:2222:3333:4444:5555:9990"]);
        let client = if topology.hides_clients() { inside_client } else { outside_client };
        let server = if topology.hides_server() { inside_server } else { outside_server };
        let (near, far) = (beside(client, 1), beside(server, 2));
        Self { client, near, far, server, prefix: if v6 { 64 } else { 24 } }
    }
}

/// Another address of the same network.
fn beside(address: IpAddr, low: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            [a, b, c, low].into()
        }
        IpAddr::V6(v6) => {
            let high = v6.to_bits() >> 64 << 64;
            std::net::Ipv6Addr::from(high | u128::from(low)).into()
        }
    }
}

impl SocketOptions {
    fn for_control(class: Class, rng: &mut Rng) -> Self {
        let receive = if class.windows { rng.pick(&[1, 2, 7, 20, 64, 600, 4096]) } else { 4096 };
        let send = if class.windows { rng.pick(&[16, 100, 4096]) } else { 4096 };
        Self::draw(receive, send, rng)
    }

    fn for_data(class: Class, rng: &mut Rng) -> Self {
        let receive =
            if class.windows { rng.pick(&[3, 100, 600, 3000, 16_000]) } else { rng.pick(&[4096, 16_000, 100_000]) };
        Self::draw(receive, rng.pick(&[2000, 16_000]), rng)
    }

    fn draw(receive: usize, send: usize, rng: &mut Rng) -> Self {
        Self {
            receive,
            send,
            nagle: rng.percent(70),
            ack_delay: rng.pick(&[None, Some(10), Some(200)]).map(Duration::from_millis),
            timestamps: rng.percent(30),
        }
    }
}
