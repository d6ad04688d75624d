-- What an ordinary role may do: read pages, and nothing else.
\set ON_ERROR_STOP on
BEGIN;
CREATE EXTENSION pgtap;
CREATE EXTENSION deepseek_ocr;
SELECT ocr_load(); -- loads the library, and with it the settings
CREATE ROLE ordinary;
CREATE ROLE auditor;
GRANT pg_read_all_settings TO auditor;

SELECT * FROM no_plan();

SELECT ok(has_function_privilege('ordinary', p.oid, 'EXECUTE'), 'anyone may call ' || p.proname)
  FROM pg_proc p
  JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'deepseek_ocr'
  WHERE p.proname NOT IN ('ocr_quantize_model', 'pg_stat_ocr_reset');
SELECT function_privs_are('ocr_quantize_model', ARRAY['text', 'text', 'text'], 'ordinary', '{}'::text[],
                          'but for the one that writes files');
SELECT function_privs_are('pg_stat_ocr_reset', '{}'::name[], 'ordinary', '{}'::text[],
                          'and the one that forgets what was counted');
SELECT table_privs_are(view, 'ordinary', ARRAY['SELECT'], 'anyone may see ' || view)
  FROM unnest(ARRAY['pg_stat_ocr', 'pg_stat_ocr_errors']) AS view;

-- The statement of doc/operations.md takes everything that reads a page from ordinary roles.
SAVEPOINT revoked;
REVOKE EXECUTE ON ROUTINE ocr, ocr_try, ocr_detail, ocr_batch, ocr_query, ocr_pages, ocr_convert, ocr_markdown, ocr_layout,
    ocr_locate, ocr_annotate, ocr_load, vision_tokens, vision_token_count FROM PUBLIC;
CREATE TEMP TABLE callable AS
  SELECT p.proname FROM pg_proc p
  JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'deepseek_ocr'
  WHERE has_function_privilege('ordinary', p.oid, 'EXECUTE');
SELECT set_eq('SELECT proname::text FROM callable',
              ARRAY['ocr_models', 'pg_stat_get_ocr', 'pg_stat_get_ocr_errors', 'pg_stat_get_ocr_progress'],
              'what is left when the CPU is reserved');
ROLLBACK TO revoked;

-- Settings that change results or protect the server belong to superusers.
SELECT set_eq($$SELECT name FROM pg_settings WHERE name LIKE 'deepseek_ocr.%' AND context <> 'superuser'$$,
              ARRAY['deepseek_ocr.batch_size', 'deepseek_ocr.threads'], 'only those on which no text depends are everyone''s');

SET ROLE ordinary;
SELECT throws_ok(format('SET %s = %L', name, value), '42501', NULL, 'an ordinary role may not set ' || name)
  FROM (VALUES ('deepseek_ocr.model', '/etc'), ('deepseek_ocr.max_tokens', '1'),
               ('deepseek_ocr.no_repeat_ngram_size', '0'), ('deepseek_ocr.no_repeat_ngram_window', '1'),
               ('deepseek_ocr.no_repeat_ngram_whitelist', '<td>'), ('deepseek_ocr.min_confidence', '1'), ('deepseek_ocr.turn_confidence', '1'), ('deepseek_ocr.max_image_pixels', '1'), ('deepseek_ocr.max_document_pages', '1'),
               ('deepseek_ocr.max_session_memory', '1MB'), ('deepseek_ocr.max_batch_memory', '1GB'), ('deepseek_ocr.compute', 'f32'), ('deepseek_ocr.cpu_level', 'portable'),
               ('deepseek_ocr.pdf_command', 'true'), ('deepseek_ocr.pdf_resolution', '100'),
               ('deepseek_ocr.pdf_timeout', '1')) s (name, value);
SELECT lives_ok('SET LOCAL deepseek_ocr.threads = 1', 'but it may set the number of threads');
SELECT lives_ok('SET LOCAL deepseek_ocr.batch_size = 2', 'and how many pages are read together');
SELECT throws_ok('SHOW deepseek_ocr.model', '42501', NULL, 'nor see where the model lies');
SELECT throws_ok('SHOW deepseek_ocr.pdf_command', '42501', NULL, 'nor which program is run');
SELECT is_empty('SELECT 1 FROM ocr_models() WHERE path IS NOT NULL OR error LIKE ''%/%''',
                'no path is shown to an ordinary role');
