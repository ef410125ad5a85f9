//! Does to a world what a scenario says, and puts it right again.

use std::{sync::Arc, time::Duration};

use crate::{
    scenario::{Fault, Loss},
    server::{Frozen, Server},
    world::{State, World},
};

/// All of a fault, up to its end.
pub(crate) async fn inflict(world: Arc<World>, at_ms: u64, fault: Fault) {
    sleep(at_ms).await;
    note(&world, format_args!("fault: {fault:?}"));
    match fault {
        Fault::Lag { server, delay_ms, for_ms } => {
            world.change(|state| state.servers[server].delay_ms = delay_ms);
            sleep(for_ms).await;
            world.change(|state| state.servers[server].delay_ms = 1);
        }
        Fault::Pause { server, for_ms } => {
            world.change(|state| state.servers[server].is_paused = true);
            sleep(for_ms).await;
            world.change(|state| state.servers[server].is_paused = false);
        }
        Fault::Conflicts { server, percent, for_ms } => {
            world.change(|state| state.servers[server].conflicts = percent);
            sleep(for_ms).await;
            world.change(|state| state.servers[server].conflicts = 0);
        }
        Fault::Crash { server, for_ms, older } => {
            world.change(|state| crash(state, server));
            sleep(for_ms).await;
            world.change(|state| start(state, server, older));
        }
        Fault::Freeze { server, queries_only, for_ms } => {
            let frozen = if queries_only { Frozen::Queries } else { Frozen::Everything };
            world.change(|state| state.servers[server].frozen = frozen);
            sleep(for_ms).await;
            world.change(|state| state.servers[server].frozen = Frozen::Nothing);
        }
        Fault::Cut { process, server, for_ms } => {
            world.change(|state| state.cut.push((process, server)));
            sleep(for_ms).await;
            world.change(|state| state.cut.retain(|it| *it != (process, server)));
        }
        Fault::CutOff { server, for_ms } => {
            world.change(|state| state.cut_off.push(server));
            sleep(for_ms).await;
            world.change(|state| state.cut_off.retain(|it| *it != server));
        }
        Fault::Reset { process, server } => world.change(|state| {
            state.break_links(|link| link.process == process && link.server == server);
        }),
        Fault::Full { server, for_ms } => {
            world.change(|state| {
                let its = &mut state.servers[server];
                its.most_sessions = its.sessions;
            });
            sleep(for_ms).await;
            world.change(|state| state.servers[server].most_sessions = usize::MAX);
        }
        Fault::Failover { loss, candidate, after_ms, back_ms, unfenced_ms } => {
            fail_over(&world, loss, candidate, after_ms, back_ms, unfenced_ms).await;
        }
        Fault::Swap { one, other } => world.change(|state| state.addresses.swap(one, other)),
    }
    note(&world, format_args!("over: {fault:?}"));
}

async fn sleep(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

fn note(world: &World, line: std::fmt::Arguments<'_>) {
    world.lock().trace.note(line);
}

fn crash(state: &mut State, server: usize) {
    state.break_links(|link| link.server == server);
    let State { servers, history, .. } = state;
    if servers[server].is_up {
        servers[server].crash(history);
    }
}

fn start(state: &mut State, server: usize, older: usize) {
    if !state.servers[server].is_up {
        state.servers[server].start(older);
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
        start(state, old, 0);
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
    let serves = |it: &Server| !it.is_primary && it.serves();
    let new = (0..count).map(|n| (candidate + n) % count).find(|n| serves(&state.servers[*n]))?;
    if current(state) != old {
        return None;
    }
    let State { servers, history, .. } = state;
    servers[new].promote(history);
    for server in servers.iter_mut().filter(|it| !it.is_primary) {
        server.upstream = new;
    }
    Some(new)
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
        .filter(|it| it.is_primary || it.durable > state.history.shared(it.branch, branch))
        .map(|it| it.number)
        .collect();
    for number in astray {
        state.break_links(|link| link.server == number);
        let (its, up) = two(&mut state.servers, number, primary);
        its.rebuild(up);
    }
    for server in &mut state.servers {
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
        state.cut_off.clear();
        for server in 0..state.servers.len() {
            start(state, server, 0);
            let its = &mut state.servers[server];
            its.frozen = Frozen::Nothing;
            its.is_paused = false;
            its.conflicts = 0;
            its.delay_ms = 1;
            its.most_sessions = usize::MAX;
        }
        settle(state);
    });
    note(world, format_args!("calm: nothing goes wrong any more"));
}
