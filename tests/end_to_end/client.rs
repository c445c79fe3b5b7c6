//! An FTP client: a machine that works whenever it is asked.

use std::net::SocketAddr;

use ftp_conntrack::Instant;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use crate::host::{self, Ended, Host};
use crate::options::{Opaque, Options};
use crate::plan::{Meaning, OpaqueTalk, Session};
use crate::speech::Speech;
use crate::text::Form;

/// A client in its session.
pub(crate) struct Client {
    pub(crate) session: Session,
    pub(crate) speech: Speech,
    talk: OpaqueTalk,
    control: SocketHandle,
    step: usize,
    /// Commands that the server has yet to answer, oldest first.
    unanswered: Vec<Meaning>,
    reply: ReplyReader,
    data: Vec<Data>,
    /// When the control connection turned opaque: how much had been heard.
    opaque_from: Option<usize>,
    /// TLS records are being heard: how much had been heard before.
    in_tls_from: Option<usize>,
    /// Sockets on which the server may call after an odd announcement.
    odd: Vec<SocketHandle>,
    pub(crate) done: bool,
    next_port: u16,
    /// When the next part of an upload is sent.
    pub(crate) wakes: Option<Instant>,
}

/// A data connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Data {
    socket: Option<SocketHandle>,
    pub(crate) sent: usize,
    pub(crate) received: Vec<u8>,
    /// Other end of the connection, once it is open.
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) over: bool,
}

const FIRST_PORT: u16 = 49_152;

impl Client {
    pub(crate) fn new(session: Session, talk: OpaqueTalk, host: &mut Host, options: &Options) -> Self {
        let control = host.connect(options.dialled(), FIRST_PORT, &options.client_control);
        let data = vec![Data::default(); session.transfers.len()];
        Self {
            session,
            speech: Speech::default(),
            talk,
            control,
            step: 0,
            unanswered: vec![Meaning::Plain],
            reply: ReplyReader::default(),
            data,
            opaque_from: None,
            in_tls_from: None,
            odd: Vec::new(),
            done: false,
            next_port: FIRST_PORT + 1,
            wakes: None,
        }
    }

    pub(crate) fn data(&self) -> &[Data] {
        &self.data
    }

    /// Describes the client's state, for a dialogue that is stuck.
    pub(crate) fn describe(&self) -> String {
        let over = self.data.iter().filter(|data| data.over).count();
        format!(
            "step {}/{}, unanswered {:?}, {over} transfers over",
            self.step,
            self.session.steps.len(),
            self.unanswered
        )
    }

    /// Does what can be done now; true if that was anything.
    ///
    /// # Errors
    /// What the server did wrong.
    pub(crate) fn work(&mut self, now: Instant, host: &mut Host, options: &Options) -> Result<bool, String> {
        for handle in &self.odd {
            host::answer_close(host.socket(*handle));
        }
        if self.done {
            return Ok(false);
        }
        let mut busy = self.speech.pump(host.socket(self.control), options.written_at_once);
        for number in 0..self.data.len() {
            busy |= self.move_data(number, now, host, options);
        }
        if let Some(start) = self.in_tls_from {
            if self.speech.heard.len() < start + self.talk.server.len() {
                return Ok(busy);
            }
            self.in_tls_from = None;
            self.speech.skip(self.talk.server.len());
            busy = true;
        }
        if let Some(start) = self.opaque_from {
            return Ok(self.talk_opaquely(start, host) || busy);
        }
        while let Some(line) = self.speech.next_line() {
            busy = true;
            if let Some((code, text)) = self.reply.line(&line)? {
                self.answered(code, &text, host, options)?;
            }
            if self.opaque_from.is_some() || self.in_tls_from.is_some() {
                return Ok(true);
            }
        }
        if self.speech.ended && !self.done {
            return Err("the server closed the control connection early".into());
        }
        if self.unanswered.is_empty() && self.is_transferred() && self.step < self.session.steps.len() {
            self.take_step(host, options);
            busy = true;
        }
        Ok(busy)
    }

    /// Returns true if every transfer of the steps so far is over.
    fn is_transferred(&self) -> bool {
        let asked = self.session.steps[..self.step].iter().flatten();
        asked
            .filter_map(|command| if let Meaning::Transfer(n) = command.meaning { Some(n) } else { None })
            .all(|n| self.data[n].over)
    }

    fn take_step(&mut self, host: &mut Host, options: &Options) {
        for command in &self.session.steps[self.step] {
            if let Meaning::Listen(number) = command.meaning {
                let port = self.session.transfers[number].port;
                self.data[number].socket = Some(host.listen(port, &options.client_data));
            }
            if let Meaning::Odd(port) = command.meaning {
                self.odd.push(host.listen(port, &options.client_data));
            }
            self.speech.say(&command.line);
            self.unanswered.push(command.meaning);
        }
        self.step += 1;
    }

