-- What the catalog of a PostgreSQL database (15 and later) knows and the text of
-- a statement does not show, as one JSON object: see sealane_sql::CatalogFacts.
-- Objects below 16384 (FirstNormalObjectId) are the server's own. Everything here
-- is readable by any role.
WITH
impure AS (SELECT oid FROM pg_proc WHERE provolatile = 'v'),

-- An aggregate is declared immutable whatever its parts are.
impure_aggregate AS (
  SELECT aggfnoid::oid AS oid FROM pg_aggregate
  WHERE aggtransfn IN (SELECT oid FROM impure) OR aggfinalfn IN (SELECT oid FROM impure)
     OR aggcombinefn IN (SELECT oid FROM impure) OR aggserialfn IN (SELECT oid FROM impure)
     OR aggdeserialfn IN (SELECT oid FROM impure) OR aggmtransfn IN (SELECT oid FROM impure)
     OR aggminvtransfn IN (SELECT oid FROM impure) OR aggmfinalfn IN (SELECT oid FROM impure)
),

-- Which types each type is made of.
made AS (
  SELECT typelem AS part, oid FROM pg_type WHERE typelem <> 0
  UNION ALL
  SELECT typbasetype, oid FROM pg_type WHERE typbasetype <> 0
  UNION ALL
  SELECT rngsubtype, side.oid FROM pg_range, LATERAL (VALUES (rngtypid), (rngmultitypid)) AS side(oid)
  UNION ALL
  SELECT a.atttypid, t.oid FROM pg_attribute a JOIN pg_type t ON t.typrelid = a.attrelid
  WHERE a.attnum > 0 AND NOT a.attisdropped
),

-- Types whose values run something on their way in, out, or over to another type;
-- and types made of them. Of a cast from or to a type of the server's own, the other
-- side is meant: not everything that has text in it.
active AS (
  WITH RECURSIVE active(oid) AS (
    SELECT oid FROM pg_type
    WHERE oid >= 16384 AND (typinput IN (SELECT oid FROM impure) OR typoutput IN (SELECT oid FROM impure)
       OR typreceive IN (SELECT oid FROM impure) OR typsend IN (SELECT oid FROM impure))
    UNION
    SELECT side.oid FROM pg_cast, LATERAL (VALUES (castsource), (casttarget)) AS side(oid)
    WHERE pg_cast.oid >= 16384 AND castfunc IN (SELECT oid FROM impure)
      AND (side.oid >= 16384 OR (castsource < 16384 AND casttarget < 16384))
    UNION
    SELECT made.oid FROM active JOIN made ON made.part = active.oid
  )
  SELECT DISTINCT oid FROM active
),

functions AS (
  SELECT n.nspname AS schema, p.proname AS name,
    p.provolatile = 'v' OR p.oid IN (SELECT oid FROM impure_aggregate)
      -- An argument may be converted to its type without a word.
      OR EXISTS (SELECT FROM unnest(p.proargtypes) AS argument(oid) JOIN active USING (oid)) AS volatile,
    EXISTS (
      SELECT FROM pg_proc own
      WHERE own.proname = p.proname AND own.oid < 16384
        AND own.pronamespace = 'pg_catalog'::regnamespace
    ) AS shadowed,
    -- `row.f` is `f(row)`; further arguments may have defaults.
    coalesce((
      SELECT t.typtype = 'c' OR t.typname IN ('record', 'any', 'anyelement', 'anycompatible', 'anynonarray', 'anycompatiblenonarray')
      FROM pg_type t WHERE t.oid = p.proargtypes[0] AND p.pronargs - p.pronargdefaults <= 1
    ), false) AS takes_row
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE p.oid >= 16384 AND p.prokind <> 'p'
),

operators AS (
  SELECT oprname AS symbol, bool_or(
    oprcode IN (SELECT oid FROM impure)
    OR oprleft IN (SELECT oid FROM active) OR oprright IN (SELECT oid FROM active)
  ) AS volatile
  FROM pg_operator WHERE oid >= 16384 GROUP BY oprname
),

