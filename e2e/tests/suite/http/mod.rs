//! The HTTP API: login, catalogue and bind over real HTTP, on real kcp.

mod flow;
mod replicas;

use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    [flow::tests(), replicas::tests()].concat()
}
