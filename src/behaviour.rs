//! Whom to behave like.

/// Whom the FTP helper behaves like.
///
/// The two differ behind three seams and nowhere else: how lines are read and what is held back, what is remembered of
/// a stream's shifts, and what an announcement may open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)]
pub enum Behaviour {
    /// Linux 6.18, byte for byte, quirks included.
    #[default]
    Linux,
    /// Correct for FTP: every line of every segment, lines across segments, every retransmission with the same bytes
    /// and the right numbers, nothing private leaking.
    Exact,
}
