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
