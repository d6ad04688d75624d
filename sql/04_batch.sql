-- Many pages read together: the same texts, in order, whatever lies between them.
\set VERBOSITY default
SELECT array_agg(image ORDER BY name) AS images FROM pages WHERE name IN ('receipt', 'strip') \gset
SELECT array_agg(ocr(image) ORDER BY name) AS alone FROM pages WHERE name IN ('receipt', 'strip') \gset

SELECT ocr_batch(:'images') = :'alone'::text[] AS "as ocr()",
       ocr_batch(:'images', NULL, NULL) = :'alone'::text[] AS "NULL is the default";
SELECT ocr_batch(NULL) IS NULL AS "no array", ocr_batch('{}') AS "an empty one",
       ocr_batch('{NULL,NULL}') AS "no images";

-- Bad pages and absent ones between good ones; three good pages take turns in two slots.
SELECT ocr(image, 'tiny') AS alone FROM pages WHERE name = 'strip' \gset
SELECT pg_stat_ocr_reset();
SET deepseek_ocr.batch_size = 2;
SELECT ocr_batch(ARRAY['no image', image, NULL, '', image, substr(image, 1, 2000), image], 'tiny')
     = ARRAY[NULL, :'alone', NULL, NULL, :'alone', NULL, :'alone'] AS "the others are read"
FROM pages WHERE name = 'strip';
SELECT pages, errors FROM pg_stat_ocr;
RESET deepseek_ocr.batch_size;

-- The shape is kept, lower bounds included.
SELECT ocr_batch('[0:1]={NULL,NULL}') AS "from 0", ocr_batch('{{NULL,NULL},{NULL,NULL}}') AS "two dimensions";

-- What is wrong with all pages ends the query.
SELECT ocr_batch(ARRAY[image], 'huge') FROM pages WHERE name = 'strip';
SET deepseek_ocr.model = 'missing';
\set VERBOSITY sqlstate
SELECT ocr_batch('{NULL}');
\set VERBOSITY default
RESET deepseek_ocr.model;
SET deepseek_ocr.batch_size = 0;
SET deepseek_ocr.batch_size = 17;

-- A page that is too large alone is a bad page.
SET deepseek_ocr.max_session_memory = '1MB';
\set VERBOSITY sqlstate
SELECT ocr_batch(ARRAY[image]) FROM pages WHERE name = 'strip';
\set VERBOSITY default
RESET deepseek_ocr.max_session_memory;

-- A query's rows, in the query's order; more of them than are fetched at once.
SET deepseek_ocr.batch_size = 1;
CREATE TABLE read AS
SELECT row_number() OVER () AS place, q.*
FROM ocr_query($$
    SELECT i, CASE WHEN i IN (3, 30) THEN image WHEN i = 5 THEN NULL ELSE 'no image' END
    FROM pages, generate_series(40, 1, -1) AS i WHERE name = 'strip' ORDER BY i DESC$$, 'tiny') AS q;
RESET deepseek_ocr.batch_size;
SELECT key, read.text = ocr(image, 'tiny') AS "as ocr()", error, sqlstate
FROM read, pages WHERE name = 'strip' AND key::int IN (3, 4, 5, 30) ORDER BY place;
SELECT count(*), count(sqlstate) AS bad, bool_and(key::int = 41 - place) AS "in order" FROM read;
SELECT q.text = ocr(image, 'tiny', 'Free OCR.') AS "mode and prompt"
FROM pages, ocr_query($$SELECT name, image FROM pages WHERE name = 'strip'$$, 'tiny', 'Free OCR.') AS q
WHERE name = q.key;
SELECT * FROM ocr_query('SELECT NULL::date, NULL::bytea');
SELECT count(*) FROM ocr_query('SELECT 1, image FROM pages WHERE false');
SELECT count(*) FROM ocr_query(NULL);

-- However many rows without image follow a page, few of them are fetched before it is read.
SELECT pg_stat_ocr_reset();
SELECT key AS "pages read by the 3000th row" FROM ocr_query($$
    SELECT CASE i WHEN 3000 THEN (SELECT pages FROM pg_stat_ocr WHERE datname = current_database()) END,
           CASE i WHEN 1 THEN (SELECT image FROM pages WHERE name = 'strip') END
    FROM generate_series(1, 5000) AS i$$, 'tiny') WHERE key IS NOT NULL;

-- Nothing of the query is left in the transaction: its tables can be dropped.
BEGIN;
CREATE TABLE passing (id int, image bytea);
SELECT count(*) FROM ocr_query('SELECT id, image FROM passing');
DROP TABLE passing;
COMMIT;

-- Queries that are none of the kind.
SELECT * FROM ocr_query('SELECT image FROM pages');
SELECT * FROM ocr_query('SELECT name, name FROM pages');
SELECT * FROM ocr_query('SELECT name, image FROM pages; SELECT 1');
SELECT * FROM ocr_query('DELETE FROM pages RETURNING name, image');
SELECT * FROM ocr_query('WITH gone AS (DELETE FROM pages RETURNING name, image) SELECT * FROM gone');
SELECT * FROM ocr_query('SELECT name, image FROM pages FOR UPDATE');
SELECT * FROM ocr_query('DROP TABLE pages');
SELECT * FROM ocr_query('');
SELECT * FROM ocr_query('SELECT nonsense');
SELECT count(*) FROM pages;
