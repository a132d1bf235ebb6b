//! What somebody else changes in the database.

use std::sync::Arc;

use anyhow::Result;

use crate::{
    scenarios,
    world::{AT_REST, Scene, World},
};

scenarios! {
    a_dropped_schema_comes_back,
    a_dropped_role_comes_back,
    another_role_password_is_set_back,
    a_role_that_may_not_log_in_may_again,
    another_search_path_is_set_back,
    a_schema_of_a_newer_release_is_left_alone,
    a_dropped_function_comes_back,
    a_changed_view_is_set_back,
    a_dropped_index_comes_back,
    a_dropped_table_comes_back_empty_and_that_is_said,
    a_revoked_grant_comes_back,
    an_extra_grant_is_taken_back,
    a_role_that_was_made_more_of_is_set_back,
    a_dropped_column_is_reported_until_a_person_mends_it,
    what_others_made_in_the_schema_is_left_alone,
    a_paused_feeds_schema_is_left_alone,
}

async fn a_dropped_schema_comes_back(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "noschema").await?;
    let schema = scene.schema();
    world.sql(&format!("DROP SCHEMA {schema} CASCADE")).await?;
    scene.nudge().await?;
    let query = format!("SELECT to_regclass('{schema}.stock_data') IS NOT NULL");
    scene
        .until("the schema is back", async || world.sql_is(&query).await)
        .await?;
    scene.event("DatabaseHealed", "was missing").await?;
    scene.expect("healed", AT_REST).await
}

async fn a_dropped_role_comes_back(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "norole").await?;
    let role = format!("{}_reader", scene.schema());
    world
        .sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await?;
    scene.nudge().await?;
    let query = format!(
        "SELECT EXISTS (SELECT FROM pg_authid WHERE rolname = '{role}' AND rolpassword LIKE 'SCRAM%')"
    );
    scene
        .until("the role is back", async || world.sql_is(&query).await)
        .await?;
    scene.event("DatabaseHealed", "role").await?;
    scene.expect("healed", AT_REST).await
}

async fn another_role_password_is_set_back(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "rolepassword").await?;
    let role = format!("{}_writer", scene.schema());
    world
        .sql(&format!("ALTER ROLE {role} PASSWORD 'another'"))
        .await?;
    scene.nudge().await?;
    scene.event("DatabaseHealed", "could not log in").await?;
    scene.expect("healed", AT_REST).await
}

async fn a_role_that_may_not_log_in_may_again(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "nologin").await?;
    let role = format!("{}_writer", scene.schema());
    world.sql(&format!("ALTER ROLE {role} NOLOGIN")).await?;
    scene.nudge().await?;
    let query = format!("SELECT rolcanlogin FROM pg_roles WHERE rolname = '{role}'");
    scene
        .until("it may log in", async || world.sql_is(&query).await)
        .await?;
    scene.event("DatabaseHealed", "could not log in").await
}

async fn another_search_path_is_set_back(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "searchpath").await?;
    let role = format!("{}_writer", scene.schema());
    let database = &world.stand.database.name;
    world
        .sql(&format!(
            "ALTER ROLE {role} IN DATABASE {database} SET search_path TO public"
        ))
        .await?;
    scene.nudge().await?;
    scene.event("DatabaseHealed", "search path").await?;
    scene.expect("healed", AT_REST).await
}

async fn a_schema_of_a_newer_release_is_left_alone(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "newer").await?;
    let table = format!("{}._sqlx_migrations", scene.schema());
    world
        .sql(&format!(
            "INSERT INTO {table} (version, description, success, checksum, execution_time) VALUES (9999, 'later', true, '', 0)"
        ))
        .await?;
    scene.nudge().await?;
    scene
        .expect(
            "too new",
            &[
                ("SchemaReady", "False", "SchemaTooNew"),
                ("Stalled", "True", "SchemaTooNew"),
            ],
        )
        .await?;
    world
        .sql(&format!("DELETE FROM {table} WHERE version = 9999"))
        .await?;
    scene.expect("as it was", AT_REST).await
}

/// Changes something, and waits until that is undone with an Event that has these words.
async fn heals(world: &World, name: &str, change: &str, is_healed: &str, words: &str) -> Result<()> {
    let scene = Scene::at_rest(world, name).await?;
    let schema = scene.schema();
    world.sql(&change.replace("{s}", &schema)).await?;
    scene.nudge().await?;
    let query = is_healed.replace("{s}", &schema);
    scene
        .until("it is as before", async || world.sql_is(&query).await)
        .await?;
    scene.event("DatabaseHealed", words).await?;
    scene.expect("healed", AT_REST).await
}

async fn a_dropped_function_comes_back(world: Arc<World>) -> Result<()> {
    heals(
        &world,
        "nofunction",
        "DROP FUNCTION {s}.get_all_symbols()",
        "SELECT to_regprocedure('{s}.get_all_symbols()') IS NOT NULL
         AND has_function_privilege('{s}_reader', to_regprocedure('{s}.get_all_symbols()'), 'EXECUTE')",
        "function get_all_symbols() was missing",
    )
    .await
}

async fn a_changed_view_is_set_back(world: Arc<World>) -> Result<()> {
    heals(
        &world,
        "otherview",
        "CREATE OR REPLACE VIEW {s}.stock_data_weeks AS
         SELECT NULL::text COLLATE \"C\" AS partition, now() AS week_start, now() AS week_end, 'attached'::text AS state",
        "SELECT count(*) > 1 FROM {s}.stock_data_weeks",
        "view stock_data_weeks was changed",
    )
    .await
}

