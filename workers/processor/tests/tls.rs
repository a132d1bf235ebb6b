//! Both servers over TLS, where they take nobody without a client certificate.

mod harness;

use std::fs;

use anyhow::{Result, ensure};
use harness::{Harness, eventually, tick as one};
use service::credentials::{BrokerCredentials, DatabaseCredentials};
use tempfile::TempDir;
use test_servers::{
    TestDatabase,
    tls::{TestAuthority, TestCertificate},
};
use uuid::Uuid;

const TICKS: &str = "SELECT count(*) FROM stock_data";

/// A feed with the folders that its processor reads, without a client's certificate.
struct Feed {
    harness: Harness,
    authority: TestAuthority,
    folders: [TempDir; 2],
}

impl Feed {
    async fn new() -> Result<Self> {
        let authority = TestAuthority::of_the_servers()?;
        let database = TestDatabase::create_with_tls().await?;
        let mut harness = Harness::in_database(database, &["AAPL"], 1).await?;
        let writer = harness.feed.writer_role();
        let folders = [
            harness.broker.tls_secret(&authority)?,
            harness.database.tls_secret(&writer, "secret", &authority)?,
        ];
        harness.config.broker_directory = folders[0].path().to_owned();
        harness.config.database_directory = folders[1].path().to_owned();
        Ok(Self {
            harness,
            authority,
            folders,
        })
    }

    fn put(&self, client: &TestCertificate) -> Result<()> {
        self.folders
            .iter()
            .try_for_each(|folder| client.write(folder.path()))
    }

    fn trust(&self, authority: &TestAuthority) -> Result<()> {
        let write = |folder: &TempDir| fs::write(folder.path().join("ca.crt"), authority.certificate());
        Ok(self.folders.iter().try_for_each(write)?)
    }

    fn host(&self, host: &str) -> Result<()> {
        let write = |folder: &TempDir| fs::write(folder.path().join("host"), host);
        Ok(self.folders.iter().try_for_each(write)?)
    }

    /// Why broker and database are not reached with what lies in the folders now.
    async fn refusals(&self) -> Result<[String; 2]> {
        let [broker, database] = &self.folders;
        let broker = BrokerCredentials::read(broker.path())?;
        let broker = service::amqp::connect(&broker, &self.harness.feed, "test").await;
        let database = DatabaseCredentials::read(database.path())?;
        let database = service::postgres::connect(service::postgres::options(&database, "test")).await;
        let broker = broker.err().map(|error| chain(&error)).unwrap_or_default();
        let database = database.err().map(|error| chain(&error)).unwrap_or_default();
        Ok([broker, database])
    }

    /// Until every connection of the processor shows this name.
    async fn until_shown(&self, name: &str) -> Result<()> {
        let writer = self.harness.feed.writer_role();
        eventually(|| async {
            let broker = self.harness.broker.shown_by("processor").await?;
            let database = self.harness.database.shown_by(&writer).await?;
            Ok(broker == [format!("CN={name}")] && database == [format!("/CN={name}")])
        })
        .await
    }

    /// Ends all connections of the processor, as a restart of the servers would.
    async fn cut(&self) -> Result<()> {
        let writer = self.harness.feed.writer_role();
        let query =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{writer}'");
        self.harness.execute(&query).await?;
        // The list of connections is some seconds old.
        eventually(|| async {
            Ok(self
                .harness
                .broker
                .close_connections_of("processor")
                .await
                .unwrap_or(0)
                > 0)
        })
        .await
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let errors = std::iter::successors(Some(error), |error| error.source());
    errors.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[tokio::test]
async fn a_processor_commits_over_mutual_tls_and_takes_a_renewed_certificate_without_a_restart() -> Result<()>
{
    let feed = Feed::new().await?;
    let (harness, authority) = (&feed.harness, &feed.authority);
    feed.put(&authority.client("first")?)?;
    let processor = harness.start("a");
    let publisher = Uuid::now_v7();
    let publish = async |number: i64| {
        let time = format!("2026-11-20T15:00:{number:02}Z");
        harness
            .ticks(publisher, number, &[one("AAPL", &time, "10", number)])
            .await
    };
    publish(1).await?;
    harness.until(TICKS, "1").await?;
    feed.until_shown("first").await?;

    // What stands goes on; the next connection shows the new one.
    feed.put(&authority.client("second")?)?;
    publish(2).await?;
    harness.until(TICKS, "2").await?;
    feed.cut().await?;
    publish(3).await?;
    harness.until(TICKS, "3").await?;
    feed.until_shown("second").await?;

    // One that came too late: the messages wait, and none of them is lost or stored twice.
    feed.put(&authority.expired_client("third")?)?;
    feed.cut().await?;
    publish(4).await?;
    for refusal in feed.refusals().await? {
        ensure!(refusal.contains("has expired"), "{refusal}");
    }
    ensure!(harness.value(TICKS).await?.as_deref() == Some("3"));
    feed.put(&authority.client("fourth")?)?;
    harness.until(TICKS, "4").await?;
    feed.until_shown("fourth").await?;
    harness.until_queues_are_empty().await?;
    processor.drain().await
}

#[tokio::test]
async fn whoever_is_not_let_in_is_told_why() -> Result<()> {
    let feed = Feed::new().await?;
    let (authority, unknown) = (&feed.authority, TestAuthority::unknown()?);
    let [broker, database] = feed.refusals().await?;
    ensure!(
        broker.contains("asks for a client certificate: keys tls.crt and tls.key"),
        "{broker}"
    );
    ensure!(
        database.contains("requires a valid client certificate"),
        "{database}"
    );

    for (client, words) in [
        (
            unknown.client("a")?,
            "refuses the client certificate of key tls.crt",
        ),
        (authority.expired_client("a")?, "has expired"),
    ] {
        feed.put(&client)?;
        for refusal in feed.refusals().await? {
            ensure!(refusal.contains(words) && !refusal.contains("BEGIN"), "{refusal}");
        }
    }
    let client = authority.client("a")?;
    feed.put(&client)?;
    ensure!(feed.refusals().await? == ["", ""]);

    feed.host("localhost")?;
    for refusal in feed.refusals().await? {
        ensure!(refusal.contains("for another host"), "{refusal}");
    }
    feed.host("127.0.0.1")?;
    feed.trust(&unknown)?;
    for refusal in feed.refusals().await? {
        ensure!(
            refusal.contains("key ca.crt of the connection Secret must hold the server's"),
            "{refusal}"
        );
    }

    Ok(())
}
