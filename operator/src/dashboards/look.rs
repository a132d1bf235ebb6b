//! One look at the dashboards of a subject: they are imported, compared, healed, or it is said what differs.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::json;
use superset::Difference;

use super::{
    client::{Client, Error},
    inventory::{Database, Inventory},
    subject::{Subject, Target, trial},
};
use crate::{
    api::{DriftPolicy, status::reason},
    status::{Verdict, chain},
};

/// What is remembered of a subject between two looks.
#[derive(Debug, Default)]
pub struct Memory {
    /// What Superset was last seen to have, or was last given.
    held: Option<Target>,
    /// When it was last compared.
    compared: Option<Instant>,
    /// What came of it.
    verdict: Option<Verdict>,
    /// What differed when that was last said.
    reported: BTreeSet<String>,
}

/// What a look came to.
#[derive(Debug)]
pub struct Seen {
    /// What is to be said.
    pub verdict: Verdict,
    /// What was done, when something was.
    pub done: Option<Done>,
    /// Whether the database has to be asked no more in this round, since it did not answer.
    pub database_away: bool,
}

/// Something that was done, or is to be said once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// They were not there before, or are others now.
    Imported,
    /// They were not as they should be, and are again.
    Healed(String),
    /// They are not as they should be, and are left so.
    Drifted(String),
}

/// What a look is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Something of it is missing.
    Missing,
    /// It is to be another one now.
    Changed,
    /// It was not looked at for so long.
    Due,
}

impl Memory {
    /// Why a look is due; `None`: it is not. `known`: the revision that was there before this operator began.
    #[must_use]
    pub fn why(
        &self,
        target: &Target,
        known: Option<&str>,
        inventory: &Inventory,
        period: Duration,
    ) -> Option<Why> {
        if target.dashboard(inventory).is_none() || target.database(inventory).is_none() {
            return Some(Why::Missing);
        }
        let is_same = match &self.held {
            Some(held) => held.is_same(target),
            // Without knowledge it is compared.
            None => known.is_none_or(|known| known == target.revision),
        };
        if !is_same {
            return Some(Why::Changed);
        }
        let is_due = self.compared.is_none_or(|compared| compared.elapsed() >= period);
        is_due.then_some(Why::Due)
    }

    /// What Superset was last seen to have, or was last given.
    #[must_use]
    pub fn held(&self) -> Option<&Target> {
        self.held.as_ref()
    }

    /// When it was last compared.
    #[must_use]
    pub fn compared(&self) -> Option<Instant> {
        self.compared
    }

    /// What was last to be said.
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }
}

/// Looks at the dashboards of a subject.
///
/// # Errors
/// When Superset as a whole cannot be used.
pub async fn look(
    client: &Client,
    subject: &Subject,
    target: &Target,
    why: Why,
    inventory: &Inventory,
    memory: &mut Memory,
    database_away: bool,
) -> Result<Seen, Error> {
    let differences = match (why, target.dashboard(inventory)) {
        (Why::Due, Some(dashboard)) => {
            let export = client.export(dashboard.id).await?;
            match target.bundle().differences(&export) {
                Ok(differences) => listed(&differences),
                Err(error) => {
                    let verdict = Verdict::no(reason::IMPORT_FAILED, chain(&error));
                    return Ok(memory.concluded(verdict, None));
                }
            }
        }
        _ => BTreeSet::new(),
    };
    if !differences.is_empty() && target.policy == DriftPolicy::Report {
        let text = text_of(&differences);
        let is_news = memory.reported != differences;
        memory.reported = differences;
        memory.held = Some(target.clone());
        let verdict = Verdict::no(reason::DRIFTED, format!("not as the operator made it: {text}"));
        return Ok(memory.concluded(verdict, is_news.then_some(Done::Drifted(text))));
    }
    let mut done = None;
    if why != Why::Due || !differences.is_empty() {
        // Something that was there, and is not any more, was taken away by somebody.
        let was_there = memory.held.is_some() && why == Why::Missing;
        if let Err(error) = import(client, subject, target).await {
            return refused(error, memory);
        }
        done = Some(match (was_there, differences.is_empty()) {
            (_, false) => Done::Healed(text_of(&differences)),
            (true, true) => Done::Healed("they were missing".to_owned()),
            (false, true) => Done::Imported,
        });
    }
    memory.reported.clear();
    memory.held = Some(target.clone());
    if database_away {
        // Said by another one of the same database a moment ago.
        let verdict = Verdict::no(
            reason::CONNECTION_FAILED,
            "Superset cannot connect to the feed's PostgreSQL",
        );
        return Ok(memory.concluded(verdict, done));
    }
    let tried = try_connection(client, target).await?;
    let tried = match tried {
        // It has another password than it should have: nobody can see that in an export.
        Err(Trouble { refused: true, .. }) if done.is_none() => {
            if let Err(error) = import(client, subject, target).await {
                return refused(error, memory);
            }
            done = Some(Done::Healed("the connection had another password".to_owned()));
            try_connection(client, target).await?
        }
        tried => tried,
    };
    Ok(match tried {
        Ok(()) => memory.concluded(Verdict::yes(reason::IMPORTED, &target.path), done),
        Err(Trouble { words, refused }) => Seen {
            database_away: !refused,
            ..memory.concluded(
                Verdict::no(
                    reason::CONNECTION_FAILED,
                    format!("Superset cannot read the feed's tables: {words}"),
                ),
                done,
            )
        },
    })
}

