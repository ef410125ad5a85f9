//! The same for people.

use std::io::{self, Write};

use sealane_core::printable;

use super::{Receiver, Sender, Server, Slot};
use crate::{
    output::{Table, UNKNOWN, bytes, millis, named},
    style,
};

pub(super) fn write(servers: &[Server], out: &mut dyn Write) -> io::Result<()> {
    for server in servers {
        let style = style::HEADING;
        write!(out, "{style}{}{style:#}", named(&server.name, &server.address))?;
        if let Some(error) = &server.error {
            let style = style::WRONG;
            writeln!(out, "\n  {style}{error}{style:#}")?;
            continue;
        }
        let told = &server.told;
        if let Some(position) = &told.position {
            write!(out, ", at {position}")?;
        }
        if let Some(rate) = told.log_bytes_per_s {
            write!(out, ", log grows by {}/s", bytes(rate))?;
        }
        writeln!(out)?;
        match &told.receivers {
            None => writeln!(out, "  whether it receives is hidden from this user")?,
            Some(all) => all.iter().try_for_each(|it| receiver(it, out))?,
        }
        match &told.senders {
            None => writeln!(out, "  whom it sends to is hidden from this user")?,
            Some(all) if all.is_empty() => {}
            Some(all) => senders(all, out)?,
        }
        if !told.slots.is_empty() {
            slots(&told.slots, out)?;
        }
    }
    Ok(())
}

fn receiver(it: &Receiver, out: &mut dyn Write) -> io::Result<()> {
    let source = printable(it.source.as_deref().unwrap_or(UNKNOWN));
    write!(out, "  from {source}: ")?;
    for (word, runs) in [("receives", it.receives), ("applies", it.applies)] {
        match runs {
            Some(true) => write!(out, "{word}, ")?,
            Some(false) => {
                let style = style::WRONG;
                write!(out, "{style}{word} not{style:#}, ")?;
            }
            None => write!(out, "{word} {UNKNOWN}, ")?,
        }
    }
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| UNKNOWN.to_owned());
    write!(out, "received {}, applied {}", text(&it.received), text(&it.applied))?;
    match it.reported_lag_s {
        Some(lag) => writeln!(out, ", says it is {lag} s behind")?,
        None => writeln!(out)?,
    }
    for (thread, error) in [("receiving", &it.receive_error), ("applying", &it.apply_error)] {
        if let Some(error) = error {
            let style = style::WRONG;
            writeln!(out, "    {style}last error of the {thread} thread: {error}{style:#}")?;
        }
    }
    Ok(())
}

fn senders(all: &[Sender], out: &mut dyn Write) -> io::Result<()> {
    if all.iter().all(|it| it.state.is_none() && it.sent.is_none()) {
        // MySQL and MariaDB know no more of them, and PostgreSQL tells no more to some users.
        let names: Vec<_> = all.iter().map(|it| it.name.as_str()).collect();
        return writeln!(out, "  sends to {}", printable(&names.join(", ")));
    }
    let heading =
        ["  sends to", "state", "sync", "sent", "written", "flushed", "replayed", "behind", "lag"];
    let mut table = Table::new(&heading);
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| UNKNOWN.to_owned());
    for it in all {
        table.row(vec![
            format!("  {}", it.name),
            text(&it.state),
            text(&it.sync_state),
            text(&it.sent),
            text(&it.written),
            text(&it.flushed),
            text(&it.replayed),
            it.behind_bytes.map_or_else(|| UNKNOWN.to_owned(), bytes),
            millis(it.replay_lag_ms),
        ]);
    }
    table.write(out)
}

fn slots(all: &[Slot], out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&["  slot", "kind", "in use", "log", "holds back"]);
    for it in all {
        let is_active = it.is_active.map_or(UNKNOWN, |it| if it { "yes" } else { "no" });
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| UNKNOWN.to_owned());
        table.row(vec![
            format!("  {}", it.name),
            text(&it.kind),
            is_active.to_owned(),
            text(&it.wal_status),
            it.retained_bytes.map_or_else(|| UNKNOWN.to_owned(), bytes),
        ]);
    }
    table.write(out)
}
