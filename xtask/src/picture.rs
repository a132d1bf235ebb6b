//! `cargo xtask picture`: draws the timeline that the end-to-end test of autoscaling recorded.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, ensure};

use crate::workspace::Workspace;

const RECORDED: &str = "test/scaling.csv";
const PICTURE: &str = "docs/pictures/autoscaling.svg";
const COLUMNS: &str = "seconds,processors,wanted,backlog,ready,reason";

const WIDTH: f64 = 860.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = WIDTH - 20.0;
/// Upper and lower edge of what waits, and of the processors below it.
const BACKLOG: (f64, f64) = (40.0, 210.0);
const PROCESSORS: (f64, f64) = (260.0, 400.0);
const HEIGHT: f64 = 450.0;

/// One look of the test.
#[derive(Debug, PartialEq)]
struct Moment {
    seconds: f64,
    processors: f64,
    wanted: f64,
    backlog: f64,
}

/// Draws `docs/pictures/autoscaling.svg` from `target/test/scaling.csv`.
pub fn run(workspace: &Workspace) -> Result<()> {
    let recorded = workspace.artefacts.join(RECORDED);
    let text = fs::read_to_string(&recorded).with_context(|| {
        format!(
            "there is no {}: run the end-to-end test `scaling`, which records it",
            recorded.display()
        )
    })?;
    let picture = workspace.path(PICTURE);
    if let Some(folder) = picture.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&picture, draw(&read(&text)?))
        .with_context(|| format!("failed to write {}", picture.display()))?;
    println!("    wrote {}", picture.display());
    Ok(())
}

fn read(text: &str) -> Result<Vec<Moment>> {
    let mut lines = text.lines();
    ensure!(
        lines.next() == Some(COLUMNS),
        "the recording has other columns than {COLUMNS}"
    );
    let moments: Vec<Moment> = lines
        .map(|line| {
            let mut numbers = line.split(',').map(str::parse::<f64>);
            let mut next = || {
                numbers
                    .next()
                    .context("a line is too short")?
                    .context("not a number")
            };
            Ok(Moment {
                seconds: next()?,
                processors: next()?,
                wanted: next()?,
                backlog: next()?,
            })
        })
        .collect::<Result<_>>()?;
    ensure!(moments.len() > 1, "the recording is empty");
    Ok(moments)
}

