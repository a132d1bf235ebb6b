//! What counts as a difference, and how it reads.

use super::*;

fn fact(kind: Kind, object: &str, part: &str, definition: &str) -> Fact {
    Fact {
        kind,
        object: object.to_owned(),
        part: part.to_owned(),
        digest: definition.to_owned(),
        definition: definition.to_owned(),
        place: 0,
        make: None,
        live: None,
        undo: None,
    }
}

fn expected() -> Vec<Fact> {
    vec![
        fact(Kind::Schema, "schema", "", ""),
        fact(Kind::Owner, "table gaps", "", "the administrator"),
        fact(Kind::RoleAttribute, "role writer", "SUPERUSER", "false"),
        fact(Kind::Table, "table gaps", "", "ordinary"),
        fact(Kind::Column, "table gaps", "publisher", "uuid"),
        fact(Kind::NotNull, "table gaps", "publisher", ""),
        fact(Kind::Default, "table gaps", "publisher", "1"),
        fact(Kind::Index, "table gaps", "gaps_detected_at", "CREATE INDEX"),
        fact(Kind::View, "view candles", "", "SELECT"),
        fact(Kind::Function, "function get_all_symbols()", "", "CREATE"),
        fact(Kind::Grant, "table gaps", "the owner", "INSERT, SELECT"),
        fact(Kind::Grant, "table gaps", "reader SELECT", ""),
        fact(Kind::Grant, "view candles", "reader SELECT", ""),
    ]
}

/// What differs when the expected facts were changed, in words.
fn said(change: impl FnOnce(&mut Vec<Fact>)) -> Vec<String> {
    let mut found = expected();
    change(&mut found);
    let expected = expected().into_iter().map(|fact| (fact.key(), fact)).collect();
    compare(&expected, found)
        .iter()
        .map(|difference| difference.say("is"))
        .collect()
}

fn without(facts: &mut Vec<Fact>, kind: Kind, part: &str) {
    facts.retain(|fact| (fact.kind, fact.part.as_str()) != (kind, part));
}

fn change(facts: &mut [Fact], kind: Kind, part: &str, definition: &str) {
    for fact in facts
        .iter_mut()
        .filter(|fact| (fact.kind, fact.part.as_str()) == (kind, part))
    {
        fact.definition = definition.to_owned();
        fact.digest = definition.to_owned();
    }
}

#[test]
fn nothing_differs_where_all_is_as_expected_and_others_have_their_own() {
    let none = said(|found| {
        found.push(fact(Kind::Table, "table mine", "", "ordinary"));
        found.push(fact(Kind::Column, "table gaps", "note", "text"));
        found.push(fact(Kind::NotNull, "table gaps", "note", ""));
        found.push(fact(Kind::Default, "table gaps", "note", "''"));
        found.push(fact(Kind::Index, "table gaps", "mine", "CREATE INDEX"));
        found.push(fact(Kind::Constraint, "table gaps", "mine", "CHECK (true)"));
        found.push(fact(Kind::Option, "table gaps", "autovacuum_enabled", "true"));
        let overloaded = "function get_all_symbols(text)";
        found.push(fact(Kind::Function, overloaded, "", "CREATE"));
        found.push(fact(Kind::Owner, overloaded, "", "somebody"));
        found.push(fact(Kind::Grant, overloaded, "PUBLIC EXECUTE", ""));
    });
    assert_eq!(none, Vec::<String>::new());
}

#[test]
fn what_is_missing_or_changed_is_named() {
    let of = |kind, part| said(|found| without(found, kind, part));
    assert_eq!(of(Kind::View, ""), ["view candles is missing"]);
    assert_eq!(of(Kind::Function, ""), ["function get_all_symbols() is missing"]);
    assert_eq!(
        of(Kind::Index, "gaps_detected_at"),
        ["index gaps_detected_at of table gaps is missing"]
    );
    assert_eq!(
        of(Kind::NotNull, "publisher"),
        ["NOT NULL of column publisher of table gaps is missing"]
    );
    let to = |kind, part, definition| said(|found| change(found, kind, part, definition));
    assert_eq!(to(Kind::View, "", "SELECT 1"), ["view candles is changed"]);
    assert_eq!(
        to(Kind::Owner, "", "mallory"),
        ["the owner of table gaps is mallory instead of the administrator"]
    );
    assert_eq!(
        to(Kind::RoleAttribute, "SUPERUSER", "true"),
        ["SUPERUSER of role writer is true instead of false"]
    );
    assert_eq!(
        to(Kind::Column, "publisher", "text"),
        ["column publisher of table gaps is text instead of uuid"]
    );
    assert_eq!(
        to(Kind::Grant, "the owner", "SELECT"),
        ["the right of the owner on table gaps is SELECT only"]
    );
}

#[test]
fn what_belongs_to_something_missing_is_missing_with_it() {
    assert_eq!(
        said(|found| found.retain(|fact| fact.object != "table gaps")),
        ["table gaps is missing"]
    );
    assert_eq!(
        said(|found| found.retain(|fact| fact.part != "publisher")),
        ["column publisher of table gaps is missing"]
    );
}

#[test]
fn rights_and_memberships_that_nobody_expects_are_named_and_so_are_defaults_of_our_columns() {
    let extra = [
        (
            fact(Kind::Grant, "table gaps", "PUBLIC SELECT", ""),
            "the right of PUBLIC SELECT on table gaps is not ours",
        ),
        (
            fact(Kind::Grant, "table stock_data_20261123", "reader DELETE", ""),
            "the right of reader DELETE on table stock_data_20261123 is not ours",
        ),
        (
            fact(Kind::Owner, "table stock_data_20261123", "", "mallory"),
            "the owner of table stock_data_20261123 is mallory",
        ),
        (
            fact(Kind::Membership, "role reader", "pg_monitor", "postgres"),
            "role reader's membership in pg_monitor is not ours",
        ),
        (
            fact(
                Kind::DefaultPrivilege,
                "schema",
                "PUBLIC SELECT on new tables",
                "",
            ),
            "the right of PUBLIC SELECT on new tables is not ours",
        ),
    ];
    for (fact, text) in extra {
        assert_eq!(said(|found| found.push(fact)), [text]);
    }
}

#[test]
fn what_all_feeds_share_may_be_of_a_later_release_but_has_to_be_there() {
    let shared = "function stockfeed.take_calls(text)";
    let ours = fact(Kind::Function, shared, "", "CREATE");
    let expected: BTreeMap<_, _> = [(ours.key(), ours)].into();
    let later = fact(Kind::Function, shared, "", "CREATE later");
    assert_eq!(compare(&expected, vec![later]), []);
    assert_eq!(compare(&expected, Vec::new())[0].how, How::Missing);
}

#[test]
fn owners_come_first_and_grants_last() {
    let order = said(|found| {
        without(found, Kind::Grant, "reader SELECT");
        without(found, Kind::View, "");
        without(found, Kind::Index, "gaps_detected_at");
        change(found, Kind::Owner, "", "mallory");
    });
    assert_eq!(
        order,
        [
            "the owner of table gaps is mallory instead of the administrator",
            "index gaps_detected_at of table gaps is missing",
            "view candles is missing",
            "the right of reader SELECT on table gaps is missing",
        ]
    );
}
