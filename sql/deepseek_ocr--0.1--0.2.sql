\echo Use "ALTER EXTENSION deepseek_ocr UPDATE TO '0.2'" to load this file. \quit

-- A new installation runs this script too, after the one of 0.1.

COMMENT ON FUNCTION ocr(bytea, ocr_mode, text) IS
  'the text of an image, or of the first page of a document (JPEG, PNG, TIFF, WebP, PNM or PDF)';

-- A function cannot be given a further column, so it is made anew.
DROP FUNCTION ocr_detail(bytea, ocr_mode, text);

CREATE FUNCTION ocr_detail(image bytea, mode ocr_mode DEFAULT 'auto', prompt text DEFAULT NULL,
    OUT text text,
    OUT finish text,
    OUT tokens integer,
    OUT confidence double precision,
    OUT mode_used ocr_mode,
    OUT vision_tokens integer,
    OUT prompt_tokens integer,
    OUT image_ms double precision,
    OUT encode_ms double precision,
    OUT prefill_ms double precision,
    OUT decode_ms double precision,
    OUT turned integer)
  AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL SAFE COST 1000000;

COMMENT ON FUNCTION ocr_detail(bytea, ocr_mode, text) IS
  'the text of an image, why it ends (stop, length, loop or unsure), how sure the model was, what it took, and how the page was turned';

-- Statistics. The functions below the views read memory of the backend unless
-- the library is preloaded, so a parallel worker must not evaluate them.

CREATE FUNCTION pg_stat_get_ocr(
    OUT datid oid,
    OUT pages bigint,
    OUT blank_pages bigint,
    OUT loops bigint,
    OUT length_cuts bigint,
    OUT unsure bigint,
    OUT turned bigint,
    OUT errors bigint,
    OUT vision_tokens bigint,
    OUT text_tokens bigint,
    OUT image_ms double precision,
    OUT encode_ms double precision,
    OUT prefill_ms double precision,
    OUT decode_ms double precision,
    OUT stats_reset timestamptz,
    OUT shared boolean)
  RETURNS SETOF record
  AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 100 ROWS 5;

COMMENT ON FUNCTION pg_stat_get_ocr() IS
  'statistics: pages read in each database';

CREATE VIEW pg_stat_ocr AS
  SELECT s.datid, d.datname, s.pages, s.blank_pages, s.loops, s.length_cuts, s.unsure, s.turned,
         s.errors, s.vision_tokens, s.text_tokens, s.image_ms, s.encode_ms, s.prefill_ms, s.decode_ms,
         s.stats_reset, s.shared
  FROM pg_stat_get_ocr() AS s LEFT JOIN pg_catalog.pg_database AS d ON d.oid = s.datid;

COMMENT ON VIEW pg_stat_ocr IS
  'statistics: pages read in each database; of this session alone unless the library is preloaded';

CREATE FUNCTION pg_stat_get_ocr_errors(
    OUT datid oid,
    OUT sqlstate text,
    OUT errors bigint)
  RETURNS SETOF record
  AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 100 ROWS 10;

COMMENT ON FUNCTION pg_stat_get_ocr_errors() IS
  'statistics: pages that could not be read, by SQLSTATE';

CREATE VIEW pg_stat_ocr_errors AS
  SELECT s.datid, d.datname, s.sqlstate, s.errors
  FROM pg_stat_get_ocr_errors() AS s LEFT JOIN pg_catalog.pg_database AS d ON d.oid = s.datid;

COMMENT ON VIEW pg_stat_ocr_errors IS
  'statistics: pages that could not be read, by SQLSTATE, in each database';

GRANT SELECT ON pg_stat_ocr, pg_stat_ocr_errors TO PUBLIC;

CREATE FUNCTION pg_stat_ocr_reset()
  RETURNS void
  AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1;

COMMENT ON FUNCTION pg_stat_ocr_reset() IS
  'set the statistics of the current database to zero';

REVOKE ALL ON FUNCTION pg_stat_ocr_reset() FROM PUBLIC;

-- Many pages read together. VOLATILE, for a query must neither repeat this work
-- nor do it while it is planned.

CREATE FUNCTION ocr_batch(images bytea[], mode ocr_mode DEFAULT 'auto', prompt text DEFAULT NULL)
  RETURNS text[]
  AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL SAFE COST 10000000;

COMMENT ON FUNCTION ocr_batch(bytea[], ocr_mode, text) IS
  'the texts of many images, which are read together; NULL and a warning for one that cannot be read';

-- What the query's text may call is unknown, hence PARALLEL UNSAFE.
CREATE FUNCTION ocr_query(query text, mode ocr_mode DEFAULT 'auto', prompt text DEFAULT NULL)
  RETURNS TABLE (key text, text text, error text, sqlstate text)
  AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000000000 ROWS 1000;

COMMENT ON FUNCTION ocr_query(text, ocr_mode, text) IS
  'the texts of the images that a query returns in its second column, beside the keys in its first; images are read together';

-- Documents of several pages; VOLATILE for the same reasons.

CREATE FUNCTION ocr_pages(
    document bytea,
    mode ocr_mode DEFAULT 'auto',
    prompt text DEFAULT NULL,
    first integer DEFAULT 1,
    last integer DEFAULT NULL)
  RETURNS TABLE (
    page integer,
    text text,
    error text,
    sqlstate text)
  AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL SAFE COST 5000000 ROWS 5;

