//! Servers that speak TLS, with certificates of an authority that lives as long as one test.

use std::io::Write;

use anyhow::Context;
use futures_util::future::try_join_all;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use sealane::Config;
use tempfile::NamedTempFile;

use crate::{Cluster, Engine, Server, fleet};

/// Signs certificates. Clients believe the authority whose certificate is in [`Authority::path`].
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: NamedTempFile,
}

/// A server's certificate, its private key, and the certificate of who signed it, as PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    chain: String,
    key: String,
    authority: String,
}

impl Authority {
    /// A new one, which nobody else believes.
    ///
    /// # Errors
    /// When there is no room for a temporary file.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "An authority of a test");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let mut file = NamedTempFile::new()?;
        file.write_all(issuer.pem().as_bytes())?;
        Ok(Authority { issuer, file })
    }

    /// The file with the authority's own certificate, for `sslrootcert` and `ssl-ca`.
    ///
    /// # Errors
    /// When the path is not UTF-8.
    pub fn path(&self) -> anyhow::Result<&str> {
        self.file.path().to_str().context("the path of a temporary file is not UTF-8")
    }

    /// A certificate for a host name or an address.
    ///
    /// # Errors
    /// When `host` is neither.
    pub fn certify(&self, host: &str) -> anyhow::Result<Certificate> {
        self.sign(CertificateParams::new([host.to_owned()])?)
    }

    /// One that has expired.
    ///
    /// # Errors
    /// As [`Authority::certify`].
    pub fn certify_for_the_past(&self, host: &str) -> anyhow::Result<Certificate> {
        let mut params = CertificateParams::new([host.to_owned()])?;
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        self.sign(params)
    }

    /// The configuration for `cluster`, which this authority has certified. Clients check the
    /// certificates, and the hosts in them.
    ///
    /// # Errors
    /// As [`Authority::path`].
    pub fn config(&self, cluster: &Cluster) -> anyhow::Result<Config> {
        let file = self.path()?;
        let wanted = match cluster.engine() {
            Engine::Postgres => format!("sslmode=verify-full&sslrootcert={file}"),
            _ => format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={file}"),
        };
        Ok(fleet::config_as(cluster, |server| format!("{}?{wanted}", sealed(server))))
    }

    fn sign(&self, params: CertificateParams) -> anyhow::Result<Certificate> {
        let key = KeyPair::generate()?;
        let chain = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Certificate { chain, key: key.serialize_pem(), authority: self.issuer.pem() })
    }
}

/// A role that each server takes only with an encrypted connection, once it has TLS.
const SEALED: &str = "sealed";

impl Cluster {
    /// Does `work` while every server has a certificate for its host and the application a role that
    /// needs encrypted connections. Then the cluster is healed and encrypts nothing any more: other
    /// suites must not pay for it.
    ///
    /// # Errors
    /// Those of `work`; as [`Server::encrypt`]; or when the cluster cannot be healed.
    pub async fn while_encrypted(
        &self,
        work: impl AsyncFnOnce(&Authority) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let authority = Authority::new()?;
        let encrypting = self.servers().iter().map(async |server| {
            let certificate = authority.certify(&server.host()?)?;
            server.encrypt(&certificate).await
        });
        try_join_all(encrypting).await?;
        self.make_sealed_role().await?;
        let done = work(&authority).await;
        self.heal().await?;
        // Healing has undone it on PostgreSQL.
        if self.engine() != Engine::Postgres {
            try_join_all(self.servers().iter().map(|server| server.restart_with(&[]))).await?;
        }
        done
    }

    async fn make_sealed_role(&self) -> anyhow::Result<()> {
        let primary = self.primary();
        if self.engine() != Engine::Postgres {
            let create = format!(
                "CREATE USER IF NOT EXISTS {SEALED}@'%' IDENTIFIED BY 'sealane' REQUIRE SSL"
            );
            primary.sql(&create).await?;
            primary.sql(&format!("GRANT ALL ON sealane.* TO {SEALED}@'%'")).await?;
            return fleet::replayed(self).await;
        }
        let hash = fleet::PASSWORD_HASH;
        primary.sql(&format!("DROP ROLE IF EXISTS {SEALED}")).await?;
        let create = format!("CREATE ROLE {SEALED} LOGIN PASSWORD '{hash}' IN ROLE sealane");
        primary.sql(&create).await?;
        for server in self.servers() {
            let access = format!("{}/pg_hba.conf", server.replication().data());
            let rule = format!("hostnossl all {SEALED} all reject");
            server
                .shell(&format!("grep -q '^{rule}' {access} || sed -i '1i {rule}' {access}"))
                .await?;
            server.sql("SELECT pg_reload_conf()").await?;
        }
        fleet::replayed(self).await
    }
}

/// The URL of a server for the role that needs encrypted connections.
#[must_use]
pub fn sealed(server: &Server) -> String {
    server.url.replacen("sealane:sealane@", &format!("{SEALED}:sealane@"), 1)
}

/// Encryption of a server's connections. [`Cluster::while_encrypted`] undoes it.
impl Server {
    /// Shows `certificate` to clients that connect from now on. Connections that are open stay as
    /// they are, except that MySQL and MariaDB have to start again for the first certificate.
    ///
    /// # Errors
    /// As [`Server::sql`], or when Docker refuses.
    pub async fn encrypt(&self, certificate: &Certificate) -> anyhow::Result<()> {
        let [chain, key, authority] = self.certificate_files();
        let Certificate { chain: its_chain, key: its_key, authority: its_authority } = certificate;
        for (file, text) in [(&chain, its_chain), (&key, its_key), (&authority, its_authority)] {
            // A server takes no key that others may read.
            self.shell(&format!("umask 077; echo '{text}' > {file}.new; mv {file}.new {file}"))
                .await?;
        }
        match self.engine {
            Engine::Postgres => {
                for change in [
                    "ssl = on".to_owned(),
                    format!("ssl_cert_file = '{chain}'"),
                    format!("ssl_key_file = '{key}'"),
                ] {
                    self.sql(&format!("ALTER SYSTEM SET {change}")).await?;
                }
                self.sql("SELECT pg_reload_conf()").await
            }
            Engine::Mysql if self.has_tls().await? => self.sql("ALTER INSTANCE RELOAD TLS").await,
            // Not LOCAL, it would be a write of the replica's own.
            Engine::Mariadb if self.has_tls().await? => self.sql("FLUSH LOCAL SSL").await,
            Engine::Mysql | Engine::Mariadb => {
                let on = if self.engine == Engine::Mariadb { "ssl = ON" } else { "" };
                let files = [("cert", &chain), ("key", &key), ("ca", &authority)]
                    .map(|(name, file)| format!("ssl_{name} = {file}"));
                let [chain, key, authority] = &files;
                self.restart_with(&[on, chain, key, authority]).await
            }
        }
    }

    /// The host in the server's URL.
    ///
    /// # Errors
    /// When it has none.
    pub fn host(&self) -> anyhow::Result<String> {
        let url = url::Url::parse(&self.url)?;
        url.host_str().map(str::to_owned).context("a URL without a host")
    }

    async fn has_tls(&self) -> anyhow::Result<bool> {
        let chain = self.query_scalar::<String>("SELECT COALESCE(@@ssl_cert, '')").await?;
        Ok(!chain.is_empty())
    }

    fn certificate_files(&self) -> [String; 3] {
        ["crt", "key", "ca"].map(|ending| format!("{}.{ending}", self.replication().data()))
    }
}
