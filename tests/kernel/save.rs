//! A finding as a router directory, which `replay --verify` shows.

use std::fs;
use std::io::{self, Error};
use std::path::Path;

use ftp_conntrack::capture::{Direction, Interface, Writer};
use ftp_conntrack::packet::link::LinkType;

use crate::judge::{Step, Trial};
use crate::kernel::{self, INTERFACES, SELF};
use crate::library::sysctl_text;
use crate::setup::Setup;
use crate::wire;

/// Writes a dialogue's directory.
pub(crate) fn save(path: &Path, setup: &Setup, trial: &Trial, files: &(String, String), story: &str) -> io::Result<()> {
    fs::create_dir_all(path)?;
    let put = |name: &str, text: &str| fs::write(path.join(name), text);
    put("rules.v4", &setup.rules4)?;
    put("rules.v6", &setup.rules6)?;
    if !setup.nft.is_empty() {
        put("ruleset.nft", &setup.nft)?;
    }
    put("sysctl.conf", &sysctl_text(setup))?;
    if !setup.sets.is_empty() {
        put("ipset.save", &setup.sets)?;
    }
    put("addr.json", &files.0)?;
    put("route.json", &files.1)?;
    put("modules", "nf_conntrack_ftp\nnf_nat_ftp\n")?;
    if !story.is_empty() {
        put("story.txt", story)?;
    }
    if let Some((time, [connections, expectations])) = &trial.tables {
        put("tables.time", &format!("{}.{:06}\n", time.micros() / 1_000_000, time.micros() % 1_000_000))?;
        put("nf_conntrack", connections)?;
        put("nf_conntrack_expect", expectations)?;
    }
    let interfaces = INTERFACES.map(|(name, ..)| Interface::named(name, LinkType::RAW));
    let mut writer = Writer::new(fs::File::create(path.join("router.pcapng"))?, &interfaces).map_err(Error::other)?;
    // A capture shows what the machine sends where it leaves, and what is delivered where it arrived.
    for seen in trial.seen.iter().filter(|seen| seen.packet.interface != SELF) {
        let direction = if seen.arrived { Direction::In } else { Direction::Out };
        writer.write(seen.packet.interface, seen.time, direction, &seen.packet.bytes).map_err(Error::other)?;
    }
    writer.into_inner().map_err(Error::other)?;
    Ok(())
}

/// A dialogue to be read: its rules without what every configuration has, its packets, its difference.
pub(crate) fn story(name: &str, setup: &Setup, trial: &Trial) -> String {
    let mut out = format!("{name}\n");
    for (which, rules) in [("v4", &setup.rules4), ("v6", &setup.rules6)] {
        for line in
            rules.lines().filter(|line| line.starts_with('-') || line.contains(" DROP ") || line.contains(" - "))
        {
            out += &format!("  {which} {line}\n");
        }
    }
    for line in
        setup.nft.lines().filter(|line| line.starts_with("    ") || line.contains("chain") || line.contains("table"))
    {
        out += &format!("  nft {line}\n");
    }
    for (key, value) in &setup.sysctl {
        out += &format!("  {key} = {value}\n");
    }
    for seen in &trial.seen {
        let arrow = if seen.arrived { "->" } else { "   <-" };
        out += &format!("  {arrow} {:<4} {}\n", kernel::name(seen.packet.interface), wire::show(&seen.packet.bytes));
    }
    for step in &trial.steps {
        if let Step::Wait(time) = step {
            out += &format!("  (with a pause of {} ms)\n", time.as_millis());
        }
    }
    if let Some(difference) = &trial.difference {
        out += &format!("  [{}]\n{}\n", difference.kind, difference.text.trim_end());
    }
    out
}
