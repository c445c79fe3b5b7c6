#!/bin/sh
# Saves what describes a Linux router, and a capture taken on it, in one .tar.gz for `ftp-conntrack replay --router`.
# Runs on the router, as root, with any POSIX shell (busybox too).
#
#   sh collect.sh                          capture until Enter or ^C; writes router.tar.gz
#   sh collect.sh -s 60 FILE.tar.gz        capture for 60 seconds; FILE may be -, standard output
#   sh collect.sh -f 'host 192.0.2.7'      capture only this (a filter of tcpdump)
#   ssh root@router sh -s -- -s 60 - < collect.sh > router.tar.gz
#
# The capture has everything in it that passes meanwhile, passwords too. What could not be saved is named, on standard
# error and in the archive's file `missing`. Exit status: 0 written, 1 written without a capture, 2 not written.
set -u
umask 077

say() { printf 'collect.sh: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 2
}

seconds=
filter=
while getopts s:f: option; do
    case $option in
        s) seconds=$OPTARG ;;
        f) filter=$OPTARG ;;
        *) fail 'use it as: collect.sh [-s SECONDS] [-f FILTER] [FILE.tar.gz|-]' ;;
    esac
done
shift $((OPTIND - 1))
[ $# -le 1 ] || fail 'name one file to write, or none'
archive=${1:-router.tar.gz}
case $seconds in
    *[!0-9]*) fail "-s $seconds: name a number of seconds" ;;
esac
[ "$(id -u)" = 0 ] || fail 'run it as root: rules, tables and captures are not for others'
PATH=$PATH:/usr/sbin:/sbin:/usr/local/sbin

work=$(mktemp -d "${TMPDIR:-/tmp}/collect.XXXXXX") || fail 'cannot make a directory in /tmp'
dumper=
# Leaves nothing behind, whatever ends the script.
tidy() {
    [ -z "$dumper" ] || kill "$dumper" 2> /dev/null
    rm -rf "$work"
}
trap tidy EXIT
trap 'exit 2' TERM HUP
router=$work/router
mkdir "$router" || fail "cannot write to $work"
log=$work/log

has() { command -v "$1" > /dev/null 2>&1; }
missing() {
    say "not saved: $*"
    printf '%s\n' "$*" >> "$router/missing"
}

# save FILE WHY COMMAND...: the command's output, if it succeeds and says something.
save() {
    file=$1 why=$2
    shift 2
    if ! has "$1"; then
        [ -z "$why" ] || missing "$file: there is no $1 here; $why"
    elif "$@" > "$work/out" 2> "$log" && [ -s "$work/out" ]; then
        mv "$work/out" "$router/$file"
    elif [ -s "$log" ]; then
        missing "$file: $* says: $(head -n 1 "$log")"
    fi
}

# copy FILE SOURCE...: the first of the sources that can be read.
copy() {
    file=$1
    shift
    for source in "$@"; do
        if [ -r "$source" ] && cat "$source" > "$router/$file" 2> /dev/null; then return 0; fi
    done
    rm -f "$router/$file"
    return 1
}

# both FILE ARGUMENTS...: what `ip -j` says of both families, as one array.
both() {
    file=$1
    shift
    : > "$work/both"
    for family in -4 -6; do
        if ! ip "$family" -j "$@" > "$work/out" 2> "$log"; then
            # A machine without IPv6 has none of its routes.
            [ "$family" = -6 ] || return 1
            continue
        fi
        case $(head -c 1 "$work/out") in
            '[') ;;
            '') continue ;;
            *) return 1 ;;
        esac
        tr -d '\n' < "$work/out" | sed -e 's/^\[ *//' -e 's/ *\] *$//' > "$work/part"
        [ -s "$work/part" ] || continue
        [ ! -s "$work/both" ] || printf ',' >> "$work/both"
        cat "$work/part" >> "$work/both"
    done
    { printf '['; cat "$work/both"; printf ']\n'; } > "$router/$file"
}

# The rules as the kernel has them: those of the older tool, if it has any, since the newer one does not show them.
rules() {
    file=$1 tool=$2 legacy=$3
    if has "$legacy" && "$legacy" > "$work/out" 2> /dev/null && grep -q -e '^-A' -e '^:.* DROP ' "$work/out"; then
        mv "$work/out" "$router/$file"
    elif has "$tool"; then
        save "$file" '' "$tool"
        [ -f "$router/$file" ] || : > "$router/$file"
    else
        has nft || missing "$file: there is no $tool here, and no nft; install one"
    fi
}

settings() {
    sysctl -a 2> /dev/null |
        grep -E '^net\.(netfilter|bridge|ipv4\.(conf|ip_|icmp_|vs\.|fib_)|ipv6\.(conf|fib_))' > "$router/sysctl.conf"
    [ -s "$router/sysctl.conf" ] || missing 'sysctl.conf: sysctl -a says nothing'
}

