-- Every change of a row leaves its author, for as long as the change itself is there.
DROP TABLE IF EXISTS wake;
CREATE TABLE wake (author bigint NOT NULL, id int NOT NULL);
CREATE TRIGGER leaves_wake AFTER UPDATE ON buoy FOR EACH ROW
    INSERT INTO wake VALUES (new.author, new.id);
