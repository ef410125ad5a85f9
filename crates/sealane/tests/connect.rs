//! What a wrong configuration is answered with.

#![allow(clippy::unwrap_used, reason = "a test may end there")]

use std::time::Duration;

use rstest::rstest;
use sealane::{Config, Replica};
#[cfg(feature = "sqlite")]
use sealane::{ConnectError, EndpointError};

#[rstest]
#[case::no_url("tide", "it must begin with postgres:, mysql: or sqlite:")]
#[case::empty("", "it is empty")]
#[case::mistyped("postgrse://app:ebb@db/shop", "begins with none of postgres:")]
#[case::two("postgres://a:x@db/shop;postgres://app:ebb@db/shop", "holds more than one URL")]
#[case::variable("postgres://app:${ebb}@db/shop", "which nobody has expanded")]
#[case::scheme("oracle://app:ebb@db/shop", "begins with oracle:")]
#[case::mariadb("mariadb://app:ebb@db/shop", "begins with mariadb:")]
#[case::port("postgres://app:ebb@db:99999/shop", "is not valid")]
#[tokio::test]
async fn a_wrong_url_is_told_without_its_password(#[case] url: &str, #[case] told: &str) {
    let error = sealane::connect(url).await.unwrap_err().to_string();
    assert!(error.contains(told), "{error}");
    assert!(!error.contains("ebb"), "{error}");
}