    /// A whole reply came.
    fn answered(&mut self, code: u16, text: &[u8], host: &mut Host, options: &Options) -> Result<(), String> {
        let shown = format!("{code} {}", text.escape_ascii());
        if code < 200 {
            return Ok(());
        }
        if self.unanswered.is_empty() {
            return Err(format!("a reply that nobody asked for: {shown}"));
        }
        match (self.unanswered.remove(0), code) {
            (Meaning::Plain, _) | (Meaning::Listen(_), 200) | (Meaning::Transfer(_), 226) | (Meaning::Auth, 502) => {}
            (Meaning::Odd(_), 200 | 500..510) | (Meaning::Refused, 400..600) => {}
            (Meaning::Auth, 234) if options.opaque == Opaque::Ends => {
                self.in_tls_from = Some(self.speech.heard.len() - self.speech.unread());
                self.speech.say(&crate::speech::Line::new(self.talk.client.clone()));
            }
            (Meaning::Auth, 234) => {
                self.opaque_from = Some(self.speech.heard.len() - self.speech.unread());
                self.speech.say(&crate::speech::Line::new(self.talk.client.clone()));
            }
            (Meaning::Quit, 200..300) => {
                host.socket(self.control).close();
                self.done = true;
            }
            (Meaning::Abandon(form), 200) if form.is_active() => {}
            (Meaning::Abandon(form), 227..230) => {
                self.learn(form, text, options)?;
            }
            (Meaning::Call(form, number), 227..230) => {
                let there = self.learn(form, text, options)?;
                self.data[number].socket = Some(host.connect(there, self.next_port, &options.client_data));
                self.next_port += 1;
            }
            (meaning, _) => return Err(format!("{meaning:?} was answered by {shown}")),
        }
        Ok(())
    }

    /// Reads the endpoint where the server says that it listens.
    fn learn(&mut self, form: Form, text: &[u8], options: &Options) -> Result<SocketAddr, String> {
        let endpoint = form.find(text).ok_or_else(|| format!("no endpoint in {}", text.escape_ascii()))?;
        let address = endpoint.address.filter(|address| !address.is_unspecified());
        let there = SocketAddr::new(address.unwrap_or(options.dialled().ip()), endpoint.port);
        self.speech.learnt.push(there);
        Ok(there)
    }

    fn move_data(&mut self, number: usize, now: Instant, host: &mut Host, options: &Options) -> bool {
        let transfer = &self.session.transfers[number];
        let data = &mut self.data[number];
        let Some(handle) = data.socket.filter(|_| !data.over) else { return false };
        let socket = host.socket(handle);
        if socket.state() == State::Listen || socket.state() == State::SynSent {
            return false;
        }
        data.remote = data.remote.or_else(|| host::endpoint(socket.remote_endpoint()));
        if !transfer.is_upload {
            let (count, ended) = host::read(socket, &mut data.received);
            if ended == Ended::Whole {
                socket.close();
                data.over = true;
            }
            return count > 0 || data.over;
        }
        if !socket.can_send() {
            return false;
        }
        if let Some(pause) = options.pause.filter(|_| data.sent < transfer.content.len()) {
            if self.wakes.is_some_and(|wakes| now < wakes) {
                return false;
            }
            self.wakes = Some(now + pause);
        }
        let part = if options.pause.is_some() { transfer.content.len() / 4 + 1 } else { usize::MAX };
        let end = transfer.content.len().min(data.sent.saturating_add(part));
        let sent = socket.send_slice(&transfer.content[data.sent..end]).unwrap_or(0);
        data.sent += sent;
        if data.sent == transfer.content.len() {
            socket.close();
            data.over = true;
        }
        sent > 0 || data.over
    }

    /// Both sides say all they have; then the client closes.
    fn talk_opaquely(&mut self, start: usize, host: &mut Host) -> bool {
        let heard_all = self.speech.heard.len() - start >= self.talk.server.len();
        if heard_all && self.speech.is_said() {
            host.socket(self.control).close();
            self.done = true;
        }
        self.done
    }
}

/// Puts the lines of replies together (RFC 959 section 4.2).
#[derive(Clone, Debug, Default)]
struct ReplyReader {
    /// The code of a reply of several lines that has begun.
    within: Option<u16>,
}

impl ReplyReader {
    /// The reply that ends with this line, and the line's text.
    fn line(&mut self, line: &[u8]) -> Result<Option<(u16, Vec<u8>)>, String> {
        let code = line.get(..3).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
        let (code, mark) = (code.filter(|code| (100..600).contains(code)), line.get(3).copied());
        match (self.within, code, mark) {
            (None, Some(code), Some(b'-')) => {
                self.within = Some(code);
                Ok(None)
            }
            (None, Some(code), Some(b' ')) => Ok(Some((code, line[4..].to_vec()))),
            (Some(within), Some(code), Some(b' ')) if within == code => {
                self.within = None;
                Ok(Some((code, line[4..].to_vec())))
            }
            (Some(_), ..) => Ok(None),
            (None, ..) => Err(format!("no reply: {}", line.escape_ascii())),
        }
    }
}
