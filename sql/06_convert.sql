-- CALL ocr_convert(): what it says. What it does under stress is in test/server/convert.pl.
\set VERBOSITY default
CREATE TABLE jobs (id integer PRIMARY KEY, image bytea, content text);
INSERT INTO jobs SELECT row_number() OVER (ORDER BY name), image FROM pages WHERE name IN ('receipt', 'strip');
INSERT INTO jobs VALUES (3, 'no image'), (4, NULL);

CALL ocr_convert('jobs', 'image', 'content', filter => 'jobs.id > 1 -- not the receipt');
SELECT id, content FROM jobs ORDER BY id;
SELECT source, key, page, error <> '' AS error, sqlstate, attempts FROM ocr_failures;
CALL ocr_convert('jobs', 'image', 'content', filter => 'id <> 1');
CALL ocr_convert('jobs', 'image', 'content', filter => 'id <> 1', retry => true);
SELECT key, attempts FROM ocr_failures;

-- A row for each page.
CREATE TABLE job_texts (id integer REFERENCES jobs, page integer, content text, PRIMARY KEY (id, page));
CALL ocr_convert('jobs', 'image', 'content', target_table => 'job_texts', mode => 'large', filter => 'id = 2');
SELECT * FROM job_texts;

-- What is wrong with the arguments is said before any page is read.
CALL ocr_convert(NULL, 'image', 'content');
CALL ocr_convert('jobs', NULL, 'content');
CALL ocr_convert('jobs', 'image', 'content', batch_size => 0);
CALL ocr_convert('jobs', 'picture', 'content');
CALL ocr_convert('jobs', 'id', 'content');
CALL ocr_convert('jobs', 'image', 'nothing');
CALL ocr_convert('jobs', 'image', 'id');
CALL ocr_convert('jobs', 'image', 'content', key => 'content');
CALL ocr_convert('jobs', 'image', 'content', key => 'ctid');
CALL ocr_convert('jobs', 'image', 'content', prompt => '<image><image>');
CALL ocr_convert('jobs', 'image', 'content', filter => '');
CALL ocr_convert('jobs', 'image', 'content', filter => 'id = 1; DROP TABLE jobs');
CALL ocr_convert('jobs', 'image', 'content', filter => 'true) OR (true');
CALL ocr_convert('jobs', 'image', 'content', filter => 'true AS yes');
CALL ocr_convert('jobs', 'image', 'content', filter => 'nothing = 1');
CALL ocr_convert('jobs', 'image', 'content', filter => 'id');
CREATE VIEW job_view AS SELECT * FROM jobs;
CALL ocr_convert('job_view', 'image', 'content');
CREATE TABLE bare_jobs AS SELECT id, image, id AS page, content FROM jobs;
CALL ocr_convert('bare_jobs', 'image', 'content');
CALL ocr_convert('jobs', 'image', 'content', target_table => 'bare_jobs');
CALL ocr_convert('jobs', 'image', 'content', target_table => 'pages');
ALTER TABLE job_texts ADD made text GENERATED ALWAYS AS ('') STORED;
\set VERBOSITY sqlstate
CALL ocr_convert('jobs', 'image', 'made', target_table => 'job_texts');
\set VERBOSITY default

-- Not where it could not commit.
BEGIN;
CALL ocr_convert('jobs', 'image', 'content');
ROLLBACK;
CREATE FUNCTION convert_jobs(OUT pages bigint, OUT failed bigint) LANGUAGE plpgsql AS $$
BEGIN
    CALL ocr_convert('jobs', 'image', 'content', pages => pages, failed => failed);
END $$;
SELECT convert_jobs();
-- But where PL/pgSQL could.
DO $$
DECLARE
    pages bigint;
    failed bigint;
BEGIN
    CALL ocr_convert('jobs', 'image', 'content', filter => 'id <> 1', retry => true, pages => pages, failed => failed);
    RAISE NOTICE 'pages: %, failed: %', pages, failed;
END $$;

DROP FUNCTION convert_jobs;
DROP TABLE jobs, job_texts, bare_jobs CASCADE;
TRUNCATE ocr_failures;
