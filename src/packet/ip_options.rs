//! IPv4 options, as a router reads and fills them in (RFC 791 section 3.1, RFC 1812 section 5.2.4), found by asking a
//! 6.18 kernel.
//!
//! A packet's options are read as it arrives. Record route and timestamp take an entry, and bytes after the end of the
//! list become zeros. An option that makes no sense ends the packet with a Parameter Problem that points at it. When
//! the packet leaves, the recorded address becomes the one by which it leaves.

use super::headers::read_array;

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;
/// Commercial IP Security Option (draft-ietf-cipso-ipsecurity): nobody here knows any of its domains.
const SECURITY_LABEL: u8 = 134;
const ROUTER_ALERT: u8 = 148;

/// An IPv4 header is at most this long.
const MAX_HEADER: usize = 60;
/// The longest options.
pub(crate) const MAX_OPTIONS: usize = MAX_HEADER - 20;

/// The entry that a router makes in options.
pub(crate) struct Entry<F> {
    /// The address under which it is known to the packet's sender.
    pub(crate) address: [u8; 4],
    /// Milliseconds since midnight, universal time.
    pub(crate) milliseconds: u32,
    /// Returns true for the address of one machine other than this one.
    pub(crate) is_elsewhere: F,
}

/// The options of a packet that were read so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IpOptions {
    /// Places of record route, timestamp and security label in the header; 0 where there is none that makes sense. (Of
    /// the label, which none does, Linux remembers it even so.)
    record: u8,
    timestamp: u8,
    label: u8,
    /// This router's address was entered into record route, its time into timestamp.
    recorded: bool,
    stamped: bool,
    source_route: bool,
    /// Bytes of the header changed, and its checksum did not.
    changed: bool,
}

/// An option that makes no sense: where in the header (Parameter Problem's pointer, RFC 792).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Problem(pub(crate) u8);

impl IpOptions {
    /// Reads the options of an IPv4 header, and makes this router's entries.
    ///
    /// # Errors
    /// Where one makes no sense. What stands before it has been done.
    pub(crate) fn arrive(&mut self, header: &mut [u8], entry: &Entry<impl Fn([u8; 4]) -> bool>) -> Result<(), Problem> {
        let mut at = 20;
        while let Some(&[kind, length]) = header.get(at..).and_then(|rest| rest.first_chunk()) {
            match kind {
                END => break,
                NO_OPERATION => at += 1,
                _ => {
                    let length = usize::from(length);
                    if length < 2 || at + length > header.len() {
                        return Err(problem(at));
                    }
                    let option = header.get_mut(at..at + length).ok_or(problem(at))?;
                    self.read(kind, at, option, entry).map_err(|within| problem(at + within))?;
                    at += length;
                }
            }
        }
        match header.get_mut(at..) {
            Some([END, rest @ ..]) => {
                self.changed |= rest.iter().any(|byte| *byte != END);
                rest.fill(END);
                Ok(())
            }
            Some([NO_OPERATION] | []) | None => Ok(()),
            // The last byte begins an option.
            Some(_) => Err(problem(at)),
        }
    }

    /// One option; an error says which of its bytes is wrong.
    fn read(
        &mut self,
        kind: u8,
        at: usize,
        option: &mut [u8],
        entry: &Entry<impl Fn([u8; 4]) -> bool>,
    ) -> Result<(), usize> {
        let place = at as u8;
        match kind {
            RECORD_ROUTE => {
                once(self.record)?;
                self.recorded = record(option, entry)?;
                self.record = place;
                self.changed |= self.recorded;
            }
            TIMESTAMP => {
                once(self.timestamp)?;
                let pointer = option.get(2).copied();
                let flags = option.get(3).copied();
                self.stamped = stamp(option, entry)?;
                self.timestamp = place;
                self.changed |= pointer != option.get(2).copied() || flags != option.get(3).copied();
            }
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => {
                if core::mem::replace(&mut self.source_route, true) {
                    return Err(0);
                }
                pointer(option, 4)?;
            }
            SECURITY_LABEL => {
                once(self.label)?;
                self.label = place;
                return Err(if option.len() < 8 { 1 } else { 2 });
            }
            ROUTER_ALERT if option.len() < 4 => return Err(1),
            _ => {}
        }
        Ok(())
    }

    /// Returns true if it has a source route, which packets may only have with `accept_source_route` (0 by default).
    pub(crate) const fn has_source_route(&self) -> bool {
        self.source_route
    }

    /// Returns true if the header is to be finished when the packet leaves.
    pub(crate) const fn is_changed(&self) -> bool {
        self.changed
    }

