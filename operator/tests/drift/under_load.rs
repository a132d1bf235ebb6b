//! What is put back while others read and write, how little a look takes, and how rarely it is made.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use operator::{
    api::status::reason,
    metrics::Heal::{Column, Constraint, Function, Grant, Index, Roles, Table, TableOption, View},
};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    COMMIT,
    bench::{Bench, WRITER, kinds},
    commit, drift, filled, text,
};

#[tokio::test]
async fn who_reads_a_table_for_long_is_not_waited_for_and_nobody_behind_them() -> Result<()> {
    let bench = Bench::new().await?;
    bench.reconcile().await;
    commit(&bench).await?;
    let mut reading = bench.server.connect().await?;
    sqlx::raw_sql(AssertSqlSafe(filled(
        &bench,
        "BEGIN; SELECT FROM {s}.candle_state",
    )))
    .execute(&mut reading)
    .await?;
    // Both without a lock that the reader has.
    drift(
        &bench,
        "DROP FUNCTION {s}.get_all_symbols(); ALTER FUNCTION {s}.list_quarantine(text, integer) STRICT",
    )
    .await?;
    let mut changing = bench.server.connect().await?;
    sqlx::raw_sql(AssertSqlSafe(filled(
        &bench,
        "UPDATE pg_class SET relrowsecurity = true WHERE oid = '{s}.candle_state'::regclass",
    )))
    .execute(&mut changing)
    .await?;
    let began = Instant::now();
    let outcome = bench.reconcile().await;
    assert_eq!(
        outcome.verdict.reason,
        reason::SCHEMA_LOCKED,
        "{:?}",
        outcome.verdict
    );
    assert!(
        outcome
            .verdict
            .message
            .contains("row security of table candle_state"),
        "{:?}",
        outcome.verdict
    );
    assert_eq!(kinds(&outcome), [Function, Function]);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    sqlx::raw_sql("COMMIT").execute(&mut reading).await?;
    let outcome = bench.reconcile().await;
    assert!(outcome.verdict.is_true(), "{:?}", outcome.verdict);
    assert_eq!(kinds(&outcome), [TableOption]);
    Ok(())
}

#[tokio::test]
async fn processors_commit_while_indexes_and_constraints_are_put_back() -> Result<()> {
    let bench = Bench::new().await?;
    bench.reconcile().await;
    commit(&bench).await?;
    let rows = r#"
        INSERT INTO {s}.stock_data (symbol, price, "timestamp") SELECT 'S' || number % 50, 1, now() FROM generate_series(1, 200000) AS number;
        INSERT INTO {s}.late_ticks (symbol, width, window_start, price, "timestamp", watermark)
        SELECT 'S', '1m', now(), 1, now(), now() FROM generate_series(1, 200000)"#;
    drift(&bench, rows).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writer = bench.login(&bench.feed.writer_role(), WRITER).await?;
    let writing = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            let (mut commits, mut longest) = (0_i64, Duration::ZERO);
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                sqlx::raw_sql(COMMIT).execute(&mut writer).await?;
                longest = longest.max(began.elapsed());
                commits += 1;
            }
            anyhow::Ok::<(i64, Duration)>((commits, longest))
        }
    });
    let differences = "
        DROP INDEX {s}.stock_data_symbol_timestamp; DROP INDEX {s}.late_ticks_symbol; DROP INDEX {s}.quarantine_reason;
        ALTER TABLE {s}.stock_data DROP CONSTRAINT stock_data_price_check; ALTER TABLE {s}.late_ticks DROP CONSTRAINT late_ticks_pkey;
        ALTER TABLE {s}.stock_data ALTER COLUMN price DROP NOT NULL; DROP VIEW {s}.candles CASCADE; DROP TABLE {s}.gaps CASCADE";
    drift(&bench, differences).await?;
    let mut written = Vec::new();
    // A lock may be missed at one look, and is had at the next.
    for _ in 0..5 {
        let outcome = bench.reconcile().await;
        written.extend(kinds(&outcome));
        if outcome.verdict.is_true() {
            break;
        }
        assert_eq!(
            outcome.verdict.reason,
            reason::SCHEMA_LOCKED,
            "{:?}",
            outcome.verdict
        );
    }
    stop.store(true, Ordering::Relaxed);
    let (commits, longest) = writing.await??;
    written.sort_unstable();
    let mut expected = [
        Table, Column, Constraint, Constraint, Index, Index, Index, View, View, View,
    ];
    expected.sort_unstable();
    assert_eq!(written, expected);
    assert!(bench.reconcile().await.written.is_empty());
    assert!(commits > 10, "{commits} commits only");
    assert!(longest < Duration::from_secs(5), "a commit took {longest:?}");
    let stored = text(&bench, "SELECT count(*) FROM {s}.stock_data WHERE symbol = 'W'").await?;
    assert_eq!(stored, (commits + 1).to_string());
    Ok(())
}

