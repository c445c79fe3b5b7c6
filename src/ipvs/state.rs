//! The states of connection entries, as seen from between client and real server.

use core::time::Duration;

use super::config::TcpTimeouts;
use crate::packet::TcpFlags;

/// State of an entry (`IP_VS_TCP_S_*`, `IP_VS_UDP_S_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum State {
    /// Nothing yet; or a template without an established connection.
    None,
    /// Data flows.
    Established,
    /// The real server sent a SYN.
    SynSent,
    /// The client sent a SYN.
    SynReceived,
    /// The real server closes.
    FinWait,
    /// Both closed.
    TimeWait,
    /// It was reset.
    Close,
    /// The client closes.
    CloseWait,
    /// Only the last acknowledgement is missing.
    LastAck,
    /// It was announced and has not come.
    Listen,
    /// A SYN was answered in defence mode.
    SynAck,
    /// UDP.
    Udp,
    /// A template, one of whose connections was established: kept while connections are thrown away.
    Assured,
}

use State::{
    Close as CL, CloseWait as CW, Established as ES, FinWait as FW, LastAck as LA, Listen as LI, None as NO,
    SynReceived as SR, SynSent as SS, TimeWait as TW,
};

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From the client.
    Input,
    /// From the real server.
    Output,
    /// From the client, of a connection whose replies do not come through here.
    InputOnly,
}

/// From each state (in the order of [`State`], to SYNACK), what SYN, FIN, ACK and RST lead to.
type Transitions = [[State; 4]; 11];

const INPUT: Transitions = [
    [SR, CL, ES, CL],
    [ES, CW, ES, CL],
    [ES, SS, SS, CL],
    [SR, TW, ES, SR],
    [SR, TW, FW, CL],
    [SR, TW, TW, CL],
    [SR, CL, CL, CL],
    [SR, CW, CW, CL],
    [SR, LA, CL, LA],
    [SR, LI, LI, LI],
    [SR, TW, ES, SR],
];

const OUTPUT: Transitions = [
    [SS, TW, ES, CL],
    [ES, FW, ES, CL],
    [SS, SS, SS, SS],
    [SR, TW, ES, CL],
    [SS, FW, FW, CL],
    [SS, TW, TW, TW],
    [SS, CL, CL, CL],
    [SS, TW, CW, CL],
    [SS, LA, LA, CL],
    [LI, LI, ES, CL],
    [SR, TW, ES, CL],
];

const INPUT_ONLY: Transitions = [
    [SR, CL, ES, CL],
    [ES, FW, ES, CL],
    [ES, SS, SS, CL],
    [SR, TW, ES, SR],
    [SR, FW, FW, CL],
    [SR, TW, TW, CL],
    [SR, CL, CL, CL],
    [SR, CW, CW, CL],
    [SR, LA, CL, LA],
    [SR, LI, LI, LI],
    [SR, TW, ES, SR],
];

impl State {
    /// As `/proc/net/ip_vs_conn` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynReceived => "SYN_RECV",
            Self::FinWait => "FIN_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::SynAck => "SYNACK",
            Self::Udp => "UDP",
            Self::Assured => "ASSURED",
        }
    }

    /// Returns true if a connection in this state counts as active for schedulers.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Established | Self::SynSent | Self::SynReceived | Self::SynAck)
    }

    /// The state after a segment; of several flags RST counts before SYN, FIN and ACK.
    pub(super) fn after(self, way: Way, flags: TcpFlags) -> Self {
        let event = [TcpFlags::SYN, TcpFlags::FIN, TcpFlags::ACK];
        let event = if flags.has(TcpFlags::RST) { Some(3) } else { event.iter().position(|flag| flags.has(*flag)) };
        let table = match way {
            Way::Input => &INPUT,
            Way::Output => &OUTPUT,
            Way::InputOnly => &INPUT_ONLY,
        };
        let next = event.and_then(|event| table.get(self as usize)?.get(event));
        next.copied().unwrap_or(CL)
    }
}

impl TcpTimeouts {
    /// Returns how long a state lasts.
    pub(super) const fn of(&self, state: State) -> Duration {
        match state {
            ES => self.established,
            SS => self.syn_sent,
            SR => self.syn_received,
            FW => self.fin_wait,
            TW => self.time_wait,
            CL => self.close,
            CW => self.close_wait,
            LA => self.last_ack,
            LI | State::SynAck => self.listen,
            NO | State::Udp | State::Assured => NOTHING,
        }
    }
}

/// Time that an entry lasts of which nothing is known (Linux, `IP_VS_TCP_S_NONE`).
const NOTHING: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(start: State, steps: &[(Way, u8)]) -> State {
        steps.iter().fold(start, |state, (way, flags)| state.after(*way, TcpFlags(*flags)))
    }

    const SYN: u8 = TcpFlags::SYN;
    const ACK: u8 = TcpFlags::ACK;
    const FIN: u8 = TcpFlags::FIN;

    #[test]
    fn a_client_connects_and_the_server_closes() {
        let opened = [(Way::Input, SYN), (Way::Output, SYN | ACK), (Way::Input, ACK)];
        assert_eq!(walk(NO, &opened), ES);
        assert_eq!(walk(ES, &[(Way::Output, FIN | ACK), (Way::Input, FIN | ACK)]), TW);
        assert_eq!(walk(ES, &[(Way::Input, TcpFlags::RST | ACK)]), CL);
    }

    #[test]
    fn a_server_connects_where_it_was_announced() {
        // The server's SYN leaves it waiting; the client's answer and the server's acknowledgement open it.
        assert_eq!(walk(LI, &[(Way::Output, SYN)]), LI);
        assert_eq!(walk(LI, &[(Way::Output, SYN), (Way::Input, SYN | ACK), (Way::Output, ACK)]), ES);
    }

    #[test]
    fn replies_that_do_not_come_through_here() {
        assert_eq!(walk(NO, &[(Way::InputOnly, SYN), (Way::InputOnly, ACK)]), ES);
        assert_eq!(walk(ES, &[(Way::InputOnly, FIN | ACK)]), FW);
        assert_eq!(NO.after(Way::Input, TcpFlags(0)), CL);
    }
}
