//! An FTP control connection and its transfers, through whatever router stands between.

use std::net::IpAddr;

use crate::text;
use crate::wire::{ACK, PSH};
use crate::world::{Id, MSS, World, at};

/// The two ends, and the endpoint that the client takes for the server.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    pub(crate) client: (usize, IpAddr),
    pub(crate) server: (usize, IpAddr),
    pub(crate) target: IpAddr,
    pub(crate) port: u16,
    pub(crate) server_port: u16,
    pub(crate) client_port: Option<u16>,
    pub(crate) options: Vec<u8>,
}

impl Ends {
    pub(crate) fn new(client: (usize, IpAddr), server: (usize, IpAddr), target: IpAddr) -> Self {
        Self { client, server, target, port: 21, server_port: 21, client_port: None, options: MSS.to_vec() }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) ends: Ends,
    pub(crate) c: Id,
    pub(crate) s: Id,
}

/// An announced transfer, and its data connection if one is opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transfer {
    pub(crate) extended: bool,
    pub(crate) port: Option<u16>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) only_announced: bool,
    /// The port that the data connection comes from.
    pub(crate) from: Option<u16>,
}

impl Session {
    /// Connects; `None` when the server heard nothing.
    pub(crate) fn open(w: &mut World<'_>, ends: Ends) -> Option<Self> {
        let port = ends.client_port.unwrap_or_else(|| w.rng.port());
        let client = (ends.client.0, at(ends.client.1, port));
        let server = (ends.server.0, at(ends.server.1, ends.server_port));
        let (c, s) = w.connect(client, at(ends.target, ends.port), server, &ends.options);
        Some(Self { ends, c, s: s? })
    }

    pub(crate) fn is_v6(&self) -> bool {
        self.ends.target.is_ipv6()
    }

    pub(crate) fn login(&self, w: &mut World<'_>) {
        w.say(self.s, "220 ready\r\n");
        w.send(self.c, ACK);
        for (command, reply) in [("USER ftp\r\n", "331 password\r\n"), ("PASS x@y\r\n", "230 in\r\n")] {
            w.say(self.c, command);
            w.say(self.s, reply);
        }
    }

    pub(crate) fn quit(&self, w: &mut World<'_>) {
        w.say(self.c, "QUIT\r\n");
        w.say(self.s, "221 bye\r\n");
        w.finish(self.s, self.c);
    }

    /// The line by which a client announces where it listens.
    pub(crate) fn command(&self, extended: bool, address: IpAddr, port: u16) -> String {
        match address {
            IpAddr::V4(_) if !extended => format!("PORT {}\r\n", text::host_port_text(address, port)),
            IpAddr::V4(_) => format!("EPRT |1|{address}|{port}|\r\n"),
            IpAddr::V6(_) => format!("EPRT |2|{address}|{port}|\r\n"),
        }
    }

    /// The client listens.
    pub(crate) fn active(&self, w: &mut World<'_>, transfer: &Transfer) {
        let port = transfer.port.unwrap_or_else(|| w.rng.port());
        let address = transfer.address.unwrap_or(self.ends.client.1);
        w.heard(self.s);
        w.say(self.c, self.command(transfer.extended, address, port));
        let heard = w.heard(self.s);
        if w.rng.percent(20) {
            w.again(self.c);
            w.heard(self.s);
        }
        w.say(self.s, "200 ok\r\n");
        let to = match transfer.extended || self.is_v6() {
            true => text::extended(&heard).and_then(|(address, port)| Some(at(address?, port))),
            false => text::host_port(&heard),
        };
        let Some(to) = to.filter(|to| to.port() != 0 && !transfer.only_announced) else { return };
        if to.is_ipv6() != self.is_v6() {
            return;
        }
        w.say(self.c, "RETR f\r\n");
        let from = (self.ends.server.0, at(self.ends.server.1, transfer.from.unwrap_or(20)));
        let (d, e) = w.connect(from, to, (self.ends.client.0, at(address, port)), MSS);
        self.data(w, d, e);
        w.say(self.s, "226 done\r\n");
        w.send(self.c, ACK);
    }

    /// The server listens.
    pub(crate) fn passive(&self, w: &mut World<'_>, transfer: &Transfer) {
        let port = transfer.port.unwrap_or_else(|| w.rng.port());
        let address = transfer.address.unwrap_or(self.ends.server.1);
        let extended = transfer.extended || self.is_v6();
        w.say(self.c, if extended { "EPSV\r\n" } else { "PASV\r\n" });
        w.heard(self.c);
        w.say(
            self.s,
            match extended {
                true => format!("229 Entering Extended Passive Mode (|||{port}|)\r\n"),
                false => format!("227 Entering Passive Mode ({}).\r\n", text::host_port_text(address, port)),
            },
        );
        let heard = w.heard(self.c);
        if w.rng.percent(20) {
            w.again(self.s);
            w.heard(self.c);
        }
        w.send(self.c, ACK);
        let to = match extended {
            true => text::extended(&heard).map(|(_, port)| at(self.ends.target, port)),
            false => text::host_port(&heard),
        };
        let Some(to) = to.filter(|to| to.port() != 0 && !transfer.only_announced) else { return };
        let port_from = transfer.from.unwrap_or_else(|| w.rng.port());
        let client = (self.ends.client.0, at(self.ends.client.1, port_from));
        let (d, e) = w.connect(client, to, (self.ends.server.0, at(address, port)), MSS);
        w.say(self.c, "RETR f\r\n");
        if let Some(e) = e {
            self.data(w, e, Some(d));
        }
        w.say(self.s, "226 done\r\n");
        w.send(self.c, ACK);
    }

    /// A little data from `from` to `to`, and maybe the end.
    fn data(&self, w: &mut World<'_>, from: Id, to: Option<Id>) {
        let Some(to) = to else { return };
        let len = w.rng.range(1, 60) as usize;
        let data = w.rng.bytes(len);
        let tcp = w.segment(from, PSH | ACK, &data);
        w.send_segment(from, &tcp);
        w.send(to, ACK);
        if w.rng.percent(70) {
            w.finish(from, to);
        }
    }

    pub(crate) fn any_transfer(&self, w: &mut World<'_>) {
        let transfer = Transfer { extended: self.is_v6() || w.rng.percent(35), ..Transfer::default() };
        if w.rng.percent(50) { self.active(w, &transfer) } else { self.passive(w, &transfer) }
    }

    /// Logs in, some transfers, and maybe the end.
    pub(crate) fn play(&self, w: &mut World<'_>) {
        self.login(w);
        for _ in 0..w.rng.range(1, 6) {
            self.any_transfer(w);
        }
        if w.rng.percent(40) {
            self.quit(w);
        }
    }
}
