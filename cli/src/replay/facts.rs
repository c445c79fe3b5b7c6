//! `--json` without `--router`: the FTP of a capture, one object a line.
//!
//! As with `--router`, every line begins with `event`. Its keys come in the order below, and values are `null` where
//! there are none. A thing that has a name there has the same name here.

use std::net::SocketAddr;

use ftp_conntrack::capture::ReadError;
use ftp_conntrack::conntrack::Tuple;
use ftp_conntrack::inspect::{Announced, Data, Ended, Ending, FramePos, FtpEvent, Helper, Opened, Sink, Summary};
use ftp_conntrack::packet::Protocol;
use serde_json::{Value, json};

use crate::output::Output;
use crate::replay::decode::escaped;
use crate::replay::json::{Object, snake, tuple};

/// Writes a line for each event.
pub(crate) struct JsonFacts<'o> {
    output: &'o mut Output,
}

impl<'o> JsonFacts<'o> {
    pub(crate) const fn new(output: &'o mut Output) -> Self {
        Self { output }
    }

    /// The last line.
    pub(crate) fn summary(&mut self, summary: &Summary) {
        let counts = [
            ("frames", summary.frames),
            ("not_ip", summary.not_ip),
            ("unreadable", summary.unreadable),
            ("malformed", summary.malformed),
            ("parts", summary.parts),
            ("ftp", summary.ftp),
            ("copies", summary.copies),
            ("cut", summary.cut),
            ("tunnelled", summary.tunnelled),
            ("sessions", summary.sessions),
            ("evicted", summary.evicted),
            ("announcements", summary.announcements),
            ("handled", summary.handled),
            ("unjudged", summary.unjudged),
            ("malformed_announcements", summary.malformed_announcements),
            ("would_drop", summary.would_drop),
            ("again", summary.again),
            ("data", summary.data),
            ("data_failed", summary.data_failed),
            ("unfulfilled", summary.unfulfilled),
            ("unused", summary.unused),
            ("not_captured", summary.not_captured),
            ("gaps", summary.gaps),
            ("icmp_errors", summary.icmp_errors),
            ("two_sided", summary.two_sided),
            ("damaged", summary.damaged),
            ("steps_back", summary.steps_back),
        ];
        let object = counts.into_iter().fold(Object::new("summary"), |object, (name, count)| object.with(name, count));
        let link = summary.link_type.map(|link| link.to_string());
        let seconds = summary.span.map(|(first, last)| last.since(first).as_secs_f64());
        self.write(object.with("unknown_link_type", link).with("seconds", seconds));
    }

    fn write(&mut self, object: Object) {
        self.output.line(object.finish());
    }
}

impl Sink for JsonFacts<'_> {
    fn event(&mut self, at: FramePos, event: &FtpEvent<'_>) {
        let begin = |name: &str| Object::new(name).with("frame", at.frame).with("time", at.time.to_string());
        let object = match event {
            FtpEvent::Opened(opened) => opened_line(begin("new"), opened),
            FtpEvent::Command { matters: false, .. } | FtpEvent::Reply { matters: false, .. } => return,
            FtpEvent::Command { session, number, line, .. } => begin("command")
                .with("connection", session.to_string())
                .with("number", *number)
                .with("line", escaped(line)),
            FtpEvent::Reply { session, line, code, asked, command, .. } => begin("reply")
                .with("connection", session.to_string())
                .with("code", *code)
                .with("line", escaped(line))
                .with("answers", asked.as_ref().map(snake))
                .with("command", *command),
            FtpEvent::Announced(announced) => announced_line(begin("announced"), announced),
            FtpEvent::Again { session, number, sender, form, line, helper } => begin("announced_again")
                .with("connection", session.to_string())
                .with("sender", snake(sender))
                .with("form", form.to_string())
                .with("helper", helper_value(helper, None))
                .with("number", *number)
                .with("line", escaped(line)),
            FtpEvent::OtherSide { session, client, server } => {
                begin("other_side").with("connection", session.to_string()).with("original", between(*client, *server))
            }
            FtpEvent::Translated { session, number, sender, form, line, address, port } => begin("translated")
                .with("connection", session.to_string())
                .with("sender", snake(sender))
                .with("form", form.to_string())
                .with("address", address.map(|address| address.to_string()))
                .with("port", *port)
                .with("number", *number)
                .with("line", escaped(line)),
            FtpEvent::IcmpError { session, number, error } => begin("icmp_error")
                .with("connection", session.to_string())
                .with("number", *number)
                .with("reporter", error.reporter.to_string())
                .with("kind", error.kind)
                .with("code", error.code)
                .with("mtu", error.mtu)
                .with("quoted", between(error.from, error.to)),
            FtpEvent::WouldDrop { session, sender, form } => begin("partial_announcement")
                .with("connection", session.to_string())
                .with("sender", snake(sender))
                .with("form", form.to_string()),
            FtpEvent::Gap { session, sender, bytes } | FtpEvent::Cut { session, sender, bytes } => {
                let name = if matches!(event, FtpEvent::Gap { .. }) { "gap" } else { "cut" };
                begin(name).with("connection", session.to_string()).with("sender", snake(sender)).with("bytes", *bytes)
            }
            FtpEvent::Tls { session, how } => {
                begin("tls").with("connection", session.to_string()).with("how", snake(how))
            }
            FtpEvent::Clear { session } => begin("clear").with("connection", session.to_string()),
            FtpEvent::DataOpened(data) => begin("fulfilled")
                .with("connection", name_of(data))
                .with("master", data.session.to_string())
                .with("number", data.number)
                .with("original", between(data.from, data.to))
                .with("opener", snake(&data.opener))
                .with("began", snake(&data.began))
                .with("fit", snake(&data.fit))
                .with("related", data.related),
            FtpEvent::DataEnded(data, ending) => {
                let object =
                    begin("destroyed").with("connection", name_of(data)).with("original", between(data.from, data.to));
                ended(object, ending, [snake(&data.opener), snake(&data.opener.other())])
            }
            FtpEvent::Unfulfilled { session, number, why } => begin("unfulfilled")
                .with("master", session.to_string())
                .with("number", *number)
                .with("reason", snake(why)),
            FtpEvent::Ended(ended) => ended_line(begin("destroyed"), ended),
            FtpEvent::Done { .. } | FtpEvent::Line { .. } => return,
            FtpEvent::Elsewhere { server, client } => begin("elsewhere")
                .with("server", server.to_string())
                .with("client", client.to_string())
                .with("port", server.port()),
            other => begin("other").with("text", format!("{other:?}")),
        };
        self.write(object);
    }

    fn broken(&mut self, error: &ReadError) {
        self.write(Object::new("damaged").with("error", error.to_string()));
    }
}

