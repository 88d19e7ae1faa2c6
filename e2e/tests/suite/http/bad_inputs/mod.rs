//! The bad inputs of the HTTP API (security.md section 2), one test per row and named after it, against the running
//! backend. Rows 46 to 56, 61 to 65 and 67 are not about this API or have suites of their own.
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

use crate::Test;

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
    ]
    .concat()
}
