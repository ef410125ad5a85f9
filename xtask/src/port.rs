//! The address of this machine at which servers are published, and free ports there.
//!
//! This program chooses the ports, because Docker would choose new ones on every start, and a
//! server that a test kills and starts must come back under its URL. The ports are below the
//! kernel's ephemeral range (32768 on Linux): while a server is down, a port within that range may
//! go to an outgoing connection, even to the client that retries this very port.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::sync::{Mutex, PoisonError};

use anyhow::ensure;

use crate::docker::docker;

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// The ports that this task has assigned. A stopped server does not listen, but it keeps its port.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// This machine's address in a network of Docker's; the loopback address if Docker runs elsewhere.
///
/// What is sent to the loopback address passes a process of Docker's, which takes as much of a
/// processor as a busy server. What is sent to any other address the kernel forwards.
pub(crate) fn host(network: &str) -> anyhow::Result<Ipv4Addr> {
    let format = "{{range .IPAM.Config}}{{.Gateway}} {{end}}";
    let gateways = docker(["network", "inspect", "--format", format, network])?;
    let mut ours = gateways.split_whitespace().filter_map(|it| it.parse().ok());
    let is_here = |host: &Ipv4Addr| TcpListener::bind((*host, 0)).is_ok();
    Ok(ours.find(is_here).unwrap_or(Ipv4Addr::LOCALHOST))
}

/// `count` addresses of `host` whose ports are free and were not assigned before.
pub(crate) fn free(host: Ipv4Addr, count: usize) -> anyhow::Result<Vec<SocketAddrV4>> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let is_free = |port: &u16| !given.contains(port) && listen(host, *port).is_ok();
    let ports: Vec<u16> = candidates().filter(is_free).take(count).collect();
    ensure!(ports.len() == count, "no {count} free ports from {FIRST} on");
    given.extend(&ports);
    Ok(ports.into_iter().map(|port| SocketAddrV4::new(host, port)).collect())
}

/// All ports of the range. Parallel runs start at different places.
fn candidates() -> impl Iterator<Item = u16> {
    let offset = std::process::id().wrapping_mul(37) % u32::from(COUNT);
    (0..u32::from(COUNT))
        .filter_map(move |step| u16::try_from((offset + step) % u32::from(COUNT)).ok())
        .map(|step| FIRST + step)
}

fn listen(host: Ipv4Addr, port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

    #[test]
    fn a_port_in_use_is_not_offered() {
        // The test does not listen on a port from `free`: a program that another test is just
        // starting may hold a copy of the socket that `free` has closed.
        let (taken, _listener) =
            candidates().find_map(|port| Some((port, listen(HOST, port).ok()?))).unwrap();
        let ports = free(HOST, 3).unwrap();
        assert_eq!(ports.len(), 3);
        assert!(!ports.contains(&SocketAddrV4::new(HOST, taken)));
        assert!(ports[0] != ports[1] && ports[1] != ports[2]);
        assert!(
            free(HOST, 3).unwrap().iter().all(|port| !ports.contains(port)),
            "each port is assigned only once"
        );
    }
}
