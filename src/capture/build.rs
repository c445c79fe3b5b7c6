//! Small captures for tests, made byte by byte.

use std::string::{String, ToString};
use std::vec::Vec;

use super::bytes::Order;
use super::{Direction, ReadError, Reader};

/// A capture in the making.
pub(super) struct Build {
    order: Order,
    pub(super) bytes: Vec<u8>,
}

impl Build {
    pub(super) fn pcapng(order: Order) -> Self {
        Self { order, bytes: Vec::new() }.section()
    }

    /// A pcap file's header.
    pub(super) fn pcap(order: Order, magic: u32, minor: u16, snaplen: u32, link_type: u32) -> Self {
        let mut build = Self { order, bytes: Vec::new() };
        build.push_u32(magic);
        build.push_u16(2);
        build.push_u16(minor);
        build.words(&[0, 0, snaplen, link_type])
    }

    pub(super) fn words(mut self, words: &[u32]) -> Self {
        words.iter().for_each(|word| self.push_u32(*word));
        self
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    pub(super) fn section(self) -> Self {
        self.block(0x0a0d_0d0a, |body| {
            body.push_u32(0x1a2b_3c4d);
            body.push_u16(1);
            body.push_u16(0);
            body.bytes.extend([0xff; 8]);
        })
    }

    /// Goes on in the other byte order, which wants a new section.
    pub(super) fn turned(self) -> Self {
        let order = if self.order == Order::Big { Order::Little } else { Order::Big };
        Self { order, ..self }.section()
    }

    pub(super) fn interface(self, link_type: u16, snaplen: u32, options: &[(u16, &[u8])]) -> Self {
        self.block(1, |body| {
            body.push_u16(link_type);
            body.push_u16(0);
            body.push_u32(snaplen);
            body.push_options(options);
        })
    }

    pub(super) fn enhanced(self, interface: u32, ticks: u64, data: &[u8], options: &[(u16, &[u8])]) -> Self {
        self.block(6, |body| {
            body.push_u32(interface);
            body.push_packet(ticks, data, options);
        })
    }

    pub(super) fn old(self, interface: u16, ticks: u64, data: &[u8], options: &[(u16, &[u8])]) -> Self {
        self.block(2, |body| {
            body.push_u16(interface);
            body.push_u16(7);
            body.push_packet(ticks, data, options);
        })
    }

    pub(super) fn simple(self, original: u32, data: &[u8]) -> Self {
        self.block(3, |body| {
            body.push_u32(original);
            body.push_padded(data);
        })
    }

    pub(super) fn block(mut self, kind: u32, fill: impl FnOnce(&mut Self)) -> Self {
        let mut body = Self { order: self.order, bytes: Vec::new() };
        fill(&mut body);
        let length = body.bytes.len() as u32 + 12;
        self.push_u32(kind);
        self.push_u32(length);
        self.bytes.extend(body.bytes);
        self.push_u32(length);
        self
    }

    pub(super) fn push_u16(&mut self, number: u16) {
        self.bytes.extend(if self.order == Order::Big { number.to_be_bytes() } else { number.to_le_bytes() });
    }

    pub(super) fn push_u32(&mut self, number: u32) {
        self.bytes.extend(if self.order == Order::Big { number.to_be_bytes() } else { number.to_le_bytes() });
    }

    fn push_padded(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn push_packet(&mut self, ticks: u64, data: &[u8], options: &[(u16, &[u8])]) {
        let length = data.len() as u32;
        [(ticks >> 32) as u32, ticks as u32, length, length].into_iter().for_each(|word| self.push_u32(word));
        self.push_padded(data);
        self.push_options(options);
    }

    fn push_options(&mut self, options: &[(u16, &[u8])]) {
        for (code, value) in options {
            self.push_u16(*code);
            self.push_u16(value.len() as u16);
            self.push_padded(value);
        }
        if !options.is_empty() {
            self.push_u32(0);
        }
    }
}

/// A record that lives on: frame, microseconds, nanoseconds, interface, direction, length on the wire, bytes.
pub(super) type Kept = (u64, i64, u32, usize, Direction, usize, Vec<u8>);

/// All records, and all errors as text.
pub(super) fn read_all(bytes: &[u8]) -> (Vec<Kept>, Vec<String>) {
    let mut reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), Vec::from([error.to_string()])),
    };
    drain(&mut reader)
}

/// All records that `reader` still has.
pub(super) fn drain(reader: &mut Reader<&[u8]>) -> (Vec<Kept>, Vec<String>) {
    let (mut records, mut errors) = (Vec::new(), Vec::new());
    while let Some(record) = reader.next() {
        match record {
            Ok(r) => records.push((
                r.frame,
                r.time.micros(),
                r.nanos,
                r.interface,
                r.direction,
                r.original_len,
                Vec::from(r.data),
            )),
            Err(error) => errors.push(error.to_string()),
        }
    }
    assert!(reader.next().is_none());
    (records, errors)
}

/// The one error of a file without a good record.
pub(super) fn only_error(bytes: &[u8]) -> ReadError {
    let mut reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return error,
    };
    let error = reader.next().map(|record| record.map(|record| record.frame));
    match error {
        Some(Err(error)) => error,
        other => panic!("{other:?}"),
    }
}