impl Memory {
    fn concluded(&mut self, verdict: Verdict, done: Option<Done>) -> Seen {
        self.compared = Some(Instant::now());
        self.verdict = Some(verdict.clone());
        Seen {
            verdict,
            done,
            database_away: false,
        }
    }
}

fn refused(error: Error, memory: &mut Memory) -> Result<Seen, Error> {
    if !error.is_about_what_was_sent() {
        return Err(error);
    }
    let message = format!(
        "{}; nothing of it was changed, and Superset's log says why",
        chain(&error)
    );
    Ok(memory.concluded(Verdict::no(reason::IMPORT_FAILED, message), None))
}

async fn import(client: &Client, subject: &Subject, target: &Target) -> Result<(), Error> {
    // An archive of some kilobytes in memory cannot fail.
    let bundle = target.bundle();
    let archive = bundle.zip().unwrap_or_default();
    let passwords = bundle.passwords(target.password.expose_secret());
    client.import(&subject.to_string(), &archive, &passwords).await?;
    let Some(authority) = &target.connection().certificate_authority else {
        return Ok(());
    };
    // An import leaves it out.
    let uuids = bundle.uuids_of("databases");
    let query = format!(
        "columns:!(id,uuid,database_name),filters:!((col:uuid,opr:eq,value:'{}'))",
        uuids.first().map(ToString::to_string).unwrap_or_default()
    );
    let found: Vec<Database> = client.list("database/", &query).await?;
    for database in found {
        let action = "name the authority of the feed's PostgreSQL";
        let path = format!("database/{}", database.id);
        client
            .write(action, Method::PUT, &path, json!({"server_cert": authority}))
            .await?;
    }
    Ok(())
}

/// Why Superset cannot use a connection.
struct Trouble {
    words: String,
    /// It is the role or its password; otherwise the server is away.
    refused: bool,
}

async fn try_connection(client: &Client, target: &Target) -> Result<Result<(), Trouble>, Error> {
    match client
        .try_connection(trial(&target.bundle(), target.connection()))
        .await
    {
        Ok(()) => Ok(Ok(())),
        Err(Error::Answer { status, answer, .. }) if ![502, 503, 504, 429].contains(&status) => {
            let refused = ["password", "authentication", "role \"", "username"]
                .iter()
                .any(|word| answer.contains(word));
            Ok(Err(Trouble {
                words: short(&answer),
                refused,
            }))
        }
        Err(error) => Err(error),
    }
}

/// Without what `SQLAlchemy` says around it.
fn short(answer: &str) -> String {
    let text = answer.split("(Background on this error").next().unwrap_or(answer);
    let text = text.replace("(builtins.NoneType) None [SQL: ", "");
    text.trim().trim_end_matches([']', ')', '(']).trim().to_owned()
}

fn listed(differences: &[Difference]) -> BTreeSet<String> {
    differences
        .iter()
        .map(|Difference { asset, key }| match key.is_empty() {
            true => format!("{asset} is missing"),
            false => format!("{asset}: {key}"),
        })
        .collect()
}

/// The most differences that are named.
const MAX_NAMED: usize = 8;

