//! `-m time`: the time of a packet, by the calendar (UTC).

use crate::Instant;

/// When a packet arrives. All of it must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct TimeMatch {
    /// `--datestart` and `--datestop`, in seconds since 1970, both included.
    pub dates: (u32, u32),
    /// `--timestart` and `--timestop`, in seconds of the day, both included.
    pub daytime: (u32, u32),
    /// `--monthdays`: a bit for each day of the month, from bit 1 on.
    pub month_days: u32,
    /// `--weekdays`: a bit for each day of the week: 1 Monday to 7 Sunday.
    pub week_days: u8,
    /// `--contiguous`: a time that ends after midnight belongs to the day on which it begins.
    pub contiguous: bool,
}

const DAY: i64 = 86_400;

impl Default for TimeMatch {
    /// Any time.
    fn default() -> Self {
        Self {
            dates: (0, i32::MAX as u32),
            daytime: (0, DAY as u32 - 1),
            month_days: !1,
            week_days: !1,
            contiguous: false,
        }
    }
}

impl TimeMatch {
    /// Returns true if a packet of this time matches.
    pub(super) fn holds(&self, now: Instant) -> bool {
        let mut seconds = now.micros().div_euclid(1_000_000);
        if seconds < i64::from(self.dates.0) || seconds > i64::from(self.dates.1) {
            return false;
        }
        let of_day = seconds.rem_euclid(DAY) as u32;
        let (start, stop) = self.daytime;
        if start < stop {
            if of_day < start || of_day > stop {
                return false;
            }
        } else {
            if of_day < start && of_day > stop {
                return false;
            }
            if self.contiguous && of_day < start {
                seconds -= DAY;
            }
        }
        let days = seconds.div_euclid(DAY);
        // 1 January 1970 was a Thursday.
        let week_day = (days + 3).rem_euclid(7) + 1;
        self.week_days >> week_day & 1 != 0 && self.month_days >> day_of_month(days) & 1 != 0
    }
}

/// The day of the month, from 1, of a number of days since 1970.
fn day_of_month(days: i64) -> u32 {
    // Eras of 400 years begin on 1 March 0000; each year of them on 1 March.
    let of_era = (days + 719_468).rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    (of_year - (153 * month + 2) / 5 + 1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_month_and_of_the_week() {
        // 2026-11-29 was a Sunday; 2024-02-29 a Thursday.
        for (seconds, day, week_day) in
            [(1_795_910_400, 29, 7), (1_709_164_800, 29, 4), (0, 1, 4), (951_782_400, 29, 2)]
        {
            let at = Instant::from_secs(seconds);
            assert_eq!(day_of_month(seconds / DAY), day);
            for other in 1..8 {
                let weekly = TimeMatch { week_days: 1 << other, ..TimeMatch::default() };
                assert_eq!(weekly.holds(at), other == week_day, "{seconds} {other}");
            }
        }
    }

    #[test]
    fn a_time_over_midnight_is_one_or_two() {
        let monday_23_to_1 =
            TimeMatch { daytime: (82_800, 3_600), week_days: 1 << 1, contiguous: true, ..TimeMatch::default() };
        let monday = 1_795_910_400 + DAY;
        let at = |seconds: i64| Instant::from_secs(monday + seconds);
        assert_eq!([0, 82_800, DAY, DAY + 3_601].map(|s| monday_23_to_1.holds(at(s))), [false, true, true, false]);
        let split = TimeMatch { contiguous: false, ..monday_23_to_1 };
        assert_eq!([0, 82_800, DAY, DAY + 3_601].map(|s| split.holds(at(s))), [true, true, false, false]);
    }
}
