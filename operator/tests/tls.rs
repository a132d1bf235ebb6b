//! Both sides of a feed over TLS, in servers that take nobody without a client certificate.

use std::time::Duration;

use anyhow::Result;
use contract::{config::QueueGeneration, names::FeedName};
use k8s_openapi::ByteString;
use operator::{
    api::status::reason,
    broker::{self, BrokerPlan, Brokers, Publishing, Topology},
    connection::{BrokerConnection, Data, DatabaseConnection},
    database::{self, DatabasePlan, Databases},
    generations::Generations,
    http_client,
    metrics::requests::Requests,
    status::Verdict,
};
use sqlx::AssertSqlSafe;
use test_servers::{
    TestBroker, TestDatabase,
    tls::{self, TestAuthority, TestCertificate},
};

fn data(pairs: &[(&str, &str)]) -> Data {
    let entry = |(key, value): &(&str, &str)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()));
    pairs.iter().map(entry).collect()
}

fn set(data: &mut Data, key: &str, value: &str) {
    data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec()));
}

fn set_client(data: &mut Data, client: &TestCertificate) {
    set(data, "tls.crt", &client.certificate);
    set(data, "tls.key", &client.key);
}

/// It must say what is wrong, and nothing of a key or password.
fn assert_says(verdict: &Verdict, reason: &str, words: &str) {
    assert_eq!(verdict.reason, reason, "{}", verdict.message);
    assert!(verdict.message.contains(words), "{}", verdict.message);
    for secret in ["BEGIN", "the-administrators-password"] {
        assert!(!verdict.message.contains(secret), "{}", verdict.message);
    }
}

struct Broker {
    server: TestBroker,
    brokers: Brokers,
    feed: FeedName,
    secret: Data,
}

impl Broker {
    /// The management API over TLS, with the authority's certificate and no client's.
    async fn new(authority: &TestAuthority) -> Result<Self> {
        let server = TestBroker::create().await?;
        let unique: String = server.vhost.chars().rev().take(12).collect();
        let secret = data(&[
            ("host", &server.host),
            ("managementScheme", "https"),
            ("managementPort", &tls::management_tls_port()?.to_string()),
            ("username", &server.username),
            ("password", &server.password),
            ("vhost", &server.vhost),
            ("ca.crt", authority.certificate()),
        ]);
        let http = http_client::build(None, Duration::from_secs(5))?;
        Ok(Self {
            brokers: Brokers::new(http, Requests::default()),
            feed: FeedName::new("markets", format!("s{unique}"))?,
            secret,
            server,
        })
    }

    async fn reconcile(&self) -> Verdict {
        let generations = Generations::new([QueueGeneration {
            generation: 1,
            partitions: 2,
        }]);
        let publishing = Publishing {
            from: 1,
            settled: true,
        };
        let topology = Topology::new(&self.feed, generations.as_ref(), publishing, "its-own".into());
        let plan = BrokerConnection::read("s/broker", &self.secret).map(|connection| BrokerPlan {
            connection,
            topology,
            made: 1,
        });
        broker::reconcile(&self.brokers, plan).await.verdict
    }
}

#[tokio::test]
async fn the_topology_is_declared_over_tls_with_a_client_certificate() -> Result<()> {
    let authority = TestAuthority::of_the_servers()?;
    let mut bench = Broker::new(&authority).await?;
    assert_says(
        &bench.reconcile().await,
        reason::TLS_FAILED,
        "asks for a client certificate: keys tls.crt and tls.key",
    );

    set_client(&mut bench.secret, &TestAuthority::unknown()?.client("operator")?);
    assert_says(
        &bench.reconcile().await,
        reason::TLS_FAILED,
        "refuses the client certificate",
    );

    set_client(&mut bench.secret, &authority.expired_client("operator")?);
    assert_says(&bench.reconcile().await, reason::TLS_FAILED, "has expired");

    // A renewed one is taken at the next look, by the same operator.
    set_client(&mut bench.secret, &authority.client("operator")?);
    let declared = bench.reconcile().await;
    assert!(declared.is_true(), "{declared:?}");
    let path = format!("queues/{}", bench.server.vhost);
    let queues = bench.server.management(reqwest::Method::GET, &path, None).await?;
    assert_eq!(
        queues.as_array().map(Vec::len),
        Some(3),
        "two partitions and the dead letters"
    );

    set_client(&mut bench.secret, &authority.client("renewed")?);
    let again = bench.reconcile().await;
    assert!(again.is_true(), "{again:?}");
    Ok(())
}

