//! The HTTP API: login, catalogue and bind over real HTTP, on real kcp.

mod bad_inputs;
mod browser;
mod flow;
mod kubectl_bind;
mod replicas;

use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    [bad_inputs::tests(), browser::tests(), flow::tests(), replicas::tests()].concat()
}
