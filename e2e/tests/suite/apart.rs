//! Tenants apart: what one consumer does or has never gives or takes anything of another (design invariant 4, contract
//! konnector.md 9, step 15).

use anyhow::{Context as _, Result, ensure};
use e2e::backend::Backend;
use e2e::binding::{self, Bound, Request};
use e2e::client::Access;
use e2e::driver::{self, Consumer, Isolation, Place, Settings, Use};
use e2e::kcp::Claims;
use e2e::kubernetes::Kubernetes;
use e2e::object::{self, core};
use e2e::provider::{self, Provider};
use e2e::service::{self, Exported, GROUP, Scope, Source};
use e2e::{dirs, stack};
use futures::FutureExt as _;
use kube::Client;
use kube::api::DeleteParams;
use serde_json::json;

use crate::Test;

/// The consumer namespace of each.
const TOWN: &str = "wild-west";
/// Cluster-wide rights that cannot harm another consumer's objects: names are prefixed, and nothing is claimed.
const WIDE: Settings = Settings {
    informers: Scope::Cluster,
    isolation: Isolation::Prefixed,
    resource: Scope::Namespaced,
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("apart::two_consumers_of_a_workspace_have_nothing_of_each_other_at_any_moment", || {
            in_one_workspace("apart", Settings::APART, &["Secret", "ConfigMap"]).boxed()
        }),
        ("apart::two_consumers_of_a_workspace_with_cluster_wide_rights_both_keep_theirs", || {
            in_one_workspace("apart-wide", WIDE, &[]).boxed()
        }),
        ("apart::two_consumers_of_a_kubernetes_have_nothing_of_each_other_at_any_moment", || {
            on_kubernetes().boxed()
        }),
        ("apart::a_consumer_of_another_workspace_is_refused_everything", || {
            in_two_workspaces().boxed()
        }),
    ]
}

/// A consumer in the middle of its work.
struct Tenant {
    admin: Client,
    bound: Bound,
    usage: Use,
    service: String,
}

