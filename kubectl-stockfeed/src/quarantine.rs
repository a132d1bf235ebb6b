//! What could not be used: shown, tried again, or thrown away, by the functions of the feed's schema.

use anyhow::{Context as _, Result};
use certificates::postgres::Mode;
use contract::names::FeedName;
use jiff::Timestamp;
use operator::connection::DatabaseConnection;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use sqlx::{AssertSqlSafe, ConnectOptions as _, FromRow, PgConnection, postgres::PgConnectOptions};

use crate::{
    args::Entries,
    cluster::Cluster,
    credentials::{Access, Role},
    text,
};

/// So much of an entry is shown in a table.
const SHOWN: usize = 60;

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    id: i64,
    received_at: Option<Timestamp>,
    reason: String,
    detail: Option<String>,
    publisher: Option<String>,
    sequence: Option<i64>,
    raw: String,
    released_at: Option<Timestamp>,
    queue: Option<String>,
}

/// An entry as it is read: times in microseconds since 1970.
#[derive(FromRow)]
struct Row {
    id: i64,
    received_at: i64,
    reason: String,
    detail: Option<String>,
    publisher: Option<String>,
    sequence: Option<i64>,
    raw: String,
    released_at: Option<i64>,
    queue: Option<String>,
}

impl From<Row> for Entry {
    fn from(row: Row) -> Self {
        let time = |microseconds| Timestamp::from_microsecond(microseconds).ok();
        Self {
            id: row.id,
            received_at: time(row.received_at),
            reason: row.reason,
            detail: row.detail,
            publisher: row.publisher,
            sequence: row.sequence,
            raw: row.raw,
            released_at: row.released_at.and_then(time),
            queue: row.queue,
        }
    }
}

/// The newest entries, as the reader.
///
/// # Errors
/// When the database cannot be reached.
pub async fn list(cluster: &Cluster, name: &str, reason: Option<&str>, limit: i32) -> Result<Vec<Entry>> {
    let access = Access::open(cluster, name, Role::Reader).await?;
    let query = format!(
        "SELECT id, (extract(epoch FROM received_at) * 1000000)::bigint AS received_at, reason, detail, publisher::text, sequence, raw,
                (extract(epoch FROM released_at) * 1000000)::bigint AS released_at, queue
         FROM {}.list_quarantine($1, $2)",
        schema(cluster, name)?
    );
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(query))
        .bind(reason)
        .bind(limit)
        .fetch_all(&mut connect(&access).await?)
        .await
        .context("failed to read the quarantine")?;
    Ok(rows.into_iter().map(Entry::from).collect())
}

/// Asks for another try, as the writer.
///
/// # Errors
/// When the database cannot be reached.
pub async fn release(cluster: &Cluster, name: &str, which: &Entries) -> Result<String> {
    let count = call(cluster, name, "release_quarantined", which).await?;
    Ok(format!(
        "{} tried again by the present rules; what is refused again stays.\n",
        entries(count)
    ))
}

/// Throws entries away, as the writer.
///
/// # Errors
/// When the database cannot be reached.
pub async fn discard(cluster: &Cluster, name: &str, which: &Entries) -> Result<String> {
    let count = call(cluster, name, "discard_quarantined", which).await?;
    Ok(format!("{} deleted.\n", entries(count)))
}

fn entries(count: i64) -> String {
    match count {
        1 => "1 entry is".to_owned(),
        count => format!("{count} entries are"),
    }
}

async fn call(cluster: &Cluster, name: &str, function: &str, which: &Entries) -> Result<i64> {
    let access = Access::open(cluster, name, Role::Writer).await?;
    let schema = schema(cluster, name)?;
    let mut connection = connect(&access).await?;
    let counted = match &which.reason {
        Some(reason) => {
            sqlx::query_scalar(AssertSqlSafe(format!("SELECT {schema}.{function}_by_reason($1)")))
                .bind(reason)
                .fetch_one(&mut connection)
                .await
        }
        None => {
            sqlx::query_scalar(AssertSqlSafe(format!("SELECT {schema}.{function}($1)")))
                .bind(&which.ids)
                .fetch_one(&mut connection)
                .await
        }
    };
    counted.context("failed to change the quarantine")
}

