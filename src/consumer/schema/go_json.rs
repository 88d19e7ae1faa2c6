//! JSON with the bytes of Go's `encoding/json`, as far as `serde_json` writes others.
//!
//! Both are compact, write fields in the order of the type and sort the keys of free-form objects
//! bytewise (`serde_json` without `preserve_order`, which a test here holds on to). Control
//! characters are escaped alike. What is left: Go escapes what HTML and JavaScript would trip
//! over, and writes numbers in its own way.

use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Writes `value` and a newline, as Go's `json.Encoder` does.
pub(super) fn write_line(writer: &mut impl io::Write, value: &impl Serialize) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(&mut *writer, Go))?;
    writer.write_all(b"\n")
}

struct Go;

impl Formatter for Go {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let bytes = fragment.as_bytes();
        let mut written = 0;
        for (at, escaped) in fragment.match_indices(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            writer.write_all(&bytes[written..at])?;
            for char in escaped.chars() {
                write!(writer, "\\u{:04x}", u32::from(char))?;
            }
            written = at + escaped.len();
        }
        writer.write_all(&bytes[written..])
    }

    /// Go decodes what no `int64` holds as `float64`.
    #[expect(clippy::cast_precision_loss, reason = "so does Go")]
    fn write_u64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        match i64::try_from(value) {
            Ok(value) => write!(writer, "{value}"),
            Err(_) => self.write_f64(writer, value as f64),
        }
    }

    /// As ECMAScript: the fewest digits that give the number back, with an exponent below 1e-6 and
    /// from 1e21 on.
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let size = value.abs();
        if size != 0.0 && !(1e-6..1e21).contains(&size) {
            let text = format!("{value:e}");
            let sign = if size < 1.0 { "e" } else { "e+" };
            return writer.write_all(text.replace('e', sign).as_bytes());
        }
        write!(writer, "{value}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn line(value: &impl Serialize) -> String {
        let mut bytes = Vec::new();
        write_line(&mut bytes, value).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn strings_are_escaped_as_in_go() {
        for (text, expected) in [
            (
                "\0\u{1}\u{8}\t\n\u{b}\u{c}\r\u{1b}\u{1f}",
                r"\u0000\u0001\b\t\n\u000b\f\r\u001b\u001f",
            ),
            ("\"\\/'", r#"\"\\/'"#),
            ("<>&", r"\u003c\u003e\u0026"),
            ("a<b", r"a\u003cb"),
            ("\u{2027}\u{2028}\u{2029}\u{202a}", "\u{2027}\\u2028\\u2029\u{202a}"),
            ("\u{7f}\u{80}\u{e9}\u{1f600}\u{feff}", "\u{7f}\u{80}\u{e9}\u{1f600}\u{feff}"),
            ("", ""),
        ] {
            assert_eq!(line(&text), format!("\"{expected}\"\n"));
            assert_eq!(line(&json!({ text: null })), format!("{{\"{expected}\":null}}\n"));
        }
    }

    #[test]
    fn keys_are_sorted_by_their_bytes_at_every_level() {
        let keys = json!({ "a": 1, "\u{fe}": 2, "B": 3, "a-": { "z": 1, "\u{10000}": 2, "\u{ffff}": 3 }, "": 4 });
        let expected = "{\"\":4,\"B\":3,\"a\":1,\"a-\":{\"z\":1,\"\u{ffff}\":3,\"\u{10000}\":2},\"\u{fe}\":2}\n";
        assert_eq!(line(&keys), expected);
    }

    #[test]
    fn numbers_are_written_as_in_go() {
        // The right column is the output of encoding/json.
        for (given, expected) in [
            ("0", "0"),
            ("-1", "-1"),
            ("5.0", "5"),
            ("1e3", "1000"),
            ("1.50", "1.5"),
            ("-2.5", "-2.5"),
            ("0.1", "0.1"),
            ("9007199254740993", "9007199254740993"),
            ("9223372036854775807", "9223372036854775807"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("9223372036854775808", "9223372036854776000"),
            ("-9223372036854775809", "-9223372036854776000"),
            ("18446744073709551615", "18446744073709552000"),
            ("100000000000000000000", "100000000000000000000"),
            ("123456789012345680000", "123456789012345680000"),
            ("1000000000000000000000", "1e+21"),
            ("1.5e21", "1.5e+21"),
            ("1e22", "1e+22"),
            ("1e100", "1e+100"),
            ("0.000001", "0.000001"),
            ("0.0000015", "0.0000015"),
            ("0.000000999", "9.99e-7"),
            ("1e-7", "1e-7"),
            ("-1.25E-7", "-1.25e-7"),
            ("1e-10", "1e-10"),
            ("1e-100", "1e-100"),
            ("5e-324", "5e-324"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("3.4028234663852886e38", "3.4028234663852886e+38"),
        ] {
            let value: Value = serde_json::from_str(given).unwrap();
            assert_eq!(line(&value), format!("{expected}\n"), "{given}");
        }
    }
}
