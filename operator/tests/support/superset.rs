//! Feeds with dashboards in a real Superset: the operator's side of them.

#![allow(
    dead_code,
    reason = "every test binary compiles this, and none uses all of it"
)]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use axum::http::Request;
use contract::names::FeedName;
use kube::{
    Client,
    client::Body,
    core::DeserializeGuard,
    runtime::{reflector::store::Writer, watcher::Event},
};
use operator::{
    api::{DriftPolicy, StockFeed},
    backoff::Backoff,
    broker::Brokers,
    children::Children,
    connection::DatabaseConnection,
    context::{Context, Defaults, Images, Memory},
    dashboards::{
        Dashboards, Wanted,
        access::Access,
        options::Superset,
        round::{Round, Trouble},
        run,
    },
    database::{self, DatabasePlan, Databases},
    drain::Drains,
    events::Events,
    flow::Flows,
    http_client,
    leader::Leadership,
    metrics::Metrics,
    readiness::Readiness,
    release::evidence::Releases,
    scaling::Scalings,
    scope::Scope,
    secrets::Secrets,
    status::Truth,
    turns::Turns,
};
use serde_json::{Value, json};
use test_servers::TestSuperset;
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use crate::{
    bench::{Bench, READER, WRITER},
    user::User,
    world::{Feed, NAMESPACE_OF_OPERATOR, World, object},
};

/// One at a time: rules of rows and the dashboard of all feeds are there once in a Superset.
pub async fn lock() -> tokio::sync::MutexGuard<'static, ()> {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    // Another test may have installed it.
    drop(rustls::crypto::ring::default_provider().install_default());
    ALONE.lock().await
}

/// An operator, as far as it has to do with Superset.
pub struct Stand {
    world: Arc<World>,
    ctx: Arc<Context>,
    writer: Mutex<Writer<DeserializeGuard<StockFeed>>>,
    round: tokio::sync::Mutex<Round>,
    pub admin: User,
    url: String,
    access: Vec<Access>,
    /// Whether feeds lie in the installation's database.
    default_database: bool,
}

impl Stand {
    pub async fn new(access: &[Value]) -> Result<Self> {
        let superset = TestSuperset::ready().await?;
        let bench = Bench::new().await?;
        let namespace = format!("n{}", bench.feed.name());
        let world = World {
            superset,
            bench,
            namespace,
            feeds: Mutex::default(),
            events: Mutex::default(),
        };
        let url = world.superset.url.clone();
        Self::of(Arc::new(world), &url, read_access(access)?, false).await
    }

    async fn of(world: Arc<World>, url: &str, access: Vec<Access>, default_database: bool) -> Result<Self> {
        let admin = User::log_in(&world.superset, "admin").await?;
        let settings = Superset {
            url: url.parse()?,
            secret: format!("{NAMESPACE_OF_OPERATOR}/superset").parse()?,
            access: access.clone(),
            // Everything is compared in each round.
            check_period: Duration::ZERO,
            database_secret: None,
        };
        let ctx = Arc::new(context(&world, settings, default_database)?);
        let (_, mut writer) = ctx.children.feeds.join();
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        let scope = scope(&world);
        let stand = Self {
            round: Round::new(Arc::clone(&ctx), scope, CancellationToken::new()).into(),
            world,
            ctx,
            writer: writer.into(),
            admin,
            url: url.to_owned(),
            access,
            default_database,
        };
        let feeds = stand.feeds().clone();
        for name in feeds.keys() {
            stand.apply(&FeedName::new(&stand.world.namespace, name)?);
        }
        Ok(stand)
    }

    /// Another operator, which knows what the feeds' statuses say.
    pub async fn begin_anew(&self, access: &[Value]) -> Result<Self> {
        self.keep_statuses();
        let access = match access {
            [] => self.access.clone(),
            access => read_access(access)?,
        };
        Self::of(Arc::clone(&self.world), &self.url, access, self.default_database).await
    }

    /// Another operator, which is told that Superset is somewhere else.
    pub async fn with_superset_at(&self, url: &str) -> Result<Self> {
        Self::of(
            Arc::clone(&self.world),
            url,
            self.access.clone(),
            self.default_database,
        )
        .await
    }

    /// With feeds that lie in the installation's database.
    pub async fn with_default_database(self) -> Result<Self> {
        Self::of(self.world, &self.url, self.access, true).await
    }

