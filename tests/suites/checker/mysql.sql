-- Rows that count, and a view of them that tells where it was read.
DROP VIEW IF EXISTS sighting;
DROP TABLE IF EXISTS buoy;
CREATE TABLE buoy (id int PRIMARY KEY, version bigint NOT NULL, author bigint NOT NULL);
INSERT INTO buoy
    WITH RECURSIVE numbers AS (SELECT 0 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < KEYS - 1)
    SELECT n, 0, 0 FROM numbers;
CREATE VIEW sighting AS SELECT id, version, author, address() AS place FROM buoy;
