//! One round with Superset.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use contract::names::FeedName;
use schema::installation::OVERVIEW_ROLE;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use snafu::{ResultExt, Snafu};
use superset::Connection;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Dashboards,
    client::{self, Account, Client},
    inventory::Inventory,
    look::{Done, Memory, Seen, Why, look},
    rights,
    subject::{Subject, Target, owner},
};
use crate::{
    api::status::reason,
    connection::{DatabaseConnection, Problem},
    context::Context,
    database::installation,
    dereference::{self, SecretName, hex},
    metrics::Heal,
    scope::Scope,
    status::{Verdict, chain},
};

mod sweep;
mod tell;

/// The most imports in a round: those that are done are told, and shown to whom they concern, before the next come.
const IMPORTS: usize = 20;
/// How long a round goes on with comparing,
const COMPARING: Duration = Duration::from_secs(5);
/// unless it has compared fewer than so many.
const COMPARED: usize = 10;

/// What is remembered between rounds.
pub struct Round {
    ctx: Arc<Context>,
    scope: Scope,
    token: CancellationToken,
    client: Option<(Account, Client)>,
    subjects: BTreeMap<Subject, (Target, Memory)>,
    /// Whose connections are: by UUID and name.
    owners: BTreeMap<(String, String), Option<FeedName>>,
    /// When it was last said who sees what.
    rights: Option<Instant>,
    /// Where a person's own charts were in the way of a removal, and when.
    kept: BTreeMap<String, Instant>,
    /// When the role of the overview was last looked at, and for whom.
    overview: Option<(Instant, Vec<String>)>,
}

/// Why a round could not be ended. It concerns all feeds.
#[derive(Debug, Snafu)]
pub enum Trouble {
    /// The account's Secret could not be read.
    #[snafu(display("failed to read the Secret with the operator's account in Superset"))]
    ReadSecret {
        /// Why.
        #[snafu(source(from(kube::Error, Box::new)))]
        source: Box<kube::Error>,
    },
    /// The account's Secret is not as it should be.
    #[snafu(display("{source}"))]
    Account {
        /// Why.
        source: Problem,
    },
    /// Superset cannot be used.
    #[snafu(display("{source}"))]
    Superset {
        /// Why.
        source: client::Error,
    },
}

impl Trouble {
    /// What is to be said of all feeds.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Account { source } => Verdict::of_problem(source),
            Self::ReadSecret { .. } => Verdict::no(reason::FAILED, chain(self)),
            Self::Superset { source } => Verdict::no(source.reason(), chain(source)),
        }
    }
}

impl Round {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(ctx: Arc<Context>, scope: Scope, token: CancellationToken) -> Self {
        Self {
            ctx,
            scope,
            token,
            client: None,
            subjects: BTreeMap::new(),
            owners: BTreeMap::new(),
            rights: None,
            kept: BTreeMap::new(),
            overview: None,
        }
    }

    /// Goes once round. Returns whether there is more to do at once.
    ///
    /// # Errors
    /// When Superset cannot be used.
    pub async fn go(&mut self, dashboards: &Dashboards) -> Result<bool, Trouble> {
        self.own_database(dashboards).await;
        let account = self.account(dashboards).await?;
        let client = match self.client.take() {
            Some((held, client)) if held == account => client,
            _ => Client::new(
                &dashboards.settings.url,
                account.clone(),
                self.ctx.metrics.requests.clone(),
                client::TIMEOUT,
            )
            .context(SupersetSnafu)?,
        };
        let gone = self.go_with(dashboards, &client, &account).await;
        self.client = Some((account, client));
        gone.context(SupersetSnafu)
    }

    async fn go_with(
        &mut self,
        dashboards: &Dashboards,
        client: &Client,
        account: &Account,
    ) -> Result<bool, client::Error> {
        let settings = &dashboards.settings;
        let known = self.take_in(dashboards, account).await;
        let mut inventory = self.inventory(client).await?;
        let (seen, more) = self
            .look_at_all(client, &known, &inventory, settings.check_period)
            .await?;
        let imported: BTreeSet<_> = seen
            .iter()
            .filter(|(_, seen)| matches!(seen.done, Some(Done::Imported | Done::Healed(_))))
            .map(|(subject, _)| subject.clone())
            .collect();
        let wrote = !imported.is_empty();
        if wrote {
            inventory = self.inventory(client).await?;
        }

        // Rows before dashboards: nobody sees more than he may, not even for a moment.
        let is_due = self
            .rights
            .is_none_or(|looked| looked.elapsed() >= settings.check_period);
        let access = &settings.access;
        let targets = self
            .subjects
            .iter()
            .map(|(subject, (target, _))| (subject, target));
        if wrote || is_due {
            let put_back = rights::restrict(client, access, targets.clone(), &inventory).await?
                + rights::lend(client, access, &inventory).await?;
            // Nothing of ours was new since they were looked at, so somebody else had changed them.
            if put_back > 0 && !wrote && self.rights.is_some() {
                info!(put_back, "Said again which rows and connections roles may read");
                self.ctx.metrics.healed(Heal::DashboardAccess);
            }
        }
        let mut shown = Vec::new();
        for (subject, target) in targets {
            let showed = rights::show(client, access, subject, target, &inventory).await?;
            // What was imported now was not shown before, or goes with that.
            if showed && !imported.contains(subject) {
                shown.push(subject.clone());
            }
        }
        for subject in &shown {
            self.shown_again(subject).await;
        }
        if wrote || is_due {
            self.rights = Some(Instant::now());
        }
        let missing = rights::missing(access, &inventory);
        self.tell(dashboards, seen, &missing).await;
        self.sweep(client, &inventory, settings.check_period).await?;
        Ok(more)
    }