fn opened_line(object: Object, opened: &Opened) -> Object {
    object
        .with("connection", opened.session.to_string())
        .with("original", between(opened.client, opened.server))
        .with("reply", between(opened.server, opened.client))
        .with("began", snake(&opened.began))
        .with("tunnel", opened.tunnel.as_ref().map(snake))
}

fn announced_line(object: Object, announced: &Announced<'_>) -> Object {
    let expected = match announced.helper {
        Helper::Acts { expected } => tuple(&expected),
        _ => Value::Null,
    };
    object
        .with("connection", announced.session.to_string())
        .with("sender", snake(&announced.sender))
        .with("form", announced.form.to_string())
        .with("address", announced.address.map(|address| address.to_string()))
        .with("port", announced.port)
        .with("well_formed", announced.wrong.is_none())
        .with("wrong", announced.wrong.map(|wrong| wrong.to_string()))
        .with("foreign", announced.foreign)
        .with("helper", helper_value(&announced.helper, announced.helper_reads))
        .with("expected", expected)
        .with("number", announced.number)
        .with("first_frame", announced.began.frame)
        .with("line", escaped(announced.line))
}

fn helper_value(helper: &Helper, reads: Option<(std::net::IpAddr, u16)>) -> Value {
    json!({
        "acts": helper.acts(),
        "drops": matches!(helper, Helper::Drops(_)),
        "known": !matches!(helper, Helper::Unknown(_)),
        "why": helper.to_string(),
        "address": reads.map(|(address, _)| address.to_string()),
        "port": reads.map(|(_, port)| port),
    })
}

fn ended_line(object: Object, over: &Ended) -> Object {
    let object = object.with("connection", over.session.to_string()).with("original", Value::Null);
    ended(object, &over.ending, ["client".to_owned(), "server".to_owned()])
        .with("login", snake(&over.login))
        .with("tls", over.tls)
        .with("commands", over.commands)
        .with("announcements", over.announcements)
}

fn ended(object: Object, ending: &Ending, sides: [String; 2]) -> Object {
    let by = ending.reset.and_then(|(side, _)| sides.get(side).cloned());
    object
        .with("packets", json!(ending.packets))
        .with("bytes", json!(ending.bytes))
        .with("frame_bytes", json!(ending.frame_bytes))
        .with("reason", snake(&ending.how()))
        .with("seconds", ending.duration().as_secs_f64())
        .with("fin", json!(ending.fin))
        .with("reset", ending.reset.map(|(_, frame)| frame))
        .with("reset_by", by)
}

/// The name of a data connection.
fn name_of(data: &Data) -> String {
    match data.earlier {
        0 => format!("{}.{}", data.session, data.number),
        earlier => format!("{}.{}.{earlier}", data.session, data.number),
    }
}

fn between(from: SocketAddr, to: SocketAddr) -> Value {
    Tuple::new(Protocol::TCP, from, to).map_or(Value::Null, |there| tuple(&there))
}
