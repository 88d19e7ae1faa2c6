//! The bad inputs of the HTTP API (security.md section 2), one test per row and named after it, against the running
//! backend. Rows 46 to 56 and 61 to 65 are not about this API or have suites of their own.
//!
//! Most rows share one site, see [`scene`]. A row that changes what its site is, or measures it, has its own.

mod answers;
mod bind;
mod bodies;
mod callers;
mod consumers;
mod crowds;
mod forged;
mod id_tokens;
mod issuer;
mod kubernetes;
mod login;
mod raw;
mod scene;
mod secrets;
mod session;
mod tls;
mod transport;

use futures::FutureExt as _;

use crate::Test;
use crate::suite::messages::refused_at_start;

pub(crate) fn tests() -> Vec<Test> {
    // What takes longest begins first.
    [
        crowds::tests(),
        issuer::tests(),
        bind::tests(),
        kubernetes::tests(),
        consumers::tests(),
        login::tests(),
        id_tokens::tests(),
        session::tests(),
        forged::tests(),
        tls::tests(),
        answers::tests(),
        callers::tests(),
        bodies::tests(),
        transport::tests(),
        secrets::tests(),
        vec![("http::bad::67_an_isolation_that_is_none_is_refused_at_start", || {
            let flags = &["--frontend-disabled=true", "--isolation=prefx"];
            refused_at_start(flags, &["Prefixed, Namespaced and None"]).boxed()
        })],
    ]
    .concat()
}
