//! The tables in the kernel's words, and in ipvsadm's.

use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::config::{Persistence, SchedulerFlags, ServiceAddress, ServiceConfig};
use super::entry::Entry;
use super::service::Server;
use super::{Ipvs, State};
use crate::Instant;
use crate::conntrack::proc::write_address;
use crate::packet::{Family, Protocol};

impl Ipvs {
    /// Writes services and real servers as `/proc/net/ip_vs` shows them.
    ///
    /// # Errors
    /// When `out` refuses.
    pub fn write_proc(&self, out: &mut impl Write) -> fmt::Result {
        writeln!(out, "IP Virtual Server version 1.2.1 (size={})", self.settings.table_size)?;
        out.write_str("Prot LocalAddress:Port Scheduler Flags\n")?;
        out.write_str("  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n")?;
        for service in &self.services.all {
            self.write_service(&service.config, out)?;
            for server in self.services.servers.get(service.servers.clone()).unwrap_or_default() {
                let Server { config, active, inactive, .. } = server;
                out.write_str("  -> ")?;
                write_end(SocketAddr::new(config.address, config.port), out)?;
                let method = config.forwarding.name();
                writeln!(out, "      {method:<7} {:<6} {active:<10} {inactive:<10}", config.weight)?;
            }
        }
        Ok(())
    }

    fn write_service(&self, service: &ServiceConfig, out: &mut impl Write) -> fmt::Result {
        let ops = if service.one_packet { "ops " } else { "" };
        let scheduler = service.scheduler.name();
        match service.address {
            ServiceAddress::Endpoint { protocol, at } => {
                write!(out, "{}  ", upper_name(Protocol(protocol)))?;
                write_end(at, out)?;
                write!(out, " {scheduler} ")?;
                if at.is_ipv4() {
                    write!(out, "{ops} ")?;
                }
            }
            ServiceAddress::Mark { mark, .. } => write!(out, "FWM  {mark:08X} {scheduler} {ops}")?,
        }
        let Some(Persistence { timeout, prefix }) = service.persistence else { return out.write_str("\n") };
        // The time as the kernel counts it, and of an IPv6 mask its length, with the bytes the other way round.
        let jiffies = timeout.as_secs().saturating_mul(u64::from(self.settings.hertz));
        let bits = match service.address.family() {
            Family::V4 => mask(prefix),
            Family::V6 => u32::from(prefix).swap_bytes(),
        };
        writeln!(out, "persistent {jiffies} {bits:08X}")
    }

    /// Writes the entries as `/proc/net/ip_vs_conn` shows them: one line each.
    ///
    /// # Errors
    /// When `out` refuses.
    pub fn write_proc_conn(&self, now: Instant, out: &mut impl Write) -> fmt::Result {
        out.write_str("Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n")?;
        for (_, entry) in self.iter(now) {
            write!(out, "{:<3}", upper_name(entry.protocol))?;
            for end in [entry.client, entry.virtual_at, entry.real] {
                out.write_char(' ')?;
                write_hex(end.ip(), out)?;
                write!(out, " {:04X}", end.port())?;
            }
            writeln!(out, " {:<11} {:7}", entry.state.name(), entry.remaining(now).as_secs())?;
        }
        Ok(())
    }

    /// Writes services and real servers as `ipvsadm -Ln` shows them: sorted, services by mark, family, protocol and
    /// address.
    ///
    /// # Errors
    /// When `out` refuses.
    pub fn write_list(&self, out: &mut impl Write) -> fmt::Result {
        writeln!(out, "IP Virtual Server version 1.2.1 (size={})", self.settings.table_size)?;
        out.write_str("Prot LocalAddress:Port Scheduler Flags\n")?;
        out.write_str("  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n")?;
        let mut services: Vec<_> = self.services.all.iter().collect();
        services.sort_by_key(|service| listed(service.config.address));
        for service in services {
            list_service(&service.config, out)?;
            let own = self.services.servers.get(service.servers.clone()).unwrap_or_default();
            let mut servers: Vec<&Server> = own.iter().collect();
            servers.sort_by_key(|server| (server.config.address, server.config.port));
            for Server { config, active, inactive, .. } in servers {
                let end = Shown(SocketAddr::new(config.address, config.port));
                let method = config.forwarding.name();
                writeln!(out, "  -> {end:<28} {method:<7} {:<6} {active:<10} {inactive:<10}", config.weight)?;
            }
        }
        Ok(())
    }

