-- Run by bench_sql.sh, which fills `images` and sets the variables.
\set ON_ERROR_STOP on
\pset footer off

CREATE EXTENSION deepseek_ocr;
SET deepseek_ocr.model = :'model';
SET deepseek_ocr.max_tokens = :max_tokens;

CREATE TABLE pages AS
SELECT image FROM generate_series(1, :pages) AS n, images LIMIT :pages;

CREATE TABLE times (what text, seconds double precision);

-- Loads the model.
SELECT ocr(image) IS NOT NULL AS warm FROM pages LIMIT 1 \gset

DO $$
DECLARE
    page record;
    begin_at timestamptz;
    of_engine double precision;
BEGIN
    FOR page IN SELECT image FROM pages LOOP
        begin_at := clock_timestamp();
        SELECT (d.image_ms + d.encode_ms + d.prefill_ms + d.decode_ms) / 1000
            INTO of_engine FROM ocr_detail(page.image) AS d;
        INSERT INTO times VALUES
            ('one page through SQL', extract(epoch FROM clock_timestamp() - begin_at)),
            ('the stages of one page in the engine', of_engine);
    END LOOP;

    begin_at := clock_timestamp();
    PERFORM ocr(image) FROM pages;
    INSERT INTO times VALUES
        ('all pages, ocr()', extract(epoch FROM clock_timestamp() - begin_at));
END $$;

CREATE FUNCTION engine_seconds() RETURNS double precision LANGUAGE sql AS
$$SELECT (image_ms + encode_ms + prefill_ms + decode_ms) / 1000 FROM pg_stat_ocr WHERE datname = current_database()$$;

-- For a job, with what a table for search has: a key, and an index on the texts.
CREATE TABLE jobs AS SELECT row_number() OVER () AS id, image, NULL::text AS content FROM pages;
ALTER TABLE jobs ADD PRIMARY KEY (id);
CREATE INDEX ON jobs USING gin (to_tsvector('english', content));

-- In turns, for what else the machine does changes.
DO $$
DECLARE
    begin_at timestamptz;
    engine_begin double precision;
    stored bigint;
    failed bigint;
BEGIN
    FOR turn IN 1 .. 2 LOOP
        begin_at := clock_timestamp();
        engine_begin := engine_seconds();
        PERFORM ocr_batch(array_agg(image)) FROM pages;
        INSERT INTO times VALUES
            ('all pages, ocr_batch()', extract(epoch FROM clock_timestamp() - begin_at)),
            ('its stages in the engine, one batch', engine_seconds() - engine_begin);

        UPDATE jobs SET content = NULL;
        COMMIT;
        begin_at := clock_timestamp();
        engine_begin := engine_seconds();
        CALL ocr_convert('jobs', 'image', 'content', notice_interval => NULL, pages => stored, failed => failed);
        INSERT INTO times VALUES
            ('all pages, ocr_convert()', extract(epoch FROM clock_timestamp() - begin_at)),
            ('its stages in the engine, a job', engine_seconds() - engine_begin);
    END LOOP;
END $$;

SELECT what, round((1000 * percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds))::numeric, 1) AS "ms, median"
FROM times GROUP BY what ORDER BY min(seconds);

SELECT round(100 * (s.ms / e.ms - 1)::numeric, 1) AS "what SQL adds, %"
FROM (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS ms FROM times WHERE what = 'one page through SQL') AS s,
     (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS ms FROM times WHERE what = 'the stages of one page in the engine') AS e;

WITH best AS (SELECT what, min(seconds) AS seconds FROM times GROUP BY what)
SELECT round(100 * (own.seconds / job.seconds)::numeric, 1) AS "of ocr_convert() in the engine, %",
       round(100 * (batch.seconds / job.seconds)::numeric, 1) AS "its speed beside the engine with one batch, %"
FROM best AS job, best AS own, best AS batch
WHERE job.what = 'all pages, ocr_convert()' AND own.what = 'its stages in the engine, a job'
  AND batch.what = 'its stages in the engine, one batch';
