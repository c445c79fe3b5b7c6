//! An FTP server: a machine that works whenever it is asked.

use std::collections::HashMap;
use std::net::SocketAddr;

use ftp_conntrack::Behaviour;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use crate::host::{self, Ended, Host};
use crate::options::{Opaque, Options};
use crate::plan::OpaqueTalk;
use crate::rng::Rng;
use crate::servers::SERVERS;
use crate::speech::{Fate, Line, Speech};
use crate::text::Form;

/// A server and its sessions.
pub(crate) struct Server {
    /// Sockets that no session has yet; one of them listens.
    listeners: Vec<SocketHandle>,
    pub(crate) sessions: Vec<ServerSession>,
    files: HashMap<String, Vec<u8>>,
    talk: OpaqueTalk,
    rng: Rng,
    next_port: u16,
    /// Endpoints that it called from port 20.
    called: Vec<SocketAddr>,
}

/// One control connection.
pub(crate) struct ServerSession {
    control: SocketHandle,
    pub(crate) speech: Speech,
    opening: Option<Opening>,
    running: Option<Running>,
    pub(crate) uploads: HashMap<String, Vec<u8>>,
    /// Other end of each data connection.
    pub(crate) data_remotes: Vec<SocketAddr>,
    opaque: bool,
    /// True if text is still to be sent then.
    talks: bool,
    /// TLS records are being heard.
    in_tls: bool,
    /// Connections to what was read in odd announcements: they are opened and closed.
    odd: Vec<SocketHandle>,
    /// The last of them is being opened, and the answer waits for it.
    calls_oddly: bool,
    closing: bool,
    pub(crate) closed: bool,
    /// True if the server's own address is in text that announces nothing.
    pub(crate) mentions_own: bool,
}

/// The opening of the next data connection.
enum Opening {
    Call(SocketAddr),
    Listen(SocketHandle),
}

/// A transfer.
struct Running {
    socket: SocketHandle,
    name: String,
    /// Content to send; `None` for an upload.
    content: Option<Vec<u8>>,
    sent: usize,
    received: Vec<u8>,
    /// True if the first reply is still to come.
    says_150: bool,
}

const CONTROL: u16 = 21;
const DATA: u16 = 20;

impl Server {
    pub(crate) fn new(
        files: HashMap<String, Vec<u8>>,
        talk: OpaqueTalk,
        mut rng: Rng,
        host: &mut Host,
        options: &Options,
    ) -> Self {
        let listeners = vec![host.listen(CONTROL, &options.server_control)];
        let next_port = rng.pick(&[1024, 3000, 51_210, 65_000]);
        Self { listeners, sessions: Vec::new(), files, talk, rng, next_port, called: Vec::new() }
    }

    /// Does what can be done now; true if that was anything.
    ///
    /// # Errors
    /// What a client did wrong.
    pub(crate) fn work(&mut self, host: &mut Host, options: &Options) -> Result<bool, String> {
        let mut busy = false;
        if !self.listeners.iter().any(|listener| host.socket(*listener).state() == State::Listen) {
            self.listeners.push(host.listen(CONTROL, &options.server_control));
            busy = true;
        }
        let called = |listener: &mut SocketHandle| {
            !matches!(host.socket(*listener).state(), State::Listen | State::SynReceived | State::Closed)
        };
        for control in self.listeners.extract_if(.., called).collect::<Vec<_>>() {
            let mut session = ServerSession::new(control);
            self.greet(&mut session, options);
            self.sessions.push(session);
            busy = true;
        }
        let mut sessions = std::mem::take(&mut self.sessions);
        for session in &mut sessions {
            busy |= self.serve(session, host, options)?;
        }
        self.sessions = sessions;
        Ok(busy)
    }

    fn serve(&mut self, session: &mut ServerSession, host: &mut Host, options: &Options) -> Result<bool, String> {
        let mut busy = false;
        for handle in &session.odd {
            let socket = host.socket(*handle);
            let waits = socket.state() == State::SynSent;
            if matches!(socket.state(), State::Established | State::CloseWait) {
                socket.close();
            }
            if session.calls_oddly && !waits {
                session.calls_oddly = false;
                session.speech.say(&Line::new("200 called\r\n"));
                busy = true;
            }
        }
        if session.closed {
            return Ok(busy);
        }
        busy |= session.speech.pump(host.socket(session.control), options.written_at_once);
        busy |= self.move_data(session, host);
        if session.in_tls && session.speech.unread() >= self.talk.client.len() {
            session.in_tls = false;
            session.speech.skip(self.talk.client.len());
            self.talk(session);
            busy = true;
        }
        if session.talks && session.speech.unread() > 0 {
            self.talk(session);
        }
        while session.running.is_none() && !session.is_busy() {
            let Some(line) = session.speech.next_line() else { break };
            busy = true;
            self.obey(session, &line, host, options)?;
        }
        if (session.closing && session.speech.is_said()) || session.speech.ended {
            host.socket(session.control).close();
            session.closed = true;
            busy = true;
        }
        Ok(busy)
    }

