//! The plan of a client: its commands, and the files that it will send and fetch, all known before the dialogue begins.

use std::net::SocketAddr;

use crate::options::{Opaque, Options};
use crate::rng::Rng;
use crate::servers::SERVERS;
use crate::speech::{Fate, Line};
use crate::text::Form;

/// One client's session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) steps: Vec<Step>,
    pub(crate) transfers: Vec<Transfer>,
    /// True if the client's own address is in text that announces nothing.
    pub(crate) mentions_own: bool,
}

/// Commands that are written at once; the next step begins when all are answered and their transfers are over.
pub(crate) type Step = Vec<Command>;

/// A command, and what its answer means.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) line: Line,
    pub(crate) meaning: Meaning,
}

/// The meaning of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Plain,
    /// The client will be called for this transfer.
    Listen(usize),
    /// The answer says where the client has to call for this transfer.
    Call(Form, usize),
    /// An endpoint is announced, by the client or in the answer, and nobody calls.
    Abandon(Form),
    /// The server may read an endpoint in it, and then calls this port.
    Odd(u16),
    /// The answer refuses.
    Refused,
    /// The file goes.
    Transfer(usize),
    Auth,
    Quit,
}

/// A file to send or to fetch.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
    pub(crate) is_upload: bool,
    /// The port that the client listens on.
    pub(crate) port: u16,
}

impl Session {
    pub(crate) fn draw(options: &Options, client: usize, rng: &mut Rng) -> Self {
        let session = Self { steps: Vec::new(), transfers: Vec::new(), mentions_own: false };
        let mut writer = Writer { options, client, rng, session };
        writer.login();
        if !options.opaque.is_accepted() {
            for _ in 0..writer.rng.range(1, 5) {
                writer.chatter();
                writer.transfers();
                writer.interrupt();
                writer.change_of_mind();
                writer.wild();
            }
            writer.quit();
        }
        writer.session
    }
}

struct Writer<'o> {
    options: &'o Options,
    client: usize,
    rng: &'o mut Rng,
    session: Session,
}

