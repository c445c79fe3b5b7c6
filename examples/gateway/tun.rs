//! A TUN device: a link whose other end is a file.

use std::fs::File;
use std::io;

use rustix::ioctl::{Updater, ioctl};

/// Opens a TUN device, and makes it if it is not there.
#[allow(unsafe_code, reason = "only the kernel can check what this call is given")]
pub(crate) fn open(name: &str) -> io::Result<File> {
    const TUNSETIFF: u32 = 0x4004_54ca;
    const IFF_TUN_AND_NO_PI: u16 = 0x1001;
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    let mut request = [0; 40]; // struct ifreq: the name in 16 bytes, the flags, and what other calls use
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&IFF_TUN_AND_NO_PI.to_ne_bytes());
    // SAFETY: TUNSETIFF takes a struct ifreq, which lives until the call returns.
    unsafe { ioctl(&file, Updater::<TUNSETIFF, [u8; 40]>::new(&mut request))? };
    Ok(file)
}
