//! Changing the routing rules while the application runs.

use sealane_core::{Endpoint, Rule};

use crate::{ConnectError, RoutedConnection, cluster::Cluster};

/// The routing rules of a connection, for all its handles. See [`RoutedConnection::rules`].
#[derive(Debug, Clone, Copy)]
pub struct LiveRules<'a> {
    cluster: &'a Cluster,
}

impl RoutedConnection {
    /// The routing rules, to look at or to change. A change is for all handles, and for reads that
    /// begin after it.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), sea_orm::DbErr> {
    /// use sealane::{Config, Rule};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// let db = sealane::connect(Config::sqlite(dir.path().join("shop.db"))).await?;
    /// db.rules().add(Rule::new("balances").text("*balance*").to_primary())?;
    /// let why = db.explain("SELECT 1 AS balance");
    /// assert_eq!(why.rule.as_deref(), Some("balances"));
    /// assert_eq!(why.first_choice(), Some("writer"));
    /// assert!(db.rules().remove("balances"));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "sqlite"))]
    /// # fn main() {}
    /// ```
    #[must_use]
    pub fn rules(&self) -> LiveRules<'_> {
        LiveRules { cluster: self.cluster() }
    }
}

impl LiveRules<'_> {
    /// Replaces all rules.
    ///
    /// # Errors
    /// A rule cannot be used ([`ConnectError::Rule`]); the rules stay as they were.
    pub fn set(&self, rules: impl IntoIterator<Item = Rule>) -> Result<(), ConnectError> {
        let rules = rules.into_iter().collect();
        self.cluster.routing.set(rules, &self.endpoints()).map_err(ConnectError::Rule)
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// The rule cannot be used, or its name is taken ([`ConnectError::Rule`]).
    pub fn add(&self, rule: Rule) -> Result<(), ConnectError> {
        self.cluster.routing.add(rule, &self.endpoints()).map_err(ConnectError::Rule)
    }

    /// Removes the rule with this name. Returns whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        self.cluster.routing.remove(name)
    }

    /// The rules, in the order in which they are tried.
    #[must_use]
    pub fn list(&self) -> Vec<Rule> {
        self.cluster.routing.list()
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        let topology = self.cluster.store().topology();
        topology.iter().map(|(_, state)| state.endpoint.clone()).collect()
    }
}
