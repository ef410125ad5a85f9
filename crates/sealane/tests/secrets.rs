//! Passwords, planted wherever a configuration can hold one: none comes out again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end there")]

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use proptest::prelude::*;
use sea_orm::{ConnectionTrait, DbErr};
use sealane::{Config, ConnectError, Replica};

/// Everything that anybody logs in this process, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn of_this_process() -> &'static Log {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Log::default();
            let writer = log.clone();
            tracing_subscriber::fmt()
                .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
                .with_writer(move || writer.clone())
                .init();
            log
        })
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// What was logged after the first `begin` bytes.
    fn text_from(&self, begin: usize) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()[begin..]).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A password of two parts, each of which is easily found in a text. The first one may pass for a
/// port, the last one for a host.
#[derive(Debug, Clone)]
struct Password {
    parts: [String; 2],
    between: &'static str,
}

impl Password {
    fn text(&self) -> String {
        self.parts.join(self.between)
    }

    /// As it belongs into a URL.
    fn encoded(&self) -> String {
        let encoded: Vec<_> = self.between.bytes().map(|byte| format!("%{byte:02X}")).collect();
        self.parts.join(&encoded.concat())
    }

    /// # Panics
    /// Some part of it is in `told`.
    fn check_absent(&self, told: &str) -> Result<(), TestCaseError> {
        for part in &self.parts {
            prop_assert!(!told.contains(part.as_str()), "{part} of {self:?} in: {told}");
        }
        Ok(())
    }
}

fn any_password() -> impl Strategy<Value = Password> {
    let number = (41_000..49_000_u32).prop_map(|it| it.to_string());
    let first = prop_oneof![number, "tide[a-z]{6}"];
    let last = "ebb[a-z]{7}";
    let special = [
        "", ",", ";", " ", "/", "?", "#", "@", ":", "\\", "\"", "'", "%", "%2", "&", "=", "=#",
        "$", "{", "://", ", ", "\t", "\n", "[", "]", "`",
    ];
    (first, prop::sample::select(special.to_vec()), last)
        .prop_map(|(first, between, last)| Password { parts: [first, last], between })
}

/// What goes around a password. `PASSWORD` is it as it is, `ENCODED` as it belongs into a URL. What
/// is mistaken for a host is this machine, where nobody listens.
const URLS: &[&str] = &[
    "postgres://127.0.0.1:PASSWORD@127.0.0.1:1/shop",
    "postgres://127.0.0.1:ENCODED@127.0.0.1:1/shop",
    "mysql://127.0.0.1:PASSWORD@127.0.0.1:1/shop",
    "mysql://127.0.0.1:ENCODED@127.0.0.1:1/shop",
    "postgres://127.0.0.1:PASSWORD@127.0.0.1:1",
    "postgres//127.0.0.1:PASSWORD@127.0.0.1:1/shop",
    "postgrse://127.0.0.1:PASSWORD@127.0.0.1:1/shop",
    "127.0.0.1:PASSWORD@127.0.0.1:1/shop",
    "app:PASSWORD@127.0.0.1:1/shop",
    "PASSWORD://app:PASSWORD@127.0.0.1:1/shop",
    "PASSWORD:PASSWORD",
    "PASSWORD",
    "oracle://app:PASSWORD@127.0.0.1/shop",
    "postgres://127.0.0.1:PASSWORD@127.0.0.1:1/shop;postgres://127.0.0.1:PASSWORD@127.0.0.1:1/shop",
    "postgres://127.0.0.1:1/shop;postgres://127.0.0.1:PASSWORD@127.0.0.1:1/shop",
    "postgres://127.0.0.1:1/shop;127.0.0.1:PASSWORD@127.0.0.1:1/shop",
    "postgres://127.0.0.1:1/shop, postgres://127.0.0.1:PASSWORD@127.0.0.1:1/shop",
    "postgres://127.0.0.1:1/shop postgres://127.0.0.1:PASSWORD@127.0.0.1:1/shop",
    "postgres://127.0.0.1:1/shop?password=ENCODED",
    "postgres://127.0.0.1:1/shop?passwd=ENCODED",
    "postgres://127.0.0.1:1/shop?sslpassword=ENCODED",
    "postgres://127.0.0.1:1/shop?sslmode=ENCODED",
    "mysql://127.0.0.1:1/shop?ssl-mode=ENCODED",
    "postgres://127.0.0.1:1/shop?port=ENCODED",
    "postgres://app:PASSWORD@127.0.0.1:1/shop?sslmode=no",
    "postgres://app:PASSWORD@/shop?host=/no/such/folder",
    "sqlite://postgres://app:PASSWORD@127.0.0.1:1/shop",
    "sqlite:///no/such/folder/postgres://app:PASSWORD@127.0.0.1:1/shop",
    "sqlite://harbour.db?key=ENCODED",
];

