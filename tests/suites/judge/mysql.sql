-- What the cases name, so that as many of them as possible run. Types convert by themselves.
DROP DATABASE IF EXISTS judge;
CREATE DATABASE judge;
DROP DATABASE IF EXISTS bakery;
CREATE DATABASE bakery;
DROP DATABASE IF EXISTS db;
CREATE DATABASE db;
USE judge;
GRANT ALL ON judge.* TO sealane@'%';
GRANT ALL ON bakery.* TO sealane@'%';
GRANT ALL ON db.* TO sealane@'%';

CREATE TABLE cake (
    id int PRIMARY KEY DEFAULT 1, name varchar(20) DEFAULT 'a', price int DEFAULT 1, x int, bakery_id int,
    gone int, at datetime, tea int, KEY idx (name), KEY idy (price)
);
CREATE TABLE t (
    a int DEFAULT 1, b int DEFAULT 1, c varchar(20), d int, e int, x int, y int, id int DEFAULT 1, name varchar(20),
    p point, q point, title text, body text, nextval int, ts datetime, `for` int, `update` int, `lock` int,
    `DELETE FROM t` int, `x@y` int, `a@b` int, KEY i (a), FULLTEXT KEY ft (title, body)
);
CREATE TABLE T2 (a int);
CREATE TABLE u (a int DEFAULT 1, b int, id int DEFAULT 1, name varchar(20));
CREATE TABLE a (id int DEFAULT 1, x int, y int);
CREATE TABLE b (id int DEFAULT 1, x int, y int);
CREATE TABLE c (id int DEFAULT 1, x int);
CREATE TABLE d (id int DEFAULT 1, x int);
CREATE TABLE fruit (id int DEFAULT 1, name varchar(20), cake_id int DEFAULT 1);
CREATE TABLE filling (id int DEFAULT 1, name varchar(20));
CREATE TABLE cake_filling (cake_id int DEFAULT 1, filling_id int DEFAULT 1);
CREATE TABLE bakery (id int DEFAULT 1, name varchar(20));
CREATE TABLE node (id int DEFAULT 1, parent_id int);
CREATE TABLE `order` (id int DEFAULT 1, customer_id int DEFAULT 1);
CREATE TABLE customer (id int DEFAULT 1, name varchar(20));
CREATE TABLE lineitem (id int DEFAULT 1, order_id int DEFAULT 1);
CREATE TABLE job (id int DEFAULT 1, state int);
CREATE TABLE old_cake (id int DEFAULT 1, name varchar(20));
CREATE TABLE json_struct (`json` json);
CREATE TABLE seaql_migrations (version varchar(20), applied_at bigint);
CREATE TABLE `insert` (`for` int, `update` int, `into` int);
CREATE TABLE `update` (`DELETE FROM t; --` int);
CREATE TABLE `load_file` (`sleep` int, `get_lock` int);
CREATE TABLE `share` (`for` int, `update` int, `lock` int);
CREATE TABLE `3c` (`1a` int, `2b` int);
CREATE VIEW v AS SELECT id, name FROM cake;
CREATE PROCEDURE p() SELECT 1;
CREATE FUNCTION f() RETURNS int DETERMINISTIC NO SQL RETURN 1;
CREATE TRIGGER g BEFORE INSERT ON u FOR EACH ROW SET NEW.a = 1;
CREATE EVENT e ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1;
CREATE TABLE bakery.cake (id int);
CREATE TABLE db.t (a int);

INSERT INTO cake () VALUES ();
INSERT INTO t () VALUES ();
INSERT INTO u () VALUES ();
INSERT INTO a () VALUES ();
INSERT INTO b () VALUES ();
INSERT INTO c () VALUES ();
INSERT INTO d () VALUES ();
INSERT INTO fruit () VALUES ();
INSERT INTO `insert` () VALUES ();
