//! What requests with cookies that are refused cost the primary.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use futures_util::future::BoxFuture;
use sea_orm::{ActiveModelTrait, DbErr, EntityTrait};
use sealane::RoutedConnection;
use sealane_tests::{
    BROKEN_PROMISE, Cluster,
    fleet::{self, boat, statements},
    watch::probe_pattern,
};
use sealane_tower::SessionLayer;
use tokio::task::JoinSet;
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneService};

const KEY: &str = "a key that only the tests of sealane have";
const GARBAGE: &str = "sealane=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A page; `db` is the handle of the whole application.
type Page = fn(RoutedConnection) -> BoxFuture<'static, Result<(), DbErr>>;

/// A page for which nothing is read.
fn fixed(_: RoutedConnection) -> BoxFuture<'static, Result<(), DbErr>> {
    Box::pin(async { Ok(()) })
}

/// A page for which five statements read.
fn reading(db: RoutedConnection) -> BoxFuture<'static, Result<(), DbErr>> {
    Box::pin(async move {
        for _ in 0..5 {
            boat::Entity::find_by_id(1).one(&db).await?;
        }
        Ok(())
    })
}

struct Service {
    cluster: Cluster,
    db: RoutedConnection,
    layer: SessionLayer,
}

impl Service {
    async fn start() -> anyhow::Result<Self> {
        let cluster = fleet::moor().await?;
        let db = sealane::connect(fleet::config(&cluster).token_key(KEY)).await?;
        fleet::ready(&db).await?;
        let layer = SessionLayer::new(&db)?;
        Ok(Service { cluster, db, layer })
    }

    /// Whether the answer to a request with a refused cookie brings a new one.
    fn request(&self, page: Page) -> BoxFuture<'static, anyhow::Result<bool>> {
        let (db, layer) = (self.db.clone(), self.layer.clone());
        let service = service_fn(move |_: Request<()>| {
            let serving = page(db.clone());
            async move {
                let mut response = Response::new(String::new());
                if serving.await.is_err() {
                    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut request = Request::new(());
        request.headers_mut().insert(header::COOKIE, HeaderValue::from_static(GARBAGE));
        let answer = BoxCloneService::new(layer.layer(service)).oneshot(request);
        Box::pin(async move {
            let response = answer.await?;
            ensure!(response.status() == StatusCode::OK, "the page failed");
            Ok(response.headers().contains_key(header::SET_COOKIE))
        })
    }

    /// `count` requests a second apart in all, so many at once; how many brought a new cookie.
    async fn requests(&self, count: u32, page: Page) -> anyhow::Result<usize> {
        let (mut given, mut pause) = (0, tokio::time::interval(Duration::from_secs(1) / count));
        for _ in 0..count {
            pause.tick().await;
            given += usize::from(self.request(page).await?);
        }
        Ok(given)
    }

    /// Probes of the primary while `doing` goes on.
    async fn probes_during<T>(
        &self,
        doing: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<(i64, T)> {
        // Whatever was waited for before is forgotten by then.
        tokio::time::sleep(Duration::from_secs(2)).await;
        fleet::forget_statements(&self.cluster).await?;
        let outcome = doing.await?;
        let pattern = probe_pattern(self.cluster.engine());
        Ok((statements(self.cluster.primary(), pattern).await?, outcome))
    }

    fn reads_on_primary(&self) -> anyhow::Result<u64> {
        let status = self.db.status();
        Ok(status.endpoints.first().context("no endpoint")?.reads)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_reads_nothing_costs_no_probe_whatever_the_cookie() -> anyhow::Result<()> {
    let service = Service::start().await?;
    let (probes, given) = service.probes_during(service.requests(43, fixed)).await?;
    println!("43 requests for a fixed page with garbage: {probes} probes, {given} cookies");
    ensure!(probes <= 3, "{probes} probes of the primary in a second");
    ensure!(given == 0, "{given} cookies for pages that read nothing");

    service.cluster.primary().freeze().await?;
    let begun = Instant::now();
    for _ in 0..20 {
        service.request(fixed).await?;
    }
    let took = begun.elapsed();
    service.cluster.primary().thaw().await?;
    println!("20 of them while the primary hangs: {took:?}");
    ensure!(took < Duration::from_millis(500), "20 fixed pages took {took:?}");
    Ok(())
}

/// Replicas serve them, with few proofs for all together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_refused_cookies_share_their_proofs() -> anyhow::Result<()> {
    const REQUESTS: usize = 600;
    let service = std::sync::Arc::new(Service::start().await?);
    let before = service.reads_on_primary()?;
    let flood = async {
        let begun = Instant::now();
        let (mut flood, mut given) = (JoinSet::new(), 0);
        for _ in 0..20 {
            let service = std::sync::Arc::clone(&service);
            flood.spawn(async move {
                let mut given = 0;
                for _ in 0..REQUESTS / 20 {
                    given += usize::from(service.request(reading).await?);
                }
                anyhow::Ok(given)
            });
        }
        while let Some(outcome) = flood.join_next().await {
            given += outcome??;
        }
        Ok((given, begun.elapsed()))
    };
    let (probes, (given, took)) = service.probes_during(flood).await?;
    let reads = service.reads_on_primary()? - before;
    let rate = probes as f64 / took.as_secs_f64();
    println!(
        "{REQUESTS} requests with garbage in {took:?}: {probes} probes of the primary \
         ({rate:.0} a second), {reads} of {} reads there, {given} cookies",
        5 * REQUESTS
    );
    ensure!(given == REQUESTS, "{given} of them were replaced");
    ensure!(rate <= 60.0, "{rate:.0} probes of the primary a second");
    // A busy machine proves late, and then half of them are there; without turns nearly all.
    ensure!(reads <= 5 * REQUESTS as u64 * 2 / 3, "{reads} reads on the primary");
    Ok(())
}

/// The proofs are those of the requests themselves: whoever has just written elsewhere, and lost his
/// token on the way, reads what he wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_proof_is_no_older_than_the_request() -> anyhow::Result<()> {
    let service = std::sync::Arc::new(Service::start().await?);
    let elsewhere = sealane::connect(fleet::config(&service.cluster)).await?;
    let mut users = JoinSet::new();
    for _ in 0..8 {
        let (service, elsewhere) = (std::sync::Arc::clone(&service), elsewhere.clone());
        users.spawn(async move {
            let mut missed = 0;
            for _ in 0..40 {
                let id = fleet::boat("far").insert(&elsewhere.session()).await?.id;
                let reader = service.db.resume("AAAAAAAA").session;
                missed += usize::from(boat::Entity::find_by_id(id).one(&reader).await?.is_none());
            }
            anyhow::Ok(missed)
        });
    }
    let mut missed = 0;
    while let Some(outcome) = users.join_next().await {
        missed += outcome??;
    }
    ensure!(missed == 0, "{BROKEN_PROMISE}: {missed} of 320 writes were missed");
    Ok(())
}
