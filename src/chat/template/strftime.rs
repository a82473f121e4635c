//! The date as templates write it: Python's `strftime` in the C locale, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

const DAY: i64 = 86_400;

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    }
}

/// A date and a time of day.
struct Moment {
    year: i64,
    /// From 0.
    month: usize,
    /// From 1.
    day: i64,
    /// From 1.
    day_of_year: i64,
    /// From Monday, 0.
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Moment {
    /// By Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`: years begin in March.
    fn of(seconds: i64) -> Self {
        let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_march_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_march_year + 2) / 153;
        let day = day_of_march_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 2 } else { march_month - 10 };
        let year = year_of_era + era * 400 + i64::from(month < 2);
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let month = usize::try_from(month).unwrap_or(0).min(11);
        Self {
            year,
            month,
            day,
            day_of_year: before[month] + day + i64::from(is_leap && month > 1),
            // 1 January 1970 was a Thursday.
            weekday: usize::try_from((days + 3).rem_euclid(7)).unwrap_or(0),
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }

    fn hour_of_twelve(&self) -> i64 {
        match self.hour % 12 {
            0 => 12,
            hour => hour,
        }
    }

    /// Directives that stand for several; `None`: it is none of them.
    fn composed(directive: char) -> Option<&'static str> {
        Some(match directive {
            'c' => "%a %b %e %H:%M:%S %Y",
            'D' | 'x' => "%m/%d/%y",
            'F' => "%Y-%m-%d",
            'R' => "%H:%M",
            'r' => "%I:%M:%S %p",
            'T' | 'X' => "%H:%M:%S",
            _ => return None,
        })
    }

    /// A number with its width and what fills that.
    fn number(&self, directive: char) -> Option<(i64, usize, char)> {
        Some(match directive {
            'd' => (self.day, 2, '0'),
            'e' => (self.day, 2, ' '),
            'H' => (self.hour, 2, '0'),
            'I' => (self.hour_of_twelve(), 2, '0'),
            'j' => (self.day_of_year, 3, '0'),
            'k' => (self.hour, 2, ' '),
            'l' => (self.hour_of_twelve(), 2, ' '),
            'M' => (self.minute, 2, '0'),
            'm' => (i64::try_from(self.month).unwrap_or(0) + 1, 2, '0'),
            'S' => (self.second, 2, '0'),
            'f' => (0, 6, '0'),
            'u' => (i64::try_from(self.weekday).unwrap_or(0) + 1, 1, '0'),
            'w' => (i64::try_from(self.weekday + 1).unwrap_or(0) % 7, 1, '0'),
            'Y' => (self.year, 1, '0'),
            'y' => (self.year.rem_euclid(100), 2, '0'),
            _ => return None,
        })
    }

    fn word(&self, directive: char) -> Option<&str> {
        Some(match directive {
            'A' => DAYS[self.weekday],
            'a' => &DAYS[self.weekday][..3],
            'B' => MONTHS[self.month],
            'b' | 'h' => &MONTHS[self.month][..3],
            'p' if self.hour < 12 => "AM",
            'p' => "PM",
            'n' => "\n",
            't' => "\t",
            'Z' | 'z' => "",
            '%' => "%",
            _ => return None,
        })
    }
}

/// The time, seconds since 1970, by a format. Directives that are none stay as they are.
pub(super) fn strftime(seconds: i64, format: &str) -> String {
    let (moment, mut text) = (Moment::of(seconds), String::new());
    write(&moment, format, &mut text);
    text
}

fn write(moment: &Moment, format: &str, text: &mut String) {
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let mut rest = characters.clone();
        // As the C library has it: without what fills.
        let bare = rest.clone().next() == Some('-');
        if bare {
            rest.next();
        }
        let Some(directive) = rest.next() else {
            text.push('%');
            continue;
        };
        if let Some(format) = Moment::composed(directive) {
            write(moment, format, text);
        } else if let Some((number, width, fill)) = moment.number(directive) {
            let number = number.to_string();
            let missing = if bare { 0 } else { width.saturating_sub(number.len()) };
            text.extend(std::iter::repeat_n(fill, missing));
            text.push_str(&number);
        } else if let Some(word) = moment.word(directive) {
            text.push_str(word);
        } else {
            text.push('%');
            continue;
        }
        characters = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected as `datetime.fromtimestamp(seconds, timezone.utc).strftime(format)` of Python gives it.
    fn check(seconds: i64, format: &str, expected: &str) {
        assert_eq!(strftime(seconds, format), expected, "{seconds} {format}");
    }

    #[test]
    fn dates_are_those_of_python() {
        check(0, "%Y-%m-%d %H:%M:%S %A %j", "1970-01-01 00:00:00 Thursday 001");
        check(1_709_210_096, "%d %b %Y, %I:%M %p", "29 Feb 2024, 12:34 PM");
        check(1_709_210_096, "%B %-d, %y (%a %w %u %e) %j", "February 29, 24 (Thu 4 4 29) 060");
        check(1_735_689_599, "%F %T %j %A", "2024-12-31 23:59:59 366 Tuesday");
        check(-1, "%c", "Wed Dec 31 23:59:59 1969");
        check(951_782_400, "%D %R %%", "02/29/00 00:00 %");
    }

    #[test]
    fn what_is_no_directive_stays() {
        check(0, "100% %Q é %", "100% %Q é %");
        check(0, "", "");
    }
}
