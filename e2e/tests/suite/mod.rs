//! The tests by topic. A new topic is a module with `pub(crate) fn tests()`, listed here.

mod binding;
mod crash;
mod faults;
mod harness;
mod init;
mod lifecycle;
mod messages;
mod proxy;
mod users;

use crate::Test;

/// All tests.
pub(crate) fn tests() -> Vec<Test> {
    [
        harness::tests(),
        binding::tests(),
        crash::tests(),
        faults::tests(),
        init::tests(),
        lifecycle::tests(),
        messages::tests(),
        proxy::tests(),
        users::tests(),
    ]
    .concat()
}
