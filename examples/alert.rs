//! Posts every change of the topology to a webhook: a replica down, a new primary, lag.
//!
//! ```sh
//! DATABASE_URL=postgres://app:secret@db-1/shop \
//! DATABASE_REPLICA_URLS=postgres://app:secret@db-2/shop \
//! WEBHOOK_URL=http://127.0.0.1:8080/alerts \
//! cargo run --example alert
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::time::Duration;

use anyhow::Context;
use sealane::Config;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let webhook = std::env::var("WEBHOOK_URL").context("WEBHOOK_URL is where to post to")?;
    let db = sealane::connect(Config::from_env()?).await?;
    let mut events = db.events();
    println!("watching {} endpoints", db.status().endpoints.len());
    while let Some(event) = events.next().await {
        let text = db.in_words(&event);
        let alert = serde_json::json!({
            "text": text,
            "event": event,
            "endpoints": db.status().endpoints,
        });
        let webhook = webhook.clone();
        // Events wait meanwhile, a few hundred of them; the monitor does not.
        let posted = tokio::task::spawn_blocking(move || post(&webhook, &alert)).await?;
        match posted {
            Ok(()) => println!("{text}"),
            Err(error) => eprintln!("{text}, but the webhook does not answer: {error}"),
        }
    }
    Ok(())
}

fn post(webhook: &str, alert: &serde_json::Value) -> Result<(), ureq::Error> {
    let limit = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build();
    ureq::Agent::new_with_config(limit).post(webhook).send_json(alert).map(drop)
}
