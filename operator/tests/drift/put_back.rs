//! What is put back: one change after the other, what is counted of it, and what is said.

use anyhow::{Context as _, Result, ensure};
use operator::{
    database::Outcome,
    metrics::Heal::{self, *},
};

use crate::{
    bench::{Bench, kinds},
    commit, drift, filled,
};

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
