//! Queries: `WITH`, set operations, `SELECT`, `VALUES`, `TABLE`.

use sealane_core::Intent;
use sqlparser::ast::{
    ConnectByKind, Cte, Distinct, Fetch, GroupByExpr, GroupByWithModifier, LimitClause, LockType,
    NamedWindowDefinition, NamedWindowExpr, Offset, OrderBy, OrderByExpr, OrderByKind,
    OrderByOptions, OrderBySort, Query, Select, SelectFlavor, SelectItem,
    SelectItemQualifiedWildcardKind, SelectModifiers, SetExpr, Values, WildcardAdditionalOptions,
    With,
};

use crate::classification::{Classification, Reason};

use super::{Node, Proof, Prover, require};

impl<'a> Prover<'a> {
    pub(super) fn query(&mut self, query: &'a Query) -> Proof {
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
            return Err(Classification::new(Intent::Write, Reason::Locking(clause)));
        }
        require(for_clause.is_none(), "a FOR clause")?;
        require(settings.is_none() && format_clause.is_none(), "SETTINGS or FORMAT")?;
        require(pipe_operators.is_empty(), "a pipe operator")?;
        if let Some(With { with_token: _, recursive: _, cte_tables }) = with {
            for Cte { alias, query, from, materialized: _, closing_paren_token: _ } in cte_tables {
                require(from.is_none(), "FROM after a common table expression")?;
                self.alias(Some(alias))?;
                self.push_query(query);
            }
        }
        self.pending.push(Node::SetExpr(body));
        if let Some(OrderBy { kind, interpolate }) = order_by {
            require(interpolate.is_none(), "INTERPOLATE")?;
            match kind {
                OrderByKind::Expressions(keys) => self.order_by(keys)?,
                OrderByKind::All(_) => return Err(Classification::not_listed("ORDER BY ALL")),
            }
        }
        self.limit(limit_clause.as_ref())?;
        if let Some(Fetch { with_ties: _, percent: _, quantity }) = fetch {
            self.push_all(quantity);
        }
        Ok(())
    }

    pub(super) fn set_expression(&mut self, body: &'a SetExpr) -> Proof {
        let writes = |name| Err(Classification::new(Intent::Write, Reason::Writes(name)));
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => {
                self.push_query(query);
                Ok(())
            }
            SetExpr::SetOperation { left, op: _, set_quantifier: _, right } => {
                self.pending.push(Node::SetExpr(left));
                self.pending.push(Node::SetExpr(right));
                Ok(())
            }
            SetExpr::Values(Values { explicit_row: _, value_keyword: _, rows }) => {
                for row in rows {
                    self.push_all(&row.content);
                }
                Ok(())
            }
            // The parser swallows the two tokens after the name, whatever they are.
            SetExpr::Table(_) => Err(Classification::not_listed("TABLE inside a query")),
            SetExpr::Insert(_) => writes("INSERT"),
            SetExpr::Update(_) => writes("UPDATE"),
            SetExpr::Delete(_) => writes("DELETE"),
            SetExpr::Merge(_) => writes("MERGE"),
        }
    }

    fn select(&mut self, select: &'a Select) -> Proof {
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
            return Err(Classification::new(Intent::Write, Reason::Into));
        }
        modifiers(select_modifiers.as_ref())?;
        require(
            top.is_none() && exclude.is_none() && lateral_views.is_empty() && prewhere.is_none(),
            "a clause of another dialect",
        )?;
        require(
            cluster_by.is_empty() && distribute_by.is_empty() && sort_by.is_empty(),
            "a clause of another dialect",
        )?;
        require(
            qualify.is_none()
                && value_table_mode.is_none()
                && *flavor == SelectFlavor::Standard
                && <[ConnectByKind]>::is_empty(connect_by),
            "a clause of another dialect",
        )?;
        match distinct {
            Some(Distinct::On(keys)) => self.push_all(keys),
            Some(Distinct::All | Distinct::Distinct) | None => {}
        }
        for item in projection {
            self.select_item(item)?;
        }
        self.pending.extend(from.iter().map(Node::Joined));
        self.push_all(selection);
        self.push_all(having);
        self.group_by(group_by)?;
        for NamedWindowDefinition(_, window) in named_window {
            match window {
                NamedWindowExpr::NamedWindow(_) => {}
                NamedWindowExpr::WindowSpec(spec) => self.window(spec)?,
            }
        }
        Ok(())
    }

    fn select_item(&mut self, item: &'a SelectItem) -> Proof {
        match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, alias: _ } => {
                self.push(expr);
                Ok(())
            }
            SelectItem::ExprWithAliases { .. } => {
                Err(Classification::not_listed("an expression with several aliases"))
            }
            SelectItem::QualifiedWildcard(kind, options) => {
                match kind {
                    SelectItemQualifiedWildcardKind::ObjectName(_) => {}
                    SelectItemQualifiedWildcardKind::Expr(expr) => self.push(expr),
                }
                plain_wildcard(options)
            }
            SelectItem::Wildcard(options) => plain_wildcard(options),
        }
    }

    fn group_by(&mut self, group_by: &'a GroupByExpr) -> Proof {
        match group_by {
            GroupByExpr::Expressions(keys, modifiers) => {
                self.push_all(keys);
                let rollup = |modifier| matches!(modifier, &GroupByWithModifier::Rollup);
                require(modifiers.iter().all(rollup), "a modifier of GROUP BY")
            }
            GroupByExpr::All(_) => Err(Classification::not_listed("GROUP BY ALL")),
        }
    }

    pub(super) fn order_by(&mut self, keys: &'a [OrderByExpr]) -> Proof {
        for OrderByExpr { expr, options, with_fill } in keys {
            let OrderByOptions { sort, nulls_first: _ } = options;
            require(with_fill.is_none(), "WITH FILL")?;
            match sort {
                Some(OrderBySort::Asc | OrderBySort::Desc) | None => {}
                Some(OrderBySort::Using(_)) => {
                    return Err(Classification::not_listed("ORDER BY USING"));
                }
            }
            self.push(expr);
        }
        Ok(())
    }

    fn limit(&mut self, limit: Option<&'a LimitClause>) -> Proof {
        match limit {
            Some(LimitClause::LimitOffset { limit, offset, limit_by }) => {
                require(limit_by.is_empty(), "LIMIT BY")?;
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
        Ok(())
    }
}

fn modifiers(modifiers: Option<&SelectModifiers>) -> Proof {
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
        return Ok(());
    };
    if *sql_calc_found_rows {
        // FOUND_ROWS() on the same session is what it is for.
        return Err(Classification::session("SQL_CALC_FOUND_ROWS"));
    }
    Ok(())
}

fn plain_wildcard(options: &WildcardAdditionalOptions) -> Proof {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias: _,
    } = options;
    require(
        opt_ilike.is_none()
            && opt_exclude.is_none()
            && opt_except.is_none()
            && opt_replace.is_none()
            && opt_rename.is_none(),
        "an option of a wildcard",
    )
}
