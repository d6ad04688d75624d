-- What the extension adds to a database: names, types, promises to the planner.
\set ON_ERROR_STOP on
BEGIN;
CREATE EXTENSION pgtap;
CREATE SCHEMA reading;

-- What an attacker may have put there before.
CREATE FUNCTION reading.trap() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'caught'; END$$;
CREATE FUNCTION reading.oid_equal(oid, oid) RETURNS boolean LANGUAGE sql AS 'SELECT reading.trap()';
CREATE OPERATOR reading.= (FUNCTION = reading.oid_equal, LEFTARG = oid, RIGHTARG = oid);
CREATE VIEW reading.pg_database AS SELECT oid, 'caught'::name AS datname FROM pg_catalog.pg_database;

CREATE EXTENSION deepseek_ocr SCHEMA reading;
SET search_path = reading, public;

SELECT * FROM no_plan();

SELECT enum_has_labels('reading', 'ocr_mode',
    ARRAY['auto', 'tiny', 'small', 'base', 'large', 'gundam', 'gundam-m']);

CREATE TEMP TABLE expected (name text, arguments text, result text, volatility text, parallel text);
INSERT INTO expected VALUES
  ('ocr', 'image bytea, mode ocr_mode DEFAULT ''auto''::ocr_mode, prompt text DEFAULT NULL::text',
   'text', 'i', 's'),
  ('vision_tokens', 'image bytea, mode ocr_mode DEFAULT ''auto''::ocr_mode', 'real[]', 'i', 's'),
  ('vision_token_count', 'image bytea, mode ocr_mode DEFAULT ''auto''::ocr_mode', 'integer', 'i', 's'),
  ('ocr_detail', 'image bytea, mode ocr_mode DEFAULT ''auto''::ocr_mode, prompt text DEFAULT NULL::text, '
   'OUT text text, OUT finish text, OUT tokens integer, OUT confidence double precision, '
   'OUT mode_used ocr_mode, OUT vision_tokens integer, OUT prompt_tokens integer, '
   'OUT image_ms double precision, OUT encode_ms double precision, '
   'OUT prefill_ms double precision, OUT decode_ms double precision, OUT turned integer', 'record', 'v', 's'),
  ('ocr_try', 'image bytea, mode ocr_mode DEFAULT ''auto''::ocr_mode, prompt text DEFAULT NULL::text, '
   'OUT text text, OUT error text, OUT sqlstate text', 'record', 'i', 's'),
  ('ocr_batch', 'images bytea[], mode ocr_mode DEFAULT ''auto''::ocr_mode, prompt text DEFAULT NULL::text',
   'text[]', 'v', 's'),
  ('ocr_query', 'query text, mode ocr_mode DEFAULT ''auto''::ocr_mode, prompt text DEFAULT NULL::text',
   'TABLE(key text, text text, error text, sqlstate text)', 'v', 'u'),
  ('ocr_pages', 'document bytea, mode ocr_mode DEFAULT ''auto''::ocr_mode, prompt text DEFAULT NULL::text, '
   'first integer DEFAULT 1, last integer DEFAULT NULL::integer',
   'TABLE(page integer, text text, error text, sqlstate text)', 'v', 's'),
  ('ocr_markdown', 'image bytea, mode ocr_mode DEFAULT ''auto''::ocr_mode', 'text', 'i', 's'),
  ('ocr_layout', 'image bytea, mode ocr_mode DEFAULT ''auto''::ocr_mode',
   'TABLE(ord integer, label text, box box, text text)', 'i', 's'),
  ('ocr_locate', 'image bytea, phrase text, mode ocr_mode DEFAULT ''auto''::ocr_mode', 'SETOF box', 'i', 's'),
  ('ocr_annotate', 'image bytea, mode ocr_mode DEFAULT ''auto''::ocr_mode', 'bytea', 'i', 's'),
  ('ocr_convert', 'IN source regclass, IN image name, IN target name, IN target_table regclass DEFAULT NULL::regclass, '
   'IN key name DEFAULT NULL::name, IN filter text DEFAULT NULL::text, IN mode ocr_mode DEFAULT ''auto''::ocr_mode, '
   'IN prompt text DEFAULT NULL::text, IN batch_size integer DEFAULT NULL::integer, IN retry boolean DEFAULT false, '
   'IN notice_interval interval DEFAULT ''00:00:10''::interval, INOUT pages bigint DEFAULT NULL::bigint, '
   'INOUT failed bigint DEFAULT NULL::bigint', NULL, 'v', 'u'),
  ('ocr_load', 'OUT name text, OUT parameters bigint, OUT bytes bigint, OUT weight_type text, '
   'OUT context integer, OUT load_ms double precision', 'record', 'v', 'r'),
  ('ocr_models', 'OUT name text, OUT current boolean, OUT path text, OUT parameters bigint, '
   'OUT bytes bigint, OUT weight_type text, OUT context integer, OUT error text',
   'SETOF record', 'v', 'r'),
  ('ocr_quantize_model', 'source text, target text, type text DEFAULT ''q8''::text', 'bigint', 'v', 'u'),
  ('pg_stat_get_ocr', 'OUT datid oid, OUT pages bigint, OUT blank_pages bigint, OUT loops bigint, '
   'OUT length_cuts bigint, OUT unsure bigint, OUT turned bigint, OUT errors bigint, OUT vision_tokens bigint, OUT text_tokens bigint, '
   'OUT image_ms double precision, OUT encode_ms double precision, OUT prefill_ms double precision, '
   'OUT decode_ms double precision, OUT stats_reset timestamp with time zone, OUT shared boolean',
   'SETOF record', 'v', 'r'),
  ('pg_stat_get_ocr_errors', 'OUT datid oid, OUT sqlstate text, OUT errors bigint', 'SETOF record', 'v', 'r'),
  ('pg_stat_get_ocr_progress', 'OUT pid integer, OUT datid oid, OUT usesysid oid, OUT source regclass, '
   'OUT rows_done bigint, OUT rows_total bigint, OUT pages bigint, OUT failed bigint, '
   'OUT pages_per_minute double precision, OUT time_left interval, OUT started timestamp with time zone',
   'SETOF record', 'v', 'r'),
  ('pg_stat_ocr_reset', '', 'void', 'v', 'r');

