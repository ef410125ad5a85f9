//! An address that leads to a server and can be switched to another one, like a DNS name, a virtual
//! address or a proxy.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::Server;

/// How traffic is forwarded.
#[derive(Debug, Clone, Copy)]
struct Flow {
    passes: bool,
    /// Whether new connections reach their target.
    admits: bool,
    delay: Duration,
    /// Connections on which nothing has passed since then are forgotten; see [`Relay::forget`].
    forgotten: Option<Instant>,
    /// What does not arrive; see [`Relay::garble`].
    garbled: Option<&'static str>,
}

/// When something last passed on a connection.
type LastPassed = Arc<Mutex<Instant>>;

const BUFFER: usize = 16 * 1024;

/// A port of this process that forwards connections to a server.
///
/// New and old connections are treated separately: after [`Relay::lead_to`], old connections still
/// reach the previous server.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    url: String,
    target: Arc<Mutex<String>>,
    /// Old connections end when this changes; see [`Relay::cut`].
    cuts: watch::Sender<u64>,
    flow: watch::Sender<Flow>,
    connections: Arc<Mutex<Vec<Weak<Mutex<Instant>>>>>,
    garbled: Arc<AtomicUsize>,
    listening: Option<JoinHandle<()>>,
}

impl Relay {
    /// A new port that leads to `server`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn to(server: &Server) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let url = server.url.replacen(&server.published(), &address.to_string(), 1);
        let mut relay = Self {
            address,
            url,
            target: Arc::new(Mutex::new(server.published())),
            cuts: watch::Sender::new(0),
            flow: watch::Sender::new(Flow {
                passes: true,
                admits: true,
                delay: Duration::ZERO,
                forgotten: None,
                garbled: None,
            }),
            connections: Arc::default(),
            garbled: Arc::default(),
            listening: None,
        };
        relay.listen(listener);
        Ok(relay)
    }

    /// The URL of the first server through the relay.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes new connections reach `server`; old connections stay where they are.
    pub fn lead_to(&self, server: &Server) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = server.published();
    }

    /// Ends all existing connections, like a restarting proxy.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Refuses new connections; old ones live on.
    pub async fn refuse(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
            // The port is closed when the task has ended.
            let _ = listening.await;
        }
    }

    /// Undoes [`Relay::refuse`].
    ///
    /// # Errors
    /// When another process has taken the port in the meantime.
    pub async fn accept(&mut self) -> anyhow::Result<()> {
        if self.listening.is_none() {
            let listener = TcpListener::bind(self.address).await.context("the relay's port")?;
            self.listen(listener);
        }
        Ok(())
    }

    /// Stops all traffic on old and new connections; new connections are still accepted.
    pub fn swallow(&self) {
        self.flow.send_modify(|flow| flow.passes = false);
    }

    /// Undoes [`Relay::swallow`]. Everything sent in the meantime arrives, as after a short loss of
    /// the network.
    pub fn pass(&self) {
        self.flow.send_modify(|flow| flow.passes = true);
    }

    /// Nothing passes ever again on connections that have been idle for so long, and neither end is
    /// told, as where a firewall or an address translation has forgotten them. Returns how many there
    /// are.
    pub fn forget(&self, idle: Duration) -> usize {
        let since = Instant::now().checked_sub(idle);
        self.flow.send_modify(|flow| flow.forgotten = since);
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|connection| connection.strong_count() > 0);
        let all = all.iter().filter_map(Weak::upgrade);
        all.filter(|connection| is_forgotten(since, connection)).count()
    }

    /// New connections are accepted and get no further, as where a server's entrance hangs; old ones
    /// live on.
    pub fn hold_new(&self) {
        self.flow.send_modify(|flow| flow.admits = false);
    }

    /// Undoes [`Relay::hold_new`].
    pub fn admit(&self) {
        self.flow.send_modify(|flow| flow.admits = true);
    }

    /// From now on, another letter arrives in place of the last one of each `word`, as where a proxy
    /// makes something else of a statement.
    pub fn garble(&self, word: &'static str) {
        self.flow.send_modify(|flow| flow.garbled = Some(word));
    }

    /// How many words were garbled.
    #[must_use]
    pub fn garbled(&self) -> usize {
        self.garbled.load(Ordering::Relaxed)
    }

    /// From now on, everything takes this much longer, each way; zero undoes this.
    pub fn delay(&self, delay: Duration) {
        self.flow.send_modify(|flow| flow.delay = delay);
    }

    fn listen(&mut self, listener: TcpListener) {
        let (target, cuts) = (Arc::clone(&self.target), self.cuts.clone());
        let (flow, connections) = (self.flow.clone(), Arc::clone(&self.connections));
        let garbled = Arc::clone(&self.garbled);
        self.listening = Some(tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let target = target.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // These tasks are not children of this one: they go on after it ends.
                let passed = LastPassed::new(Mutex::new(Instant::now()));
                let mut all = connections.lock().unwrap_or_else(PoisonError::into_inner);
                all.push(Arc::downgrade(&passed));
                drop(all);
                let passage = Passage { flow: flow.subscribe(), passed, garbled: garbled.clone() };
                tokio::spawn(pass_on(client, target, cuts.subscribe(), passage));
            }
        }));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
        self.cut();
    }
}

