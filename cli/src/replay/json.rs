//! `--json`: one object a line, as things happen.
//!
//! Every line begins with `event`, and its keys come in the order below; they are never renamed. Where there is nothing
//! to say the value is `null`.
//!
//! | `event` | further keys |
//! |---|---|
//! | `new` | `frame` `time` `connection` `original` `reply` `master` `helper` |
//! | `destroyed` | `frame` `time` `connection` `original` `packets` `bytes` `reason` |
//! | `announced` | `frame` `time` `connection` `sender` `form` `address` `port` `outcome` `expected` `before` `after` `shift` `reason` |
//! | `partial_announcement` | `frame` `time` `connection` `sender` `form` |
//! | `denied` | `frame` `time` `connection` `sender` `form` `reason`: behaviour exact refuses an announcement |
//! | `encrypted` | `frame` `time` `connection` `passive`: TLS begins, nothing more is read; the first and the last port that the client may dial, or null |
//! | `intervened` | `frame` `time` `connection` `sender` `what` `text`: behaviour exact does something with a segment besides replacing what it announces |
//! | `departs` | `frame` `time` `connection` `direction` `linux` `why` `here` `text` `leaves` `linux_sends`: behaviour exact sends something else than Linux would; once for a connection where all that follows differs for one reason |
//! | `fulfilled` | `frame` `time` `connection` `master` `expected` |
//! | `unfulfilled` | `frame` `time` `master` `expected` `reason` |
//! | `balanced` | `frame` `time` `entry` `service` `client` `dialled` `real_server` `by` `template`: a load balancer chose a real server |
//! | `balanced_data_announced` | `frame` `time` `control` `entry` `sender` `client` `dialled` `real_server`: an entry waits for a data connection |
//! | `balanced_data_arrived` | `frame` `time` `entry` `control` `client` `dialled` `real_server` |
//! | `balanced_contested` | `frame` `time` `client` `dialled` `real_servers`: behaviour exact cannot say whose data connection it is, and the services decide |
//! | `warning` | `frame` `kind` `text`: the load balancer leaves a hole; `frame` is null where its configuration alone says so |
//! | `dropped` | `frame` `time` `reason` `connection` `direction` |
//! | `log` | `frame` `time` `rule` |
//! | `undecided` | `frame` `time` `ipv6` `rule` `place` |
//! | `packet_differs` | `frame` `time` `kind` `arrived` `left` `interface` `library` `capture` (only with `--verify`) |
//! | `table_differs` | `kind` `line` `seconds` (only with `--verify`) |
//! | `lacking` | `frame` `time` `own` `other`: bytes that the capture lacks before this frame, of its own stream and of the one it acknowledges; blanks were supplied |
//! | `adopted` | `frame` `time` `original`: a connection whose beginning the capture lacks was taken over |
//! | `damaged` | `error` |
//! | `summary` | `arrived` `own` `left` `housekeeping` `not_ip` `ignored` `cut` `bad_checksums` `events_lost` `older` `supplied` `adopted`, and with `--verify` `differ` `table_lines` `choices` `undecidable` `lines_beyond` `lines_unseen` `contradicted` `helpers_full` `tables_compared` `agrees`, with behaviour exact `departures` `departures_alike`: packets of which something else leaves than Linux would send, and those of them not told by `departs` |
//! | `other` | `frame` `time` `text`: an event this program does not know |
//!
//! | value | is |
//! |---|---|
//! | `frame` `arrived` `left` | the number of a frame in the capture, from 1; in `summary`, counts of packets |
//! | `time` | text, seconds and microseconds since 1970: `"1795167176.499669"` |
//! | `connection` `master` | text that names a connection, never that of another |
//! | `entry` `control` `template` | text that names an entry of the load balancer, never that of another |
//! | `service` | the service as `ipvsadm` wants it: `-t 203.0.113.21:21`, `-f 21` |
//! | `client` `dialled` `real_server` | an address and a port; port 0 is one that nobody has said |
//! | `by` | the scheduler that chose, or `persistence`, with its `template` |
//! | `original` `reply` `expected` | `{"protocol","source","source_port","destination","destination_port"}`; for ICMP `id`, `type` and `code` in place of the ports; in `expected`, source port 0 is any |
//! | `packets` `bytes` | two numbers: the original direction, the reply direction |
//! | `sender` | `client`, `server` |
//! | `form` | `PORT`, `EPRT`, `227`, `229` |
//! | `outcome` | `expected`, `foreign_address`, `refused` |
//! | `before` `after` | the text of the endpoint as it came, and as it left |
//! | `shift` | `{"after","offset_before","offset_after"}`: sequence numbers past `after` leave `offset_after` higher |
//! | `reason` | why, in snake case: `timeout`, `rule`, `partial_announcement` ... |
//! | `direction` | `original`, `reply` |
//! | `place` | the undecided rule, `rules.v4:12` |
//! | `kind` | `bytes`, `missing` (not in the capture), `unexpected` (not sent by the library); for tables `only_kernel`, `only_here`, `seconds`; of a warning `not_persistent`, `no_passive_ports`, `uncovered_port`, `pasv_address_set`, `real_address_announced`, `active_not_masqueraded`, `active_from_another_address` |
//! | `what` `linux` `why` | in snake case: `held`, `emptied` ...; `drops`, `passes`, `writes` ...; `first_line_only`, `within_tls` ... |
//! | `here` | an array of such words: what is done instead |
//! | `text` | the same in a sentence |
//! | `leaves` `linux_sends` | arrays of packets |
//! | `library` `capture` | the packet in hexadecimal digits, from its IP header |
//! | `seconds` | the seconds left here, for lines that differ in nothing else |

