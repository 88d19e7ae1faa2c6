//! Where nothing is offered because of `APIBinding`s, though it may have been with other flags.
//!
//! Watches: our role for reading schemas, Clusters. Writes: takes that role and the condition `ServicesOffered` of the
//! Cluster away. Promises: templates and copies stay as they are, and go with their `APIBinding`.

use std::sync::Arc;
use std::time::Duration;

use super::error::Error;
use super::reader::leave;
use super::status::{Offering, say};
use crate::kinds::Kinds;
use crate::runtime::cluster::ObjKey;
use crate::runtime::controller::Reconciler;
use crate::runtime::error::Retry;
use crate::runtime::fleet::Cluster;

/// Takes back what nobody uses without offers.
pub(in crate::controllers) struct Off {
    pub(in crate::controllers) kinds: Arc<Kinds>,
}

impl Reconciler for Off {
    type Error = Error;

    const NAME: &'static str = "apibinding";

    async fn reconcile(&self, cluster: &Cluster, _: &ObjKey) -> Result<Option<Duration>, Error> {
        if !cluster.info.leaving {
            leave(&self.kinds, cluster).await?;
            say(&self.kinds, cluster, Offering::Not(None)).await?;
        }
        Ok(None)
    }

    fn retry(error: &Error) -> Retry {
        error.retry()
    }
}
