//! The HTTP API: login, catalogue and bind over real HTTP, on real kcp.

mod browser;
mod flow;
mod replicas;

use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    [browser::tests(), flow::tests(), replicas::tests()].concat()
}
