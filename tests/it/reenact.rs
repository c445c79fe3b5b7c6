//! Sessions spoken again through routers that let them work, or not.

use std::net::SocketAddr;
use std::time::Duration;

use ftp_conntrack::config::{Directory, parse_addresses, parse_ipvs_rules, parse_modules, parse_rules, parse_sysctl};
use ftp_conntrack::ftp::{Form, Sender};
use ftp_conntrack::packet::Family;
use ftp_conntrack::reenact::{Act, Failure, Outcome, Script, Setup, play};

const HELPER: &str = "iptables -t raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp\n";
const MASQUERADE: &str = "iptables -t nat -A POSTROUTING -o wan -j MASQUERADE\n";
const DNAT: &str = "iptables -t nat -A PREROUTING -i wan -p tcp --dport 21 -j DNAT --to-destination 10.77.1.2\n";
const STRICT: &str = "iptables -P FORWARD DROP\n\
    iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
    iptables -A FORWARD -p tcp --dport 21 -j ACCEPT\n";

const ADDRESSES: &str = r#"[
    {"ifindex":2,"ifname":"lan","flags":["UP"],"mtu":MTU,"addr_info":[
        {"family":"inet","local":"10.77.1.1","prefixlen":24,"scope":"global"},
        {"family":"inet6","local":"2001:db8:1::1","prefixlen":64,"scope":"global"}]},
    {"ifindex":3,"ifname":"wan","flags":["UP"],"mtu":1500,"addr_info":[
        {"family":"inet","local":"198.51.100.1","prefixlen":24,"scope":"global"},
        {"family":"inet6","local":"2001:db8:2::1","prefixlen":64,"scope":"global"}]}]"#;

fn directory(rules: &str, mtu: u32) -> Directory {
    let addresses = ADDRESSES.replace("MTU", &mtu.to_string());
    let rules6: String =
        rules.lines().filter(|line| !line.contains("10.77")).map(|line| format!("6{line}\n")).collect();
    let rules6 = rules6.replace("6iptables", "ip6tables").replace("icmp --icmp-type", "icmpv6 --icmpv6-type");
    let rules6 = rules6.replace("fragmentation-needed", "packet-too-big");
    let mut directory = Directory::default();
    directory.interfaces = parse_addresses("addr.json", &addresses).unwrap();
    directory.rules4 = Some(parse_rules("rules.v4", rules, Family::V4).unwrap().0);
    directory.rules6 = Some(parse_rules("rules.v6", &rules6, Family::V6).unwrap().0);
    directory
}

fn outcome(directory: &Directory, script: &Script) -> Outcome {
    let setup = Setup::through(directory.router_config().unwrap());
    play(&setup, std::slice::from_ref(script)).unwrap().remove(0)
}

fn works(rules: &str, script: &Script) -> bool {
    outcome(&directory(rules, 1500), script).works()
}

fn from_inside() -> Script {
    begun("10.77.1.2:40000", "198.51.100.9:21")
}

fn from_outside() -> Script {
    begun("198.51.100.9:40000", "198.51.100.1:21")
}

fn begun(client: &str, server: &str) -> Script {
    let end = |text: &str| text.parse::<SocketAddr>().unwrap();
    let script = Script::new(end(client), end(server)).with("", "220 ready", Act::Say);
    script.with("USER ftp", "331 password", Act::Say).with("PASS x", "230 in", Act::Say)
}

fn transfer(sender: Sender, bytes: usize) -> Act {
    Act::Transfer { sender, bytes, lasts: Duration::ZERO, from_port: 20 }
}

fn passive(script: Script) -> Script {
    let script =
        script.with("PASV", "227 here (0,0,0,0,0,0)", Act::Passive { form: Form::Pasv, address: None, port: 50_006 });
    script.with("RETR f", "226 done", transfer(Sender::Server, 30_000)).with("QUIT", "221 bye", Act::Say)
}

