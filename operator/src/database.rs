//! The database's side of a feed: roles, schema and passwords, by crate `schema` over a connection of the administrator.

use std::time::{Duration, Instant};

use certificates::{ClientCertificate, postgres};
use contract::names::FeedName;
use schema::{Progress, roles};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use snafu::{ResultExt, Snafu, ensure};
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgDatabaseError},
};

use crate::{
    api::status::reason,
    connection::{DatabaseConnection, Problem},
    metrics::{Heal, requests::Answer},
    status::{Verdict, chain},
};

mod drift;
pub mod installation;
mod sessions;

pub use sessions::Databases;
use sessions::{Server, Session};

/// The longest that connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that everything together may take; a first migration is most of it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The database's side, as wanted.
#[derive(Clone, Debug)]
pub struct DatabasePlan {
    /// Where, with the right to make roles and schemas.
    pub admin: DatabaseConnection,
    /// Whose.
    pub feed: FeedName,
    /// The workers' password.
    pub writer_password: SecretString,
    /// The dashboards' password.
    pub reader_password: SecretString,
    /// How long raw ticks are kept.
    pub retention: Option<Duration>,
}

/// The database's side, as it is.
#[derive(Debug)]
pub struct Outcome {
    /// Whether all is as declared.
    pub verdict: Verdict,
    /// The schema's version; `None` when unknown.
    pub version: Option<i32>,
    /// How far the processing has come; `None` when unknown.
    pub progress: Option<Progress>,
    /// What was not as declared, and was written.
    pub written: Vec<(Heal, String)>,
}

/// Why the database could not be asked or told.
#[derive(Debug, Snafu)]
pub enum Error {
    /// It took too long.
    #[snafu(display("the database did not answer within {} seconds", limit.as_secs()))]
    Timeout {
        /// How long was waited.
        limit: Duration,
    },
    /// No connection.
    #[snafu(display("failed to connect as {user}"))]
    Connect {
        /// As whom.
        user: String,
        /// Why.
        source: sqlx::Error,
    },
    /// TLS cannot be set up as it is asked for.
    #[snafu(display("failed to set up TLS"))]
    Tls {
        /// Why.
        source: certificates::Unusable,
    },
    /// The server lets nobody in without a certificate.
    #[snafu(display("the database asks {user} for a client certificate: {remedy}"))]
    NoCertificate {
        /// Whom.
        user: String,
        /// What helps.
        remedy: &'static str,
        /// Why.
        source: sqlx::Error,
    },
    /// A role cannot log in although its password was just set.
    #[snafu(display("role {role} cannot log in with the password that was just set for it"))]
    Login {
        /// Which.
        role: String,
        /// Why.
        source: sqlx::Error,
    },
    /// A statement or migration failed.
    #[snafu(display("{source}"))]
    Schema {
        /// Why.
        source: schema::Error,
    },
    /// The schema is of a later release.
    #[snafu(display(
        "the schema has version {found}, this operator knows up to {}",
        schema::VERSION
    ))]
    TooNew {
        /// The schema's version.
        found: i32,
    },
    /// The schema's version is not known.
    #[snafu(display(
        "table _sqlx_migrations, which says what version the schema has, is missing, and the schema is not that of version {}: {differences}; \
         restore the table from a backup, or drop the schema",
        schema::VERSION
    ))]
    VersionUnknown {
        /// What is not as in the version of this release.
        differences: String,
    },
    /// Somebody holds a lock.
    #[snafu(display("somebody holds a lock that is needed to mend the schema"))]
    Locked,
}

impl Error {
    /// As a condition's reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => reason::UNREACHABLE,
            Self::Connect { source, .. } => reason_of(source),
            Self::Tls { .. } => reason::SECRET_INVALID,
            Self::NoCertificate { .. } => reason::TLS_FAILED,
            Self::Login { .. } => reason::AUTHENTICATION_FAILED,
            Self::Schema { source } => match source {
                schema::Error::Statement { source, .. } => reason_of(source),
                schema::Error::Migrate { .. } => reason::MIGRATION_FAILED,
                _ => reason::FAILED,
            },
            Self::TooNew { .. } => reason::SCHEMA_TOO_NEW,
            Self::VersionUnknown { .. } => reason::SCHEMA_DRIFTED,
            Self::Locked => reason::SCHEMA_LOCKED,
        }
    }

    /// As the end of a request.
    fn answer(&self) -> Answer {
        match self.reason() {
            reason::AUTHENTICATION_FAILED | reason::TLS_FAILED | reason::PERMISSION_DENIED => Answer::Refused,
            reason::DATABASE_NOT_FOUND => Answer::NotFound,
            _ => Answer::Failed,
        }
    }
}

/// Makes the database's side as wanted, and says how it is. `clean_up` drops ticks that are older than the retention.
pub async fn reconcile(
    databases: &Databases,
    plan: Result<DatabasePlan, Problem>,
    clean_up: bool,
) -> Outcome {
    let plan = match plan {
        Ok(plan) => plan,
        Err(problem) => return Outcome::unknown(Verdict::of_problem(&problem)),
    };
    let began = Instant::now();
    let ensured = within(TIMEOUT, ensure(databases, &plan, clean_up)).await;
    let wrote = |outcome: &Outcome| !outcome.written.is_empty();
    databases.count(&ensured, wrote, began.elapsed());
    ensured.unwrap_or_else(|error| Outcome::unknown(Verdict::no(error.reason(), chain(&error))))
}

