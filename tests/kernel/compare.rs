//! The differences between the kernel and the library.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::kernel::OnWire;
use crate::wire;

/// The packet without what is not compared: a checksum where the arriving one was wrong, and the identification of an
/// ICMP error and of parts of IPv6 packets, which the kernel draws at random.
pub(crate) fn comparable(packet: &OnWire, bad_checksum: bool) -> OnWire {
    let mut compared = packet.clone();
    let Some(read) = wire::read(&packet.bytes) else { return compared };
    if read.to.is_ipv4() {
        forget_times(&mut compared.bytes, read.at, read.protocol);
    }
    let is_error = packet.bytes.get(read.at).is_some_and(|kind| matches!(kind, 3 | 4 | 5 | 11 | 12));
    if read.protocol == 1 && is_error {
        for range in [4..6, 10..12] {
            compared.bytes.get_mut(range).into_iter().for_each(|field| field.fill(0));
        }
    }
    if read.is_fragment && read.to.is_ipv6() {
        compared.bytes.get_mut(44..48).into_iter().for_each(|field| field.fill(0));
    }
    if bad_checksum && !read.is_fragment {
        compared.bytes.get_mut(checksum_field(&read)).into_iter().for_each(|field| field.fill(0));
    }
    compared
}

/// Takes the times out of IPv4 options, which are those of the two clocks, and the checksums over them: of a packet, and
/// of the one that an error quotes.
fn forget_times(packet: &mut [u8], at: usize, protocol: u8) {
    let mut forgets = forget_times_of(packet, at);
    if protocol == 1
        && let Some(quoted) = packet.get_mut(at + 8..)
        && let Some(header) = quoted.first().map(|first| usize::from(first & 15) * 4)
        && forget_times_of(quoted, header)
    {
        forgets = true;
    }
    if forgets && protocol == 1 {
        packet.get_mut(at + 2..at + 4).into_iter().for_each(|field| field.fill(0));
    }
}

fn forget_times_of(packet: &mut [u8], header: usize) -> bool {
    let mut place = 20;
    let mut forgets = false;
    while place + 4 <= header {
        let (kind, length) = match packet.get(place..place + 2) {
            Some([1, _]) => (1, 1),
            Some([kind, length]) if *kind != 0 && *length >= 2 => (*kind, usize::from(*length)),
            _ => break,
        };
        if kind == 68
            && let Some([flags, data @ ..]) = packet.get_mut(place + 3..place + length)
        {
            // Address and time alternate, or there are only times.
            let step = if *flags & 15 == 0 { 4 } else { 8 };
            data.chunks_mut(step).for_each(|entry| entry.iter_mut().skip(step - 4).for_each(|byte| *byte = 0));
            forgets = true;
        }
        place += length;
    }
    if forgets {
        packet.get_mut(10..12).into_iter().for_each(|field| field.fill(0));
    }
    forgets
}

/// The same for a packet of the machine's own. Its checksum is summed up where it leaves, after the translation, and
/// not changed by it: of the two forms of zero it may have either.
pub(crate) fn sent_by_the_machine(packet: &OnWire) -> OnWire {
    let mut compared = comparable(packet, false);
    let Some(read) = wire::read(&packet.bytes) else { return compared };
    let field = compared.bytes.get_mut(checksum_field(&read));
    field.filter(|field| **field == [0xff, 0xff]).into_iter().for_each(|field| field.fill(0));
    compared
}

fn checksum_field(read: &wire::Read) -> Range<usize> {
    let at = match read.protocol {
        6 => 16,
        17 => 6,
        _ => 2,
    };
    read.at + at..read.at + at + 2
}

/// Takes those that both have out of both.
pub(crate) fn cancel(kernel: &mut Vec<OnWire>, library: &mut Vec<OnWire>, bad_checksum: bool) {
    kernel.retain(|left| {
        let left = comparable(left, bad_checksum);
        let same = library.iter().position(|made| comparable(made, bad_checksum) == left);
        same.map(|at| library.remove(at)).is_none()
    });
}

/// The differences of two tables, `use=` aside, and remaining times that differ by no more than `slack` seconds. The kernel's hash tables are those of all namespaces:
/// when another one's entries move while the table is read, a line may be told twice.
pub(crate) fn tables(kernel: &str, library: &str, slack: i64) -> Vec<String> {
    let mut here: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for line in library.lines() {
        let (key, seconds) = key(line);
        here.entry(key).or_default().push(seconds);
    }
    let mut differences = Vec::new();
    let mut told = BTreeSet::new();
    for line in kernel.lines() {
        let (key, seconds) = key(line);
        if !told.insert(key.clone()) {
            continue;
        }
        match here.get_mut(&key).and_then(Vec::pop) {
            Some(time) if (time - seconds).abs() > slack => {
                differences.push(format!("seconds: kernel {seconds}, library {time}: {key}"));
            }
            Some(_) => {}
            None => differences.push(format!("only the kernel:  {line}")),
        }
    }
    for (key, times) in here {
        differences.extend(times.iter().map(|time| format!("only the library: {time}: {key}")));
    }
    differences
}

/// A line without its time and `use=`, and the time.
fn key(line: &str) -> (String, i64) {
    let mut words: Vec<&str> = line.split_whitespace().filter(|word| !word.starts_with("use=")).collect();
    let at = if line.starts_with("ipv") { 4 } else { 0 };
    let seconds = words.get(at).and_then(|word| word.parse().ok());
    if seconds.is_some() {
        words.remove(at);
    }
    (words.join(" "), seconds.unwrap_or(0))
}
