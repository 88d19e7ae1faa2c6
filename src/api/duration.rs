//! Go durations: `5m0s`, `1h`, `1.5s`.
//!
//! Flags and the fields `heartbeatInterval` and `ttlAfterFinished` carry them. `kube`'s own
//! duration type writes five minutes as `300s` and panics on overflow, so it can neither keep a
//! value byte-stable nor read what a tenant wrote.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A signed number of nanoseconds that reads and prints exactly like Go's `time.Duration`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(i64);

/// Why a text is not a usable duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Neither a number nor a unit could be found.
    #[error("{0:?} is not a duration; write a number with a unit, such as 10s, 5m or 1h30m")]
    Syntax(String),
    /// A number lacks its unit.
    #[error("duration {0:?} lacks a unit; use ns, us, ms, s, m or h, as in 10s")]
    MissingUnit(String),
    /// The unit is not one of Go's.
    #[error("duration {text:?} has the unknown unit {unit:?}; use ns, us, ms, s, m or h")]
    UnknownUnit {
        /// The whole text.
        text: String,
        /// The unit in it.
        unit: String,
    },
    /// More than about 292 years.
    #[error("duration {0:?} is too long; the largest is about 2562047h")]
    TooLong(String),
    /// Below zero where time can only pass forwards.
    #[error("duration {0:?} is negative; use zero or more")]
    Negative(String),
}

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000 * MICROSECOND;
const SECOND: u64 = 1_000 * MILLISECOND;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

impl GoDuration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A duration of whole seconds. Any number of this type fits: 136 years at most.
    #[must_use]
    pub const fn from_secs(seconds: u32) -> Self {
        Self(seconds as i64 * 1_000_000_000)
    }

    /// Parses a duration that must not be negative: intervals, timeouts, lifetimes.
    pub fn parse_non_negative(text: &str) -> Result<Self, ParseError> {
        let duration: Self = text.parse()?;
        if duration.0 < 0 {
            return Err(ParseError::Negative(text.to_owned()));
        }
        Ok(duration)
    }

    /// The number of nanoseconds, negative for a negative duration.
    #[must_use]
    pub const fn nanoseconds(self) -> i64 {
        self.0
    }

    /// True for a duration of zero.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The same length for timers; a negative duration becomes zero, as timers fire at once then.
    #[must_use]
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

impl From<GoDuration> for Duration {
    fn from(duration: GoDuration) -> Self {
        duration.to_std()
    }
}

/// Takes the longest prefix of decimal digits.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Nanoseconds of a unit, `None` for an unknown one. Both micro signs are Go's.
fn unit_length(unit: &str) -> Option<u64> {
    match unit {
        "ns" => Some(1),
        "us" | "\u{b5}s" | "\u{3bc}s" => Some(MICROSECOND),
        "ms" => Some(MILLISECOND),
        "s" => Some(SECOND),
        "m" => Some(MINUTE),
        "h" => Some(HOUR),
        _ => None,
    }
}

/// Nanoseconds of `whole.fraction` units; `None` when they do not fit.
fn scaled(whole: &str, fraction: &str, unit: u64) -> Option<u64> {
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(unit)?;
    // Digits beyond a nanosecond of an hour (13) cannot count, and 18 fit into the arithmetic.
    let fraction = &fraction[..fraction.len().min(18)];
    if let Ok(numerator) = fraction.parse::<u128>() {
        let denominator = 10u128.pow(u32::try_from(fraction.len()).ok()?);
        let part = numerator * u128::from(unit) / denominator;
        total = total.checked_add(u64::try_from(part).ok()?)?;
    }
    Some(total)
}

impl FromStr for GoDuration {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let syntax = || ParseError::Syntax(text.to_owned());
        let too_long = || ParseError::TooLong(text.to_owned());
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self::ZERO);
        }
        if rest.is_empty() {
            return Err(syntax());
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let (whole, after) = digits(rest);
            let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
            if whole.is_empty() && fraction.is_empty() {
                return Err(syntax());
            }
            let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, after) = after.split_at(end);
            if unit.is_empty() {
                return Err(ParseError::MissingUnit(text.to_owned()));
            }
            let unit = unit_length(unit).ok_or_else(|| ParseError::UnknownUnit {
                text: text.to_owned(),
                unit: unit.to_owned(),
            })?;
            let part = scaled(whole, fraction, unit).ok_or_else(too_long)?;
            total = total.checked_add(part).ok_or_else(too_long)?;
            rest = after;
        }
        let nanoseconds =
            if negative { 0i64.checked_sub_unsigned(total) } else { i64::try_from(total).ok() };
        nanoseconds.map(Self).ok_or_else(too_long)
    }
}

