//! Compares the tables with what they must hold, cell by cell.

use std::{collections::BTreeMap, fmt::Debug};

use anyhow::{Context as _, Result, ensure};
use uuid::Uuid;

use crate::{
    live::feed::Feed,
    oracle::{Candle, Expected},
};

/// Differences that are shown; the first ones say enough.
const SHOWN: usize = 8;

/// Records every change of a partition's owner and version, in the transaction that makes it.
pub const AUDIT: &str = "
    CREATE TABLE audit (generation integer, partition integer, version bigint, owner text);
    CREATE FUNCTION note_version() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS
    $$ BEGIN INSERT INTO audit VALUES (NEW.generation, NEW.partition, NEW.version, NEW.owner); RETURN NULL; END $$;
    CREATE TRIGGER audit AFTER INSERT OR UPDATE OF version ON partitions FOR EACH ROW EXECUTE FUNCTION note_version()";

/// Fails with all differences there are.
pub async fn check(feed: &Feed, expected: &Expected) -> Result<()> {
    let results = [
        ("stock_data", rows(feed, expected).await),
        ("candle_state", candles(feed, expected).await),
        ("partitions", partitions(feed, expected).await),
        ("publishers", publishers(feed, expected).await),
        ("quarantine", quarantine(feed, expected).await),
        ("gaps", none(feed, "gaps").await),
        ("late_ticks", none(feed, "late_ticks").await),
        ("owners", owners(feed).await),
    ];
    let wrong: Vec<_> = results
        .into_iter()
        .filter_map(|(table, result)| Some(format!("{table}: {:#}", result.err()?)))
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

async fn rows(feed: &Feed, expected: &Expected) -> Result<()> {
    let query = r#"SELECT symbol, (extract(epoch FROM "timestamp") * 1000000)::bigint, price::text, volume FROM stock_data"#;
    let mut found = BTreeMap::new();
    for (symbol, time, price, volume) in feed.rows::<(String, i64, String, Option<i64>)>(query).await? {
        *found
            .entry((symbol, time, units(&price, 10)?, volume))
            .or_default() += 1;
    }
    equal(&found, &expected.rows)
}

type CandleRow = (
    String,
    String,
    i64,
    i64,
    String,
    String,
    String,
    String,
    Option<i64>,
    i64,
    String,
    String,
    bool,
);

async fn candles(feed: &Feed, expected: &Expected) -> Result<()> {
    let query = "SELECT symbol, width, (extract(epoch FROM window_start) * 1000000)::bigint,
        (extract(epoch FROM window_end) * 1000000)::bigint, open::text, high::text, low::text, close::text, volume_total,
        tick_count, price_sum::text, price_square_sum::text, is_final FROM candle_state";
    let rows: Vec<CandleRow> = feed.rows(query).await?;
    let mut found = BTreeMap::new();
    for (symbol, width, start, end, open, high, low, close, volume, count, sum, squares, is_final) in rows {
        let key = (symbol, width, start);
        let candle = Candle {
            end,
            open: units(&open, 10)?,
            high: units(&high, 10)?,
            low: units(&low, 10)?,
            close: units(&close, 10)?,
            volume,
            count,
            sum: units(&sum, 10)?,
            squares: units(&squares, 20)?,
            is_final,
        };
        found.insert(key, candle);
    }
    equal(&found, &expected.candles)
}

async fn partitions(feed: &Feed, expected: &Expected) -> Result<()> {
    let query = "SELECT generation::bigint, partition::bigint, (extract(epoch FROM watermark) * 1000000)::bigint FROM partitions";
    let rows: Vec<(i64, i64, i64)> = feed.rows(query).await?;
    let found = rows
        .into_iter()
        .map(|(generation, partition, watermark)| ((generation, partition), watermark))
        .collect();
    equal(&found, &expected.watermarks)?;
    let poison: usize = expected.poison.values().sum();
    for (column, expected) in [
        ("messages", expected.messages),
        ("ticks", expected.ticks),
        ("quarantined", i64::try_from(poison)?),
        ("late", 0),
        ("gaps", 0),
    ] {
        let found = feed
            .number(&format!("SELECT sum({column}) FROM partitions"))
            .await?;
        ensure!(found == expected, "{column} is {found}, not {expected}");
    }
    Ok(())
}

type PublisherRow = (i64, i64, Uuid, Vec<i64>, Vec<i64>);

/// One run from 1 to the last number: nothing is missing, and nothing is taken for missing.
async fn publishers(feed: &Feed, expected: &Expected) -> Result<()> {
    let query = "SELECT generation::bigint, partition::bigint, publisher, first, last FROM publishers";
    let rows: Vec<PublisherRow> = feed.rows(query).await?;
    let found = rows
        .into_iter()
        .map(|(generation, partition, publisher, first, last)| {
            (((generation, partition), publisher), (first, last))
        })
        .collect();
    let expected = expected
        .publishers
        .iter()
        .map(|(key, last)| (*key, (vec![1], vec![*last])))
        .collect();
    equal(&found, &expected)
}

async fn quarantine(feed: &Feed, expected: &Expected) -> Result<()> {
    let query = "SELECT reason, publisher, sequence, raw FROM quarantine";
    let mut found: BTreeMap<_, usize> = BTreeMap::new();
    for (reason, publisher, sequence, raw) in feed
        .rows::<(String, Option<Uuid>, Option<i64>, Vec<u8>)>(query)
        .await?
    {
        let publisher = publisher.context("an entry without publisher")?;
        let sequence = sequence.context("an entry without sequence")?;
        // Of an entry among others only the reason is known here: how it is cut out of the body is the decoder's.
        let whole = (reason.clone(), publisher, sequence, Some(raw));
        let key = if expected.poison.contains_key(&whole) {
            whole
        } else {
            (reason, publisher, sequence, None)
        };
        *found.entry(key).or_default() += 1;
    }
    equal(&found, &expected.poison)
}

async fn none(feed: &Feed, table: &str) -> Result<()> {
    let found = feed.number(&format!("SELECT count(*) FROM {table}")).await?;
    ensure!(found == 0, "{found} rows");
    Ok(())
}

/// Each version was made once, and none by an owner that another one had followed: whoever lost a partition, dead, frozen
/// or robbed, wrote nothing afterwards.
async fn owners(feed: &Feed) -> Result<()> {
    let query = "SELECT generation::bigint, partition::bigint, version, owner FROM audit
                 ORDER BY generation, partition, version";
    let rows: Vec<(i64, i64, i64, String)> = feed.rows(query).await?;
    let mut former: BTreeMap<(i64, i64), Vec<String>> = BTreeMap::new();
    let mut versions: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for (generation, partition, version, owner) in rows {
        let key = (generation, partition);
        let next = versions.entry(key).or_insert(0);
        ensure!(version == *next, "{key:?} has version {version}, not {next}");
        *next += 1;
        if owner.is_empty() {
            // Whoever had it let it go.
            continue;
        }
        let former = former.entry(key).or_default();
        if former.last() != Some(&owner) {
            ensure!(
                !former.contains(&owner),
                "{key:?}, version {version}: {owner} wrote after another had taken over"
            );
            former.push(owner);
        }
    }
    let owners: usize = former.values().map(Vec::len).sum();
    println!(
        "{} commits and claims by {owners} owners",
        versions.values().sum::<i64>()
    );
    Ok(())
}

/// A decimal as a whole number of units of 10^-scale.
fn units(text: &str, scale: usize) -> Result<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    ensure!(fraction.len() <= scale, "{text} has more than {scale} decimals");
    format!("{whole}{fraction:0<scale$}")
        .parse()
        .with_context(|| format!("{text} is not a number"))
}

fn equal<K: Ord + Debug, V: PartialEq + Debug>(
    found: &BTreeMap<K, V>,
    expected: &BTreeMap<K, V>,
) -> Result<()> {
    let keys = found
        .keys()
        .chain(expected.keys().filter(|key| !found.contains_key(key)));
    let wrong: Vec<_> = keys
        .filter(|key| found.get(key) != expected.get(key))
        .map(|key| format!("\n  {key:?}: {:?}, not {:?}", found.get(key), expected.get(key)))
        .collect();
    ensure!(
        wrong.is_empty(),
        "{} differences{}",
        wrong.len(),
        wrong.into_iter().take(SHOWN).collect::<String>()
    );
    Ok(())
}
