-- What the catalog of a PostgreSQL database (15 and later) knows but the text of
-- a statement does not show, as one JSON object: see sealane_sql::CatalogFacts.
-- Objects below 16384 (FirstNormalObjectId) are the server's own. Any role may
-- read everything used here.
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

-- The types that each type is made of.
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

-- Types that run a function when a value is read, shown or converted to another type,
-- and types made of them. If one side of a cast is a type of the server's own, only the
-- other side counts: otherwise every type that contains text would count.
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
      -- An argument may be converted to its type implicitly.
      OR EXISTS (SELECT FROM unnest(p.proargtypes) AS argument(oid) JOIN active USING (oid)) AS volatile,
    EXISTS (
      SELECT FROM pg_proc own
      WHERE own.proname = p.proname AND own.oid < 16384
        AND own.pronamespace = 'pg_catalog'::regnamespace
    ) AS shadowed,
    -- `value.f` is `f(value)`; further arguments may have defaults.
    p.pronargs >= 1 AND (p.pronargs - p.pronargdefaults <= 1 OR p.provariadic <> 0) AS takes_one,
    CASE WHEN p.proargdefaults IS NULL THEN '[]'::json
      ELSE json_build_array('SELECT ' || pg_get_expr(p.proargdefaults, 0)) END AS definitions
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
      WHEN c.relrowsecurity THEN coalesce(policies.definitions, '[]'::json)
      ELSE '[]'::json
    END AS definitions,
    coalesce(above.parts, '[]'::json) AS parts
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN refused ON refused.oid = c.oid
  LEFT JOIN above ON above.parent = c.oid
  LEFT JOIN policies ON policies.polrelid = c.oid
  WHERE c.oid >= 16384 AND (
    refused.oid IS NOT NULL OR above.parent IS NOT NULL
    OR (c.relrowsecurity AND c.relkind IN ('r', 'p'))
  )
)

-- Types that call a user's function, and types made of them.
, calling AS (
  WITH RECURSIVE calling(oid) AS (
    SELECT p.objid FROM pg_depend p
    WHERE p.classid = 'pg_type'::regclass AND p.refclassid = 'pg_proc'::regclass AND p.refobjid >= 16384
      AND p.objid IN (SELECT oid FROM pg_type WHERE typtype = 'd')
    UNION
    SELECT c.contypid FROM pg_constraint c
    JOIN pg_depend p ON p.classid = 'pg_constraint'::regclass AND p.objid = c.oid
    WHERE c.contypid <> 0 AND p.refclassid = 'pg_proc'::regclass AND p.refobjid >= 16384
    UNION
    SELECT made.oid FROM calling JOIN made ON made.part = calling.oid
  )
  SELECT DISTINCT oid FROM calling
),

-- Which writes to a table change other tables: by triggers, rules, cascading keys, and users'
-- functions in defaults and checks. Bits of tgtype: 4 INSERT, 8 DELETE, 16 UPDATE.
spreading(oid, on_insert, on_update, on_delete) AS (
  SELECT tgrelid, tgtype & 4 <> 0, tgtype & 16 <> 0, tgtype & 8 <> 0
  FROM pg_trigger WHERE NOT tgisinternal
  UNION ALL
  SELECT confrelid, false, confupdtype IN ('c', 'n', 'd'), confdeltype IN ('c', 'n', 'd')
  FROM pg_constraint WHERE contype = 'f'
  UNION ALL
  SELECT ev_class, ev_type = '3', ev_type = '2', ev_type = '4'
  FROM pg_rewrite WHERE rulename <> '_RETURN'
  UNION ALL
  SELECT d.adrelid, true, true, false
  FROM pg_attrdef d JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
  WHERE p.refclassid = 'pg_proc'::regclass AND p.refobjid >= 16384
  UNION ALL
  SELECT c.conrelid, true, true, false
  FROM pg_constraint c JOIN pg_depend p ON p.classid = 'pg_constraint'::regclass AND p.objid = c.oid
  WHERE c.contype = 'c' AND c.conrelid <> 0
    AND p.refclassid = 'pg_proc'::regclass AND p.refobjid >= 16384
  UNION ALL
  SELECT o.polrelid, true, true, true
  FROM pg_policy o JOIN pg_depend p ON p.classid = 'pg_policy'::regclass AND p.objid = o.oid
  WHERE (p.refclassid = 'pg_proc'::regclass AND p.refobjid >= 16384)
    -- The relation may be a view, which may call anything.
     OR (p.refclassid = 'pg_class'::regclass AND p.refobjid <> o.polrelid)
  UNION ALL
  -- A domain's default and conditions, also of a domain that it is made of.
  SELECT a.attrelid, true, true, false
  FROM pg_attribute a JOIN calling ON calling.oid = a.atttypid
  WHERE a.attnum > 0 AND NOT a.attisdropped
),

-- A table of a family may be read and written through another one: see sealane_sql::TableFact.
tables AS (
  SELECT n.nspname AS schema, c.relname AS name, told.on_insert, told.on_update, told.on_delete, p.relname AS parent
  FROM (
    SELECT oid, on_insert, on_update, on_delete, NULL::oid AS parent FROM spreading
    WHERE on_insert OR on_update OR on_delete
    UNION
    SELECT inhrelid, false, false, false, inhparent FROM pg_inherits
  ) AS told
  JOIN pg_class c ON c.oid = told.oid JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_class p ON p.oid = told.parent
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
)

-- Their definitions are loaded separately: to print one, the server locks everything that it reads.
, views AS (
  SELECT json_build_array(n.nspname, c.relname, c.oid::bigint) AS view
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.oid >= 16384 AND c.relkind = 'v'
)

SELECT json_build_object(
  'functions', coalesce((SELECT json_agg(functions) FROM functions), '[]'::json),
  'operators', coalesce((SELECT json_agg(operators) FROM operators), '[]'::json),
  'types', coalesce((SELECT json_agg(types) FROM types), '[]'::json),
  'tables', coalesce((SELECT json_agg(tables) FROM tables), '[]'::json),
  -- Functions of operators, casts, orderings and domains' conditions may read tables. Extensions'
  -- functions in C are excluded, because they work on values only.
  'reads_unseen', EXISTS (
    SELECT FROM pg_proc f
    WHERE f.oid >= 16384 AND f.provolatile <> 'i'
      AND f.prolang NOT IN (SELECT oid FROM pg_language WHERE lanname IN ('c', 'internal'))
      AND (f.oid IN (SELECT oprcode FROM pg_operator) OR f.oid IN (SELECT castfunc FROM pg_cast)
        OR f.oid IN (SELECT amproc FROM pg_amproc)
        OR f.oid IN (SELECT p.refobjid FROM pg_depend p JOIN pg_constraint c ON c.oid = p.objid
                     WHERE p.classid = 'pg_constraint'::regclass AND p.refclassid = 'pg_proc'::regclass
                       AND c.contypid <> 0))
  ),
  'views', coalesce((SELECT json_agg(view) FROM views), '[]'::json),
  'relations', coalesce((SELECT json_agg(relations) FROM relations), '[]'::json)
)::text