    /// What is wanted now. Returns which revisions were there before this operator began.
    async fn take_in(&mut self, dashboards: &Dashboards, account: &Account) -> BTreeMap<Subject, String> {
        let mut known = BTreeMap::new();
        let mut wanted = BTreeSet::new();
        let mut together = Vec::new();
        for (name, wants, revision) in dashboards.wanted() {
            if wants.in_default_database {
                together.push(wants.feed.clone());
            }
            let subject = Subject::Feed(name);
            if let Some(revision) = revision {
                known.insert(subject.clone(), revision);
            }
            wanted.insert(subject.clone());
            match self.subjects.get_mut(&subject) {
                Some((target, _)) if target.is_of(&wants) => {}
                Some((target, _)) => *target = Target::feed(wants),
                None => {
                    let target = Target::feed(wants);
                    self.subjects.insert(subject, (target, Memory::default()));
                }
            }
        }
        if !together.is_empty() && self.read_together(dashboards, account, together).await {
            wanted.insert(Subject::Overview);
        }
        let before = self.subjects.len();
        self.subjects.retain(|subject, _| wanted.contains(subject));
        if self.subjects.len() < before {
            // Roles see less now.
            self.rights = None;
        }
        known
    }

    /// Has a dashboard of all feeds of the installation's database. Returns whether there is to be one.
    async fn read_together(
        &mut self,
        dashboards: &Dashboards,
        account: &Account,
        feeds: Vec<superset::Feed>,
    ) -> bool {
        let Some(admin) = self.default_database().await else {
            return false;
        };
        let readers: Vec<String> = feeds.iter().map(|feed| feed.connection.user.clone()).collect();
        let password = overview_password(&account.password);
        let is_fresh = self.overview.as_ref().is_some_and(|(looked, of)| {
            *of == readers && looked.elapsed() < dashboards.settings.check_period
        });
        if !is_fresh {
            let ensured = installation::overview(&self.ctx.databases, &admin, &readers, &password).await;
            if let Err(error) = ensured {
                warn!(error = %chain(&error), "Could not make the role that reads all feeds; their common dashboard waits");
                return self.subjects.contains_key(&Subject::Overview);
            }
            self.overview = Some((Instant::now(), readers));
        }
        if let Some((target, _)) = self.subjects.get(&Subject::Overview)
            && target.is_of_feeds(&feeds)
            && target.password.expose_secret() == password.expose_secret()
        {
            return true;
        }
        // They are reached as each of them is.
        let Some(connection) = feeds.first().map(|feed| feed.connection.clone()) else {
            return false;
        };
        let connection = Connection {
            user: OVERVIEW_ROLE.to_owned(),
            ..connection
        };
        let target = Target::overview(Arc::new(feeds), connection, password);
        match self.subjects.get_mut(&Subject::Overview) {
            Some((held, _)) => *held = target,
            None => {
                self.subjects
                    .insert(Subject::Overview, (target, Memory::default()));
            }
        }
        true
    }

    async fn inventory(&mut self, client: &Client) -> Result<Inventory, client::Error> {
        let mut inventory = Inventory::read(client).await?;
        for database in inventory.databases.values() {
            let key = (database.uuid.clone(), database.database_name.clone());
            let owner = self.owners.entry(key).or_insert_with(|| owner(database));
            if let Some(owner) = owner {
                inventory.owners.insert(database.uuid.clone(), owner.clone());
            }
        }
        let there = &inventory.databases;
        self.owners.retain(|(uuid, _), _| there.contains_key(uuid));
        Ok(inventory)
    }

