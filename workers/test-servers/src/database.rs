//! A database of one's own.

use std::{fs, str::FromStr as _};

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::PgConnectOptions};

use crate::Addresses;

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
        let url = addresses.value("STOCKFEED_TEST_POSTGRES")?;
        let options =
            PgConnectOptions::from_str(&url).context("STOCKFEED_TEST_POSTGRES is not a PostgreSQL URL")?;
        let mut connection = PgConnection::connect_with(&options)
            .await
            .context("failed to reach the test PostgreSQL")?;
        let name = crate::unique();
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
        ];
        for (file, text) in files {
            fs::write(folder.path().join(file), text)?;
        }
        Ok(folder)
    }
}
