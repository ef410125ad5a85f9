//! Draws the picture on a terminal's cells.

use ratatui::Frame;

use super::picture::Picture;

/// Draws `picture` from the first line down. What does not fit is cut.
pub(super) fn draw(frame: &mut Frame<'_>, picture: &Picture<'_>) {
    let area = frame.area();
    let lines = picture.lines(usize::from(area.width), usize::from(area.height));
    for (row, line) in area.rows().zip(lines) {
        frame.render_widget(line, row);
    }
}

#[cfg(test)]
mod tests;