/// How one connection is carried.
#[derive(Clone)]
struct Passage {
    flow: watch::Receiver<Flow>,
    passed: LastPassed,
    garbled: Arc<AtomicUsize>,
}

/// Forwards the traffic between `client` and `target` until one of them closes or the relay cuts
/// the connection.
async fn pass_on(
    client: TcpStream,
    target: String,
    mut cuts: watch::Receiver<u64>,
    mut passage: Passage,
) {
    let carried = async {
        let _ = passage.flow.wait_for(|flow| flow.admits).await;
        let _ = passage.open().await;
        let server = TcpStream::connect(target).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (client, server) = (client.into_split(), server.into_split());
        let mut ways = JoinSet::new();
        ways.spawn(carry(client.0, server.1, passage.clone()));
        ways.spawn(carry(server.0, client.1, passage));
        // When one direction ends, the connection ends: the other direction would wait for nothing.
        ways.join_next().await;
        std::io::Result::Ok(())
    };
    tokio::select! {
        _ = carried => {}
        _ = cuts.changed() => {}
    }
}

/// Forwards one direction of a connection until its source ends or its sink is gone.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut passage: Passage) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        tokio::time::sleep(passage.open().await).await;
        *passage.passed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        passage.garble(&mut buffer[..read]);
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}

impl Passage {
    /// Waits until traffic passes on this connection, and returns how long it takes.
    async fn open(&mut self) -> Duration {
        let passed = &self.passed;
        let passes = |flow: &Flow| flow.passes && !is_forgotten(flow.forgotten, passed);
        // An error means that the relay is gone, and then the connection is cut anyway.
        self.flow.wait_for(passes).await.map_or(Duration::ZERO, |flow| flow.delay)
    }

