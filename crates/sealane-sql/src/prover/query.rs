//! Queries: `WITH`, set operations, `SELECT`, `VALUES`, `TABLE`.

use sealane_core::Intent;
use sqlparser::ast::{
    ConnectByKind, Cte, Distinct, Expr, Fetch, GroupByExpr, GroupByWithModifier, LimitClause,
    LockType, NamedWindowDefinition, NamedWindowExpr, Offset, OrderBy, OrderByExpr, OrderByKind,
    OrderByOptions, OrderBySort, Query, Select, SelectFlavor, SelectItem,
    SelectItemQualifiedWildcardKind, SelectModifiers, SetExpr, Value, ValueWithSpan, Values,
    WildcardAdditionalOptions, With,
};

use crate::{dialect::Dialect, finding::Reason};
use sealane_core::Limit;

use super::{Node, Prover};

/// A name is looked up along the chain of scopes, so the chain must stay short.
const MAX_COMMON_TABLES: usize = 200;

impl<'a> Prover<'a> {
    /// The outermost query: its limit is the statement's limit.
    pub(super) fn outermost_query(&mut self, query: &'a Query) {
        self.outcome.cost.limit = limit_of(query);
        self.later(Node::Query(query));
    }

    pub(super) fn query(&mut self, query: &'a Query) {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        if let Some(lock) = locks.first() {
            let clause = match lock.lock_type {
                LockType::Share => "FOR SHARE",
                LockType::Update => "FOR UPDATE",
            };
            self.refuse(Intent::Write, Reason::Locking(clause), None);
        }
        self.require(for_clause.is_none(), "a FOR clause");
        self.require(settings.is_none() && format_clause.is_none(), "SETTINGS or FORMAT");
        self.require(pipe_operators.is_empty(), "a pipe operator");
        if let Some(with) = with {
            self.with(with);
        }
        self.later(Node::SetExpr(body));
        if let Some(OrderBy { kind, interpolate }) = order_by {
            self.outcome.cost.sorting = true;
            self.require(interpolate.is_none(), "INTERPOLATE");
            match kind {
                OrderByKind::Expressions(keys) => self.order_by(keys),
                OrderByKind::All(_) => self.not_listed("ORDER BY ALL"),
            }
        }
        self.limit(limit_clause.as_ref());
        if let Some(Fetch { with_ties: _, percent: _, quantity }) = fetch {
            self.push_all(quantity);
        }
    }

    /// Sets `self.scope` to what the query after the `WITH` sees.
    fn with(&mut self, with: &'a With) {
        let With { with_token: _, recursive, cte_tables } = with;
        self.outcome.cost.recursion |= recursive;
        if self.scopes.len() + cte_tables.len() > MAX_COMMON_TABLES {
            let reason = Reason::TooComplex("number of common table expressions");
            return self.refuse(Intent::Unknown, reason, None);
        }
        let outer = self.scope;
        let mut inner = outer;
        for cte in cte_tables {
            inner = self.scopes.with(inner, &cte.alias.name);
        }
        let mut seen = outer;
        for Cte { alias, query, from, materialized: _, closing_paren_token: _ } in cte_tables {
            self.require(from.is_none(), "FROM after a common table expression");
            self.alias(Some(alias));
            let with_itself = self.scopes.with(seen, &alias.name);
            // Each common table expression sees the earlier ones. With RECURSIVE, it sees all of
            // them. On MySQL, it sees only the earlier ones and itself: a later name means a table
            // or a view there.
            self.scope = match (*recursive, self.is(Dialect::MySql)) {
                (false, _) => seen,
                (true, true) => with_itself,
                (true, false) => inner,
            };
            self.push_subquery(query);
            seen = with_itself;
        }
        self.scope = inner;
    }

    pub(super) fn set_expression(&mut self, body: &'a SetExpr) {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.later(Node::Query(query)),
            SetExpr::SetOperation { left, op: _, set_quantifier: _, right } => {
                let operations = &mut self.outcome.cost.set_operations;
                *operations = operations.saturating_add(1);
                self.later(Node::SetExpr(left));
                self.later(Node::SetExpr(right));
            }
            SetExpr::Values(values) => self.values(values),
            // `spelling` rewrites TABLE as SELECT before parsing, because the parser swallows two
            // tokens here.
            SetExpr::Table(_) => self.not_listed("TABLE inside a query"),
            SetExpr::Insert(statement)
            | SetExpr::Update(statement)
            | SetExpr::Delete(statement)
            | SetExpr::Merge(statement) => self.change(statement),
        }
    }

    pub(super) fn values(&mut self, values: &'a Values) {
        let Values { explicit_row: _, value_keyword: _, rows } = values;
        for row in rows {
            self.push_all(&row.content);
        }
    }

    fn select(&mut self, select: &'a Select) {
        let Select {
            select_token: _,
            optimizer_hints: _,
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify,
            window_before_qualify: _,
            value_table_mode,
            flavor,
        } = select;
        if into.is_some() {
            self.refuse(Intent::Write, Reason::Into, None);
        }
        self.modifiers(select_modifiers.as_ref());
        self.require(
            top.is_none()
                && exclude.is_none()
                && lateral_views.is_empty()
                && prewhere.is_none()
                && cluster_by.is_empty()
                && distribute_by.is_empty()
                && sort_by.is_empty()
                && qualify.is_none()
                && value_table_mode.is_none()
                && *flavor == SelectFlavor::Standard
                && <[ConnectByKind]>::is_empty(connect_by),
            "a clause of another dialect",
        );
        match distinct {
            Some(Distinct::On(keys)) => self.push_all(keys),
            Some(Distinct::All | Distinct::Distinct) | None => {}
        }
        self.outcome.cost.grouping |=
            matches!(distinct, Some(Distinct::On(_) | Distinct::Distinct));
        self.outcome.cost.filtered |= selection.is_some();
        let commas = u16::try_from(from.len().saturating_sub(1)).unwrap_or(u16::MAX);
        self.outcome.cost.joins = self.outcome.cost.joins.saturating_add(commas);
        for item in projection {
            self.select_item(item);
        }
        from.iter().for_each(|table| self.later(Node::Joined(table)));
        self.push_all(selection);
        self.push_all(having);
        self.group_by(group_by);
        for NamedWindowDefinition(_, window) in named_window {
            match window {
                NamedWindowExpr::NamedWindow(_) => {}
                NamedWindowExpr::WindowSpec(spec) => self.window(spec),
            }
        }
    }

    pub(super) fn select_item(&mut self, item: &'a SelectItem) {
        match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, alias: _ } => {
                self.push(expr);
            }
            SelectItem::ExprWithAliases { .. } => {
                self.not_listed("an expression with several aliases");
            }
            SelectItem::QualifiedWildcard(kind, options) => {
                match kind {
                    SelectItemQualifiedWildcardKind::ObjectName(_) => {}
                    SelectItemQualifiedWildcardKind::Expr(expr) => self.push(expr),
                }
                self.plain_wildcard(options);
            }
            SelectItem::Wildcard(options) => self.plain_wildcard(options),
        }
    }

    fn group_by(&mut self, group_by: &'a GroupByExpr) {
        match group_by {
            GroupByExpr::Expressions(keys, modifiers) => {
                self.outcome.cost.grouping |= !keys.is_empty();
                self.push_all(keys);
                let rollup = |modifier| matches!(modifier, &GroupByWithModifier::Rollup);
                self.require(modifiers.iter().all(rollup), "a modifier of GROUP BY");
            }
            GroupByExpr::All(_) => self.not_listed("GROUP BY ALL"),
        }
    }

    pub(super) fn order_by(&mut self, keys: &'a [OrderByExpr]) {
        for OrderByExpr { expr, options, with_fill } in keys {
            let OrderByOptions { sort, nulls_first: _ } = options;
            self.require(with_fill.is_none(), "WITH FILL");
            match sort {
                Some(OrderBySort::Asc | OrderBySort::Desc) | None => {}
                Some(OrderBySort::Using(_)) => self.not_listed("ORDER BY USING"),
            }
            self.push(expr);
        }
    }

    fn limit(&mut self, limit: Option<&'a LimitClause>) {
        match limit {
            Some(LimitClause::LimitOffset { limit, offset, limit_by }) => {
                self.require(limit_by.is_empty(), "LIMIT BY");
                self.push_all(limit);
                if let Some(Offset { value, rows: _ }) = offset {
                    self.push(value);
                }
            }
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => {
                self.push(offset);
                self.push(limit);
            }
            None => {}
        }
    }

    fn modifiers(&mut self, modifiers: Option<&SelectModifiers>) {
        let Some(SelectModifiers {
            high_priority: _,
            straight_join: _,
            sql_small_result: _,
            sql_big_result: _,
            sql_buffer_result: _,
            sql_no_cache: _,
            sql_calc_found_rows,
        }) = modifiers
        else {
            return;
        };
        if *sql_calc_found_rows {
            // A later FOUND_ROWS() in the same session reads the number of rows.
            self.session("SQL_CALC_FOUND_ROWS", None);
        }
    }

    fn plain_wildcard(&mut self, options: &WildcardAdditionalOptions) {
        let WildcardAdditionalOptions {
            wildcard_token: _,
            opt_ilike,
            opt_exclude,
            opt_except,
            opt_replace,
            opt_rename,
            opt_alias: _,
        } = options;
        self.require(
            opt_ilike.is_none()
                && opt_exclude.is_none()
                && opt_except.is_none()
                && opt_replace.is_none()
                && opt_rename.is_none(),
            "an option of a wildcard",
        );
    }
}

fn limit_of(query: &Query) -> Limit {
    let rows = match (&query.limit_clause, &query.fetch) {
        (Some(LimitClause::LimitOffset { limit: Some(limit), .. }), _)
        | (Some(LimitClause::OffsetCommaLimit { limit, .. }), _) => limit,
        (_, Some(Fetch { quantity: Some(quantity), percent: false, .. })) => quantity,
        // FETCH FIRST ROW without a number means one row.
        (_, Some(Fetch { quantity: None, .. })) => return Limit::Rows(1),
        (_, Some(_)) => return Limit::Computed,
        _ => return Limit::None,
    };
    match rows {
        Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => {
            digits.parse().map_or(Limit::Computed, Limit::Rows)
        }
        Expr::Value(ValueWithSpan { value: Value::Null, .. }) => Limit::None,
        Expr::Identifier(word) if word.value.eq_ignore_ascii_case("all") => Limit::None,
        _ => Limit::Computed,
    }
}
