//! Asks the Linux kernel that runs here what it does with random dialogues, and compares it with the library: packet by
//! packet, and the tables in the end.
//!
//! ```text
//! cargo test --release --test kernel                      # a few hundred, as root
//! KERNEL_DIALOGUES=3000 KERNEL_SEED=1 KERNEL_FAMILIES=ugly,shuffle cargo test --release --test kernel
//! KERNEL_SAVE=3 KERNEL_FAMILIES=sctp cargo test --release --test kernel   # the first three are saved, as findings are
//! KERNEL_FRESH=1 cargo test --release --test kernel       # new seeds; findings are saved and do not fail
//! ```
//!
//! It needs root, `/dev/net/tun`, `unshare`, `ip`, `iptables-legacy-restore` or `iptables-restore` (and the same for
//! IPv6), `nft` and the kernel's FTP helper; without one of them it says so and is skipped. It runs in a network namespace of
//! its own. Findings go to `KERNEL_FINDINGS` (`target/kernel-findings`), each a router directory, for
//! `replay --router DIRECTORY --verify`.

mod arguments;
mod choice;
mod compare;
mod families;
mod judge;
mod kernel;
mod library;
mod own;
mod rng;
mod save;
mod session;
mod setup;
mod shrink;
mod text;
mod wire;
mod worker;
mod world;

use std::process::{Command, ExitCode};

use arguments::Arguments;

/// Set in the process that is in a namespace of its own.
const INSIDE: &str = "KERNEL_INSIDE";

fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("kernel: {error}");
            return ExitCode::from(2);
        }
    };
    if std::env::var_os(INSIDE).is_some() {
        return worker::run(&arguments);
    }
    if let Some(missing) = missing() {
        println!("kernel: skipped: {missing}");
        return ExitCode::SUCCESS;
    }
    match inside() {
        Ok(code) => code,
        Err(error) => {
            println!("kernel: skipped: no network namespace of its own: {error}");
            ExitCode::SUCCESS
        }
    }
}

/// Names a missing program or right that this needs.
fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root may ask".to_owned());
    }
    if !std::path::Path::new("/dev/net/tun").exists() {
        return Some("there is no /dev/net/tun".to_owned());
    }
    if let Some(tool) = ["unshare", "ip"].into_iter().find(|tool| !kernel::exists(tool)) {
        return Some(format!("there is no {tool}"));
    }
    for tool in ["iptables", "ip6tables"] {
        if !kernel::exists(&format!("{tool}-legacy-restore")) && !kernel::exists(&format!("{tool}-restore")) {
            return Some(format!("there is no {tool}-restore"));
        }
    }
    if !kernel::exists("nft") {
        return Some("there is no nft".to_owned());
    }
    None
}

/// Starts this program again, in a namespace of its own, and waits for it.
fn inside() -> std::io::Result<ExitCode> {
    if !Command::new("unshare").args(["-n", "true"]).status()?.success() {
        return Err(std::io::Error::other("unshare -n does not work here"));
    }
    let program = std::env::current_exe()?;
    let mut command = Command::new("unshare");
    command.arg("-n").arg(program).args(std::env::args_os().skip(1)).env(INSIDE, "1");
    let status = command.status()?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