impl Tenant {
    /// Binds, exports, and has an object and a claimed object of each kind in one service namespace.
    async fn settle(
        admin: &Client,
        name: &str,
        settings: Settings,
        group: &str,
        claims: &[&'static str],
    ) -> Result<Self> {
        let bound = binding::bind(admin, &Request::new(name, name)).await?;
        let exported = Exported::of(group, settings.resource);
        let usage = bound.consumer.take_up("cow", settings, &exported, claims).await?;
        bound.consumer.acknowledge(&usage.export).await?;
        let service = usage.service_namespace(TOWN).await?;
        usage.create_object(TOWN, &service, "cow", json!({"intent": "ride"})).await?;
        for kind in claims {
            usage.create_claimed(kind, TOWN, &service, "claimed").await?;
        }
        Ok(Self { admin: admin.clone(), bound, usage, service })
    }

    /// Every right of the konnector is still there.
    async fn keeps(&self, when: &str) -> Result<()> {
        let kept = self.usage.check_rights_kept(&self.admin, &[&self.service]).await;
        kept.with_context(|| format!("rights {when}"))
    }

    /// What is nobody else's.
    async fn belongings(&self) -> Result<Vec<Place>> {
        self.usage.belongings(&self.admin, &[&self.service]).await
    }

    /// Each verb on everything of `other` is refused.
    async fn refused(&self, other: &Self) -> Result<()> {
        self.bound.consumer.check_refused(&other.belongings().await?).await
    }

    /// The namespaces that no other consumer may have a role in.
    fn namespaces(&self) -> [&str; 2] {
        [self.usage.contract(), &self.service]
    }
}

/// Two consumers, one of which comes, binds again and is removed while the other works.
async fn come_and_go(
    admin: &Client,
    settings: Settings,
    group: &str,
    claims: &[&'static str],
) -> Result<()> {
    let name = stack::unique("tenant");
    let (first_name, second_name) = (format!("{name}-a"), format!("{name}-b"));
    let history = driver::watch_rbac(admin).await?;
    let first = Tenant::settle(admin, &first_name, settings, group, claims).await?;
    first.keeps("alone").await?;
    let second = Tenant::settle(admin, &second_name, settings, group, claims).await?;
    first.keeps("after another came").await?;
    second.keeps("as the second").await?;
    first.refused(&second).await?;
    second.refused(&first).await?;

    let again = format!("{second_name}-again");
    let rebound = binding::bind(admin, &Request::new(&again, &second_name)).await?;
    ensure!(rebound.kubeconfig == second.bound.kubeconfig, "another credential after a rebind");
    first.keeps("after another bound again").await?;
    second.keeps("after it bound again").await?;
    first.refused(&second).await?;
    second.refused(&first).await?;

    let namespaces = object::api(admin, &core("Namespace"), None);
    let gone = second.usage.contract();
    namespaces.delete(gone, &DeleteParams::default()).await?;
    object::wait_gone(&namespaces, gone).await?;
    first.keeps("after another was removed").await?;
    // A newcomer is served only after the removal was seen, and has no claim to the name.
    let third = Tenant::settle(admin, &format!("{name}-c"), settings, group, claims).await?;
    first.keeps("after a third came").await?;
    first.refused(&third).await?;
    third.refused(&first).await?;

    if !settings.cluster_wide() {
        let tenants = [&first, &second, &third];
        for (index, tenant) in tenants.iter().enumerate() {
            let others = tenants.iter().enumerate().filter(|(other, _)| *other != index);
            let foreign: Vec<_> = others.flat_map(|(_, other)| other.namespaces()).collect();
            tenant.usage.check_rbac_history(&history, &foreign)?;
        }
    }
    Ok(())
}

async fn in_one_workspace(name: &str, settings: Settings, claims: &[&'static str]) -> Result<()> {
    let [scope, isolation] = settings.flags();
    let provider = Provider::start(name, &[&scope, &isolation, Source::Schemas.flag()]).await?;
    let workspace = provider.tenant(name, Claims::All).await?;
    provider.serve(&workspace, Source::Schemas).await?;
    let admin = provider.kcp.client(&workspace.cluster).await?;
    let done = come_and_go(&admin, settings, GROUP, claims).await;
    done.map_err(|error| provider.backend.fail(format!("{error:#}")))
}

async fn on_kubernetes() -> Result<()> {
    let name = stack::unique("apart-kubernetes");
    let kubernetes = Kubernetes::start(&dirs::fresh(&name)?).await?;
    let admin = kubernetes.client().await?;
    let base = provider::install(&kubernetes, &name).await?;
    service::establish(&admin, &Exported::all(GROUP).map(|exported| exported.crd())).await?;
    let flags = [base, Settings::APART.flags().to_vec()].concat();
    let backend = Backend::start(&name, flags).await?;
    let done = come_and_go(&admin, Settings::APART, GROUP, &["Secret", "ConfigMap"]).await;
    done.map_err(|error| backend.fail(format!("{error:#}")))?;
    kubernetes.kill().await
}

/// The same name, the same identity, the same export in two workspaces: one credential is good for one of them.
async fn in_two_workspaces() -> Result<()> {
    let settings = Settings::APART;
    let [scope, isolation] = settings.flags();
    let flags = [scope.as_str(), &isolation, Source::Schemas.flag()];
    let provider = Provider::start("apart-two", &flags).await?;
    let settle = async || {
        let workspace = provider.tenant("apart-two", Claims::All).await?;
        provider.serve(&workspace, Source::Schemas).await?;
        let admin = provider.kcp.client(&workspace.cluster).await?;
        let settled = Tenant::settle(&admin, "twin", settings, GROUP, &["Secret"]).await;
        settled.map_err(|error| provider.backend.fail(format!("{error:#}")))
    };
    let (first, second) = (settle().await?, settle().await?);
    for (from, to) in [(&first, &second), (&second, &first)] {
        let server = to.bound.consumer.server().to_owned();
        let access = Access::from_kubeconfig(&from.bound.kubeconfig, None)?.at(server);
        let stranger = Consumer::new(&access.kubeconfig(Some(to.usage.contract()))).await?;
        stranger.check_refused(&to.belongings().await?).await?;
    }
    let namespaces = object::api(&second.admin, &core("Namespace"), None);
    namespaces.delete(second.usage.contract(), &DeleteParams::default()).await?;
    object::wait_gone(&namespaces, second.usage.contract()).await?;
    first.keeps("after the twin in the other workspace was removed").await
}