SELECT isnt_empty('SELECT 1 FROM ocr_models() WHERE name = ''default'' AND current', 'names are');
RESET ROLE;

-- How many threads there are decides neither whether a page is read nor what it is said to take.
SET LOCAL deepseek_ocr.max_session_memory = '1MB';
SET ROLE ordinary;
SET LOCAL deepseek_ocr.threads = 1;
CREATE TEMP TABLE refused AS SELECT t.* FROM ocr_try(convert_to(E'P5 1 1 255\n0', 'UTF8')) AS t;
SET LOCAL deepseek_ocr.threads = 64;
SELECT results_eq($$SELECT * FROM ocr_try(convert_to(E'P5 1 1 255\n0', 'UTF8'))$$, 'TABLE refused', 'memory is that of one thread');
SELECT results_eq('SELECT sqlstate FROM refused', $$VALUES ('OC005')$$, 'as a page that takes too much is told');
RESET ROLE;
SET LOCAL deepseek_ocr.max_session_memory = '2GB';

-- Functions that run a query run it with the caller's rights, and no query that writes.
CREATE TABLE public.secret (id int, image bytea);
CREATE TABLE public.shown (id int, image bytea);
INSERT INTO public.shown VALUES (1, NULL);
GRANT SELECT ON public.shown TO ordinary;
SET ROLE ordinary;
SELECT lives_ok($$SELECT * FROM ocr_query('SELECT id, image FROM public.shown')$$, 'one reads what one may select');
SELECT throws_ok($$SELECT * FROM ocr_query('SELECT id, image FROM public.secret')$$, '42501', NULL, 'and nothing else');
SELECT throws_ok(format('SELECT * FROM ocr_query(%L)', query), '42P11', NULL, 'no query but SELECT: ' || query)
  FROM unnest(ARRAY['DELETE FROM public.shown RETURNING id, image',
                    'WITH gone AS (DELETE FROM public.shown RETURNING id, image) SELECT * FROM gone', 'SELECT 1, NULL::bytea; DROP TABLE public.shown',
                    'COPY public.shown TO PROGRAM ''true''']) AS query;
RESET ROLE;

-- What was counted is forgotten by superusers and those whom they let.
SET ROLE ordinary;
SELECT throws_ok('SELECT pg_stat_ocr_reset()', '42501', NULL, 'an ordinary role cannot reset the statistics');
SELECT isnt_empty('SELECT 1 FROM pg_stat_ocr WHERE datname = current_database()', 'but sees them');
RESET ROLE;
GRANT EXECUTE ON FUNCTION pg_stat_ocr_reset TO auditor;
SET ROLE auditor;
SELECT lives_ok('SELECT pg_stat_ocr_reset()', 'the right to reset them can be granted');
RESET ROLE;

-- A model in a place that ordinary roles need not know.
SET LOCAL deepseek_ocr.model = '/var/lib/secret-place/model';
SET ROLE ordinary;
SELECT throws_ok($$SELECT ocr('\x')$$, '58P01', NULL, 'a missing model is an error for all');
SELECT throws_matching($$SELECT ocr('\x')$$, '^(?!.*secret-place)', 'whose message hides the path');
SELECT is_empty($$SELECT 1 FROM ocr_models() AS m WHERE m::text LIKE '%secret-place%'$$, 'as ocr_models() does');
RESET ROLE;
SET ROLE auditor;
SELECT throws_matching($$SELECT ocr('\x')$$, '/var/lib/secret-place/model', 'from all but those who may read settings');
SELECT isnt_empty('SELECT 1 FROM ocr_models() WHERE path = ''/var/lib/secret-place/model'' AND error IS NOT NULL',
                  'who see it in ocr_models() too');
RESET ROLE;

-- 15 and later let a superuser hand a setting on.
SELECT CASE WHEN current_setting('server_version_num')::int >= 150000 THEN
    lives_ok('GRANT SET ON PARAMETER deepseek_ocr.max_tokens TO ordinary', 'a setting can be granted') END;

SELECT * FROM finish();
ROLLBACK;
