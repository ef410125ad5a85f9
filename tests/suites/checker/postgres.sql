-- Rows that count, and a view of them that tells where it was read.
DROP VIEW IF EXISTS sighting;
DROP TABLE IF EXISTS buoy;
CREATE TABLE buoy (id int PRIMARY KEY, version bigint NOT NULL, author bigint NOT NULL);
INSERT INTO buoy SELECT n, 0, 0 FROM generate_series(0, KEYS - 1) n;
CREATE VIEW sighting AS
    SELECT id, version, author, host(inet_server_addr()) AS place FROM buoy;