    /// Writes the entries as `ipvsadm -Lcn` shows them.
    ///
    /// # Errors
    /// When `out` refuses.
    pub fn write_list_connections(&self, now: Instant, out: &mut impl Write) -> fmt::Result {
        out.write_str("IPVS connection entries\n")?;
        out.write_str("pro expire state       source             virtual            destination\n")?;
        for (_, entry) in self.iter(now) {
            let seconds = entry.remaining(now).as_secs();
            let (minutes, seconds) = (seconds / 60, seconds % 60);
            let state = entry.state.name();
            write!(out, "{:<3} {minutes:02}:{seconds:02}  {state:<11} ", upper_name(entry.protocol))?;
            let virtual_at = Shown(entry.virtual_at);
            writeln!(out, "{:<18} {virtual_at:<18} {}", Shown(entry.client), Shown(entry.real))?;
        }
        Ok(())
    }
}

impl fmt::Display for Entry {
    /// `TCP 198.51.100.7:40000 203.0.113.21:21 10.77.1.11:21 ESTABLISHED`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = upper_name(self.protocol);
        write!(f, "{protocol} {} {} {} {}", self.client, self.virtual_at, self.real, State::name(self.state))
    }
}

/// Returns the key by which ipvsadm sorts services.
const fn listed(address: ServiceAddress) -> (u32, bool, u8, Option<SocketAddr>) {
    match address {
        ServiceAddress::Endpoint { protocol, at } => (0, at.is_ipv6(), protocol, Some(at)),
        ServiceAddress::Mark { mark, ipv6 } => (mark, ipv6, 0, None),
    }
}

fn list_service(config: &ServiceConfig, out: &mut impl Write) -> fmt::Result {
    match config.address {
        ServiceAddress::Endpoint { protocol, at } => write!(out, "{}  {at} ", upper_name(Protocol(protocol)))?,
        ServiceAddress::Mark { mark, ipv6 } => write!(out, "FWM  {mark} {}", if ipv6 { "IPv6 " } else { "" })?,
    }
    out.write_str(config.scheduler.name())?;
    out.write_str(match config.flags {
        SchedulerFlags { fallback: true, port: true } => " (sh-fallback,sh-port)",
        SchedulerFlags { fallback: true, port: false } => " (sh-fallback)",
        SchedulerFlags { fallback: false, port: true } => " (sh-port)",
        SchedulerFlags { fallback: false, port: false } => "",
    })?;
    if let Some(Persistence { timeout, prefix }) = config.persistence {
        write!(out, " persistent {}", timeout.as_secs())?;
        match config.address.family() {
            Family::V4 if prefix < 32 => write!(out, " mask {}", Ipv4Addr::from_bits(mask(prefix)))?,
            Family::V6 if prefix < 128 => write!(out, " mask {prefix}")?,
            _ => {}
        }
    }
    out.write_str(if config.one_packet { " ops\n" } else { "\n" })
}

/// An IPv4 mask with so many leading ones.
fn mask(prefix: u8) -> u32 {
    !u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
}

/// An address and port that heed the width they are given.
struct Shown(SocketAddr);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counted = Counted(0);
        write!(counted, "{}", self.0)?;
        write!(f, "{}", self.0)?;
        let missing = f.width().unwrap_or(0).saturating_sub(counted.0);
        (0..missing).try_for_each(|_| f.write_char(' '))
    }
}

/// Counts what is written.
struct Counted(usize);

