//! The dashboards of feeds in a real Superset, over a real PostgreSQL.

#[path = "support/bench.rs"]
mod bench;
#[path = "support/superset.rs"]
mod stand;
#[path = "support/superset_user.rs"]
mod user;
#[path = "support/superset_world.rs"]
mod world;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use operator::{
    api::{DriftPolicy, status::reason},
    status::Truth,
};
use serde_json::{Value, json};
use stand::{Stand, lock};
use user::broken_server;

#[tokio::test]
async fn a_feed_gets_its_dashboards_and_a_second_round_writes_nothing() -> anyhow::Result<()> {
    let _alone = lock().await;
    let stand = Stand::new(&[]).await?;
    let feed = stand.feed("tech").await?;
    stand.round().await?;
    stand.expect(&feed, Truth::True, reason::IMPORTED)?;
    let said = stand.dashboards().said(&feed).unwrap();
    let path = said.status.unwrap().path;
    ensure!(
        said.verdict.message.starts_with(&path),
        "{}",
        said.verdict.message
    );
    let charts = stand.charts(&feed).await?;
    ensure!(charts.len() >= 6, "{charts:?}");

    let writes = stand.writes()?;
    stand.round().await?;
    stand.round().await?;
    ensure!(stand.writes()? == writes, "a round wrote something again");
    stand.expect(&feed, Truth::True, reason::IMPORTED)?;

    // Nor does an operator that begins anew.
    let anew = stand.begin_anew(&[]).await?;
    anew.round().await?;
    anew.expect(&feed, Truth::True, reason::IMPORTED)?;
    ensure!(anew.writes()? == 0, "an operator that began anew wrote something");
    Ok(())
}

