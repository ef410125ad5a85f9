//! A cluster whose servers are members of one group: of Galera on MariaDB, of Group Replication on
//! MySQL.

use anyhow::{bail, ensure};

use crate::docker::run;
use crate::wait::eventually;
use crate::{Cluster, Engine, Server};

/// Any UUID will do.
const NAME: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
/// Members find each other within seconds.
const FORMED_WITHIN: std::time::Duration = std::time::Duration::from_secs(40);

impl Cluster {
    /// All servers become members of one group. The first one takes writes, and the others are
    /// read-only. [`Cluster::begin_anew`] undoes this.
    ///
    /// # Errors
    /// When a server refuses, or the group is not whole within 40 s.
    pub async fn form_group(&self) -> anyhow::Result<()> {
        match self.engine() {
            Engine::Postgres => bail!("PostgreSQL has no such groups"),
            Engine::Mysql => self.form_group_replication().await,
            Engine::Mariadb => self.form_galera().await,
        }
    }

    /// <https://dev.mysql.com/doc/refman/9.7/en/group-replication-getting-started.html>
    async fn form_group_replication(&self) -> anyhow::Result<()> {
        let seeds: Vec<_> = self.servers().iter().map(|it| format!("{}:33061", it.name)).collect();
        let seeds = seeds.join(",");
        for replica in self.replicas() {
            replica
                .sql("STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only = OFF")
                .await?;
        }
        for server in self.servers() {
            // The application sees its member's state.
            let prepare = format!(
                "SET sql_log_bin = 0; \
                 INSTALL PLUGIN group_replication SONAME 'group_replication.so'; \
                 SET GLOBAL group_replication_local_address = '{}:33061'; \
                 SET GLOBAL group_replication_group_name = '{NAME}'; \
                 SET GLOBAL group_replication_group_seeds = '{seeds}'; \
                 SET GLOBAL group_replication_ssl_mode = 'DISABLED'; \
                 SET GLOBAL group_replication_recovery_use_ssl = OFF; \
                 SET GLOBAL group_replication_recovery_get_public_key = ON; \
                 CHANGE REPLICATION SOURCE TO SOURCE_USER = 'sealane_replication', \
                 SOURCE_PASSWORD = 'sealane_replication' \
                 FOR CHANNEL 'group_replication_recovery'; \
                 GRANT SELECT ON performance_schema.replication_group_members TO sealane@'%'",
                server.name
            );
            server.sql(&prepare).await?;
        }
        let bootstrap = "SET GLOBAL group_replication_bootstrap_group = ON; \
            START GROUP_REPLICATION; SET GLOBAL group_replication_bootstrap_group = OFF";
        self.primary().sql(bootstrap).await?;
        for replica in self.replicas() {
            replica.sql("START GROUP_REPLICATION").await?;
        }
        self.is_whole(
            "SELECT CAST(COUNT(*) AS SIGNED) FROM performance_schema.replication_group_members \
             WHERE member_state = 'ONLINE'",
        )
        .await
    }

    /// <https://mariadb.com/kb/en/getting-started-with-mariadb-galera-cluster/>
    async fn form_galera(&self) -> anyhow::Result<()> {
        let (first, data) = (self.primary(), self.primary().replication().data());
        first.shell(&format!("echo > {data}.galera")).await?;
        // It founds the group, and its data then say so.
        first.stop().await?;
        first.start().await?;
        first.stop().await?;
        for replica in self.replicas() {
            // The start script gives the new member its first member's address, and no other source.
            let leave = format!(
                "echo {} > {data}.galera; touch {data}.promoted; mv {data} {data}.before",
                first.name
            );
            replica.shell(&leave).await?;
            replica.kill().await?;
            let copy = format!(
                "docker cp {}:{data} - | docker cp - {}:{}",
                first.container,
                replica.container,
                data.rsplit_once('/').map_or("/", |(folder, _)| folder)
            );
            run("sh", &["-c", &copy]).await?;
        }
        first.start().await?;
        for replica in self.replicas() {
            replica.start().await?;
            replica.shell(&format!("rm -rf {data}.before")).await?;
            replica.sql("SET GLOBAL read_only = ON").await?;
        }
        self.is_whole(
            "SELECT CAST(variable_value AS SIGNED) FROM information_schema.global_status \
             WHERE variable_name = 'wsrep_cluster_size'",
        )
        .await
    }

    /// Waits until every server counts all of them.
    async fn is_whole(&self, count: &str) -> anyhow::Result<()> {
        for server in self.servers() {
            let what = format!("{} sees the whole group", server.name);
            eventually(FORMED_WITHIN, &what, async || {
                let seen: i64 = server.query_scalar(count).await?;
                ensure!(usize::try_from(seen)? == self.servers().len(), "it sees {seen}");
                Ok(true)
            })
            .await?;
        }
        Ok(())
    }
}

impl Server {
    /// The member is behind from now on, as far as its group knows, and goes on answering: it takes
    /// no part in Galera's flow control any more, or it has left its group.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn desync(&self) -> anyhow::Result<()> {
        self.sql(match self.engine {
            Engine::Mariadb => "SET GLOBAL wsrep_desync = ON",
            _ => "STOP GROUP_REPLICATION",
        })
        .await
    }

    /// Undoes [`Server::desync`].
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn resync(&self) -> anyhow::Result<()> {
        self.sql(match self.engine {
            Engine::Mariadb => "SET GLOBAL wsrep_desync = OFF",
            _ => "START GROUP_REPLICATION",
        })
        .await
    }
}
