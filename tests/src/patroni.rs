//! Three real members of Patroni with a real etcd, in a container of their own.

use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use serde_json::json;

use crate::{
    Server,
    companion::{Companion, Recipe, free_port},
    wait::eventually,
};

/// Three members are made one after the other, from the first one's data.
const START_LIMIT: Duration = Duration::from_secs(90);
const MEMBERS: usize = 3;

const RECIPE: Recipe = Recipe {
    name: "patroni",
    lines: "\
USER root
RUN apt-get update && apt-get install --yes --no-install-recommends \
    etcd-server patroni python3-dnspython python3-etcd && rm -rf /var/lib/apt/lists/*
",
};

/// One member.
#[derive(Debug)]
pub struct Member {
    /// What Patroni calls it.
    pub name: String,
    /// Its server's URL, for an application.
    pub url: String,
    api: String,
}

#[derive(Debug, Deserialize)]
struct Told {
    members: Vec<State>,
}

/// What a member does.
#[derive(Debug, Deserialize)]
struct State {
    name: String,
    role: String,
    state: String,
}

/// The members. All of them end when it is dropped.
#[derive(Debug)]
pub struct Patroni {
    companion: Companion,
    /// In the order of their names.
    pub members: Vec<Member>,
}

impl Patroni {
    /// Starts the members, with synchronous replication, and waits until one of them leads and the
    /// others follow. `server` lends its image and the labels of the run; it must be PostgreSQL's.
    ///
    /// # Errors
    /// When the image cannot be made, or that takes longer than 90 s.
    pub async fn start(server: &Server) -> anyhow::Result<Self> {
        let etcd = free_port()?;
        let members: Vec<Member> = (1..=MEMBERS).map(Member::new).collect::<anyhow::Result<_>>()?;
        let ports = |of: fn(&Member) -> &str| {
            let ports = members.iter().map(|member| port(of(member)));
            ports.collect::<Vec<_>>().join(" ")
        };
        let (servers, apis) = (ports(|it| &it.url), ports(|it| &it.api));
        let script = include_str!("patroni.sh");
        let script = format!("ETCD={etcd}\nPORTS='{servers}'\nAPIS='{apis}'\n{script}");
        let companion = Companion::start(server, &RECIPE, &script).await?;
        let patroni = Self { companion, members };
        patroni.settles().await.with_context(|| patroni.companion.logs())?;
        Ok(patroni)
    }

    /// Waits until one member leads and the others follow, one of them synchronously: Patroni lets
    /// nobody else take over.
    ///
    /// # Errors
    /// When that takes longer than 90 s.
    pub async fn settles(&self) -> anyhow::Result<()> {
        eventually(START_LIMIT, "one member leads and the others follow", async || {
            let states = self.states().await?;
            let follow = states.iter().filter(|it| it.state == "streaming").count();
            let is_ready = states.iter().any(|it| it.role == "sync_standby");
            Ok(follow == MEMBERS - 1 && is_ready)
        })
        .await
    }

    /// The name of the member that leads, if one does.
    ///
    /// # Errors
    /// When no member answers.
    pub async fn leader(&self) -> anyhow::Result<Option<String>> {
        let mut states = self.states().await?.into_iter();
        Ok(states.find(|it| it.role == "leader").map(|it| it.name))
    }

    /// Hands the lead over to another member, as Patroni's operator does.
    ///
    /// # Errors
    /// When Patroni refuses.
    pub async fn switch_over(&self, from: &str) -> anyhow::Result<()> {
        let url = format!("{}/switchover", self.member(from)?.api);
        let leader = json!({ "leader": from });
        ask(move |agent| Ok(agent.post(url).send_json(leader)?.body_mut().read_to_string()?))
            .await
            .map(drop)
    }

    /// Kills a member: Patroni and its server, without a word to anybody.
    ///
    /// # Errors
    /// When they do not run.
    pub async fn kill(&self, name: &str) -> anyhow::Result<()> {
        let script = format!(
            "kill -9 $(cat /tmp/{name}.pid) && kill -9 $(head -n 1 /tmp/{name}/postmaster.pid)"
        );
        self.companion.run(&script, false).await
    }

    /// Starts a member again that was killed.
    ///
    /// # Errors
    /// When the container has gone.
    pub async fn revive(&self, name: &str) -> anyhow::Result<()> {
        self.companion.run(&format!("sh /tmp/{name}.sh"), true).await
    }

    /// The member called so.
    ///
    /// # Errors
    /// There is none.
    pub fn member(&self, name: &str) -> anyhow::Result<&Member> {
        self.members.iter().find(|it| it.name == name).with_context(|| format!("no {name}"))
    }

    /// What each member does, as the first one that answers says.
    async fn states(&self) -> anyhow::Result<Vec<State>> {
        let mut told = Err(anyhow::anyhow!("no members"));
        for member in &self.members {
            let url = format!("{}/cluster", member.api);
            told = ask(move |agent| Ok(agent.get(url).call()?.body_mut().read_json()?)).await;
            if told.is_ok() {
                break;
            }
        }
        let told: Told = told?;
        Ok(told.members)
    }
}

impl Member {
    fn new(number: usize) -> anyhow::Result<Self> {
        let (port, api) = (free_port()?, free_port()?);
        Ok(Self {
            name: format!("member-{number}"),
            url: format!("postgres://postgres:postgres@127.0.0.1:{port}/postgres"),
            api: format!("http://127.0.0.1:{api}"),
        })
    }
}

/// The port in a URL.
fn port(url: &str) -> &str {
    let after = url.rsplit(':').next().unwrap_or_default();
    after.split('/').next().unwrap_or_default()
}

async fn ask<T: Send + 'static>(
    question: impl FnOnce(&ureq::Agent) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let asked = tokio::task::spawn_blocking(move || {
        let limit = Some(Duration::from_secs(30));
        let agent = ureq::Agent::config_builder().timeout_global(limit).build();
        question(&ureq::Agent::new_with_config(agent))
    });
    asked.await?
}
