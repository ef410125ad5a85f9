//! See the library of this package.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use sealane_cli::{Arguments, run};

#[tokio::main]
async fn main() -> ExitCode {
    // Wrong arguments end here with exit code 2.
    let arguments = Arguments::parse();
    let mut out = anstream::stdout();
    let result = tokio::select! {
        // `explain` reads its statement in the first poll, and a read of a terminal blocks. So the
        // command is polled first: until the handler of Ctrl-C is polled, Ctrl-C ends the process
        // as it does by default. Once there is a handler, Ctrl-C would only be noted, and the
        // blocked task would never look at the note.
        biased;
        result = run(arguments, &mut out) => result,
        // What the user sees when he has seen enough.
        _ = tokio::signal::ctrl_c() => return ExitCode::FAILURE,
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // Nobody reads what cannot be written.
            let _ = writeln!(anstream::stderr(), "sealane: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
