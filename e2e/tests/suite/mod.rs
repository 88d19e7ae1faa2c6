//! The tests by topic. A new topic is a module with `pub(crate) fn tests()`, listed here.

mod apart;
mod binding;
mod crash;
mod exports;
mod faults;
mod harness;
mod init;
mod lifecycle;
mod messages;
mod outcomes;
mod proxy;
mod said;
mod schemas;
mod users;

use crate::Test;

/// All tests.
pub(crate) fn tests() -> Vec<Test> {
    [
        harness::tests(),
        apart::tests(),
        binding::tests(),
        crash::tests(),
        exports::tests(),
        faults::tests(),
        init::tests(),
        lifecycle::tests(),
        messages::tests(),
        outcomes::tests(),
        proxy::tests(),
        schemas::tests(),
        users::tests(),
    ]
    .concat()
}
