//! Quarantine: listed, released, discarded.

mod support;

use anyhow::Result;
use sqlx::{PgConnection, Row as _};
use support::{denied, execute, login, migrated, text};

async fn fill(writer: &mut PgConnection) -> Result<()> {
    execute(
        writer,
        r"INSERT INTO quarantine (generation, partition, reason, detail, publisher, sequence, raw, queue) VALUES
              (1, 0, 'malformed', 'not JSON', NULL, NULL, 'nönsense \', NULL),
              (1, 0, 'malformed', 'not JSON', NULL, NULL, '\xff00', NULL),
              (1, 1, 'price', 'zero', '018f0000-0000-7000-8000-000000000001', 7, '[]', NULL),
              (1, 1, 'delivery_limit', 'died', '018f0000-0000-7000-8000-000000000001', 8, '[]', 'markets.tech.ticks.1.1')"
            .replace("'nönsense \\'", "convert_to('nönsense \\', 'UTF8')")
            .as_str(),
    )
    .await
}

#[tokio::test]
async fn lists_bytes_as_text() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    fill(&mut writer).await?;
    let mut reader = login(&database, &feed.reader_role(), &mut admin).await?;
    for connection in [&mut writer, &mut reader] {
        let rows = sqlx::query("SELECT * FROM list_quarantine()")
            .fetch_all(&mut *connection)
            .await?;
        let raw: Vec<String> = rows.iter().map(|row| row.get("raw")).collect();
        assert_eq!(raw, ["[]", "[]", "\\377\\000", "nönsense \\"]);
        assert_eq!(rows[0].get::<String, _>("queue"), "markets.tech.ticks.1.1");
        let malformed = text(connection, "SELECT count(*) FROM list_quarantine('malformed')").await?;
        assert_eq!(malformed, "2");
        let one = text(connection, "SELECT count(*) FROM list_quarantine(max_rows => 1)").await?;
        assert_eq!(one, "1");
        let none = text(connection, "SELECT count(*) FROM list_quarantine(max_rows => -1)").await?;
        assert_eq!(none, "0");
    }
    Ok(())
}

#[tokio::test]
async fn releases_and_discards_and_counts() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    fill(&mut writer).await?;
    let released =
        "SELECT string_agg(id::text, ' ' ORDER BY id) FROM quarantine WHERE released_at IS NOT NULL";
    assert_eq!(
        text(&mut writer, "SELECT release_quarantined(ARRAY[1, 3, 99])").await?,
        "2"
    );
    assert_eq!(
        text(&mut writer, "SELECT release_quarantined(ARRAY[1])").await?,
        "0"
    );
    assert_eq!(text(&mut writer, "SELECT release_quarantined(NULL)").await?, "0");
    assert_eq!(
        text(&mut writer, "SELECT release_quarantined_by_reason('malformed')").await?,
        "1"
    );
    assert_eq!(text(&mut writer, released).await?, "1 2 3");

    // The processor's side: what succeeds goes, what does not comes back with its new reason.
    execute(
        &mut writer,
        "BEGIN; DELETE FROM quarantine WHERE id = 3;
         UPDATE quarantine SET released_at = NULL, reason = 'symbol', detail = 'unknown' WHERE id = 1; COMMIT",
    )
    .await?;
    assert_eq!(text(&mut writer, released).await?, "2");
    denied(&mut writer, "UPDATE quarantine SET raw = ''").await;

    assert_eq!(
        text(&mut writer, "SELECT discard_quarantined(ARRAY[1, 3])").await?,
        "1"
    );
    assert_eq!(
        text(
            &mut writer,
            "SELECT discard_quarantined_by_reason('delivery_limit')"
        )
        .await?,
        "1"
    );
    assert_eq!(text(&mut writer, "SELECT count(*) FROM quarantine").await?, "1");

    let mut reader = login(&database, &feed.reader_role(), &mut admin).await?;
    for statement in [
        "SELECT release_quarantined(ARRAY[2])",
        "SELECT release_quarantined_by_reason('malformed')",
        "SELECT discard_quarantined(ARRAY[2])",
        "SELECT discard_quarantined_by_reason('malformed')",
        "DELETE FROM quarantine",
    ] {
        denied(&mut reader, statement).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_dead_letter_is_kept_once() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    let again = "INSERT INTO quarantine (generation, partition, reason, detail, publisher, sequence, raw, queue)
                 SELECT 1, 1, 'delivery_limit', 'died', publisher, 8, '', 'q'
                 FROM (VALUES ('018f0000-0000-7000-8000-000000000001'::uuid), (NULL)) AS dead (publisher)
                 ON CONFLICT (generation, partition, publisher, sequence) WHERE reason = 'delivery_limit' DO NOTHING";
    execute(&mut writer, again).await?;
    execute(&mut writer, again).await?;
    // Without a publisher there is no telling.
    let kept = "SELECT concat_ws(' ', count(publisher), count(*)) FROM quarantine";
    assert_eq!(text(&mut writer, kept).await?, "1 3");
    // The same message may be here for another reason.
    execute(
        &mut writer,
        "INSERT INTO quarantine (generation, partition, reason, detail, publisher, sequence, raw)
         SELECT generation, partition, 'price', 'zero', publisher, sequence, raw FROM quarantine",
    )
    .await?;
    Ok(())
}
