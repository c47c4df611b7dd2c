//! One page that shows what the players noticed over time: who was away, what was refused and done, the faults as marks, and
//! memory and descriptors of each process. Self-contained: inline SVG, no script, nothing loaded.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::events::{self, Event};
use super::run::{Happened, Options};
use super::samples::{Sample, Samples};

/// The drawing's width and a chart's height, in pixels; the left margin has the scale.
const WIDTH: f64 = 1_200.0;
const HEIGHT: f64 = 130.0;
const LEFT: f64 = 60.0;
/// Columns of a chart, at most.
const COLUMNS: u64 = 1_000;
/// Codes of refusals that have a colour of their own.
const CODES: usize = 6;
const COLOURS: [&str; 11] = [
    "#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0",
    "#1b1b1b",
];

/// What is drawn.
pub(super) struct Seen<'a> {
    pub(super) options: &'a Options,
    pub(super) happened: &'a [Happened],
    pub(super) samples: &'a Samples,
    pub(super) events: &'a [Event],
    pub(super) text: &'a str,
}

/// One line of a chart: its name, and values over columns.
type Line = (String, Vec<(f64, f64)>);

struct Scale {
    from_ms: u64,
    to_ms: u64,
    column_ms: u64,
}

impl Scale {
    fn x(&self, at_ms: u64) -> f64 {
        let part = at_ms.saturating_sub(self.from_ms) as f64 / (self.to_ms - self.from_ms).max(1) as f64;
        LEFT + part.min(1.0) * (WIDTH - LEFT - 10.0)
    }

    fn columns(&self) -> u64 {
        (self.to_ms - self.from_ms).div_ceil(self.column_ms).max(1)
    }

    fn column(&self, at_ms: u64) -> u64 {
        (at_ms.saturating_sub(self.from_ms) / self.column_ms).min(self.columns() - 1)
    }

    fn line(&self, name: &str, values: &[f64]) -> Line {
        let at = |i: usize| self.x(self.from_ms + i as u64 * self.column_ms);
        (name.to_owned(), values.iter().enumerate().map(|(i, value)| (at(i), *value)).collect())
    }
}