#[tokio::test]
async fn a_broker_of_another_authority_is_not_trusted() -> Result<()> {
    let authority = TestAuthority::of_the_servers()?;
    let mut bench = Broker::new(&authority).await?;
    set_client(&mut bench.secret, &authority.client("operator")?);
    set(
        &mut bench.secret,
        "ca.crt",
        TestAuthority::unknown()?.certificate(),
    );
    assert_says(
        &bench.reconcile().await,
        reason::TLS_FAILED,
        "key ca.crt of the connection Secret must hold the server's",
    );
    set(&mut bench.secret, "ca.crt", authority.certificate());
    set(&mut bench.secret, "host", "localhost");
    assert_says(&bench.reconcile().await, reason::TLS_FAILED, "for another host");
    Ok(())
}

#[tokio::test]
async fn half_a_pair_is_refused_before_anybody_is_asked() -> Result<()> {
    let authority = TestAuthority::of_the_servers()?;
    let mut bench = Broker::new(&authority).await?;
    let client = authority.client("operator")?;
    set(&mut bench.secret, "tls.crt", &client.certificate);
    assert_says(
        &bench.reconcile().await,
        reason::SECRET_INVALID,
        "key \"tls.crt\" of Secret s/broker has no tls.key beside it",
    );
    set(&mut bench.secret, "tls.key", &authority.client("another")?.key);
    assert_says(
        &bench.reconcile().await,
        reason::SECRET_INVALID,
        "key \"tls.key\" of Secret s/broker is not the private key of tls.crt",
    );
    Ok(())
}

struct Database {
    server: TestDatabase,
    databases: Databases,
    feed: FeedName,
    secret: Data,
    tls_secret: Data,
}

impl Database {
    /// With an administrator whom the server takes over TLS and with a certificate only.
    async fn new(authority: &TestAuthority) -> Result<Self> {
        let server = TestDatabase::create_with_tls().await?;
        let name = &server.name;
        let administrator = format!("{name}_admin");
        let password = "the-administrators-password";
        let statement = format!(
            "CREATE ROLE {administrator} LOGIN CREATEROLE PASSWORD '{password}'; ALTER DATABASE {name} OWNER TO {administrator}"
        );
        let mut superuser = server.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut superuser)
            .await?;
        let unique: String = name.chars().rev().take(12).collect();
        let secret = data(&[
            ("host", server.options.get_host()),
            ("port", &server.options.get_port().to_string()),
            ("dbname", name),
            ("username", &administrator),
            ("password", password),
            ("ca.crt", authority.certificate()),
        ]);
        Ok(Self {
            databases: Databases::new(Requests::default()),
            feed: FeedName::new("markets", format!("s{unique}"))?,
            secret,
            tls_secret: Data::new(),
            server,
        })
    }

    async fn reconcile(&self) -> Verdict {
        let admin = DatabaseConnection::read("s/database", &self.secret);
        let admin = admin.and_then(|admin| match self.tls_secret.is_empty() {
            true => Ok(admin),
            false => admin.with_tls_secret("markets/tls", &self.tls_secret),
        });
        let plan = admin
            .and_then(|admin| admin.checked("s/database"))
            .map(|admin| DatabasePlan {
                admin,
                feed: self.feed.clone(),
                writer_password: "the-writers-password".into(),
                reader_password: "the-readers-password".into(),
                retention: None,
            });
        database::reconcile(&self.databases, plan, false).await.verdict
    }
}

