//! What others change in a feed's schema of a real PostgreSQL: found, put back, and said; or left alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use operator::{
    api::status::reason,
    database::Outcome,
    metrics::Heal::{
        self, Column, Constraint, Function, Grant, Index, Owner, Roles, Table, TableOption, View,
    },
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

#[path = "support/bench.rs"]
mod bench;

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

/// Changes that are put back: what is done, what is counted, and words of the Event.
const HEALED: &[(&str, &[Heal], &str)] = &[
    // Functions.
    ("DROP FUNCTION {s}.get_all_symbols()", &[Function], "function get_all_symbols() was missing"),
    (
        "CREATE OR REPLACE FUNCTION {s}.get_all_symbols() RETURNS TABLE (symbol text) LANGUAGE sql AS 'SELECT NULL::text'",
        &[Function],
        "function get_all_symbols() was changed",
    ),
    (
        "SET ROLE {a}; DROP FUNCTION {s}.get_all_symbols(); CREATE FUNCTION {s}.get_all_symbols() RETURNS integer LANGUAGE sql AS 'SELECT 1';
         REVOKE EXECUTE ON FUNCTION {s}.get_all_symbols() FROM PUBLIC; GRANT EXECUTE ON FUNCTION {s}.get_all_symbols() TO {w}, {r}",
        &[Function],
        "function get_all_symbols() was changed",
    ),
    (
        "ALTER FUNCTION {s}.release_quarantined(bigint[]) SECURITY INVOKER",
        &[Function],
        "function release_quarantined(bigint[]) was changed",
    ),
    (
        "ALTER FUNCTION {s}.list_quarantine(text, integer) RESET search_path",
        &[Function],
        "function list_quarantine(text, integer) was changed",
    ),
    (
        "DROP FUNCTION stockfeed.take_calls(text, date, bigint, bigint, bigint)",
        &[Function],
        "function stockfeed.take_calls",
    ),
    // Views.
    ("DROP VIEW {s}.stock_analytics", &[View], "view stock_analytics was missing"),
    ("DROP VIEW {s}.candles CASCADE", &[View, View], "view candles was missing"),
    (
        "ALTER VIEW {s}.stock_analytics RENAME COLUMN avg_price TO mean",
        &[View],
        "view stock_analytics was changed",
    ),
    (
        "SET ROLE {a}; DROP VIEW {s}.candles CASCADE; CREATE VIEW {s}.candles AS SELECT 1 AS one; GRANT SELECT ON {s}.candles TO {w}, {r}",
        &[View, View],
        "view candles was changed",
    ),
    ("ALTER VIEW {s}.candles SET (security_invoker = true)", &[View], "view candles was changed"),
    // Indexes and constraints.
    (
        "DROP INDEX {s}.candle_state_open",
        &[Index],
        "index candle_state_open of table candle_state was missing",
    ),
    (
        "DROP INDEX {s}.quarantine_dead_letter; SET ROLE {a}; CREATE INDEX quarantine_dead_letter ON {s}.quarantine (sequence)",
        &[Index],
        "index quarantine_dead_letter of table quarantine was",
    ),
    (
        "DROP INDEX {s}.stock_data_symbol_timestamp",
        &[Index],
        "index stock_data_symbol_timestamp of table stock_data was missing",
    ),
    (
        "DROP INDEX {s}.stock_data_symbol_timestamp; SET ROLE {a}; CREATE INDEX stock_data_symbol_timestamp ON {s}.stock_data (symbol)",
        &[Index],
        "index stock_data_symbol_timestamp of table stock_data was",
    ),
    (
        "ALTER TABLE {s}.candle_state DROP CONSTRAINT candle_order",
        &[Constraint],
        "constraint candle_order of table candle_state was missing",
    ),
    (
        "ALTER TABLE {s}.candle_state DROP CONSTRAINT candle_order, ADD CONSTRAINT candle_order CHECK (low > 0)",
        &[Constraint],
        "constraint candle_order of table candle_state was CHECK",
    ),
    (
        "ALTER TABLE {s}.partitions DROP CONSTRAINT partitions_pkey",
        &[Constraint],
        "constraint partitions_pkey of table partitions was missing",
    ),
    (
        "ALTER TABLE {s}.stock_data DROP CONSTRAINT stock_data_price_check",
        &[Constraint],
        "constraint stock_data_price_check of table stock_data was missing",
    ),
    // Columns, and how tables are stored.
    (
        "ALTER TABLE {s}.gaps ALTER COLUMN detected_at DROP DEFAULT",
        &[Column],
        "the default of column detected_at of table gaps was missing",
    ),
    (
        "ALTER TABLE {s}.quarantine ALTER COLUMN reason SET DEFAULT 'none'",
        &[Column],
        "the default of column reason of table quarantine was not ours",
    ),
    (
        "ALTER TABLE {s}.stock_data ALTER COLUMN symbol DROP NOT NULL",
        &[Column],
        "NOT NULL of column symbol of table stock_data was missing",
    ),
    (
        "ALTER TABLE {s}.late_ticks ALTER COLUMN volume SET NOT NULL",
        &[Column],
        "NOT NULL of column volume of table late_ticks was not ours",
    ),
    ("ALTER TABLE {s}.partitions RESET (fillfactor)", &[TableOption], "option fillfactor of table partitions"),
    ("ALTER TABLE {s}.gaps ENABLE ROW LEVEL SECURITY", &[TableOption], "row security of table gaps was changed"),
    // Tables.
    ("DROP TABLE {s}.gaps CASCADE", &[Table, View], "table gaps was missing, and was made anew, empty: its rows are gone"),
    ("DROP TABLE {s}.compatibility", &[Table], "table compatibility was missing"),
    ("DROP TABLE {s}._sqlx_migrations", &[Table], "table _sqlx_migrations was missing"),
    ("DROP TABLE {s}.stock_data CASCADE", &[Table, View, Function], "table stock_data was missing"),
    ("DROP SCHEMA stockfeed CASCADE", &[Heal::Schema, Table, Function], "schema stockfeed was missing"),
    // Rights.
    ("REVOKE SELECT ON {s}.gaps FROM {r}", &[Grant], "the right of reader SELECT on table gaps was missing"),
    (
        "REVOKE UPDATE (released_at) ON {s}.quarantine FROM {w}",
        &[Grant],
        "the right of writer UPDATE (released_at) on table quarantine was missing",
    ),
    (
        "REVOKE EXECUTE ON FUNCTION {s}.get_all_symbols() FROM {r}",
        &[Grant],
        "the right of reader EXECUTE on function get_all_symbols() was missing",
    ),
    ("REVOKE USAGE ON SCHEMA {s} FROM {r}", &[Grant], "the right of reader USAGE on schema was missing"),
    (
        "REVOKE USAGE ON SCHEMA stockfeed FROM {w}",
        &[Grant],
        "the right of writer USAGE on schema stockfeed was missing",
    ),
    ("REVOKE INSERT ON {s}.gaps FROM {a}", &[Grant], "the right of the owner on table gaps was"),
    ("GRANT DELETE ON {s}.stock_data TO {w}", &[Grant], "the right of writer DELETE on table stock_data was not ours"),
    ("GRANT SELECT ON {s}.gaps TO PUBLIC", &[Grant], "the right of PUBLIC SELECT on table gaps was not ours"),
    ("GRANT CREATE ON SCHEMA {s} TO PUBLIC", &[Grant], "the right of PUBLIC CREATE on schema was not ours"),
    (
        "GRANT EXECUTE ON FUNCTION {s}.discard_quarantined(bigint[]) TO {r}",
        &[Grant],
        "the right of reader EXECUTE on function discard_quarantined(bigint[]) was not ours",
    ),
    (
        "GRANT UPDATE (price) ON {s}.stock_data TO {r}",
        &[Grant],
        "the right of reader UPDATE (price) on table stock_data was not ours",
    ),
    (
        "GRANT SELECT ON {s}.gaps TO {r} WITH GRANT OPTION",
        &[Grant],
        "the right of reader SELECT with grant option on table gaps was not ours",
    ),
    (
        "DO $$ BEGIN EXECUTE (SELECT 'GRANT DELETE ON {s}.' || relname || ' TO {r}' FROM pg_class
                              WHERE relname ~ '^stock_data_[0-9]{8}$' AND relnamespace = '{s}'::regnamespace LIMIT 1); END $$",
        &[Grant],
        "the right of reader DELETE on table stock_data_",
    ),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE {a} IN SCHEMA {s} GRANT DELETE ON TABLES TO {w}",
        &[Grant],
        "the right of writer DELETE on new tables was not ours",
    ),
];