    /// The packet leaves: the recorded address becomes the one by which it does.
    pub(crate) fn leave(&self, header: &mut [u8], address: [u8; 4]) {
        let option = usize::from(self.record);
        if self.recorded
            && let Some(next) = header.get(option + 2)
            && let Some(place) = (option + usize::from(*next)).checked_sub(5)
            && let Some(entry) = header.get_mut(place..place + 4)
        {
            entry.copy_from_slice(&address);
        }
    }

    /// Writes the options of an ICMP error about the packet (RFC 1812 section 4.3.2.6), with the entries of its sender.
    /// A source route, which Linux would turn round and follow, is left out. Returns their length; `None` where the
    /// rest of the room takes no entry: nothing is sent then.
    pub(crate) fn echo(
        &self,
        out: &mut [u8; MAX_OPTIONS],
        header: &[u8],
        entry: &Entry<impl Fn([u8; 4]) -> bool>,
    ) -> Option<usize> {
        let mut end = 0;
        for (place, entered) in [(self.record, self.recorded), (self.timestamp, self.stamped), (self.label, false)] {
            let place = usize::from(place);
            if place == 0 {
                continue;
            }
            let length = usize::from(*header.get(place + 1)?);
            let copy = out.get_mut(end..end + length)?;
            copy.copy_from_slice(header.get(place..place + length)?);
            if entered {
                match place == usize::from(self.record) {
                    true => drop(record(copy, entry).ok()?),
                    false => {
                        let is_full = copy.get(2).is_some_and(|next| usize::from(*next) > length);
                        if !is_full {
                            stamp(copy, entry).ok()?;
                        }
                    }
                }
            }
            end += length;
        }
        Some(end.next_multiple_of(4))
    }
}

const fn problem(at: usize) -> Problem {
    Problem(at as u8)
}

/// Refuses an option of which there may be one, and that stands elsewhere already.
const fn once(known: u8) -> Result<(), usize> {
    if known == 0 { Ok(()) } else { Err(0) }
}

/// The pointer of an option with a list, which counts from 1 and is not below `least`.
fn pointer(option: &[u8], least: u8) -> Result<usize, usize> {
    if option.len() < usize::from(least) - 1 {
        return Err(1);
    }
    match option.get(2) {
        Some(next) if *next >= least => Ok(usize::from(*next)),
        _ => Err(2),
    }
}

/// Enters the address behind those that are there, if there is room. Whether it did.
fn record(option: &mut [u8], entry: &Entry<impl Fn([u8; 4]) -> bool>) -> Result<bool, usize> {
    let next = pointer(option, 4)?;
    if next > option.len() {
        return Ok(false);
    }
    let room = option.get_mut(next - 1..next + 3).ok_or(2_usize)?;
    room.copy_from_slice(&entry.address);
    advance(option, 4);
    Ok(true)
}

