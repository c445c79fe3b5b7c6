//! Reading and writing FTP's text.

use std::hint::black_box;
use std::net::IpAddr;

use criterion::Criterion;
use ftp_conntrack::ftp::{Command, Form, Reading, Reply, Sender, read_segment, write};

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ftp");
    let lines: [(&str, Sender, &[u8]); 6] = [
        ("PORT", Sender::Client, b"PORT 10,77,1,2,19,136\r\n"),
        ("EPRT", Sender::Client, b"EPRT |2|fd77::2|5000|\r\n"),
        ("other command", Sender::Client, b"RETR pub/file.tar.gz\r\n"),
        ("227", Sender::Server, b"227 Entering Passive Mode (192,168,0,18,48,196).\r\n"),
        ("229", Sender::Server, b"229 Entering Extended Passive Mode (|||50000|)\r\n"),
        ("other reply", Sender::Server, b"226 Directory send OK.\r\n"),
    ];
    let own = IpAddr::from([10, 77, 1, 2]);
    let own_v6: IpAddr = "fd77::2".parse().expect("an address");
    for (name, sender, line) in lines {
        let own = if name == "EPRT" { own_v6 } else { own };
        assert_eq!(read_segment(sender, own, line) == Reading::Nothing, name.starts_with("other"));
        assert!(!matches!(read_segment(sender, own, line), Reading::Partial(_)));
        group.bench_function(format!("read_segment/{name}"), |b| {
            b.iter(|| read_segment(sender, own, black_box(line)));
        });
    }
    group.bench_function("Command::parse/PORT", |b| b.iter(|| Command::parse(black_box(lines[0].2))));
    group.bench_function("Reply::endpoint/227", |b| {
        b.iter(|| Reply::parse(black_box(lines[3].2)).and_then(|reply| reply.endpoint()));
    });
    let v6: IpAddr = "2001:db8::1".parse().expect("an address");
    for (name, form, address) in [("PORT", Form::Port, own), ("EPRT", Form::Eprt, v6), ("229", Form::Epsv, own)] {
        group.bench_function(format!("write/{name}"), |b| {
            b.iter(|| write(form, black_box(address), black_box(50_123)));
        });
    }
    group.finish();
}
