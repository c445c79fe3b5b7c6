//! Conditions on every packet, and on every dialogue once it is over.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use ftp_conntrack::router::Verdict;

use crate::options::Options;
use crate::speech::{Announced, Fate, Speech};
use crate::text::{self, Form};
use crate::urgent::{Flow, Urgent};
use crate::wire::{ACK, CONTROL, RST, SYN, Segment, is_sound};
use crate::world::{FAR, NEAR, World};

/// The packets seen so far.
pub(crate) struct Watch {
    /// With which number each stream began, and how far it was seen at the router, by link.
    streams: HashMap<(usize, SocketAddr, SocketAddr), (u32, u32)>,
    /// Text that left the router on control connections: link, ends, sequence number, text.
    spoken: Vec<(usize, SocketAddr, SocketAddr, u32, Vec<u8>)>,
    /// Addresses that must not be seen on each link, and their spellings.
    hidden: [Vec<(IpAddr, Vec<String>)>; 2],
    /// Client's end of each control connection as the server sees it.
    seen: HashMap<SocketAddr, SocketAddr>,
    /// The control connection whose first packet is just being routed.
    opening: Option<SocketAddr>,
    pub(crate) packets: u64,
    pub(crate) drops: u64,
    /// Packets that left with an address in their text that must not be seen there.
    leaks: Vec<(usize, String)>,
    pub(crate) urgent: Urgent,
}

impl Watch {
    pub(crate) fn new(options: &Options) -> Self {
        let spelled = |address: IpAddr| (address, text::spellings(address));
        let clients = (0..options.clients).map(|number| spelled(options.client(number)));
        let mut hidden = [Vec::new(), Vec::new()];
        if options.hides_clients() {
            hidden[FAR].extend(clients);
        }
        if options.hides_server() {
            hidden[NEAR].push(spelled(options.addresses.server));
        }
        Self {
            streams: HashMap::new(),
            spoken: Vec::new(),
            hidden,
            seen: HashMap::new(),
            opening: None,
            packets: 0,
            drops: 0,
            leaks: Vec::new(),
            urgent: Urgent::default(),
        }
    }

    /// A packet arrives at the router.
    pub(crate) fn arrives(&mut self, link: usize, packet: &[u8]) {
        self.packets += 1;
        let Some(segment) = Segment::read(packet) else { return };
        self.urgent.arrives(link, &segment, packet);
        let opens = link == NEAR && segment.to.port() == CONTROL && segment.has(SYN);
        self.opening = opens.then_some(segment.from);
        let begun = (segment.seq, segment.end());
        let (first, end) = self.streams.entry((link, segment.from, segment.to)).or_insert(begun);
        if segment.has(SYN) && segment.seq != *first {
            (*first, *end) = begun;
        } else if segment.end().wrapping_sub(*end) as i32 > 0 {
            *end = segment.end();
        }
    }

    /// A packet was dropped, or taken for the router itself. Where nothing is late, lost or too long for a window,
    /// none should be.
    pub(crate) fn dropped(
        &mut self,
        options: &Options,
        link: usize,
        packet: &[u8],
        verdict: Verdict,
    ) -> Result<(), String> {
        self.drops += 1;
        let Some(segment) = Segment::read(packet) else { return Ok(()) };
        let data = ![segment.from.port(), segment.to.port()].contains(&CONTROL);
        let opens = segment.flags & (SYN | ACK) == SYN;
        // The first packet of a data connection is let through by what was announced, or by nothing. One that comes a
        // second time after its connection is over is late.
        let known = self.streams.contains_key(&(1 - link, segment.to, segment.from));
        if options.is_fair() || (data && opens && !known && !options.class.weather) {
            let what = if data { "data connection" } else { "control connection" };
            return Err(format!("a packet of a {what} was dropped: {verdict:?}"));
        }
        Ok(())
    }