COMMENT ON FUNCTION ocr_pages(bytea, ocr_mode, text, integer, integer) IS
  'the texts of the pages of a document (PDF, TIFF or another image), or what is wrong with a page';

-- The structure of a page. IMMUTABLE as ocr() is.

CREATE FUNCTION ocr_markdown(image bytea, mode ocr_mode DEFAULT 'auto')
  RETURNS text
  AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000000;

COMMENT ON FUNCTION ocr_markdown(bytea, ocr_mode) IS
  'the text of an image as markdown, with headings, tables and formulas';

CREATE FUNCTION ocr_layout(image bytea, mode ocr_mode DEFAULT 'auto')
  RETURNS TABLE (ord integer, label text, box box, text text)
  AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000000 ROWS 20;

COMMENT ON FUNCTION ocr_layout(bytea, ocr_mode) IS
  'the parts of an image: their order, what they are, where they stand in pixels (y grows downwards), and their text';

CREATE FUNCTION ocr_locate(image bytea, phrase text, mode ocr_mode DEFAULT 'auto')
  RETURNS SETOF box
  AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000000 ROWS 2;

COMMENT ON FUNCTION ocr_locate(bytea, text, ocr_mode) IS
  'where in an image something is, in pixels (y grows downwards)';

CREATE FUNCTION ocr_annotate(image bytea, mode ocr_mode DEFAULT 'auto')
  RETURNS bytea
  AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000000;

COMMENT ON FUNCTION ocr_annotate(bytea, ocr_mode) IS
  'the image as a JPEG with the boxes of its parts drawn, for people who look';

-- Jobs. Of each caller there is a record of what could not be read, which no one else sees or
-- writes. A dump leaves the table out: on another server neither roles nor tables need be the same.

CREATE TABLE ocr_failures (
    role regrole NOT NULL,
    source regclass NOT NULL,
    image name NOT NULL,
    target_table regclass NOT NULL, -- the source, where the texts go to a column of it
    target name NOT NULL,
    key text NOT NULL,
    page integer NOT NULL,
    error text NOT NULL,
    sqlstate text NOT NULL,
    attempts integer NOT NULL DEFAULT 1,
    failed_at timestamptz NOT NULL,
    -- Role and job are the same in many rows. Were they ahead, a planner without statistics
    -- would look rows up by them alone.
    PRIMARY KEY (key, page, source, image, target_table, target, role)
);

COMMENT ON TABLE ocr_failures IS
  'what ocr_convert() could not convert, and why; it is passed over until a call that retries';

ALTER TABLE ocr_failures ENABLE ROW LEVEL SECURITY;
-- By number: a role of the same name that came later is another one.
CREATE POLICY own ON ocr_failures
  USING (role OPERATOR(pg_catalog.=) pg_catalog.to_regrole(pg_catalog.quote_ident(CURRENT_USER)));
-- ocr_convert() writes with its caller's rights.
GRANT SELECT, INSERT, UPDATE, DELETE ON ocr_failures TO PUBLIC;

CREATE PROCEDURE ocr_convert(
    source regclass,
    image name,
    target name,
    target_table regclass DEFAULT NULL,
    key name DEFAULT NULL,
    filter text DEFAULT NULL,
    mode ocr_mode DEFAULT 'auto',
    prompt text DEFAULT NULL,
    batch_size integer DEFAULT NULL,
    retry boolean DEFAULT false,
    notice_interval interval DEFAULT '10 seconds',
    INOUT pages bigint DEFAULT NULL,
    INOUT failed bigint DEFAULT NULL)
  AS 'MODULE_PATHNAME' LANGUAGE C;

COMMENT ON PROCEDURE ocr_convert(regclass, name, name, regclass, name, text, ocr_mode, text, integer,
    boolean, interval, bigint, bigint) IS
  'read the images of a table''s rows that have no text yet, and commit batch by batch';

CREATE FUNCTION pg_stat_get_ocr_progress(
    OUT pid integer,
    OUT datid oid,
    OUT usesysid oid,
    OUT source regclass,
    OUT rows_done bigint,
    OUT rows_total bigint,
    OUT pages bigint,
    OUT failed bigint,
    OUT pages_per_minute double precision,
    OUT time_left interval,
    OUT started timestamptz)
  RETURNS SETOF record
  AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 100 ROWS 5;

COMMENT ON FUNCTION pg_stat_get_ocr_progress() IS
  'how far the calls of ocr_convert() are';

CREATE VIEW ocr_progress AS
  SELECT p.pid, pg_catalog.pg_get_userbyid(p.usesysid) AS usename, p.source, p.rows_done, p.rows_total,
         p.pages, p.failed, p.pages_per_minute, p.time_left, p.started
  FROM pg_stat_get_ocr_progress() AS p
  WHERE p.datid = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database());

COMMENT ON VIEW ocr_progress IS
  'how far the calls of ocr_convert() are in this database: those of the user''s roles, or all to members of pg_read_all_stats; of this session alone unless the library is preloaded';

GRANT SELECT ON ocr_progress TO PUBLIC;
