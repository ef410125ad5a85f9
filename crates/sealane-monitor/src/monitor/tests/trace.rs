//! What a `tracing` subscriber sees of probes.

use std::sync::Once;

use tracing::subscriber::{DefaultGuard, NoSubscriber, set_default, set_global_default};
use tracing_subscriber::fmt::format::FmtSpan;

use super::*;

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything logged in this thread during the value's life.
struct Told {
    text: Text,
    _listening: DefaultGuard,
}

/// `tracing` caches for the whole program whether a subscriber listens. Tests in other threads
/// without a subscriber must not set this cache.
fn listen_everywhere() {
    static EVERYWHERE: Once = Once::new();
    EVERYWHERE.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(std::io::sink)
            .finish();
        set_global_default(subscriber).unwrap();
    });
}

impl Told {
    fn listen() -> Self {
        listen_everywhere();
        let text = Text::default();
        let writer = text.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(FmtSpan::CLOSE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        Told { text, _listening: set_default(subscriber) }
    }

    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.text.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// The only line that contains all `parts`.
    fn line_with(&self, parts: &[&str]) -> String {
        let mut lines = self.lines();
        lines.retain(|line| parts.iter().all(|part| line.contains(part)));
        assert_eq!(lines.len(), 1, "{parts:?} in {:#?}", self.lines());
        lines.remove(0)
    }
}

async fn probe_once(probe: impl Probe) -> Told {
    let told = Told::listen();
    let store = TopologyStore::new(Topology::new(vec![Endpoint::new("near", "10.1.2.3:5432")]));
    let monitor = Monitor::spawn(store, vec![probe], ProbeSchedule::default());
    monitor.first_round(Duration::from_secs(5)).await;
    told
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_a_span_that_names_the_endpoint_and_the_outcome() {
    let told = probe_once(Server::new(Role::Primary, 100)).await;
    let line = told.line_with(&["sealane::probe", "close"]);
    for part in [
        "probe{",
        r#"db.system.name="numbers""#,
        r#"server.address="10.1.2.3""#,
        "server.port=5432",
        r#"sealane.endpoint="near""#,
        "sealane.probe.connects=true",
        r#"sealane.probe.outcome="answered""#,
        "sealane.probe.latency_us=",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(!line.contains("error.type"), "{line}");
    told.line_with(&["probe{", r#"sealane.endpoint="near""#, "reading the numbers"]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_logged_within_its_probes_span() {
    let server = Server::new(Role::Primary, 100);
    server.set(|state| state.refuses = true);
    let told = probe_once(server).await;
    told.line_with(&["probe{", r#"sealane.endpoint="near""#, "probe failed", "refused"]);
    told.line_with(&["close", r#"outcome="failed""#, r#"error.type="connection""#]);
}

#[tokio::test(start_paused = true)]
async fn a_probe_without_a_listener_creates_no_span() {
    let told = Told::listen();
    assert!(span::is_watched());
    let _nobody = set_default(NoSubscriber::default());
    assert!(!span::is_watched());
    let store = TopologyStore::new(Topology::new(vec![Endpoint::new("near", "10.1.2.3:5432")]));
    let monitor =
        Monitor::spawn(store, vec![Server::new(Role::Primary, 100)], ProbeSchedule::default());
    monitor.first_round(Duration::from_secs(5)).await;
    assert_eq!(told.lines(), Vec::<String>::new());
}

/// A server that asks for a plain-text password and then refuses it.
#[cfg(feature = "postgres")]
fn refuses_passwords() -> std::io::Result<u16> {
    use std::io::{Read, Write};

    const SEND_IT_PLAIN: &[u8] = b"R\0\0\0\x08\0\0\0\x03";
    const NO: &[u8] = b"E\0\0\0\x1eSFATAL\0VFATAL\0C28P01\0Mno\0\0";
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || -> std::io::Result<()> {
        let (mut client, _) = listener.accept()?;
        let mut said = [0; 1024];
        assert_ne!(client.read(&mut said)?, 0, "it did not begin");
        client.write_all(SEND_IT_PLAIN)?;
        let count = client.read(&mut said)?;
        assert!(said[..count].windows(4).any(|part| part == b"tide"), "no password came");
        client.write_all(NO)?;
        client.read(&mut said).map(drop)
    });
    Ok(port)
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn no_password_is_logged_even_if_it_is_wrong() {
    use sqlx::postgres::{PgConnectOptions, PgSslMode};

    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(refuses_passwords().unwrap())
        .username("app")
        .password("tide")
        .ssl_mode(PgSslMode::Disable);
    let told = probe_once(crate::postgres::PostgresProbe::new(options)).await;
    told.line_with(&["close", "sealane.probe.connects=true", r#"error.type="misconfigured""#]);
    let spoilt = told.lines().into_iter().find(|line| line.contains("tide"));
    assert_eq!(spoilt, None);
}
