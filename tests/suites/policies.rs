//! Policies that an application writes itself, on real clusters: which replicas a read may choose
//! from, how fresh they must be, and which one of them serves it.

#[path = "policies/primary_reads.rs"]
mod primary_reads;
#[path = "policies/stale.rs"]
mod stale;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use std::time::Duration;

use anyhow::ensure;
use futures_util::TryStreamExt;
use sea_orm::{
    AccessMode, ActiveModelTrait, ConnectionTrait, DbBackend, EntityTrait, PaginatorTrait,
    QueryOrder, Statement, TransactionTrait,
};
use sealane::{
    AttemptOutcome, Balancer, ByGroup, Candidate, Candidates, Config, Consistency,
    ConsistencyPolicy, CostClass, EndpointId, EndpointSet, Moment, ReadRequest, Refusal, Replica,
    Routable, Route, RoutedConnection, RoutingPolicy, Topology, Verdict, WeightedRoundRobin,
};
use sealane_tests::{
    BROKEN_PROMISE, Cluster, Server, eventually,
    fleet::{self, boat},
};

const READS: u64 = 40;

/// A primary and two replicas, the second of them in zone `far`, in the group `reports`, or with
/// another weight.
fn config(cluster: &Cluster, second: impl FnOnce(Replica) -> Replica) -> Config {
    let [one, two] = [0, 1].map(|n| &*cluster.replicas()[n].url);
    fleet::config_of(
        Replica::new(&*cluster.primary().url),
        [Replica::new(one).zone("near"), second(Replica::new(two).zone("far"))],
    )
    .ejection(fleet::never_ejected())
}

/// How many reads the primary and the replicas have served.
fn served(db: &RoutedConnection) -> [u64; 3] {
    let status = db.status();
    ["primary", "replica-1", "replica-2"]
        .map(|name| status.endpoints.iter().find(|it| it.name == name).map_or(0, |it| it.reads))
}

