//! FTP on ports that nobody said are control ports.

use core::net::SocketAddr;
use std::collections::VecDeque;
use std::vec::Vec;

use super::flow::FlowKey;

/// So many connections whose server greeted are remembered.
const MAX_GREETED: usize = 256;
/// So many servers are told of.
const MAX_TOLD: usize = 64;

/// Watches other connections: a server that greets with 220 and a client that answers with `USER` speak FTP. (SMTP
/// greets so, but knows no `USER`; POP3 knows `USER`, but greets otherwise.)
#[derive(Default)]
pub(super) struct Elsewhere {
    greeted: VecDeque<(FlowKey, SocketAddr)>,
    told: Vec<SocketAddr>,
}

impl Elsewhere {
    /// A segment's text on a connection that is not watched. The server, if it is certain now, and new.
    pub(super) fn hear(&mut self, from: SocketAddr, to: SocketAddr, text: &[u8]) -> Option<SocketAddr> {
        match text {
            [b'2', b'2', b'0', b' ' | b'-', ..] => self.greets(from, to),
            [u, s, e, r, b' ', ..] if [*u, *s, *e, *r].eq_ignore_ascii_case(b"USER") => self.is_answered(from, to),
            _ => None,
        }
    }

    fn greets(&mut self, server: SocketAddr, client: SocketAddr) -> Option<SocketAddr> {
        let key = FlowKey::of(server, client);
        if !self.greeted.iter().any(|(greeted, _)| *greeted == key) {
            if self.greeted.len() == MAX_GREETED {
                self.greeted.pop_front();
            }
            self.greeted.push_back((key, server));
        }
        None
    }

    fn is_answered(&mut self, client: SocketAddr, server: SocketAddr) -> Option<SocketAddr> {
        let key = FlowKey::of(server, client);
        self.greeted.iter().find(|(greeted, by)| *greeted == key && *by == server)?;
        if self.told.contains(&server) || self.told.len() == MAX_TOLD {
            return None;
        }
        self.told.push(server);
        Some(server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_must_have_spoken() {
        let [server, client]: [SocketAddr; 2] = ["10.0.0.1:2121", "10.0.0.2:5000"].map(|end| end.parse().unwrap());
        let mut elsewhere = Elsewhere::default();
        assert_eq!(elsewhere.hear(client, server, b"USER ftp\r\n"), None);
        assert_eq!(elsewhere.hear(server, client, b"220 ready\r\n"), None);
        assert_eq!(elsewhere.hear(client, server, b"EHLO me\r\n"), None);
        assert_eq!(elsewhere.hear(server, client, b"USER ftp\r\n"), None, "the server itself");
        assert_eq!(elsewhere.hear(client, server, b"user ftp\r\n"), Some(server));
        assert_eq!(elsewhere.hear(client, server, b"USER ftp\r\n"), None, "told already");
    }

    #[test]
    fn memory_is_bounded() {
        let mut elsewhere = Elsewhere::default();
        let client: SocketAddr = "10.0.0.2:5000".parse().unwrap();
        for port in 1..1000 {
            elsewhere.hear(SocketAddr::new([10, 0, 0, 1].into(), port), client, b"220 ready\r\n");
        }
        assert_eq!(elsewhere.greeted.len(), MAX_GREETED);
    }
}