const FILES: &[&str] = &[
    "primary = 'URL'",
    "primary = ['URL']",
    "primary.url = ['URL']",
    "[primary]\nurl = URL",
    "[primary]\nurl = \"URL",
    "[primary]\nurl = 'URL'\n'URL' = 1",
    "[primary]\nurl = 'URL'\nPASSWORD = 1",
    "[primary]\nurl = 'URL'\n\"PASSWORD\" = 1\n\"PASSWORD\" = 1",
    "[primary]\nurl = 'URL'\n['URL']\nname = 'x'",
    "[primary]\nurl = 'URL'\n[PASSWORD]\nname = 'x'",
    "[primary]\nurl = 'URL'\n[[replicas]]\n'URL' = 'x'",
    "[primary]\nurl = 'URL'\nname = 'URL'",
    "[primary]\nurl = 'URL'\n[[replicas]]\nurl = 'URL'\nname = 'URL'",
    "[primary]\nurl = 'URL'\n[[replicas]]\nurl = 'URL'\ngroup = 'URL'",
    "[primary]\nurl = 'URL'\n[[replicas]]\nurl = 'URL'\ngroup = 'g'\nsubscription = 'URL'",
    "[primary]\nurl = 'URL'\n[routing]\nconsistency = 'PASSWORD'",
    "[primary]\nurl = 'URL'\n[routing]\nmax_lag_ms = 'PASSWORD'",
    "[primary]\nurl = 'URL'\n[tokens]\nkeys = 'PASSWORD'",
    "[primary]\nurl = 'URL'\n[tokens]\nkeys = ['PASSWORD']",
    "[primary]\nurl = 'URL'\n[tokens]\nPASSWORD = ['PASSWORD']",
    "replicas = ['URL', 'URL']\nprimary.url = 'URL'",
    "replicas = [{url = 'URL'}, {name = 'URL'}]\nprimary.url = 'URL'",
    "URL",
    "PASSWORD",
];

fn planted(pattern: &str, password: &Password) -> String {
    pattern.replace("PASSWORD", &password.text()).replace("ENCODED", &password.encoded())
}

/// All that anybody may print of an error.
fn told(error: ConnectError) -> String {
    let causes = std::iter::successors(std::error::Error::source(&error), |it| it.source());
    let causes: Vec<_> = causes.map(|it| format!("{it} {it:?}")).collect();
    let text = format!("{error}\n{error:?}\n{error:#?}\n{}", causes.join("\n"));
    format!("{text}\n{}", DbErr::from(error))
}

/// What becomes of `config`, in words.
async fn outcome(config: Result<Config, ConnectError>) -> String {
    let config = match config {
        Ok(config) => config.primary_wait(Duration::ZERO),
        Err(error) => return told(error),
    };
    let shown = format!("{config:?}\n{config:#?}");
    match sealane::connect(config).await {
        Ok(db) => {
            // With its span: each line is logged with the spans around it.
            let ran = db.execute_unprepared("SELECT 1").await;
            format!("{shown}\n{db:?}\n{:?}\n{ran:?}", db.status())
        }
        Err(error) => format!("{shown}\n{}", told(error)),
    }
}