#[tokio::test]
async fn what_others_change_in_the_schema_is_put_back_and_said() -> Result<()> {
    let bench = Bench::new().await?;
    assert!(bench.reconcile().await.verdict.is_true());
    check(&bench, HEALED).await
}

/// What only a superuser can put back.
const HEALED_BY_SUPERUSERS: &[(&str, &[Heal], &str)] = &[
    (
        "ALTER TABLE {s}.gaps OWNER TO {r}",
        &[Owner, Grant],
        "the owner of table gaps was {r}",
    ),
    (
        "ALTER VIEW {s}.candles OWNER TO {a}",
        &[Owner],
        "the owner of view candles was {a}",
    ),
    (
        "ALTER FUNCTION {s}.release_quarantined(bigint[]) OWNER TO {a}",
        &[Owner],
        "the owner of function release_quarantined(bigint[]) was {a}",
    ),
    (
        "ALTER SCHEMA {s} OWNER TO {a}",
        &[Owner],
        "the owner of schema was {a}",
    ),
    (
        "ALTER ROLE {w} SUPERUSER",
        &[Roles],
        "SUPERUSER of role writer was true",
    ),
    (
        "ALTER ROLE {r} CREATEROLE CREATEDB BYPASSRLS",
        &[Roles, Roles, Roles],
        "BYPASSRLS of role reader was true",
    ),
    (
        "ALTER ROLE {r} INHERIT",
        &[Roles],
        "INHERIT of role reader was true",
    ),
    (
        "GRANT pg_read_all_data TO {r}",
        &[Roles],
        "role reader's membership in pg_read_all_data was not ours",
    ),
    (
        "GRANT {w} TO {r}",
        &[Roles],
        "role reader's membership in {w} was not ours",
    ),
];

