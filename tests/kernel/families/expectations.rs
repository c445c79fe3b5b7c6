//! The timeout of an expectation: 300 s, which no setting shortens. Only run by name: `KERNEL_FAMILIES=expectations`.
//! Only asked by name: `KERNEL_FAMILIES=expectations`.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::{IN, MASQUERADE, Net, OUT, Play};
use crate::rng::Rng;
use crate::session::{Ends, Session};
use crate::setup::{Rules, Setup};
use crate::text;
use crate::wire::{ACK, SYN};
use crate::world::{MSS, World, at};

/// Timeout of the kernel's expectations (`nf_conntrack_ftp`'s policy).
const TIMEOUT: Duration = Duration::from_secs(300);
/// Time between announcements, in seconds.
const ANNOUNCED: u32 = 60;
const APART: Duration = Duration::from_millis(100);
/// So long before the end half of what was announced comes.
const BEFORE: Duration = Duration::from_millis(500);
/// Time until the rest comes. An expectation ends with the kernel's timer, which may be an eighth of its time late (on
/// 6.18 one was met after 303 s); the library's ends to the microsecond.
const LATER: Duration = Duration::from_secs(45);

/// A connection that was announced.
struct Awaited {
    since: Instant,
    from: (usize, SocketAddr),
    to: SocketAddr,
}

/// Many announcements at a time; half of what was announced comes just in time, and half too late.
pub(super) fn expectations(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let setup = Setup::new(net.v6, &Rules::nat(if rng.percent(70) { MASQUERADE } else { "" }));
    (
        setup,
        Box::new(move |w| {
            let mut awaited = Vec::new();
            for number in 0..ANNOUNCED {
                let client = match net.client {
                    IpAddr::V4(_) => IpAddr::from([10, 77, 3, 1 + number as u8]),
                    IpAddr::V6(_) => IpAddr::from([0xfd77, 1, 0, 0, 0, 0, 3, 1 + number as u16]),
                };
                let ends = Ends::new((IN, client), (OUT, net.server), net.server);
                awaited.extend(Session::open(w, ends).and_then(|session| announce(w, &session)));
                w.wait(APART.as_millis() as u64);
            }
            let Some(first) = awaited.first() else { return };
            w.wait(TIMEOUT.saturating_sub(BEFORE + first.since.elapsed()).as_millis() as u64);
            for (turn, wait) in [Duration::ZERO, LATER].into_iter().enumerate() {
                w.wait(wait.as_millis() as u64);
                for Awaited { from, to, .. } in awaited.iter().skip(turn).step_by(2) {
                    let isn = w.isn();
                    let data = w.half(from.0, from.1, *to, isn);
                    w.send_with(data, SYN, MSS);
                }
            }
        }),
    )
}

/// Announces a port, in one of the four ways; who may connect where.
fn announce(w: &mut World<'_>, session: &Session) -> Option<Awaited> {
    session.login(w);
    let (port, extended) = (w.rng.port(), session.is_v6() || w.rng.percent(50));
    let ends = session.ends.clone();
    let speaks = if w.rng.percent(50) { session.c } else { session.s };
    let hears = if speaks == session.c { session.s } else { session.c };
    w.heard(hears);
    let line = match (speaks == session.c, extended) {
        (true, _) => session.command(extended, ends.client.1, port),
        (false, true) => format!("229 Entering Extended Passive Mode (|||{port}|)\r\n"),
        (false, false) => format!("227 Entering Passive Mode ({}).\r\n", text::host_port_text(ends.server.1, port)),
    };
    w.say(speaks, line);
    let since = Instant::now();
    let heard = w.heard(hears);
    // Without this acknowledgement the control connection would end first.
    w.send(hears, ACK);
    let to = match extended {
        true => text::extended(&heard).map(|(address, port)| at(address.unwrap_or(ends.target), port)),
        false => text::host_port(&heard),
    }?;
    let from = if speaks == session.c { ends.server } else { ends.client };
    let source = if speaks == session.c { 20 } else { w.rng.port() };
    Some(Awaited { since, from: (from.0, at(from.1, source)), to })
}