# Modules that are loaded, those of FTP that are built into the kernel, and their parameters.
modules() {
    copy modules /proc/modules || : > "$router/modules"
    built_in=/lib/modules/$(uname -r)/modules.builtin
    for module in nf_conntrack_ftp nf_nat_ftp ip_vs_ftp; do
        if grep -q "/$module\\.ko" "$built_in" 2> /dev/null && ! grep -q "^$module " "$router/modules"; then
            printf '%s\n' "$module" >> "$router/modules"
        fi
        for parameter in ports loose; do
            value=$(cat "/sys/module/$module/parameters/$parameter" 2> /dev/null) || continue
            case $parameter$value in
                loose[N0]) ;;
                looseY) printf 'options %s loose=1\n' "$module" >> "$router/modules" ;;
                *) [ -z "$value" ] || printf 'options %s %s=%s\n' "$module" "$parameter" "$value" >> "$router/modules" ;;
            esac
        done
    done
}

describe() {
    rules rules.v4 iptables-save iptables-legacy-save
    rules rules.v6 ip6tables-save ip6tables-legacy-save
    if has nft; then
        save ruleset.json '' nft -j list ruleset
        save ruleset.nft '' nft list ruleset
    fi
    save ipset.save '' ipset save
    save ipvs.rules '' ipvsadm -S -n
    copy keepalived.conf /etc/keepalived/keepalived.conf || :
    uname -r > "$router/kernel"
    if has ip; then
        save addr.json '' ip -j addr
        case $(head -c 1 "$router/addr.json" 2> /dev/null) in
            '[') ;;
            *)
                rm -f "$router/addr.json"
                missing 'addr.json: this ip has no -j; install iproute2 (OpenWrt: opkg install ip-full)'
                ;;
        esac
        both route.json route show table all || missing 'route.json: this ip has no -j; install iproute2'
        both rule.json rule || missing 'rule.json: this ip has no -j; install iproute2'
    else
        missing 'addr.json, route.json, rule.json: there is no ip here; install iproute2'
    fi
    settings
    modules
    copy vsftpd.conf /etc/vsftpd.conf /etc/vsftpd/vsftpd.conf || :
    copy proftpd.conf /etc/proftpd/proftpd.conf /etc/proftpd.conf || :
}

# The kernel's tables, and when they were printed.
tables() {
    copy nf_conntrack /proc/net/nf_conntrack ||
        missing 'nf_conntrack: the kernel has no /proc/net/nf_conntrack; the tables are not compared'
    copy nf_conntrack_expect /proc/net/nf_conntrack_expect || :
    copy ip_vs /proc/net/ip_vs || :
    copy ip_vs_conn /proc/net/ip_vs_conn || :
    time=$(date +%s.%N)
    case $time in
        *[!0-9.]* | *.) time=$(date +%s).5 ;;
    esac
    printf '%s\n' "$time" > "$router/tables.time"
}

# begin COMMAND...: starts a capture, and waits until it runs.
begin() {
    "$@" > /dev/null 2> "$log" &
    dumper=$!
    waited=0
    while [ "$waited" -lt 10 ]; do
        kill -0 "$dumper" 2> /dev/null || break
        grep -qi -e 'listening' -e 'capturing' "$log" && return 0
        sleep 1
        waited=$((waited + 1))
    done
    if kill -0 "$dumper" 2> /dev/null; then return 0; fi
    dumper=
    return 1
}

capture() {
    if [ -n "${SSH_CONNECTION:-}" ]; then
        # Not the connection over which this script is watched.
        own=$(printf '%s' "$SSH_CONNECTION" | awk '{ print "not (host " $1 " and tcp port " $2 ")" }')
        filter=${filter:+($filter) and }$own
    fi
    if has tcpdump; then
        for how in '-Z root -B 16384 -y LINUX_SLL2' '-B 16384 -y LINUX_SLL2' '-B 16384' ''; do
            # shellcheck disable=SC2086
            begin tcpdump $how -n -s 0 -i any -w "$router/router.pcap" $filter && return 0
        done
        missing "router.pcap: tcpdump says: $(tail -n 1 "$log")"
    elif has dumpcap; then
        begin dumpcap -q -B 16 -i any -f "$filter" -w "$router/router.pcapng" && return 0
        missing "router.pcapng: dumpcap says: $(tail -n 1 "$log")"
    else
        missing 'router.pcap: there is no tcpdump here; install it (OpenWrt: opkg install tcpdump)'
    fi
    return 1
}

await() {
    trap : INT
    if [ -n "$seconds" ]; then
        say "capturing for $seconds seconds: use FTP through this router now"
        sleep "$seconds"
    elif [ -t 0 ]; then
        say 'capturing: use FTP through this router now, then press Enter'
        read -r _ || :
    else
        say 'capturing for 60 seconds: use FTP through this router now'
        sleep 60
    fi
    # What passed last is still on its way into the file.
    sleep 1
    trap - INT
}

finish_capture() {
    kill -INT "$dumper" 2> /dev/null
    wait "$dumper" 2> /dev/null
    dumper=
    lost=$(sed -n 's/^\([0-9][0-9]*\) packets* dropped by kernel.*/\1/p' "$log")
    case ${lost:-0} in
        0) ;;
        *) missing "$lost packets: the capture was too slow for them; name a filter with -f" ;;
    esac
}

status=0
say 'saving the configuration'
describe
if capture; then
    await
    tables
    finish_capture
else
    status=1
    tables
fi

pack() { (cd "$work" && tar cf - router | gzip); }
if [ "$archive" = - ]; then
    pack || fail 'cannot write the archive'
else
    pack > "$archive" || fail "cannot write $archive"
    say "written: $archive. It has passwords in it if the capture has: keep it to yourself"
fi
exit $status
