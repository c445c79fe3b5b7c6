//! Verdicts of a chain on a packet of which only the state is known: chains that accept it are skipped.

use super::super::rules::Policy;
use super::compile::{Code, CompiledData, CompiledVerdict, Instruction, Nft, Step};
use super::evaluate::state_bit;
use super::model::{CtKey, Expression, MetaKey, Operator};
use crate::conntrack::PacketState;

/// The verdict on every packet in a state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Static {
    /// It passes the base chain, and nothing is done to it.
    Accepted,
    /// The chain returns, and nothing is done to it.
    Returned,
    /// It depends.
    Open,
}

impl Nft {
    /// Returns true if a base chain accepts every packet in a state, and does nothing to it.
    pub(crate) fn is_silent(&self, chain: u32, state: PacketState) -> bool {
        let policy = self.chains.get(chain as usize).and_then(|chain| chain.policy);
        match self.foretell(chain, state) {
            Static::Accepted => true,
            Static::Returned => policy != Some(Policy::Drop),
            Static::Open => false,
        }
    }

    fn foretell(&self, chain: u32, state: PacketState) -> Static {
        let Some(chain) = self.chains.get(chain as usize) else { return Static::Open };
        for rule in &chain.rules {
            let Some(verdict) = self.foretell_rule(&rule.steps, state) else { return Static::Open };
            match verdict {
                CompiledVerdict::Accept => return Static::Accepted,
                CompiledVerdict::Drop => return Static::Open,
                CompiledVerdict::Return => return Static::Returned,
                CompiledVerdict::Continue => {}
                CompiledVerdict::Goto(called) => return self.foretell(called, state),
                CompiledVerdict::Jump(called) => match self.foretell(called, state) {
                    Static::Returned => {}
                    other => return other,
                },
            }
        }
        Static::Returned
    }

    fn is_dynamic(&self, set: u32) -> bool {
        self.sets.get(set as usize).is_none_or(|set| set.dynamic.is_some())
    }

    /// Returns a rule's verdict; `None` where it depends. A rule that may accept, whatever it asks, goes on: later rules
    /// decide about those it does not accept.
    fn foretell_rule(&self, steps: &[Step], state: PacketState) -> Option<CompiledVerdict> {
        let bit = state_bit(state);
        let mut is_certain = true;
        for step in steps {
            match step {
                Step::Match { code, operator, spans } if is_state(code) => {
                    let value = spans.first().map_or(0, |span| span.first);
                    let holds = match operator {
                        Operator::Equal => spans.iter().any(|span| span.contains(bit)),
                        Operator::NotEqual => !spans.iter().any(|span| span.contains(bit)),
                        Operator::AnyBit => bit & value != 0,
                        Operator::NoBit => bit & value == 0,
                        _ => return None,
                    };
                    if !holds {
                        return Some(CompiledVerdict::Continue);
                    }
                }
                Step::Lookup { code, set, negated } if is_state(code) && !self.is_dynamic(*set) => {
                    let found = self.sets.get(*set as usize)?.lookup.find(&[bit]).is_some();
                    if found == *negated {
                        return Some(CompiledVerdict::Continue);
                    }
                }
                Step::Match { code, .. } | Step::Lookup { code, .. } if has_no_effect(code) => is_certain = false,
                Step::VerdictMap { code, set } if is_state(code) && !self.is_dynamic(*set) => {
                    let set = self.sets.get(*set as usize)?;
                    let number = set.lookup.find(&[bit]);
                    let data = number.and_then(|number| set.data.get(number as usize));
                    match data {
                        Some(CompiledData::Verdict(CompiledVerdict::Continue)) => {}
                        Some(CompiledData::Verdict(verdict)) if is_certain => return Some(*verdict),
                        Some(CompiledData::Verdict(CompiledVerdict::Accept)) | None => {
                            return Some(CompiledVerdict::Continue);
                        }
                        _ => return None,
                    }
                }
                Step::Verdict(verdict) if is_certain => return Some(*verdict),
                Step::Verdict(CompiledVerdict::Accept | CompiledVerdict::Continue) => {
                    return Some(CompiledVerdict::Continue);
                }
                // Only a connection that begins gets a helper.
                Step::SetHelper(_) if state == PacketState::Established => {}
                _ => return None,
            }
        }
        Some(CompiledVerdict::Continue)
    }
}

fn is_state(code: &Code) -> bool {
    matches!(&**code, [Instruction::Load(Expression::Ct(CtKey::State))])
}

fn has_no_effect(code: &Code) -> bool {
    let has_effect = |instruction: &Instruction| {
        matches!(
            instruction,
            Instruction::Counter { .. }
                | Instruction::Load(Expression::Unknown(_) | Expression::Meta(MetaKey::SocketUser))
        )
    };
    !code.iter().any(has_effect)
}
