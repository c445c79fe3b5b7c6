//! Bob Jenkins' lookup3 over four 32-bit words, by which Linux spreads clients over a range of addresses.
//!
//! The algorithm is in the public domain (Bob Jenkins, 2006). Which words go in was found by asking a 6.18 kernel.

/// lookup3's `hashword` of four words with an initial value, plus the constant that the kernel starts from.
pub(super) fn hash(words: [u32; 4], initial: u32) -> u32 {
    let start = 0xdead_beef_u32.wrapping_add(4 << 2).wrapping_add(initial);
    let [mut a, mut b, mut c] = [start; 3];
    a = a.wrapping_add(words[0]);
    b = b.wrapping_add(words[1]);
    c = c.wrapping_add(words[2]);
    mix(&mut a, &mut b, &mut c);
    a = a.wrapping_add(words[3]);
    scramble(&mut a, &mut b, &mut c);
    c
}

/// lookup3's `hashword` of one word, with the same start.
pub(super) fn hash_one(word: u32, initial: u32) -> u32 {
    let start = 0xdead_beef_u32.wrapping_add(1 << 2).wrapping_add(initial);
    let [mut a, mut b, mut c] = [start; 3];
    a = a.wrapping_add(word);
    scramble(&mut a, &mut b, &mut c);
    c
}

/// lookup3's `hashlittle` of bytes, with the same start.
pub(crate) fn hash_bytes(mut bytes: &[u8], initial: u32) -> u32 {
    let start = 0xdead_beef_u32.wrapping_add(bytes.len() as u32).wrapping_add(initial);
    let [mut a, mut b, mut c] = [start; 3];
    // A block that is not full is padded with zeros.
    let word = |bytes: &[u8], at: usize| {
        (0..4).fold(0, |word, byte| word | u32::from(bytes.get(at + byte).copied().unwrap_or(0)) << (8 * byte))
    };
    loop {
        a = a.wrapping_add(word(bytes, 0));
        b = b.wrapping_add(word(bytes, 4));
        c = c.wrapping_add(word(bytes, 8));
        match bytes.get(12..) {
            Some(rest) if !rest.is_empty() => {
                mix(&mut a, &mut b, &mut c);
                bytes = rest;
            }
            _ => break,
        }
    }
    scramble(&mut a, &mut b, &mut c);
    c
}

/// lookup3's `mix`: three words, reversibly.
fn mix(a: &mut u32, b: &mut u32, c: &mut u32) {
    for rotations in [[4, 6, 8], [16, 19, 4]] {
        step(a, c, b, rotations[0]);
        step(b, a, c, rotations[1]);
        step(c, b, a, rotations[2]);
    }
}

/// `x -= y; x ^= rot(y, by); y += z`.
fn step(x: &mut u32, y: &mut u32, z: &u32, by: u32) {
    *x = x.wrapping_sub(*y) ^ y.rotate_left(by);
    *y = y.wrapping_add(*z);
}

/// lookup3's `final`.
fn scramble(a: &mut u32, b: &mut u32, c: &mut u32) {
    let fold = |x: u32, y: u32, by: u32| (x ^ y).wrapping_sub(y.rotate_left(by));
    *c = fold(*c, *b, 14);
    *a = fold(*a, *c, 11);
    *b = fold(*b, *a, 25);
    *c = fold(*c, *b, 16);
    *a = fold(*a, *c, 4);
    *b = fold(*b, *a, 14);
    *c = fold(*c, *b, 24);
}