use std::net::SocketAddr;

use ftp_conntrack::Instant;
use ftp_conntrack::capture::ReadError;
use ftp_conntrack::conntrack::{ConnectionId, Direction, Tuple};
use ftp_conntrack::event::{AnnouncementOutcome, BalancedBy, Event};
use ftp_conntrack::ftp::Sender;
use ftp_conntrack::helper::PolicySetting;
use ftp_conntrack::packet::{Family, Protocol};
use ftp_conntrack::replay::{Departure, Difference, Here, Lacking, Seen, Sink, Summary, TableDifference, Watch};
use ftp_conntrack::router::{Router, Verdict};
use serde_json::{Value, json};

use crate::output::Output;
use crate::replay::decode::hex;
use crate::replay::story::place;

/// Writes a line for whatever it is told.
pub(crate) struct JsonLines<'o> {
    output: &'o mut Output,
    /// True if differences are of interest.
    verify: bool,
    /// True if the router does not behave like Linux.
    exact: bool,
    watch: Option<Watch>,
}

impl<'o> JsonLines<'o> {
    pub(crate) fn new(output: &'o mut Output, (verify, exact): (bool, bool), watch: Option<Watch>) -> Self {
        let mut lines = Self { output, verify, exact, watch };
        lines.look(None, |_| {});
        lines
    }

    /// Tells the holes that are found now.
    fn look(&mut self, frame: Option<u64>, tell: impl FnOnce(&mut Watch)) {
        let Some(mut watch) = self.watch.take() else { return };
        tell(&mut watch);
        while let Some(hole) = watch.next_hole() {
            let object = Object::new("warning").with("frame", frame).with("kind", hole.name());
            self.write(object.with("text", hole.to_string()));
        }
        self.watch = Some(watch);
    }

