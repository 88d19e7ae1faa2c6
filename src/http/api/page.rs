//! The page, out of the binary.

use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;

use super::call::Call;
use crate::http::error::ApiError;
use crate::http::external_url::loopback_callback;

const HTML: &str = include_str!("../page/index.html");
const STYLE: &str = include_str!("../page/page.css");
const SCRIPT: &str = include_str!("../page/page.js");

/// `GET /`. The page of `kubectl bind` sends the browser to `redirect_url` in the end (contract http.md
/// 4.5), so one that is not its loopback port is refused here (security.md bad input 28).
pub(super) async fn page(call: Call) -> Result<Response, ApiError> {
    let params = call.params()?;
    if !params.redirect_url.is_empty() && loopback_callback(&params.redirect_url).is_none() {
        return Err(ApiError::bad_request("Invalid redirect_url").with_details(
            "redirect_url must be http://127.0.0.1:<port>/callback; open this page with kubectl bind",
        ));
    }
    Ok(file("text/html; charset=utf-8", HTML))
}

/// `GET /assets/page.css`.
pub(super) async fn style() -> Response {
    file("text/css; charset=utf-8", STYLE)
}

/// `GET /assets/page.js`.
pub(super) async fn script() -> Response {
    file("text/javascript; charset=utf-8", SCRIPT)
}

fn file(kind: &'static str, content: &'static str) -> Response {
    ([(CONTENT_TYPE, kind)], content).into_response()
}
