//! A program for bare x86-64 Linux, without C library, std or, unless its feature `alloc` is on, an allocator: it links
//! only if the library and all it depends on do without them, too. It exits with 0 if what it computes is right, with
//! the number of the check that failed, or with 101 after a panic.
#![no_std]
#![no_main]

#[cfg(feature = "alloc")]
mod allocator;
#[cfg(feature = "alloc")]
mod routed;

mod core_only;
mod machine;

/// Checks that the program's first instructions call.
fn checks() -> u8 {
    let core_only = core_only::check();
    #[cfg(feature = "alloc")]
    let routed = routed::check();
    #[cfg(not(feature = "alloc"))]
    let routed = Ok(());
    match core_only.and(routed) {
        Ok(()) => 0,
        Err(number) => number,
    }
}

/// Fails as the check of this number.
fn ensure(holds: bool, number: u8) -> Result<(), u8> {
    if holds { Ok(()) } else { Err(number) }
}