fn active(script: Script) -> Script {
    let script = script.with("PORT 10,77,1,2,195,80", "500 Illegal PORT command.", Act::Active { port: 50_000 });
    script.with("STOR f", "226 done", transfer(Sender::Client, 30_000)).with("QUIT", "221 bye", Act::Say)
}

#[test]
fn passive_mode_through_a_strict_firewall_needs_the_helper() {
    let script = passive(from_inside());
    assert_eq!(outcome(&directory(STRICT, 1500), &script).transfers, [(4, Err(Failure::NotOpened))]);
    assert!(works(&[STRICT, HELPER].concat(), &script));
}

#[test]
fn active_mode_through_nat_needs_the_helper_on_the_right_port() {
    let script = active(from_inside());
    assert_eq!(outcome(&directory(MASQUERADE, 1500), &script).transfers, [(4, Err(Failure::Refused(500)))]);
    assert!(works(&[MASQUERADE, HELPER].concat(), &script));
    assert!(!works(&[MASQUERADE, &HELPER.replace("21", "2121")].concat(), &script));
}

#[test]
fn a_server_that_dials_before_it_answers_says_whether_it_got_through() {
    let mut script = active(from_inside());
    script.turns[3].reply = b"425 Can't connect to specified address.".to_vec();
    let rules = [MASQUERADE, STRICT, HELPER].concat();
    let without = rules.replace("RELATED,", "");
    assert_eq!(outcome(&directory(&without, 1500), &script).transfers, [(4, Err(Failure::Refused(425)))]);
    assert!(works(&rules, &script));
}

#[test]
fn a_server_inside_is_reached_where_the_rewritten_reply_says() {
    let script = passive(from_outside());
    assert!(!works(DNAT, &script));
    assert!(works(&[DNAT, HELPER].concat(), &script));
    // The client may take the control connection's address instead; without a rule for the port it leads nowhere.
    let mut script = script;
    script.ignores_address = true;
    assert!(!works(DNAT, &script));
    assert!(works(&[DNAT, &DNAT.replace("--dport 21", "--dport 50000:50100")].concat(), &script));
}

#[test]
fn related_is_asked_for() {
    let script = passive(from_inside());
    let rules = [STRICT, HELPER].concat().replace("RELATED,ESTABLISHED", "ESTABLISHED");
    assert!(!works(&rules, &script));
    assert!(works(&[&rules, "iptables -I FORWARD -m conntrack --ctstate RELATED -j ACCEPT"].concat(), &script));
}

#[test]
fn a_black_hole_swallows_large_segments_and_clamping_the_mss_helps() {
    let script = passive(from_outside());
    let rules = [DNAT, HELPER].concat();
    let silent = [&rules, "iptables -A OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP\n"].concat();
    let clamped = "iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu\n";
    let to_lan = |rules: &str, script: &Script| outcome(&directory(rules, 1300), script);
    // Upwards: the client sends to the small link.
    let mut upload = script;
    let last = upload.turns.len() - 2;
    upload.turns[last].act = transfer(Sender::Client, 30_000);
    assert_eq!(to_lan(&silent, &upload).transfers, [(4, Err(Failure::Incomplete))]);
    assert!(to_lan(&[&silent, clamped].concat(), &upload).works());
    // A router that may say so is believed.
    assert!(to_lan(&rules, &upload).works());
    let mut setup = Setup::through(directory(&rules, 1500).router_config().unwrap());
    setup.path_mtu = Some(1400);
    assert!(!play(&setup, &[upload]).unwrap()[0].works());
}

#[test]
fn within_tls_no_helper_reads_and_an_open_range_helps() {
    let script = from_inside().with("AUTH TLS", "234 go", Act::StartTls);
    let script = passive(script);
    let rules = [STRICT, HELPER].concat();
    assert!(!works(&rules, &script));
    assert!(works(&[&rules, "iptables -I FORWARD -p tcp --dport 50000:50100 -j ACCEPT\n"].concat(), &script));
    assert!(!works(&[&rules, "iptables -I FORWARD -p tcp --dport 40000:40100 -j ACCEPT\n"].concat(), &script));
}

