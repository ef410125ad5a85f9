//! What a wrong configuration is answered with.

#![allow(clippy::unwrap_used, reason = "a test may end there")]

use std::time::Duration;

use rstest::rstest;
use sealane::Config;

#[rstest]
#[case::no_url("tide", "the URL of primary is not valid")]
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
    assert!(error.contains("primary at 127.0.0.1:1 cannot be used: no connection"), "{error}");
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
