//! What a server does with a statement.
//!
//! A commit has four moments: its record is written, it is on disk (from then on it is sent to
//! replicas), it is visible, and it is answered. A replica may show it before its primary does.

use std::sync::Arc;

use sea_orm::{Statement, Value};
use sealane::assembly::{Answer, Row};

use crate::{
    error::Trouble,
    history::{CommitId, WriteId},
    oracle,
    plant::Plant,
    scenario::Kind,
    server::Server,
    violation::Violation,
    world::{Leads, Link, LinkId, OpenTransaction, Refusal, State, View, Way, World},
};

/// A statement that a server understands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Request {
    Ping,
    Begin {
        is_reading: bool,
    },
    Commit,
    Rollback,
    Read(Reads),
    /// Writes, and shows what there was when it `shows`.
    Write {
        id: WriteId,
        shows: bool,
    },
    /// Makes another view, which takes a lock or none.
    ChangeView {
        locks: bool,
    },
}

/// What a statement reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// What every server has.
    Common,
    /// The table that servers may filter.
    Pier,
    /// What only some replicas have.
    Late,
    /// Something that writes on the way.
    Noting,
    /// What nobody can read.
    Wrong,
    /// What ends the session that reads it; its number.
    Killing(u64),
}

impl Reads {
    fn of(sql: &str, number: Option<u64>) -> Self {
        if let Some(number) = number.filter(|_| sql.contains("killing")) {
            return Reads::Killing(number);
        }
        let words = [
            ("pier", Reads::Pier),
            ("late", Reads::Late),
            ("noting", Reads::Noting),
            ("wrong", Reads::Wrong),
        ];
        let found = words.into_iter().find(|(word, _)| sql.contains(word));
        found.map_or(Reads::Common, |(_, reads)| reads)
    }
}

impl Request {
    pub(crate) fn parse(statement: &Statement) -> Request {
        let id = statement.values.as_ref().and_then(|values| match values.0.first() {
            Some(Value::BigInt(Some(id))) => u64::try_from(*id).ok(),
            _ => None,
        });
        match (statement.sql.as_str(), id) {
            ("BEGIN", _) => Request::Begin { is_reading: false },
            ("BEGIN READ ONLY", _) => Request::Begin { is_reading: true },
            ("COMMIT", _) => Request::Commit,
            ("ROLLBACK", _) => Request::Rollback,
            (sql, Some(id)) if sql.starts_with("INSERT") => {
                Request::Write { id, shows: sql.ends_with("shown") }
            }
            (sql, _) if sql.starts_with("CREATE") => {
                Request::ChangeView { locks: sql.contains("lock") }
            }
            (sql, id) => Request::Read(Reads::of(sql, id)),
        }
    }
}

/// Carries a request there and the answer back. It goes on when nobody waits for it any more.
pub(crate) async fn serve(
    world: Arc<World>,
    link: LinkId,
    request: Request,
) -> Result<Answer, Trouble> {
    if !world.travel(link, Way::There).await {
        return Err(Trouble::Lost);
    }
    let answer = run(&world, link, request).await;
    if matches!(request, Request::Write { .. }) && is_swallowed(&world) {
        std::future::pending::<()>().await;
    }
    match world.travel(link, Way::Back).await {
        true => answer,
        false => Err(Trouble::Lost),
    }
}

fn is_swallowed(world: &World) -> bool {
    let mut state = world.lock();
    state.plant == Plant::LostAnswers && state.draw.percent(2)
}

async fn run(world: &World, link: LinkId, request: Request) -> Result<Answer, Trouble> {
    works(world, link).await?;
    note_astray(world, link, request);
    match request {
        Request::Ping => {}
        Request::Begin { is_reading } => {
            let begun = OpenTransaction { is_reading, writes: Vec::new() };
            world.lock().transactions.insert(link, begun);
        }
        Request::Rollback => drop(world.lock().transactions.remove(&link)),
        Request::Commit => {
            let ended = world.lock().transactions.remove(&link);
            let writes = ended.map(|it| it.writes).unwrap_or_default();
            if !writes.is_empty() {
                commit(world, link, writes).await?;
            }
        }
        Request::Read(reads) => return read(world, link, reads),
        Request::ChangeView { locks } => return change_view(world, link, locks),
        Request::Write { id, shows } => return write(world, link, id, shows).await,
    }
    Ok(Answer::default())
}