    /// A packet leaves the router.
    pub(crate) fn leaves(&mut self, options: &Options, link: usize, packet: &[u8]) -> Result<(), String> {
        if packet.len() > options.mtu[link] {
            return Err(format!(
                "a packet of {} bytes leaves onto a link that takes {}",
                packet.len(),
                options.mtu[link]
            ));
        }
        let Some(segment) = Segment::read(packet) else { return Ok(()) };
        if !is_sound(packet, &segment) {
            return Err("a packet leaves with a wrong length or checksum".into());
        }
        self.urgent.leaves(link, &segment, packet);
        for (address, spellings) in &self.hidden[link] {
            if segment.from.ip() == *address || segment.to.ip() == *address {
                return Err(format!("the header of a packet shows {address} to those who must not see it"));
            }
            if [segment.from.port(), segment.to.port()].contains(&CONTROL) {
                let text = String::from_utf8_lossy(segment.payload(packet));
                let leaked = spellings.iter().filter(|spelling| shows(&text, spelling));
                self.leaks.extend(leaked.map(|spelling| (link, format!("{spelling} in {}", text.escape_debug()))));
            }
        }
        self.check_acknowledgements(link, packet, &segment)?;
        if let Some(client) = self.opening.take() {
            self.seen.insert(client, segment.from);
        }
        if [segment.from.port(), segment.to.port()].contains(&CONTROL) && !segment.payload.is_empty() {
            self.spoken.push((link, segment.from, segment.to, segment.seq, segment.payload(packet).to_vec()));
        }
        Ok(())
    }

    /// Only what was sent may be acknowledged.
    fn check_acknowledgements(&self, link: usize, packet: &[u8], segment: &Segment) -> Result<(), String> {
        let Some((first, end)) = self.streams.get(&(link, segment.to, segment.from)) else { return Ok(()) };
        if !segment.has(ACK) || segment.has(RST) {
            return Ok(());
        }
        let most = end.wrapping_sub(*first);
        for (name, number) in [("an acknowledgement", segment.ack)]
            .into_iter()
            .chain(segment.sack_edges(packet).into_iter().map(|edge| ("a selective acknowledgement", edge)))
        {
            let relative = number.wrapping_sub(*first);
            if relative > most {
                return Err(format!("{name} of {relative} leaves for a stream of {most}"));
            }
        }
        Ok(())
    }
}

/// Returns true if an address is in a text, and not as a part of a longer number.
fn shows(text: &str, spelling: &str) -> bool {
    text.match_indices(spelling).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + spelling.len()..].chars().next();
        let continues = |neighbour: Option<char>| neighbour.is_some_and(|c| c.is_ascii_hexdigit());
        !continues(before) && !continues(after)
    })
}

