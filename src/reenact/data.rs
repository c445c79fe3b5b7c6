//! A data connection, from either end.

use core::time::Duration;
use std::vec;
use std::vec::Vec;

use smoltcp::iface::SocketHandle;

use super::host::{Host, Stream};
use crate::Instant;

/// Bytes that are handed to the stack at once.
const PIECE: usize = 4096;

/// One end of a data connection.
#[derive(Debug)]
pub(super) struct DataEnd {
    socket: SocketHandle,
    /// Bytes that were handed to the stack, or that arrived.
    moved: usize,
    opened: Option<Instant>,
    is_closing: bool,
    received: Vec<u8>,
}

/// The progress of a data connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is being opened, or bytes are underway.
    Underway,
    /// All bytes came, and the end of the stream.
    Done,
    /// It was refused, reset or given up.
    Broken,
}

impl DataEnd {
    pub(super) const fn new(socket: SocketHandle) -> Self {
        Self { socket, moved: 0, opened: None, is_closing: false, received: Vec::new() }
    }

    /// Returns its socket.
    pub(super) const fn socket(&self) -> SocketHandle {
        self.socket
    }

    /// True once the handshake is over.
    pub(super) fn is_open(&mut self, host: &mut Host, now: Instant) -> bool {
        if self.opened.is_none() && host.is_open(self.socket) {
            self.opened = Some(now);
        }
        self.opened.is_some()
    }

    /// True if it was opened at some time.
    pub(super) const fn was_opened(&self) -> bool {
        self.opened.is_some()
    }

    /// True if it can never open.
    pub(super) fn is_refused(&self, host: &mut Host) -> bool {
        self.opened.is_none() && host.is_closed(self.socket)
    }

    /// Sends so many bytes, in so much time, and closes.
    pub(super) fn send(&mut self, host: &mut Host, now: Instant, bytes: usize, lasts: Duration) -> Progress {
        if !self.is_open(host, now) {
            return if self.is_refused(host) { Progress::Broken } else { Progress::Underway };
        }
        while self.moved < bytes {
            let piece = vec![b'x'; PIECE.min(bytes - self.moved)];
            let sent = host.send(self.socket, &piece);
            self.moved += sent;
            if sent == 0 {
                break;
            }
        }
        let is_time = self.opened.is_none_or(|opened| now.since(opened) >= lasts);
        if self.moved == bytes && is_time && !self.is_closing {
            self.is_closing = true;
            host.close(self.socket);
        }
        if self.is_closing && host.is_delivered(self.socket) {
            return Progress::Done;
        }
        if host.is_closed(self.socket) { Progress::Broken } else { Progress::Underway }
    }

    /// Returns the time at which the sender closes.
    pub(super) fn closes_at(&self, lasts: Duration) -> Option<Instant> {
        if self.is_closing { None } else { self.opened.map(|opened| opened + lasts) }
    }

    /// Receives so many bytes and the end of the stream.
    pub(super) fn receive(&mut self, host: &mut Host, now: Instant, bytes: usize) -> Progress {
        if !self.is_open(host, now) {
            return if self.is_refused(host) { Progress::Broken } else { Progress::Underway };
        }
        let stream = host.read(self.socket, &mut self.received);
        self.moved += self.received.len();
        self.received.clear();
        match stream {
            Stream::Open => Progress::Underway,
            Stream::Ended => {
                if !self.is_closing {
                    self.is_closing = true;
                    host.close(self.socket);
                }
                if self.moved == bytes { Progress::Done } else { Progress::Broken }
            }
            Stream::Broken if self.moved == bytes && self.is_closing => Progress::Done,
            Stream::Broken => Progress::Broken,
        }
    }
}
