//! The head of a request, looked at before hyper sees it.
//!
//! hyper takes what RFC 9112 lets a recipient repair: bare LF, Transfer-Encoding beside Content-Length
//! (it drops the latter before we could see it), a repeated Content-Length. A proxy in front of us may
//! repair it another way, and then the two disagree where a request ends (security.md bad input 69).
//! So nothing is repaired here.

use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, ORIGIN, TRANSFER_ENCODING,
};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method};

use crate::http::error::ApiError;

/// Most header lines, as many as hyper takes.
const LINES: usize = 100;

/// Most digits of a Content-Length: no overflow, and larger than any body.
const DIGITS: usize = 18;

/// Where the body ends that follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// Where the chunks say so. Such a request is the last of its connection.
    Chunked,
}

/// Why a request is answered without being looked at any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its head is larger than we read.
    TooLarge,
    /// It can be understood in more than one way, or in none.
    Malformed(&'static str),
    /// It did not come in time.
    Slow,
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooLarge => Self::head_too_large(),
            Refusal::Malformed(why) => {
                Self::bad_request("This is not a valid HTTP request").with_details(why)
            }
            Refusal::Slow => Self::slow_request(),
        }
    }
}

/// The length of the head with its empty line, as soon as all of it is there. `seen` bytes were looked at
/// before. A line that can never become valid is refused at once: waiting for more would end in the
/// timeout.
pub(super) fn end(bytes: &[u8], seen: usize, most: usize) -> Result<Option<usize>, Refusal> {
    if bytes.first().is_some_and(|first| !first.is_ascii_alphabetic()) {
        return Err(Refusal::Malformed("the request does not start with a method"));
    }
    for at in seen..bytes.len() {
        if at >= most {
            return Err(Refusal::TooLarge);
        }
        if bytes[at] != b'\n' {
            continue;
        }
        if !bytes[..at].ends_with(b"\r") {
            return Err(Refusal::Malformed("a line ends without CR"));
        }
        if bytes[..at].ends_with(b"\r\n\r") {
            return Ok(Some(at + 1));
        }
    }
    Ok(None)
}

/// Checks a whole head as [`end`] found it, and says how its body ends.
pub(super) fn check(head: &[u8]) -> Result<Framing, Refusal> {
    let mut lines =
        head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let is_http_11 = request_line(lines.next().unwrap_or_default())?;
    let mut fields = Fields::default();
    for (count, line) in lines.take_while(|line| !line.is_empty()).enumerate() {
        if count == LINES {
            return Err(Refusal::TooLarge);
        }
        fields.add(line)?;
    }
    fields.framing(is_http_11)
}

/// Whether it is HTTP/1.1 rather than 1.0. Only paths are targets: we are no proxy, and no client that
/// talks to an origin sends a whole URL, which could contradict the Host header.
fn request_line(line: &[u8]) -> Result<bool, Refusal> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::Malformed("the request line is not method, path and version"));
    };
    // hyper takes what follows a CONNECT for a tunnel.
    if method == b"CONNECT" {
        return Err(Refusal::Malformed("this server is no proxy"));
    }
    if Method::from_bytes(method).is_err() {
        return Err(Refusal::Malformed("the method is not a token"));
    }
    let visible = target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#');
    if !target.starts_with(b"/") || !visible || PathAndQuery::try_from(target).is_err() {
        return Err(Refusal::Malformed("the request target is not a path"));
    }
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        _ => Err(Refusal::Malformed("the version is not HTTP/1.1")),
    }
}

/// Headers that may be there once at most: of two, another reader could take the other.
#[derive(Default)]
struct Fields {
    once: Vec<HeaderName>,
    length: Option<u64>,
    chunked: bool,
}