#[tokio::test]
async fn a_changed_chart_is_put_back_under_heal_and_named_under_report() -> anyhow::Result<()> {
    let _alone = lock().await;
    let stand = Stand::new(&[]).await?;
    let (heal, report) = (stand.feed("heal").await?, stand.feed("report").await?);
    stand.policy(&report, DriftPolicy::Report);
    stand.round().await?;
    for feed in [&heal, &report] {
        let chart = stand.charts(feed).await?.remove(0);
        let path = format!("chart/{}", chart["id"]);
        stand.admin.put(&path, &json!({"slice_name": "Mine now"})).await?;
    }
    stand.round().await?;
    stand.expect(&heal, Truth::True, reason::IMPORTED)?;
    stand.expect(&report, Truth::False, reason::DRIFTED)?;
    let named = |charts: &[Value]| charts.iter().any(|chart| chart["slice_name"] == "Mine now");
    ensure!(!named(&stand.charts(&heal).await?), "it was not put back");
    ensure!(named(&stand.charts(&report).await?), "it was put back");
    let message = stand.dashboards().said(&report).unwrap().verdict.message;
    ensure!(message.contains("slice_name"), "{message}");
    stand.round().await?;
    let events = stand.events();
    let of = |reason: &str| events.iter().filter(|event| event["reason"] == reason).count();
    ensure!(
        of("DashboardsHealed") == 1 && of("DashboardsDrifted") == 1,
        "{events:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_deleted_chart_and_a_lost_metadata_come_back() -> anyhow::Result<()> {
    let _alone = lock().await;
    let stand = Stand::new(&[]).await?;
    let feed = stand.feed("lost").await?;
    stand.round().await?;
    let before = stand.charts(&feed).await?;
    stand.admin.delete(&format!("chart/{}", before[0]["id"])).await?;
    stand.round().await?;
    ensure!(
        stand.charts(&feed).await?.len() == before.len(),
        "the chart is gone still"
    );

    stand.remove_everything(&feed).await?;
    ensure!(
        stand.charts(&feed).await?.is_empty(),
        "the test did not remove them"
    );
    stand.round().await?;
    stand.expect(&feed, Truth::True, reason::IMPORTED)?;
    let uuids = |charts: &[Value]| -> std::collections::BTreeSet<String> {
        charts.iter().map(|chart| chart["uuid"].to_string()).collect()
    };
    ensure!(
        uuids(&stand.charts(&feed).await?) == uuids(&before),
        "they are others now"
    );
    Ok(())
}

#[tokio::test]
async fn what_people_made_survives_healing_and_the_feed() -> anyhow::Result<()> {
    let _alone = lock().await;
    let stand = Stand::new(&[]).await?;
    let (feed, other) = (stand.feed("used").await?, stand.feed("unused").await?);
    stand.round().await?;
    let (dashboard, dataset) = (stand.dashboard(&feed).await?, stand.dataset(&feed).await?);
    // A chart of one's own, put on our dashboard.
    let mine = json!({"slice_name": "My own", "viz_type": "table", "datasource_id": dataset, "datasource_type": "table",
                      "params": "{}", "dashboards": [dashboard]});
    let id = stand.admin.post("chart/", &mine).await?["id"].clone();
    let mut layout: Value =
        stand.admin.get(&format!("dashboard/{dashboard}")).await?["result"]["position_json"]
            .as_str()
            .map(serde_json::from_str)
            .transpose()?
            .unwrap_or_default();
    layout["CHART-mine"] = json!({"type": "CHART", "id": "CHART-mine", "children": [], "parents": ["ROOT_ID", "GRID_ID"],
                                  "meta": {"chartId": id, "width": 4, "height": 50}});
    let body = json!({"position_json": layout.to_string(), "dashboard_title": "Mine now"});
    stand.admin.put(&format!("dashboard/{dashboard}"), &body).await?;
    stand.round().await?;
    let charts = stand.admin.get(&format!("chart/{id}")).await?;
    ensure!(charts["result"]["slice_name"] == "My own", "{charts}");
    let title =
        stand.admin.get(&format!("dashboard/{dashboard}")).await?["result"]["dashboard_title"].clone();
    ensure!(title != "Mine now", "the dashboard was not put back");

    // With the feed goes what nobody uses.
    stand.delete(&feed);
    stand.delete(&other);
    stand.round().await?;
    ensure!(
        stand.admin.get(&format!("chart/{id}")).await.is_ok(),
        "a person's chart was removed"
    );
    ensure!(
        stand.dashboard(&feed).await.is_err(),
        "the dashboard is there still"
    );
    ensure!(
        stand.database(&feed).await?.is_some(),
        "the chart's connection was removed"
    );
    ensure!(
        stand.database(&other).await?.is_none(),
        "an unused connection is there still"
    );
    ensure!(
        stand.charts(&other).await?.is_empty(),
        "unused charts are there still"
    );

    stand.admin.delete(&format!("chart/{id}")).await?;
    stand.begin_anew(&[]).await?.round().await?;
    ensure!(
        stand.database(&feed).await?.is_none(),
        "the rest was not removed after the chart"
    );
    Ok(())
}

#[tokio::test]
async fn a_password_that_changed_reaches_superset_also_while_no_operator_ran() -> anyhow::Result<()> {
    let _alone = lock().await;
    let stand = Stand::new(&[]).await?;
    let feed = stand.feed("rotated").await?;
    stand.round().await?;
    stand.rotate(&feed, "second", true).await?;
    stand.round().await?;
    stand.expect(&feed, Truth::True, reason::IMPORTED)?;
    // Nothing but the connection itself tells it.
    stand.rotate(&feed, "third", false).await?;
    let anew = stand.begin_anew(&[]).await?;
    anew.round().await?;
    anew.expect(&feed, Truth::True, reason::IMPORTED)?;
    ensure!(anew.writes()? > 0, "the password was not given to Superset");
    // One that Superset cannot get is said.
    stand.lock_out(&feed).await?;
    anew.round().await?;
    anew.expect(&feed, Truth::False, reason::CONNECTION_FAILED)?;
    Ok(())
}

#[tokio::test]
async fn a_feed_that_is_to_have_no_dashboards_loses_them_and_one_of_two_goes() -> anyhow::Result<()> {
    let _alone = lock().await;
    let stand = Stand::new(&[]).await?;
    let (stays, goes, off) = (
        stand.feed("stays").await?,
        stand.feed("goes").await?,
        stand.feed("off").await?,
    );
    stand.round().await?;
    stand.delete(&goes);
    stand.disable(&off);
    stand.round().await?;
    for feed in [&goes, &off] {
        ensure!(
            stand.database(feed).await?.is_none(),
            "{feed} has a connection still"
        );
        ensure!(
            stand.dashboard(feed).await.is_err(),
            "{feed} has a dashboard still"
        );
    }
    ensure!(
        stand.dashboard(&stays).await.is_ok(),
        "the other feed's dashboard is gone"
    );
    Ok(())
}

#[tokio::test]
async fn a_feed_that_went_while_superset_was_down_is_found() -> anyhow::Result<()> {
    let _alone = lock().await;
    let stand = Stand::new(&[]).await?;
    let (feed, other) = (stand.feed("went").await?, stand.feed("left").await?);
    stand.round().await?;
    let down = stand.with_superset_at("http://127.0.0.1:1").await?;
    let trouble = down.round().await.unwrap_err().to_string();
    ensure!(trouble.contains("does not answer"), "{trouble}");
    stand.delete(&feed);
    // An operator that knows nothing of it but what Superset says.
    let anew = stand.begin_anew(&[]).await?;
    anew.round().await?;
    ensure!(anew.database(&feed).await?.is_none(), "it was not found");
    ensure!(
        anew.dashboard(&other).await.is_ok(),
        "the other feed's dashboard is gone"
    );
    Ok(())
}

#[tokio::test]
async fn roles_see_their_feeds_and_their_rows_and_analysts_may_query() -> anyhow::Result<()> {
    let _alone = lock().await;
    let stand = Stand::new(&[
        json!({"role": "StockFeed viewer", "feeds": ["*/seen"], "symbols": ["AAPL"]}),
        json!({"role": "StockFeed analyst", "feeds": ["*/seen"], "sqlLab": true}),
    ])
    .await?;
    let (seen, hidden) = (stand.feed("seen").await?, stand.feed("hidden").await?);
    stand.tick(&seen, &["AAPL", "MSFT"]).await?;
    stand.round().await?;
    let (viewer, analyst) = (stand.user("viewer").await?, stand.user("analyst").await?);

    let dashboards = viewer.ids("dashboard/").await?;
    ensure!(
        dashboards.contains(&stand.dashboard(&seen).await?),
        "{dashboards:?}"
    );
    ensure!(
        !dashboards.contains(&stand.dashboard(&hidden).await?),
        "{dashboards:?}"
    );
    let symbols = stand.symbols_seen(&viewer, &seen).await?;
    ensure!(symbols == ["AAPL"], "{symbols:?}");
    let symbols = stand.symbols_seen(&stand.admin, &seen).await?;
    ensure!(symbols == ["AAPL", "MSFT"], "{symbols:?}");

    let (own, others) = (
        stand.database(&seen).await?.unwrap(),
        stand.database(&hidden).await?.unwrap(),
    );
    let select = format!("SELECT symbol FROM {}.stock_data", seen.schema());
    let rows = analyst.query(own, &select).await?;
    ensure!(
        rows["data"].as_array().is_some_and(|rows| rows.len() == 2),
        "{rows}"
    );
    let insert = format!("DELETE FROM {}.stock_data", seen.schema());
    for (user, database, sql) in [
        (&analyst, own, insert),
        (&analyst, others, select.clone()),
        (&viewer, own, select),
    ] {
        let answer = user.query(database, &sql).await;
        ensure!(answer.is_err(), "{} may {sql}: {answer:?}", user.name);
    }
    Ok(())
}

#[tokio::test]
async fn who_sees_what_is_put_back_when_somebody_changed_it() -> anyhow::Result<()> {
    let _alone = lock().await;
    let stand = Stand::new(&[
        json!({"role": "StockFeed viewer", "feeds": ["*/*"], "symbols": ["AAPL"]}),
        json!({"role": "StockFeed analyst", "feeds": ["*/*"], "sqlLab": true}),
    ])
    .await?;
    let feed = stand.feed("tech").await?;
    stand.tick(&feed, &["AAPL", "MSFT"]).await?;
    stand.round().await?;
    ensure!(
        stand.heals("DashboardAccess")? == 0,
        "the first round heals nothing"
    );

    let admin = &stand.admin;
    let dashboard = stand.dashboard(&feed).await?;
    admin
        .put(&format!("dashboard/{dashboard}"), &json!({"roles": []}))
        .await?;
    let rules = admin.list("rowlevelsecurity/", "(page_size:100)").await?;
    let rule = rules
        .iter()
        .find(|rule| rule["name"] == "StockFeed: StockFeed viewer")
        .context("no rule")?;
    admin
        .put(
            &format!("rowlevelsecurity/{}", rule["id"]),
            &json!({"clause": "1 = 1"}),
        )
        .await?;
    let roles = admin.list("security/roles/", "(page_size:100)").await?;
    let analyst = roles.iter().find(|role| role["name"] == "StockFeed analyst");
    let path = format!("security/roles/{}/permissions", analyst.context("no role")?["id"]);
    let permissions = admin.get(&format!("{path}/")).await?;
    let others: Vec<_> = permissions["result"]
        .as_array()
        .context("no permissions")?
        .iter()
        .filter(|permission| permission["permission_name"] != "database_access")
        .map(|permission| permission["id"].clone())
        .collect();
    admin
        .post(&path, &json!({"permission_view_menu_ids": others}))
        .await?;

    stand.round().await?;
    let (viewer, analyst) = (stand.user("viewer").await?, stand.user("analyst").await?);
    let shown = viewer.ids("dashboard/").await?;
    ensure!(shown.contains(&dashboard), "{shown:?}");
    let symbols = stand.symbols_seen(&viewer, &feed).await?;
    ensure!(symbols == ["AAPL"], "{symbols:?}");
    let database = stand.database(&feed).await?.context("no connection")?;
    let sql = format!("SELECT symbol FROM {}.stock_data", feed.schema());
    let rows = analyst.query(database, &sql).await?;
    ensure!(
        rows["data"].as_array().is_some_and(|rows| rows.len() == 2),
        "{rows}"
    );
    // One for the dashboard, with an Event of its feed, and one for rows and connections.
    ensure!(
        stand.heals("DashboardAccess")? == 2,
        "{}",
        stand.heals("DashboardAccess")?
    );
    let notes: Vec<_> = stand
        .events()
        .into_iter()
        .map(|event| event["note"].clone())
        .collect();
    ensure!(notes == ["the dashboard was shown to other roles"], "{notes:?}");

    let writes = stand.writes()?;
    stand.round().await?;
    ensure!(stand.writes()? == writes, "a round wrote something again");
    Ok(())
}

#[tokio::test]
async fn superset_in_trouble_is_said_and_comes_right_by_itself() -> anyhow::Result<()> {
    let _alone = lock().await;
    let stand = Stand::new(&[]).await?;
    let feed = stand.feed("patient").await?;
    for (answer, expected) in [
        (
            broken_server("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n").await?,
            reason::SUPERSET_UNREACHABLE,
        ),
        (
            broken_server("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>")
                .await?,
            reason::SUPERSET_UNREACHABLE,
        ),
        (
            broken_server("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}").await?,
            reason::AUTHENTICATION_FAILED,
        ),
    ] {
        let broken = stand.with_superset_at(&answer).await?;
        broken.run_for(Duration::from_millis(600)).await;
        broken.expect(&feed, Truth::False, expected)?;
    }
    stand.round().await?;
    stand.expect(&feed, Truth::True, reason::IMPORTED)?;
    Ok(())
}
