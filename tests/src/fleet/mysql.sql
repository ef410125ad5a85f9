-- Tables of the suites, and a view that tells where it was read. A view may not show
-- variables, a function may.
DROP VIEW IF EXISTS whereabouts;
DROP TABLE IF EXISTS boat;
DROP TABLE IF EXISTS harbour;
CREATE TABLE harbour (id int AUTO_INCREMENT PRIMARY KEY, name text NOT NULL);
CREATE TABLE boat (
    id int AUTO_INCREMENT PRIMARY KEY,
    harbour_id int NOT NULL,
    name text NOT NULL,
    voyages bigint NOT NULL DEFAULT 0,
    FOREIGN KEY (harbour_id) REFERENCES harbour (id)
);
INSERT INTO harbour (name) VALUES ('Husum'), ('Wismar');
DROP FUNCTION IF EXISTS in_recovery;
DROP FUNCTION IF EXISTS reads_only;
DROP FUNCTION IF EXISTS address;
-- The application has defined them, so that it may see what they do: else they are for the primary.
CREATE DEFINER = sealane@'%' FUNCTION in_recovery() RETURNS bool READS SQL DATA RETURN @@global.read_only;
CREATE DEFINER = sealane@'%' FUNCTION reads_only() RETURNS bool READS SQL DATA
    RETURN @@session.READS_ONLY;
CREATE DEFINER = sealane@'%' FUNCTION address() RETURNS varchar(255) CHARSET utf8mb4 READS SQL DATA RETURN @@hostname;
CREATE VIEW whereabouts AS
    SELECT 1 AS id, in_recovery() AS in_recovery, reads_only() AS reads_only,
        address() AS address;
