//! `instructions NAME TIMES`: one operation, that many times and nothing else.
//! For a program that counts instructions: the difference between two runs,
//! divided by the difference of their times, is what the operation costs.
//! `instructions` alone lists the names.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::process::ExitCode;

fn main() -> ExitCode {
    let operations = sealane_bench::operations();
    let mut args = std::env::args().skip(1);
    let (Some(name), times) = (args.next(), args.next()) else {
        operations.iter().for_each(|operation| println!("{}", operation.name));
        return ExitCode::SUCCESS;
    };
    let operation = operations.iter().find(|operation| operation.name == name);
    let times = times.and_then(|times| times.parse::<u32>().ok());
    match (operation, times) {
        (Some(operation), Some(times)) if (0..times).all(|_| operation.run()) => ExitCode::SUCCESS,
        _ => {
            eprintln!("usage: instructions [NAME TIMES]");
            ExitCode::FAILURE
        }
    }
}
