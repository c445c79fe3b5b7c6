//! The part of a packet that is compared.

use std::vec::Vec;

use crate::packet::{Family, Headers, Layer4, Protocol};

/// Marks a checksum that is right, or that a device is to fill in: whichever it is does not matter.
const SUMMED: u8 = 1;
/// Marks a UDP packet without a checksum.
const NO_SUM: u8 = 2;
/// Marks any other checksum, which is compared as it is.
const AS_IT_IS: u8 = 0;

/// Returns the packet without what the kernel draws at random: identifications of ICMP errors and IPv6 fragments, flow
/// labels of ICMPv6 errors. A TCP or UDP checksum that is right equals one that a network card is to fill in.
/// `bad_checksum`: the packet arrived with a wrong one, which is left out.
pub(super) fn comparable(bytes: &[u8], bad_checksum: bool) -> Vec<u8> {
    let mut compared = bytes.to_vec();
    let Ok(headers) = Headers::find(bytes) else { return compared };
    leave_out_random_fields(&headers, bytes, &mut compared);
    let sum_at = headers.transport_checksum_at();
    let kind = match sum_at {
        _ if bad_checksum => AS_IT_IS,
        Some(at) => kind_of_checksum(&headers, bytes, at),
        None => AS_IT_IS,
    };
    if let Some(at) = sum_at.filter(|_| bad_checksum || kind == SUMMED) {
        blank(&mut compared, at, 2);
    }
    compared.push(kind);
    compared
}

/// Returns true if a TCP or UDP checksum is right, or left to a network card: exactly the pseudo-header's sum.
pub(super) fn is_summed(headers: &Headers, bytes: &[u8]) -> bool {
    headers.transport_checksum_ok(bytes) || headers.checksum_is_left_to_device(bytes)
}

/// Returns true if two packets are the same, what is never compared aside.
pub(super) fn agree(ours: &[u8], theirs: &[u8]) -> bool {
    let is_good = |bytes: &[u8]| Headers::find(bytes).is_ok_and(|headers| is_summed(&headers, bytes));
    let bad_checksum = !is_good(ours) && !is_good(theirs);
    comparable(ours, bad_checksum) == comparable(theirs, bad_checksum)
}

fn kind_of_checksum(headers: &Headers, bytes: &[u8], at: usize) -> u8 {
    let is_none = headers.protocol == Protocol::UDP && bytes.get(at..at + 2) == Some(&[0, 0]);
    match headers.layer4 {
        _ if is_none => NO_SUM,
        Layer4::Tcp(_) | Layer4::Udp if is_summed(headers, bytes) => SUMMED,
        _ => AS_IT_IS,
    }
}

fn leave_out_random_fields(headers: &Headers, bytes: &[u8], compared: &mut [u8]) {
    if headers.protocol == Protocol::ICMP && headers.is_icmp_error() {
        blank(compared, 4, 2);
        blank(compared, 10, 2);
    }
    if headers.protocol == Protocol::ICMPV6
        && headers.is_icmp_error()
        && let Some([_, class, label @ ..]) = compared.first_chunk_mut::<4>()
    {
        *class &= 0xf0;
        label.fill(0);
    }
    // A fragment header that the router wrote follows the IPv6 header, or what the fragment says comes before it.
    let fragment_header = match headers.fragment {
        Some(fragment) => Some(fragment.header),
        None => (bytes.get(6) == Some(&44)).then_some(40),
    };
    if headers.family == Family::V6
        && let Some(at) = fragment_header
    {
        blank(compared, at + 4, 4);
    }
}

/// Fills a field with zeros, if the packet has it.
pub(super) fn blank(bytes: &mut [u8], at: usize, len: usize) {
    bytes.get_mut(at..at + len).into_iter().for_each(|field| field.fill(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10.77.1.2:40000 > 198.51.100.9:21, SYN.
    const SYN: [u8; 40] = [
        0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0xb6, 0x03, 10, 77, 1, 2, 198, 51, 100, 9, 0x9c, 0x40, 0, 21, 0, 0, 0, 7,
        0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0,
    ];

    fn summed() -> [u8; 40] {
        let mut bytes = SYN;
        let headers = Headers::find(&bytes).unwrap();
        headers.fill_transport_checksum(&mut bytes);
        bytes
    }

    #[test]
    fn a_checksum_left_to_the_card_equals_a_right_one() {
        let right = summed();
        let mut left_to_card = right;
        Headers::find(&right).unwrap().sum_pseudo_header_only(&mut left_to_card);
        assert_ne!(right, left_to_card);
        assert_eq!(comparable(&right, false), comparable(&left_to_card, false));
        assert!(agree(&right, &left_to_card));
    }

    #[test]
    fn a_wrong_checksum_equals_only_itself() {
        let right = summed();
        let mut wrong = right;
        wrong[17] ^= 1;
        wrong[16] ^= 1;
        let mut wrong_sum = right;
        wrong_sum[37] ^= 1;
        assert_ne!(comparable(&right, false), comparable(&wrong_sum, false));
        assert_ne!(comparable(&right, false), comparable(&wrong, false));
        assert_eq!(comparable(&right, true), comparable(&wrong_sum, true));
    }
}