impl Writer<'_> {
    fn login(&mut self) {
        if self.options.opaque != Opaque::No {
            let auth = self.command("AUTH TLS", Meaning::Auth);
            self.session.steps.push(vec![auth]);
            if self.options.opaque.is_accepted() {
                return;
            }
        }
        let user = self.command("USER ftp", Meaning::Plain);
        let pass = self.command("PASS ftp@", Meaning::Plain);
        self.write(vec![user, pass]);
    }

    /// A client that changes its mind says so as Telnet has it (RFC 959 section 4.1.3): Interrupt Process, and the Data
    /// Mark as urgent data.
    fn interrupt(&mut self) {
        if self.options.class.urgent && self.rng.percent(40) {
            let line = Line::new(b"\xff\xf4\xff\xf2ABOR\r\n");
            self.session.steps.push(vec![Command { line, meaning: Meaning::Plain }]);
        }
    }

    /// Commands that move no file, some of which look as if they announced something.
    fn chatter(&mut self) {
        if !self.rng.percent(40) {
            return;
        }
        let own = self.options.client(self.client);
        let endpoint = Form::Lprt.write(SocketAddr::new(own, 1029), '|');
        let foolish = [
            format!("SITE LPRT {endpoint}"),
            "NOOP 227 Entering Passive Mode (10,66,1,2,4,5)".into(),
            format!("CWD EPRT |1|10.66.1.2|1029| {endpoint}"),
            "HELP PORT".into(),
            "STAT".into(),
            "PASSIVE".into(),
        ];
        let text = match self.rng.percent(if self.options.class.dresses { 60 } else { 0 }) {
            true => foolish[self.rng.below(foolish.len())].clone(),
            false => self.rng.pick(&["TYPE I", "NOOP", "SYST", "PWD", "FEAT"]).into(),
        };
        self.session.mentions_own |= crate::text::spellings(own).iter().any(|own| text.contains(own));
        let command = self.command(&text, Meaning::Plain);
        self.session.steps.push(vec![command]);
    }

    /// One transfer; with pipelining up to three in a row.
    fn transfers(&mut self) {
        let count = if self.options.class.pipelining { self.rng.pick(&[1, 1, 2, 3]) } else { 1 };
        let mut commands = Vec::new();
        for _ in 0..count {
            if self.options.class.pipelining && self.rng.percent(50) {
                commands.push(self.command("TYPE I", Meaning::Plain));
            }
            let [opening, moving] = self.transfer();
            commands.extend([opening, moving]);
        }
        self.write(commands);
    }

    /// The command that announces or asks for an endpoint, and the one that moves the file.
    fn transfer(&mut self) -> [Command; 2] {
        let number = self.session.transfers.len();
        let transfer = self.file(number);
        let form = self.form();
        let port = transfer.port;
        let (verb, name) = (if transfer.is_upload { "STOR" } else { "RETR" }, transfer.name.clone());
        let own = crate::text::spellings(self.options.client(self.client));
        self.session.mentions_own |= own.iter().any(|text| name.contains(text));
        self.session.transfers.push(transfer);
        let moving = self.command(&format!("{verb} {name}"), Meaning::Transfer(number));
        if !form.is_active() {
            return [self.command(form.verb(), Meaning::Call(form, number)), moving];
        }
        [self.announcement(form, port, Meaning::Listen(number)), moving]
    }

    fn announcement(&mut self, form: Form, port: u16, meaning: Meaning) -> Command {
        let listener = SocketAddr::new(self.options.client(self.client), port);
        let dresses = self.options.class.dresses;
        let delimiter =
            if dresses && form == Form::Eprt { self.rng.pick(&['|', '!', '$', '/', '~', '%']) } else { '|' };
        let mut endpoint = form.write(listener, delimiter);
        if dresses && self.rng.percent(20) {
            endpoint.make_ascii_uppercase();
        }
        let before = format!("{}{}", self.cased(form.verb()), self.blanks());
        let line = Line::announcing(&before, form, &endpoint, self.line_end());
        Command { line, meaning }
    }

    /// Sends lines of an attacker or an odd host.
    fn wild(&mut self) {
        if !self.options.class.wild {
            return;
        }
        let step = match self.rng.below(8) {
            0 => vec![self.long_line()],
            1 => {
                let count = if self.options.written_at_once < 100 { 34 } else { self.rng.range(33, 70) };
                (0..count).map(|i| self.command(["NOOP", "PWD", "SYST"][i as usize % 3], Meaning::Plain)).collect()
            }
            2 => (0..if self.options.written_at_once < 100 { 18 } else { self.rng.range(17, 40) })
                .map(|i| self.announced_in_vain(i as u16))
                .collect(),
            3 | 4 if !self.options.is_ipv6() && !self.options.loose => vec![self.odd_spelling()],
            5 if self.options.hides_clients() => {
                let seen = SocketAddr::new(self.options.seen(self.client), 4242 + self.client as u16);
                let form = if self.options.is_ipv6() { Form::Eprt } else { Form::Port };
                let line = Line::announcing(&format!("{} ", form.verb()), form, &form.write(seen, '|'), "\r\n");
                vec![Command { line, meaning: Meaning::Abandon(form) }]
            }
            6 if self.options.loose && !self.options.is_ipv6() => vec![self.command("PASV THIRD", Meaning::Plain)],
            _ if self.options.is_ipv6() => vec![self.padded_eprt()],
            _ if self.rng.percent(50) => vec![self.command("PASV TWICE", Meaning::Abandon(Form::Pasv))],
            _ => vec![self.command("PASV MIXED", Meaning::Refused)],
        };
        self.session.steps.push(step);
    }

    /// A line that is longer than anything that is held back.
    fn long_line(&mut self) -> Command {
        let most = if self.options.class.windows || self.options.written_at_once < 100 { 200 } else { 6000 };
        let length = self.rng.range(most / 4, most) as usize;
        let text: String = "PORT 10,66,1,2,4,5 x".chars().cycle().take(length).collect();
        let verb = self.rng.pick(&["SITE ", "ADAT ", "HELP "]);
        self.command(&format!("{verb}{text}"), Meaning::Plain)
    }

    /// One of many announcements that nobody follows.
    fn announced_in_vain(&mut self, number: u16) -> Command {
        let form = if self.options.is_ipv6() { Form::Eprt } else { self.rng.pick(&[Form::Port, Form::Eprt]) };
        self.announcement(form, 2200 + number % 30, Meaning::Abandon(form))
    }

    /// An address in full: some servers read only the short form.
    fn padded_eprt(&mut self) -> Command {
        let std::net::IpAddr::V6(own) = self.options.client(self.client) else { unreachable!("only with IPv6") };
        let address = own.segments().map(|group| format!("{group:04X}")).join(":");
        let line = Line::announcing("EPRT ", Form::Eprt, &format!("|2|{address}|2231|"), "\r\n");
        Command { line, meaning: Meaning::Abandon(Form::Eprt) }
    }

    /// PORT with bytes in it that some server reads over.
    fn odd_spelling(&mut self) -> Command {
        const ODD: [&[u8]; 24] = [
            b"\0",
            b"\t",
            b"\x0b",
            b"\x0c",
            b"\r",
            b" ",
            b"\"",
            b"+",
            b"0",
            b",",
            b"_",
            b";",
            b"|",
            b"x",
            b"\x7f",
            b"\xa0",
            b"\xff\xf1",
            b"\xff\xfdA",
            b"\xff\xfa",
            b"\r\0",
            b"PORT ",
            b"NOOP\r",
            b"SITE x\0",
            b"\xef\xbb\xbf",
        ];
        let port = 2100 + self.session.steps.len() as u16 % 90;
        let own = Form::Port.write(SocketAddr::new(self.options.client(self.client), port), '|');
        let mut text = format!("PORT {own}").into_bytes();
        for _ in 0..self.rng.range(1, 4) {
            let at = self.rng.below(text.len() + 1);
            let odd = if self.rng.percent(80) { self.rng.pick(&ODD).to_vec() } else { self.rng.bytes(1) };
            let is_taken = odd.contains(&b'\n') || self.options.class.urgent && odd.contains(&0xf2);
            if !is_taken {
                text.splice(at..at, odd);
            }
        }
        // A line that no server reads is no announcement, and leaves as it is.
        self.session.mentions_own |= SERVERS.iter().all(|server| server.reads(&text).is_none());
        let line = Line::doubtful(&text, self.line_end(), Form::Port, Fate::Odd);
        Command { line, meaning: Meaning::Odd(port) }
    }

    /// An announcement that nobody follows.
    fn change_of_mind(&mut self) {
        if !self.rng.percent(15) {
            return;
        }
        let form = self.form();
        let command = match form.is_active() {
            true => self.announcement(form, self.options.first_port + 30, Meaning::Abandon(form)),
            false => self.command(form.verb(), Meaning::Abandon(form)),
        };
        self.session.steps.push(vec![command]);
    }

    fn file(&mut self, number: usize) -> Transfer {
        let length = self.rng.range(0, self.options.longest_file + 1) as usize;
        let unique = format!("c{}f{number}", self.client);
        let name = match self.rng.percent(if self.options.class.dresses { 30 } else { 0 }) {
            true => match self.options.client(self.client) {
                std::net::IpAddr::V4(v4) => {
                    let [a, b, c, d] = v4.octets();
                    self.rng.pick(&["", "PORT ", "227 "]).to_string()
                        + &format!("{a},{b},{c},{d},{},{number}", 4 + self.client)
                }
                std::net::IpAddr::V6(v6) => format!("EPRT |2|{v6}|{}|", 1024 + 10 * self.client + number),
            },
            false => unique,
        };
        Transfer {
            name,
            content: self.rng.bytes(length),
            is_upload: self.rng.percent(50),
            port: self.options.first_port + number as u16,
        }
    }

    fn form(&mut self) -> Form {
        use Form::{Eprt, Epsv, Lprt, Lpsv, Pasv, Port};
        match (self.options.is_ipv6(), self.options.class.dresses) {
            (false, false) => self.rng.pick(&[Port, Port, Eprt, Pasv, Pasv, Epsv]),
            (false, true) => self.rng.pick(&[Port, Port, Eprt, Lprt, Pasv, Pasv, Epsv, Lpsv]),
            (true, false) => self.rng.pick(&[Eprt, Epsv]),
            (true, true) => self.rng.pick(&[Eprt, Epsv, Eprt, Epsv, Lprt, Lpsv]),
        }
    }

    fn quit(&mut self) {
        let quit = self.command("QUIT", Meaning::Quit);
        self.session.steps.push(vec![quit]);
    }

    /// A command in whatever dress: its argument is kept as it is.
    fn command(&mut self, text: &str, meaning: Meaning) -> Command {
        let (verb, argument) = text.split_once(' ').map_or((text, None), |(verb, argument)| (verb, Some(argument)));
        let mut dressed = self.cased(verb);
        if let Some(argument) = argument {
            dressed += &self.blanks();
            dressed += argument;
        }
        dressed += self.line_end();
        Command { line: Line::new(dressed), meaning }
    }

    fn cased(&mut self, verb: &str) -> String {
        let style = self.rng.range(0, 10);
        let cased = |(at, letter): (usize, char)| match style {
            0 | 1 => letter.to_ascii_lowercase(),
            2 if at % 2 == 1 => letter.to_ascii_lowercase(),
            _ => letter,
        };
        verb.chars().enumerate().map(cased).collect()
    }

    fn blanks(&mut self) -> String {
        " ".repeat(if self.options.class.dresses && self.rng.percent(20) { self.rng.below(4) + 1 } else { 1 })
    }

    fn line_end(&mut self) -> &'static str {
        if self.options.class.dresses && self.rng.percent(20) { "\n" } else { "\r\n" }
    }

    /// One step for all of them, or one for each.
    fn write(&mut self, commands: Vec<Command>) {
        if self.options.class.pipelining && self.rng.percent(70) {
            self.session.steps.push(commands);
        } else {
            self.session.steps.extend(commands.into_iter().map(|command| vec![command]));
        }
    }
}