/// Drops a feed's schema and roles.
///
/// # Errors
/// When the database cannot be told.
pub async fn drop(databases: &Databases, admin: &DatabaseConnection, feed: &FeedName) -> Result<(), Error> {
    let began = Instant::now();
    let dropped = within(TIMEOUT, async {
        let mut connection = connect_admin(admin).await?;
        schema::drop(&mut connection, feed).await.context(SchemaSnafu)?;
        close(connection).await;
        Ok(())
    })
    .await;
    databases.count(&dropped, |()| true, began.elapsed());
    dropped
}

async fn ensure(databases: &Databases, plan: &DatabasePlan, clean_up: bool) -> Result<Outcome, Error> {
    let mut session = databases.session(&plan.admin).await?;
    let outcome = ensure_in(databases, &mut session, plan, clean_up).await?;
    session.give_back();
    Ok(outcome)
}

async fn ensure_in(
    databases: &Databases,
    session: &mut Session,
    plan: &DatabasePlan,
    clean_up: bool,
) -> Result<Outcome, Error> {
    let DatabasePlan {
        admin,
        feed,
        writer_password,
        reader_password,
        retention,
    } = plan;
    let mut written = Vec::new();

    let connection = &mut session.connection;
    let found = schema::version(connection, feed).await.context(SchemaSnafu)?;
    if let Some(found) = found {
        ensure!(found <= schema::VERSION, TooNewSnafu { found });
    }
    if roles::ensure(connection, feed).await.context(SchemaSnafu)? {
        let what = "a role was missing, or had another search path";
        written.push((Heal::Roles, what.to_owned()));
    }
    if found.is_none() {
        written.extend(drift::adopt(databases, session, feed).await?);
    }
    let connection = &mut session.connection;
    let migrated = schema::migrate(connection, feed).await.context(SchemaSnafu)?;
    if migrated.from != Some(migrated.to) {
        let schema = feed.schema();
        let what = match migrated.from {
            Some(from) => format!("schema {schema} had version {from}, it is {} now", migrated.to),
            None => format!("schema {schema} was missing"),
        };
        written.push((Heal::Schema, what));
    }
    let trouble = drift::mend(databases, session, feed, &mut written).await?;
    let version = Some(migrated.to);
    if session.spoilt {
        return Ok(Outcome {
            version,
            written,
            ..Outcome::unknown(trouble.unwrap_or_else(|| Verdict::no(reason::SCHEMA_LOCKED, "")))
        });
    }
    let Session {
        connection, server, ..
    } = session;
    // As those do it who use the roles.
    let shown = Shown {
        client: admin.worker_client.as_ref(),
        remedy: "name a Secret with the workers' in spec.database.tlsSecretRef",
    };
    for (role, password) in [
        (feed.writer_role(), writer_password),
        (feed.reader_role(), reader_password),
    ] {
        if login(server, connection, admin, &role, password, shown).await? {
            let what = format!("role {role} could not log in with the password of its Secret");
            written.push((Heal::RolePassword, what));
        }
    }
    let retention = retention.filter(|_| clean_up);
    let progress = match (
        weeks_and_progress(connection, feed, retention).await,
        trouble.as_ref(),
    ) {
        (Ok(progress), _) => Some(progress),
        // What is missing is said already.
        (Err(error), Some(_)) => {
            tracing::debug!(error = %chain(&error), "A schema that is not as it should be cannot be used");
            None
        }
        (Err(error), None) => return Err(error),
    };
    let message = format!("schema {} has version {}", feed.schema(), migrated.to);
    Ok(Outcome {
        verdict: trouble.unwrap_or_else(|| Verdict::yes(reason::AS_DECLARED, message)),
        version,
        progress,
        written,
    })
}

/// Makes weeks ahead, drops those that are too old, and says how far the processing has come.
async fn weeks_and_progress(
    connection: &mut PgConnection,
    feed: &FeedName,
    retention: Option<Duration>,
) -> Result<Progress, Error> {
    // Made ahead at each look, which costs a catalogue lookup when all are there; the processor makes what is missing all the same.
    schema::partitions_ahead(connection, feed)
        .await
        .context(SchemaSnafu)?;
    if let Some(retention) = retention {
        schema::retention(connection, feed, retention)
            .await
            .context(SchemaSnafu)?;
    }
    schema::progress(connection, feed).await.context(SchemaSnafu)
}