/// Runs `config` and looks for `password` in all that is said of it.
fn check(
    password: &Password,
    config: impl FnOnce() -> Result<Config, ConnectError>,
) -> Result<(), TestCaseError> {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().unwrap());
    let log = Log::of_this_process();
    let begin = log.len();
    let told = runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(20), outcome(config())).await.unwrap()
    });
    password.check_absent(&told)?;
    password.check_absent(&log.text_from(begin))
}

fn cases() -> ProptestConfig {
    ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() }
}

/// That the tests below would find a password, in an error and in the log.
#[test]
fn a_password_that_is_told_is_found() {
    let password = Password { parts: ["tidewater", "ebbstones"].map(str::to_owned), between: "," };
    let told = |part: &str| check(&password, || Err(missing_file(part)));
    assert!(told("elsewhere").is_ok());
    assert!(told("tidewater").is_err() && told("ebbstones").is_err());
    let logged = check(&password, || {
        tracing::trace!("of {}", password.text());
        Err(missing_file("elsewhere"))
    });
    assert!(logged.is_err());
}

/// That statements are among what is looked through.
#[test]
fn a_statement_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::of_this_process();
    let begin = log.len();
    // No other test, which may run at the same time, writes this one.
    let password = Password { parts: ["tidelands", "ebbwaters"].map(str::to_owned), between: "," };
    check(&password, || Ok(Config::sqlite(folder.path().join("harbour.db")))).unwrap();
    let told = log.text_from(begin);
    assert!(told.contains("statement{") && told.contains("harbour.db"), "{told}");
}

fn missing_file(name: &str) -> ConnectError {
    Config::from_toml_file(format!("no/such/{name}")).unwrap_err()
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_password_of_a_url_is_told(
        password in any_password(),
        url in prop::sample::select(URLS.to_vec()),
        place in 0..4,
    ) {
        // A password alone, in the place of a name, is a name.
        prop_assume!(place != 2 || url.contains('@'));
        let url = planted(url, &password);
        check(&password, || Ok(match place {
            0 => Config::new(url),
            1 => Config::new("postgres://127.0.0.1:1/shop").replica(url),
            2 => Config::new("postgres://127.0.0.1:1/shop").replica(Replica::new("postgres://127.0.0.1:1/x").name(url)),
            _ => Config::new(url)
                .replica(Replica::new("postgres://127.0.0.1:1/shop").name("near").group("g")),
        }))?;
    }

    #[test]
    fn no_password_in_a_file_is_told(
        password in any_password(),
        url in prop::sample::select(URLS.to_vec()),
        file in prop::sample::select(FILES.to_vec()),
    ) {
        prop_assume!(!file.contains("name = 'URL'") || url.contains('@'));
        let text = planted(&file.replace("URL", url), &password);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sealane.toml");
        std::fs::write(&path, text).unwrap();
        check(&password, || Config::from_toml_file(&path))?;
    }

    #[test]
    fn no_password_in_the_place_of_a_path_or_a_group_is_told(
        password in any_password(),
        url in prop::sample::select(URLS.to_vec()),
        place in 0..4,
    ) {
        // As above, for a path.
        prop_assume!(url.contains('@') || url.contains("://"));
        let url = planted(url, &password);
        let one = Config::new("postgres://127.0.0.1:1/shop");
        let two = Replica::new("postgres://127.0.0.1:1/x");
        check(&password, || match place {
            0 => Config::from_toml_file(&url),
            1 => Ok(Config::sqlite(format!("no/such/folder/{url}"))),
            2 => Ok(one.replica(two.group(url))),
            _ => Ok(one.replica(two.group("g").subscription(url))),
        })?;
    }
}