#[tokio::test]
async fn schema_and_roles_are_made_over_tls_with_a_client_certificate() -> Result<()> {
    let authority = TestAuthority::of_the_servers()?;
    let mut bench = Database::new(&authority).await?;
    let administrator = format!("{}_admin", bench.server.name);
    assert_says(
        &bench.reconcile().await,
        reason::TLS_FAILED,
        "add keys tls.crt and tls.key to the connection Secret",
    );

    set_client(&mut bench.secret, &TestAuthority::unknown()?.client("operator")?);
    assert_says(
        &bench.reconcile().await,
        reason::TLS_FAILED,
        "refuses the client certificate",
    );

    set_client(&mut bench.secret, &authority.expired_client("operator")?);
    assert_says(&bench.reconcile().await, reason::TLS_FAILED, "has expired");

    // The operator gets in now, and the workers would not: that is said, and no password is changed for it.
    set_client(&mut bench.secret, &authority.client("operator")?);
    assert_says(
        &bench.reconcile().await,
        reason::TLS_FAILED,
        "name a Secret with the workers' in spec.database.tlsSecretRef",
    );

    set_client(&mut bench.tls_secret, &authority.client("workers")?);
    let made = bench.reconcile().await;
    assert!(made.is_true(), "{made:?}");
    assert_eq!(bench.server.shown_by(&administrator).await?, ["/CN=operator"]);

    // The session that is kept was opened with the certificate of before.
    set_client(&mut bench.secret, &authority.client("renewed")?);
    assert!(bench.reconcile().await.is_true());
    let shown = bench.server.shown_by(&administrator).await?;
    assert!(shown.contains(&"/CN=renewed".to_owned()), "{shown:?}");
    Ok(())
}

#[tokio::test]
async fn the_mode_says_what_of_the_databases_certificate_is_checked() -> Result<()> {
    let authority = TestAuthority::of_the_servers()?;
    let mut bench = Database::new(&authority).await?;
    // One certificate for everybody.
    set_client(&mut bench.tls_secret, &authority.client("everybody")?);
    let other = TestAuthority::unknown()?;
    for (mode, host, trusted, expected) in [
        // An authority that is named is checked, and so is the name, when nothing is said.
        (None, "localhost", &authority, Some("for another host")),
        (
            Some("verify-full"),
            "localhost",
            &authority,
            Some("for another host"),
        ),
        (
            None,
            "127.0.0.1",
            &other,
            Some("key ca.crt of the connection Secret"),
        ),
        (
            Some("verify-full"),
            "127.0.0.1",
            &other,
            Some("key ca.crt of the connection Secret"),
        ),
        (
            Some("verify-ca"),
            "127.0.0.1",
            &other,
            Some("key ca.crt of the connection Secret"),
        ),
        (
            Some("require"),
            "127.0.0.1",
            &other,
            Some("key ca.crt of the connection Secret"),
        ),
        (Some("verify-ca"), "localhost", &authority, None),
        (Some("verify-full"), "127.0.0.1", &authority, None),
    ] {
        bench.secret.remove("sslmode");
        if let Some(mode) = mode {
            set(&mut bench.secret, "sslmode", mode);
        }
        set(&mut bench.secret, "host", host);
        set(&mut bench.secret, "ca.crt", trusted.certificate());
        let verdict = bench.reconcile().await;
        match expected {
            Some(words) => assert_says(&verdict, reason::TLS_FAILED, words),
            None => assert!(verdict.is_true(), "{mode:?}: {verdict:?}"),
        }
    }
    set(&mut bench.secret, "sslmode", "disable");
    assert_says(
        &bench.reconcile().await,
        reason::AUTHENTICATION_FAILED,
        "pg_hba.conf",
    );
    Ok(())
}
