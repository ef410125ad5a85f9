-- What the cases name, so that as many of them as possible run. Made once for each type that
-- VALUE_TYPE stands for, in a schema of its own: a column is a number in one case and JSON in
-- the next. All tables are logged: what only the catalog knows is another suite's.
DROP SCHEMA IF EXISTS judge_SHAPE CASCADE;
CREATE SCHEMA judge_SHAPE;
SET search_path TO judge_SHAPE, public;

CREATE SEQUENCE s;
SELECT nextval('s');
CREATE SEQUENCE cake_id_seq;
CREATE TYPE mood AS ENUM ('fine');
CREATE TYPE tea AS ENUM ('breakfast');
CREATE FUNCTION f() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1';
CREATE FUNCTION my_function(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1';
CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1';

CREATE TABLE cake (
    id int PRIMARY KEY DEFAULT 1, name text DEFAULT 'a', price numeric DEFAULT 1, x VALUE_TYPE,
    bakery_id int, gluten_free boolean, serial uuid, meta jsonb DEFAULT '{}', tags text[], mood mood,
    gone boolean, at timestamptz DEFAULT now(), tea tea
);
CREATE TABLE t (
    a VALUE_TYPE, b VALUE_TYPE, c VALUE_TYPE, d VALUE_TYPE, e VALUE_TYPE, x VALUE_TYPE, y VALUE_TYPE,
    id int DEFAULT 1, name text DEFAULT 'a', ts timestamptz DEFAULT now(), doc tsvector DEFAULT 'a',
    r int4range DEFAULT '[1,3)', nextval int, set_config int, pg_sleep int, lock int,
    pg_advisory_lock int, nextval_count int, update int, data int, top int, qualify int, sample int
);
CREATE TABLE u (a VALUE_TYPE, b VALUE_TYPE, id int DEFAULT 1, name text);
CREATE TABLE a (id int DEFAULT 1, x VALUE_TYPE, y VALUE_TYPE, parent_id int);
CREATE TABLE b (id int DEFAULT 1, x VALUE_TYPE, y VALUE_TYPE);
CREATE TABLE c (id int DEFAULT 1, x VALUE_TYPE);
CREATE TABLE d (id int DEFAULT 1, x VALUE_TYPE);
CREATE TABLE x (a VALUE_TYPE, id int DEFAULT 1);
CREATE TABLE fruit (id int DEFAULT 1, name text, cake_id int DEFAULT 1);
CREATE TABLE filling (id int DEFAULT 1, name text);
CREATE TABLE cake_filling (cake_id int DEFAULT 1, filling_id int DEFAULT 1);
CREATE TABLE bakery (id int DEFAULT 1, name text);
CREATE TABLE node (id int DEFAULT 1, parent_id int);
CREATE TABLE "order" (id int DEFAULT 1, customer_id int DEFAULT 1);
CREATE TABLE customer (id int DEFAULT 1, name text);
CREATE TABLE lineitem (id int DEFAULT 1, order_id int DEFAULT 1);
CREATE TABLE ids (id int DEFAULT 1);
CREATE TABLE job (id int DEFAULT 1, state text);
CREATE TABLE old_cake (id int DEFAULT 1, name text);
CREATE TABLE tag (id int DEFAULT 1, name text);
CREATE TABLE item (embedding point DEFAULT '(1,2)');
CREATE TABLE uuid (id uuid, at timestamptz);
CREATE TABLE collection (teas tea[], integers int[]);
CREATE TABLE json_struct (json jsonb DEFAULT '{}');
CREATE TABLE active_enum (id int DEFAULT 1, tea tea);
CREATE TABLE seaql_migrations (version text, applied_at bigint);
CREATE TABLE unlogged_t (a VALUE_TYPE, id int DEFAULT 1);
CREATE TABLE "insert" ("for" int, "update" int, "into" int);
CREATE TABLE "currval" ("nextval" int);
CREATE TABLE "DELETE FROM t" ("a;b" int, "--" int, "/*" int, "it""s" int);
CREATE TABLE pie AS SELECT * FROM cake WITH NO DATA;
CREATE VIEW v AS SELECT id, name FROM cake;

INSERT INTO cake DEFAULT VALUES;
INSERT INTO t DEFAULT VALUES;
INSERT INTO u DEFAULT VALUES;
INSERT INTO a DEFAULT VALUES;
INSERT INTO b DEFAULT VALUES;
INSERT INTO c DEFAULT VALUES;
INSERT INTO x DEFAULT VALUES;
INSERT INTO fruit DEFAULT VALUES;
INSERT INTO "insert" DEFAULT VALUES;
INSERT INTO "currval" DEFAULT VALUES;

-- Those that are named with their schema.
CREATE SCHEMA IF NOT EXISTS bakery;
CREATE TABLE IF NOT EXISTS bakery.cake (id int, name text);
CREATE TABLE IF NOT EXISTS public.cake (id int, name text);
CREATE TABLE IF NOT EXISTS public.t (a int, id int);
CREATE TABLE IF NOT EXISTS public.active_enum (id int, tea text);
DROP TYPE IF EXISTS public.mood;
CREATE TYPE public.mood AS ENUM ('fine');
