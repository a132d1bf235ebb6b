//! Makes a feed's schema and roles in a database of your own, for running workers outside Kubernetes.
//!
//! ```sh
//! cargo run -p schema --example prepare -- postgres://postgres@localhost/fintech_data markets tech secrets/database/password
//! ```
//!
//! The last argument is the file with the password that the writer role gets. The reader role gets none.

use anyhow::Context as _;
use contract::names::FeedName;
use sqlx::{Connection as _, PgConnection};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, namespace, name, password] = arguments.as_slice() else {
        anyhow::bail!("usage: prepare DATABASE_URL NAMESPACE NAME WRITER_PASSWORD_FILE");
    };
    let feed = FeedName::new(namespace, name)?;
    let password = std::fs::read_to_string(password).with_context(|| format!("failed to read {password}"))?;
    let password = password.trim_end_matches(['\r', '\n']).to_owned();
    let mut connection = PgConnection::connect(url).await.context("failed to connect")?;
    schema::roles::ensure(&mut connection, &feed).await?;
    let migrated = schema::migrate(&mut connection, &feed).await?;
    schema::roles::set_password(&mut connection, &feed.writer_role(), &password.into()).await?;
    println!(
        "schema {} has version {}; log in as {}",
        feed.schema(),
        migrated.to,
        feed.writer_role()
    );
    Ok(())
}
