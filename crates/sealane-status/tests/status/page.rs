//! What the page shows.

use base64::{Engine, engine::general_purpose::STANDARD};
use sealane::Condition;
use sealane_status::StatusService;
use sha2::{Digest, Sha256};

use crate::kit::{Client, Fleet, text};

const HOSTILE: &str = "db-3<script>alert(1)</script>\"' onload=x & \u{202e}";

#[tokio::test(start_paused = true)]
async fn it_shows_every_endpoint_and_the_last_events_without_javascript() {
    let fleet = Fleet::of(&["db-1", "db-2"]).await;
    let client = Client::of(StatusService::new(&fleet.db));
    let (_, html) = client.read("/").await;
    // In the picture and in the table.
    for name in ["db-1", "db-2"] {
        assert!(html.matches(name).count() >= 2, "{name}: {html}");
    }
    assert!(html.contains("<svg class=\"topology\"") && html.contains("All endpoints serve."));
    assert!(html.contains("<td>primary</td>"));

    fleet.servers[1].fail("no route");
    fleet.until(|it| it.reads_on_primary == Some(true)).await;
    let (_, html) = client.read("/").await;
    for told in [
        "All reads are on the primary",
        "no route",
        "no replica takes reads: all of them are on the primary</td>",
        "<td>warning</td>",
    ] {
        assert!(html.contains(told), "{told} is not in {html}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_does_not_answer_is_bad() {
    let fleet = Fleet::of(&["db-1", "db-2"]).await;
    fleet.servers[0].fail("no route");
    fleet.until(|it| it.endpoints[0].condition == Condition::Down).await;
    let (_, html) = Client::of(StatusService::new(&fleet.db)).read("/fragment").await;
    assert!(
        html.contains("<p class=\"verdict bad\" role=\"status\">The primary, db-1, is down."),
        "{html}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hostile_name_and_a_hostile_message_stay_text() {
    let fleet = Fleet::of(&["db-1", "db-2", HOSTILE]).await;
    fleet.servers[1].fail("<img src=x onerror=alert(2)>");
    fleet.until(|it| it.endpoints[1].condition == Condition::Down).await;
    let client = Client::of(StatusService::new(&fleet.db));
    for path in ["/", "/fragment"] {
        let (_, html) = client.read(path).await;
        let own = html.matches("<script>").count();
        assert_eq!(own, usize::from(path == "/"), "{path}");
        assert!(!html.contains("<script>alert") && !html.contains("<img"), "{path}: {html}");
        assert!(html.contains("db-3&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;"), "{html}");
        assert!(html.contains("&lt;img src=x"), "{html}");
        assert!(!html.contains('\u{202e}'), "{html}");
    }
}

/// A browser would refuse the script or the style otherwise.
#[tokio::test(start_paused = true)]
async fn its_policy_names_its_script_and_its_style() {
    let fleet = Fleet::of(&["db-1"]).await;
    let response = Client::of(StatusService::new(&fleet.db)).get("/").await;
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    let (_, html) = text(response).await;
    for (directive, name) in [("script-src", "script"), ("style-src", "style")] {
        let inside = html.split(&format!("<{name}>")).nth(1).unwrap();
        let inside = inside.split(&format!("</{name}>")).next().unwrap();
        let hash = STANDARD.encode(Sha256::digest(inside));
        let wanted = format!("{directive} 'sha256-{hash}';");
        assert!(policy.contains(&wanted), "{wanted} is not in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
}
