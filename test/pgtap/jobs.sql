-- ocr_convert() has its caller's rights, and shows failures to nobody else. Not in a
-- transaction, which it would refuse, but in a database of its own.
\set ON_ERROR_STOP on
CREATE DATABASE jobs;
CREATE ROLE clerk;
CREATE ROLE other_clerk;
\c jobs
CREATE EXTENSION pgtap;
CREATE SCHEMA ocr;
GRANT USAGE ON SCHEMA ocr TO PUBLIC;
CREATE EXTENSION deepseek_ocr SCHEMA ocr;
GRANT CREATE ON SCHEMA public TO PUBLIC;
SET search_path = public, ocr;
SET client_min_messages = warning;
\set page `base64 -w0 demo/pages/strip.png`
SELECT decode(:'page', 'base64') AS page \gset

SELECT * FROM no_plan();

SELECT table_privs_are('ocr', 'ocr_failures', 'clerk', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']);
SELECT table_privs_are('ocr', 'ocr_progress', 'clerk', ARRAY['SELECT']);

-- An ordinary role converts a table of its own.
SET ROLE clerk;
CREATE TABLE scans (id integer PRIMARY KEY, image bytea, content text);
INSERT INTO scans VALUES (1, :'page'), (2, 'no image'), (3, NULL);
CALL ocr_convert('scans', 'image', 'content', mode => 'tiny') \gset
SELECT is(:pages, 1, 'one page is read');
SELECT is(:failed, 1, 'one is not');
SELECT is(content, ocr(image, 'tiny'), 'the text is that of ocr()') FROM scans WHERE id = 1;
SELECT results_eq('SELECT role, source, key, page, sqlstate, attempts FROM ocr_failures',
                  $$VALUES ('clerk'::regrole, 'scans'::regclass, '2', 1, 'OC002', 1)$$, 'the failure is recorded');

-- Its progress, seen by itself.
CREATE TABLE seen (source regclass, usename name, pages bigint);
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.seen SELECT source, usename, pages FROM ocr.ocr_progress;
    RETURN NULL;
END $$;
CREATE TRIGGER look AFTER UPDATE ON scans FOR EACH ROW EXECUTE FUNCTION look();
UPDATE scans SET content = NULL;
TRUNCATE seen;
CALL ocr_convert('scans', 'image', 'content', mode => 'tiny') \gset
DROP TRIGGER look ON scans;
SELECT results_eq('SELECT source, usename, pages FROM seen', $$VALUES ('scans'::regclass, 'clerk'::name, 1::bigint)$$,
                  'a job''s own session sees how far it is, without preloading too');
SELECT is_empty('SELECT * FROM ocr_progress', 'as long as it runs');

-- Another one sees nothing of it, and cannot pretend.
SET ROLE other_clerk;
SELECT is_empty('SELECT * FROM ocr_failures', 'failures are shown to nobody else');
SELECT throws_ok($$INSERT INTO ocr_failures VALUES ('clerk', 'scans', 'image', 'scans', 'content', '1', 1, 'none', 'OC001', 1, now())$$,
                 '42501', NULL, 'nor made up in their name');
CREATE TABLE papers (id text PRIMARY KEY, image bytea, content text);
INSERT INTO papers VALUES ('x', 'no image');
CALL ocr_convert('papers', 'image', 'content') \gset
SELECT throws_ok($$UPDATE ocr_failures SET role = 'clerk'$$, '42501', NULL, 'nor given away');
SELECT lives_ok('DELETE FROM ocr_failures', 'one''s own can be deleted');
RESET ROLE;
SELECT results_eq('SELECT role FROM ocr_failures', $$VALUES ('clerk'::regrole)$$, 'others'' cannot; a superuser sees all');
CALL ocr_convert('scans', 'image', 'content') \gset
SELECT is(:failed, 1, 'but what failed for one role is another''s to try');

-- Rights on the table are the caller's.
\set VERBOSITY terse
\set ON_ERROR_STOP off
SET ROLE other_clerk;
CALL ocr_convert('scans', 'image', 'content');
SELECT is(:'SQLSTATE'::text, '42501', 'no right to read, no conversion');
SET ROLE clerk;
GRANT SELECT ON scans TO other_clerk;
GRANT UPDATE (image) ON scans TO other_clerk;
INSERT INTO scans VALUES (4, :'page');
SET ROLE other_clerk;
CALL ocr_convert('scans', 'image', 'content');
SELECT is(:'SQLSTATE'::text, '42501', 'nor without the right to write the text');
SELECT is(:'LAST_ERROR_MESSAGE'::text, 'permission denied for table scans', 'as PostgreSQL says');
CALL ocr_convert('papers', 'image', 'content', filter => $$pg_read_file('/etc/passwd') > ''$$);
SELECT is(:'SQLSTATE'::text, '42501', 'a filter cannot read a file');
CREATE TABLE victims (id integer);
CALL ocr_convert('papers', 'image', 'content', filter => $$true); DROP TABLE victims; --$$);
SELECT is(:'SQLSTATE'::text, '42601', 'nor be more than an expression');
CALL ocr_convert('papers', 'image', 'content', filter => $$true) OR (true$$);
SELECT is(:'SQLSTATE'::text, '42601', 'with parentheses that match');
CALL ocr_convert('papers', 'image', 'content', filter => $$true UNION SELECT 1$$);
SELECT is(:'SQLSTATE'::text, '42601', 'and nothing after it');