/// Writes `value / unit` with as many decimals as it needs and none at the end.
fn write_decimal(f: &mut fmt::Formatter<'_>, value: u64, unit: u64, name: &str) -> fmt::Result {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return write!(f, "{whole}{name}");
    }
    let width = unit.ilog10() as usize;
    let fraction = format!("{rest:0width$}");
    write!(f, "{whole}.{}{name}", fraction.trim_end_matches('0'))
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        match value {
            0 => f.write_str("0s"),
            _ if value < MICROSECOND => write!(f, "{value}ns"),
            _ if value < MILLISECOND => write_decimal(f, value, MICROSECOND, "\u{b5}s"),
            _ if value < SECOND => write_decimal(f, value, MILLISECOND, "ms"),
            _ => {
                if value >= HOUR {
                    write!(f, "{}h", value / HOUR)?;
                }
                if value >= MINUTE {
                    write!(f, "{}m", value % HOUR / MINUTE)?;
                }
                write_decimal(f, value % MINUTE, SECOND, "s")
            }
        }
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanoseconds(text: &str) -> Result<i64, ParseError> {
        text.parse::<GoDuration>().map(GoDuration::nanoseconds)
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases: &[(&str, i64)] = &[
            ("0", 0),
            ("0s", 0),
            ("-0", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("-5s", -5_000_000_000),
            ("5.0s", 5_000_000_000),
            ("5.6s", 5_600_000_000),
            ("5.s", 5_000_000_000),
            (".5s", 500_000_000),
            ("1.004s", 1_004_000_000),
            ("10ns", 10),
            ("11us", 11_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("13ms", 13_000_000),
            ("14s", 14_000_000_000),
            ("15m", 900_000_000_000),
            ("16h", 57_600_000_000_000),
            ("3h30m", 12_600_000_000_000),
            ("10.5s4m", 250_500_000_000),
            ("-2m3.4s", -123_400_000_000),
            ("5m0s", 300_000_000_000),
            ("52763797000ns", 52_763_797_000),
            ("0.3333333333333333333h", 1_200_000_000_000 - 1),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ];
        for (text, expected) in cases {
            assert_eq!(nanoseconds(text), Ok(*expected), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_duration_is_refused_with_its_reason() {
        let syntax = |t: &str| Err(ParseError::Syntax(t.into()));
        for text in ["", "-", "+", ".", "-.", ".s", "+.s", "s", "1s ", " 1s", "--1s", "1d2"] {
            assert!(nanoseconds(text).is_err(), "{text:?}");
        }
        assert_eq!(nanoseconds("s"), syntax("s"));
        assert_eq!(nanoseconds("3"), Err(ParseError::MissingUnit("3".into())));
        let unknown = ParseError::UnknownUnit { text: "1d".into(), unit: "d".into() };
        assert_eq!(nanoseconds("1d"), Err(unknown));
        for text in ["9223372036854775808ns", "3000000h", "99999999999999999999h"] {
            assert_eq!(nanoseconds(text), Err(ParseError::TooLong(text.into())));
        }
    }

    #[test]
    fn durations_print_as_go_prints_them() {
        let cases: &[(i64, &str)] = &[
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (10_000_000_000, "10s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (300_000_000_000, "5m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (480_000_000_001, "8m0.000000001s"),
            (-1, "-1ns"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ];
        for (value, expected) in cases {
            assert_eq!(GoDuration(*value).to_string(), *expected);
            assert_eq!(nanoseconds(expected), Ok(*value));
        }
    }

    #[test]
    fn a_negative_interval_is_refused() {
        let error = ParseError::Negative("-1s".into());
        assert_eq!(GoDuration::parse_non_negative("-1s"), Err(error));
        assert_eq!(GoDuration::parse_non_negative("10s"), Ok(GoDuration::from_secs(10)));
    }

    #[test]
    fn json_carries_the_text() {
        let json = serde_json::to_string(&GoDuration::from_secs(300)).unwrap();
        assert_eq!(json, "\"5m0s\"");
        assert_eq!(serde_json::from_str::<GoDuration>(&json).unwrap().to_std().as_secs(), 300);
    }
}