/// The page.
pub(super) fn page(seen: &Seen<'_>) -> String {
    let from_ms = seen.events.first().map_or(0, |event| event.at_ms);
    let to_ms = seen.events.last().map_or(1, |event| event.at_ms).max(from_ms + 1);
    let column_ms = (to_ms - from_ms).div_ceil(COLUMNS).max(1_000);
    let scale = Scale { from_ms, to_ms, column_ms };
    let mut page = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>Chaos, seed {seed}</title><style>body{{font:14px sans-serif;margin:24px;\
         color:#1b1b1b}}pre{{background:#f4f4f2;padding:12px;white-space:pre-wrap}}svg{{display:block;margin:4px 0 18px}}\
         h2{{font-size:15px;margin:0}}.k{{font-size:11px}}</style><h1>Chaos, seed {seed}</h1><pre>{text}</pre>",
        seed = seen.options.seed,
        text = escape(seen.text)
    );
    chart(&mut page, seen, &scale, "Players who cannot play", &[scale.line("away", &away(seen, &scale))]);
    chart(&mut page, seen, &scale, "Connections lost per column, by cause", &counted(seen, &scale, "lost"));
    chart(&mut page, seen, &scale, "Commands refused per column, by code", &counted(seen, &scale, "refused"));
    chart(&mut page, seen, &scale, "Acts acknowledged per column", &[scale.line("acknowledged", &done(seen, &scale))]);
    let lines = |value: fn(&Sample) -> f64| -> Vec<Line> {
        let line = |samples: &Vec<Sample>| samples.iter().map(|it| (scale.x(it.at_ms), value(it))).collect();
        seen.samples.of.iter().map(|(name, samples)| (name.clone(), line(samples))).collect()
    };
    chart(&mut page, seen, &scale, "Memory of each process, MiB (without mapped files)", &lines(|it| it.memory_mib));
    chart(&mut page, seen, &scale, "Descriptors of each process", &lines(|it| it.descriptors));
    page.push_str("<h2>Faults</h2><pre>");
    for it in seen.happened {
        let at = it.at_ms.saturating_sub(from_ms) as f64 / 1000.0;
        let _ = writeln!(page, "{at:>8.1} s  {}", escape(&it.words));
    }
    page.push_str("</pre>");
    page
}

fn away(seen: &Seen<'_>, scale: &Scale) -> Vec<f64> {
    let mut columns = vec![0.0; scale.columns() as usize];
    for (_, from, to, _) in events::away(seen.events, scale.to_ms) {
        for column in scale.column(from)..=scale.column(to) {
            columns[column as usize] += 1.0;
        }
    }
    columns
}

/// Events of one kind by their details, the commonest by themselves.
fn counted(seen: &Seen<'_>, scale: &Scale, what: &str) -> Vec<Line> {
    let mut by: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for event in seen.events.iter().filter(|event| event.what == what) {
        let columns = by.entry(&event.detail).or_insert_with(|| vec![0.0; scale.columns() as usize]);
        columns[scale.column(event.at_ms) as usize] += 1.0;
    }
    let mut all: Vec<(&str, Vec<f64>)> = by.into_iter().collect();
    all.sort_by(|one, other| other.1.iter().sum::<f64>().total_cmp(&one.1.iter().sum()));
    let rest = all.split_off(all.len().min(CODES));
    let mut lines: Vec<Line> = all.iter().map(|(name, values)| scale.line(name, values)).collect();
    if !rest.is_empty() {
        let sum = |i: usize| rest.iter().map(|(_, values)| values[i]).sum();
        lines.push(scale.line("others", &(0..scale.columns() as usize).map(sum).collect::<Vec<f64>>()));
    }
    lines
}

fn done(seen: &Seen<'_>, scale: &Scale) -> Vec<f64> {
    let mut columns = vec![0.0; scale.columns() as usize];
    let mut before = 0.0;
    for event in seen.events.iter().filter(|event| event.what == "totals") {
        let total = event.detail.split(' ').find_map(|word| word.strip_prefix("acknowledged=")?.parse::<f64>().ok());
        let Some(total) = total else { continue };
        columns[scale.column(event.at_ms) as usize] += total - before;
        before = total;
    }
    columns
}

fn chart(page: &mut String, seen: &Seen<'_>, scale: &Scale, title: &str, lines: &[Line]) {
    let most = lines.iter().flat_map(|(_, points)| points.iter().map(|(_, y)| *y)).fold(1.0, f64::max);
    // Writing to a string cannot fail.
    let _ = write!(page, "<h2>{title}</h2><svg width=\"{WIDTH}\" height=\"{}\">", HEIGHT + 34.0);
    for it in seen.happened {
        let (x, until) = (scale.x(it.at_ms), scale.x(it.until_ms));
        let _ = write!(
            page,
            "<rect x=\"{x:.1}\" y=\"0\" width=\"{:.1}\" height=\"{HEIGHT}\" fill=\"{}\" fill-opacity=\"0.18\"><title>{}</title></rect>",
            (until - x).max(1.5),
            colour_of(it.kind),
            escape(&it.words)
        );
    }
    for part in [0.0, 0.5, 1.0] {
        let y = HEIGHT - part * (HEIGHT - 8.0);
        let _ = write!(
            page,
            "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/><text class=\"k\" x=\"{}\" y=\"{:.1}\" \
             text-anchor=\"end\">{:.0}</text>",
            LEFT - 6.0,
            y + 4.0,
            most * part
        );
    }
    for (i, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let place = |(x, value): &(f64, f64)| format!("{x:.1},{:.1}", HEIGHT - value / most * (HEIGHT - 8.0));
        let points: Vec<String> = points.iter().map(place).collect();
        let _ = write!(
            page,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.2\" points=\"{}\"><title>{}</title></polyline>\
             <text class=\"k\" x=\"{:.0}\" y=\"{:.0}\" fill=\"{colour}\">{}</text>",
            points.join(" "),
            escape(name),
            LEFT + (i % 12) as f64 * 95.0,
            HEIGHT + 14.0 + (i / 12) as f64 * 13.0,
            escape(name)
        );
    }
    page.push_str("</svg>");
}

fn colour_of(kind: &str) -> &'static str {
    match kind {
        "kill" => "#e5484d",
        "freeze" => "#4269d0",
        "cut" | "cut_one_way" | "no_directory" => "#efb118",
        "stall" => "#a463f2",
        "leader" => "#9c6b4e",
        _ => "#3ca951",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
