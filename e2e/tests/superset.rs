//! Superset of the chart: every feed has a dashboard that shows what its tables hold, to those who may see it; it is kept, and goes with
//! the feed.

use std::{collections::BTreeMap, ffi::OsStr, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    RELEASE, SYSTEM, browser,
    cluster::{Cluster, value},
    database::{self, Session, count},
    feed::Feed,
    live::{self, notes},
    namespace::run_in,
    say,
    superset::Superset,
    wait,
    workload::{await_available, running_pod, system_selector},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

const SYMBOLS: usize = 20;
const READY: Duration = Duration::from_secs(150);
/// The operator looks at Superset each few seconds, and an import takes some on a busy machine.
const SHOWN: Duration = Duration::from_secs(180);
/// A comparison comes each `superset.checkPeriod`.
const HEALED: Duration = Duration::from_secs(180);
/// Superset notices that its metadata is gone, starts anew and fills its database; the operator imports.
const BACK: Duration = Duration::from_secs(480);
/// A role of values-local.yaml that sees feeds of such names only.
const ROLE: &str = "StockFeed public";
const SEEN: &str = "public-prices";
const UNSEEN: &str = "own-prices";
const VIEWER: (&str, &str) = ("e2e-viewer", "viewer's password for this test");

#[tokio::test]
async fn every_feed_has_a_dashboard_that_is_true_kept_and_shown_to_whom_it_may_be() -> Result<()> {
    run_in("e2e-superset", async |cluster, namespace| {
        live::put_key(cluster, namespace).await?;
        let seen = make(cluster, namespace, SEEN).await?;
        let unseen = make(cluster, namespace, UNSEEN).await?;
        for feed in [&seen, &unseen] {
            feed.await_ready(READY).await?;
            let shown = feed.await_condition("DashboardsReady", "True", SHOWN).await?;
            say(format!("{}: {}: {}", feed.name, shown.reason, shown.message));
        }
        let mut reader = database::reader(cluster, &seen.name).await?;
        live::await_more_ticks(&mut reader, &seen, SYMBOLS).await?;
        // Numbers that go on changing could not be compared.
        for feed in [&seen, &unseen] {
            let mut spec = live::spec(SYMBOLS);
            spec["suspend"] = json!(true);
            feed.apply(&spec).await?;
            feed.await_condition("Suspended", "True", READY).await?;
        }
        let admin = Superset::admin(cluster).await?;
        charts_are_the_tables(&admin, &seen, &mut reader).await?;
        let texts = cluster.secret(SYSTEM, &format!("{RELEASE}-superset")).await?;
        let password = value(&texts, "adminPassword")?;
        let all = [slug(&seen), slug(&unseen), "stockfeed-overview".to_owned()];
        run_browser(
            &admin.url(),
            value(&texts, "adminUsername")?,
            password,
            &all.join(","),
        )
        .await?;
        a_viewer_sees_what_the_role_may_see(cluster, &admin, &seen, &unseen).await?;

        changes_are_healed_or_reported(cluster, &admin, &seen).await?;

        seen.delete().await?;
        seen.await_gone(READY).await?;
        await_dashboard(&admin, &seen, false, HEALED).await?;
        ensure!(
            admin.dashboard(&slug(&unseen)).await?.is_some(),
            "the other feed's is gone as well"
        );

        a_restart_and_a_lost_database_change_nothing(cluster, &unseen).await
    })
    .await
}

async fn make(cluster: &Cluster, namespace: &str, name: &str) -> Result<Feed> {
    let feed = Feed::new(cluster, namespace, name)?;
    feed.apply(&live::spec(SYMBOLS)).await?;
    Ok(feed)
}

fn slug(feed: &Feed) -> String {
    superset::slug(feed.name.namespace(), feed.name.name())
}

async fn await_dashboard(user: &Superset, feed: &Feed, there: bool, within: Duration) -> Result<()> {
    let what = if there { "is there" } else { "is gone" };
    wait::until(
        &format!("the dashboard of {} {what}", feed.name),
        within,
        async || {
            let found = user.dashboard(&slug(feed)).await?.is_some();
            ensure!(
                found == there,
                "it is {}",
                if found { "there" } else { "not there" }
            );
            Ok(())
        },
    )
    .await
}

/// Every chart answers, and what can be said in one number or one row a symbol is what the tables say.
async fn charts_are_the_tables(admin: &Superset, feed: &Feed, reader: &mut Session) -> Result<()> {
    let charts = admin.charts(&slug(feed)).await?;
    ensure!(charts.len() > 15, "{} charts", charts.len());
    let mut answers = BTreeMap::new();
    for (id, name) in charts {
        let rows = admin.rows(id).await.with_context(|| format!("chart {name}"))?;
        ensure!(!rows.is_empty(), "chart {name} has no rows");
        answers.insert(name, rows);
    }
    let sizes: Vec<_> = answers
        .iter()
        .map(|(name, rows)| format!("{name} {}", rows.len()))
        .collect();
    say(format!("rows of charts: {}", sizes.join(", ")));

    let ticks = number(&answers, "Ticks")?;
    let stored = count(reader, &feed.name, "stock_data").await?;
    let late: i64 = count(reader, &feed.name, "late_ticks").await?;
    ensure!(late == 0, "{late} ticks were late");
    ensure!(ticks == stored, "chart Ticks says {ticks}, {stored} are stored");
    let query = format!(
        "SELECT DISTINCT ON (symbol) symbol, price::float8 FROM {}.stock_data ORDER BY symbol, \"timestamp\" DESC, id DESC",
        feed.name.schema()
    );
    let stored: BTreeMap<String, f64> = sqlx::query_as(AssertSqlSafe(query))
        .fetch_all(&mut **reader)
        .await?
        .into_iter()
        .collect();
    let quotes = answers.get("Quotes").context("no chart Quotes")?;
    let shown: BTreeMap<String, f64> = quotes
        .iter()
        .map(|row| {
            let symbol = row["symbol"].as_str().context("a quote without a symbol")?;
            let price = row["last_price"].as_f64().context("a quote without a price")?;
            Ok((symbol.to_owned(), price))
        })
        .collect::<Result<_>>()?;
    ensure!(
        shown == stored,
        "Quotes shows {shown:?}, the table has {stored:?}"
    );
    say(format!(
        "{ticks} ticks and {} quotes are those of the tables",
        shown.len()
    ));
    Ok(())
}

/// The one number of a chart.
fn number(answers: &BTreeMap<String, Vec<Value>>, name: &str) -> Result<i64> {
    let rows = answers
        .get(name)
        .with_context(|| format!("there is no chart {name}"))?;
    let row = rows.first().and_then(Value::as_object).context("no row")?;
    let number = row.values().find_map(Value::as_f64).context("no number")?;
    #[expect(clippy::cast_possible_truncation, reason = "a count")]
    Ok(number as i64)
}

/// Who has the role sees the dashboard that the role may see, and can do nothing else.
async fn a_viewer_sees_what_the_role_may_see(
    cluster: &Cluster,
    admin: &Superset,
    seen: &Feed,
    unseen: &Feed,
) -> Result<()> {
    let (username, password) = VIEWER;
    let roles = admin.get("security/roles/?q=(page_size:100)").await?;
    let role = roles["result"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|role| role["name"] == ROLE)
        .and_then(|role| role["id"].as_i64())
        .with_context(|| format!("there is no role {ROLE}"))?;
    remove_viewer(admin).await?;
    let user = json!({
        "active": true, "username": username, "first_name": "End", "last_name": "To-end",
        "email": "e2e@example.invalid", "password": password, "roles": [role],
    });
    let (status, answer) = admin.ask(Method::POST, "security/users/", Some(&user)).await?;
    ensure!(status.is_success(), "the user is not made: {status}: {answer}");
    let outcome = look_as_viewer(cluster, admin, seen, unseen).await;
    remove_viewer(admin).await?;
    outcome
}

async fn look_as_viewer(cluster: &Cluster, admin: &Superset, seen: &Feed, unseen: &Feed) -> Result<()> {
    let viewer = Superset::login(cluster, VIEWER.0, VIEWER.1).await?;
    ensure!(
        viewer.dashboard(&slug(seen)).await?.is_some(),
        "the viewer does not see {}",
        seen.name
    );
    ensure!(
        viewer.dashboard(&slug(unseen)).await?.is_none(),
        "the viewer sees {}",
        unseen.name
    );
    let listed = viewer.get("dashboard/?q=(page_size:100)").await?;
    ensure!(
        listed["count"] == 1,
        "the viewer sees {} dashboards",
        listed["count"]
    );
    let (chart, _) = admin
        .charts(&slug(seen))
        .await?
        .into_iter()
        .next()
        .context("no charts")?;
    let number = admin.dashboard(&slug(seen)).await?.context("no dashboard")?["id"].clone();
    let query = json!({"database_id": 1, "sql": "SELECT 1", "runAsync": false});
    let refused = [
        (Method::POST, "sqllab/execute/".to_owned(), Some(query)),
        (
            Method::PUT,
            format!("dashboard/{number}"),
            Some(json!({"dashboard_title": "mine"})),
        ),
        (
            Method::PUT,
            format!("chart/{chart}"),
            Some(json!({"slice_name": "mine"})),
        ),
        (Method::DELETE, format!("chart/{chart}"), None),
        (Method::GET, "database/".to_owned(), None),
        (Method::GET, "security/users/".to_owned(), None),
    ];
    for (method, path, body) in refused {
        let (status, answer) = viewer.ask(method.clone(), &path, body.as_ref()).await?;
        ensure!(
            matches!(status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND),
            "{method} {path} of a viewer: {status}: {answer}"
        );
    }
    say("the viewer sees one dashboard of two, and may not query, change or list");
    run_browser(&viewer.url(), VIEWER.0, VIEWER.1, &slug(seen)).await
}

async fn remove_viewer(admin: &Superset) -> Result<()> {
    let users = admin.get("security/users/?q=(page_size:100)").await?;
    for user in users["result"].as_array().into_iter().flatten() {
        if user["username"] == VIEWER.0 {
            let path = format!("security/users/{}", user["id"]);
            admin.ask(Method::DELETE, &path, None).await?;
        }
    }
    Ok(())
}

/// A chart that somebody changed is put back, or, where the feed says so, left and told of.
async fn changes_are_healed_or_reported(cluster: &Cluster, admin: &Superset, feed: &Feed) -> Result<()> {
    let (id, name) = admin
        .charts(&slug(feed))
        .await?
        .into_iter()
        .next()
        .context("no charts")?;
    let path = format!("chart/{id}");
    let change = json!({"slice_name": "changed by hand"});
    let title = async || -> Result<String> {
        let chart = admin.get(&path).await?;
        Ok(chart["result"]["slice_name"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    };
    ensure!(
        admin.put(&path, &change).await?.is_success(),
        "the chart cannot be changed"
    );
    wait::until("the chart is put back", HEALED, async || {
        let title = title().await?;
        ensure!(title == name, "it is called {title}");
        Ok(())
    })
    .await?;
    wait::until("an Event tells of it", READY, async || {
        let told = notes(cluster, feed, "DashboardsHealed").await?;
        ensure!(!told.is_empty(), "there is none");
        say(format!("healed: {told:?}"));
        Ok(())
    })
    .await?;

    let mut spec = live::spec(SYMBOLS);
    spec["suspend"] = json!(true);
    spec["dashboards"] = json!({"driftPolicy": "Report"});
    feed.apply(&spec).await?;
    feed.await_condition("DashboardsReady", "True", HEALED).await?;
    ensure!(
        admin.put(&path, &change).await?.is_success(),
        "the chart cannot be changed"
    );
    let told = feed.await_condition("DashboardsReady", "False", HEALED).await?;
    ensure!(
        told.reason == "Drifted" && told.message.contains(&name),
        "{}: {}",
        told.reason,
        told.message
    );
    say(format!("reported: {}", told.message));
    ensure!(
        title().await? == "changed by hand",
        "it was put back all the same"
    );
    feed.await_ready(READY).await
}

/// The pod may go, and even all that Superset knows: dashboards come back by themselves, and the feed notices nothing.
async fn a_restart_and_a_lost_database_change_nothing(cluster: &Cluster, feed: &Feed) -> Result<()> {
    let pods = cluster.api::<Pod>(SYSTEM);
    let selector = system_selector("superset");
    let before = running_pod(&pods, &selector).await?;
    pods.delete(&before.name_any(), &DeleteParams::default()).await?;
    wait::until("another pod runs", BACK, async || {
        let list = pods.list(&ListParams::default().labels(&selector)).await?;
        ensure!(
            list.items.iter().all(|pod| pod.name_any() != before.name_any()),
            "it is still there"
        );
        Ok(())
    })
    .await?;
    let deployment = format!("{RELEASE}-superset");
    await_available(cluster, SYSTEM, &deployment, BACK).await?;
    let admin = Superset::admin(cluster).await?;
    let first = admin
        .dashboard(&slug(feed))
        .await?
        .context("the dashboard is gone after a restart")?;

    let mut superuser = database::admin(cluster).await?;
    sqlx::raw_sql("DROP DATABASE superset WITH (FORCE)")
        .execute(&mut *superuser)
        .await?;
    say("Superset's database is dropped");
    let again = wait::until("the dashboard is there again", BACK, async || {
        let admin = Superset::admin(cluster).await?;
        let found = admin.dashboard(&slug(feed)).await?.context("it is not there")?;
        Ok(found)
    })
    .await?;
    ensure!(again["uuid"] == first["uuid"], "it has another UUID: {again}");
    feed.await_condition("DashboardsReady", "True", HEALED).await?;
    let admin = Superset::admin(cluster).await?;
    let (ticks, _) = admin
        .charts(&slug(feed))
        .await?
        .into_iter()
        .find(|(_, name)| name == "Ticks")
        .context("there is no chart Ticks")?;
    let rows = admin.rows(ticks).await?;
    ensure!(!rows.is_empty(), "its charts do not answer");
    feed.await_ready(READY).await
}

/// Opens dashboards in a browser, tab by tab, and keeps pictures.
async fn run_browser(url: &str, username: &str, password: &str, dashboards: &str) -> Result<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../superset/tests/browser.mjs");
    let artefacts = browser::artefacts("superset")?;
    let variables = [
        ("SUPERSET_URL", OsStr::new(url)),
        ("SUPERSET_USERNAME", username.as_ref()),
        ("SUPERSET_PASSWORD", password.as_ref()),
        ("SUPERSET_DASHBOARDS", dashboards.as_ref()),
        ("SUPERSET_ARTEFACTS", artefacts.as_ref()),
    ];
    browser::run(Path::new(script), &variables).await?;
    say(format!(
        "dashboards {dashboards} are drawn for {username}; pictures are in {}",
        artefacts.display()
    ));
    Ok(())
}