    fn garble(&self, bytes: &mut [u8]) {
        let Some(word) = self.flow.borrow().garbled else { return };
        while let Some(at) = bytes.windows(word.len()).position(|it| it == word.as_bytes()) {
            bytes[at + word.len() - 1] ^= 1;
            self.garbled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether nothing has passed on this connection since then.
fn is_forgotten(since: Option<Instant>, passed: &LastPassed) -> bool {
    let last = *passed.lock().unwrap_or_else(PoisonError::into_inner);
    since.is_some_and(|since| last < since)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::Engine;

    /// A server that answers each byte with `sign`.
    async fn server(sign: u8) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("postgres://a:b@{}/c", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while client.read_u8().await.is_ok() {
                        client.write_u8(sign).await.unwrap();
                    }
                });
            }
        });
        let (name, container, network) = ("s".to_owned(), String::new(), String::new());
        Server { name, engine: Engine::Postgres, container, admin_url: url.clone(), url, network }
    }

    /// The answer, if it comes within `limit`.
    async fn ask_for(limit: Duration, client: &mut TcpStream) -> Option<u8> {
        let answer = async {
            client.write_u8(0).await.ok()?;
            client.read_u8().await.ok()
        };
        timeout(limit, answer).await.ok().flatten()
    }

    /// The answer, which a busy machine may delay; `None` where the connection has ended.
    async fn ask(client: &mut TcpStream) -> Option<u8> {
        ask_for(Duration::from_secs(10), client).await
    }

    /// The answer where there should be none: not for longer than is waited here.
    async fn ask_in_vain(client: &mut TcpStream) -> Option<u8> {
        ask_for(Duration::from_millis(200), client).await
    }

    #[tokio::test]
    async fn forgotten_connections_stay_silent_and_others_pass() {
        let pause = Duration::from_millis(300);
        let relay = Relay::to(&server(1).await).await.unwrap();
        let mut old = TcpStream::connect(relay.address).await.unwrap();
        let mut busy = TcpStream::connect(relay.address).await.unwrap();
        assert_eq!((ask(&mut old).await, ask(&mut busy).await), (Some(1), Some(1)));
        tokio::time::sleep(pause).await;
        // After the last answer to one, and before that to the other, however long both take.
        let between = Instant::now();
        tokio::time::sleep(pause).await;
        assert_eq!(ask(&mut busy).await, Some(1));
        assert_eq!(relay.forget(between.elapsed()), 1);
        assert_eq!((ask_in_vain(&mut old).await, ask(&mut busy).await), (None, Some(1)));
        let mut new = TcpStream::connect(relay.address).await.unwrap();
        assert_eq!(ask(&mut new).await, Some(1));
    }

    #[tokio::test]
    async fn old_connections_stay_where_they_are_when_the_address_moves() {
        let (one, other) = (server(1).await, server(2).await);
        let relay = Relay::to(&one).await.unwrap();
        let mut old = TcpStream::connect(relay.address).await.unwrap();
        assert_eq!(ask(&mut old).await, Some(1));
        relay.lead_to(&other);
        let mut new = TcpStream::connect(relay.address).await.unwrap();
        assert_eq!((ask(&mut new).await, ask(&mut old).await), (Some(2), Some(1)));
        relay.cut();
        assert_eq!((ask(&mut new).await, ask(&mut old).await), (None, None));
    }

    #[tokio::test]
    async fn swallowed_bytes_arrive_once_traffic_passes_again() {
        let relay = Relay::to(&server(1).await).await.unwrap();
        let mut client = TcpStream::connect(relay.address).await.unwrap();
        assert_eq!(ask(&mut client).await, Some(1));
        relay.swallow();
        assert_eq!(ask_in_vain(&mut client).await, None);
        assert!(TcpStream::connect(relay.address).await.is_ok());
        relay.pass();
        assert_eq!(client.read_u8().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn held_connections_reach_their_server_once_it_admits_them() {
        let relay = Relay::to(&server(1).await).await.unwrap();
        let mut old = TcpStream::connect(relay.address).await.unwrap();
        assert_eq!(ask(&mut old).await, Some(1));
        relay.hold_new();
        let mut new = TcpStream::connect(relay.address).await.unwrap();
        assert_eq!((ask_in_vain(&mut new).await, ask(&mut old).await), (None, Some(1)));
        relay.admit();
        assert_eq!(new.read_u8().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_delay_is_added_each_way() {
        let relay = Relay::to(&server(1).await).await.unwrap();
        let mut client = TcpStream::connect(relay.address).await.unwrap();
        let delay = Duration::from_millis(40);
        relay.delay(delay);
        let began = std::time::Instant::now();
        assert_eq!(ask(&mut client).await, Some(1));
        assert!(began.elapsed() >= delay * 2, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_relay_that_refuses_leaves_old_connections_alone() {
        let mut relay = Relay::to(&server(1).await).await.unwrap();
        let mut old = TcpStream::connect(relay.address).await.unwrap();
        assert_eq!(ask(&mut old).await, Some(1));
        relay.refuse().await;
        assert!(TcpStream::connect(relay.address).await.is_err());
        assert_eq!(ask(&mut old).await, Some(1));
        relay.accept().await.unwrap();
        assert!(TcpStream::connect(relay.address).await.is_ok());
    }
}
