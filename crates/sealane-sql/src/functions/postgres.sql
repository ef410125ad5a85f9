-- Which functions of a PostgreSQL server are pure: rows of a name and a verdict, run by
-- `cargo xtask functions`, which keeps a name that is pure in each version that has it. A row
-- with the verdict `attribute` says that the name can be called like a column.
--
-- Pure means: changes nothing, waits for nothing, and answers on a replica what it would
-- answer on the primary at the same position, whoever's session asks. The server's own word
-- on it is `provolatile`; the lists below are what that word does not say. Functions of
-- extensions and of users are none of this: they are not in `pg_catalog`.
WITH

-- Volatile, yet harmless: each answer is as good as another, or depends on the data alone.
harmless (name) AS (VALUES
    ('array_sample'), ('array_shuffle'), ('clock_timestamp'), ('current_query'),
    ('gen_random_uuid'), ('random'), ('random_normal'), ('timeofday'), ('uuidv4'), ('uuidv7'),
    -- Which server answers: whoever asks wants to know where reads go.
    ('pg_is_in_recovery'),
    -- Sizes of files, which a replica holds byte by byte, and the shape of a partition tree.
    ('pg_database_size'), ('pg_indexes_size'), ('pg_partition_ancestors'),
    ('pg_partition_tree'), ('pg_relation_size'), ('pg_table_size'), ('pg_tablespace_size'),
    ('pg_total_relation_size')
),

-- Stable or immutable by the catalog, yet no read, or not the same read on a replica.
refused (pattern) AS (VALUES
    -- Run query text, or read whole tables that the statement does not name.
    ('(query|cursor|table|schema|database)_to_xml.*'), ('ts_stat'), ('ts_rewrite'),
    -- Assign a transaction id.
    ('txid_current'), ('pg_current_xact_id'),
    -- Make the temporary schema, and with it assign a transaction id, when `pg_temp` comes first
    -- in the search path: also in a session that is read-only.
    ('current_schemas?'),
    -- About running transactions: a replica sees other ones.
    ('txid_current_(if_assigned|snapshot)'), ('pg_current_xact_id_if_assigned'),
    ('pg_current_snapshot'), ('mxid_age'),
    -- Fail during recovery.
    ('pg_walfile_name.*'), ('pg_replication_origin_oid'),
    -- About this very session, its settings and its connection.
    ('current_setting'), ('get_current_ts_config'), ('pg_timezone_abbrevs.*'), ('pg_show_all_settings'), ('pg_listening_channels'), ('pg_cursor'),
    ('pg_prepared_statement'), ('pg_my_temp_schema'), ('pg_is_other_temp_schema'),
    ('pg_backend_pid'), ('pg_client_encoding'), ('pg_trigger_depth'),
    ('inet_client_(addr|port)'),
    -- About this very server: its progress, its start, its files, its packages, its counters.
    ('pg_last_wal_.*'), ('pg_postmaster_start_time'),
    ('pg_conf_load_time'), ('pg_config'), ('pg_available_extension.*'),
    ('pg_extension_update_paths'), ('pg_stat_get_.*'), ('pg_get_replication_slots'),
    ('pg_get_loaded_modules'), ('pg_numa_available'), ('pg_lock.*'), ('pg_timezone_names'),
    ('pg_tablespace_location'),
    -- For event triggers only.
    ('pg_event_trigger_.*')
),

-- What the parser shows as a call although the server has no function of that name
-- (manual, sections 9.1 to 9.27 and 4.2): a pure operator of its arguments.
syntax (name) AS (VALUES
    ('any'), ('array'), ('coalesce'), ('current_catalog'), ('current_date'), ('current_role'),
    ('current_time'), ('current_timestamp'), ('greatest'), ('grouping'), ('json'),
    ('json_array'), ('json_arrayagg'), ('json_exists'), ('json_objectagg'), ('json_query'),
    ('json_scalar'), ('json_serialize'), ('json_value'), ('least'), ('localtime'),
    ('localtimestamp'), ('nullif'), ('row'), ('some'), ('user'),
    ('xmlattributes'), ('xmlconcat'), ('xmlelement'), ('xmlforest'), ('xmlparse'), ('xmlpi'),
    ('xmlroot'), ('xmlserialize')
),

-- What a statement can call, overload by overload. Types that no expression has
-- (`internal` and its like) mark what only the server itself calls.
callable AS (
    SELECT
        f.proname::text AS name,
        f.provolatile,
        f.pronargs >= 1
            AND (f.pronargs - f.pronargdefaults <= 1 OR f.provariadic <> 0) AS takes_one,
        coalesce(obj_description(f.oid, 'pg_proc'), '') AS description,
        EXISTS (SELECT FROM pg_operator AS o WHERE o.oprcode = f.oid) AS is_operator
    FROM pg_proc AS f
    WHERE f.pronamespace = 'pg_catalog'::regnamespace
        AND f.prokind <> 'p'
        AND NOT EXISTS (
            SELECT FROM unnest(f.proargtypes::oid[] || f.prorettype) AS type (id)
            WHERE format_type(type.id, NULL) IN ('internal', 'cstring', 'trigger', 'pg_ddl_command')
                OR format_type(type.id, NULL) ~ '^(event_trigger|(fdw|index_am|language|table_am|tsm)_handler)$'
        )
),

verdict AS (
    SELECT
        name,
        bool_and(
            (provolatile <> 'v' OR name IN (SELECT h.name FROM harmless AS h))
            AND NOT EXISTS (SELECT FROM refused WHERE name ~ ('^(' || pattern || ')$'))
        ) AS is_pure
    FROM callable
    GROUP BY name
    -- Without what implements operators, types, indexes and aggregates and is called by
    -- these alone: a thousand names that nobody writes. Some of it is written all the same.
    HAVING bool_or(
        description !~ '^(I/O|implementation of .* operator|(B-tree|GIN|GiST|SP-GiST|BRIN) |aggregate .*function$|less-equal-greater|equal image|(larger|smaller) of two)'
        AND name !~ '^binary_upgrade_|_(transfn|validator)$'
        OR name IN ('array_cat', 'json_agg', 'json_object_agg', 'jsonb_agg', 'jsonb_object_agg', 'starts_with')
    )
)

SELECT name, CASE WHEN is_pure THEN 'pure' ELSE 'impure' END AS verdict FROM verdict
UNION ALL
SELECT name, 'pure' FROM syntax WHERE name NOT IN (SELECT v.name FROM verdict AS v)
UNION ALL
-- What `(value).name` and `alias.name` call: whatever takes one argument. Only what does
-- more than to convert or compare a value counts.
SELECT DISTINCT name, 'attribute' FROM callable
WHERE takes_one AND (
    provolatile = 'v' OR EXISTS (SELECT FROM refused WHERE name ~ ('^(' || pattern || ')$'))
)
ORDER BY name;
