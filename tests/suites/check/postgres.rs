//! Faults planted on PostgreSQL.

use sealane::Replica;
use sealane_tests::{PgBouncer, Pooler, fleet};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use crate::tally::{Tally, Wanted};

/// Settings: the finding, the server, what the remedy contains, and the setting.
const SETTINGS: &[(&str, &str, &str, &str)] = &[
    (
        "hot-standby-feedback-off",
        "replica-1",
        "hot_standby_feedback = on",
        "hot_standby_feedback = off",
    ),
    (
        "standby-delay-unbounded",
        "replica-1",
        "max_standby_streaming_delay = '30s'",
        "max_standby_streaming_delay = -1",
    ),
    (
        "standby-delay-long",
        "replica-2",
        "max_standby_streaming_delay",
        "max_standby_streaming_delay = '10min'",
    ),
    (
        "replica-without-slot",
        "replica-1",
        "pg_create_physical_replication_slot",
        "primary_slot_name = ''",
    ),
    ("not-receiving", "replica-2", "primary_conninfo", "primary_conninfo = ''"),
    (
        "replay-delayed",
        "replica-1",
        "recovery_min_apply_delay = 0",
        "recovery_min_apply_delay = '5s'",
    ),
    ("slots-unbounded", "primary", "max_slot_wal_keep_size", "max_slot_wal_keep_size = -1"),
    ("fsync-off", "primary", "fsync = on", "fsync = off"),
    (
        "synchronous-standby-missing",
        "primary",
        "cluster_name",
        "synchronous_standby_names = 'nobody'",
    ),
];

pub(crate) async fn plant(tally: &mut Tally<'_>) -> anyhow::Result<()> {
    for (code, at, remedy, setting) in SETTINGS {
        let name = setting.split(' ').next().unwrap_or_default();
        let undo = match name {
            "hot_standby_feedback" | "fsync" => format!("ALTER SYSTEM SET {name} = on"),
            "max_slot_wal_keep_size" => format!("ALTER SYSTEM SET {name} = '1GB'"),
            _ => format!("ALTER SYSTEM RESET {name}"),
        };
        let wanted = Wanted(code, Some(at), remedy);
        tally.sql(wanted, at, &[&format!("ALTER SYSTEM SET {setting}")], &[&undo]).await?;
    }
    let short = Wanted("standby-delay-short", Some("replica-1"), "30s");
    let (off, delay) = (
        "ALTER SYSTEM SET hot_standby_feedback = off",
        "ALTER SYSTEM SET max_standby_streaming_delay = '100ms'",
    );
    let undo = [
        "ALTER SYSTEM SET hot_standby_feedback = on",
        "ALTER SYSTEM RESET max_standby_streaming_delay",
    ];
    tally.sql(short, "replica-1", &[off, delay], &undo).await?;

    let primary = Some("primary");
    let slot = Wanted("slot-inactive", primary, "pg_drop_replication_slot('forgotten')");
    let create = "SELECT pg_create_physical_replication_slot('forgotten', true)";
    let drop = "SELECT pg_drop_replication_slot('forgotten')";
    tally.sql(slot, "primary", &[create], &[drop]).await?;
    let paused = Wanted("not-applying", Some("replica-1"), "pg_wal_replay_resume");
    let resume = "SELECT pg_wal_replay_resume()";
    tally.sql(paused, "replica-1", &["SELECT pg_wal_replay_pause()"], &[resume]).await?;
    let hidden = Wanted("statistics-hidden", Some("replica-1"), "GRANT pg_monitor TO");
    let (revoke, grant) = ("REVOKE pg_monitor FROM checker", "GRANT pg_monitor TO checker");
    tally.sql(hidden, "primary", &[revoke], &[grant]).await?;
    let read_only = Wanted("primary-read-only", primary, "RESET default_transaction_read_only");
    let set = "ALTER ROLE checker SET default_transaction_read_only = on";
    let reset = "ALTER ROLE checker RESET default_transaction_read_only";
    tally.sql(read_only, "primary", &[set], &[reset]).await?;

    slot_timeout(tally).await?;
    let superuser = Wanted("superuser", primary, "NOSUPERUSER");
    tally.expect(superuser, &fleet::config(tally.good.cluster), 1).await?;
    let [first, one, two] = tally.all_urls();
    let other = format!("{}/postgres", two.trim_end_matches("/sealane"));
    let other = fleet::config_of(&*first, [&*one, &*other]);
    tally.expect(Wanted("other-database", Some("replica-2"), "/sealane"), &other, 1).await?;
    let subscriber = Replica::new(&*two).name("reports").subscription("tide").group("reports");
    let subscriber = fleet::config_of(&*first, [&*one]).replica(subscriber);
    let missing = Wanted("subscription-missing", Some("reports"), "CREATE SUBSCRIPTION tide");
    tally.expect(missing, &subscriber, 1).await?;
    pooler(tally).await
}

/// A setting that PostgreSQL has since version 18.
async fn slot_timeout(tally: &mut Tally<'_>) -> anyhow::Result<()> {
    let known = "SELECT count(*) FROM pg_settings WHERE name = 'idle_replication_slot_timeout'";
    if tally.server("primary").query_scalar::<i64>(known).await? == 0 {
        println!("there is no idle_replication_slot_timeout");
        return Ok(());
    }
    let short = Wanted("slot-timeout-short", Some("primary"), "'1h'");
    let set = "ALTER SYSTEM SET idle_replication_slot_timeout = '5min'";
    let reset = "ALTER SYSTEM RESET idle_replication_slot_timeout";
    tally.sql(short, "primary", &[set], &[reset]).await
}

/// A pooler that lends connections for a transaction.
async fn pooler(tally: &mut Tally<'_>) -> anyhow::Result<()> {
    let servers = tally.good.cluster.servers();
    let how = PgBouncer {
        mode: "transaction",
        settings: "max_prepared_statements = 100",
        ignores: "extra_float_digits, options",
    };
    if Pooler::pgbouncer_version(&servers[0]).await? < [1, 21] {
        // It does not know prepared statements. Other releases test this.
        println!("PgBouncer is too old");
        return Ok(());
    }
    let pooler = Pooler::pgbouncer(servers, how).await?;
    let config = fleet::config_of(&*pooler.urls[0], pooler.urls[1..].iter().map(|url| &**url));
    let lost = Wanted("session-settings-lost", Some("replica-1"), "pool_mode = session");
    tally.expect(lost, &config, 1).await?;
    if keeps_options(&pooler.urls[1]).await {
        println!("this PgBouncer passes the option on, although it is told to ignore it");
        return Ok(());
    }
    let dropped = Wanted("read-only-guard-dropped", Some("replica-1"), "track_extra_parameters");
    tally.expect(dropped, &config, 1).await?;
    Ok(())
}

/// Whether a startup option reaches the server through this pooler, asked without sealane. The
/// newest PgBouncer lets it, whatever its configuration says.
async fn keeps_options(url: &str) -> bool {
    let asked = async {
        let options: PgConnectOptions = url.parse()?;
        let options = options.options([("default_transaction_read_only", "on")]);
        let mut connection = PgConnection::connect_with(&options).await?;
        let sql = "SELECT current_setting('default_transaction_read_only')";
        let value: String = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok::<bool, sqlx::Error>(value == "on")
    };
    // A refused option does not reach it.
    asked.await.unwrap_or(false)
}