-- Row level security of the table itself.
SET ROLE clerk;
GRANT UPDATE ON scans TO other_clerk;
INSERT INTO scans VALUES (5, 'no image');
ALTER TABLE scans ENABLE ROW LEVEL SECURITY;
CREATE POLICY odd ON scans USING (id % 2 = 1);
SET ROLE other_clerk;
CALL ocr_convert('scans', 'image', 'content', mode => 'tiny') \gset
SELECT results_eq('SELECT key FROM ocr_failures', $$VALUES ('5')$$, 'rows that the caller may not see are not touched');

-- A policy on what may be written is a matter of the row.
SET ROLE clerk;
CREATE POLICY read ON scans FOR SELECT USING (true);
DROP POLICY odd ON scans;
CREATE POLICY not_six ON scans FOR UPDATE USING (true) WITH CHECK (id <> 6);
INSERT INTO scans SELECT n, image FROM scans, generate_series(6, 8) AS n WHERE id = 1;
SET ROLE other_clerk;
DELETE FROM ocr_failures;
CALL ocr_convert('scans', 'image', 'content', mode => 'tiny', filter => 'id > 5') \gset
SELECT is(:pages, 2, 'rows that policies allow to be written are');
SELECT results_eq('SELECT key, sqlstate FROM ocr_failures', $$VALUES ('6', '42501')$$, 'what they do not is a failure');

-- A right on the table that is lost meanwhile is not.
SET ROLE clerk;
CREATE TABLE texts (id integer, page integer, content text, PRIMARY KEY (id, page));
GRANT SELECT, INSERT ON texts TO other_clerk;
CREATE FUNCTION revoke_it() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    REVOKE INSERT ON public.texts FROM other_clerk;
    RETURN NULL;
END $$;
CREATE TRIGGER revoke_it AFTER INSERT ON texts FOR EACH ROW EXECUTE FUNCTION revoke_it();
SET ROLE other_clerk;
CALL ocr_convert('scans', 'image', 'content', target_table => 'texts', mode => 'tiny', filter => 'id > 6', batch_size => 1);
SELECT is(:'SQLSTATE'::text, '42501', 'a right that is lost ends the job');
SELECT is((SELECT count(*)::int FROM texts), 1, 'after what was stored before');
SELECT is_empty($$SELECT 1 FROM ocr_failures WHERE key::int > 6$$, 'and is no failure of a row');

-- A retry forgets what is no longer there.
SET ROLE clerk;
DELETE FROM scans WHERE id = 6;
SET ROLE other_clerk;
DROP TABLE papers;
CREATE TABLE papers (id text PRIMARY KEY, image bytea, content text);
INSERT INTO papers VALUES ('x', 'no image'), ('y', 'no image');
CALL ocr_convert('papers', 'image', 'content') \gset
DELETE FROM papers WHERE id = 'y';
CALL ocr_convert('papers', 'image', 'content') \gset
SELECT results_eq('SELECT key, attempts FROM ocr_failures ORDER BY 1', $$VALUES ('6', 1), ('x', 1), ('y', 1)$$,
                  'failures of rows that are gone');
CALL ocr_convert('papers', 'image', 'content', retry => true) \gset
SELECT results_eq('SELECT key, attempts FROM ocr_failures ORDER BY 1', $$VALUES ('6', 1), ('x', 2)$$, 'are forgotten by a retry');
ALTER TABLE papers RENAME TO old_papers;
DROP TABLE old_papers;
CREATE TABLE papers (id text PRIMARY KEY, image bytea, content text);
CALL ocr_convert('papers', 'image', 'content', retry => true) \gset
SELECT results_eq('SELECT key FROM ocr_failures', $$VALUES ('6')$$, 'and so are those of a table that is gone');

-- A role is who it is, not what it is called.
RESET ROLE;
ALTER ROLE clerk RENAME TO "Old clerk";
CREATE ROLE clerk;
SET ROLE clerk;
SELECT is_empty('SELECT * FROM ocr_failures', 'a new role of an old name sees nothing');
SET ROLE "Old clerk";
SELECT results_eq('SELECT role::text, key FROM ocr_failures', $$VALUES ('"Old clerk"', '2')$$, 'the one that was renamed sees its own');

RESET ROLE;
SELECT throws_ok($$CALL ocr_convert('scans', 'image', 'content')$$, '2D000', NULL, 'not inside a function');

SELECT * FROM finish();
\c postgres
DROP DATABASE jobs;
DROP ROLE clerk, other_clerk, "Old clerk";
