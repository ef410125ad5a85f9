//! Sessions that wait until the primary shows what they have seen on a replica.

use sealane_core::{Server as Place, Session, SessionView, Transactions};
use tokio::time::{Instant, sleep};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// A bench where transaction 5 is unfinished, and a session that has just read on the replica.
async fn ahead() -> (Bench, SessionView) {
    let bench = bench().await;
    let store = bench.monitor.store();
    bench
        .primary
        .set(|state| state.transactions = Some(Transactions::Numbered { oldest: 5, next: 6 }));
    store.nudge(EndpointId::FIRST);
    store.until(|topology| topology.shown().is_some()).await;
    let run = store.topology().get(replica_id()).unwrap().run;
    let session = Session::own();
    let place = Place { endpoint: replica_id(), run };
    session.saw(place, &session.view(), true, store.clock());
    (bench, session.view())
}

fn asked(bench: &Bench) -> [u64; 2] {
    [bench.primary.asked(), bench.replica.asked()]
}

#[tokio::test(start_paused = true)]
async fn only_the_primary_is_asked_quickly_until_it_shows_what_was_seen() {
    let (bench, session) = ahead().await;
    let store = Arc::clone(bench.monitor.store());
    assert!(session.ahead_of_primary(&store.topology()).is_some());
    let waiting = tokio::spawn(async move { store.until_shown(&session, HOUR).await });
    let [primary, replica] = asked(&bench);
    sleep(Duration::from_millis(200)).await;
    let [primary_later, replica_later] = asked(&bench);
    assert!((10..=41).contains(&(primary_later - primary)), "{}", primary_later - primary);
    assert!(replica_later - replica <= 1, "{}", replica_later - replica);

    bench
        .primary
        .set(|state| state.transactions = Some(Transactions::Numbered { oldest: 7, next: 9 }));
    let begun = Instant::now();
    assert!(waiting.await.unwrap());
    assert!(begun.elapsed() <= Duration::from_millis(25), "{:?}", begun.elapsed());

    let before = asked(&bench);
    sleep(Duration::from_millis(900)).await;
    assert!(asked(&bench)[0] - before[0] <= 2, "it is still asked quickly");
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_its_patience() {
    let (bench, session) = ahead().await;
    let begun = Instant::now();
    let patience = Duration::from_millis(250);
    assert!(!bench.monitor.store().until_shown(&session, patience).await);
    assert!((250..260).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_primary_that_reports_no_transactions() {
    let (bench, session) = ahead().await;
    let store = bench.monitor.store();
    bench.primary.set(|state| state.transactions = None);
    store.nudge(EndpointId::FIRST);
    store.until(|topology| topology.shown().is_none()).await;
    let begun = Instant::now();
    assert!(store.until_shown(&session, HOUR).await);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}
