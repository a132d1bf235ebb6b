//! What others change in a feed's schema of a real PostgreSQL: found, put back, and said; or left alone.

use anyhow::{Context as _, Result};
use operator::{api::status::reason, metrics::Heal::Table};
use sqlx::{AssertSqlSafe, Connection as _};

#[path = "../support/bench.rs"]
mod bench;
mod put_back;
mod under_load;

use bench::{Bench, WRITER, kinds};

/// Of `{s}` the schema, `{a}` the administrator, `{w}` and `{r}` writer and reader.
fn filled(bench: &Bench, text: &str) -> String {
    text.replace("{s}", &bench.feed.schema())
        .replace("{a}", &bench.administrator)
        .replace("{w}", &bench.feed.writer_role())
        .replace("{r}", &bench.feed.reader_role())
}

async fn drift(bench: &Bench, statement: &str) -> Result<()> {
    bench
        .execute(filled(bench, statement))
        .await
        .with_context(|| statement.to_owned())
}

async fn text(bench: &Bench, query: &str) -> Result<String> {
    let query = format!("SELECT coalesce(answer::text, 'NULL') FROM ({query}) AS one (answer)");
    let mut connection = bench.server.connect().await?;
    let answer = sqlx::query_scalar(AssertSqlSafe(filled(bench, &query)))
        .fetch_one(&mut connection)
        .await
        .context(query)?;
    connection.close().await?;
    Ok(answer)
}

/// One commit of a processor, with a row in each table that it writes.
const COMMIT: &str = r#"
    BEGIN;
    INSERT INTO partitions (generation, partition) VALUES (1, 0) ON CONFLICT DO NOTHING;
    UPDATE partitions SET version = version + 1, ticks = ticks + 1 WHERE generation = 1 AND partition = 0;
    INSERT INTO stock_data (symbol, price, volume, "timestamp") VALUES ('W', 2, 3, now());
    INSERT INTO candle_state AS stored (symbol, width, window_start, window_end, session_day, open, high, low, close, first_key,
                              last_key, tick_count, price_sum, price_square_sum)
    VALUES ('W', '1d', '2026-11-20 05:00Z', '2026-11-21 05:00Z', '2026-11-20', 2, 2, 2, 2, '\x00', '\x01', 1, 2, 4)
    ON CONFLICT (symbol, width, window_start) DO UPDATE SET tick_count = stored.tick_count + 1,
        price_sum = stored.price_sum + 2, price_square_sum = stored.price_square_sum + 4;
    INSERT INTO quarantine (generation, partition, reason, detail, raw) VALUES (1, 0, 'written', '', '');
    COMMIT"#;

async fn commit(bench: &Bench) -> Result<()> {
    let mut writer = bench.login(&bench.feed.writer_role(), WRITER).await?;
    sqlx::raw_sql(COMMIT).execute(&mut writer).await?;
    writer.close().await?;
    Ok(())
}

/// When each row of the catalogue about the schema, its roles and what is shared was written.
const CATALOGUE: &str = "
    SELECT md5(string_agg(line, ',' ORDER BY line)) FROM (
        SELECT concat('c', oid, xmin) FROM pg_class WHERE relnamespace IN ('{s}'::regnamespace, 'stockfeed'::regnamespace)
        UNION ALL SELECT concat('p', oid, xmin) FROM pg_proc WHERE pronamespace IN ('{s}'::regnamespace, 'stockfeed'::regnamespace)
        UNION ALL SELECT concat('a', attrelid, attnum, pg_attribute.xmin) FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
                  WHERE relnamespace IN ('{s}'::regnamespace, 'stockfeed'::regnamespace)
        UNION ALL SELECT concat('n', oid, xmin) FROM pg_namespace WHERE nspname NOT LIKE 'pg_temp%' AND nspname NOT LIKE 'pg_toast%'
        UNION ALL SELECT concat('r', oid, xmin) FROM pg_authid WHERE rolname IN ('{w}', '{r}')
        UNION ALL SELECT concat('s', setrole, pg_db_role_setting.xmin) FROM pg_db_role_setting JOIN pg_roles ON pg_roles.oid = setrole
                  WHERE rolname IN ('{w}', '{r}')) AS one (line)";