/// Checks a dialogue that is over.
///
/// # Errors
/// What is not.
pub(crate) fn check(world: &World) -> Result<(), String> {
    let options = &world.options;
    let mut mentions_own = [false, false];
    for (number, client) in world.clients.iter().enumerate() {
        let own = options.client(number);
        let of_client = |message: String| format!("client {number} ({own}): {message}");
        let session = world.server.sessions.iter().find(|session| {
            let dialled_from = world.watch.seen.iter().find(|(from, _)| from.ip() == own);
            session.speech.remote.is_some() && session.speech.remote == dialled_from.map(|(_, seen)| *seen)
        });
        let session = session.ok_or_else(|| of_client("the server has no session".into()))?;
        mentions_own[FAR] |= client.session.mentions_own || options.opaque.is_accepted();
        mentions_own[NEAR] |= session.mentions_own || options.opaque.is_accepted();

        let client_side = Side { own, public: options.seen(number), other_learnt: &session.speech.learnt };
        let server_side =
            Side { own: options.addresses.server, public: options.dialled().ip(), other_learnt: &client.speech.learnt };
        compare(&client.speech, &session.speech.heard, &client_side)
            .map_err(|e| of_client(format!("to the server: {e}")))?;
        compare(&session.speech, &client.speech.heard, &server_side)
            .map_err(|e| of_client(format!("to the client: {e}")))?;

        let [client_end, server_end] = [session.speech.remote, client.speech.remote];
        let [Some(client_end), Some(server_end)] = [client_end, server_end] else {
            return Err(of_client("a control connection without ends".into()));
        };
        if server_end != options.dialled() || client_end.ip() != options.seen(number) {
            return Err(of_client(format!("the control connection is between {client_end} and {server_end}")));
        }
        let to_server = SocketAddr::new(options.addresses.server, CONTROL);
        every_packet_agrees(world, FAR, (client_end, to_server), &session.speech.heard).map_err(of_client)?;
        let local = world.watch.seen.iter().find(|(from, _)| from.ip() == own).map(|(from, _)| *from);
        let local = local.ok_or_else(|| of_client("its first packet was never seen".into()))?;
        every_packet_agrees(world, NEAR, (server_end, local), &client.speech.heard).map_err(of_client)?;
        let urgent = |from, to, heard| urgent_bytes_agree(world, from, to, heard).map_err(of_client);
        urgent((NEAR, local, server_end), (FAR, client_end, to_server), &session.speech.heard)?;
        urgent((FAR, to_server, client_end), (NEAR, server_end, local), &client.speech.heard)?;

        for (transfer, data) in client.session.transfers.iter().zip(client.data()) {
            let arrived = if transfer.is_upload { session.uploads.get(&transfer.name) } else { Some(&data.received) };
            if arrived != Some(&transfer.content) {
                let length = arrived.map(Vec::len);
                return Err(of_client(format!(
                    "{} of {} bytes arrived as {length:?}",
                    transfer.name,
                    transfer.content.len()
                )));
            }
            if data.remote.is_none_or(|remote| remote.ip() != options.dialled().ip()) {
                return Err(of_client(format!(
                    "{}: the client's data connection is to {:?}",
                    transfer.name, data.remote
                )));
            }
        }
        if let Some(remote) = session.data_remotes.iter().find(|remote| remote.ip() != options.seen(number)) {
            return Err(of_client(format!("the server's data connection is to {remote}")));
        }
    }
    match world.watch.leaks.iter().find(|(link, _)| !mentions_own[*link]) {
        Some((_, leak)) => Err(format!("an address left as text: {leak}")),
        None => Ok(()),
    }
}

/// One side of a control connection, as it is and as the other side must see it.
struct Side<'w> {
    own: IpAddr,
    public: IpAddr,
    /// Endpoints that the other side read.
    other_learnt: &'w [SocketAddr],
}

/// Checks that the received text is the sent one, with announced endpoints as the other side must see them.
fn compare(said: &Speech, heard: &[u8], side: &Side<'_>) -> Result<(), String> {
    let (mut at_said, mut at_heard) = (0, 0);
    for announced in &said.announced {
        same(&said.said[at_said..announced.range.start], heard, &mut at_heard)?;
        at_said = announced.range.end;
        let text = &said.said[announced.range.clone()];
        if announced.fate != Fate::Endpoint {
            at_heard = doubtful(announced, &said.said, heard, at_heard, side)?;
            continue;
        }
        if side.own == side.public {
            same_endpoint_or_text(announced, text, heard, &mut at_heard, side)?;
            continue;
        }
        let rest = heard.get(at_heard..).unwrap_or_default();
        let shown = || rest[..rest.len().min(60)].escape_ascii().to_string();
        let endpoint = announced.form.read(rest).ok_or_else(|| format!("no endpoint: {}", shown()))?;
        let written = announced.form.read(text);
        let nowhere = announced.address.is_some_and(|address| address.is_unspecified());
        let right = match endpoint.address {
            None => announced.address.is_none(),
            Some(address) => address == side.public || (nowhere && address.is_unspecified()),
        };
        if !right || written.is_none_or(|written| written.delimiter != endpoint.delimiter) {
            return Err(format!("{} became {}", text.escape_ascii(), shown()));
        }
        if !side.other_learnt.iter().any(|learnt| learnt.port() == endpoint.port) {
            return Err(format!("{} was not understood: {:?}", shown(), side.other_learnt));
        }
        at_heard += endpoint.length;
    }
    same(&said.said[at_said..], heard, &mut at_heard)?;
    if at_heard == heard.len() { Ok(()) } else { Err(format!("more was heard: {}", heard[at_heard..].escape_ascii())) }
}

