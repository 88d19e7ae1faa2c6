//! The `Authorization` header (RFC 6750, 2.1).

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::error::{Error, Refusal};
use super::token::MAX_BYTES;

/// The scheme, in whatever case (RFC 9110, 11.1).
const SCHEME: &str = "bearer";

/// The token of the request; none without the header. A header that is there and of no use is an
/// error: falling back to a cookie would let a request mean two users.
pub(super) fn token(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::ManyAuthorizations);
    }
    let value = value.to_str().map_err(|_| Error::Authorization)?;
    let (scheme, rest) = value.split_once(' ').ok_or(Error::Authorization)?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err(Error::Authorization);
    }
    let token = rest.trim_matches(' ');
    if token.len() > MAX_BYTES {
        return Err(Refusal::TooLarge.into());
    }
    // The characters of base64url and the dots between: `b64token` of RFC 6750, without what no JWT has.
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if token.is_empty() || !token.bytes().all(fits) {
        return Err(Error::Authorization);
    }
    Ok(Some(token))
}