/// Nothing that means anything may be sent to somebody else's data.
fn note_astray(world: &World, link: LinkId, request: Request) {
    let mut state = world.lock();
    let astray = state.links.get(&link).filter(|it| it.leads != Leads::Here).copied();
    let means =
        matches!(request, Request::Read(_) | Request::Write { .. } | Request::ChangeView { .. });
    if let Some(Link { process, server, .. }) = astray.filter(|_| means) {
        oracle::note(&mut state, Violation::AskedStranger { process, server }, None);
    }
}

/// Some work of a server.
async fn works(world: &World, link: LinkId) -> Result<(), Trouble> {
    world.pass(0, 2).await;
    match world.served(link, false).await {
        true => Ok(()),
        false => Err(Trouble::Lost),
    }
}

/// The number of the new view is in the answer.
fn change_view(world: &World, link: LinkId, locks: bool) -> Result<Answer, Trouble> {
    let mut state = world.lock();
    let refusal = state.says(Refusal::ReadOnly);
    if !state.server_of(link).ok_or(Trouble::Lost)?.is_primary {
        return Err(refusal);
    }
    state.sight = View { number: state.sight.number + 1, locks };
    state.trace.note(format_args!("  link {link}: the view is another one"));
    Ok(Answer { affected: state.sight.number, ..Answer::default() })
}

fn read(world: &World, link: LinkId, reads: Reads) -> Result<Answer, Trouble> {
    let mut state = world.lock();
    let is_of_replica = state.links.get(&link).is_some_and(|it| it.is_reading);
    let its = state.server_of(link).ok_or(Trouble::Lost)?;
    let (server, kills) = (its.number, its.kills);
    let conflicts = if its.is_primary { 0 } else { its.conflicts };
    if state.draw.percent(conflicts) {
        return Err(state.says(Refusal::Conflict));
    }
    if let Reads::Killing(number) = reads {
        *state.killed.entry(number).or_default() += 1;
        return Err(kill(&mut state, link, false));
    }
    if kills > 0 && state.draw.percent(kills) {
        return Err(kill(&mut state, link, true));
    }
    let is_primary = state.servers[server].is_primary;
    let refusal = match reads {
        Reads::Late if !is_primary && state.draw.percent(50) => Some(Refusal::Lacks),
        Reads::Noting if !is_primary => Some(Refusal::ReadOnly),
        Reads::Wrong => Some(Refusal::Wrong),
        _ => None,
    };
    if let Some(refusal) = refusal {
        return Err(state.says(refusal));
    }
    if reads == Reads::Pier && is_of_replica && state.servers[server].filters_pier {
        oracle::note(&mut state, Violation::FilteredRead { server }, None);
    }
    state.trace.note(format_args!("  link {link}: server {server} reads"));
    let row = shown_row(&mut state, server);
    Ok(Answer { rows: vec![row.clone(), row], affected: 0 })
}

/// A row that says what the server shows now.
fn shown_row(state: &mut State, server: usize) -> Row {
    let id = i64::try_from(state.show(server)).unwrap_or(i64::MAX);
    Row::from([("shown".to_owned(), Value::BigInt(Some(id)))])
}

/// The server ends the session. PostgreSQL says so, MySQL closes the connection without a word.
fn kill(state: &mut State, link: LinkId, may_be_idle: bool) -> Trouble {
    state.trace.note(format_args!("  link {link}: its session is ended"));
    state.transactions.remove(&link);
    state.end_after(link);
    match state.kind {
        Kind::Timelines => Trouble::Code("57P01"),
        // A session that was idle for too long is told so.
        Kind::GtidSets if may_be_idle && state.draw.percent(50) => Trouble::Code("4031"),
        Kind::GtidSets | Kind::GtidLists => Trouble::Lost,
    }
}

async fn write(world: &World, link: LinkId, id: WriteId, shows: bool) -> Result<Answer, Trouble> {
    let (is_open, rows) = {
        let mut state = world.lock();
        let is_reading = state.links.get(&link).is_some_and(|it| it.is_reading);
        let server = state.server_of(link).ok_or(Trouble::Lost)?;
        let (number, is_primary) = (server.number, server.is_primary);
        if is_reading {
            state.violations.push(Violation::WriteAsRead { id, server: number });
        }
        let refusal = state.says(Refusal::ReadOnly);
        let open = state.transactions.get_mut(&link);
        if is_reading || !is_primary || open.as_ref().is_some_and(|it| it.is_reading) {
            return Err(refusal);
        }
        let is_open = open.map(|it| it.writes.push(id)).is_some();
        (is_open, shows.then(|| shown_row(&mut state, number)).into_iter().collect())
    };
    if !is_open {
        commit(world, link, vec![id]).await?;
    }
    Ok(Answer { rows, affected: 1 })
}

