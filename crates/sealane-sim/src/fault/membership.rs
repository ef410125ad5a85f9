//! Endpoints that a process drains, or removes and adds again.

use std::time::Duration;

use sealane::{EndpointError, Replica, RoutedConnection};

use super::{note, sleep};
use crate::{
    lender::endpoint_name, plant::Plant, process::GROUP, violation::Violation, world::World,
};

/// Drains for so long, whether or not what runs there ends in the meantime.
pub(super) async fn drain(
    world: &World,
    db: &RoutedConnection,
    process: usize,
    address: usize,
    for_ms: u64,
) {
    begin_to_drain(world, db, process, address, for_ms).await;
    end_to_drain(world, db, process, address);
}

/// Ends after so long. From the moment when nothing runs there, nothing may go there.
pub(super) async fn begin_to_drain(
    world: &World,
    db: &RoutedConnection,
    process: usize,
    address: usize,
    for_ms: u64,
) {
    if world.lock().plant == Plant::NotDrained {
        world.lock().drained.insert((process, address));
        return sleep(for_ms).await;
    }
    let drains = async {
        let drained = db.drain(&endpoint_name(address)).await;
        note(world, format_args!("process {process}: server-{address} is drained: {drained:?}"));
        if drained.is_ok() {
            world.lock().drained.insert((process, address));
        }
    };
    let ((), _) =
        tokio::join!(sleep(for_ms), tokio::time::timeout(Duration::from_millis(for_ms), drains),);
}

pub(super) fn end_to_drain(world: &World, db: &RoutedConnection, process: usize, address: usize) {
    world.lock().drained.remove(&(process, address));
    // Another fault may have removed it.
    let _ = db.undrain(&endpoint_name(address));
}

/// Removes an endpoint, and adds it again after so long.
pub(super) async fn leave(
    world: &World,
    db: &RoutedConnection,
    process: usize,
    address: usize,
    for_ms: u64,
) {
    let removed = db.remove(&endpoint_name(address)).await;
    note(world, format_args!("process {process}: server-{address} is removed: {removed:?}"));
    match removed {
        Ok(()) => {}
        Err(EndpointError::Last | EndpointError::Unknown | EndpointError::Undrained) => return,
        Err(error) => return unexpected(world, &format!("removed: {error}")),
    }
    world.lock().drained.insert((process, address));
    sleep(for_ms).await;
    world.lock().drained.remove(&(process, address));
    let (scheme, is_subscriber) = {
        let state = world.lock();
        (state.kind.scheme(), state.servers[address].subscription.is_some())
    };
    let replica =
        Replica::new(format!("{scheme}://app@server-{address}/shop")).name(endpoint_name(address));
    let replica = match is_subscriber {
        true => replica.subscription("boats").group(GROUP),
        false => replica,
    };
    let added = db.add_replica(replica).await;
    note(world, format_args!("process {process}: server-{address} is added: {added:?}"));
    if let Err(error) = added {
        unexpected(world, &format!("added: {error}"));
    }
}

fn unexpected(world: &World, what: &str) {
    let violation = Violation::MembershipFailed { what: what.to_owned() };
    crate::oracle::note(&mut world.lock(), violation, None);
}