    fn talk(&self, session: &mut ServerSession) {
        session.talks = false;
        session.speech.say(&Line::new(self.talk.server.clone()));
    }

    fn greet(&mut self, session: &mut ServerSession, options: &Options) {
        if options.class.dresses && self.rng.percent(40) {
            let own = self.own(session, options);
            session.speech.say(&Line::new(format!(
                "220-Welcome\r\n220-227 Entering Passive Mode ({own})\r\n227 Entering Passive Mode ({own})\r\n \
                 229 Extended (|||1029|)\r\n220 ready\r\n"
            )));
        } else {
            session.speech.say(&Line::new("220 ready\r\n"));
        }
    }

    /// An endpoint of the server's, to be said where it announces nothing.
    fn own(&self, session: &mut ServerSession, options: &Options) -> String {
        session.mentions_own = true;
        let endpoint = SocketAddr::new(options.addresses.server, 1029);
        if options.is_ipv6() { Form::Eprt.write(endpoint, '|') } else { Form::Pasv.write(endpoint, '|') }
    }

    fn obey(
        &mut self,
        session: &mut ServerSession,
        line: &[u8],
        host: &mut Host,
        options: &Options,
    ) -> Result<(), String> {
        if options.class.wild {
            Self::check_reading(session, line)?;
        }
        let command = line.strip_prefix(b"\xff\xf4\xff\xf2").unwrap_or(line);
        let text = String::from_utf8_lossy(command).into_owned();
        let (verb, argument) =
            text.split_once(' ').map_or((text.as_str(), ""), |(v, a)| (v, a.trim_start_matches(' ')));
        match verb.to_ascii_uppercase().as_str() {
            "AUTH" => {
                session.opaque = options.opaque.is_accepted();
                session.in_tls = options.opaque == Opaque::Ends;
                session.talks = session.opaque;
                let reply = if session.opaque || session.in_tls { "234 go on\r\n" } else { "502 no such thing\r\n" };
                session.speech.say(&Line::new(reply));
                if options.opaque == Opaque::AtOnce {
                    self.talk(session);
                }
            }
            "USER" => self.plain(session, "331 and the password?", options),
            "PASS" => self.plain(session, "230 logged in", options),
            "ABOR" => self.plain(session, "226 nothing to abort", options),
            "STAT" => {
                let own = self.own(session, options);
                session
                    .speech
                    .say(&Line::new(format!("211-status\r\n227 Entering Passive Mode ({own})\r\n211 end\r\n")));
            }
            "PORT" if options.class.wild && !is_plain(Form::Port, argument) => {
                self.read_oddly(session, line, host, options)
            }
            "PORT" => self.will_call(session, Form::Port, argument, options)?,
            "EPRT" => self.will_call(session, Form::Eprt, argument, options)?,
            "LPRT" => self.will_call(session, Form::Lprt, argument, options)?,
            "PASV" if !argument.is_empty() => self.contradict_itself(session, argument, options)?,
            "PASV" => self.will_listen(session, Form::Pasv, host, options),
            "EPSV" => self.will_listen(session, Form::Epsv, host, options),
            "LPSV" => self.will_listen(session, Form::Lpsv, host, options),
            "RETR" => self.begin(session, argument, true, host, options)?,
            "STOR" => self.begin(session, argument, false, host, options)?,
            "QUIT" => {
                let logout = options.class.dresses && self.rng.percent(40);
                session.speech.say(&Line::new(if logout { "227 Logout.\r\n" } else { "221 bye\r\n" }));
                session.closing = true;
            }
            "TYPE" | "NOOP" | "SYST" | "PWD" | "FEAT" | "SITE" | "CWD" | "HELP" | "PASSIVE" => {
                self.plain(session, "200 ok", options)
            }
            "ADAT" => self.plain(session, "335 more", options),
            _ if options.class.wild => self.read_oddly(session, line, host, options),
            _ => return Err(format!("the server was told {}", line.escape_ascii())),
        }
        Ok(())
    }

