//! The samples of the book and of the README.
//!
//! Each chapter is the documentation of an empty module, so that `cargo test --doc` compiles its
//! samples and runs those that need no server. (Rejected: `mdbook test`. It compiles each sample
//! alone, with crates that have to be found by hand.)

macro_rules! samples {
    ($($name:ident: $path:literal,)*) => {$(
        #[cfg(doctest)]
        #[doc = include_str!($path)]
        mod $name {}
    )*};
}

samples! {
    readme: "../README.md",
    introduction: "src/introduction.md",
    getting_started: "src/getting-started.md",
    web_services: "src/web-services.md",
    sessions: "src/sessions.md",
    consistency: "src/consistency.md",
    classification: "src/classification.md",
    configuration: "src/configuration.md",
    testing: "src/testing.md",
    failover: "src/failover.md",
    slow_replicas: "src/slow-replicas.md",
    promises: "src/promises.md",
    errors: "src/errors.md",
    postgresql: "src/postgresql.md",
    mysql: "src/mysql.md",
    sqlite: "src/sqlite.md",
    aurora: "src/aurora.md",
    poolers: "src/poolers.md",
    operations: "src/operations.md",
    status: "src/status.md",
    command: "src/command.md",
    comparison: "src/comparison.md",
    cookbook: "src/cookbook.md",
    recipes: "src/recipes.md",
}
