//! Bodies, headers and types: valid, nearly valid, and nothing like it.

use lapin::{
    protocol::basic::AMQPProperties,
    types::{AMQPValue, FieldArray, FieldTable},
};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom as _};

/// What a consumer is handed.
#[derive(Debug)]
pub struct Delivery {
    pub properties: AMQPProperties,
    pub body: Vec<u8>,
}

const PUBLISHER: &str = "019a0000-0000-7000-8000-000000000001";

/// Values of fields, right and wrong; each is JSON.
const VALUES: &[&str] = &[
    r#""AAPL""#,
    r#""MSFT""#,
    r#""^GSPC""#,
    r#""aapl""#,
    r#""2026-11-20T20:00:00Z""#,
    r#""2026-11-20T20:00:00.123456789+02:00""#,
    r#""-009999-01-01T00:00:00Z""#,
    r#""+999999-12-31T23:59:60Z""#,
    r#""9999-12-31T23:59:59.999999999Z""#,
    r#""yesterday""#,
    "228.12",
    r#""228.12""#,
    "0",
    "-0",
    "-1",
    "1e0",
    "1e-30",
    "1E+400",
    "1e99999999999999999999",
    "1.00000000000000000000000000000000000001",
    "79228162514264337593543950335",
    "79228162514264337593543950336",
    "9223372036854775807",
    "9223372036854775808",
    "0.00000000001",
    "null",
    "true",
    "[]",
    "{}",
    r#""""#,
    r#""\u0000""#,
    r#""\ud800""#,
    r#""\ud83d\ude00""#,
    r#""NaN""#,
    r#""Infinity""#,
    r#""0x10""#,
    r#""\u0041APL""#,
    "\"\u{7f}\u{80}\u{feff}\"",
];

const FIELDS: &[&str] = &[
    "symbol",
    "price",
    "event_time",
    "volume",
    "market_cap",
    "open",
    "day_high",
    "day_low",
    "previous_close",
    "change",
    "change_percentage",
    "exchange",
    "name",
    "unknown",
    "symbol",
    "",
    "pri\\u0063e",
];

const KINDS: &[&str] = &[
    "stockfeed.ticks.v2",
    "",
    "text/plain",
    "STOCKFEED.TICKS.V1",
    "\u{0}",
];

pub fn delivery(random: &mut StdRng) -> Delivery {
    Delivery {
        properties: properties(random),
        body: body(random),
    }
}

fn properties(random: &mut StdRng) -> AMQPProperties {
    let mut properties = AMQPProperties::default();
    if random.random_bool(0.95) {
        let kind = match random.random_range(0..20) {
            0 => *pick(random, KINDS),
            _ => contract::tick::MESSAGE_TYPE,
        };
        properties = properties.with_type(kind.into());
    }
    if random.random_bool(0.9) {
        let mut headers = FieldTable::default();
        for (name, likely) in [("publisher", 0.9), ("sequence", 0.9), ("event_time", 0.15)] {
            if random.random_bool(likely) {
                headers.insert(name.into(), header(name, random));
            }
        }
        if random.random_bool(0.1) {
            headers.insert("published_at".into(), value(random));
        }
        properties = properties.with_headers(headers);
    }
    properties
}

fn header(name: &str, random: &mut StdRng) -> AMQPValue {
    if random.random_bool(0.1) {
        return value(random);
    }
    match name {
        "publisher" => AMQPValue::LongString(PUBLISHER.into()),
        "sequence" => AMQPValue::LongLongInt(random.random_range(1..100)),
        _ => AMQPValue::LongString("2026-11-20T20:00:00Z".into()),
    }
}

/// A header of any type.
fn value(random: &mut StdRng) -> AMQPValue {
    match random.random_range(0..16) {
        0 => AMQPValue::Boolean(random.random()),
        1 => AMQPValue::ShortShortInt(random.random()),
        2 => AMQPValue::ShortShortUInt(random.random()),
        3 => AMQPValue::ShortInt(random.random()),
        4 => AMQPValue::ShortUInt(random.random()),
        5 => AMQPValue::LongInt(random.random()),
        6 => AMQPValue::LongUInt(random.random()),
        7 => AMQPValue::LongLongInt(*pick(random, &[i64::MIN, -1, 0, 1, i64::MAX])),
        8 => AMQPValue::Float(f32::NAN),
        9 => AMQPValue::Double(f64::INFINITY),
        10 => AMQPValue::Timestamp(random.random()),
        11 => AMQPValue::FieldTable(FieldTable::default()),
        12 => AMQPValue::FieldArray(FieldArray::default()),
        13 => AMQPValue::LongString(junk(random, 40).into()),
        14 => AMQPValue::ByteArray(junk(random, 40).into()),
        _ => AMQPValue::Void,
    }
}

fn body(random: &mut StdRng) -> Vec<u8> {
    match random.random_range(0..100) {
        0..3 => b"[]".to_vec(),
        3..10 => junk(random, 200),
        10..12 => nested(random),
        12..20 => tick(random).into_bytes(),
        20..22 => pick(random, VALUES).as_bytes().to_vec(),
        shape => {
            let entries: Vec<_> = (0..random.random_range(1..4))
                .map(|_| {
                    if random.random_bool(0.05) {
                        (*pick(random, VALUES)).to_owned()
                    } else {
                        tick(random)
                    }
                })
                .collect();
            let mut body = format!("[{}]", entries.join(",")).into_bytes();
            if shape < 60 {
                mutate(&mut body, random);
            }
            body
        }
    }
}

/// An entry whose fields are mostly right, in any order, some twice.
fn tick(random: &mut StdRng) -> String {
    let mut fields = vec![
        r#""symbol":"AAPL""#.to_owned(),
        r#""price":"228.12""#.to_owned(),
        r#""event_time":"2026-11-20T20:00:00Z""#.to_owned(),
    ];
    for _ in 0..random.random_range(0..3) {
        let field = format!(r#""{}":{}"#, pick(random, FIELDS), pick(random, VALUES));
        let place = random.random_range(0..fields.len());
        if random.random_bool(0.5) {
            fields[place] = field;
        } else {
            fields.insert(place, field);
        }
    }
    format!("{{{}}}", fields.join(","))
}

/// Deeper than any parser should follow.
fn nested(random: &mut StdRng) -> Vec<u8> {
    let (open, close) = *pick(random, &[("[", "]"), (r#"{"price":"#, "}"), (r#"[{"a":"#, "}]")]);
    let depth = random.random_range(1..3_000);
    let closed = if random.random_bool(0.7) {
        depth
    } else {
        random.random_range(0..depth)
    };
    format!("{}{}", open.repeat(depth), close.repeat(closed)).into_bytes()
}

/// A few bytes changed, removed, doubled or put in.
fn mutate(body: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..4) {
        let place = random.random_range(0..body.len());
        match random.random_range(0..5) {
            0 => body[place] = random.random(),
            1 => body[place] ^= 1 << random.random_range(0..8),
            2 => body.insert(place, *pick(random, b"\0\"\\{}[],:e-+.9\xff\xc0\n ")),
            3 => body.truncate(place + 1),
            _ => {
                let end = random.random_range(place..body.len());
                let piece = body[place..end].to_vec();
                body.splice(place..place, piece);
            }
        }
    }
}

fn junk(random: &mut StdRng, longest: usize) -> Vec<u8> {
    (0..random.random_range(0..longest))
        .map(|_| random.random())
        .collect()
}

fn pick<'a, T>(random: &mut StdRng, from: &'a [T]) -> &'a T {
    // Never empty: the lists are those above.
    from.choose(random).unwrap_or(&from[0])
}
