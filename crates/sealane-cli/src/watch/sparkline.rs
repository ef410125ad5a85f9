//! A curve in one line of text.

/// The least lag that a full bar stands for, so that a millisecond more or less is no mountain.
const LEAST_FULL_MS: u64 = 100;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// An unknown lag. It is not zero, and not the longest one either.
const UNKNOWN: char = '?';

/// The last `cells` of `lags_ms`, the newest at the right. A full bar is the longest lag that is
/// shown, or a tenth of a second if that is longer.
pub(super) fn sparkline(lags_ms: &[Option<u64>], cells: usize) -> String {
    let shown = &lags_ms[lags_ms.len().saturating_sub(cells)..];
    let full = shown.iter().flatten().copied().fold(LEAST_FULL_MS, u64::max);
    let blanks = std::iter::repeat_n(' ', cells - shown.len());
    blanks.chain(shown.iter().map(|lag| lag.map_or(UNKNOWN, |lag| bar(lag, full)))).collect()
}

/// Rounds up, so that only no lag at all is the lowest bar.
fn bar(lag_ms: u64, full_ms: u64) -> char {
    let highest = BARS.len() - 1;
    let level = (u128::from(lag_ms) * highest as u128).div_ceil(u128::from(full_ms));
    let level = usize::try_from(level).unwrap_or(highest);
    BARS[level.min(highest)]
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nothing_yet(&[], 3, "   ")]
    #[case::the_newest_is_at_the_right(&[Some(0), Some(100)], 4, "  ▁█")]
    #[case::the_oldest_go(&[Some(100), Some(0), Some(0)], 2, "▁▁")]
    #[case::a_short_lag_is_no_mountain(&[Some(1), Some(2)], 2, "▂▂")]
    #[case::unknown_is_not_zero(&[Some(0), None, Some(0)], 3, "▁?▁")]
    #[case::the_longest_is_full(&[Some(500), Some(1_000), Some(u64::MAX)], 3, "▂▂█")]
    #[case::no_room(&[Some(1)], 0, "")]
    fn a_curve_is_text(#[case] lags: &[Option<u64>], #[case] cells: usize, #[case] text: &str) {
        assert_eq!(sparkline(lags, cells), text);
    }
}
