//! A planned change of the primary, as the servers' own tools do it: nothing is lost.

use std::time::Duration;

use sealane::RoutedConnection;

use super::{current, follow_new, membership, note, sleep};
use crate::{
    scenario::Kind,
    server::Server,
    world::{State, World},
};

/// How long the processes wait for what runs on the old primary.
const DRAIN_MS: u64 = 1_500;
/// How long the tool waits until the candidate has everything; then it gives up.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn switch_over(
    world: &World,
    handles: &[RoutedConnection],
    candidate: usize,
    drains: bool,
    back_ms: u64,
) {
    let (old, address) = {
        let state = world.lock();
        let old = current(&state);
        (old, state.addresses.iter().position(|server| *server == old).unwrap_or(old))
    };
    if drains {
        let draining = handles
            .iter()
            .enumerate()
            .map(|(process, db)| membership::begin_to_drain(world, db, process, address, DRAIN_MS));
        futures_util::future::join_all(draining).await;
    }
    let new = change(world, old, candidate).await;
    note(world, format_args!("switched over: {new:?}"));
    sleep(back_ms).await;
    if drains {
        for (process, db) in handles.iter().enumerate() {
            membership::end_to_drain(world, db, process, address);
        }
    }
}

/// Makes the old primary refuse writes, waits until a replica has all of it, and promotes that one.
async fn change(world: &World, old: usize, candidate: usize) -> Option<usize> {
    let new = world.change(|state| {
        let count = state.servers.len();
        let may = |it: &Server| it.is_physical_replica() && it.serves() && it.upstream == old;
        let new = (0..count).map(|n| (candidate + n) % count).find(|n| may(&state.servers[*n]))?;
        let its = &mut state.servers[old];
        let begins = its.is_primary && its.serves() && !its.steps_down;
        its.steps_down |= begins;
        begins.then_some(new)
    })?;
    let has_all = world.until_received(|state| {
        let (its, up) = (&state.servers[new], &state.servers[old]);
        up.running.is_empty()
            && its.branch == up.branch
            && its.durable >= state.history.len(up.branch)
    });
    let in_time = tokio::time::timeout(PATIENCE, has_all).await.is_ok();
    world.change(|state| {
        state.servers[old].steps_down = false;
        let is_as_before = current(state) == old
            && state.servers[old].is_primary
            && state.servers[old].is_up
            && !state.servers[new].is_primary
            && state.servers[new].serves();
        if !in_time || !is_as_before {
            return None;
        }
        swap_roles(state, old, new);
        Some(new)
    })
}

fn swap_roles(state: &mut State, old: usize, new: usize) {
    // PostgreSQL restarts to become a standby; the others only change a setting.
    let restarts = state.kind == Kind::Timelines;
    if restarts {
        state.break_links(|link| link.server == old);
    }
    state.servers[old].durable = state.history.len(state.servers[old].branch);
    state.servers[old].demote(new, restarts);
    let State { servers, history, .. } = state;
    servers[new].promote(history);
    follow_new(state, new);
}
