//! What the migrations make is what a feed's schema is compared with, whatever the feed is called and wherever it came from.

mod support;

use anyhow::Result;
use contract::names::FeedName;
use schema::drift::{Looked, Reference, look};
use support::{execute, feed, text};
use test_servers::TestDatabase;

fn said(looked: Looked) -> Vec<String> {
    match looked {
        Looked::Differences(found) => found.iter().map(|difference| difference.say("is")).collect(),
        Looked::Locked => vec!["locked".to_owned()],
    }
}

#[tokio::test]
async fn a_schema_that_came_from_any_release_differs_in_nothing() -> Result<()> {
    for released in 1..=schema::VERSION {
        let database = TestDatabase::create().await?;
        let feed = feed(&database);
        let mut admin = database.connect().await?;
        schema::roles::ensure(&mut admin, &feed).await?;
        schema::migrate_to(&mut admin, &feed, released).await?;
        let week = format!("SELECT {}.ensure_stock_data_partition(now())", feed.schema());
        execute(&mut admin, &week).await?;
        schema::migrate(&mut admin, &feed).await?;
        schema::partitions_ahead(&mut admin, &feed).await?;
        let reference = Reference::make(&mut admin).await?;
        let found = said(look(&mut admin, &feed, &reference).await?);
        assert_eq!(found, Vec::<String>::new(), "from version {released}");
    }
    Ok(())
}

#[tokio::test]
async fn names_of_feeds_that_are_names_of_something_else_differ_in_nothing() -> Result<()> {
    let database = TestDatabase::create().await?;
    let mut admin = database.connect().await?;
    let reference = Reference::make(&mut admin).await?;
    // A table, a view's column, a function's beginning, a word of SQL, and one that has to be shortened.
    let long = "a".repeat(63);
    for (namespace, name) in [
        ("stock", "data"),
        ("candle", "state"),
        ("avg", "price"),
        ("current", "user"),
        (&*long, &*long),
    ] {
        let feed = FeedName::new(namespace, name)?;
        schema::roles::ensure(&mut admin, &feed).await?;
        schema::migrate(&mut admin, &feed).await?;
        let found = said(look(&mut admin, &feed, &reference).await?);
        assert_eq!(found, Vec::<String>::new(), "{feed}");
        // Roles belong to the server: others may want these.
        schema::drop(&mut admin, &feed).await?;
    }
    Ok(())
}

#[tokio::test]
async fn every_kind_of_thing_that_the_migrations_make_is_compared() -> Result<()> {
    let (_database, feed, mut admin) = support::migrated().await?;
    let spaces = format!("('{}'::regnamespace, 'stockfeed'::regnamespace)", feed.schema());
    // Whoever brings one of these has to add it to look.sql.
    for (what, query) in [
        (
            "triggers",
            "SELECT count(*) FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid WHERE relnamespace IN {s} AND NOT tgisinternal",
        ),
        (
            "policies",
            "SELECT count(*) FROM pg_policy JOIN pg_class ON pg_class.oid = polrelid WHERE relnamespace IN {s}",
        ),
        (
            "rules",
            "SELECT count(*) FROM pg_rewrite JOIN pg_class ON pg_class.oid = ev_class WHERE relnamespace IN {s} AND rulename <> '_RETURN'",
        ),
        (
            "types",
            "SELECT count(*) FROM pg_type WHERE typnamespace IN {s} AND typrelid = 0 AND typelem = 0",
        ),
        (
            "operators",
            "SELECT count(*) FROM pg_operator WHERE oprnamespace IN {s}",
        ),
        (
            "statistics",
            "SELECT count(*) FROM pg_statistic_ext WHERE stxnamespace IN {s}",
        ),
        (
            "aggregates",
            "SELECT count(*) FROM pg_proc WHERE pronamespace IN {s} AND prokind NOT IN ('f', 'p')",
        ),
        (
            "other relations",
            "SELECT count(*) FROM pg_class WHERE relnamespace IN {s} AND relkind NOT IN ('r', 'p', 'v', 'S', 'i', 'I')",
        ),
        (
            "sequences of their own",
            "SELECT count(*) FROM pg_class WHERE relnamespace IN {s} AND relkind = 'S'
             AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'i')",
        ),
    ] {
        let count = text(&mut admin, &query.replace("{s}", &spaces)).await?;
        assert_eq!(count, "0", "{what}");
    }
    Ok(())
}

#[tokio::test]
async fn a_reference_is_made_where_a_default_gives_public_everything_and_many_at_once() -> Result<()> {
    let (database, feed, mut admin) = support::migrated().await?;
    execute(
        &mut admin,
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
    )
    .await?;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let mut connection = database.connect().await?;
        tasks.push(tokio::spawn(
            async move { Reference::make(&mut connection).await },
        ));
    }
    let mut references = Vec::new();
    for task in tasks {
        references.push(task.await??);
    }
    // What is public by a default is not what the migrations ask for.
    for reference in &references {
        assert_eq!(
            said(look(&mut admin, &feed, reference).await?),
            Vec::<String>::new()
        );
        assert!(reference == &references[0], "it is another one each time");
    }
    Ok(())
}