    /// The last line.
    pub(crate) fn summary(&mut self, summary: &Summary) {
        let mut object = Object::new("summary")
            .with("arrived", summary.arrived)
            .with("own", summary.own)
            .with("left", summary.left)
            .with("housekeeping", summary.housekeeping)
            .with("not_ip", summary.not_ip)
            .with("ignored", summary.ignored)
            .with("cut", summary.cut)
            .with("bad_checksums", summary.bad_checksums)
            .with("events_lost", summary.events_lost)
            .with("older", summary.older)
            .with("supplied", summary.supplied)
            .with("adopted", summary.adopted);
        if self.verify {
            object = object
                .with("differ", summary.differ)
                .with("table_lines", summary.table_lines)
                .with("choices", summary.choices)
                .with("undecidable", summary.undecidable)
                .with("lines_beyond", summary.lines_beyond)
                .with("lines_unseen", summary.lines_unseen)
                .with("contradicted", summary.contradicted)
                .with("helpers_full", summary.helpers_full)
                .with("tables_compared", summary.tables_compared)
                .with("agrees", summary.agrees());
        }
        if self.exact {
            object = object.with("departures", summary.departures).with("departures_alike", summary.departures_alike);
        }
        self.write(object);
    }

    fn write(&mut self, object: Object) {
        self.output.line(object.finish());
    }
}