#[tokio::test]
async fn an_index_that_was_left_half_built_is_built_again() -> Result<()> {
    let bench = Bench::new().await?;
    bench.reconcile().await;
    let half = "
        UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{s}.candle_state_open'::regclass;
        DROP INDEX {s}.stock_data_symbol_timestamp;
        SET ROLE {a};
        SET search_path TO {s};
        CREATE INDEX stock_data_symbol_timestamp ON ONLY stock_data USING btree (symbol, \"timestamp\")";
    drift(&bench, half).await?;
    let outcome = bench.reconcile().await;
    assert!(outcome.verdict.is_true(), "{:?}", outcome.verdict);
    assert_eq!(kinds(&outcome), [Index, Index]);
    let valid = "SELECT bool_and(indisvalid) FROM pg_index JOIN pg_class ON pg_class.oid = indrelid WHERE relnamespace = '{s}'::regnamespace";
    assert_eq!(text(&bench, valid).await?, "true");
    let weeks =
        "SELECT count(*) = (SELECT count(*) FROM pg_inherits WHERE inhparent = '{s}.stock_data'::regclass)
                 FROM pg_inherits WHERE inhparent = '{s}.stock_data_symbol_timestamp'::regclass";
    assert_eq!(text(&bench, weeks).await?, "true");
    Ok(())
}

#[tokio::test]
async fn a_schema_that_was_as_it_should_be_is_left_in_peace_for_a_while_unless_something_else_is_amiss()
-> Result<()> {
    let bench = Bench::new().await?;
    let bench = Bench {
        databases: operator::database::Databases::new(Default::default()).resting(Duration::from_secs(600)),
        ..bench
    };
    bench.reconcile().await;
    bench.reconcile().await;
    drift(&bench, "DROP FUNCTION {s}.get_all_symbols()").await?;
    assert_eq!(kinds(&bench.reconcile().await), []);
    drift(&bench, "DROP OWNED BY {r}; DROP ROLE {r}").await?;
    let healed = kinds(&bench.reconcile().await);
    assert!(
        healed.contains(&Roles) && healed.contains(&Function) && healed.contains(&Grant),
        "{healed:?}"
    );
    Ok(())
}

/// What a look costs: printed, and the quickest of many held within a bound, since others use the machine.
#[tokio::test]
async fn a_look_is_cheap() -> Result<()> {
    let bench = Bench::new().await?;
    bench.reconcile().await;
    let mut connection: PgConnection = bench.server.connect().await?;
    let reference = schema::drift::Reference::make(&mut connection).await?;
    let mut took = Vec::new();
    for _ in 0..30 {
        let began = Instant::now();
        schema::drift::look(&mut connection, &bench.feed, &reference).await?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    println!("a look: shortest {:?}, median {:?}", took[0], took[15]);
    assert!(took[0] < Duration::from_millis(50), "{took:?}");
    Ok(())
}