#[cfg(all(feature = "postgres", feature = "sqlite"))]
#[tokio::test]
async fn engines_do_not_mix() {
    let config = Config::new("postgres://db/shop").replica("sqlite://shop.db");
    let error = sealane::connect(config).await.unwrap_err().to_string();
    assert_eq!(error, "replica-1 is another kind of database than the primary");
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn replicas_of_a_file_are_refused() {
    let config = Config::new("sqlite://shop.db").replica("sqlite://shop.db");
    let error = sealane::connect(config).await.unwrap_err().to_string();
    assert!(error.contains("SQLite"), "{error}");
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn the_endpoints_of_a_file_and_of_one_server_are_fixed() {
    let folder = tempfile::tempdir().unwrap();
    let file = sealane::connect(Config::sqlite(folder.path().join("shop.db"))).await.unwrap();
    for (db, name, url) in [
        (file, "readers", "sqlite://other.db"),
        (sealane::RoutedConnection::default(), "disconnected", "sqlite://other.db"),
    ] {
        assert_eq!(db.drain(name).await, Err(EndpointError::Fixed));
        assert_eq!(db.undrain(name), Err(EndpointError::Fixed));
        assert_eq!(db.remove(name).await, Err(EndpointError::Fixed));
        let added = db.add_replica(url).await;
        assert!(matches!(added, Err(ConnectError::FixedEndpoints)), "{added:?}");
    }
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_subscriber_in_no_group_is_refused() {
    let subscriber = Replica::new("postgres://b/shop").subscription("reports");
    let config = Config::new("postgres://a/shop").replica(subscriber);
    let error = sealane::connect(config).await.unwrap_err().to_string();
    assert!(error.contains("replica-1 is a logical subscriber and in no group"), "{error}");
}

#[cfg(feature = "mysql")]
#[tokio::test]
async fn a_subscriber_of_mysql_is_refused() {
    let subscriber = Replica::new("mysql://b/shop").subscription("reports").group("reports");
    let config = Config::new("mysql://a/shop").replica(subscriber);
    let error = sealane::connect(config).await.unwrap_err().to_string();
    assert!(error.contains("only PostgreSQL has logical subscribers"), "{error}");
}

#[rstest]
#[case::no_room(Some(0), None)]
#[case::more_than_room(Some(2), Some(3))]
#[case::more_than_the_drivers_room(None, Some(11))]
#[case::more_than_there_is_memory_for(Some(u32::MAX), None)]
#[tokio::test]
async fn a_pool_without_room_is_refused(#[case] most: Option<u32>, #[case] least: Option<u32>) {
    let mut options = sea_orm::ConnectOptions::new("sqlite::memory:");
    most.map(|most| options.max_connections(most));
    least.map(|least| options.min_connections(least));
    let error = sealane::connect(options).await.unwrap_err().to_string();
    assert!(error.contains("max_connections"), "{error}");
}

#[tokio::test]
async fn two_endpoints_do_not_share_a_name() {
    let config = Config::new(Replica::new("postgres://a/shop").name("near"))
        .replica(Replica::new("postgres://b/shop").name("near"));
    let error = sealane::connect(config).await.unwrap_err().to_string();
    assert!(error.contains("two endpoints are called near"), "{error}");
}

#[rstest]
#[case::control("near\u{1b}[2J")]
#[case::turned("near\u{202e}")]
#[case::empty("")]
#[case::a_url("postgres://app:ebb@db/shop")]
#[tokio::test]
async fn a_name_that_is_none_is_refused_and_not_told(#[case] name: &str) {
    let config =
        Config::new("postgres://a/shop").replica(Replica::new("postgres://b/shop").name(name));
    let error = sealane::connect(config).await.unwrap_err().to_string();
    assert!(error.contains("the name of the endpoint at place 2"), "{error}");
    assert!(!error.contains("ebb") && !error.contains('\u{1b}'), "{error}");
    let config = Config::new("postgres://a/shop").name(name);
    let error = sealane::connect(config).await.unwrap_err().to_string();
    assert!(error.contains("the name of the database"), "{error}");
    assert!(!error.contains("ebb") && !error.contains('\u{1b}'), "{error}");
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_timeout_without_end_is_none_that_the_driver_panics_at() {
    let mut options = sea_orm::ConnectOptions::new("sqlite::memory:");
    options.acquire_timeout(Duration::MAX).connect_timeout(Duration::MAX);
    sealane::connect(options.clone()).await.unwrap().ping().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("harbour.db");
    let mut file = sea_orm::ConnectOptions::new(format!("sqlite://{}?mode=rwc", path.display()));
    file.acquire_timeout(Duration::MAX);
    sealane::connect(file).await.unwrap().ping().await.unwrap();
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn replicas_that_are_required_and_not_there_are_missed() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::sqlite(folder.path().join("harbour.db"));
    let error = sealane::connect(config.clone().require_replicas(2)).await.unwrap_err();
    assert_eq!(error.to_string(), "2 replicas are required and 1 can be used");
    sealane::connect(config.strict().require_replicas(1)).await.unwrap();
    let alone = Config::new("sqlite::memory:").require_replicas(1);
    let error = sealane::connect(alone).await.unwrap_err();
    assert_eq!(error.to_string(), "1 replicas are required and 0 can be used");
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_file_that_cannot_be_made_is_named() {
    let error = sealane::connect(Config::sqlite("no/such/shop.db")).await.unwrap_err().to_string();
    assert!(error.contains("no/such/shop.db") && error.contains("mode=rwc"), "{error}");
}

#[cfg(all(feature = "mysql", feature = "postgres"))]
#[rstest]
#[case::postgres("postgres://app:ebb@127.0.0.1:1/shop")]
#[case::mysql("mysql://app:ebb@127.0.0.1:1/shop")]
#[tokio::test]
async fn a_lone_server_that_is_not_there_is_told_at_once(#[case] url: &str) {
    let told = tokio::time::timeout(Duration::from_secs(5), sealane::connect(url)).await.unwrap();
    let error = told.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:1") && error.contains("no connection"), "{error}");
    assert!(!error.contains("ebb"), "{error}");
}

/// Port 1 of this machine: nobody listens there. That is told, not that there are replicas.
#[cfg(feature = "mysql")]
#[tokio::test]
async fn replicas_of_mysql_are_accepted() {
    let config =
        Config::new("mysql://app:ebb@127.0.0.1:1/shop").replica("mysql://app:ebb@127.0.0.1:1/shop");
    let error = sealane::connect(config).await.unwrap_err().to_string();
    assert!(
        error.contains("127.0.0.1:1, which should take the writes, cannot be used: no conn"),
        "{error}"
    );
    assert!(!error.contains("ebb"), "{error}");
}

#[tokio::test]
async fn there_is_a_most_of_endpoints() {
    let config = (0..64).fold(Config::new("postgres://db/shop"), |config, n| {
        config.replica(format!("postgres://db-{n}/shop"))
    });
    let error = sealane::connect(config).await.unwrap_err().to_string();
    assert_eq!(error, "65 endpoints are configured, 64 are possible");
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_primary_that_is_not_there_is_told_without_its_password() {
    // Port 1 of this machine: nobody listens there.
    let config = Config::new("postgres://app:ebb@127.0.0.1:1/shop")
        .replica("postgres://app:ebb@127.0.0.1:1/shop");
    let error = sealane::connect(config).await.unwrap_err().to_string();
    assert!(
        error.contains("127.0.0.1:1, which should take the writes, cannot be used: no conn"),
        "{error}"
    );
    assert!(!error.contains("ebb"), "{error}");
}

#[tokio::test]
async fn a_probe_setting_out_of_range_is_told() {
    let config = Config::new("postgres://db/shop").quick_probe_interval(Duration::ZERO);
    let error = sealane::connect(config).await.unwrap_err().to_string();
    assert_eq!(error, "the quick probe interval is 0ns; it must be between 1ms and 3600s");
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::from_toml_file("no/such/sealane.toml").unwrap_err().to_string();
    assert!(error.contains("no/such/sealane.toml"), "{error}");
}