impl Sink for JsonLines<'_> {
    fn packet(&mut self, packet: Seen<'_>, verdict: Verdict, router: &Router) {
        self.look(Some(packet.frame), |watch| watch.packet(packet, verdict, router));
    }

    fn leaves(&mut self, packet: Seen<'_>, router: &Router) {
        self.look(Some(packet.frame), |watch| watch.leaves(packet, router));
    }

    fn event(&mut self, frame: u64, time: Instant, event: &Event, router: &Router) {
        self.look(Some(frame), |watch| watch.event(frame, time, event, router));
        let begin = |name: &str| Object::new(name).with("frame", frame).with("time", time.to_string());
        let object = match event {
            Event::New { connection, original, reply, master, helper } => begin("new")
                .with("connection", connection.to_string())
                .with("original", tuple(original))
                .with("reply", tuple(reply))
                .with("master", master.map(|master| master.to_string()))
                .with("helper", *helper),
            Event::Destroyed { connection, original, counters, reason } => begin("destroyed")
                .with("connection", connection.to_string())
                .with("original", tuple(original))
                .with("packets", json!(counters.map(|way| way.packets)))
                .with("bytes", json!(counters.map(|way| way.bytes)))
                .with("reason", snake(reason)),
            Event::Announced { connection, sender, form, address, port, outcome } => {
                let object = begin("announced")
                    .with("connection", connection.to_string())
                    .with("sender", snake(sender))
                    .with("form", form.to_string())
                    .with("address", address.to_string())
                    .with("port", *port);
                announcement(object, outcome, shift(router, *connection, *sender))
            }
            Event::PartialAnnouncement { connection, sender, form } => begin("partial_announcement")
                .with("connection", connection.to_string())
                .with("sender", snake(sender))
                .with("form", form.to_string()),
            Event::Denied { connection, sender, form, reason } => begin("denied")
                .with("connection", connection.to_string())
                .with("sender", snake(sender))
                .with("form", form.to_string())
                .with("reason", reason.to_string())
                .with("setting", reason.setting().map(PolicySetting::name)),
            Event::Encrypted { connection, passive } => begin("encrypted")
                .with("connection", connection.to_string())
                .with("passive", passive.as_ref().map(|ports| [*ports.start(), *ports.end()])),
            Event::Intervened { connection, sender, intervention } => begin("intervened")
                .with("connection", connection.to_string())
                .with("sender", snake(sender))
                .with("what", snake(intervention))
                .with("text", intervention.to_string()),
            Event::Fulfilled { connection, master, expected } => begin("fulfilled")
                .with("connection", connection.to_string())
                .with("master", master.to_string())
                .with("expected", tuple(expected)),
            Event::Unfulfilled { master, expected, reason } => begin("unfulfilled")
                .with("master", master.to_string())
                .with("expected", tuple(expected))
                .with("reason", snake(reason)),
            Event::Balanced { entry, service, client, dialled, real_server, by } => {
                let object = begin("balanced").with("entry", entry.to_string()).with("service", service.to_string());
                let (by, template) = match by {
                    BalancedBy::Scheduler(scheduler) => (scheduler.name(), None),
                    BalancedBy::Persistence(template) => ("persistence", Some(template.to_string())),
                    _ => ("other", None),
                };
                ends(object, [client, dialled, real_server]).with("by", by).with("template", template)
            }
            Event::BalancedDataAnnounced { control, entry, sender, client, dialled, real_server } => {
                let object = begin("balanced_data_announced").with("control", control.to_string());
                let object = object.with("entry", entry.to_string()).with("sender", snake(sender));
                ends(object, [client, dialled, real_server])
            }
            Event::BalancedDataArrived { entry, control, client, dialled, real_server } => {
                let object = begin("balanced_data_arrived").with("entry", entry.to_string());
                let object = object.with("control", control.map(|control| control.to_string()));
                ends(object, [client, dialled, real_server])
            }
            Event::BalancedContested { client, dialled, real_servers } => begin("balanced_contested")
                .with("client", client.to_string())
                .with("dialled", dialled.to_string())
                .with("real_servers", real_servers.iter().map(ToString::to_string).collect::<Vec<_>>()),
            Event::Dropped { reason, connection, direction } => begin("dropped")
                .with("reason", snake(reason))
                .with("connection", connection.map(|connection| connection.to_string()))
                .with("direction", direction.as_ref().map(snake)),
            Event::Log { ipv6, rule } => begin("log").with("ipv6", *ipv6).with("rule", *rule),
            Event::Undecided { ipv6, rule } => {
                let family = if *ipv6 { Family::V6 } else { Family::V4 };
                begin("undecided").with("ipv6", *ipv6).with("rule", *rule).with("place", place(router, family, *rule))
            }
            other => begin("other").with("text", format!("{other:?}")),
        };
        self.write(object);
    }

    fn departs(&mut self, departure: &Departure, _: &Router) {
        if departure.alike {
            return;
        }
        let Departure { frame, time, connection, direction, linux, why, here, ours, theirs, .. } = departure;
        let done = |here: &Here| match here {
            Here::Intervened(intervention) => snake(intervention),
            other => snake(other),
        };
        let packets = |packets: &[Vec<u8>]| json!(packets.iter().map(|bytes| hex(bytes)).collect::<Vec<_>>());
        let object = Object::new("departs")
            .with("frame", *frame)
            .with("time", time.to_string())
            .with("connection", connection.map(|connection| connection.to_string()))
            .with("direction", direction.as_ref().map(snake))
            .with("linux", snake(linux))
            .with("why", why.as_ref().map(snake))
            .with("here", json!(here.iter().map(done).collect::<Vec<_>>()))
            .with("text", departure.to_string())
            .with("leaves", packets(ours))
            .with("linux_sends", packets(theirs));
        self.write(object);
    }

    fn differs(&mut self, difference: &Difference, router: &Router) {
        if !self.verify {
            return;
        }
        let Difference { arrived, left, time, interface, kind, ours, theirs, .. } = difference;
        let packet = |bytes: &[u8]| if bytes.is_empty() { Value::Null } else { hex(bytes).into() };
        let object = Object::new("packet_differs")
            .with("frame", left.or(*arrived))
            .with("time", time.to_string())
            .with("kind", snake(kind))
            .with("arrived", *arrived)
            .with("left", *left)
            .with("interface", router.interfaces().get(*interface).map(|i| i.name.clone()))
            .with("library", packet(ours))
            .with("capture", packet(theirs));
        self.write(object);
    }

    fn table_differs(&mut self, difference: &TableDifference) {
        if !self.verify {
            return;
        }
        let (kind, line, seconds) = match difference {
            TableDifference::OnlyKernel(line) => ("only_kernel", line.clone(), None),
            TableDifference::OnlyHere(line) => ("only_here", line.clone(), None),
            TableDifference::Seconds { line, here } => ("seconds", line.clone(), Some(*here)),
            other => ("other", other.to_string(), None),
        };
        self.write(Object::new("table_differs").with("kind", kind).with("line", line).with("seconds", seconds));
    }

    fn lacks(&mut self, frame: u64, time: Instant, lacking: Lacking) {
        let begin = |name: &str| Object::new(name).with("frame", frame).with("time", time.to_string());
        self.write(match lacking {
            Lacking::Bytes { own, other } => begin("lacking").with("own", own).with("other", other),
            Lacking::Beginning { original } => begin("adopted").with("original", tuple(&original)),
            other => begin("other").with("text", format!("{other:?}")),
        });
    }

    fn broken(&mut self, error: &ReadError) {
        self.write(Object::new("damaged").with("error", error.to_string()));
    }
}

