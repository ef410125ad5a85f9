-- Tables of the suites, and a view that tells where it was read. Suites may hang more on them.
DROP VIEW IF EXISTS whereabouts;
DROP TABLE IF EXISTS boat CASCADE;
DROP TABLE IF EXISTS harbour CASCADE;
CREATE TABLE harbour (id serial PRIMARY KEY, name text NOT NULL);
CREATE TABLE boat (
    id serial PRIMARY KEY,
    harbour_id int NOT NULL REFERENCES harbour,
    name text NOT NULL,
    voyages bigint NOT NULL DEFAULT 0
);
INSERT INTO harbour (name) VALUES ('Husum'), ('Wismar');
CREATE OR REPLACE FUNCTION reads_only() RETURNS boolean LANGUAGE sql STABLE
    RETURN current_setting('default_transaction_read_only')::boolean;
CREATE VIEW whereabouts AS
    SELECT 1 AS id, pg_is_in_recovery() AS in_recovery, host(inet_server_addr()) AS address;
