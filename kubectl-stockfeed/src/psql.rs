//! Runs psql with a role of the feed.

use std::{
    ffi::OsString,
    io::{ErrorKind, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use certificates::ClientCertificate;
use operator::connection::DatabaseConnection;
use secrecy::ExposeSecret as _;
use tempfile::NamedTempFile;
use tokio::process::Command;

use crate::{
    cluster::Cluster,
    credentials::{Access, Role},
};

/// Runs it and returns what it ended with.
///
/// # Errors
/// When there is no psql, or no way to the database.
pub async fn run(cluster: &Cluster, name: &str, writer: bool, arguments: &[OsString]) -> Result<ExitCode> {
    let role = match writer {
        true => Role::Writer,
        false => Role::Reader,
    };
    let access = Access::open(cluster, name, role).await?;
    if writer {
        eprintln!("As the writer: what you change or delete here is changed or deleted.");
    }
    let client = access.connection.client.as_ref();
    let files = [
        ("PGSSLROOTCERT", access.connection.authority.as_deref()),
        ("PGSSLCERT", client.map(ClientCertificate::certificate)),
        ("PGSSLKEY", client.map(|client| client.key().expose_secret())),
    ];
    let mut kept = Vec::new();
    for (variable, text) in files {
        if let Some(text) = text {
            kept.push((variable, file(text)?));
        }
    }
    let forwarded = access.forward.as_ref().map(|forward| forward.address());
    let mut command = Command::new("psql");
    // Those of the user's own would lead elsewhere.
    for variable in ["PGSERVICE", "PGHOSTADDR", "PGSSLROOTCERT", "PGSSLMODE"] {
        command.env_remove(variable);
    }
    command.args(arguments).envs(environment(&access.connection));
    if let Some(address) = forwarded {
        // The host stays what the server's certificate is made out for.
        command
            .env("PGHOSTADDR", address.ip().to_string())
            .env("PGPORT", address.port().to_string());
    }
    for (variable, file) in &kept {
        command.env(variable, file.path());
    }
    // Ctrl-C is for psql, which cancels its query; the port-forward has to outlive that.
    let interrupts = tokio::spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} });
    let status = command.status().await;
    interrupts.abort();
    match status {
        Ok(status) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("psql is not on the search path: install PostgreSQL's client programs")
        }
        Err(error) => Err(error).context("failed to run psql"),
    }
}

/// What libpq reads. A password in the environment is seen by the same user only; in an argument by everybody.
fn environment(connection: &DatabaseConnection) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("PGHOST", connection.host.clone()),
        ("PGPORT", connection.port.to_string()),
        ("PGDATABASE", connection.dbname.clone()),
        ("PGUSER", connection.username.clone()),
        ("PGPASSWORD", connection.password.expose_secret().to_owned()),
        ("PGAPPNAME", "kubectl-stockfeed".to_owned()),
    ];
    if let Some(mode) = &connection.sslmode {
        variables.push(("PGSSLMODE", mode.clone()));
    }
    variables
}

/// A file that only this user may read, which libpq asks of a key.
fn file(text: &str) -> Result<NamedTempFile> {
    let mut file = NamedTempFile::new().context("failed to make a file for a certificate")?;
    file.write_all(text.as_bytes())
        .context("failed to write a certificate")?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psql_gets_all_it_needs_by_its_environment() {
        let connection = DatabaseConnection {
            host: "pg.db.svc".to_owned(),
            port: 5433,
            dbname: "ticks".to_owned(),
            username: "markets_tech_reader".to_owned(),
            password: "hush".into(),
            sslmode: Some("verify-full".to_owned()),
            authority: None,
            client: None,
            worker_client: None,
        };
        let variables = environment(&connection);
        for expected in [
            ("PGHOST", "pg.db.svc"),
            ("PGPORT", "5433"),
            ("PGDATABASE", "ticks"),
            ("PGUSER", "markets_tech_reader"),
            ("PGPASSWORD", "hush"),
            ("PGSSLMODE", "verify-full"),
        ] {
            assert!(
                variables
                    .iter()
                    .any(|(name, value)| (*name, value.as_str()) == expected),
                "{expected:?}"
            );
        }
    }
}