    pub fn dashboards(&self) -> &Dashboards {
        self.ctx.dashboards.as_ref().unwrap()
    }

    fn feeds(&self) -> MutexGuard<'_, BTreeMap<String, Feed>> {
        self.world.feeds.lock().unwrap()
    }

    /// A feed with its schema.
    pub async fn feed(&self, name: &str) -> Result<FeedName> {
        let feed = FeedName::new(&self.world.namespace, name)?;
        let admin = DatabaseConnection::read("s/database", &self.world.bench.secret)?;
        let plan = DatabasePlan {
            admin: admin.clone(),
            feed: feed.clone(),
            writer_password: WRITER.into(),
            reader_password: READER.into(),
            retention: None,
        };
        let outcome = database::reconcile(&self.ctx.databases, Ok(plan), false).await;
        ensure!(outcome.verdict.is_true(), "{:?}", outcome.verdict);
        let wanted = Wanted {
            feed: superset::Feed {
                namespace: feed.namespace().to_owned(),
                name: name.to_owned(),
                schema: feed.schema(),
                calls_per_day: Some(250),
                connection: superset::Connection {
                    host: admin.host,
                    port: admin.port,
                    database: admin.dbname,
                    user: feed.reader_role(),
                    ssl_mode: None,
                    certificate_authority: None,
                },
            },
            password: READER.into(),
            made: jiff::Timestamp::UNIX_EPOCH,
            policy: DriftPolicy::Heal,
            in_default_database: self.default_database,
        };
        let entry = Feed {
            wanted,
            revision: None,
            enabled: true,
            deleted: false,
        };
        self.feeds().insert(name.to_owned(), entry);
        self.apply(&feed);
        Ok(feed)
    }

    /// As the feed's reconciliation does.
    fn apply(&self, feed: &FeedName) {
        let Some(entry) = self.feeds().get(feed.name()).cloned() else {
            return;
        };
        let event = match entry.deleted {
            true => Event::Delete(object(feed, &entry)),
            false => Event::Apply(object(feed, &entry)),
        };
        self.writer.lock().unwrap().apply_watcher_event(&event);
        match entry.deleted || !entry.enabled {
            true => self.dashboards().forget(feed),
            false => self.dashboards().request(feed, entry.wanted, entry.revision),
        }
    }

    fn change(&self, feed: &FeedName, change: impl FnOnce(&mut Feed)) {
        change(self.feeds().get_mut(feed.name()).unwrap());
        self.apply(feed);
    }

    pub fn policy(&self, feed: &FeedName, policy: DriftPolicy) {
        self.change(feed, |feed| feed.wanted.policy = policy);
    }

    pub fn delete(&self, feed: &FeedName) {
        self.change(feed, |feed| feed.deleted = true);
    }

    pub fn disable(&self, feed: &FeedName) {
        self.change(feed, |feed| feed.enabled = false);
    }

    fn keep_statuses(&self) {
        for (name, entry) in self.feeds().iter_mut() {
            let feed = FeedName::new(&self.world.namespace, name).unwrap();
            let said = self.dashboards().said(&feed);
            entry.revision = said.and_then(|said| Some(said.status?.revision));
        }
    }

    /// Another password for the reader, of which the feed's Secret says when it was made, or does not.
    pub async fn rotate(&self, feed: &FeedName, password: &str, is_said: bool) -> Result<()> {
        let statement = format!("ALTER ROLE {} PASSWORD '{password}'", feed.reader_role());
        self.world.bench.execute(statement).await?;
        let change = |feed: &mut Feed| {
            feed.wanted.password = password.into();
            if is_said {
                feed.wanted.made = jiff::Timestamp::from_second(1).unwrap();
            }
        };
        match is_said {
            true => self.change(feed, change),
            // While no operator runs.
            false => change(self.feeds().get_mut(feed.name()).unwrap()),
        }
        Ok(())
    }

    /// Gives the reader a password that nobody knows.
    pub async fn lock_out(&self, feed: &FeedName) -> Result<()> {
        let statement = format!("ALTER ROLE {} PASSWORD 'nobody-knows-it'", feed.reader_role());
        self.world.bench.execute(statement).await
    }

    pub async fn tick(&self, feed: &FeedName, symbols: &[&str]) -> Result<()> {
        for symbol in symbols {
            let statement = format!(
                "INSERT INTO {}.stock_data (symbol, price, \"timestamp\") VALUES ('{symbol}', 1, now())",
                feed.schema()
            );
            self.world.bench.execute(statement).await?;
        }
        Ok(())
    }

    /// As the loop does: again at once while there is more to do.
    pub async fn round(&self) -> Result<(), Trouble> {
        let mut round = self.round.lock().await;
        while round.go(self.dashboards()).await? {}
        Ok(())
    }

    /// The loop itself.
    pub async fn run_for(&self, time: Duration) {
        let token = CancellationToken::new();
        let scope = scope(&self.world);
        let running = run::run(&self.ctx, &scope, &token);
        let stop = async {
            tokio::time::sleep(time).await;
            token.cancel();
        };
        tokio::join!(running, stop);
    }

    pub fn expect(&self, feed: &FeedName, truth: Truth, reason: &str) -> Result<()> {
        let said = self.dashboards().said(feed).context("nothing was said")?;
        let verdict = &said.verdict;
        ensure!(verdict.truth == truth && verdict.reason == reason, "{verdict:?}");
        Ok(())
    }

    /// How many requests to Superset of this operator changed something, or tried to.
    pub fn writes(&self) -> Result<u64> {
        let text = self.ctx.metrics.render()?;
        let lines = text
            .lines()
            .filter(|line| line.contains(r#"server="Superset",access="Write""#));
        Ok(lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum())
    }

    /// How often something of that kind was healed.
    pub fn heals(&self, kind: &str) -> Result<u64> {
        let text = self.ctx.metrics.render()?;
        let label = format!("heals_total{{kind=\"{kind}\"}}");
        let line = text.lines().find(|line| line.contains(&label));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        Ok(value.unwrap_or_default())
    }

    pub fn events(&self) -> Vec<Value> {
        self.world.events.lock().unwrap().clone()
    }

    pub async fn database(&self, feed: &FeedName) -> Result<Option<i64>> {
        let name = format!("{}/{}", feed.namespace(), feed.name());
        let query = format!("(filters:!((col:database_name,opr:eq,value:'{name}')))");
        let found = self.admin.list("database/", &query).await?;
        Ok(found.first().and_then(|database| database["id"].as_i64()))
    }

    async fn datasets(&self, feed: &FeedName) -> Result<Vec<Value>> {
        let Some(database) = self.database(feed).await? else {
            return Ok(Vec::new());
        };
        let query = format!("(filters:!((col:database,opr:rel_o_m,value:{database})),page_size:100)");
        self.admin.list("dataset/", &query).await
    }

    /// One of the feed's datasets.
    pub async fn dataset(&self, feed: &FeedName) -> Result<i64> {
        let datasets = self.datasets(feed).await?;
        datasets[0]["id"].as_i64().context("no number")
    }

    pub async fn charts(&self, feed: &FeedName) -> Result<Vec<Value>> {
        let datasets = self.datasets(feed).await?;
        self.charts_on(&datasets).await
    }

    pub async fn overview_charts(&self) -> Result<Vec<Value>> {
        let query = format!(
            "(filters:!((col:database_name,opr:eq,value:'{}')))",
            superset::OVERVIEW_DATABASE
        );
        let found = self.admin.list("database/", &query).await?;
        let Some(database) = found.first().and_then(|database| database["id"].as_i64()) else {
            return Ok(Vec::new());
        };
        let query = format!("(filters:!((col:database,opr:rel_o_m,value:{database})),page_size:100)");
        let datasets = self.admin.list("dataset/", &query).await?;
        self.charts_on(&datasets).await
    }

    async fn charts_on(&self, datasets: &[Value]) -> Result<Vec<Value>> {
        if datasets.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = datasets.iter().map(|dataset| dataset["id"].to_string()).collect();
        let query = format!(
            "(filters:!((col:datasource_id,opr:in,value:!({}))),page_size:100,order_column:slice_name)",
            ids.join(",")
        );
        self.admin.list("chart/", &query).await
    }

    pub async fn dashboard(&self, feed: &FeedName) -> Result<i64> {
        let path = format!("dashboard/{}", superset::slug(feed.namespace(), feed.name()));
        let found = self.admin.get(&path).await?;
        found["result"]["id"].as_i64().context("no number")
    }

    /// As a loss of Superset's own database would do.
    pub async fn remove_everything(&self, feed: &FeedName) -> Result<()> {
        let dashboard = self.dashboard(feed).await?;
        self.admin.delete(&format!("dashboard/{dashboard}")).await?;
        for chart in self.charts(feed).await? {
            self.admin.delete(&format!("chart/{}", chart["id"])).await?;
        }
        for dataset in self.datasets(feed).await? {
            self.admin.delete(&format!("dataset/{}", dataset["id"])).await?;
        }
        let database = self.database(feed).await?.context("no connection")?;
        self.admin.delete(&format!("database/{database}")).await?;
        Ok(())
    }

    pub async fn remove_rules(&self) -> Result<()> {
        for rule in self.admin.list("rowlevelsecurity/", "(page_size:100)").await? {
            self.admin
                .delete(&format!("rowlevelsecurity/{}", rule["id"]))
                .await?;
        }
        Ok(())
    }

    pub async fn user(&self, name: &'static str) -> Result<User> {
        User::log_in(&self.world.superset, name).await
    }

    /// The symbols that a user sees in a chart of the feed's dashboard.
    pub async fn symbols_seen(&self, user: &User, feed: &FeedName) -> Result<Vec<String>> {
        let datasets = self.datasets(feed).await?;
        let delays = datasets
            .iter()
            .find(|dataset| dataset["table_name"] == "tick_delays");
        let dataset = delays.context("no dataset of ticks")?;
        let chart = self.charts_on(std::slice::from_ref(dataset)).await?.remove(0);
        let body = json!({
            "datasource": {"id": dataset["id"], "type": "table"},
            "queries": [{"columns": ["symbol"], "metrics": [], "orderby": [["symbol", true]], "row_limit": 100}],
            "result_format": "json", "result_type": "full",
            "form_data": {"slice_id": chart["id"], "dashboardId": self.dashboard(feed).await?, "viz_type": chart["viz_type"]},
            "force": true,
        });
        let answer = user.post("chart/data", &body).await?;
        let rows = answer["result"][0]["data"].as_array().context("no rows")?;
        Ok(rows
            .iter()
            .filter_map(|row| row["symbol"].as_str().map(str::to_owned))
            .collect())
    }
}

fn read_access(access: &[Value]) -> Result<Vec<Access>> {
    Ok(operator::dashboards::access::parse(
        &Value::from(access).to_string(),
    )?)
}

fn scope(world: &World) -> Scope {
    Scope {
        namespaces: vec![world.namespace.clone()],
        selector: None,
        concurrency: 1,
    }
}

fn context(world: &Arc<World>, settings: Superset, default_database: bool) -> Result<Context> {
    let answering = Arc::clone(world);
    let client = Client::new(
        service_fn(move |request: Request<Body>| {
            let world = Arc::clone(&answering);
            async move { Ok::<_, std::convert::Infallible>(world.answer(request).await) }
        }),
        "default",
    );
    let metrics = Metrics::new();
    let requests = metrics.requests.clone();
    let http = http_client::build(None, Duration::from_secs(5))?;
    Ok(Context {
        events: Events::new(client.clone()),
        children: Children::default(),
        secrets: Secrets::new(client.clone()),
        brokers: Brokers::new(http.clone(), requests.clone()),
        databases: Databases::new(requests),
        http,
        client,
        leadership: Leadership::alone(),
        defaults: Defaults {
            images: Images {
                producer: String::new(),
                processor: String::new(),
                pull_policy: String::new(),
            },
            broker_secret: None,
            database_secret: default_database
                .then(|| format!("{NAMESPACE_OF_OPERATOR}/database").parse())
                .transpose()?,
            orphan_after: Duration::ZERO,
            rotate_after: None,
            rollout_deadline: Duration::ZERO,
            otlp_endpoint: None,
            isolation: None,
        },
        metrics,
        backoff: Backoff::new(Duration::from_secs(60)),
        turns: Turns::new(1),
        readiness: Readiness::default(),
        memory: Memory::default(),
        drains: Drains::default(),
        scalings: Scalings::default(),
        flows: Flows::default(),
        releases: Releases::default(),
        dashboards: Some(Dashboards::new(settings)),
    })
}
