//! Which filters of replication the catalog includes, and who has told them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use sealane_core::{EndpointId, Failure};
use sealane_sql::{Catalog, ReplicationFilter};

use super::{Loaded, Told};
use crate::TopologyStore;

/// Time limit for one server to report its filters during a load, which waits for it.
const IN_A_LOAD: Duration = Duration::from_secs(2);
/// Time limit for one server to report its filters when only its own reads wait. Some are far away.
const BY_ITSELF: Duration = Duration::from_secs(10);

/// What one server has reported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerFilters {
    /// One for each channel with a filter, and one for the binary log if that is filtered.
    pub filters: Vec<ReplicationFilter>,
    /// Whether there may be filters that our role may not see.
    pub is_hidden: bool,
}

impl ServerFilters {
    /// Logs the filters.
    fn say(&self, endpoint: &str) {
        if self.is_hidden {
            tracing::info!(
                target: "sealane::catalog",
                endpoint,
                "our role may not see this server's filters of replication; if it has any, its \
                 tables must be read on the primary by a hint"
            );
        }
        if !self.filters.is_empty() {
            tracing::warn!(
                target: "sealane::catalog",
                endpoint,
                filters = ?self.filters,
                "this server filters replication: reads of what is left out stay on the primary"
            );
        }
    }
}

/// What a server has reported.
#[derive(Debug)]
struct Answer {
    endpoint: EndpointId,
    /// The question that it answers. See [`Topology::filter_questions`](sealane_core::Topology).
    question: Option<u32>,
    told: ServerFilters,
}

/// The filters that the last catalog includes, by the server that reported them.
#[derive(Debug)]
pub struct KnownFilters {
    store: Arc<TopologyStore>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    of_servers: Vec<(EndpointId, ServerFilters)>,
    /// How often something was kept between two loads.
    additions: u64,
}

impl KnownFilters {
    /// No filters of the servers of `store`.
    #[must_use]
    pub fn new(store: Arc<TopologyStore>) -> Self {
        KnownFilters { store, known: Mutex::default() }
    }

    /// The catalog that `judge` makes with the filters of `servers`, which are asked in time. They are
    /// asked again if one of them has answered a question in the meantime: the catalog might lack what
    /// counts as included since.
    ///
    /// # Errors
    /// That of `judge`.
    pub async fn load<S, A, J, C>(&self, servers: S, judge: J) -> Result<Loaded, Failure>
    where
        S: Fn() -> Vec<(EndpointId, A)>,
        A: Future<Output = Result<ServerFilters, String>>,
        J: Fn(Vec<ReplicationFilter>) -> C,
        C: Future<Output = Result<Catalog, Failure>>,
    {
        loop {
            let additions = self.lock().additions;
            let answers = self.ask_all(servers()).await;
            let catalog = judge(self.with(&answers)).await?;
            if self.lock().additions == additions {
                let has_new_filters = answers.iter().any(|answer| !self.includes(answer));
                return Ok(Loaded { catalog, answered: self.keep(answers), has_new_filters });
            }
        }
    }

    /// What each of these servers reports in time. Those that are down report when they are back.
    async fn ask_all<A>(&self, servers: Vec<(EndpointId, A)>) -> Vec<Answer>
    where
        A: Future<Output = Result<ServerFilters, String>>,
    {
        let questions = servers.into_iter().filter_map(|(endpoint, asking)| {
            let topology = self.store.topology();
            // Seen before the server is asked. A later question is asked again.
            let state = topology.get(endpoint).filter(|it| it.is_usable())?;
            let question = state.filters_unknown.map(|it| it.number);
            Some(async move {
                let told = tokio::time::timeout(IN_A_LOAD, asking).await.ok()?.ok()?;
                Some(Answer { endpoint, question, told })
            })
        });
        join_all(questions).await.into_iter().flatten().collect()
    }

    /// What a server reports, to answer a question between two loads. It is kept if the last catalog
    /// includes it.
    pub async fn ask(
        &self,
        endpoint: EndpointId,
        question: u32,
        asking: impl Future<Output = Result<ServerFilters, String>>,
    ) -> Told {
        let told = match tokio::time::timeout(BY_ITSELF, asking).await {
            Ok(Ok(told)) => told,
            Ok(Err(why)) => return Told::Nothing(why),
            Err(_) => return Told::Nothing(format!("no answer within {BY_ITSELF:?}")),
        };
        let answer = Answer { endpoint, question: Some(question), told };
        if !self.includes(&answer) {
            return Told::New;
        }
        self.keep([answer]);
        self.lock().additions += 1;
        Told::Included
    }

    /// The filters in these answers, and for the other servers those that the last catalog includes.
    fn with(&self, answers: &[Answer]) -> Vec<ReplicationFilter> {
        let known = self.lock();
        let is_silent = |endpoint| answers.iter().all(|it| it.endpoint != endpoint);
        let others = known.of_servers.iter().filter(|(endpoint, _)| is_silent(*endpoint));
        let answered = answers.iter().flat_map(|it| known.after(it).filters);
        others.flat_map(|(_, it)| it.filters.clone()).chain(answered).collect()
    }

    /// Keeps these answers, because the catalog includes them now, and logs those that are new.
    /// Returns the questions that they answer.
    fn keep(&self, answers: impl IntoIterator<Item = Answer>) -> Vec<(EndpointId, u32)> {
        let mut answered = Vec::new();
        for answer in answers {
            let endpoint = answer.endpoint;
            answered.extend(answer.question.map(|number| (endpoint, number)));
            let topology = self.store.topology();
            // It may have been removed in the meantime.
            let Some(state) = topology.get(endpoint) else { continue };
            let mut known = self.lock();
            let now = known.after(&answer);
            if known.of(endpoint) != Some(&now) {
                known.of_servers.retain(|(of, _)| *of != endpoint);
                known.of_servers.push((endpoint, now.clone()));
                drop(known);
                now.say(state.endpoint.name());
            }
        }
        answered
    }

    /// Forgets the filters of an endpoint that is removed.
    pub fn forget(&self, endpoint: EndpointId) {
        self.lock().of_servers.retain(|(of, _)| *of != endpoint);
    }

    /// Whether the last catalog includes all filters of this answer, of whatever server.
    fn includes(&self, answer: &Answer) -> bool {
        let known = self.lock();
        let has = |filter| known.of_servers.iter().any(|(_, it)| it.filters.contains(filter));
        answer.told.filters.iter().all(has)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn of(&self, endpoint: EndpointId) -> Option<&ServerFilters> {
        self.of_servers.iter().find(|(of, _)| *of == endpoint).map(|(_, told)| told)
    }

    /// The filters of a server after its answer. A privilege that is taken from our role hides
    /// filters; it does not remove them.
    fn after(&self, answer: &Answer) -> ServerFilters {
        let mut told = answer.told.clone();
        let before = self.of(answer.endpoint).filter(|_| told.is_hidden);
        for filter in before.iter().flat_map(|it| &it.filters) {
            if !told.filters.contains(filter) {
                told.filters.push(filter.clone());
            }
        }
        told
    }
}