/// Makes sure that a role can log in with a password. Returns whether the password had to be set. A role that was seen to log in
/// is not tried again as long as the catalogue has the same to say of it, where the administrator may read that.
async fn login(
    server: &Server,
    connection: &mut PgConnection,
    admin: &DatabaseConnection,
    role: &str,
    password: &SecretString,
    shown: Shown<'_>,
) -> Result<bool, Error> {
    let before = state(connection, role, password).await;
    if before.is_some_and(|state| server.is_proven(role, &state)) {
        return Ok(false);
    }
    let refused = match connect(admin, role, password, shown).await {
        Ok(session) => {
            close(session).await;
            prove(server, connection, role, password).await;
            return Ok(false);
        }
        Err(Error::Connect { source, .. }) if is_refusal(&source) => source,
        Err(error) => return Err(error),
    };
    tracing::debug!(role, error = %refused, "A role cannot log in; setting its password");
    roles::set_password(connection, role, password)
        .await
        .context(SchemaSnafu)?;
    match connect(admin, role, password, shown).await {
        Ok(session) => {
            close(session).await;
            prove(server, connection, role, password).await;
            Ok(true)
        }
        Err(Error::Connect { source, .. }) => Err(source).context(LoginSnafu { role }),
        Err(error) => Err(error),
    }
}

async fn prove(server: &Server, connection: &mut PgConnection, role: &str, password: &SecretString) {
    if let Some(state) = state(connection, role, password).await {
        server.prove(role, state);
    }
}

/// What decides whether the role can log in with this password, as one text; `None` where the administrator may not read it,
/// which only superusers may.
async fn state(connection: &mut PgConnection, role: &str, password: &SecretString) -> Option<String> {
    let verifier = roles::login_state(connection, role).await.ok()??;
    let mut digest = Sha256::new();
    digest.update(password.expose_secret());
    digest.update(verifier);
    Some(crate::dereference::hex(&digest.finalize()))
}

async fn connect_admin(admin: &DatabaseConnection) -> Result<PgConnection, Error> {
    connect(admin, &admin.username, &admin.password, Shown::by_operator(admin)).await
}

/// What is shown to a server that asks for a certificate, and what helps where there is none.
#[derive(Clone, Copy)]
struct Shown<'a> {
    client: Option<&'a ClientCertificate>,
    remedy: &'static str,
}

impl<'a> Shown<'a> {
    fn by_operator(admin: &'a DatabaseConnection) -> Self {
        Self {
            client: admin.client.as_ref(),
            remedy: "add keys tls.crt and tls.key to the connection Secret, or name spec.database.tlsSecretRef",
        }
    }
}

async fn connect(
    server: &DatabaseConnection,
    user: &str,
    password: &SecretString,
    Shown { client, remedy }: Shown<'_>,
) -> Result<PgConnection, Error> {
    let mode = server.mode().context(TlsSnafu)?;
    let options = PgConnectOptions::new_without_pgpass()
        .host(&server.host)
        .port(server.port)
        .database(&server.dbname)
        .username(user)
        .password(password.expose_secret())
        .application_name(crate::labels::MANAGER)
        // Statements of ours carry password verifiers.
        .disable_statement_logging();
    let options = postgres::secure(options, mode, server.authority.as_deref(), client);
    within(CONNECT_TIMEOUT, async {
        let connected = options.connect().await.map_err(postgres::explained);
        match connected {
            Err(source) if client.is_none() && wants_certificate(&source) => {
                Err(source).context(NoCertificateSnafu { user, remedy })
            }
            connected => connected.context(ConnectSnafu { user }),
        }
    })
    .await
}

/// Says goodbye to the server. It matters to nobody whether it heard.
async fn close(connection: PgConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(error = %error, "A database connection did not close cleanly");
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => TimeoutSnafu { limit }.fail(),
    }
}

/// Whether the server refused user or password. A connection that it takes from nobody, no password makes better.
fn is_refusal(error: &sqlx::Error) -> bool {
    reason_of(error) == reason::AUTHENTICATION_FAILED && !by_rule(error)
}

/// Whether a rule of `pg_hba.conf` refused the connection, whoever asked for it. The code is that of a role which may not log in;
/// the place in the server's source, unlike the message, is the same in every language.
fn by_rule(error: &sqlx::Error) -> bool {
    let database = error.as_database_error();
    let postgres = database.and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    postgres.and_then(PgDatabaseError::routine) == Some("ClientAuthentication")
}

fn wants_certificate(error: &sqlx::Error) -> bool {
    by_rule(error)
        && error
            .as_database_error()
            .is_some_and(|error| error.message().contains("client certificate"))
}

fn reason_of(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::Tls(_) => reason::TLS_FAILED,
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => reason::UNREACHABLE,
        sqlx::Error::Database(error) => match error.code().as_deref() {
            Some("28P01" | "28000") => reason::AUTHENTICATION_FAILED,
            Some("3D000") => reason::DATABASE_NOT_FOUND,
            Some("42501") => reason::PERMISSION_DENIED,
            // The server starts, stops or has no connection left.
            Some(code) if code.starts_with("57P") || code.starts_with("53") => reason::UNREACHABLE,
            _ => reason::FAILED,
        },
        _ => reason::FAILED,
    }
}

impl Outcome {
    fn unknown(verdict: Verdict) -> Self {
        Self {
            verdict,
            version: None,
            progress: None,
            written: Vec::new(),
        }
    }
}
