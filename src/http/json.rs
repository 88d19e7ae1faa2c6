//! Request bodies as JSON, read strictly: what two parsers may understand differently is refused
//! (security.md bad input 40, RFC 8259 sections 4 and 8.1).

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Deepest nesting of arrays and objects. Bodies of the contract have six levels.
const DEEPEST: usize = 32;

/// Longest part of a reason, in bytes: the name of an unknown field is chosen by the client.
const LONGEST: usize = 200;

/// Why a body was refused, and where. Values of the body are not in it: they may be credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct JsonError {
    /// From 1; 0 where the place does not matter.
    pub line: usize,
    /// From 1, in bytes; 0 where the place does not matter.
    pub column: usize,
    /// For people.
    pub problem: String,
}

/// Reads one JSON document of UTF-8. Refused: an empty body, a byte order mark, anything behind the
/// document, NaN and infinities, nesting deeper than 32, one key twice in an object (also where `T`
/// does not know it), and whatever `T` does not take.
///
/// Unknown fields are up to `T`: they are ignored, as the contract wants it for `/api/bind`
/// (http.md 6.1), unless the type says `#[serde(deny_unknown_fields)]`, as bodies should that have
/// nobody to be compatible with.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, JsonError> {
    let whole = |problem: &str| JsonError { line: 0, column: 0, problem: problem.to_owned() };
    if body.is_empty() {
        return Err(whole("the body is empty"));
    }
    if body.starts_with(b"\xef\xbb\xbf") {
        return Err(whole("the body starts with a byte order mark; leave it out"));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    Checked { depth: 0 }.deserialize(&mut reader).map_err(|err| refused(&err))?;
    reader.end().map_err(|err| refused(&err))?;
    serde_json::from_slice(body).map_err(|err| refused(&err))
}

fn refused(err: &serde_json::Error) -> JsonError {
    JsonError { line: err.line(), column: err.column(), problem: problem(err) }
}

/// The reason without the value that it is about.
fn problem(err: &serde_json::Error) -> String {
    let text = err.to_string();
    let text = text.split_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    let is_one_of = |starts: &[&str]| starts.iter().any(|start| text.starts_with(start));
    let mut problem = if !err.is_data() || is_one_of(NAMES_NO_VALUE) {
        text.to_owned()
    } else if is_one_of(QUOTES_VALUE)
        && let Some((_, expected)) = text.rsplit_once(", expected ")
    {
        format!("expected {expected}")
    } else {
        "the value is not allowed here".to_owned()
    };
    if problem.len() > LONGEST {
        problem.truncate(problem.floor_char_boundary(LONGEST));
        problem.push('…');
    }
    problem
}

/// How the reasons of serde start that end in what is expected and quote what was found.
const QUOTES_VALUE: &[&str] =
    &["invalid type", "invalid value", "invalid length", "unknown variant"];
/// How the reasons start that name a key at most.
const NAMES_NO_VALUE: &[&str] =
    &["missing field", "unknown field", "duplicate field", TWICE, TOO_DEEP];
/// How the reasons of [`Checked`] start.
const TWICE: &str = "the key ";
const TOO_DEEP: &str = "nested deeper than";

/// Looks at every value and keeps none.
#[derive(Clone, Copy)]
struct Checked {
    depth: usize,
}

impl Checked {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == DEEPEST {
            return Err(E::custom(format_args!("{TOO_DEEP} {DEEPEST} levels")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Checked {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut seen = HashSet::new();
        while let Some(key) = fields.next_key::<String>()? {
            if seen.contains(&key) {
                return Err(serde::de::Error::custom(format_args!(
                    "{TWICE}{key:?} is there twice"
                )));
            }
            seen.insert(key);
            fields.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Lenient {
        name: String,
        count: u8,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        name: String,
        mode: Option<Mode>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    enum Mode {
        On,
    }

    fn error(line: usize, column: usize, problem: &str) -> JsonError {
        JsonError { line, column, problem: problem.to_owned() }
    }

    #[test]
    fn unknown_fields_are_ignored_unless_the_type_refuses_them() {
        let body = br#"{"name":"west","status":{},"more":[1,2.5,null,true,"x"]}"#;
        assert_eq!(read(body), Ok(Lenient { name: "west".to_owned(), count: 0 }));
        assert_eq!(
            read::<Strict>(body),
            Err(error(1, 23, "unknown field `status`, expected `name` or `mode`"))
        );
        let known = read::<Strict>(br#" {"name":"west","mode":"On"} "#);
        assert_eq!(known, Ok(Strict { name: "west".to_owned(), mode: Some(Mode::On) }));
    }

    #[test]
    fn what_is_refused_says_where_and_never_quotes_a_value() {
        for (body, expected) in [
            ("", error(0, 0, "the body is empty")),
            ("\u{feff}{}", error(0, 0, "the body starts with a byte order mark; leave it out")),
            ("{} {}", error(1, 4, "trailing characters")),
            ("{}\n]", error(2, 1, "trailing characters")),
            ("{\"a\":NaN}", error(1, 6, "expected value")),
            ("{\"a\":-Infinity}", error(1, 7, "invalid number")),
            ("{\"a\":1e999}", error(1, 10, "number out of range")),
            ("{\"a\":\"\\ud800\"}", error(1, 13, "unexpected end of hex escape")),
            ("{\"a\":1", error(1, 6, "EOF while parsing an object")),
            (
                "{\"a\":1,\"b\":{\"c\":1,\"\\u0063\":2}}",
                error(1, 26, "the key \"c\" is there twice"),
            ),
            ("{\"name\":\"a\",\n \"count\":\"secret, expected x\"}", error(2, 29, "expected u8")),
            ("{\"count\":256}", error(1, 12, "expected u8")),
            ("[\"west\", \"secret\"]", error(1, 17, "expected u8")),
        ] {
            assert_eq!(read::<Lenient>(body.as_bytes()), Err(expected), "{body}");
        }
    }

    #[test]
    fn nesting_ends_at_a_bound() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read::<serde_json::Value>(nested(DEEPEST).as_bytes()).is_ok());
        assert_eq!(
            read::<serde_json::Value>(nested(DEEPEST + 1).as_bytes()),
            Err(error(1, DEEPEST + 2, "nested deeper than 32 levels"))
        );
        assert!(read::<Lenient>("[".repeat(1 << 20).as_bytes()).is_err());
        let objects = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
        assert!(read::<Lenient>(objects.as_bytes()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(proptest::num::u8::ANY, 0..256)) {
            let _ = read::<Lenient>(&body);
            let _ = read::<serde_json::Value>(&body);
        }

        #[test]
        fn no_text_that_looks_like_json_makes_it_panic(body in r#"[\[\]{}:,"\\a-f0-9eE+\-. \n]{0,64}"#) {
            let _ = read::<Strict>(body.as_bytes());
            if let Ok(value) = read::<serde_json::Value>(body.as_bytes()) {
                proptest::prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap(), value);
            }
        }
    }
}