/// Enters the time, and the address where that is asked for; or counts that there was no room. Whether it entered any.
fn stamp(option: &mut [u8], entry: &Entry<impl Fn([u8; 4]) -> bool>) -> Result<bool, usize> {
    const TIME_ONLY: u8 = 0;
    const WITH_ADDRESS: u8 = 1;
    const PRESPECIFIED: u8 = 3;
    let next = pointer(option, 5)?;
    let flags = option.get(3).copied().unwrap_or_default();
    if next > option.len() {
        if flags & 15 != PRESPECIFIED {
            // Those who found no room are counted in four bits.
            let counted = flags.checked_add(16).ok_or(3_usize)?;
            option.get_mut(3).into_iter().for_each(|field| *field = counted);
        }
        return Ok(false);
    }
    let (at, time) = (next - 1, entry.milliseconds.to_be_bytes());
    option.get(at..at + 4).ok_or(2_usize)?;
    match flags & 15 {
        TIME_ONLY => {
            option.get_mut(at..at + 4).ok_or(2_usize)?.copy_from_slice(&time);
            advance(option, 4);
        }
        WITH_ADDRESS => {
            let room = option.get_mut(at..at + 8).ok_or(2_usize)?;
            room.copy_from_slice(&[entry.address, time].concat());
            advance(option, 8);
        }
        PRESPECIFIED => {
            let [a, b, c, d, ..]: [u8; 8] = read_array(option, at).ok_or(2_usize)?;
            if (entry.is_elsewhere)([a, b, c, d]) {
                return Ok(false);
            }
            option.get_mut(at + 4..at + 8).ok_or(2_usize)?.copy_from_slice(&time);
            advance(option, 8);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn advance(option: &mut [u8], by: u8) {
    option.get_mut(2).into_iter().for_each(|next| *next += by);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const ENTRY: Entry<fn([u8; 4]) -> bool> =
        Entry { address: [10, 77, 1, 1], milliseconds: 0x0102_0304, is_elsewhere: |address| address[0] == 1 };

    /// A header with these options, padded, as it is after it arrived, and what is wrong with it.
    fn arrived(options: &[u8]) -> (Vec<u8>, IpOptions, Option<u8>) {
        let mut header = [&[0; 20], options].concat();
        header.resize(header.len().next_multiple_of(4), 0);
        let mut read = IpOptions::default();
        let problem = read.arrive(&mut header, &ENTRY).err().map(|problem| problem.0);
        (header[20..].to_vec(), read, problem)
    }

    #[test]
    fn a_route_is_recorded() {
        let (header, read, problem) = arrived(&[7, 7, 4, 0, 0, 0, 0]);
        assert_eq!((header.as_slice(), problem), (&[7, 7, 8, 10, 77, 1, 1, 0][..], None));
        let mut whole = [&[0; 20], header.as_slice()].concat();
        read.leave(&mut whole, [203, 0, 113, 1]);
        assert_eq!(whole[20..], [7, 7, 8, 203, 0, 113, 1, 0]);
        // Full.
        let (header, read, _) = arrived(&[7, 7, 8, 1, 2, 3, 4]);
        assert_eq!((header[2], read.is_changed()), (8, false));
    }

    #[test]
    fn problems_are_pointed_at() {
        // As 6.18 points at them.
        for (options, pointer) in [
            (&[7, 0, 4][..], 20),
            (&[7, 2, 4], 21),
            (&[7, 4, 4, 0], 22),
            (&[7, 7, 3, 0, 0, 0, 0], 22),
            (&[7, 20, 4], 20),
            (&[7, 7, 4, 0, 0, 0, 0, 7, 7, 4, 0, 0, 0, 0], 27),
            (&[68, 3, 5], 21),
            (&[68, 12, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0], 22),
            (&[68, 12, 6, 1, 0, 0, 0, 0, 0, 0, 0, 0], 22),
            (&[68, 12, 13, 0xf0, 0, 0, 0, 0, 0, 0, 0, 0], 23),
            (&[148, 3, 0], 21),
            (&[131, 2, 4], 21),
            (&[134, 6, 0, 0, 0, 1], 21),
            (&[134, 8, 0, 0, 0, 1, 1, 2], 22),
            (&[200, 9, 1, 2], 20),
            (&[1, 1, 1, 200], 23),
        ] {
            assert_eq!(arrived(options).2, Some(pointer), "{options:?}");
        }
        for options in [&[130, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[148, 4, 0, 1], &[200, 4, 1, 2], &[1, 1, 1, 1]] {
            assert_eq!(arrived(options).2, None, "{options:?}");
        }
    }

    #[test]
    fn times_are_stamped() {
        assert_eq!(arrived(&[68, 8, 5, 0, 0, 0, 0, 0]).0, [68, 8, 9, 0, 1, 2, 3, 4]);
        assert_eq!(arrived(&[68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0]).0, [68, 12, 13, 1, 10, 77, 1, 1, 1, 2, 3, 4]);
        assert_eq!(arrived(&[68, 12, 5, 3, 10, 77, 1, 1, 0, 0, 0, 0]).0, [68, 12, 13, 3, 10, 77, 1, 1, 1, 2, 3, 4]);
        assert_eq!(arrived(&[68, 12, 5, 3, 1, 2, 3, 4, 0, 0, 0, 0]).0, [68, 12, 5, 3, 1, 2, 3, 4, 0, 0, 0, 0]);
        assert_eq!(arrived(&[68, 4, 5, 0]).0, [68, 4, 5, 0x10]);
    }

    #[test]
    fn behind_the_end_is_nothing() {
        let (header, read, problem) = arrived(&[1, 0, 7, 39]);
        assert_eq!((header.as_slice(), read.is_changed(), problem), (&[1, 0, 0, 0][..], true, None));
        assert!(!arrived(&[1, 0, 0, 0]).1.is_changed());
    }

    #[test]
    fn an_error_bears_them_too() {
        let (header, read, _) = arrived(&[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
        let whole = [&[0; 20], header.as_slice()].concat();
        let mut out = [0; MAX_OPTIONS];
        let length = read.echo(&mut out, &whole, &ENTRY).unwrap();
        assert_eq!(out[..length], [7, 11, 12, 10, 77, 1, 1, 10, 77, 1, 1, 0]);
    }
}