impl Write for Counted {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

/// Protocols as IPVS names them; 0 is what a firewall mark's templates have.
const fn upper_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::TCP => "TCP",
        Protocol::UDP => "UDP",
        _ => "IP",
    }
}

/// `0A4D010B:0015`, `[fd77:0001:0000:0000:0000:0000:0000:0011]:0015`.
fn write_end(end: SocketAddr, out: &mut impl Write) -> fmt::Result {
    let ipv6 = end.is_ipv6();
    out.write_str(if ipv6 { "[" } else { "" })?;
    write_hex(end.ip(), out)?;
    write!(out, "{}:{:04X}", if ipv6 { "]" } else { "" }, end.port())
}

fn write_hex(address: IpAddr, out: &mut impl Write) -> fmt::Result {
    match address {
        IpAddr::V4(address) => write!(out, "{:08X}", address.to_bits()),
        IpAddr::V6(_) => write_address(address, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvs::{Forwarding, IpvsConfig, Scheduler, ServerConfig};
    use alloc::string::String;
    use core::time::Duration;

    /// Lines as Linux 6.1 and ipvsadm 1.31 print them.
    #[test]
    fn services_of_every_kind() {
        let tcp = |text: &str| ServiceAddress::tcp(text.parse().unwrap());
        let mut config = IpvsConfig::default();
        let server = ServerConfig::new([10, 77, 1, 13].into(), 21, Forwarding::Masquerade).weighing(2);
        let mut service = ServiceConfig::new(tcp("203.0.113.21:21"), Scheduler::WeightedRoundRobin).with_server(server);
        service.flags = SchedulerFlags { fallback: true, port: true };
        config.services.push(service);
        let server = ServerConfig::new("fd77:1::12".parse().unwrap(), 21, Forwarding::Tunnel);
        let kept = Duration::from_secs(300);
        let service = ServiceConfig::new(tcp("[2001:db8:1::21]:21"), Scheduler::RoundRobin).persistent(kept);
        config.services.push(service.with_server(server));
        let mut service = ServiceConfig::new(ServiceAddress::mark(21), Scheduler::LeastConnection).persistent(kept);
        service.persistence = service.persistence.map(|persistence| Persistence { prefix: 24, ..persistence });
        config.services.push(service);
        let mut datagrams =
            ServiceConfig::new(ServiceAddress::udp("203.0.113.21:53".parse().unwrap()), Scheduler::NeverQueue);
        datagrams.one_packet = true;
        config.services.push(datagrams);
        let ipvs = Ipvs::new(config, [1, 2]);
        let (mut proc, mut list) = (String::new(), String::new());
        ipvs.write_proc(&mut proc).unwrap();
        ipvs.write_list(&mut list).unwrap();
        let expected = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  \
            -> RemoteAddress:Port Forward Weight ActiveConn InActConn\nTCP  CB007115:0015 wrr  \n  \
            -> 0A4D010D:0015      Masq    2      0          0         \n\
            TCP  [2001:0db8:0001:0000:0000:0000:0000:0021]:0015 rr persistent 75000 80000000\n  \
            -> [fd77:0001:0000:0000:0000:0000:0000:0012]:0015      Tunnel  1      0          0         \n\
            FWM  00000015 lc persistent 75000 FFFFFF00\nUDP  CB007115:0035 nq ops  \n";
        assert_eq!(proc, expected);
        let listed: Vec<&str> = list.lines().skip(3).map(str::trim_end).collect();
        let expected = [
            "TCP  203.0.113.21:21 wrr (sh-fallback,sh-port)",
            "  -> 10.77.1.13:21                Masq    2      0          0",
            "UDP  203.0.113.21:53 nq ops",
            "TCP  [2001:db8:1::21]:21 rr persistent 300",
            "  -> [fd77:1::12]:21              Tunnel  1      0          0",
            "FWM  21 lc persistent 300 mask 255.255.255.0",
        ];
        assert_eq!(listed, expected);
    }
}