CREATE TEMP VIEW actual AS
  SELECT p.oid, p.proname::text AS name, pg_get_function_arguments(p.oid) AS arguments,
         pg_get_function_result(p.oid) AS result, p.provolatile::text AS volatility,
         p.proparallel::text AS parallel, p.procost, p.proisstrict, p.prosecdef
  FROM pg_proc p
  JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'deepseek_ocr';

SELECT set_eq('SELECT name FROM actual', 'SELECT name FROM expected', 'no function more or less');
SELECT is(a.arguments, e.arguments, 'arguments of ' || e.name) FROM expected e JOIN actual a USING (name);
SELECT is(CASE WHEN e.result = 'record' THEN 'record' ELSE a.result END, e.result, 'result of ' || e.name)
  FROM expected e JOIN actual a USING (name);
SELECT is(a.volatility, e.volatility, 'volatility of ' || e.name) FROM expected e JOIN actual a USING (name);
SELECT is(a.parallel, e.parallel, 'parallel safety of ' || e.name) FROM expected e JOIN actual a USING (name);
SELECT ok(NOT prosecdef, name || ' runs with the caller''s rights') FROM actual;
SELECT ok(NOT proisstrict, name || ' takes NULL for the default') FROM actual
  WHERE name LIKE 'ocr%' AND name <> 'ocr_quantize_model';

SELECT isnt(obj_description(oid, 'pg_proc'), NULL::text, name || ' has a comment') FROM actual;
SELECT matches(obj_description(oid, 'pg_proc'), 'PDF', 'which knows all formats') FROM actual WHERE name = 'ocr';
SELECT columns_are('reading', 'pg_stat_ocr', ARRAY['datid', 'datname', 'pages', 'blank_pages', 'loops',
    'length_cuts', 'unsure', 'turned', 'errors', 'vision_tokens', 'text_tokens', 'image_ms', 'encode_ms', 'prefill_ms', 'decode_ms',
    'stats_reset', 'shared']);
SELECT columns_are('reading', 'pg_stat_ocr_errors', ARRAY['datid', 'datname', 'sqlstate', 'errors']);
SELECT columns_are('reading', 'ocr_progress', ARRAY['pid', 'usename', 'source', 'rows_done', 'rows_total', 'pages',
    'failed', 'pages_per_minute', 'time_left', 'started']);
SELECT columns_are('reading', 'ocr_failures', ARRAY['role', 'source', 'image', 'target_table', 'target', 'key', 'page',
    'error', 'sqlstate', 'attempts', 'failed_at']);
SELECT isnt(obj_description(objid, 'pg_class'), NULL::text, objid::regclass || ' has a comment')
  FROM pg_depend WHERE classid = 'pg_class'::regclass AND deptype = 'e' AND refclassid = 'pg_extension'::regclass
    AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'deepseek_ocr');

SELECT isnt(obj_description('ocr_mode'::regtype, 'pg_type'), NULL::text, 'ocr_mode has a comment');
SELECT isnt(obj_description(oid, 'pg_extension'), NULL::text, 'the extension has a comment')
  FROM pg_extension WHERE extname = 'deepseek_ocr';

-- The planner asks for the text last: cheap conditions go first, whatever their order.
CREATE TABLE scans (id int, image bytea);
CREATE FUNCTION plan(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  line text;
  lines text = '';
BEGIN
  FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
    lines = lines || line || E'\n';
  END LOOP;
  RETURN lines;
END $$;
SELECT ok(plan($$SELECT 1 FROM scans WHERE ocr(image) ~ 'total' AND id = 7$$)
          ~ 'Filter: \(\(id = 7\) AND \(ocr', 'cheap conditions come before ocr()');
SELECT ok((SELECT procost FROM actual WHERE name = 'vision_token_count')
          < (SELECT procost FROM actual WHERE name = 'ocr') / 1000,
          'counting tokens costs far less than reading');

-- IMMUTABLE pays off: generated columns and indexes are possible.
SELECT lives_ok('CREATE TABLE archive (image bytea, content text GENERATED ALWAYS AS (ocr(image)) STORED)',
                'ocr() in a generated column');
SELECT lives_ok('CREATE INDEX ON scans (vision_token_count(image))', 'vision_token_count() in an index');

-- Relocatable, and indifferent to what an attacker puts in front of it.
CREATE SCHEMA moved;
SELECT lives_ok('ALTER EXTENSION deepseek_ocr SET SCHEMA moved', 'the extension can be moved');
CREATE SCHEMA evil;
CREATE TYPE evil.ocr_mode AS ENUM ('auto');
CREATE FUNCTION evil.text_out(text) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
SET search_path = evil, public;
SELECT throws_ok($$SELECT moved.ocr('\x')$$, 'OC001', NULL, 'works with a foreign search_path');
SELECT is((moved.ocr_try('\x')).sqlstate, 'OC001', 'and so does ocr_try()');
SELECT is((SELECT datname FROM moved.pg_stat_ocr), current_database(), 'pg_stat_ocr is made of the system''s own objects');

SELECT * FROM finish();
ROLLBACK;