#[tokio::test]
async fn what_others_change_of_owners_and_roles_is_put_back_and_said() -> Result<()> {
    let mut bench = Bench::new().await?;
    // Another administrator: the one of the bench is somebody else then.
    let options = bench.server.options.clone();
    bench.set("username", options.get_username());
    bench.set("password", "postgres");
    let made = bench.reconcile().await;
    assert!(made.verdict.is_true(), "{:?}", made.verdict);
    check(&bench, HEALED_BY_SUPERUSERS).await
}

async fn check(bench: &Bench, cases: &[(&str, &[Heal], &str)]) -> Result<()> {
    commit(bench).await?;
    for (statement, expected, words) in cases {
        drift(bench, statement).await?;
        let outcome = bench.reconcile().await;
        let Outcome { verdict, written, .. } = &outcome;
        ensure!(verdict.is_true(), "{statement}: {verdict:?}, {written:?}");
        let mut found = kinds(&outcome);
        found.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        // What a dropped table takes along differs in number only.
        found.dedup();
        expected.dedup();
        ensure!(found == expected, "{statement}: {written:?}");
        let words = filled(bench, words);
        ensure!(
            written.iter().any(|(_, text)| text.contains(&words)),
            "{statement}: {words:?} is not said in {written:?}"
        );
        let again = bench.reconcile().await;
        ensure!(
            again.verdict.is_true() && again.written.is_empty(),
            "{statement}: {:?}",
            again.written
        );
        commit(bench)
            .await
            .with_context(|| format!("after {statement}"))?;
    }
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