#[tokio::test]
async fn nothing_is_written_when_nothing_differs_and_what_others_have_is_left_alone() -> Result<()> {
    let bench = Bench::new().await?;
    bench.reconcile().await;
    commit(&bench).await?;
    let everything = "
        CREATE ROLE {a}_grafana;
        SET ROLE {a};
        CREATE TABLE {s}.mine (symbol text PRIMARY KEY, note text NOT NULL DEFAULT '');
        CREATE INDEX mine_note ON {s}.mine (note);
        CREATE VIEW {s}.my_candles AS SELECT * FROM {s}.candles;
        CREATE MATERIALIZED VIEW {s}.my_days AS SELECT * FROM {s}.stock_analytics;
        CREATE FUNCTION {s}.mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE FUNCTION {s}.get_all_symbols(prefix text) RETURNS SETOF text LANGUAGE sql AS 'SELECT prefix';
        CREATE AGGREGATE {s}.get_all_symbols(bytea) (SFUNC = byteacat, STYPE = bytea);
        CREATE TRIGGER mine AFTER INSERT ON {s}.gaps FOR EACH ROW EXECUTE FUNCTION {s}.mine();
        CREATE INDEX my_index ON {s}.stock_data (exchange);
        CREATE UNIQUE INDEX my_other ON {s}.gaps (detected_at);
        ALTER TABLE {s}.stock_data ADD COLUMN note text DEFAULT 'none';
        ALTER TABLE {s}.gaps ADD CONSTRAINT my_check CHECK (last_sequence > -10);
        ALTER TABLE {s}.gaps SET (autovacuum_vacuum_scale_factor = 0.1);
        GRANT SELECT ON {s}.stock_data, {s}.mine TO {a}_grafana;
        GRANT SELECT ON {s}.mine TO PUBLIC;
        GRANT {r} TO {a}_grafana;
        ALTER ROLE {r} SET statement_timeout TO '1min'";
    drift(&bench, everything).await?;
    let before = text(&bench, CATALOGUE).await?;
    for _ in 0..3 {
        let outcome = bench.reconcile().await;
        assert!(outcome.verdict.is_true(), "{:?}", outcome.verdict);
        assert!(outcome.written.is_empty(), "{:?}", outcome.written);
    }
    assert_eq!(text(&bench, CATALOGUE).await?, before);
    commit(&bench).await?;
    // An operator that is started anew makes its reference, which is rolled back: nothing of it stays.
    let again = Bench {
        databases: operator::database::Databases::new(Default::default()),
        ..bench
    };
    assert!(again.reconcile().await.written.is_empty());
    assert_eq!(text(&again, CATALOGUE).await?, before);
    let left = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'Reference%'";
    assert_eq!(text(&again, left).await?, "0");
    drift(&again, "DROP OWNED BY {a}_grafana; DROP ROLE {a}_grafana").await
}

/// Changes that only a person can put back: what is done, words of the condition, and what the person does.
const REPORTED: &[(&str, &str, &str)] = &[
    (
        "ALTER TABLE {s}.stock_data DROP COLUMN market_cap CASCADE",
        "column market_cap of table stock_data is missing: its values are gone: restore it from a backup, or make it anew without them: \
         ALTER TABLE stock_data ADD COLUMN market_cap numeric",
        "SET ROLE {a}; ALTER TABLE {s}.stock_data ADD COLUMN market_cap numeric",
    ),
    (
        "ALTER TABLE {s}.quarantine ALTER COLUMN detail TYPE varchar(500)",
        "column detail of table quarantine is character varying(500) instead of text",
        "ALTER TABLE {s}.quarantine ALTER COLUMN detail TYPE text",
    ),
    (
        "ALTER TABLE {s}.late_ticks SET UNLOGGED",
        "table late_ticks is unlogged ordinary instead of ordinary: it would be emptied by a crash",
        "ALTER TABLE {s}.late_ticks SET LOGGED",
    ),
    (
        "ALTER TABLE {s}.gaps RENAME TO holes",
        "table gaps is missing: table holes looks like it: rename it back",
        "ALTER TABLE {s}.holes RENAME TO gaps",
    ),
    (
        "ALTER TABLE {s}.stock_data RENAME TO ticks",
        "table stock_data is missing: table ticks looks like it",
        "ALTER TABLE {s}.ticks RENAME TO stock_data",
    ),
    (
        "ALTER TABLE {s}.quarantine ALTER COLUMN detail DROP NOT NULL; UPDATE {s}.quarantine SET detail = NULL",
        "NOT NULL of column detail of table quarantine is missing: check constraint",
        "UPDATE {s}.quarantine SET detail = ''",
    ),
    (
        "ALTER TABLE {s}.candle_state DROP CONSTRAINT candle_count; UPDATE {s}.candle_state SET tick_count = 0",
        "constraint candle_count of table candle_state is",
        "UPDATE {s}.candle_state SET tick_count = 1",
    ),
    (
        "DROP VIEW {s}.candles CASCADE; SET ROLE {a}; CREATE VIEW {s}.candles AS SELECT 1 AS one; CREATE VIEW {s}.mine AS SELECT * FROM {s}.candles",
        "view candles is changed: cannot drop view candles because other objects depend on it",
        "DROP VIEW {s}.mine",
    ),
    (
        "ALTER FUNCTION {s}.get_all_symbols() OWNER TO {w}",
        "the owner of function get_all_symbols() is {w} instead of the administrator",
        "ALTER FUNCTION {s}.get_all_symbols() OWNER TO {a}",
    ),
    (
        "ALTER ROLE {r} SUPERUSER",
        "SUPERUSER of role reader is true instead of false: permission denied",
        "ALTER ROLE {r} NOSUPERUSER",
    ),
];

