//! Who sees what in Superset: roles of dashboards, connections in SQL Lab, and the rows that a role sees.
//!
//! What is decided is pure; what is read and written is at the end. A role sees a dashboard only after its rows were restricted.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::{
    access::Access,
    client::{Client, Error},
    inventory::{Inventory, Role},
    removal::numbers,
    subject::{Subject, Target},
};

/// What the names of our rules begin with.
const RULE_PREFIX: &str = "StockFeed: ";
/// The permission to use a connection.
const DATABASE_ACCESS: &str = "database_access";

/// What a role may do.
#[derive(Clone, Debug, Deserialize)]
struct Permission {
    id: i64,
    permission_name: String,
    view_menu_name: String,
}

/// A permission, in the list of all of them.
#[derive(Clone, Debug, Deserialize)]
struct Listed {
    id: i64,
    view_menu: Named,
}

#[derive(Clone, Debug, Deserialize)]
struct Named {
    name: String,
}

/// A rule of rows.
#[derive(Clone, Debug, Deserialize)]
struct Rule {
    id: i64,
    name: String,
    filter_type: String,
    clause: String,
    roles: Vec<Role>,
    tables: Vec<Table>,
}

#[derive(Clone, Debug, Deserialize)]
struct Table {
    id: i64,
}

/// Roles of `access` that Superset does not have.
#[must_use]
pub fn missing(access: &[Access], inventory: &Inventory) -> Vec<String> {
    let roles = access.iter().map(|access| &access.role);
    roles
        .filter(|role| !inventory.roles.contains_key(*role))
        .cloned()
        .collect()
}

/// Gives a subject's dashboard the roles that see it, when it has others. Returns whether it had.
///
/// # Errors
/// When Superset cannot be told.
pub async fn show(
    client: &Client,
    access: &[Access],
    subject: &Subject,
    target: &Target,
    inventory: &Inventory,
) -> Result<bool, Error> {
    let Some(dashboard) = target.dashboard(inventory) else {
        return Ok(false);
    };
    let wanted: BTreeSet<i64> = access
        .iter()
        .filter(|access| subject.is_seen(access))
        .filter_map(|access| inventory.roles.get(&access.role).copied())
        .collect();
    let has: BTreeSet<i64> = dashboard.roles.iter().map(|role| role.id).collect();
    if has == wanted {
        return Ok(false);
    }
    let action = format!("say who sees {subject}");
    let path = format!("dashboard/{}", dashboard.id);
    client
        .write(&action, Method::PUT, &path, json!({"roles": wanted}))
        .await?;
    Ok(true)
}

/// Lets roles with `sqlLab` use the connections of their feeds, and no others of ours. Returns how many roles had others.
///
/// # Errors
/// When Superset cannot be asked or told.
pub async fn lend(client: &Client, access: &[Access], inventory: &Inventory) -> Result<usize, Error> {
    let mut changed = 0;
    // Found out when something has to be written only.
    let mut all: Option<BTreeMap<String, i64>> = None;
    for access in access {
        let Some(role) = inventory.roles.get(&access.role) else {
            continue;
        };
        let has: Vec<Permission> = client
            .read(&format!("security/roles/{role}/permissions/"), None)
            .await?;
        let Some(Change { keep, add }) = change(access, &has, inventory) else {
            continue;
        };
        let all = match &mut all {
            Some(all) => all,
            None => all.insert(connections(client).await?),
        };
        let added = add.iter().filter_map(|name| all.get(name));
        let ids: BTreeSet<i64> = keep.iter().chain(added).copied().collect();
        if has
            .iter()
            .map(|permission| permission.id)
            .collect::<BTreeSet<_>>()
            == ids
        {
            continue;
        }
        let action = format!("say which connections role {:?} may use", access.role);
        let path = format!("security/roles/{role}/permissions");
        let body = json!({"permission_view_menu_ids": ids});
        client.write(&action, Method::POST, &path, body).await?;
        changed += 1;
    }
    Ok(changed)
}

#[derive(Debug, PartialEq, Eq)]
struct Change {
    keep: Vec<i64>,
    add: BTreeSet<String>,
}