impl Fields {
    fn add(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return Err(Refusal::Malformed("a header is folded over two lines"));
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Err(Refusal::Malformed("a header has no colon"));
        };
        let (name, value) = (&line[..colon], trimmed(&line[colon + 1..]));
        let Ok(name) = HeaderName::from_bytes(name) else {
            return Err(Refusal::Malformed("the name of a header is not a token"));
        };
        // Covers CR without LF, NUL and other control characters.
        if HeaderValue::from_bytes(value).is_err() {
            return Err(Refusal::Malformed("the value of a header has a control character"));
        }
        if name == CONTENT_LENGTH {
            self.length = Some(length(value)?);
        } else if name == TRANSFER_ENCODING {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::Malformed("the only Transfer-Encoding taken here is chunked"));
            }
            self.chunked = true;
        } else if ![HOST, AUTHORIZATION, CONTENT_TYPE, ORIGIN].contains(&name) {
            return Ok(());
        }
        if self.once.contains(&name) {
            return Err(Refusal::Malformed("a header is there twice that may be there once"));
        }
        self.once.push(name);
        Ok(())
    }

    fn framing(&self, is_http_11: bool) -> Result<Framing, Refusal> {
        if is_http_11 && !self.once.contains(&HOST) {
            return Err(Refusal::Malformed("the Host header is missing"));
        }
        match (self.chunked, self.length) {
            (true, Some(_)) => {
                Err(Refusal::Malformed("there is a Content-Length beside Transfer-Encoding"))
            }
            (true, None) if !is_http_11 => {
                Err(Refusal::Malformed("HTTP/1.0 has no Transfer-Encoding"))
            }
            (true, None) => Ok(Framing::Chunked),
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

/// Without the space around it: SP and HTAB only. A lone CR or a form feed belongs to the value, where it
/// is not allowed.
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn length(value: &[u8]) -> Result<u64, Refusal> {
    let wrong = Refusal::Malformed("the Content-Length is not a number");
    if value.is_empty() || value.len() > DIGITS || !value.iter().all(u8::is_ascii_digit) {
        return Err(wrong);
    }
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(head: &[u8]) -> Result<Framing, Refusal> {
        match end(head, 0, 16 << 10)? {
            Some(len) => check(&head[..len]),
            None => panic!("not a whole head: {:?}", String::from_utf8_lossy(head)),
        }
    }

    #[test]
    fn usual_requests_are_taken() {
        for (head, framing) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::Length(0)),
            ("GET /?a=b%20c HTTP/1.0\r\n\r\n", Framing::Length(0)),
            ("POST /x HTTP/1.1\r\nhost:a\r\ncontent-length: 12 \r\n\r\n", Framing::Length(12)),
            ("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", Framing::Chunked),
            ("GET / HTTP/1.1\r\nHost: a\r\nCookie: a=b\r\nCookie: c=d\r\n\r\n", Framing::Length(0)),
            ("GET / HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-Obs: \u{e4}\r\n\r\n", Framing::Length(0)),
        ] {
            assert_eq!(checked(head.as_bytes()), Ok(framing), "{head}");
        }
    }

    #[test]
    fn what_two_readers_may_understand_differently_is_refused() {
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(LINES));
        let target = "the request target is not a path";
        let proxy = "this server is no proxy";
        let line = "the request line is not method, path and version";
        let twice = "a header is there twice that may be there once";
        let name = "the name of a header is not a token";
        let number = "the Content-Length is not a number";
        let control = "the value of a header has a control character";
        let encoding = "the only Transfer-Encoding taken here is chunked";
        for (head, why) in [
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "the request does not start with a method"),
            ("\x16\x03\x01", "the request does not start with a method"),
            ("GET / HTTP/1.1\nHost: a\n\n", "a line ends without CR"),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", "a line ends without CR"),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", line),
            ("GET /\r\n\r\n", line),
            ("GET / HTTP/1.1 \r\n\r\n", line),
            ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", "the method is not a token"),
            ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", target),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", proxy),
            ("CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n", proxy),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", target),
            ("GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", target),
            ("GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", target),
            ("GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", target),
            ("PRI / HTTP/2.0\r\n\r\n", "the version is not HTTP/1.1"),
            ("GET / http/1.1\r\nHost: a\r\n\r\n", "the version is not HTTP/1.1"),
            ("GET / HTTP/1.1\r\n\r\n", "the Host header is missing"),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", twice),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
                "a header is folded over two lines",
            ),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "a header is folded over two lines"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX y\r\n\r\n", "a header has no colon"),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", name),
            ("GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n", name),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", control),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", control),
            ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", control),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: \x0ca\r\n\r\n", control),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                "there is a Content-Length beside Transfer-Encoding",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
                "there is a Content-Length beside Transfer-Encoding",
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", twice),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", twice),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", number),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", number),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", number),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n", number),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", number),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n", number),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", encoding),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", encoding),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", control),
            (
                "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
                "HTTP/1.0 has no Transfer-Encoding",
            ),
            ("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nauthorization: b\r\n\r\n", twice),
        ] {
            assert_eq!(checked(head.as_bytes()), Err(Refusal::Malformed(why)), "{head}");
        }
        assert_eq!(checked(long.as_bytes()), Err(Refusal::TooLarge));
    }

    #[test]
    fn a_head_is_found_in_any_pieces_and_is_bounded() {
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /next";
        for cut in 0..bytes.len() {
            let first = end(&bytes[..cut], 0, 64).unwrap();
            assert_eq!(first, (cut >= 27).then_some(27), "{cut}");
            if first.is_none() {
                assert_eq!(end(bytes, cut, 64), Ok(Some(27)), "{cut}");
            }
        }
        assert_eq!(end(bytes, 0, 27), Ok(Some(27)));
        assert_eq!(end(bytes, 0, 26), Err(Refusal::TooLarge));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..256)) {
            let _ = end(&bytes, 0, 128);
            let _ = check(&bytes);
        }

        #[test]
        fn no_text_that_looks_like_a_head_makes_it_panic(
            text in r"(GET|POST) /[a-z?#%]{0,4} HTTP/1\.[01]\r\n((Host|Content-Length|Transfer-Encoding)[ :]{1,3}[a-z0-9,]{0,8}\r?\n){0,4}\r\n"
        ) {
            if let Ok(Some(len)) = end(text.as_bytes(), 0, 512) {
                let _ = check(&text.as_bytes()[..len]);
            }
        }
    }
}
