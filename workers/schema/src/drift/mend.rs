//! How each kind of thing is mended.

use snafu::ResultExt as _;

use super::{
    Difference, How, Kind,
    fact::Fact,
    heal::{Failure, Healing, Tried},
    partitioned,
};
use crate::{Error, StatementSnafu};

impl Healing<'_> {
    pub(super) async fn mend(&mut self, difference: &Difference) -> Tried {
        let fact = &difference.fact;
        match (&difference.how, fact.kind) {
            (How::Extra, _) => self.all(fact.undo.as_slice()).await,
            (How::Missing, Kind::Column) | (How::Changed { .. }, Kind::Column | Kind::Table) => {
                let why = difference.advice().unwrap_or_default();
                Ok(Err(Failure { why, waits: false }))
            }
            (How::Missing, Kind::Table) => self.make_table(fact).await,
            (_, Kind::View | Kind::Function) => self.replace(difference).await,
            (_, Kind::Index) if fact.live.is_none() => partitioned::mend(self, difference).await,
            _ => match &fact.live {
                Some(live) => self.all(live).await,
                None => self.all(fact.make.as_slice()).await,
            },
        }
    }

    /// A table with all that belongs to it at once, so that nobody meets half of it.
    pub(super) async fn make_table(&mut self, table: &Fact) -> Tried {
        if let Some(why) = self.would_hide_data(table).await? {
            return Ok(Err(Failure { why, waits: false }));
        }
        let in_create = [
            Kind::Table,
            Kind::Column,
            Kind::Default,
            Kind::NotNull,
            Kind::Option,
        ];
        let rest = self
            .facts_of(table)
            .filter(|fact| !in_create.contains(&fact.kind));
        let statements: Vec<_> = std::iter::once(table).chain(rest).collect();
        let script = script(statements.into_iter().filter_map(|fact| fact.make.as_deref()));
        self.statement(&script).await
    }

    /// Why a table must not be made anew: its rows are somewhere, and would be taken for somebody else's.
    async fn would_hide_data(&mut self, table: &Fact) -> Result<Option<String>, Error> {
        let columns: Vec<_> = self
            .facts_of(table)
            .filter(|fact| fact.kind == Kind::Column)
            .map(|fact| fact.part.clone())
            .collect();
        let action = "look for a table that was renamed";
        let renamed: Option<String> = sqlx::query_scalar(
            r#"SELECT class.relname::text FROM pg_class class JOIN pg_attribute attribute ON attribute.attrelid = class.oid
               WHERE class.relnamespace::regnamespace::text = quote_ident($1) AND class.relkind IN ('r', 'p') AND NOT class.relispartition
                 AND class.relname <> ALL ($2::name[]) AND attribute.attnum > 0 AND NOT attribute.attisdropped
               GROUP BY class.relname
               HAVING array_agg(attribute.attname::text ORDER BY attribute.attname::text COLLATE "C") = $3
               ORDER BY class.relname LIMIT 1"#,
        )
        .bind(self.feed.schema())
        .bind(self.reference.relations())
        .bind(columns)
        .fetch_optional(&mut *self.connection)
        .await
        .context(StatementSnafu { action })?;
        if let Some(renamed) = renamed {
            let why = format!(
                "table {renamed} looks like it: rename it back, or drop it to have an empty one made"
            );
            return Ok(Some(why));
        }
        // A week without its parent is taken for one that retention has not come to drop.
        let weeks: Option<String> = sqlx::query_scalar(
            "SELECT relname::text FROM pg_class WHERE relnamespace::regnamespace::text = quote_ident($1) AND $2 = 'table stock_data'
             AND relkind = 'r' AND relname ~ '^stock_data_[0-9]{8}$' ORDER BY relname LIMIT 1",
        )
        .bind(self.feed.schema())
        .bind(&table.object)
        .fetch_optional(&mut *self.connection)
        .await
        .context(StatementSnafu { action })?;
        Ok(weeks.map(|week| {
            format!("week {week} of it is there, and would be dropped: put the table back, or move its weeks elsewhere")
        }))
    }

    /// A view or function anew, with its grants, so that nobody meets it without; and where one that is there cannot be changed in place,
    /// by dropping it first, and the views of ours that build upon it with it.
    async fn replace(&mut self, difference: &Difference) -> Tried {
        let fact = &difference.fact;
        if difference.how == How::Missing {
            let script = script(self.with_grants(fact).iter().map(String::as_str));
            return self.statement(&script).await;
        }
        match self.all(fact.make.as_slice()).await? {
            Err(failure) if !failure.waits => {}
            done => return Ok(done),
        }
        let again: Vec<_> = match fact.kind {
            Kind::View => {
                let facts = self.reference.facts().values();
                let mut views: Vec<_> = facts
                    .filter(|other| other.kind == Kind::View && other.place >= fact.place)
                    .collect();
                views.sort_by_key(|view| view.place);
                views
            }
            _ => vec![fact],
        };
        // Those that build upon one that is missing are missing with it.
        let undo = again.iter().rev().filter_map(|fact| fact.undo.as_deref());
        let undo = undo.map(|undo| {
            undo.replacen("DROP VIEW ", "DROP VIEW IF EXISTS ", 1).replacen(
                "DROP ROUTINE ",
                "DROP ROUTINE IF EXISTS ",
                1,
            )
        });
        let make = again.iter().flat_map(|fact| self.with_grants(fact));
        let statements: Vec<_> = undo.chain(make).collect();
        let script = script(statements.iter().map(String::as_str));
        self.statement(&script).await
    }

    /// What makes a view or function, and gives it its rights and no other.
    fn with_grants(&self, fact: &Fact) -> Vec<String> {
        let routine = fact
            .undo
            .as_deref()
            .and_then(|undo| undo.strip_prefix("DROP ROUTINE "));
        let nobodys = routine.map(|routine| format!("REVOKE ALL ON ROUTINE {routine} FROM PUBLIC"));
        let grants = self.facts_of(fact).filter(|other| other.kind == Kind::Grant);
        let grants = grants.filter_map(|grant| grant.make.clone());
        fact.make
            .clone()
            .into_iter()
            .chain(nobodys)
            .chain(grants)
            .collect()
    }

    fn facts_of<'b>(&'b self, thing: &Fact) -> impl Iterator<Item = &'b Fact> + use<'b> {
        let object = thing.object.clone();
        let facts = self.reference.facts().values();
        facts.filter(move |fact| fact.object == object)
    }
}

fn script<'a>(statements: impl Iterator<Item = &'a str>) -> String {
    statements.collect::<Vec<_>>().join(";\n")
}
