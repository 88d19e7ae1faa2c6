//! The HTTP API: login, catalogue and bind over real HTTP, on real kcp.

mod bad_inputs;
mod flow;

use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    [flow::tests(), bad_inputs::tests()].concat()
}
