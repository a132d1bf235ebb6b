//! Which weekdays are not trading days, and which end early.
//!
//! The rules are those of NYSE Rule 7.2 as it has stood since 2022, with Juneteenth from then on. Holidays agree with the
//! published calendars since 1998, half days since 2004.

use jiff::civil::{Date, Weekday};

/// The first year in which the exchange closed on Juneteenth.
const FIRST_JUNETEENTH: i16 = 2022;

/// Weekdays that were to be trading days.
const UNSCHEDULED_CLOSURES: [(i16, i8, i8); 10] = [
    // The attack on the World Trade Center.
    (2001, 9, 11),
    (2001, 9, 12),
    (2001, 9, 13),
    (2001, 9, 14),
    // Mourning for President Reagan.
    (2004, 6, 11),
    // Mourning for President Ford.
    (2007, 1, 2),
    // Hurricane Sandy.
    (2012, 10, 29),
    (2012, 10, 30),
    // Mourning for President George H. W. Bush.
    (2018, 12, 5),
    // Mourning for President Carter.
    (2025, 1, 9),
];

/// Whether a weekday is a holiday, or the day on which one is observed.
pub(super) fn is_holiday(date: Date) -> bool {
    is_new_years_day(date)
        || is_martin_luther_king_day(date)
        || is_washingtons_birthday(date)
        || is_good_friday(date)
        || is_memorial_day(date)
        || is_juneteenth(date)
        || is_observed(date, 7, 4)
        || is_labor_day(date)
        || is_thanksgiving(date)
        || is_observed(date, 12, 25)
}

/// Whether the exchange was closed without a rule that says so.
pub(super) fn is_unscheduled_closure(date: Date) -> bool {
    UNSCHEDULED_CLOSURES.contains(&(date.year(), date.month(), date.day()))
}

/// Whether a day ends early, if it is a trading day: the one after Thanksgiving, Christmas Eve, and July 3 before a holiday
/// on July 4. Where the latter two are holidays themselves, or on a weekend, no other day takes their place.
pub(super) fn is_eve_of_a_holiday(date: Date) -> bool {
    date.yesterday().is_ok_and(is_thanksgiving)
        || is_on(date, 12, 24)
        // On a Friday it is the holiday itself. On a Monday to Thursday, July 4 is a Tuesday to Friday.
        || is_on(date, 7, 3)
}

/// January 1, or Monday after a Sunday. On a Saturday it is not observed: Friday ends the accounts of the year.
fn is_new_years_day(date: Date) -> bool {
    is_on(date, 1, 1) || is_monday_after(date, 1, 1)
}

fn is_martin_luther_king_day(date: Date) -> bool {
    date.month() == 1 && is_nth(date, 3, Weekday::Monday)
}

fn is_washingtons_birthday(date: Date) -> bool {
    date.month() == 2 && is_nth(date, 3, Weekday::Monday)
}

fn is_good_friday(date: Date) -> bool {
    // Two days later is the same year: Easter is in March or April.
    let sunday = date.tomorrow().and_then(Date::tomorrow);
    date.weekday() == Weekday::Friday
        && sunday.is_ok_and(|sunday| (sunday.month(), sunday.day()) == easter(sunday.year()))
}

/// The last Monday of May.
fn is_memorial_day(date: Date) -> bool {
    date.month() == 5 && date.weekday() == Weekday::Monday && date.day() > 31 - 7
}

fn is_juneteenth(date: Date) -> bool {
    date.year() >= FIRST_JUNETEENTH && is_observed(date, 6, 19)
}

fn is_labor_day(date: Date) -> bool {
    date.month() == 9 && is_nth(date, 1, Weekday::Monday)
}

fn is_thanksgiving(date: Date) -> bool {
    date.month() == 11 && is_nth(date, 4, Weekday::Thursday)
}

/// The day itself, Friday before a Saturday, or Monday after a Sunday.
fn is_observed(date: Date, month: i8, day: i8) -> bool {
    is_on(date, month, day) || is_friday_before(date, month, day) || is_monday_after(date, month, day)
}

fn is_on(date: Date, month: i8, day: i8) -> bool {
    (date.month(), date.day()) == (month, day)
}

fn is_friday_before(date: Date, month: i8, day: i8) -> bool {
    date.weekday() == Weekday::Friday && date.tomorrow().is_ok_and(|date| is_on(date, month, day))
}

fn is_monday_after(date: Date, month: i8, day: i8) -> bool {
    date.weekday() == Weekday::Monday && date.yesterday().is_ok_and(|date| is_on(date, month, day))
}

/// Whether it is the first, second, … such weekday of its month.
fn is_nth(date: Date, nth: i8, weekday: Weekday) -> bool {
    date.weekday() == weekday && (date.day() - 1) / 7 + 1 == nth
}

/// Month and day of Easter Sunday in the Gregorian calendar: the first Sunday after the full moon, as the church reckons it,
/// on or after March 21. This is the anonymous Gregorian algorithm that appeared in Nature in 1876.
fn easter(year: i16) -> (i8, i8) {
    let year = i32::from(year);
    let century = year.div_euclid(100);
    let in_century = year.rem_euclid(100);
    // The moon's phases fall on the same days after 19 years, but for the two corrections of the century.
    let golden = year.rem_euclid(19);
    let moon_correction = (8 * century + 13).div_euclid(25);
    let leap_correction = century.div_euclid(4);
    let epact = (19 * golden + century - leap_correction - moon_correction + 15).rem_euclid(30);
    // Days from March 21 to the full moon, less the exception that keeps two full moons of a cycle apart.
    let exception = (golden + 11 * epact).div_euclid(319);
    let full_moon = epact - exception;
    // Days from the full moon to the Sunday after it, less one.
    let weekday =
        (2 * century.rem_euclid(4) + 2 * (in_century / 4) - in_century % 4 - full_moon + 32).rem_euclid(7);
    let days = full_moon + weekday + 22;
    match i8::try_from(days) {
        Ok(day @ ..=31) => (3, day),
        Ok(day) => (4, day - 31),
        // Cannot happen: there are at most 29 + 6 + 22 days.
        Err(_) => (4, 0),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // From `dateutil.easter` of Python, with the earliest (1818, 2285) and the latest (1943, 2038) there are.
    #[rstest]
    #[case(1600, 4, 2)]
    #[case(1818, 3, 22)]
    #[case(1943, 4, 25)]
    #[case(1954, 4, 18)]
    #[case(1961, 4, 2)]
    #[case(1981, 4, 19)]
    #[case(2000, 4, 23)]
    #[case(2008, 3, 23)]
    #[case(2011, 4, 24)]
    #[case(2026, 4, 5)]
    #[case(2038, 4, 25)]
    #[case(2049, 4, 18)]
    #[case(2076, 4, 19)]
    #[case(2285, 3, 22)]
    fn easter_is_where_the_tables_have_it(#[case] year: i16, #[case] month: i8, #[case] day: i8) {
        assert_eq!(easter(year), (month, day));
    }

    #[test]
    fn easter_is_a_sunday_from_march_22_to_april_25_of_every_year() {
        for year in -9999..=9999 {
            let (month, day) = easter(year);
            assert!(((3, 22)..=(4, 25)).contains(&(month, day)), "{year}");
            let date = Date::new(year, month, day).unwrap();
            assert_eq!(date.weekday(), Weekday::Sunday, "{year}");
        }
    }
}
