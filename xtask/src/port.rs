//! Free ports for the published servers.
//!
//! Chosen here and not by Docker, because Docker chooses anew on every start, and a server
//! that a test kills and starts must come back under its URL. Taken from below the kernel's
//! ephemeral range (32768 on Linux): a port inside it may go to somebody's outgoing
//! connection while its server is down, even to the client that retries that very port.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::ensure;

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// `count` different ports of the loopback address that nobody listens on.
pub(crate) fn free(count: usize) -> anyhow::Result<Vec<u16>> {
    let ports: Vec<u16> = candidates().filter(|port| listen(*port).is_ok()).take(count).collect();
    ensure!(ports.len() == count, "no {count} free ports from {FIRST} on");
    Ok(ports)
}

/// All of the range; runs side by side start looking at different places.
fn candidates() -> impl Iterator<Item = u16> {
    let offset = std::process::id().wrapping_mul(37) % u32::from(COUNT);
    (0..u32::from(COUNT))
        .filter_map(move |step| u16::try_from((offset + step) % u32::from(COUNT)).ok())
        .map(|step| FIRST + step)
}

fn listen(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_not_offered() {
        // Not what `free` offers: a program that another test is just starting may hold a
        // copy of the socket that `free` has closed.
        let (taken, _listener) =
            candidates().find_map(|port| Some((port, listen(port).ok()?))).unwrap();
        let ports = free(3).unwrap();
        assert_eq!(ports.len(), 3);
        assert!(!ports.contains(&taken));
        assert!(ports[0] != ports[1] && ports[1] != ports[2]);
    }
}