async fn a_dropped_index_comes_back(world: Arc<World>) -> Result<()> {
    heals(
        &world,
        "noindex",
        "DROP INDEX {s}.stock_data_symbol_timestamp; DROP INDEX {s}.candle_state_open",
        "SELECT count(*) = 2 FROM pg_index WHERE indisvalid
         AND indexrelid IN (to_regclass('{s}.stock_data_symbol_timestamp'), to_regclass('{s}.candle_state_open'))",
        "index stock_data_symbol_timestamp of table stock_data was missing",
    )
    .await
}

async fn a_dropped_table_comes_back_empty_and_that_is_said(world: Arc<World>) -> Result<()> {
    heals(
        &world,
        "notable",
        "DROP TABLE {s}.gaps CASCADE",
        "SELECT to_regclass('{s}.gaps') IS NOT NULL",
        "table gaps was missing, and was made anew, empty: its rows are gone",
    )
    .await
}

async fn a_revoked_grant_comes_back(world: Arc<World>) -> Result<()> {
    heals(
        &world,
        "nogrant",
        "REVOKE INSERT ON {s}.stock_data FROM {s}_writer",
        "SELECT has_table_privilege('{s}_writer', '{s}.stock_data', 'INSERT')",
        "the right of writer INSERT on table stock_data was missing",
    )
    .await
}

async fn an_extra_grant_is_taken_back(world: Arc<World>) -> Result<()> {
    heals(
        &world,
        "moregrants",
        "GRANT DELETE ON {s}.stock_data TO {s}_reader; GRANT SELECT ON {s}.quarantine TO PUBLIC",
        "SELECT NOT has_table_privilege('{s}_reader', '{s}.stock_data', 'DELETE')
         AND NOT EXISTS (SELECT FROM pg_class, aclexplode(relacl) AS acl WHERE oid = '{s}.quarantine'::regclass AND acl.grantee = 0)",
        "the right of reader DELETE on table stock_data was not ours",
    )
    .await
}

async fn a_role_that_was_made_more_of_is_set_back(world: Arc<World>) -> Result<()> {
    heals(
        &world,
        "morerole",
        "ALTER ROLE {s}_reader SUPERUSER; GRANT pg_read_all_data TO {s}_reader",
        "SELECT NOT rolsuper AND NOT pg_has_role(rolname, 'pg_read_all_data', 'MEMBER') FROM pg_roles WHERE rolname = '{s}_reader'",
        "SUPERUSER of role reader was true instead of false",
    )
    .await
}

async fn a_dropped_column_is_reported_until_a_person_mends_it(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "nocolumn").await?;
    let schema = scene.schema();
    world
        .sql(&format!(
            "ALTER TABLE {schema}.gaps DROP COLUMN detected_at CASCADE; REVOKE SELECT ON {schema}.gaps FROM {schema}_reader"
        ))
        .await?;
    scene.nudge().await?;
    scene
        .expect(
            "reported",
            &[
                ("SchemaReady", "False", "SchemaDrifted"),
                ("Stalled", "True", "SchemaDrifted"),
                ("BrokerReady", "True", "AsDeclared"),
                ("ProcessorReady", "False", "Progressing"),
            ],
        )
        .await?;
    let said = scene
        .conditions()
        .await?
        .remove("SchemaReady")
        .unwrap_or_default();
    let remedy = "ALTER TABLE gaps ADD COLUMN detected_at timestamp with time zone";
    anyhow::ensure!(said[2].contains(remedy), "{said:?}");
    // What can be put back is put back all the same.
    scene
        .event(
            "DatabaseHealed",
            "the right of reader SELECT on table gaps was missing",
        )
        .await?;
    world
        .sql(&format!(
            "ALTER TABLE {schema}.gaps ADD COLUMN detected_at timestamptz"
        ))
        .await?;
    scene.nudge().await?;
    scene
        .event(
            "DatabaseHealed",
            "index gaps_detected_at of table gaps was missing",
        )
        .await?;
    scene.expect("mended", AT_REST).await
}

async fn what_others_made_in_the_schema_is_left_alone(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "others").await?;
    let schema = scene.schema();
    world
        .sql(&format!(
            "CREATE TABLE {schema}.mine (note text); INSERT INTO {schema}.mine VALUES ('kept');
             CREATE INDEX my_index ON {schema}.candle_state (updated_at);
             DROP FUNCTION {schema}.get_all_symbols()"
        ))
        .await?;
    scene.nudge().await?;
    scene
        .event("DatabaseHealed", "function get_all_symbols() was missing")
        .await?;
    let query = format!(
        "SELECT (SELECT note FROM {schema}.mine) = 'kept' AND to_regclass('{schema}.mine') IS NOT NULL"
    );
    anyhow::ensure!(
        world.sql_is(&query).await?,
        "the table of somebody else was touched"
    );
    scene.expect("as before", AT_REST).await
}

async fn a_paused_feeds_schema_is_left_alone(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "pausedschema").await?;
    let schema = scene.schema();
    scene.annotate("stockfeed.dev/paused", "true".into()).await?;
    scene.expect("paused", &[("Ready", "Unknown", "Paused")]).await?;
    world
        .sql(&format!("DROP FUNCTION {schema}.get_all_symbols()"))
        .await?;
    scene.nudge().await?;
    // Longer than the operator of the scenarios lets pass between two looks.
    tokio::time::sleep(std::time::Duration::from_secs(12)).await;
    let query = format!("SELECT to_regprocedure('{schema}.get_all_symbols()') IS NULL");
    anyhow::ensure!(world.sql_is(&query).await?, "a paused feed was healed");
    scene
        .annotate("stockfeed.dev/paused", serde_json::Value::Null)
        .await?;
    scene
        .event("DatabaseHealed", "function get_all_symbols() was missing")
        .await?;
    scene.expect("goes on", AT_REST).await
}
