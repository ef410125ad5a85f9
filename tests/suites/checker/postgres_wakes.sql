-- Every change of a row leaves its author, for as long as the change itself is there.
DROP TABLE IF EXISTS wake;
CREATE TABLE wake (author bigint NOT NULL, id int NOT NULL);
CREATE OR REPLACE FUNCTION leave_wake() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO wake VALUES (new.author, new.id); RETURN NULL; END $$;
CREATE TRIGGER leaves_wake AFTER UPDATE ON buoy FOR EACH ROW EXECUTE FUNCTION leave_wake();