/// What has to change of a role's permissions; `None`: nothing.
fn change(access: &Access, has: &[Permission], inventory: &Inventory) -> Option<Change> {
    let mut wanted = BTreeSet::new();
    let mut unwanted = BTreeSet::new();
    for database in inventory.databases.values() {
        let name = format!("[{}].(id:{})", database.database_name, database.id);
        match inventory.owners.get(&database.uuid) {
            Some(feed) if access.sql_lab && access.sees(feed) => wanted.insert(name),
            Some(_) => unwanted.insert(name),
            // Somebody's own.
            None => continue,
        };
    }
    let (goes, stays): (Vec<_>, Vec<_>) = has.iter().partition(|permission| {
        permission.permission_name == DATABASE_ACCESS && unwanted.contains(&permission.view_menu_name)
    });
    let lent = |permission: &&&Permission| permission.permission_name == DATABASE_ACCESS;
    let held: BTreeSet<_> = stays
        .iter()
        .filter(lent)
        .map(|permission| &permission.view_menu_name)
        .collect();
    let add: BTreeSet<_> = wanted
        .iter()
        .filter(|name| !held.contains(name))
        .cloned()
        .collect();
    (!goes.is_empty() || !add.is_empty()).then(|| Change {
        keep: stays.iter().map(|permission| permission.id).collect(),
        add,
    })
}

/// The permissions to use connections, by the connection's name.
async fn connections(client: &Client) -> Result<BTreeMap<String, i64>, Error> {
    let query = format!("filters:!((col:name,opr:eq,value:{DATABASE_ACCESS}))");
    let kinds: Vec<super::inventory::Role> = client.list("security/permissions/", &query).await?;
    let mut found = BTreeMap::new();
    for kind in kinds {
        let query = format!("filters:!((col:permission,opr:rel_o_m,value:{}))", kind.id);
        let listed: Vec<Listed> = client.list("security/permissions-resources/", &query).await?;
        found.extend(
            listed
                .into_iter()
                .map(|listed| (listed.view_menu.name, listed.id)),
        );
    }
    Ok(found)
}

/// Restricts the rows that roles with symbols see. `targets`: of the subjects that are in Superset. Returns how many rules were
/// otherwise.
///
/// # Errors
/// When Superset cannot be asked or told.
pub async fn restrict<'a>(
    client: &Client,
    access: &[Access],
    targets: impl Iterator<Item = (&'a Subject, &'a Target)> + Clone,
    inventory: &Inventory,
) -> Result<usize, Error> {
    let mut changed = 0;
    let rules: Vec<Rule> = client.list("rowlevelsecurity/", "").await?;
    let mut rules: BTreeMap<String, Rule> = rules
        .into_iter()
        .filter(|rule| rule.name.starts_with(RULE_PREFIX))
        .map(|rule| (rule.name.clone(), rule))
        .collect();
    for access in access {
        let (Some(clause), Some(role)) = (access.clause(), inventory.roles.get(&access.role)) else {
            continue;
        };
        let uuids: BTreeSet<String> = targets
            .clone()
            .filter(|(subject, _)| subject.is_seen(access))
            .flat_map(|(_, target)| target.with_symbols.iter().cloned())
            .collect();
        let tables = numbers(client, "dataset/", &uuids).await?;
        let name = format!("{RULE_PREFIX}{}", access.role);
        // A rule without tables cannot be, and nothing is to be seen then.
        if tables.is_empty() {
            continue;
        }
        let action = format!("restrict the rows that role {:?} sees", access.role);
        let body = json!({
            "name": name,
            "description": "Made by the StockFeed operator from its list of access; changes are undone.",
            "filter_type": "Regular",
            "tables": tables,
            "roles": [role],
            "clause": clause,
        });
        match rules.remove(&name) {
            Some(rule) if is_as_wanted(&rule, &clause, *role, &tables) => {}
            Some(rule) => {
                let path = format!("rowlevelsecurity/{}", rule.id);
                client.write(&action, Method::PUT, &path, body).await?;
                changed += 1;
            }
            None => {
                client
                    .write(&action, Method::POST, "rowlevelsecurity/", body)
                    .await?;
                changed += 1;
            }
        }
    }
    // Those of roles that are restricted no more.
    for rule in rules.values() {
        let path = format!("rowlevelsecurity/{}", rule.id);
        client.delete("remove a rule of rows", &path).await?;
        changed += 1;
    }
    Ok(changed)
}

fn is_as_wanted(rule: &Rule, clause: &str, role: i64, tables: &BTreeSet<i64>) -> bool {
    let has: BTreeSet<i64> = rule.tables.iter().map(|table| table.id).collect();
    let roles: Vec<i64> = rule.roles.iter().map(|role| role.id).collect();
    rule.clause == clause && rule.filter_type == "Regular" && roles == [role] && has == *tables
}

