//! What a wrong configuration is answered with.

#![allow(clippy::unwrap_used, reason = "a test may end there")]

use std::time::Duration;

use rstest::rstest;
use sealane::Config;

#[rstest]
#[case::no_url("tide", "it must begin with postgres:, mysql: or sqlite:")]
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

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_subscriber_in_no_group_is_refused() {
    let config =
        Config::new("postgres://a/shop").replica("postgres://b/shop").subscription("reports");
    let error = sealane::connect(config).await.unwrap_err().to_string();
    assert!(error.contains("replica-1 is a logical subscriber and in no group"), "{error}");
}

#[cfg(feature = "mysql")]
#[tokio::test]
async fn a_subscriber_of_mysql_is_refused() {
    let config = Config::new("mysql://a/shop")
        .replica("mysql://b/shop")
        .subscription("reports")
        .in_group("reports");
    let error = sealane::connect(config).await.unwrap_err().to_string();
    assert!(error.contains("only PostgreSQL has logical subscribers"), "{error}");
}

#[rstest]
#[case::no_room(Some(0), None)]
#[case::more_than_room(Some(2), Some(3))]
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
    let config = Config::new("postgres://a/shop").named_replica("primary", "postgres://b/shop");
    let error = sealane::connect(config).await.unwrap_err().to_string();
    assert!(error.contains("two endpoints are called primary"), "{error}");
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_file_that_cannot_be_made_is_named() {
    let error = sealane::connect(Config::sqlite("no/such/shop.db")).await.unwrap_err().to_string();
    assert!(error.contains("no/such/shop.db") && error.contains("mode=rwc"), "{error}");
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_lone_server_that_is_not_there_is_told_at_once() {
    let connect = sealane::connect("postgres://app:ebb@127.0.0.1:1/shop");
    let told = tokio::time::timeout(Duration::from_secs(5), connect).await.unwrap();
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
        error.contains(
            "primary at 127.0.0.1:1, which should take the writes, cannot be used: no conn"
        ),
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
        error.contains(
            "primary at 127.0.0.1:1, which should take the writes, cannot be used: no conn"
        ),
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