-- A domain's conditions run when something is converted to it.
types AS (
  SELECT t.typname AS name, t.oid IN (SELECT oid FROM active) AS refused,
    coalesce((
      SELECT json_agg('SELECT ' || pg_get_expr(conbin, 0) ORDER BY oid)
      FROM pg_constraint WHERE contypid = t.oid AND contype = 'c'
    ), '[]'::json) AS definitions,
    coalesce((
      SELECT json_agg(part.typname ORDER BY part.typname) FROM pg_type part
      WHERE part.oid = t.typbasetype AND part.typtype = 'd'
    ), '[]'::json) AS parts
  FROM pg_type t
  WHERE t.oid IN (SELECT oid FROM active) OR (t.typtype = 'd' AND t.oid >= 16384)
  UNION ALL
  SELECT t.typname, false, '[]'::json, json_agg(DISTINCT part.typname)
  FROM pg_type t
  JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type part ON part.oid = a.atttypid AND part.typtype = 'd' AND part.oid >= 16384
  GROUP BY t.typname
),

refused AS (
  SELECT c.oid,
    CASE
      WHEN c.relpersistence = 'u' THEN 'it is unlogged'
      WHEN c.relpersistence = 't' THEN 'it is temporary'
      WHEN c.relkind = 'f' THEN 'it is a foreign table'
      -- Sequences are logged ahead of their use.
      WHEN c.relkind = 'S' THEN 'it is a sequence, which is ahead on replicas'
      ELSE 'the type of a column runs a function that is not pure'
    END AS why
  FROM pg_class c
  WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'm', 'v', 'f', 'S') AND (
    c.relpersistence IN ('u', 't') OR c.relkind IN ('f', 'S')
    OR EXISTS (
      SELECT FROM pg_attribute a
      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        AND a.atttypid IN (SELECT oid FROM active)
    )
  )
),

-- Reading a parent reads its children.
above AS (
  WITH RECURSIVE above(parent, part) AS (
    SELECT inhparent, inhrelid FROM pg_inherits WHERE inhrelid IN (SELECT oid FROM refused)
    UNION
    SELECT i.inhparent, i.inhrelid FROM above JOIN pg_inherits i ON i.inhrelid = above.parent
  )
  SELECT parent, json_agg(json_build_array(n.nspname, c.relname) ORDER BY n.nspname, c.relname) AS parts
  FROM above JOIN pg_class c ON c.oid = above.part JOIN pg_namespace n ON n.oid = c.relnamespace
  GROUP BY parent
),

policies AS (
  SELECT polrelid, json_agg('SELECT ' || pg_get_expr(polqual, polrelid) ORDER BY oid) AS definitions
  FROM pg_policy WHERE polqual IS NOT NULL AND polcmd IN ('r', '*') GROUP BY polrelid
),

relations AS (
  SELECT n.nspname AS schema, c.relname AS name, refused.why AS refused,
    CASE
      WHEN c.relkind = 'v' THEN json_build_array(pg_get_viewdef(c.oid))
      WHEN c.relrowsecurity THEN coalesce(policies.definitions, '[]'::json)
      ELSE '[]'::json
    END AS definitions,
    coalesce(above.parts, '[]'::json) AS parts
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN refused ON refused.oid = c.oid
  LEFT JOIN above ON above.parent = c.oid
  LEFT JOIN policies ON policies.polrelid = c.oid
  WHERE c.oid >= 16384 AND (
    refused.oid IS NOT NULL OR above.parent IS NOT NULL OR c.relkind = 'v'
    OR (c.relrowsecurity AND c.relkind IN ('r', 'p'))
  )
)

SELECT json_build_object(
  'functions', coalesce((SELECT json_agg(functions) FROM functions), '[]'::json),
  'operators', coalesce((SELECT json_agg(operators) FROM operators), '[]'::json),
  'types', coalesce((SELECT json_agg(types) FROM types), '[]'::json),
  'relations', coalesce((SELECT json_agg(relations) FROM relations), '[]'::json)
)::text
