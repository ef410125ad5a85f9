//! The stream of events.

use std::time::Duration;

use axum::body::Body;
use sealane::{EndpointId, Event};
use sealane_status::StatusService;

use crate::kit::{Client, Fleet, piece};

async fn listen(client: &Client) -> Body {
    let response = client.get("/events").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    assert!(piece(&mut body).await.unwrap().starts_with("retry: "));
    body
}

/// The data of a change.
fn data(piece: &str) -> serde_json::Value {
    let data = piece.strip_prefix("event: change\ndata: ").unwrap();
    serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_change_is_delivered_with_its_time_its_severity_and_its_words() {
    let fleet = Fleet::of(&["db-1", "db-2"]).await;
    let mut body = listen(&Client::of(StatusService::new(&fleet.db))).await;
    fleet.servers[1].fail("refused\nevent: forged\ndata: {}\n\n");
    let (down, all_gone) = loop {
        let told = piece(&mut body).await.unwrap();
        if !told.starts_with(':') {
            break (told, piece(&mut body).await.unwrap());
        }
    };
    assert_eq!(down.lines().count(), 3, "a server's words make no event: {down}");
    let down = data(&down);
    assert_eq!((&down["event"], &down["severity"]), (&"down".into(), &"warning".into()));
    assert!(down["text"].as_str().unwrap().contains("db-2"), "{down}");
    assert!(down["unix_ms"].as_u64().unwrap() > 1_500_000_000_000, "{down}");
    assert_eq!(data(&all_gone)["event"], "reads_on_primary");
    let number = |told: &serde_json::Value| told["number"].as_u64().unwrap();
    assert_eq!(number(&data(&all_gone)), number(&down) + 1);
}

#[tokio::test(start_paused = true)]
async fn a_comment_keeps_a_silent_stream_alive() {
    let fleet = Fleet::of(&["db-1"]).await;
    let mut body = listen(&Client::of(StatusService::new(&fleet.db))).await;
    let begun = tokio::time::Instant::now();
    for _ in 0..3 {
        assert_eq!(piece(&mut body).await.unwrap(), ": still here\n\n");
    }
    assert!(begun.elapsed() <= Duration::from_secs(50), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_too_slow_is_told_what_it_missed() {
    let fleet = Fleet::of(&["db-1", "db-2"]).await;
    let mut body = listen(&Client::of(StatusService::new(&fleet.db))).await;
    let endpoint = EndpointId::from_index(1).unwrap();
    let before = fleet.store.recent_events().last().map_or(0, |it| it.number);
    for _ in 0..500 {
        fleet.store.announce(Event::Readmitted { endpoint });
    }
    let told = piece(&mut body).await.unwrap();
    let (gap, change) = told.split_once("\n\n").unwrap();
    let missed = gap.strip_prefix("event: missed\ndata: {\"missed\":").unwrap();
    let missed: u64 = missed.strip_suffix('}').unwrap().parse().unwrap();
    assert!(missed > 0, "{told}");
    // What it missed and what it gets are everything.
    assert_eq!(data(change)["number"], before + missed + 1);
    assert!(piece(&mut body).await.unwrap().starts_with("event: change"), "it is told once");
}

#[tokio::test(start_paused = true)]
async fn all_streams_end_at_a_shutdown() {
    let fleet = Fleet::of(&["db-1"]).await;
    let service = StatusService::new(&fleet.db);
    let client = Client::of(service.clone());
    let mut body = listen(&client).await;
    service.end_streams();
    assert_eq!(piece(&mut body).await, None);
    assert_eq!(piece(&mut listen(&client).await).await, None, "a later one ends at once");
}