/// Checks the received text of an announcement that may be refused: one line, without the sender's own address. Gives
/// where its end begins.
fn doubtful(announced: &Announced, said: &[u8], heard: &[u8], at: usize, side: &Side<'_>) -> Result<usize, String> {
    let line_end = if said[announced.range.end..].starts_with(b"\r\n") { 2 } else { 1 };
    let rest = heard.get(at..).unwrap_or_default();
    let feed = rest.iter().position(|byte| *byte == b'\n').ok_or("a line without end")?;
    let line = &rest[..(feed + 1).checked_sub(line_end).ok_or("a line end was lost")?];
    let text = String::from_utf8_lossy(line);
    let is_refusal = announced.fate == Fate::Refusal;
    if is_refusal && side.own != side.public && text::spellings(side.own).iter().any(|own| shows(&text, own)) {
        return Err(format!("an address is left in {}", line.escape_ascii()));
    }
    let refuses = matches!(line, [b'4' | b'5', b'0'..=b'9', b'0'..=b'9', b' ', ..]);
    if announced.fate == Fate::Refusal && !refuses {
        return Err(format!("it is no refusal: {}", line.escape_ascii()));
    }
    Ok(at + line.len())
}

/// An address that is not translated is announced as it was; only the port may have to be another, where the other side
/// is translated.
fn same_endpoint_or_text(
    announced: &Announced,
    text: &[u8],
    heard: &[u8],
    at: &mut usize,
    side: &Side<'_>,
) -> Result<(), String> {
    let rest = heard.get(*at..).unwrap_or_default();
    if rest.starts_with(text) {
        *at += text.len();
        return Ok(());
    }
    let shown = rest[..rest.len().min(60)].escape_ascii();
    let nowhere = announced.address.is_some_and(|address| address.is_unspecified());
    let endpoint = announced.form.read(rest);
    let says = |address: Option<IpAddr>| match address {
        None => announced.form == Form::Epsv,
        // An address is one however it is written, and nowhere stands for the speaker.
        Some(address) => Some(address) == announced.address || (nowhere && address == side.public),
    };
    match endpoint.filter(|endpoint| says(endpoint.address)) {
        Some(endpoint) => {
            *at += endpoint.length;
            Ok(())
        }
        None => Err(format!("{} became {shown}", text.escape_ascii())),
    }
}

/// Checks that the received text goes on with `expected`.
fn same(expected: &[u8], heard: &[u8], at: &mut usize) -> Result<(), String> {
    let rest = heard.get(*at..).unwrap_or_default();
    if !rest.starts_with(expected) {
        let differs = expected.iter().zip(rest).take_while(|(a, b)| a == b).count();
        let show =
            |text: &[u8]| text[differs.saturating_sub(20)..text.len().min(differs + 60)].escape_ascii().to_string();
        return Err(format!("byte {}: \"{}\" became \"{}\"", *at + differs, show(expected), show(rest)));
    }
    *at += expected.len();
    Ok(())
}

/// Checks that bytes that are urgent on one link are so on the other.
fn urgent_bytes_agree(world: &World, near: Flow, far: Flow, heard: &[u8]) -> Result<(), String> {
    let (link, from, to) = far;
    let first = world.trace.beginning(link, from, to).ok_or_else(|| format!("no stream from {from} to {to}"))?;
    world.watch.urgent.check(near, far, first, heard).map_err(|why| format!("{from} > {to}: {why}"))
}

/// Every packet that left the router must be a piece of the one stream that was heard, whether or not it arrived.
fn every_packet_agrees(
    world: &World,
    link: usize,
    (from, to): (SocketAddr, SocketAddr),
    heard: &[u8],
) -> Result<(), String> {
    let first = world.trace.beginning(link, from, to).ok_or_else(|| format!("no stream from {from} to {to}"))?;
    let of_stream = world.watch.spoken.iter().filter(|spoken| (spoken.0, spoken.1, spoken.2) == (link, from, to));
    for (_, _, _, seq, text) in of_stream {
        let at = seq.wrapping_sub(first).wrapping_sub(1) as usize;
        let place = heard.get(at..).and_then(|rest| rest.get(..text.len()));
        if place != Some(text) {
            let stream = place.map(|place| place.escape_ascii().to_string());
            return Err(format!("\"{}\" left at {at}, where {from} > {to} has {stream:?}", text.escape_ascii()));
        }
    }
    Ok(())
}
