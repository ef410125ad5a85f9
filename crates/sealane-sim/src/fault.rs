//! Does to a world what a scenario says, and puts it right again.

mod membership;
mod switchover;

use std::{sync::Arc, time::Duration};

use sealane::RoutedConnection;

use self::switchover::switch_over;
use crate::{
    plant::Plant,
    scenario::{Fault, Loss},
    server::{Frozen, Server},
    world::{State, World},
};

/// All of a fault, up to its end. `handles`: those of the processes.
pub(crate) async fn inflict(
    world: Arc<World>,
    handles: Vec<RoutedConnection>,
    at_ms: u64,
    fault: Fault,
) {
    sleep(at_ms).await;
    note(&world, format_args!("fault: {fault:?}"));
    act(&world, &handles, fault).await;
    note(&world, format_args!("over: {fault:?}"));
}

async fn act(world: &World, handles: &[RoutedConnection], fault: Fault) {
    match fault {
        Fault::Lag { server, delay_ms, for_ms } => {
            let set = |ms| move |state: &mut State| state.servers[server].delay_ms = ms;
            during(world, for_ms, set(delay_ms), set(1)).await;
        }
        Fault::Pause { server, for_ms } => {
            let set = |is| move |state: &mut State| state.servers[server].is_paused = is;
            during(world, for_ms, set(true), set(false)).await;
        }
        Fault::Conflicts { server, percent, for_ms } => {
            let set = |percent| move |state: &mut State| state.servers[server].conflicts = percent;
            during(world, for_ms, set(percent), set(0)).await;
        }
        Fault::Kills { server, percent, for_ms } => {
            let set = |percent| move |state: &mut State| state.servers[server].kills = percent;
            during(world, for_ms, set(percent), set(0)).await;
        }
        Fault::Crash { server, for_ms, older } => {
            let back = |state: &mut State| start(state, server, older, 0);
            during(world, for_ms, |state| crash(state, server), back).await;
        }
        Fault::Freeze { server, queries_only, for_ms } => {
            let frozen = if queries_only { Frozen::Queries } else { Frozen::Everything };
            let set = |frozen| move |state: &mut State| state.servers[server].frozen = frozen;
            during(world, for_ms, set(frozen), set(Frozen::Nothing)).await;
        }
        Fault::Cut { process, server, for_ms } => {
            let ends = (process, server);
            let heal = |state: &mut State| state.cut.retain(|it| *it != ends);
            during(world, for_ms, |state| state.cut.push(ends), heal).await;
        }
        Fault::Deaf { process, server, for_ms } => {
            let ends = (process, server);
            let heal = |state: &mut State| state.deaf.retain(|it| *it != ends);
            during(world, for_ms, |state| state.deaf.push(ends), heal).await;
        }
        Fault::CutOff { server, for_ms } => {
            let heal = |state: &mut State| state.cut_off.retain(|it| *it != server);
            during(world, for_ms, |state| state.cut_off.push(server), heal).await;
        }
        Fault::Full { server, for_ms } => {
            let set = |most| move |state: &mut State| state.servers[server].most_sessions = most;
            let now = world.lock().servers[server].sessions;
            during(world, for_ms, set(now), set(usize::MAX)).await;
        }
        Fault::Blink { server, older, behind_ms } => {
            world.change(|state| blink(state, server, older, behind_ms));
        }
        Fault::Reset { process, server } => world.change(|state| {
            state.break_links(|link| link.process == process && link.server == server);
        }),
        Fault::Failover { loss, candidate, after_ms, back_ms, unfenced_ms } => {
            fail_over(world, loss, candidate, after_ms, back_ms, unfenced_ms).await;
        }
        Fault::Stranger { address, for_ms } => {
            let set = |is| move |state: &mut State| state.lead_astray(address, is);
            during(world, for_ms, set(true), set(false)).await;
        }
        Fault::Swap { one, other } => world.change(|state| swap(state, one, other)),
        Fault::Switchover { candidate, drains, back_ms } => {
            switch_over(world, handles, candidate, drains, back_ms).await;
        }
        Fault::Drain { process, address, for_ms } => {
            membership::drain(world, &handles[process], process, address, for_ms).await;
        }
        Fault::Leave { process, address, for_ms } => {
            membership::leave(world, &handles[process], process, address, for_ms).await;
        }
    }
}

/// Changes something, and something else after so long.
async fn during(
    world: &World,
    for_ms: u64,
    begin: impl FnOnce(&mut State),
    end: impl FnOnce(&mut State),
) {
    world.change(begin);
    sleep(for_ms).await;
    world.change(end);
}

