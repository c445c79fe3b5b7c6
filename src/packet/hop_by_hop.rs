//! The IPv6 hop-by-hop options header, which every router reads (RFC 8200 section 4.3).

use super::headers::read_array;

/// Maximum number of options, padding aside, that Linux reads (`net.ipv6.max_hbh_opts_number`).
const MAX_OPTIONS: usize = 8;
/// Maximum number of padding bytes in a row (RFC 8504 section 5.3).
const MAX_PADDING: usize = 7;
/// Length of the IPv6 header.
const IPV6_HEADER: usize = 40;

/// The result of reading a hop-by-hop options header as a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HopByHop {
    /// There is none, or the packet goes on.
    Passes,
    /// The packet is discarded silently.
    Discard,
    /// The packet is discarded, and its sender is told: this code, and where in the packet.
    Problem { code: u8, pointer: u32 },
}

/// Reads the hop-by-hop options of an IPv6 packet that ends at `end`.
pub(crate) fn read_hop_by_hop(bytes: &[u8], end: usize) -> HopByHop {
    if bytes.get(6) != Some(&0) {
        return HopByHop::Passes;
    }
    let options = bytes.get(IPV6_HEADER + 1).map(|words| IPV6_HEADER + (usize::from(*words) + 1) * 8);
    let Some(options) = options.filter(|last| *last <= end).and_then(|last| bytes.get(..last)) else {
        return HopByHop::Discard;
    };
    let mut at = IPV6_HEADER + 2;
    let (mut padding, mut count) = (0, 0);
    while let Some(kind) = options.get(at) {
        if *kind == 0 {
            (at, padding) = (at + 1, padding + 1);
            if padding > MAX_PADDING {
                return HopByHop::Discard;
            }
            continue;
        }
        let length = options.get(at + 1).map(|length| usize::from(*length));
        let Some(value) = length.and_then(|length| options.get(at + 2..at + 2 + length)) else {
            return HopByHop::Discard;
        };
        if *kind == 1 {
            padding += 2 + value.len();
            if padding > MAX_PADDING || value.iter().any(|byte| *byte != 0) {
                return HopByHop::Discard;
            }
        } else {
            (padding, count) = (0, count + 1);
            let outcome = if count > MAX_OPTIONS { HopByHop::Discard } else { read_option(bytes, *kind, at, value) };
            if outcome != HopByHop::Passes {
                return outcome;
            }
        }
        at += 2 + value.len();
    }
    HopByHop::Passes
}

/// Reads an option that is no padding.
fn read_option(bytes: &[u8], kind: u8, at: usize, value: &[u8]) -> HopByHop {
    const ROUTER_ALERT: u8 = 5;
    const CALIPSO: u8 = 7;
    const IOAM: u8 = 0x31;
    const JUMBO: u8 = 0xc2;
    let pointer = at as u32;
    match kind {
        ROUTER_ALERT if value.len() != 2 => HopByHop::Discard,
        // Linux takes it only where NetLabel is set up for it.
        CALIPSO => HopByHop::Discard,
        // RFC 9486 section 4: aligned to four bytes.
        IOAM if !at.is_multiple_of(4) => HopByHop::Discard,
        ROUTER_ALERT | IOAM => HopByHop::Passes,
        JUMBO => jumbo(bytes, at, value),
        // Unknown: what to do stands in its two high bits (RFC 8200 section 4.2).
        _ => match kind >> 6 {
            0 => HopByHop::Passes,
            1 => HopByHop::Discard,
            3 if bytes.get(24) == Some(&0xff) => HopByHop::Discard,
            _ => HopByHop::Problem { code: 2, pointer },
        },
    }
}

/// A payload of more than 65,535 bytes (RFC 2675), which no packet here has.
fn jumbo(bytes: &[u8], at: usize, value: &[u8]) -> HopByHop {
    let length = read_array(value, 0).map(u32::from_be_bytes);
    match length {
        Some(length) if at % 4 == 2 && value.len() == 4 => {
            let is_small = length <= u32::from(u16::MAX);
            let has_length = bytes.get(4..6) != Some(&[0, 0]);
            match (is_small, has_length) {
                (true, _) => HopByHop::Problem { code: 0, pointer: at as u32 + 2 },
                (false, true) => HopByHop::Problem { code: 0, pointer: at as u32 },
                (false, false) => HopByHop::Discard,
            }
        }
        _ => HopByHop::Discard,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// As a 6.18 kernel answered each.
    #[test]
    fn hop_by_hop_options_are_read_as_linux_reads_them() {
        let problem = |code, pointer| HopByHop::Problem { code, pointer };
        for (options, expected) in [
            (&[1, 4, 0, 0, 0, 0][..], HopByHop::Passes),
            (&[1, 4, 0, 1, 0, 0], HopByHop::Discard),
            (&[0, 0, 0, 0, 0, 0], HopByHop::Passes),
            (&[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], HopByHop::Discard),
            (&[1, 6, 0, 0, 0, 0, 0, 0, 5, 2, 0, 0, 1, 0], HopByHop::Discard),
            (&[1, 5, 0, 0, 0, 0, 0, 5, 2, 0, 0, 0, 1, 0], HopByHop::Passes),
            (&[5, 2, 0, 0, 1, 0], HopByHop::Passes),
            (&[5, 3, 0, 0, 0, 0], HopByHop::Discard),
            (&[0x3e, 4, 0, 0, 0, 0], HopByHop::Passes),
            (&[0x5e, 4, 0, 0, 0, 0], HopByHop::Discard),
            (&[0x9e, 4, 0, 0, 0, 0], problem(2, 42)),
            (&[0xde, 4, 0, 0, 0, 0], problem(2, 42)),
            (&[0x1e, 9, 0, 0, 0, 0], HopByHop::Discard),
            (&[0xc2, 4, 0, 1, 0, 1], problem(0, 42)),
            (&[0xc2, 4, 0, 0, 1, 1], problem(0, 44)),
            (&[1, 0, 0xc2, 4, 0, 1, 0, 1, 1, 4, 0, 0, 0, 0], HopByHop::Discard),
            (&[0x31, 4, 0, 0, 0, 0], HopByHop::Discard),
            (&[1, 3, 0, 0, 0, 0x1e], HopByHop::Discard),
            (&[0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0], HopByHop::Passes),
        ] {
            let mut packet = vec![0; 40];
            packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 2 + options.len() as u8, 0, 64]);
            packet.extend([17, (options.len() / 8) as u8]);
            packet.extend(options);
            assert_eq!(read_hop_by_hop(&packet, packet.len()), expected, "{options:02x?}");
            let cut = packet.len() - 1;
            assert_eq!(read_hop_by_hop(&packet, cut), HopByHop::Discard, "cut {options:02x?}");
            packet[24] = 0xff;
            if options[0] == 0xde {
                assert_eq!(read_hop_by_hop(&packet, packet.len()), HopByHop::Discard, "to a group");
            }
        }
        let many = [&[0x60, 0, 0, 0, 0, 24, 0, 64][..], &[0; 32], &[17, 2], &[0x1e, 0].repeat(11)].concat();
        assert_eq!(read_hop_by_hop(&many, 64), HopByHop::Discard, "more than eight options");
    }
}
