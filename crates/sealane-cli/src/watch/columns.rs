//! The columns of the picture's table, and which of them a terminal has room for.

/// A column. The order is that on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Column {
    Name,
    Role,
    Condition,
    Lag,
    /// The lag over time.
    Curve,
    /// What 95 of 100 lags of the last minute were not longer than.
    Usual,
    /// What a read may miss.
    Staleness,
    Probe,
    InFlight,
}

/// What a narrow terminal shows first.
const BY_IMPORTANCE: [Column; 9] = [
    Column::Name,
    Column::Condition,
    Column::Lag,
    Column::Role,
    Column::Curve,
    Column::InFlight,
    Column::Probe,
    Column::Staleness,
    Column::Usual,
];

/// Blanks between columns.
pub(super) const GAP: usize = 2;
/// A name takes up to half of the width, so that there is room for the condition. Up to this many
/// cells it is not cut for other columns, and on a wide terminal up to a quarter of the width.
const NAME: usize = 24;
/// The longest conditions are sentences, and rare.
const CONDITION: usize = 24;
/// With fewer cells, the condition cannot be guessed any more.
const CONDITION_LEAST: usize = 4;
/// A shorter curve shows no tendency.
const CURVE_LEAST: usize = 10;
/// A minute.
const CURVE_MOST: usize = 60;

impl Column {
    /// What stands above it.
    pub(super) fn heading(self, cells: usize) -> String {
        match self {
            Column::Name => "NAME".to_owned(),
            Column::Role => "ROLE".to_owned(),
            Column::Condition => "CONDITION".to_owned(),
            Column::Lag => "LAG".to_owned(),
            Column::Curve => format!("LAST {cells} S"),
            Column::Usual => "95 % OF 1 MIN".to_owned(),
            Column::Staleness => "MAY MISS".to_owned(),
            Column::Probe => "PROBE".to_owned(),
            Column::InFlight => "IN FLIGHT".to_owned(),
        }
    }
}

/// The columns for a terminal of `width` cells, in their order, each with its cells. `longest` tells
/// how long the longest text in a column is.
pub(super) fn columns(width: usize, longest: impl Fn(Column) -> usize) -> Vec<(Column, usize)> {
    let mut chosen = Vec::new();
    let mut left = width;
    for column in BY_IMPORTANCE {
        let gap = if chosen.is_empty() { 0 } else { GAP };
        let room = left.saturating_sub(gap);
        let needed = longest(column).max(column.heading(CURVE_LEAST).len());
        let cells = match column {
            Column::Name => needed.min(NAME.max(width / 4)).min(width.div_ceil(2)),
            Column::Condition if room >= CONDITION_LEAST => needed.min(CONDITION).min(room),
            Column::Curve => CURVE_LEAST,
            _ => needed,
        };
        if cells > room {
            break;
        }
        left = room - cells;
        chosen.push((column, cells));
    }
    // What is left belongs to the curve.
    if let Some((_, cells)) = chosen.iter_mut().find(|(column, _)| *column == Column::Curve) {
        *cells = (*cells + left).min(CURVE_MOST);
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(width: usize, name: usize) -> Vec<(Column, usize)> {
        columns(width, |column| match column {
            Column::Name => name,
            Column::Role | Column::Condition => 7,
            _ => 5,
        })
    }

    #[test]
    fn no_terminal_is_too_narrow_and_none_is_left() {
        for width in 0..300 {
            let columns = of(width, 30);
            let gaps = GAP * columns.len().saturating_sub(1);
            let cells: usize = columns.iter().map(|(_, cells)| cells).sum();
            assert!(cells + gaps <= width, "{width}: {columns:?}");
        }
    }

    #[test]
    fn a_narrow_terminal_shows_names_and_conditions() {
        let shown: Vec<_> = of(20, 30).into_iter().map(|(column, _)| column).collect();
        assert_eq!(shown, [Column::Name, Column::Condition]);
    }

    #[test]
    fn eighty_cells_show_lag_role_and_load_as_well() {
        let shown: Vec<_> = of(80, 10).into_iter().map(|(column, _)| column).collect();
        for wanted in [Column::Role, Column::Lag, Column::Curve, Column::InFlight, Column::Probe] {
            assert!(shown.contains(&wanted), "{wanted:?}");
        }
        assert!(shown.is_sorted());
    }

    #[test]
    fn a_wide_terminal_shows_everything_and_a_minute() {
        let columns = of(200, 10);
        assert_eq!(columns.len(), BY_IMPORTANCE.len());
        assert!(columns.contains(&(Column::Curve, CURVE_MOST)));
    }
}
