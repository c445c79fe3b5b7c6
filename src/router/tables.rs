//! Asks the tables of rules at a hook.

use super::answer::Refusal;
use super::interfaces::Network;
use super::packet_context::PacketContext;
use super::{Router, family_index};
use crate::conntrack::Conntrack;
use crate::event::{DropReason, Event};
use crate::ftp::MAX_TEXT;
use crate::netfilter::nft::NftState;
use crate::netfilter::{self, EvalContext, Hook, RuleMemory, Rules, TableName, Tracking};
use crate::packet::{Family, Headers, Layer4, Packet, TcpFlags};

impl Router {
    /// Asks table raw about tracking a packet.
    #[inline(never)]
    pub(super) fn ask_raw(&mut self, hook: Hook, context: &mut PacketContext<'_, '_>) -> Result<Tracking, Refusal> {
        let mut tracking = Tracking::default();
        let rules = &self.rules[family_index(context.headers.family)];
        let verdict = ask(
            rules,
            &self.network,
            (&mut self.conntrack, &mut self.nft_state, &mut self.memory),
            (TableName::Raw, hook),
            context,
            &mut tracking,
        );
        into_result(context.headers.family, verdict)?;
        if let Tracking::Template(template) = &mut tracking {
            template.helper &= self.helper.config().enabled;
        }
        Ok(tracking)
    }

    /// A table whose verdict is pass or drop.
    #[inline]
    pub(super) fn filter(
        &mut self,
        table: TableName,
        hook: Hook,
        context: &mut PacketContext<'_, '_>,
    ) -> Result<(), Refusal> {
        if context.skipped.includes(table, hook) { Ok(()) } else { self.ask_filter(table, hook, context) }
    }

    #[inline(never)]
    fn ask_filter(&mut self, table: TableName, hook: Hook, context: &mut PacketContext<'_, '_>) -> Result<(), Refusal> {
        let rules = &self.rules[family_index(context.headers.family)];
        if !rules.asks_at(table, hook) {
            return Ok(());
        }
        let mut tracking = Tracking::None;
        let verdict = ask(
            rules,
            &self.network,
            (&mut self.conntrack, &mut self.nft_state, &mut self.memory),
            (table, hook),
            context,
            &mut tracking,
        );
        into_result(context.headers.family, verdict)
    }
}

/// Returns the tail room still missing for what rules may add; `None` if there is enough.
#[inline(never)]
pub(super) fn room_for_rules(rules: &Rules, headers: &Headers, packet: &Packet<'_>) -> Option<usize> {
    let padding = packet.bytes().len() - headers.end;
    if rules.sets_zones() && !headers.payload(packet.bytes()).is_empty() && packet.tail_room() + padding < MAX_TEXT {
        return Some(MAX_TEXT);
    }
    let begins = matches!(headers.layer4, Layer4::Tcp(segment) if segment.flags.has(TcpFlags::SYN));
    let may_add_option = begins && rules.may_add_option() && packet.tail_room() + padding < Rules::OPTION;
    may_add_option.then_some(Rules::OPTION)
}

/// Asks a table's chain of a hook.
pub(super) fn ask(
    rules: &Rules,
    network: &Network,
    (conntrack, nft, memory): (&mut Conntrack, &mut NftState, &mut RuleMemory),
    (table, hook): (TableName, Hook),
    context: &mut PacketContext<'_, '_>,
    tracking: &mut Tracking,
) -> netfilter::RuleVerdict {
    // A packet that came back by loopback, or answers another, has its connection with it.
    let before = matches!((table, hook), (TableName::Raw, Hook::Prerouting | Hook::Output))
        && context.tracked.connection.is_none();
    let mut subject = EvalContext {
        packet: &mut *context.packet,
        headers: &mut *context.headers,
        in_interface: context.in_interface,
        out_interface: if matches!(hook, Hook::Prerouting) { None } else { context.out_interface },
        tracked: if before { None } else { Some(&context.tracked) },
        tracking,
        surroundings: network,
        now: context.now,
        nft,
        memory,
        hot_drop: false,
        logged: None,
        not_understood: None,
    };
    let verdict = rules.evaluate(table, hook, conntrack, &mut subject);
    let (logged, not_understood) = (subject.logged, subject.not_understood);
    if let Some(rule) = logged {
        let ipv6 = context.headers.family == Family::V6;
        conntrack.events.push(context.now, Event::Log { ipv6, rule });
    }
    if let Some(rule) = not_understood {
        let ipv6 = context.headers.family == Family::V6;
        conntrack.events.push(context.now, Event::Undecided { ipv6, rule });
    }
    verdict
}

/// The verdict of a table that only passes or drops.
const fn into_result(family: Family, verdict: netfilter::RuleVerdict) -> Result<(), Refusal> {
    match verdict {
        netfilter::RuleVerdict::Drop => Err(Refusal { reason: DropReason::Rule, answer: None }),
        netfilter::RuleVerdict::Reject(with) => Err(Refusal::rejected(family, with)),
        _ => Ok(()),
    }
}