#[test]
fn ipv6_needs_the_helper_too() {
    let script = begun("[2001:db8:1::2]:40000", "[2001:db8:2::9]:21");
    let form = Act::Passive { form: Form::Epsv, address: None, port: 50_006 };
    let script = script.with("EPSV", "229 here (|||1|)", form).with("LIST", "226 done", transfer(Sender::Server, 600));
    assert!(!works(STRICT, &script));
    assert!(works(&[STRICT, HELPER].concat(), &script));
}

#[test]
fn a_server_on_the_router_itself_is_asked_for_by_input() {
    let script = passive(begun("10.77.1.2:40000", "10.77.1.1:21"));
    let rules = STRICT.replace("FORWARD", "INPUT");
    assert!(!works(&rules, &script));
    assert!(works(&[&rules, HELPER].concat(), &script));
}

#[test]
fn nothing_listens_on_a_router_that_translates_nothing() {
    let found = outcome(&directory("", 1500), &passive(from_outside()));
    // The control connection comes to the router, where the script's server is then.
    assert!(found.opened && found.works());
}

#[test]
fn an_idle_control_connection_is_forgotten() {
    let mut script = passive(from_inside());
    script.turns[3].pause = Duration::from_secs(600);
    let mut directory = directory(&[MASQUERADE, STRICT, HELPER].concat(), 1500);
    assert!(outcome(&directory, &script).works());
    let idle = "net.netfilter.nf_conntrack_tcp_timeout_established = 60\nnet.netfilter.nf_conntrack_tcp_loose = 0\n";
    directory.sysctl = parse_sysctl("sysctl.conf", idle).unwrap();
    assert!(!outcome(&directory, &script).works());
}

#[test]
fn a_full_table_lets_no_further_connection_in() {
    let mut directory = directory(&[STRICT, HELPER].concat(), 1500);
    directory.sysctl = parse_sysctl("sysctl.conf", "net.netfilter.nf_conntrack_max = 1\n").unwrap();
    assert!(!outcome(&directory, &passive(from_inside())).works());
    directory.sysctl = parse_sysctl("sysctl.conf", "net.netfilter.nf_conntrack_max = 100\n").unwrap();
    assert!(outcome(&directory, &passive(from_inside())).works());
}

#[test]
fn a_load_balancer_leads_data_connections_to_the_same_server() {
    let services = "-A -t 198.51.100.1:21 -s rr\n-a -t 198.51.100.1:21 -r 10.77.1.2:21 -m\n-a -t 198.51.100.1:21 -r 10.77.1.3:21 -m\n";
    let mut directory = directory("", 1500);
    directory.ipvs = Some(parse_ipvs_rules("ipvs.rules", services).unwrap().0);
    directory.has_ipvs_rules = true;
    assert!(outcome(&directory, &passive(from_outside())).works());
    directory.modules = Some(parse_modules("modules", "ip_vs\n").unwrap());
    assert!(!outcome(&directory, &passive(from_outside())).works());
}

#[test]
fn two_sessions_share_an_endpoint_that_only_one_can_have() {
    let first = active(from_inside());
    let mut second = active(begun("10.77.1.2:40001", "198.51.100.9:21"));
    // Both announce before either transfers.
    second.starts = Duration::from_millis(2);
    let mut scripts = [first, second];
    for script in &mut scripts {
        script.turns[4].pause = Duration::from_secs(1);
    }
    let setup = Setup::through(directory(&[MASQUERADE, HELPER].concat(), 1500).router_config().unwrap());
    let outcomes = play(&setup, &scripts).unwrap();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.works()).count(), 1, "{outcomes:?}");
}
