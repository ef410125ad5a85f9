SELECT concat_ws(', ',
    (SELECT 'an advisory lock' WHERE EXISTS (
        SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
    )),
    (SELECT 'prepared statement ' || min(name) FROM pg_prepared_statements HAVING count(*) > 0),
    (SELECT 'cursor ' || min(name) FROM pg_cursors HAVING count(*) > 0),
    (SELECT 'listens to ' || min(channel) FROM pg_listening_channels() AS channel HAVING count(*) > 0),
    (SELECT 'a temporary table' WHERE pg_my_temp_schema() <> 0),
    -- They differ only within a transaction that began earlier.
    (SELECT 'a transaction' WHERE now() <> statement_timestamp()),
    (SELECT 'setting ' || min(name) FROM pg_settings
        WHERE source = 'session' AND name NOT IN ('search_path', 'statement_timeout') HAVING count(*) > 0)
)
