//! The picture of the topology: the primary, the replicas, and an arrow with its lag to each.
//!
//! An SVG inside the page, without styles of its own: the page's policy would refuse them.

use std::fmt;

use sealane::{Condition, EndpointStatus, Status};

use crate::html::{escaped, shortened};

/// Sizes in the units of the picture, which is scaled to the page.
const WIDTH: usize = 600;
const ROW: usize = 64;
const BOX_WIDTH: usize = 240;
const BOX_HEIGHT: usize = 48;
/// Where the boxes of the right column begin.
const RIGHT: usize = WIDTH - BOX_WIDTH;
/// What of a name fits into a box.
const NAME: usize = 21;
/// What of a condition fits below it.
const BELOW: usize = 28;
/// For so long an arrow is straight at its end, with the lag above.
const STRAIGHT: usize = 80;

/// Whether reads avoid the endpoint although it answers probes. A primary serves what it has to.
pub(crate) fn is_ejected(status: &Status, endpoint: &EndpointStatus) -> bool {
    endpoint.ejected && status.primary.as_ref() != Some(&endpoint.name)
}

/// How an endpoint looks.
pub(crate) fn class(status: &Status, endpoint: &EndpointStatus) -> &'static str {
    match endpoint.condition {
        Condition::Serving if is_ejected(status, endpoint) => "fair",
        Condition::Serving => "good",
        Condition::Unobserved
        | Condition::Probation
        | Condition::Draining
        | Condition::Copying
        | Condition::Paused
        | Condition::Lagging => "fair",
        _ => "bad",
    }
}

/// The picture of `status`.
pub(crate) fn picture(status: &Status) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| {
        let is_primary = |it: &&EndpointStatus| status.primary.as_ref() == Some(&it.name);
        let primary = status.endpoints.iter().find(is_primary);
        let others: Vec<_> = status.endpoints.iter().filter(|it| !is_primary(it)).collect();
        let height = ROW * others.len().max(1);
        let middle = height / 2;
        write!(
            f,
            "<svg class=\"topology\" viewBox=\"-1 0 {view} {height}\" role=\"img\" \
             aria-label=\"The primary and its replicas\">",
            view = WIDTH + 2,
        )?;
        for (row, other) in others.iter().enumerate() {
            let y = row * ROW + ROW / 2;
            if primary.is_some() {
                write_arrow(f, class(status, other), other, middle, y)?;
            }
            write_box(f, RIGHT, y, status, Some(other))?;
        }
        write_box(f, 0, middle, status, primary)?;
        f.write_str("</svg>")
    })
}

fn write_arrow(
    f: &mut fmt::Formatter<'_>,
    class: &str,
    to: &EndpointStatus,
    from_y: usize,
    to_y: usize,
) -> fmt::Result {
    let (from_x, tip) = (BOX_WIDTH, RIGHT - 2);
    let (head, up, down) = (tip - 10, to_y - 5, to_y + 5);
    // The lag stands near the replica, where arrows are apart.
    let (x, y, bend) = (RIGHT - 8, to_y - 8, RIGHT - STRAIGHT);
    write!(
        f,
        "<path class=\"arrow {class}\" d=\"M{from_x} {from_y} C {x1} {from_y}, {x1} {to_y}, {bend} {to_y} H {head}\"/>\
         <path class=\"head {class}\" d=\"M{head} {up} L{tip} {to_y} L{head} {down} Z\"/>\
         <text class=\"lag\" x=\"{x}\" y=\"{y}\">{}</text>",
        lag(to),
        x1 = (BOX_WIDTH + bend) / 2,
    )
}

/// A box around an endpoint, in the middle of this height; `None` for a primary that is not there.
fn write_box(
    f: &mut fmt::Formatter<'_>,
    x: usize,
    middle: usize,
    status: &Status,
    endpoint: Option<&EndpointStatus>,
) -> fmt::Result {
    let (y, text_x) = (middle - BOX_HEIGHT / 2, x + 12);
    let (class, name, below) = match endpoint {
        Some(it) => {
            let ejected = if is_ejected(status, it) { ", ejected" } else { "" };
            let below = format!("{}{ejected} · {} running", it.condition, it.in_flight);
            (class(status, it), it.name.as_str(), below)
        }
        None => ("bad", "no primary", "no endpoint may take writes".to_owned()),
    };
    write!(
        f,
        "<g class=\"{class}\"><title>{name}</title>\
         <rect x=\"{x}\" y=\"{y}\" width=\"{BOX_WIDTH}\" height=\"{BOX_HEIGHT}\" rx=\"8\"/>\
         <text class=\"name\" x=\"{text_x}\" y=\"{name_y}\">{short}</text>\
         <text class=\"below\" x=\"{text_x}\" y=\"{below_y}\">{below}</text></g>",
        name = escaped(name),
        short = escaped(&shortened(name, NAME)),
        name_y = middle - 4,
        below_y = middle + 14,
        below = escaped(&shortened(&below, BELOW)),
    )
}

/// The lag in words; unknown is not zero.
fn lag(endpoint: &EndpointStatus) -> String {
    endpoint.lag_ms.map_or_else(|| "lag unknown".to_owned(), time)
}

/// A time in words.
pub(crate) fn time(millis: u64) -> String {
    match millis {
        0..10_000 => format!("{millis} ms"),
        10_000..600_000 => format!("{} s", millis / 1_000),
        _ => format!("{} min", millis / 60_000),
    }
}