/// The bytes of a control connection that has turned opaque: noise with lines in it that look like announcements.
#[derive(Clone, Debug)]
pub(crate) struct OpaqueTalk {
    pub(crate) client: Vec<u8>,
    pub(crate) server: Vec<u8>,
}

impl OpaqueTalk {
    pub(crate) fn draw(options: &Options, rng: &mut Rng) -> Self {
        let port = |endpoint| match options.is_ipv6() {
            true => ("EPRT ", Form::Eprt.write(endpoint, '|')),
            false => ("PORT ", Form::Port.write(endpoint, '|')),
        };
        let (verb, argument) = port(SocketAddr::new(options.client(0), 1029));
        let client = format!("{verb}{argument}\r\n");
        let (_, argument) = port(SocketAddr::new(options.addresses.server, 1029));
        let server = format!("227 Entering Passive Mode ({argument}).\r\n229 Extended (|||1029|)\r\n");
        if options.opaque == Opaque::Ends {
            return Self { client: records(rng), server: records(rng) };
        }
        let mut noise = |text: &str| {
            let mut talk = if rng.percent(50) { b"\x16\x03\x01\r\n".to_vec() } else { Vec::new() };
            for _ in 0..rng.range(1, 5) {
                talk.extend(text.as_bytes());
                let length = rng.below(60);
                talk.extend(rng.bytes(length));
                talk.extend(b"\r\n");
            }
            talk
        };
        Self { client: noise(&client), server: noise(&server) }
    }
}

/// TLS records with lines in them that look like announcements of strangers.
fn records(rng: &mut Rng) -> Vec<u8> {
    let mut talk = Vec::new();
    for number in 0..rng.range(1, 8) {
        let mut content = b"\r\nPORT 10,66,1,2,4,5\r\n227 (10,66,1,2,4,5)\r\n".to_vec();
        let length = rng.below(200);
        content.extend(rng.bytes(length));
        let [high, low] = (content.len() as u16).to_be_bytes();
        talk.extend([if number == 0 { 22 } else { rng.pick(&[20, 21, 22, 23]) }, 3, 3, high, low]);
        talk.extend(content);
    }
    talk
}