    /// Looks at those that have to be looked at: what is missing first, then as many of the others as there is time for. Returns what
    /// was seen, and whether there is more.
    async fn look_at_all(
        &mut self,
        client: &Client,
        known: &BTreeMap<Subject, String>,
        inventory: &Inventory,
        period: Duration,
    ) -> Result<(Vec<(Subject, Seen)>, bool), client::Error> {
        let mut due: Vec<(Why, Option<Instant>, Subject)> = self
            .subjects
            .iter()
            .filter_map(|(subject, (target, memory))| {
                let known = known.get(subject).map(String::as_str);
                let why = memory.why(target, known, inventory, period)?;
                Some((why, memory.compared(), subject.clone()))
            })
            .collect();
        // All feeds together last: what it reads is there then.
        due.sort_by_key(|(why, compared, subject)| (*why, *compared, subject.clone()));
        let began = Instant::now();
        let mut seen = Vec::new();
        let mut away: BTreeSet<(String, u16)> = BTreeSet::new();
        let (mut imports, mut compared, mut more) = (0, 0, false);
        for (why, _, subject) in due {
            let is_import = why != Why::Due;
            let is_enough = match is_import {
                true => imports >= IMPORTS,
                false => compared >= COMPARED && began.elapsed() >= COMPARING,
            };
            if is_enough || self.token.is_cancelled() {
                // Those that are to be compared have time.
                more |= is_import;
                continue;
            }
            imports += usize::from(is_import);
            compared += usize::from(!is_import);
            let Some((target, memory)) = self.subjects.get_mut(&subject) else {
                continue;
            };
            let server = (target.connection().host.clone(), target.connection().port);
            let is_away = away.contains(&server);
            let looked = look(client, &subject, target, why, inventory, memory, is_away).await;
            // Whatever it came to, datasets may be new: who sees their rows is looked at before the dashboard is shown.
            if is_import || !matches!(&looked, Ok(Seen { done: None, .. })) {
                self.rights = None;
            }
            let looked = looked?;
            if looked.database_away {
                away.insert(server);
            }
            seen.push((subject, looked));
        }
        Ok((seen, more))
    }

    /// Looks after Superset's own database, where that is asked for.
    async fn own_database(&self, dashboards: &Dashboards) {
        let Some(secret) = &dashboards.settings.database_secret else {
            return;
        };
        let Some(admin) = self.default_database().await else {
            return;
        };
        let password = match self.value(secret, "databasePassword").await {
            Ok(password) => password,
            Err(error) => {
                warn!(error = %chain(&error), "Could not look after Superset's own database");
                return;
            }
        };
        match installation::superset(&self.ctx.databases, &admin, &password).await {
            Ok(missing) if missing.is_empty() => {}
            Ok(missing) => info!(missing = missing.join(", "), "Made Superset's own database"),
            Err(error) => warn!(error = %chain(&error), "Could not look after Superset's own database"),
        }
    }

    async fn default_database(&self) -> Option<DatabaseConnection> {
        let Context {
            secrets, defaults, ..
        } = &*self.ctx;
        let found = dereference::database(secrets, defaults, "", None).await;
        found.ok()?.ok()
    }

    async fn account(&self, dashboards: &Dashboards) -> Result<Account, Trouble> {
        let secret = &dashboards.settings.secret;
        let username = self.value(secret, "operatorUsername").await?;
        let password = self.value(secret, "operatorPassword").await?;
        let authority = match self.value(secret, certificates::AUTHORITY).await {
            Ok(authority) => Some(authority.expose_secret().to_owned()),
            Err(Trouble::Account {
                source: Problem::KeyNotFound { .. },
            }) => None,
            Err(trouble) => return Err(trouble),
        };
        Ok(Account {
            username: username.expose_secret().to_owned(),
            password,
            authority,
        })
    }

    async fn value(&self, secret: &SecretName, key: &str) -> Result<SecretString, Trouble> {
        let (namespace, name) = secret.parts();
        let read = self.ctx.secrets.read(namespace, name).await;
        let Some(found) = read.context(ReadSecretSnafu)? else {
            let source = Problem::SecretNotFound {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            };
            return Err(Trouble::Account { source });
        };
        let data = found.data.unwrap_or_default();
        let text = data.get(key).and_then(|value| std::str::from_utf8(&value.0).ok());
        let text = text
            .map(|text| text.trim_end_matches(['\n', '\r']))
            .filter(|text| !text.is_empty());
        match text {
            Some(text) => Ok(text.to_owned().into()),
            None => Err(Trouble::Account {
                source: Problem::KeyNotFound {
                    secret: secret.to_string(),
                    key: key.to_owned(),
                },
            }),
        }
    }
}

/// The password of the role that reads all feeds. It follows from that of the operator's account in Superset, so that it is nowhere kept
/// and no right to write a Secret is needed; who knows it cannot tell the other from it.
fn overview_password(account: &SecretString) -> SecretString {
    let digest = Sha256::new()
        .chain_update(b"stockfeed overview\0")
        .chain_update(account.expose_secret())
        .finalize();
    hex(&digest[..16]).into()
}
