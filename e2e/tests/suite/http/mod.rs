//! The HTTP API: login, catalogue and bind over real HTTP, on real kcp.

mod flow;

use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    flow::tests()
}