/// An object being written, its last brace missing; unlike a map of serde_json's it keeps its keys in order.
pub(crate) struct Object(String);

impl Object {
    pub(crate) fn new(event: &str) -> Self {
        Self(format!("{{\"event\":{}", Value::from(event)))
    }

    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0 += &format!(",{}:{}", Value::from(key), value.into());
        self
    }

    pub(crate) fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// The ends of a connection through the load balancer.
fn ends(object: Object, [client, dialled, real_server]: [&SocketAddr; 3]) -> Object {
    object
        .with("client", client.to_string())
        .with("dialled", dialled.to_string())
        .with("real_server", real_server.to_string())
}

fn announcement(object: Object, outcome: &AnnouncementOutcome, shift: Value) -> Object {
    let nothing = Value::Null;
    let (name, expected, texts, shift, reason) = match outcome {
        AnnouncementOutcome::Expected { expected, before, after } => {
            let after = after.map(|text| text.as_str().to_owned());
            let shift = if after.is_some() { shift } else { Value::Null };
            ("expected", tuple(expected), (before.as_str().into(), after.into()), shift, nothing)
        }
        AnnouncementOutcome::ForeignAddress => {
            ("foreign_address", nothing.clone(), (nothing.clone(), nothing.clone()), nothing.clone(), nothing)
        }
        AnnouncementOutcome::Refused(reason) => {
            let reason = snake(reason).into();
            ("refused", nothing.clone(), (nothing.clone(), nothing.clone()), nothing, reason)
        }
        _ => ("other", nothing.clone(), (nothing.clone(), nothing.clone()), nothing.clone(), nothing),
    };
    let (before, after): (Value, Value) = texts;
    object
        .with("outcome", name)
        .with("expected", expected)
        .with("before", before)
        .with("after", after)
        .with("shift", shift)
        .with("reason", reason)
}

fn shift(router: &Router, connection: ConnectionId, sender: Sender) -> Value {
    let conntrack = router.conntrack();
    let slot = conntrack.get(connection).and_then(|connection| connection.helper_slot());
    let shift = slot.and_then(|slot| conntrack.adjustment(slot)?.shift(Direction::from(sender) as usize));
    let Some(shift) = shift else { return Value::Null };
    json!({
        "after": shift.correction_position().0,
        "offset_before": shift.offset_before(),
        "offset_after": shift.offset_after(),
    })
}

pub(crate) fn tuple(tuple: &Tuple) -> Value {
    let (protocol, source, destination) = (tuple.protocol().name(), tuple.source(), tuple.destination());
    match tuple.protocol() {
        Protocol::ICMP | Protocol::ICMPV6 => {
            let [kind, code] = tuple.destination_port().to_be_bytes();
            let id = tuple.source_port();
            json!({"protocol": protocol, "source": source, "destination": destination, "id": id, "type": kind, "code": code})
        }
        _ => json!({
            "protocol": protocol,
            "source": source,
            "source_port": tuple.source_port(),
            "destination": destination,
            "destination_port": tuple.destination_port(),
        }),
    }
}

/// The name of a variant in snake case.
pub(crate) fn snake(variant: &impl std::fmt::Debug) -> String {
    let name = format!("{variant:?}");
    let mut snake = String::new();
    for letter in name.chars().take_while(char::is_ascii_alphanumeric) {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