    /// No server reads an endpoint in a line that is not the client's, as the server sees it, or nowhere.
    fn check_reading(session: &ServerSession, line: &[u8]) -> Result<(), String> {
        let client = session.speech.remote.map(|remote| remote.ip());
        for server in &SERVERS {
            let Some([a, b, c, d, ..]) = server.reads(line) else { continue };
            let address: std::net::IpAddr = [a, b, c, d].map(|number| number as u8).into();
            if Some(address) != client && !address.is_unspecified() {
                return Err(format!("{} reads {address} in {}", server.name, line.escape_ascii()));
            }
        }
        Ok(())
    }

    /// Calls where one of the servers reads an endpoint in the line.
    fn read_oddly(&mut self, session: &mut ServerSession, line: &[u8], host: &mut Host, options: &Options) {
        let server = &SERVERS[self.rng.below(SERVERS.len())];
        let there = server.reads(line).map(|numbers| {
            let [a, b, c, d, high, low] = numbers.map(|number| number as u8);
            SocketAddr::new([a, b, c, d].into(), u16::from_be_bytes([high, low]))
        });
        match there.filter(|there| !there.ip().is_unspecified() && there.port() > 0) {
            Some(there) => {
                let from = self.any_port();
                session.odd.push(host.connect(there, from, &options.server_data));
                session.calls_oddly = true;
            }
            None => session.speech.say(&Line::new("501 what?\r\n")),
        }
    }

    /// A reply of several lines, or with an address that is not its own.
    fn contradict_itself(&mut self, session: &mut ServerSession, how: &str, options: &Options) -> Result<(), String> {
        let own = Form::Pasv.write(SocketAddr::new(options.addresses.server, self.any_port()), '|');
        let line = match how {
            "TWICE" => Line::announcing("227-Passive (", Form::Pasv, &own, ")\r\n").and(Line::announcing(
                "227 Entering Passive Mode (",
                Form::Pasv,
                &own,
                ").\r\n",
            )),
            "MIXED" => {
                let text = format!("227-(1,2,3,4,5)\r\n227 Entering Passive Mode ({own}).");
                Line::doubtful(text.as_bytes(), "\r\n", Form::Pasv, Fate::Refusal)
            }
            "THIRD" => Line::new("227 Entering Passive Mode (192,0,2,77,19,137).\r\n"),
            _ => return Err(format!("the server was told PASV {how}")),
        };
        session.speech.say(&line);
        Ok(())
    }

    fn plain(&mut self, session: &mut ServerSession, reply: &str, options: &Options) {
        let many = options.class.dresses && self.rng.percent(20);
        let long = options.class.wild && !options.class.windows && options.written_at_once > 100 && self.rng.percent(3);
        let code = &reply[..3];
        let text = if long {
            let line = "227 (10,66,1,2,4,5) ".repeat(200);
            format!("{code}-{line}\r\n{line}\r\n{reply}\r\n")
        } else if many {
            format!("{code}-and\r\n 227 so\r\n229 on\r\n{reply}\r\n")
        } else {
            format!("{reply}\r\n")
        };
        session.speech.say(&Line::new(text));
    }

    /// The client announced where it listens.
    fn will_call(
        &mut self,
        session: &mut ServerSession,
        form: Form,
        argument: &str,
        options: &Options,
    ) -> Result<(), String> {
        let endpoint = form.read(argument.as_bytes()).filter(|endpoint| endpoint.length == argument.len());
        let there = endpoint.and_then(|endpoint| Some(SocketAddr::new(endpoint.address?, endpoint.port)));
        let there = there.ok_or_else(|| format!("the server was told {form:?} {}", argument.escape_debug()))?;
        if let (true, std::net::IpAddr::V6(v6), Form::Eprt) = (options.hides_clients(), there.ip(), form)
            && there.ip() != options.client(0)
            // Linux writes all eight groups.
            && options.behaviour == Behaviour::Exact
            && !argument.contains(&v6.to_string())
        {
            return Err(format!("not as RFC 5952 has it: {argument}"));
        }
        session.speech.learnt.push(there);
        session.opening = Some(Opening::Call(there));
        self.plain(session, "200 I shall call", options);
        Ok(())
    }

    /// The client asked where to call.
    fn will_listen(&mut self, session: &mut ServerSession, form: Form, host: &mut Host, options: &Options) {
        let port = self.next_port;
        self.next_port += 1;
        session.opening = Some(Opening::Listen(host.listen(port, &options.server_data)));
        let own = SocketAddr::new(options.addresses.server, port);
        let line = match form {
            Form::Pasv => self.dressed_227(own, options),
            Form::Epsv => {
                Line::announcing("229 Entering Extended Passive Mode (", form, &form.write(own, '|'), ")\r\n")
            }
            _ => Line::announcing("228 Entering Long Passive Mode (", form, &form.write(own, '|'), ")\r\n"),
        };
        session.speech.say(&line);
    }

