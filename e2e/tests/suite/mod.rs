//! The tests by topic. A new topic is a module with `pub(crate) fn tests()`, listed here.

mod apart;
mod binding;
mod cleanup;
mod crash;
mod doctor;
mod exports;
mod faults;
mod harness;
mod http;
mod init;
mod lifecycle;
mod messages;
mod namespaces;
mod offers;
mod outcomes;
mod place;
mod proxy;
mod said;
mod schemas;
mod shards;
mod takeover;
mod users;
mod walkthroughs;
mod web;

use crate::Test;

/// All tests.
pub(crate) fn tests() -> Vec<Test> {
    [
        harness::tests(),
        apart::tests(),
        binding::tests(),
        cleanup::tests(),
        crash::tests(),
        doctor::tests(),
        exports::tests(),
        faults::tests(),
        http::tests(),
        init::tests(),
        lifecycle::tests(),
        messages::tests(),
        namespaces::tests(),
        offers::tests(),
        outcomes::tests(),
        proxy::tests(),
        schemas::tests(),
        shards::tests(),
        takeover::tests(),
        users::tests(),
        walkthroughs::tests(),
        web::tests(),
    ]
    .concat()
}
