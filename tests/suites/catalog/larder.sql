-- What the text of a statement does not show: functions, operators, casts, domains, views and
-- tables of every kind, pure ones and others, in a schema of their own.
DROP SCHEMA IF EXISTS larder CASCADE;
DROP SCHEMA IF EXISTS cellar CASCADE;
CREATE SCHEMA larder;
CREATE SCHEMA cellar;

CREATE TABLE larder.jam (id int PRIMARY KEY, name text NOT NULL);
INSERT INTO larder.jam VALUES (1, 'plum'), (2, 'quince');
CREATE SEQUENCE larder.jars;
SELECT nextval('larder.jars');

-- Functions.
CREATE FUNCTION larder.tasted(text) RETURNS text STABLE RETURN 'sweet ' || $1;
CREATE FUNCTION larder.opened(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1';
CREATE FUNCTION cellar.dusted(int) RETURNS int STABLE RETURN $1;
CREATE FUNCTION cellar.corked(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1';
-- Overloads of the server's own names.
CREATE FUNCTION larder.initcap(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1';
CREATE FUNCTION larder.reverse(int) RETURNS int STABLE RETURN -$1;
-- Called as if they were columns.
CREATE FUNCTION larder.smell(larder.jam) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1';
CREATE FUNCTION larder.colour(larder.jam) RETURNS int STABLE RETURN 1;

-- Aggregates.
CREATE FUNCTION larder.pour(int, int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1 + $2';
CREATE AGGREGATE larder.poured(int) (SFUNC = larder.pour, STYPE = int, INITCOND = '0');
CREATE AGGREGATE larder.weighed(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');

-- Operators.
CREATE FUNCTION larder.blend(int, int) RETURNS int IMMUTABLE RETURN $1 + $2;
CREATE OPERATOR larder.|+| (LEFTARG = int, RIGHTARG = int, FUNCTION = larder.blend);
CREATE OPERATOR larder.|!| (LEFTARG = int, RIGHTARG = int, FUNCTION = larder.pour);

-- Domains and casts.
CREATE FUNCTION larder.is_fresh(int) RETURNS boolean LANGUAGE sql VOLATILE AS 'SELECT true';
CREATE DOMAIN larder.grams AS int CHECK (VALUE >= 0);
CREATE DOMAIN larder.fresh AS int CHECK (larder.is_fresh(VALUE));
CREATE TYPE larder.label AS (words text);
CREATE FUNCTION larder.read_label(larder.label) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT ($1).words';
CREATE CAST (larder.label AS text) WITH FUNCTION larder.read_label(larder.label) AS IMPLICIT;
CREATE TABLE larder.labelled (id int, label larder.label);
INSERT INTO larder.labelled VALUES (1, ROW('plum'));

-- Views.
CREATE VIEW larder.plain AS SELECT id, name FROM larder.jam;
CREATE VIEW larder.locking AS SELECT id, pg_advisory_lock(4711)::text FROM larder.jam;
CREATE VIEW larder.counting AS SELECT nextval('larder.jars') AS n;
CREATE VIEW larder.opening AS SELECT larder.opened(id) AS id FROM larder.jam;
CREATE VIEW larder.tasting AS SELECT id, larder.tasted(name) AS taste FROM larder.jam;
CREATE UNLOGGED TABLE larder.scratch (id int);
CREATE VIEW larder.scratching AS SELECT id FROM larder.scratch;
CREATE VIEW larder.above_locking AS SELECT id FROM larder.locking;
CREATE MATERIALIZED VIEW larder.kept AS SELECT id, larder.opened(id) AS opened FROM larder.jam;

-- Children.
CREATE TABLE larder.shelf (id int);
INSERT INTO larder.shelf VALUES (1);
CREATE UNLOGGED TABLE larder.shelf_top () INHERITS (larder.shelf);

-- Row level security.
CREATE TABLE larder.shared (id int);
INSERT INTO larder.shared VALUES (1);
ALTER TABLE larder.shared ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON larder.shared USING (id > 0);
CREATE TABLE larder.watched (id int);
INSERT INTO larder.watched VALUES (1);
ALTER TABLE larder.watched ENABLE ROW LEVEL SECURITY;
CREATE POLICY guard ON larder.watched USING (larder.is_fresh(id));
CREATE TABLE larder.tenants (id int);
INSERT INTO larder.tenants VALUES (1);
ALTER TABLE larder.tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON larder.tenants USING (id::text = current_setting('app.tenant', true));