    fn dressed_227(&mut self, own: SocketAddr, options: &Options) -> Line {
        let dresses = [
            ("227 Entering Passive Mode (", ").\r\n"),
            ("227 Entering Passive Mode (", ")\r\n"),
            ("227 Entering Passive Mode ", "\r\n"),
            ("227 =", "\r\n"),
            // From here on only those who read lines understand.
            ("227-listen socket created\r\n227 (", ")\r\n"),
            ("227-listen\r\n 227 said\r\n229 too\r\n227 Entering Passive Mode (", ").\r\n"),
            ("227 Entering Passive Mode (", ")\n"),
            ("227 Entering Passive Mode. ", " (says the server).\r\n"),
        ];
        let wild = options.class.dresses;
        let (before, after) = self.rng.pick(if wild { &dresses } else { &dresses[..4] });
        let nowhere = SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), own.port());
        let said = if wild && self.rng.percent(15) { nowhere } else { own };
        Line::announcing(before, Form::Pasv, &Form::Pasv.write(said, '|'), after)
    }

    /// A file is to be moved.
    fn begin(
        &mut self,
        session: &mut ServerSession,
        name: &str,
        sends: bool,
        host: &mut Host,
        options: &Options,
    ) -> Result<(), String> {
        let content = if sends {
            Some(self.files.get(name).ok_or_else(|| format!("the server has no {}", name.escape_debug()))?.clone())
        } else {
            None
        };
        let socket = match session.opening.take() {
            Some(Opening::Call(there)) => {
                // From port 20 unless that was used towards there before.
                let from = if self.called.contains(&there) || self.rng.percent(20) { self.any_port() } else { DATA };
                self.called.push(there);
                host.connect(there, from, &options.server_data)
            }
            Some(Opening::Listen(socket)) => socket,
            None => return Err("the server knows no data connection".into()),
        };
        let says_150 = self.rng.percent(50);
        if !says_150 {
            session.speech.say(&Line::new("150 here it comes\r\n"));
        }
        session.running = Some(Running { socket, name: name.into(), content, sent: 0, received: Vec::new(), says_150 });
        Ok(())
    }

    fn any_port(&mut self) -> u16 {
        self.next_port = if self.next_port > 65_500 { 20_000 } else { self.next_port + 1 };
        self.next_port
    }

    fn move_data(&mut self, session: &mut ServerSession, host: &mut Host) -> bool {
        let Some(running) = &mut session.running else { return false };
        let socket = host.socket(running.socket);
        if matches!(socket.state(), State::Listen | State::SynSent | State::SynReceived) {
            return false;
        }
        let mut busy = false;
        if running.says_150 {
            running.says_150 = false;
            session.speech.say(&Line::new("150 here it comes\r\n"));
            busy = true;
        }
        let over = match &running.content {
            Some(content) => {
                let sent = socket.send_slice(&content[running.sent..]).unwrap_or(0);
                running.sent += sent;
                busy |= sent > 0;
                running.sent == content.len()
            }
            None => {
                let (count, ended) = host::read(socket, &mut running.received);
                busy |= count > 0;
                ended == Ended::Whole
            }
        };
        if over {
            session.data_remotes.extend(host::endpoint(socket.remote_endpoint()));
            socket.close();
            session.speech.say(&Line::new("226 done\r\n"));
            if running.content.is_none() {
                session.uploads.insert(std::mem::take(&mut running.name), std::mem::take(&mut running.received));
            }
            session.running = None;
        }
        busy || over
    }
}

/// Returns true if an argument is an endpoint and nothing else.
fn is_plain(form: Form, argument: &str) -> bool {
    form.read(argument.as_bytes()).is_some_and(|endpoint| endpoint.length == argument.len())
}

impl ServerSession {
    /// Returns true if it reads no line now.
    const fn is_busy(&self) -> bool {
        self.opaque || self.closing || self.in_tls || self.calls_oddly
    }

    fn new(control: SocketHandle) -> Self {
        Self {
            control,
            speech: Speech::default(),
            opening: None,
            running: None,
            uploads: HashMap::new(),
            data_remotes: Vec::new(),
            opaque: false,
            talks: false,
            in_tls: false,
            odd: Vec::new(),
            calls_oddly: false,
            closing: false,
            closed: false,
            mentions_own: false,
        }
    }
}