fn draw(moments: &[Moment]) -> String {
    let end = moments.iter().map(|moment| moment.seconds).fold(1.0, f64::max);
    let most = |of: fn(&Moment) -> f64| moments.iter().map(of).fold(1.0, f64::max);
    let messages = round_up(most(|moment| moment.backlog));
    let processors = most(|moment| moment.processors.max(moment.wanted));
    let x = |seconds: f64| LEFT + (RIGHT - LEFT) * seconds / end;
    let y = |(top, bottom): (f64, f64), value: f64, of: f64| bottom - (bottom - top) * value / of;

    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">
<title>A burst takes the processors of a feed from one to four and back</title>
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>
"##
    );
    let mut label = |x: f64, y: f64, anchor: &str, text: &str| {
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            svg,
            r##"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="#333333">{text}</text>"##
        );
    };
    label(LEFT, BACKLOG.0 - 14.0, "start", "messages that wait");
    label(
        LEFT,
        PROCESSORS.0 - 14.0,
        "start",
        "processors: ready (filled) and wanted (line)",
    );
    label(RIGHT, HEIGHT - 12.0, "end", "seconds");
    let mut lines = String::new();
    let mut line = |y: f64| {
        let _infallible = writeln!(
            lines,
            r##"<line x1="{LEFT}" y1="{y:.1}" x2="{RIGHT}" y2="{y:.1}" stroke="#dddddd"/>"##
        );
    };
    for quarter in 0..=4_u8 {
        let value = messages * f64::from(quarter) / 4.0;
        let here = y(BACKLOG, value, messages);
        label(LEFT - 8.0, here + 4.0, "end", &format!("{value:.0}"));
        line(here);
    }
    for number in 0..=64_u8 {
        let value = f64::from(number);
        if value <= processors {
            let here = y(PROCESSORS, value, processors);
            label(LEFT - 8.0, here + 4.0, "end", &number.to_string());
            line(here);
        }
    }
    let step = round_up(end / 8.0);
    for number in 0..=8_u8 {
        let seconds = step * f64::from(number);
        if seconds <= end {
            label(
                x(seconds),
                PROCESSORS.1 + 20.0,
                "middle",
                &format!("{seconds:.0}"),
            );
        }
    }
    svg.push_str(&lines);

    let waiting: Vec<_> = moments
        .iter()
        .map(|moment| (x(moment.seconds), y(BACKLOG, moment.backlog, messages)))
        .collect();
    let steps = |of: fn(&Moment) -> f64| {
        let mut points: Vec<(f64, f64)> = Vec::new();
        for moment in moments {
            let (here, height) = (x(moment.seconds), y(PROCESSORS, of(moment), processors));
            if let Some((_, before)) = points.last().copied() {
                points.push((here, before));
            }
            points.push((here, height));
        }
        points
    };
    area(&mut svg, &waiting, BACKLOG.1, "#4c78a8");
    area(
        &mut svg,
        &steps(|moment| moment.processors),
        PROCESSORS.1,
        "#72b7b2",
    );
    let _infallible = writeln!(
        svg,
        r##"<polyline points="{}" fill="none" stroke="#e45756" stroke-width="2"/>"##,
        points(&steps(|moment| moment.wanted))
    );
    svg.push_str("</svg>\n");
    svg
}

/// Fills what is below a line.
fn area(svg: &mut String, line: &[(f64, f64)], bottom: f64, color: &str) {
    let (Some((first, _)), Some((last, _))) = (line.first(), line.last()) else {
        return;
    };
    let _infallible = writeln!(
        svg,
        r#"<polygon points="{first:.1},{bottom:.1} {} {last:.1},{bottom:.1}" fill="{color}" fill-opacity="0.6"/>"#,
        points(line)
    );
}

fn points(line: &[(f64, f64)]) -> String {
    let points: Vec<String> = line.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    points.join(" ")
}

/// The next of 1, 2, 4, 5 or 10 times a power of ten.
fn round_up(number: f64) -> f64 {
    let magnitude = 10_f64.powf(number.max(1.0).log10().floor());
    [1.0, 2.0, 4.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * magnitude)
        .find(|round| *round >= number)
        .unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_drawn() {
        let text = format!(
            "{COLUMNS}\n0.0,1,1,0,true,Steady\n10.0,1,2,3000,true,CatchingUp\n20.0,2,2,500,false,Steady\n"
        );
        let moments = read(&text).unwrap();
        assert_eq!(
            moments[1],
            Moment {
                seconds: 10.0,
                processors: 1.0,
                wanted: 2.0,
                backlog: 3_000.0
            }
        );
        let svg = draw(&moments);
        // From one processor to two at the tenth second: half of the way, from half of the height to all of it.
        assert!(
            svg.contains(r#"<polyline points="70.0,330.0 455.0,330.0 455.0,260.0 840.0,260.0 840.0,260.0""#),
            "{svg}"
        );
        assert!(svg.contains(">4000<"), "{svg}");
    }

    #[test]
    fn another_recording_is_refused() {
        assert!(read("seconds,messages\n1,2\n").is_err());
        assert!(read(&format!("{COLUMNS}\n")).is_err());
        assert!(read(&format!("{COLUMNS}\n1,2\n1,2\n")).is_err());
    }

    #[test]
    fn axes_end_at_round_numbers() {
        let round: Vec<f64> = [0.3, 1.0, 3.0, 43.0, 59_000.0].map(round_up).into();
        assert_eq!(round, [1.0, 1.0, 4.0, 50.0, 100_000.0]);
    }
}
