//! A feed's database side in a real PostgreSQL.

#![allow(
    dead_code,
    reason = "every test binary compiles this, and none uses all of it"
)]

use std::time::Duration;

use anyhow::Result;
use contract::names::FeedName;
use k8s_openapi::ByteString;
use operator::{
    connection::{Data, DatabaseConnection},
    database::{self, DatabasePlan, Databases, Outcome},
    metrics::{Heal, requests::Requests},
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use test_servers::TestDatabase;

pub const ADMINISTRATOR: &str = "the-administrators-password";
pub const WRITER: &str = "the-writers-password";
pub const READER: &str = "the-readers-password";

/// Roles belong to the server, not to a database: every test has a feed of its own.
pub struct Bench {
    pub server: TestDatabase,
    pub feed: FeedName,
    pub secret: Data,
    pub databases: Databases,
    pub administrator: String,
}

impl Bench {
    /// With an administrator who is no superuser, but may make roles and owns the database.
    pub async fn new() -> Result<Self> {
        let server = TestDatabase::create().await?;
        let administrator = format!("{}_admin", server.name);
        let statement = format!(
            "CREATE ROLE {administrator} LOGIN CREATEROLE PASSWORD '{ADMINISTRATOR}'; ALTER DATABASE {} OWNER TO {administrator}",
            server.name
        );
        let mut superuser = server.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut superuser)
            .await?;
        let unique: String = server.name.chars().rev().take(12).collect();
        let port = server.options.get_port().to_string();
        let pairs = [
            ("host", server.options.get_host()),
            ("port", &port),
            ("dbname", &server.name),
            ("username", &administrator),
            ("password", ADMINISTRATOR),
            ("sslmode", "disable"),
        ];
        Ok(Self {
            secret: pairs
                .map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())))
                .into(),
            feed: FeedName::new("markets", format!("o{unique}"))?,
            databases: Databases::new(Requests::default()),
            administrator,
            server,
        })
    }

    pub fn set(&mut self, key: &str, value: &str) {
        self.secret
            .insert(key.to_owned(), ByteString(value.as_bytes().to_vec()));
    }

    pub async fn reconcile(&self) -> Outcome {
        let plan = DatabaseConnection::read("s/database", &self.secret).map(|admin| DatabasePlan {
            admin,
            feed: self.feed.clone(),
            writer_password: WRITER.into(),
            reader_password: READER.into(),
            retention: Some(Duration::from_secs(86_400)),
        });
        database::reconcile(&self.databases, plan, true).await
    }

    pub async fn login(&self, role: &str, password: &str) -> Result<PgConnection, sqlx::Error> {
        let options = self.server.options.clone().username(role).password(password);
        PgConnection::connect_with(&options).await
    }

    pub async fn execute(&self, statement: String) -> Result<()> {
        let mut admin = self.server.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut admin)
            .await?;
        Ok(())
    }
}

pub fn kinds(outcome: &Outcome) -> Vec<Heal> {
    outcome.written.iter().map(|(kind, _)| *kind).collect()
}