/// One run of one server, which goes on with a commit whoever waits for it.
#[derive(Debug, Clone, Copy)]
struct Run {
    server: usize,
    number: u32,
}

impl Run {
    /// Its state, unless that run is over.
    fn of(self, state: &mut State) -> Result<&mut Server, Trouble> {
        let its = &mut state.servers[self.server];
        if its.is_up && its.run == self.number { Ok(its) } else { Err(Trouble::Lost) }
    }

    /// Some time in which it does not stand still.
    async fn works(self, world: &World) -> Result<(), Trouble> {
        world.pass(0, 2).await;
        world
            .until(|state| {
                let its = &state.servers[self.server];
                its.serves() || !its.is_up || its.run != self.number
            })
            .await;
        self.of(&mut world.lock()).map(drop)
    }

    /// A replica has it on its disk, where commits wait for that. What waits is on the primary's
    /// disk, is sent to all, and is not shown by the primary.
    async fn is_synced(self, world: &World, place: usize) -> Result<(), Trouble> {
        let waits = {
            let state = world.lock();
            state.is_synchronous && state.plant != Plant::Asynchronous
        };
        if waits {
            world
                .until_received(|state| {
                    let its = &state.servers[self.server];
                    let is_over = !its.is_up || its.run != self.number || !its.is_primary;
                    is_over || state.is_on_a_replica(its.branch, place)
                })
                .await;
        }
        self.of(&mut world.lock()).map(drop)
    }
}

async fn commit(world: &World, link: LinkId, writes: Vec<WriteId>) -> Result<(), Trouble> {
    let (run, is_lie) = {
        let mut state = world.lock();
        let is_lie = state.plant == Plant::LostSaysReadOnly && state.draw.percent(3);
        let its = state.server_of(link).ok_or(Trouble::Lost)?;
        (Run { server: its.number, number: its.run }, is_lie)
    };
    let transaction = begin(world, run)?;
    run.works(world).await?;
    let (commit, place) = append(world, run, link, writes)?;
    world.pass(0, 2).await;
    flush(world, run, place)?;
    run.is_synced(world, place).await?;
    run.works(world).await?;
    let mut state = world.lock();
    let now_ms = state.now_ms();
    let its = run.of(&mut state)?;
    its.hidden.remove(&place);
    its.running.remove(&transaction);
    state.history.commits[commit].visible_at_ms = Some(now_ms);
    if is_lie { Err(state.says(Refusal::ReadOnly)) } else { Ok(()) }
}

/// A transaction that writes gets a number.
fn begin(world: &World, run: Run) -> Result<u64, Trouble> {
    let mut state = world.lock();
    let refusal = state.says(Refusal::ReadOnly);
    let its = run.of(&mut state)?;
    if !its.is_primary || its.steps_down {
        return Err(refusal);
    }
    let transaction = its.next_transaction;
    its.next_transaction += 1;
    its.running.insert(transaction);
    Ok(transaction)
}

/// Its record is written.
fn append(
    world: &World,
    run: Run,
    link: LinkId,
    writes: Vec<WriteId>,
) -> Result<(CommitId, usize), Trouble> {
    let mut state = world.lock();
    let branch = run.of(&mut state)?.branch;
    state.trace.note(format_args!("  link {link}: server {} writes {writes:?}", run.server));
    let (commit, place) = state.history.append(branch, writes.clone());
    state.servers[run.server].hidden.insert(place);
    for id in writes {
        state.commits_of.entry(id).or_default().push(commit);
    }
    Ok((commit, place))
}

/// Everything up to there is on the disk of its primary.
fn flush(world: &World, run: Run, place: usize) -> Result<(), Trouble> {
    let mut state = world.lock();
    let its = run.of(&mut state)?;
    its.durable = its.durable.max(place + 1);
    drop(state);
    world.note_growth();
    Ok(())
}
