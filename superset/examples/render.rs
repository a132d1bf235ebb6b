//! Writes the archive of a feed's dashboard, or of the overview, as the operator sends it to Superset: to look at it, or to import it
//! into a Superset that the operator does not know (Settings, Import; it asks for the reader's password).
//!
//! ```sh
//! cargo run -p superset --example render -- markets/tech markets_tech HOST:PORT/DATABASE READER 250 > market.zip
//! cargo run -p superset --example render -- overview - HOST:PORT/DATABASE READER - markets/tech=markets_tech > overview.zip
//! ```

use std::io::Write as _;

use anyhow::Context as _;
use superset::{Connection, Feed};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [feed, schema, address, user, quota, others @ ..] = arguments.as_slice() else {
        anyhow::bail!(
            "usage: render NAMESPACE/NAME SCHEMA HOST:PORT/DATABASE USER CALLS_A_DAY|- [NAMESPACE/NAME=SCHEMA…]"
        );
    };
    let (server, database) = address.split_once('/').context("DATABASE is missing")?;
    let (host, port) = server.rsplit_once(':').context("PORT is missing")?;
    let connection = Connection {
        host: host.to_owned(),
        port: port.parse().context("PORT is not a number")?,
        database: database.to_owned(),
        user: user.clone(),
        ssl_mode: None,
        certificate_authority: None,
    };
    let calls_per_day = quota.parse().ok();
    let named = |feed: &str, schema: &str| -> anyhow::Result<Feed> {
        let (namespace, name) = feed.split_once('/').context("a feed is NAMESPACE/NAME")?;
        Ok(Feed {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            schema: schema.to_owned(),
            calls_per_day,
            connection: connection.clone(),
        })
    };
    let bundle = if feed == "overview" {
        let feeds = others
            .iter()
            .map(|other| {
                named(
                    other.split('=').next().unwrap_or_default(),
                    other.split('=').nth(1).unwrap_or_default(),
                )
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        superset::overview(&feeds, &connection)
    } else {
        superset::feed(&named(feed, schema)?)
    };
    std::io::stdout().write_all(&bundle.zip()?)?;
    Ok(())
}