fn text_of(differences: &BTreeSet<String>) -> String {
    let mut named: Vec<_> = differences.iter().take(MAX_NAMED).cloned().collect();
    if let Some(more) = differences.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
        named.push(format!("{more} more"));
    }
    named.join("; ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use contract::names::FeedName;
    use jiff::Timestamp;
    use rstest::rstest;

    use super::{
        super::{
            Wanted,
            inventory::{Dashboard, Database},
            subject::{nameless, nowhere},
        },
        *,
    };

    const PERIOD: Duration = Duration::from_secs(300);

    fn target(password: &str, made: i64) -> Target {
        let name = FeedName::new("markets", "tech").unwrap();
        Target::feed(Arc::new(Wanted {
            feed: superset::Feed {
                namespace: name.namespace().to_owned(),
                name: name.name().to_owned(),
                schema: name.schema(),
                calls_per_day: None,
                connection: nowhere(),
            },
            password: password.into(),
            made: Timestamp::from_second(made).unwrap(),
            policy: DriftPolicy::Heal,
            in_default_database: true,
        }))
    }

    fn inventory(database: bool, dashboard: bool) -> Inventory {
        let bundle = nameless(&FeedName::new("markets", "tech").unwrap());
        let uuid = |kind: &str| bundle.uuids_of(kind)[0].to_string();
        let (of_database, of_dashboard) = (uuid("databases"), uuid("dashboards"));
        let mut inventory = Inventory::default();
        if database {
            let found = Database {
                id: 1,
                uuid: of_database.clone(),
                database_name: "markets/tech".to_owned(),
            };
            inventory.databases.insert(of_database, found);
        }
        if dashboard {
            let found = Dashboard {
                id: 2,
                uuid: of_dashboard.clone(),
                roles: Vec::new(),
            };
            inventory.dashboards.insert(of_dashboard, found);
        }
        inventory
    }

    /// What was seen a moment ago, or long ago.
    fn memory(held: Option<Target>, compared_ago: Option<u64>) -> Memory {
        let now = Instant::now();
        Memory {
            held,
            compared: compared_ago.and_then(|seconds| now.checked_sub(Duration::from_secs(seconds))),
            ..Memory::default()
        }
    }

    #[rstest]
    #[case::nothing_there(memory(None, None), None, (false, false), Some(Why::Missing))]
    #[case::dashboard_gone(memory(Some(target("a", 1)), Some(1)), None, (true, false), Some(Why::Missing))]
    #[case::connection_gone(memory(Some(target("a", 1)), Some(1)), None, (false, true), Some(Why::Missing))]
    #[case::as_it_was(memory(Some(target("a", 1)), Some(1)), None, (true, true), None)]
    #[case::long_ago(memory(Some(target("a", 1)), Some(301)), None, (true, true), Some(Why::Due))]
    #[case::another_password(memory(Some(target("b", 1)), Some(1)), None, (true, true), Some(Why::Changed))]
    #[case::renewed(memory(Some(target("a", 0)), Some(1)), None, (true, true), Some(Why::Changed))]
    #[case::operator_began_anew(memory(None, None), Some(target("a", 1).revision), (true, true), Some(Why::Due))]
    #[case::renewed_meanwhile(memory(None, None), Some(target("a", 0).revision), (true, true), Some(Why::Changed))]
    #[case::nothing_known(memory(None, None), None, (true, true), Some(Why::Due))]
    fn a_look_is_due_when_something_is_missing_another_or_old(
        #[case] memory: Memory,
        #[case] known: Option<String>,
        #[case] (database, dashboard): (bool, bool),
        #[case] expected: Option<Why>,
    ) {
        let inventory = inventory(database, dashboard);
        let why = memory.why(&target("a", 1), known.as_deref(), &inventory, PERIOD);
        assert_eq!(why, expected);
    }

    #[test]
    fn a_revision_gives_nothing_of_the_password_away() {
        assert_eq!(target("a", 1).revision, target("b", 1).revision);
        assert_ne!(target("a", 1).revision, target("a", 2).revision);
    }

    #[test]
    fn of_many_differences_some_are_named() {
        let differences: Vec<_> = (0..11)
            .map(|number| Difference {
                asset: format!("chart {number:02}"),
                key: (if number == 0 { "" } else { "params.color" }).to_owned(),
            })
            .collect();
        let text = text_of(&listed(&differences));
        assert!(
            text.starts_with("chart 00 is missing; chart 01: params.color; "),
            "{text}"
        );
        assert!(text.ends_with("; 3 more"), "{text}");
    }

    #[test]
    fn what_sqlalchemy_says_around_it_is_left_out() {
        let answer = "(builtins.NoneType) None [SQL: (psycopg2.OperationalError) connection to server at \"db\" (10.0.0.1), port 5432 failed: \
                      Connection refused (Background on this error at: https://sqlalche.me/e/14/e3q8)] (Background on this error at: x)";
        let expected = "(psycopg2.OperationalError) connection to server at \"db\" (10.0.0.1), port 5432 failed: Connection refused";
        assert_eq!(short(answer), expected);
    }
}