#[tokio::test]
async fn what_only_a_person_can_put_back_is_named_with_what_to_do() -> Result<()> {
    let bench = Bench::new().await?;
    bench.reconcile().await;
    commit(&bench).await?;
    let before = text(&bench, "SELECT count(*) FROM {s}.stock_data").await?;
    for (statement, words, remedy) in REPORTED {
        drift(&bench, statement).await?;
        let outcome = bench.reconcile().await;
        let verdict = &outcome.verdict;
        assert_eq!(verdict.reason, reason::SCHEMA_DRIFTED, "{statement}: {verdict:?}");
        assert!(
            verdict.message.contains(&filled(&bench, words)),
            "{statement}: {}",
            verdict.message
        );
        assert_eq!(outcome.version, Some(schema::VERSION), "{statement}");
        drift(&bench, remedy).await?;
        let mended = bench.reconcile().await;
        assert!(mended.verdict.is_true(), "{statement}: {:?}", mended.verdict);
        commit(&bench)
            .await
            .with_context(|| format!("after {statement}"))?;
    }
    // A table that was away under another name has its rows.
    let commits = REPORTED.len() + before.parse::<usize>()?;
    assert_eq!(
        text(&bench, "SELECT count(*) FROM {s}.stock_data").await?,
        commits.to_string()
    );
    Ok(())
}

#[tokio::test]
async fn a_schema_whose_version_nobody_knows_is_not_migrated() -> Result<()> {
    let bench = Bench::new().await?;
    bench.reconcile().await;
    drift(
        &bench,
        "DROP TABLE {s}._sqlx_migrations; DROP INDEX {s}.gaps_detected_at",
    )
    .await?;
    let outcome = bench.reconcile().await;
    assert_eq!(outcome.verdict.reason, reason::SCHEMA_DRIFTED);
    let message = &outcome.verdict.message;
    assert!(
        message.contains("index gaps_detected_at of table gaps is missing"),
        "{message}"
    );
    drift(
        &bench,
        "SET ROLE {a}; CREATE INDEX gaps_detected_at ON {s}.gaps (detected_at)",
    )
    .await?;
    let outcome = bench.reconcile().await;
    assert!(outcome.verdict.is_true(), "{:?}", outcome.verdict);
    assert_eq!(kinds(&outcome), [Table]);
    Ok(())
}

#[tokio::test]
async fn a_schema_of_a_newer_operator_is_not_mended() -> Result<()> {
    let bench = Bench::new().await?;
    bench.reconcile().await;
    drift(
        &bench,
        "DROP FUNCTION {s}.get_all_symbols();
         INSERT INTO {s}._sqlx_migrations (version, description, success, checksum, execution_time) VALUES (1000, 'later', true, '', 0)",
    )
    .await?;
    let outcome = bench.reconcile().await;
    assert_eq!(outcome.verdict.reason, reason::SCHEMA_TOO_NEW);
    let query = "SELECT to_regprocedure('{s}.get_all_symbols()')";
    assert_eq!(text(&bench, query).await?, "NULL");
    Ok(())
}