async fn sleep(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

fn note(world: &World, line: std::fmt::Arguments<'_>) {
    world.lock().trace.note(line);
}

/// An address of a subscriber stays what it is: elsewhere there is no subscription.
fn swap(state: &mut State, one: usize, other: usize) {
    if [one, other].iter().all(|it| state.servers[*it].subscription.is_none()) {
        state.addresses.swap(one, other);
    }
}

fn crash(state: &mut State, server: usize) {
    state.break_links(|link| link.server == server);
    let State { servers, history, .. } = state;
    if servers[server].is_up {
        servers[server].crash(history);
    }
}

fn start(state: &mut State, server: usize, older: usize, behind_ms: u64) {
    let at_ms = if behind_ms == 0 { 0 } else { state.now_ms() + behind_ms };
    if !state.servers[server].is_up {
        state.servers[server].start(older, at_ms);
        configure(state, server);
    }
}

/// A server that starts reads its configuration.
fn configure(state: &mut State, server: usize) {
    if state.filters_percent > 0 {
        state.servers[server].filters_pier = state.draw.percent(state.filters_percent);
    }
}

fn blink(state: &mut State, server: usize, older: usize, behind_ms: u64) {
    if state.servers[server].is_up && !state.servers[server].is_primary {
        crash(state, server);
        start(state, server, older, behind_ms);
    }
}

/// The primary that was made last.
fn current(state: &State) -> usize {
    state.history.branches[state.history.current].author
}

async fn fail_over(
    world: &World,
    loss: Loss,
    candidate: usize,
    after_ms: u64,
    back_ms: u64,
    unfenced_ms: u64,
) {
    let old = world.change(|state| {
        let old = current(state);
        match loss {
            Loss::Crash => crash(state, old),
            Loss::Freeze => state.servers[old].frozen = Frozen::Everything,
            Loss::Alone => state.cut_off.push(old),
        }
        old
    });
    sleep(after_ms).await;
    let promoted = world.change(|state| promote(state, old, candidate));
    note(world, format_args!("promoted: {promoted:?}"));
    sleep(back_ms).await;
    world.change(|state| {
        start(state, old, 0, 0);
        state.servers[old].frozen = Frozen::Nothing;
        if promoted.is_none() {
            state.cut_off.retain(|it| *it != old);
        }
    });
    sleep(unfenced_ms).await;
    world.change(|state| {
        state.cut_off.retain(|it| *it != old);
        settle(state);
    });
    note(world, format_args!("every other server is a replica of the primary now"));
}

/// Makes a primary of a replica that can be one, if `old` is still the last one.
fn promote(state: &mut State, old: usize, candidate: usize) -> Option<usize> {
    let count = state.servers.len();
    let serves = |it: &Server| it.is_physical_replica() && it.serves();
    let may = |it: &Server| serves(it) && has_most(state, it);
    let new = (0..count).map(|n| (candidate + n) % count).find(|n| may(&state.servers[*n]))?;
    if current(state) != old {
        return None;
    }
    let State { servers, history, .. } = state;
    servers[new].promote(history);
    follow_new(state, new);
    Some(new)
}

/// Replicas follow the new primary. A subscriber does if its slot was there, too; else it waits for
/// the old one.
fn follow_new(state: &mut State, new: usize) {
    let branch = state.servers[new].branch;
    for number in 0..state.servers.len() {
        let (is_primary, is_subscriber, its_branch) = {
            let its = &state.servers[number];
            (its.is_primary, its.subscription.is_some(), its.branch)
        };
        if is_subscriber {
            let shared = state.history.shared(its_branch, branch);
            if state.draw.percent(50) {
                state.servers[number].repoint(new, branch, shared);
            }
        } else if !is_primary {
            state.servers[number].upstream = new;
        }
    }
}

/// Where commits wait for one of the replicas, whoever promotes takes the one that has most, and all
/// that the lost primary began with. Nobody else is sure to have all that was answered.
fn has_most(state: &State, it: &Server) -> bool {
    if !state.is_synchronous || state.plant == Plant::Asynchronous {
        return true;
    }
    let current = state.history.current;
    let has_beginning = |it: &Server| {
        let shared = state.history.shared(it.branch, current).min(it.durable);
        shared >= state.history.fork(current)
    };
    let replicas = state.servers.iter().filter(|it| it.is_physical_replica());
    has_beginning(it)
        && replicas.filter(|it| has_beginning(it)).all(|other| other.durable <= it.durable)
}

/// Makes a replica of every primary that was replaced, and of every replica that cannot follow.
fn settle(state: &mut State) {
    let primary = current(state);
    if !state.servers[primary].is_up {
        return;
    }
    let branch = state.servers[primary].branch;
    let astray: Vec<usize> = state
        .servers
        .iter()
        .filter(|it| it.number != primary && it.is_up)
        .filter(|it| {
            let passed_over = it.subscription.as_ref().is_some_and(|it| !it.passed_over.is_empty());
            let is_left = it.subscription.is_some() && it.upstream != primary;
            let is_ahead = it.durable > state.history.shared(it.branch, branch);
            it.is_primary || passed_over || is_left || is_ahead
        })
        .map(|it| it.number)
        .collect();
    for number in astray {
        state.break_links(|link| link.server == number);
        let now_ms = state.now_ms();
        let (its, up) = two(&mut state.servers, number, primary);
        match its.subscription {
            Some(_) => its.subscribe_anew(up, now_ms),
            None => its.rebuild(up),
        }
        configure(state, number);
    }
    for server in state.servers.iter_mut().filter(|it| it.subscription.is_none() || it.is_up) {
        server.upstream = primary;
    }
}

fn two(servers: &mut [Server], one: usize, other: usize) -> (&mut Server, &Server) {
    if one < other {
        let (before, behind) = servers.split_at_mut(other);
        (&mut before[one], &behind[0])
    } else {
        let (before, behind) = servers.split_at_mut(one);
        (&mut behind[0], &before[other])
    }
}

/// Puts everything right.
pub(crate) fn calm(world: &World) {
    world.change(|state| {
        state.cut.clear();
        state.deaf.clear();
        state.cut_off.clear();
        for address in 0..state.addresses.len() {
            state.lead_astray(address, false);
        }
        for server in 0..state.servers.len() {
            start(state, server, 0, 0);
            let its = &mut state.servers[server];
            its.frozen = Frozen::Nothing;
            its.is_paused = false;
            its.conflicts = 0;
            its.kills = 0;
            its.steps_down = false;
            its.delay_ms = 1;
            its.most_sessions = usize::MAX;
        }
        settle(state);
    });
    note(world, format_args!("calm: nothing goes wrong any more"));
}
