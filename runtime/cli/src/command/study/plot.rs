//! Plots as SVG text. Colours are the page's: classes `mark`, `soft`, `axis` and `text`.

use core::fmt::Write;

/// A value with its interval and the single values it is the mean of.
#[derive(Clone, Debug)]
pub(super) struct Spread<'s> {
    pub(super) name: &'s str,
    pub(super) mean: f64,
    pub(super) interval: [f64; 2],
    pub(super) values: &'s [f64],
}

const WIDTH: f64 = 860.0;
/// Where values begin: names stand left of it.
const LEFT: f64 = 230.0;
/// Room for the figure behind a bar.
const RIGHT: f64 = 90.0;
const ROW: f64 = 22.0;
const TOP: f64 = 26.0;

/// Shares from 0 to 1, one a row: interval, single values, mean.
pub(super) fn spreads(rows: &[Spread<'_>]) -> String {
    let lowest = rows.iter().flat_map(|row| row.values.iter().copied().chain([row.interval[0]]));
    // Whole tenths, so that the ticks are.
    let from = (lowest.fold(1.0, f64::min) * 10.0).floor().clamp(0.0, 9.0) / 10.0;
    let x = |value: f64| LEFT + (value - from) / (1.0 - from) * (WIDTH - LEFT - RIGHT);
    let mut svg = open(WIDTH, TOP + ROW * rows.len() as f64 + 4.0);
    for tenth in (from * 10.0).round() as u32..=10 {
        let value = f64::from(tenth) / 10.0;
        axis(&mut svg, x(value), rows.len(), &format!("{value:.1}"));
    }
    for (at, row) in rows.iter().enumerate() {
        let y = TOP + ROW * (at as f64 + 0.5);
        let [low, high] = row.interval.map(x);
        name(&mut svg, y, row.name);
        for &value in row.values {
            let _ = write!(svg, "<circle class='soft' cx='{:.1}' cy='{y:.1}' r='3'/>", x(value));
        }
        let _ = write!(
            svg,
            "<line class='mark' x1='{low:.1}' x2='{high:.1}' y1='{y:.1}' y2='{y:.1}'/>\
             <circle class='mark' cx='{:.1}' cy='{y:.1}' r='4.5'><title>{}: {:.3} ({:.3} to {:.3})</title></circle>",
            x(row.mean),
            escape(row.name),
            row.mean,
            row.interval[0],
            row.interval[1]
        );
        figure(&mut svg, WIDTH - RIGHT + 10.0, y, &format!("{:.3}", row.mean));
    }
    svg + "</svg>"
}

/// Amounts from 0 on, one a row, with their texts.
pub(super) fn bars(rows: &[(&str, f64, String)]) -> String {
    let most = rows.iter().map(|row| row.1).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = open(WIDTH, TOP + ROW * rows.len() as f64 + 4.0);
    for (at, (title, value, text)) in rows.iter().enumerate() {
        let y = TOP + ROW * (at as f64 + 0.5);
        let width = value.max(0.0) / most * (WIDTH - LEFT - RIGHT);
        name(&mut svg, y, title);
        let _ = write!(
            svg,
            "<rect class='mark' x='{LEFT}' y='{:.1}' width='{width:.1}' height='{:.1}' rx='2'><title>{}: {}</title></rect>",
            y - 6.0,
            12.0,
            escape(title),
            escape(text)
        );
        figure(&mut svg, LEFT + width + 6.0, y, text);
    }
    svg + "</svg>"
}

/// One curve over epochs from 1 on, from 0 to `most`.
pub(super) fn curve(values: &[f64], most: f64) -> String {
    let (width, height, left, bottom) = (200.0, 110.0, 30.0, 18.0);
    let x = |at: usize| left + at as f64 / (values.len().max(2) - 1) as f64 * (width - left - 6.0);
    let y = |value: f64| 8.0 + (1.0 - value / most.max(f64::MIN_POSITIVE)) * (height - bottom - 8.0);
    let points: Vec<String> =
        values.iter().enumerate().map(|(at, &value)| format!("{:.1},{:.1}", x(at), y(value))).collect();
    let mut svg = open(width, height);
    for value in [0.0, most / 2.0, most] {
        let at = y(value);
        let _ = write!(
            svg,
            "<line class='axis' x1='{left}' x2='{:.1}' y1='{at:.1}' y2='{at:.1}'/><text x='{:.1}' y='{:.1}' \
             text-anchor='end'>{value:.1}</text>",
            width - 6.0,
            left - 4.0,
            at + 4.0
        );
    }
    let _ = write!(
        svg,
        "<polyline class='mark' points='{}'/><text x='{left}' y='{:.1}'>1</text><text x='{:.1}' y='{:.1}' \
         text-anchor='end'>{}</text></svg>",
        points.join(" "),
        height - 4.0,
        width - 6.0,
        height - 4.0,
        values.len()
    );
    svg
}

/// Counts by true class (rows) and predicted class (columns), shaded by the share of the row.
pub(super) fn matrix(classes: &[String], counts: &[Vec<u64>]) -> String {
    let cell = 26.0;
    // What is taken for none of the classes has a column where it happened.
    let others = counts.iter().any(|row| row.get(classes.len()).is_some_and(|&count| count > 0));
    let columns = classes.len() + usize::from(others);
    let longest = classes.iter().map(|class| class.chars().count()).max().unwrap_or(0) as f64;
    let (left, top) = (longest * 7.0 + 12.0, longest * 7.0 + 12.0);
    let mut svg = open(left + cell * columns as f64 + 4.0, top + cell * classes.len() as f64 + 4.0);
    for column in 0..columns {
        let x = left + cell * (column as f64 + 0.5) + 4.0;
        let title = classes.get(column).map_or("other", String::as_str);
        let _ = write!(
            svg,
            "<text x='{x:.1}' y='{:.1}' transform='rotate(-90 {x:.1} {:.1})'>{}</text>",
            top - 6.0,
            top - 6.0,
            escape(title)
        );
    }
    for (truth, (class, row)) in classes.iter().zip(counts).enumerate() {
        let y = top + cell * truth as f64;
        let total = row.iter().sum::<u64>().max(1) as f64;
        let _ = write!(
            svg,
            "<text x='{:.1}' y='{:.1}' text-anchor='end'>{}</text>",
            left - 6.0,
            y + cell / 2.0 + 4.0,
            escape(class)
        );
        for (taken, &count) in row.iter().take(columns).enumerate() {
            let x = left + cell * taken as f64;
            let share = count as f64 / total;
            let _ = write!(
                svg,
                "<rect class='cell' x='{x:.1}' y='{y:.1}' width='{:.1}' height='{:.1}' style='fill-opacity:{share:.3}'/>",
                cell - 1.0,
                cell - 1.0
            );
            if count > 0 {
                let ink = if share > 0.5 { " class='on'" } else { "" };
                let _ = write!(
                    svg,
                    "<text{ink} x='{:.1}' y='{:.1}' text-anchor='middle'>{count}</text>",
                    x + cell / 2.0,
                    y + cell / 2.0 + 4.0
                );
            }
        }
    }
    svg + "</svg>"
}

/// `text` as HTML text or an attribute's value.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            c => escaped.push(c),
        }
    }
    escaped
}

