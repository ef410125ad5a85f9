//! A crash that loses the end of the log.

use crate::Server;

impl Server {
    /// Keeps a copy of the data as they are at this moment, for [`Server::crash_back`]. Only on MySQL and
    /// MariaDB.
    ///
    /// # Errors
    /// When Docker refuses, or the data cannot be copied.
    pub async fn keep_data(&self) -> anyhow::Result<()> {
        let data = self.replication().data();
        // What stands still is as whole as after a crash.
        let script = format!(
            "rm -rf {data}.kept; kill -STOP $(cat /tmp/sealane.pid); cp -a {data} {data}.kept; \
             copied=$?; kill -CONT $(cat /tmp/sealane.pid); exit $copied"
        );
        self.shell(&script).await
    }

    /// It crashes as a machine does that loses its power, and begins anew with what its disk had when
    /// [`Server::keep_data`] was called: what was written since is lost. Waits until it answers.
    ///
    /// # Errors
    /// As [`Server::keep_data`], or when it does not answer within 30 s.
    pub async fn crash_back(&self) -> anyhow::Result<()> {
        let data = self.replication().data();
        // The start script takes the data of this name, and begins at once.
        let script = format!(
            "mv {data} {data}.lost && mv {data}.kept {data} && kill -9 $(cat /tmp/sealane.pid) && \
             rm -rf {data}.lost"
        );
        self.shell(&script).await?;
        self.ready().await
    }
}
