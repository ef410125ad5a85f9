//! The way of the log from a primary to its replicas, and its replay there.
//!
//! Only what is on the disk of the upstream is sent. A replica whose log has something that its
//! upstream's branch does not have cannot follow.

use std::{sync::Arc, time::Duration};

use crate::{
    server::Frozen,
    world::{State, World},
};

/// Follows the upstream of a server, whenever that is a replica, for ever.
pub(crate) async fn follow(world: Arc<World>, server: usize) {
    loop {
        let grown = world.growth();
        tokio::pin!(grown);
        grown.as_mut().enable();
        let next_ms = {
            let mut state = world.lock();
            if receive(&mut state, server) {
                world.note_receipt();
            }
            replay(&mut state, server)
        };
        match next_ms {
            None => grown.await,
            Some(ms) => {
                let soon = Duration::from_millis(ms.max(1));
                // A log that grows is noticed at once, the end of a delay in time.
                let _ = tokio::time::timeout(soon, grown).await;
            }
        }
        world.pass(0, 2).await;
    }
}

/// Whether the log flows from its upstream to a server. Only a primary publishes.
pub(crate) fn flows(state: &State, server: usize) -> bool {
    let (its, up) = (&state.servers[server], &state.servers[state.servers[server].upstream]);
    let is_apart = [its.number, up.number].iter().any(|it| state.cut_off.contains(it));
    let answers = |it: &crate::server::Server| it.is_up && it.frozen != Frozen::Everything;
    !its.is_primary
        && its.number != up.number
        && (its.subscription.is_none() || up.is_primary)
        && answers(its)
        && answers(up)
        && !is_apart
        && its.durable <= state.history.shared(its.branch, up.branch)
}

/// Takes what has come. Returns whether there was anything.
fn receive(state: &mut State, server: usize) -> bool {
    let flows = flows(state, server);
    let now_ms = state.now_ms();
    let (branch, durable) = {
        let up = &state.servers[state.servers[server].upstream];
        (up.branch, up.durable)
    };
    let its = &mut state.servers[server];
    its.receives = flows;
    if !flows || its.durable > durable {
        return false;
    }
    its.branch = branch;
    let is_new = its.durable < durable;
    if is_new {
        its.durable = durable;
        its.due.push_back((now_ms + its.delay_ms, durable));
    }
    is_new
}

/// Replays what is due. Returns when more will be.
fn replay(state: &mut State, server: usize) -> Option<u64> {
    let now_ms = state.now_ms();
    let its = &mut state.servers[server];
    let may = its.is_up && its.frozen != Frozen::Everything && !its.is_paused && !its.is_primary;
    if !may {
        return None;
    }
    if let Some(subscription) = &mut its.subscription {
        subscription.confirmed = its.replayed;
    }
    while let Some((_, len)) = its.due.pop_front_if(|(at_ms, _)| *at_ms <= now_ms) {
        its.replayed = its.replayed.max(len);
    }
    its.due.front().map(|(at_ms, _)| at_ms - now_ms)
}
