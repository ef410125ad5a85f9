//! Reads that take a while, and how many of them a server is running.

use sea_orm::{DbErr, EntityTrait};
use sealane::RoutedConnection;
use sealane_tests::{
    Cluster, Engine, Server,
    fleet::{self, boat},
};

/// Finds the statements on the servers.
const MARK: &str = "/* a long look */";
/// The number of boats with this name.
const FLEET: usize = 60;

/// Makes the boats that the reads look at.
pub async fn launch(db: &RoutedConnection, cluster: &Cluster) -> anyhow::Result<()> {
    let boats = (0..FLEET).map(|number| fleet::boat(&format!("Ida {number}")));
    boat::Entity::insert_many(boats).exec_without_returning(&db.session()).await?;
    fleet::replayed(cluster).await
}

/// Reads all combinations of so many boats: three take some milliseconds, six take hours.
pub async fn look(db: &RoutedConnection, boats: usize) -> Result<(), DbErr> {
    use sea_orm::ConnectionTrait;
    let each = "(SELECT id FROM boat WHERE name LIKE 'Ida %')";
    let all: Vec<_> = (0..boats).map(|number| format!("{each} AS boat_{number}")).collect();
    let sql = format!("{MARK} SELECT count(*) FROM {}", all.join(", "));
    db.query_one_raw(fleet::raw(db, &sql)).await.map(drop)
}

/// How many of these reads `server` is running.
pub async fn looks(server: &Server, engine: Engine) -> anyhow::Result<i64> {
    let sql = match engine {
        Engine::Postgres => {
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
             AND query LIKE '%a long look%' AND pid <> pg_backend_pid()"
        }
        // A thread still shows its statement for a moment after it has sent the answer.
        _ => {
            "SELECT count(*) FROM information_schema.processlist \
             WHERE info LIKE '%a long look%' AND state IN ('Sending data', 'executing') \
             AND id <> connection_id()"
        }
    };
    server.query_scalar(sql).await
}