fn open(width: f64, height: f64) -> String {
    format!("<svg viewBox='0 0 {width:.0} {height:.0}' width='{width:.0}' role='img'>")
}

fn axis(svg: &mut String, x: f64, rows: usize, text: &str) {
    let bottom = TOP + ROW * rows as f64;
    let _ = write!(
        svg,
        "<line class='axis' x1='{x:.1}' x2='{x:.1}' y1='{:.1}' y2='{bottom:.1}'/><text x='{x:.1}' y='14' \
         text-anchor='middle'>{text}</text>",
        TOP - 6.0
    );
}

fn name(svg: &mut String, y: f64, text: &str) {
    let _ = write!(
        svg,
        "<text x='{:.1}' y='{:.1}' text-anchor='end'>{}</text>",
        LEFT - 10.0,
        y + 4.0,
        escape(text)
    );
}

fn figure(svg: &mut String, x: f64, y: f64, text: &str) {
    let _ = write!(svg, "<text x='{x:.1}' y='{:.1}'>{}</text>", y + 4.0, escape(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_where_their_scale_puts_them() {
        let values = [0.5, 1.0];
        let row = Spread { name: "a<b", mean: 0.75, interval: [0.5, 1.0], values: &values };
        let svg = spreads(&[row]);
        // The scale goes from 0.5 at 230 to 1.0 at 770.
        assert!(svg.contains("x1='230.0' x2='770.0'") && svg.contains("cx='500.0'"), "{svg}");
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"));
        let svg = bars(&[("x", 2.0, "2 s".to_owned()), ("y", 1.0, "1 s".to_owned())]);
        assert!(svg.contains("width='540.0'") && svg.contains("width='270.0'"), "{svg}");
    }

    #[test]
    fn a_matrix_shows_what_is_no_class_only_where_it_happened() {
        let classes = ["p".to_owned(), "q".to_owned()];
        let none = matrix(&classes, &[vec![3, 1, 0], vec![0, 4, 0]]);
        assert!(!none.contains("other") && none.contains("fill-opacity:0.750"), "{none}");
        assert!(matrix(&classes, &[vec![3, 0, 1], vec![0, 4, 0]]).contains("other"));
    }

    #[test]
    fn single_epochs_and_no_rows_are_drawn() {
        for svg in [curve(&[0.5], 0.5), curve(&[], 0.0), spreads(&[]), bars(&[]), matrix(&[], &[])] {
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>") && !svg.contains("NaN"), "{svg}");
        }
    }
}