/// The feed's schema; its name has nothing in it that had to be quoted.
fn schema(cluster: &Cluster, name: &str) -> Result<String> {
    Ok(FeedName::new(cluster.namespace(), name)?.schema())
}

async fn connect(access: &Access) -> Result<PgConnection> {
    options(access)
        .connect()
        .await
        .context("failed to connect to the feed's database")
}

fn options(access: &Access) -> PgConnectOptions {
    let connection = &access.connection;
    let options = PgConnectOptions::new_without_pgpass()
        .application_name("kubectl-stockfeed")
        .database(&connection.dbname)
        .username(&connection.username)
        .password(connection.password.expose_secret());
    let options = match &access.forward {
        Some(forward) => options
            .host(&forward.address().ip().to_string())
            .port(forward.address().port()),
        None => options.host(&connection.host).port(connection.port),
    };
    // One that cannot be used was refused when the Secret was read.
    let mode = mode(connection, access.forward.is_some()).unwrap_or(Mode::VerifyFull);
    certificates::postgres::secure(
        options,
        mode,
        connection.authority.as_deref(),
        connection.client.as_ref(),
    )
}

/// Through a port-forward the certificate is of another name than the address. That the pod is the right one, the API server
/// vouches for; that the server is one of the authority's, is checked still.
fn mode(connection: &DatabaseConnection, forwarded: bool) -> Result<Mode, certificates::Unusable> {
    Ok(match connection.mode()? {
        Mode::VerifyFull if forwarded => Mode::VerifyCa,
        mode => mode,
    })
}

/// A line for each entry.
#[must_use]
pub fn table(name: &str, entries: &[Entry], now: Timestamp) -> String {
    if entries.is_empty() {
        return format!("Nothing of {name} is in quarantine.\n");
    }
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            let state = entry.released_at.map(|_| "released");
            vec![
                entry.id.to_string(),
                text::ago(entry.received_at, now),
                entry.reason.clone(),
                text::or_none(state),
                shortened(entry.detail.as_deref().unwrap_or_default()),
                shortened(&entry.raw),
            ]
        })
        .collect();
    text::table(&["ID", "AGE", "REASON", "STATE", "DETAIL", "RAW"], &rows)
}

/// Foreign text in a line: short, and without what a terminal would obey.
fn shortened(text: &str) -> String {
    let mut characters = text.chars();
    let mut short = String::new();
    for character in characters.by_ref().take(SHOWN) {
        match character.is_control() {
            true => short.extend(character.escape_default()),
            false => short.push(character),
        }
    }
    if characters.next().is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    use super::*;

    #[test]
    fn entries_are_shown_without_what_a_terminal_would_obey() {
        let entry = Entry {
            id: 7,
            received_at: "2026-11-27T12:00:00Z".parse().ok(),
            reason: "unknown_symbol".to_owned(),
            detail: Some("ZZZZ".to_owned()),
            publisher: None,
            sequence: None,
            raw: "\u{1b}[2J{}".to_owned(),
            released_at: None,
            queue: None,
        };
        assert_eq!(
            table("tech", &[entry], "2026-11-27T12:05:00Z".parse().unwrap()),
            "ID   AGE   REASON           STATE   DETAIL   RAW\n7    5m    unknown_symbol   -       ZZZZ     \\u{1b}[2J{}\n"
        );
        assert_eq!(shortened(&"é".repeat(61)), format!("{}…", "é".repeat(60)));
    }

    #[rstest]
    #[case::through_a_forward(true, Mode::VerifyCa)]
    #[case::direct(false, Mode::VerifyFull)]
    fn the_authority_is_checked_in_any_case(#[case] forwarded: bool, #[case] expected: Mode) {
        let connection = DatabaseConnection {
            host: "pg".to_owned(),
            port: 5432,
            dbname: "d".to_owned(),
            username: "u".to_owned(),
            password: "p".into(),
            sslmode: Some("verify-full".to_owned()),
            authority: None,
            client: None,
            worker_client: None,
        };
        assert_eq!(mode(&connection, forwarded), Ok(expected));
    }
}