#[cfg(test)]
mod tests {
    use contract::names::FeedName;
    use pretty_assertions::assert_eq;

    use super::{
        super::{
            access,
            inventory::Database,
            subject::{nameless, owner},
        },
        *,
    };

    fn inventory() -> Inventory {
        let database = |id: i64, namespace: &str, name: &str| {
            let uuid =
                nameless(&FeedName::new(namespace, name).unwrap()).uuids_of("databases")[0].to_string();
            Database {
                id,
                uuid,
                database_name: format!("{namespace}/{name}"),
            }
        };
        let own = Database {
            id: 9,
            uuid: "0f1de000-0000-4000-8000-000000000001".to_owned(),
            database_name: "markets/own".to_owned(),
        };
        let databases = [
            database(1, "markets", "tech"),
            database(2, "research", "bonds"),
            own,
        ];
        Inventory {
            owners: databases
                .iter()
                .filter_map(|database| Some((database.uuid.clone(), owner(database)?)))
                .collect(),
            databases: databases
                .into_iter()
                .map(|database| (database.uuid.clone(), database))
                .collect(),
            ..Inventory::default()
        }
    }

    fn permission(id: i64, permission: &str, view_menu: &str) -> Permission {
        Permission {
            id,
            permission_name: permission.to_owned(),
            view_menu_name: view_menu.to_owned(),
        }
    }

    fn analyst() -> Access {
        access::parse("[{role: Analyst, feeds: ['markets/*'], sqlLab: true}]")
            .unwrap()
            .remove(0)
    }

    #[test]
    fn an_analyst_gets_the_connections_of_his_feeds_and_keeps_what_is_not_ours() {
        let has = [
            permission(10, "can_read", "Dashboard"),
            permission(11, DATABASE_ACCESS, "[research/bonds].(id:2)"),
            permission(12, DATABASE_ACCESS, "[markets/own].(id:9)"),
            permission(13, "schema_access", "[research/bonds].(id:2)"),
        ];
        let change = change(&analyst(), &has, &inventory()).unwrap();
        assert_eq!(
            change,
            Change {
                keep: vec![10, 12, 13],
                add: BTreeSet::from(["[markets/tech].(id:1)".to_owned()])
            }
        );
    }

    #[test]
    fn who_has_what_he_is_to_have_is_left_alone() {
        let has = [permission(11, DATABASE_ACCESS, "[markets/tech].(id:1)")];
        assert_eq!(change(&analyst(), &has, &inventory()), None);
    }

    #[test]
    fn who_may_not_query_any_more_loses_the_connections() {
        let viewer = Access {
            sql_lab: false,
            ..analyst()
        };
        let has = [permission(11, DATABASE_ACCESS, "[markets/tech].(id:1)")];
        let change = change(&viewer, &has, &inventory()).unwrap();
        assert_eq!((change.keep, change.add), (Vec::new(), BTreeSet::new()));
    }

    #[test]
    fn roles_that_are_not_there_are_named() {
        let mut inventory = inventory();
        assert_eq!(missing(&[analyst()], &inventory), ["Analyst"]);
        inventory.roles.insert("Analyst".to_owned(), 7);
        assert_eq!(missing(&[analyst()], &inventory), Vec::<String>::new());
    }

    #[test]
    fn a_rule_that_somebody_changed_is_another() {
        let rule = Rule {
            id: 1,
            name: "StockFeed: Desk".to_owned(),
            filter_type: "Regular".to_owned(),
            clause: "symbol IN ('A')".to_owned(),
            roles: vec![Role {
                id: 5,
                name: "Desk".to_owned(),
            }],
            tables: vec![Table { id: 2 }, Table { id: 1 }],
        };
        let tables = BTreeSet::from([1, 2]);
        assert!(is_as_wanted(&rule, "symbol IN ('A')", 5, &tables));
        assert!(!is_as_wanted(&rule, "symbol IN ('B')", 5, &tables));
        assert!(!is_as_wanted(&rule, "symbol IN ('A')", 6, &tables));
        assert!(!is_as_wanted(&rule, "symbol IN ('A')", 5, &BTreeSet::from([1])));
        let base = Rule {
            filter_type: "Base".to_owned(),
            ..rule
        };
        assert!(!is_as_wanted(&base, "symbol IN ('A')", 5, &tables));
    }
}