/// What `reads` adds to that.
async fn served_by(
    db: &RoutedConnection,
    reads: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<[u64; 3]> {
    let before = served(db);
    reads().await?;
    let after = served(db);
    Ok([0, 1, 2].map(|n| after[n] - before[n]))
}

async fn light(db: &RoutedConnection) -> anyhow::Result<()> {
    for _ in 0..READS {
        boat::Entity::find_by_id(1).one(db).await?;
    }
    Ok(())
}

async fn connected(config: Config) -> anyhow::Result<RoutedConnection> {
    let db = sealane::connect(config).await?;
    let all_up = async || {
        let up = db.status().endpoints.into_iter();
        Ok(up.filter(|it| it.condition == sealane::Condition::Serving).count() == 3)
    };
    eventually(Duration::from_secs(10), "all endpoints serve", all_up).await?;
    Ok(db.with_consistency(Consistency::Eventual))
}

/// Heavy reads go to the replicas for reports.
#[derive(Debug)]
struct HeavyApart;

impl RoutingPolicy for HeavyApart {
    fn name(&self) -> &'static str {
        "heavy-apart"
    }

    fn route(&self, read: &Routable<'_>, topology: &Topology) -> Route {
        let mut route = ByGroup.route(read, topology);
        if read.cost.is_some_and(|cost| cost.class() == CostClass::Heavy) {
            route.among = topology.group("reports").unwrap_or(route.among);
        }
        route
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_routing_policy_sends_heavy_reads_to_their_group() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let db = connected(config(&cluster, |it| it.group("reports")).routing(HeavyApart)).await?;
    ensure!(served_by(&db, async || light(&db).await).await? == [0, READS, 0], "light reads");
    let heavy = async || {
        for _ in 0..READS {
            // Counts a whole table.
            boat::Entity::find().count(&db).await?;
        }
        Ok(())
    };
    let served = served_by(&db, heavy).await?;
    ensure!(served == [0, 0, READS], "heavy reads: {served:?}");
    let explained = db.explain("SELECT count(*) FROM boat");
    ensure!(explained.routing == "heavy-apart", "{explained}");
    ensure!(explained.first_choice() == Some("replica-2"), "{explained}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_chooses_a_group_for_entities_and_for_transactions_that_read() -> anyhow::Result<()>
{
    let cluster = fleet::moor().await?;
    let db = connected(config(&cluster, |it| it.group("reports").tag("big"))).await?;
    let reports = db.group("reports");
    let served = served_by(&db, async || light(&reports).await).await?;
    ensure!(served == [0, 0, READS], "by the handle: {served:?}");
    let scoped = async || sealane::scope(db.session().group("reports"), light(&db)).await;
    let served = served_by(&db, scoped).await?;
    ensure!(served == [0, 0, READS], "by the scope: {served:?}");
    let transactions = async || {
        for _ in 0..READS {
            let txn = reports.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
            boat::Entity::find().order_by_asc(boat::Column::Id).one(&txn).await?;
            txn.commit().await?;
        }
        Ok(())
    };
    let served = served_by(&db, transactions).await?;
    ensure!(served == [0, 0, READS], "in transactions: {served:?}");
    let streams = async || {
        for _ in 0..READS {
            let mut boats = boat::Entity::find().stream(&reports).await?;
            while boats.try_next().await?.is_some() {}
        }
        Ok(())
    };
    let served = served_by(&db, streams).await?;
    ensure!(served == [0, 0, READS], "streams: {served:?}");
    // A tag chooses among the replicas of the group, and of no other.
    for (tag, expected) in [("big", [0, READS, 0]), ("small", [0, READS, 0])] {
        let served = served_by(&db, async || light(&db.tagged(tag)).await).await?;
        ensure!(served == expected, "tagged {tag}: {served:?}");
    }
    let explained = db.group("rapports").explain("SELECT 1");
    ensure!(explained.unknown_group.as_deref() == Some("rapports"), "{explained}");
    Ok(())
}

/// Everything may be old, whoever asks.
#[derive(Debug)]
struct AllOld;

impl RoutingPolicy for AllOld {
    fn name(&self) -> &'static str {
        "all-old"
    }

    fn route(&self, read: &Routable<'_>, topology: &Topology) -> Route {
        let mut route = ByGroup.route(read, topology);
        route.consistency = Consistency::Eventual;
        route
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_policy_takes_a_read_off_the_primary_that_asks_for_it() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let db = connected(config(&cluster, |it| it).routing(AllOld)).await?;
    let primary = db.on_primary();
    let served = served_by(&db, async || light(&primary).await).await?;
    ensure!(served == [READS, 0, 0], "{served:?}");
    let [on_primary, ..] = served_by(&db, async || light(&db.on_replicas()).await).await?;
    ensure!(on_primary == 0, "{on_primary} reads for replicas ran on the primary");

    let nobody = connected(config(&cluster, |it| it).routing(Nowhere)).await?;
    let refused = light(&nobody.on_replicas()).await;
    ensure!(refused.is_err(), "it ran on the primary");
    let served = served_by(&nobody, async || light(&nobody).await).await?;
    ensure!(served == [READS, 0, 0], "without a replica: {served:?}");
    Ok(())
}

/// No replica will do.
#[derive(Debug)]
struct Nowhere;

impl RoutingPolicy for Nowhere {
    fn name(&self) -> &'static str {
        "nowhere"
    }

    fn route(&self, read: &Routable<'_>, _: &Topology) -> Route {
        Route::new(EndpointSet::EMPTY, read.consistency, read.fallback)
    }
}

/// Only replicas that show what there was when the page was made.
#[derive(Debug)]
struct SincePage(Moment);

impl ConsistencyPolicy for SincePage {
    fn name(&self) -> &'static str {
        "since-page"
    }

    fn judge(&self, candidate: &Candidate<'_>, _: &ReadRequest) -> Verdict {
        candidate.shows(self.0)
    }
}

/// None of the replicas in a zone.
#[derive(Debug)]
struct NotIn(&'static str);

impl ConsistencyPolicy for NotIn {
    fn name(&self) -> &'static str {
        "not-in"
    }

    fn judge(&self, candidate: &Candidate<'_>, _: &ReadRequest) -> Verdict {
        match candidate.endpoint().zone() == Some(self.0) {
            true => Err(Refusal::Declined { why: "is too far away".into() }),
            false => Ok(()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consistency_policy_narrows_what_may_serve() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let db = connected(config(&cluster, |it| it)).await?;
    let near = db.with_policy(NotIn("far"));
    let served = served_by(&db, async || light(&near).await).await?;
    ensure!(served == [0, READS, 0], "without the far one: {served:?}");
    let explained = near.explain("SELECT 1").to_string();
    ensure!(explained.contains("replica-2: no, it is too far away"), "{explained}");

    // Whoever has seen a page reads nothing older, though it reads eventually; and by another handle
    // something was written meanwhile.
    cluster.pause_replay().await?;
    // MySQL and MariaDB read back what they insert: not eventually.
    let writer = db.session().with_consistency(Consistency::ReadYourWrites);
    let id = fleet::boat("new").insert(&writer).await?.id;
    let page = db.with_policy(SincePage(db.now()));
    let missed = async |db: &RoutedConnection| {
        let mut missed = 0;
        for _ in 0..READS {
            missed += u64::from(boat::Entity::find_by_id(id).one(db).await?.is_none());
        }
        anyhow::Ok(missed)
    };
    let mut by_page = 0;
    let reads = async || {
        by_page = missed(&page).await?;
        Ok(())
    };
    let [on_primary, ..] = served_by(&db, reads).await?;
    let by_any = missed(&db).await?;
    cluster.resume_replay().await?;
    ensure!(by_any > READS / 2, "the replicas are not behind: {by_any} reads missed the row");
    ensure!(by_page == 0, "{BROKEN_PROMISE}: {by_page} reads were older than the page");
    ensure!(on_primary == READS, "the primary served {on_primary} of them");
    let leaves = async || Ok(served_by(&db, async || light(&page).await).await?[0] == 0);
    eventually(Duration::from_secs(10), "the page is read on replicas", leaves).await
}

/// The nearest replica, and what became of the reads.
#[derive(Debug, Default)]
struct Near {
    far: AtomicBool,
    served: AtomicU64,
    failed: AtomicU64,
    abandoned: AtomicU64,
}

impl Balancer for Near {
    fn name(&self) -> &'static str {
        "near"
    }

    fn pick(&self, candidates: &Candidates<'_>, _: u64) -> Option<EndpointId> {
        let zone = if self.far.load(Ordering::Relaxed) { "far" } else { "near" };
        let nearest = candidates.iter().min_by_key(|it| it.endpoint().zone() != Some(zone))?;
        Some(nearest.id())
    }

    fn ended(&self, _: EndpointId, outcome: AttemptOutcome) {
        let count = match outcome {
            AttemptOutcome::Served(_) => &self.served,
            AttemptOutcome::Failed => &self.failed,
            _ => &self.abandoned,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_chooses_by_zone_and_hears_how_reads_end() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let near = Arc::new(Near::default());
    let db = connected(config(&cluster, |it| it).balancer(Arc::clone(&near))).await?;
    let heard =
        || [&near.served, &near.failed, &near.abandoned].map(|it| it.load(Ordering::Relaxed));
    let before = heard();
    let served = served_by(&db, async || light(&db).await).await?;
    ensure!(served == [0, READS, 0], "near: {served:?}");
    ensure!(heard()[0] - before[0] == READS, "heard: {:?}", heard());
    near.far.store(true, Ordering::Relaxed);
    let served = served_by(&db, async || light(&db).await).await?;
    ensure!(served == [0, 0, READS], "far: {served:?}");

    // A statement that is given up on, and a server that is gone.
    let before = heard();
    let read = db.query_one_raw(long_read(&db));
    let given_up = tokio::time::timeout(Duration::from_millis(100), read).await;
    ensure!(given_up.is_err(), "it was quick");
    let abandoned = async || Ok(heard()[2] > before[2]);
    eventually(Duration::from_secs(5), "it is heard of", abandoned).await?;
    // One read after the other, so that one of them comes before the probes see that it is gone; but
    // the probes may be quicker.
    let mut is_heard = false;
    for _ in 0..5 {
        let before = heard();
        kill_beside_reads(&db, &cluster.replicas()[1]).await?;
        is_heard = heard()[1] > before[1];
        if is_heard {
            break;
        }
        cluster.replicas()[1].start().await?;
        fleet::all_up(&db).await?;
    }
    ensure!(is_heard, "no failure was heard of: {:?}", heard());
    Ok(())
}

async fn kill_beside_reads(db: &RoutedConnection, replica: &Server) -> anyhow::Result<()> {
    let killed = AtomicBool::new(false);
    let reads = async {
        while !killed.load(Ordering::Relaxed) {
            light(db).await?;
        }
        light(db).await
    };
    let kill = async {
        let outcome = replica.kill().await;
        killed.store(true, Ordering::Relaxed);
        outcome
    };
    tokio::try_join!(reads, kill)?;
    Ok(())
}

/// A read that takes some seconds.
fn long_read(db: &RoutedConnection) -> Statement {
    let sql = match db.get_database_backend() {
        DbBackend::Postgres => "SELECT count(*) FROM generate_series(1, 30000000)",
        _ => {
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) \
             SELECT count(*) FROM n a, n b, n c"
        }
    };
    Statement::from_string(db.get_database_backend(), sql)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_share_the_reads() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    // The default balancer also weighs how slow each replica is just now.
    let config = config(&cluster, |it| it.weight(3)).balancer(WeightedRoundRobin::default());
    let db = connected(config).await?;
    let many = async || {
        for _ in 0..10 {
            light(&db).await?;
        }
        Ok(())
    };
    let [on_primary, light, heavy] = served_by(&db, many).await?;
    println!("of 400 reads the replica of weight 1 served {light}, that of weight 3 {heavy}");
    ensure!(on_primary == 0, "{on_primary} on the primary");
    ensure!((295..=305).contains(&heavy), "{heavy} of 400");
    Ok(())
}
