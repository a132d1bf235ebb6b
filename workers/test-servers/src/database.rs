//! A database of one's own.

use std::{fs, str::FromStr as _};

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::PgConnectOptions};

use crate::{Addresses, tls::TestAuthority};

/// An empty database in the test server. It goes when the server goes.
#[derive(Clone, Debug)]
pub struct TestDatabase {
    /// How to connect as the superuser.
    pub options: PgConnectOptions,
    /// Its name.
    pub name: String,
}

impl TestDatabase {
    /// Makes one in the server that all tests share.
    ///
    /// # Errors
    /// When the environment does not say where the server is, or it does not answer.
    pub async fn create() -> anyhow::Result<Self> {
        Self::create_at(&Addresses::shared()).await
    }

    /// Makes one in the server named.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn create_at(addresses: &Addresses) -> anyhow::Result<Self> {
        Self::create_named(addresses, crate::unique()).await
    }

    /// Makes one in the server that all tests share, where only the superuser needs neither TLS nor a certificate.
    ///
    /// # Errors
    /// When the environment does not say where the server is, or it does not answer.
    pub async fn create_with_tls() -> anyhow::Result<Self> {
        Self::create_named(&Addresses::shared(), format!("tls_{}", crate::unique())).await
    }

    async fn create_named(addresses: &Addresses, name: String) -> anyhow::Result<Self> {
        let url = addresses.value("STOCKFEED_TEST_POSTGRES")?;
        let options =
            PgConnectOptions::from_str(&url).context("STOCKFEED_TEST_POSTGRES is not a PostgreSQL URL")?;
        let mut connection = PgConnection::connect_with(&options)
            .await
            .context("failed to reach the test PostgreSQL")?;
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut connection)
            .await?;
        Ok(Self {
            options: options.database(&name),
            name,
        })
    }

    /// Connects as the superuser.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn connect(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect_with(&self.options).await?)
    }

    /// A folder as a mounted Secret would be, for connections over TLS; without a client's certificate.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tls_secret(
        &self,
        username: &str,
        password: &str,
        authority: &TestAuthority,
    ) -> anyhow::Result<tempfile::TempDir> {
        let folder = self.secret(username, password)?;
        fs::write(folder.path().join("sslmode"), "verify-full")?;
        fs::write(folder.path().join("ca.crt"), authority.certificate())?;
        Ok(folder)
    }

    /// The names in the certificates of the sessions that a role has now; empty for one without.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn shown_by(&self, role: &str) -> anyhow::Result<Vec<String>> {
        let names = sqlx::query_scalar(
            "SELECT DISTINCT coalesce(client_dn, '') FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE usename = $1",
        );
        Ok(names.bind(role).fetch_all(&mut self.connect().await?).await?)
    }

    /// A folder as a mounted Secret would be, for the role and password given.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn secret(&self, username: &str, password: &str) -> anyhow::Result<tempfile::TempDir> {
        let folder = tempfile::tempdir()?;
        let port = self.options.get_port().to_string();
        let files = [
            ("host", self.options.get_host()),
            ("port", &port),
            ("dbname", &self.name),
            ("username", username),
            ("password", password),
            ("sslmode", "disable"),
        ];
        for (file, text) in files {
            fs::write(folder.path().join(file), text)?;
        }
        Ok(folder)
    }
}
