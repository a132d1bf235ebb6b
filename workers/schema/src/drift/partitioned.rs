//! An index of a partitioned table, which cannot be built `CONCURRENTLY` at once: of the table alone first, then of one partition
//! after the other. What one run does not come to, the next one does.

use snafu::ResultExt as _;

use super::{
    Difference, How,
    heal::{Healing, Tried},
};
use crate::{Error, StatementSnafu, quoted};

/// A partition that has no index of this kind yet.
#[derive(sqlx::FromRow)]
struct Partition {
    name: String,
    /// One was built for it, and not attached.
    built: bool,
}

pub(super) async fn mend(healing: &mut Healing<'_>, difference: &Difference) -> Tried {
    let fact = &difference.fact;
    let index = &fact.part;
    let (Some(make), Some(table)) = (fact.make.as_deref(), fact.object.strip_prefix("table ")) else {
        return Ok(Ok(()));
    };
    let head = format!("CREATE INDEX {index} ON ONLY {table} ");
    let Some(definition) = make.strip_prefix(&head) else {
        return healing.statement(make).await;
    };
    let unfinished = format!("{make} (not valid)");
    let is_begun = matches!(&difference.how, How::Changed { found } if *found == unfinished);
    if difference.how != How::Missing && !is_begun {
        let dropped = healing
            .statement(&format!("DROP INDEX {}", quoted(index)))
            .await?;
        if dropped.is_err() {
            return Ok(dropped);
        }
    }
    if !is_begun {
        let made = healing.statement(make).await?;
        if made.is_err() {
            return Ok(made);
        }
    }
    let suffix = index.strip_prefix(table).unwrap_or(index).to_owned();
    for Partition { name, built } in partitions(healing, table, index, &suffix).await? {
        let own = quoted(&format!("{name}{suffix}_idx"));
        let mut statements = Vec::new();
        if !built {
            statements.push(format!("DROP INDEX CONCURRENTLY IF EXISTS {own}"));
            let partition = quoted(&name);
            statements.push(format!(
                "CREATE INDEX CONCURRENTLY {own} ON {partition} {definition}"
            ));
        }
        statements.push(format!("ALTER INDEX {} ATTACH PARTITION {own}", quoted(index)));
        let done = healing.all(&statements).await?;
        if done.is_err() {
            return Ok(done);
        }
    }
    Ok(Ok(()))
}

async fn partitions(
    healing: &mut Healing<'_>,
    table: &str,
    index: &str,
    suffix: &str,
) -> Result<Vec<Partition>, Error> {
    sqlx::query_as(
        "SELECT partition.relname::text AS name,
                coalesce((SELECT own.indisvalid FROM pg_index own
                          WHERE own.indexrelid = to_regclass(quote_ident(partition.relname || $3 || '_idx'))
                            AND own.indrelid = partition.oid), false) AS built
         FROM pg_inherits
         JOIN pg_class partition ON partition.oid = pg_inherits.inhrelid
         WHERE pg_inherits.inhparent = to_regclass($1)
           AND NOT EXISTS (SELECT FROM pg_index own JOIN pg_inherits attached ON attached.inhrelid = own.indexrelid
                           WHERE own.indrelid = partition.oid AND attached.inhparent = to_regclass($2))
         ORDER BY partition.relname DESC",
    )
    .bind(table)
    .bind(quoted(index))
    .bind(suffix)
    .fetch_all(&mut *healing.connection)
    .await
    .context(StatementSnafu {
        action: "list the partitions without an index",
    })
}
