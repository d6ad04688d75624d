-- Settings: their ranges, and what they do.
\set VERBOSITY terse
LOAD 'deepseek_ocr';
SELECT name, setting, unit, vartype, context, min_val, max_val, enumvals
FROM pg_settings WHERE name LIKE 'deepseek_ocr.%' ORDER BY name;

\set VERBOSITY sqlstate
SET deepseek_ocr.threads = 257;
SET deepseek_ocr.threads = -1;
SET deepseek_ocr.max_tokens = -1;
SET deepseek_ocr.no_repeat_ngram_size = -2;
SET deepseek_ocr.min_confidence = 1.5;
SET deepseek_ocr.turn_confidence = -2;
SET deepseek_ocr.max_image_pixels = 0;
SET deepseek_ocr.max_document_pages = 0;
SET deepseek_ocr.max_session_memory = '10kB';
SET deepseek_ocr.max_batch_memory = '10kB';
SET deepseek_ocr.compute = 'f16';
SET deepseek_ocr.cpu_level = 'sse9';
SET deepseek_ocr.model = '';
SET deepseek_ocr.model = '../default';
SET deepseek_ocr.model = '.';
SET deepseek_ocr.no_repeat_ngram_whitelist = '"<td>';
SET deepseek_ocr.pdf_command = 'draw %x';
SET deepseek_ocr.pdf_command = 'draw %';
SET deepseek_ocr.pdf_resolution = 35;
SET deepseek_ocr.pdf_resolution = 601;
SET deepseek_ocr.pdf_timeout = 0;
DO $$ -- a setting that is not there: refused since PostgreSQL 15
BEGIN
    SET deepseek_ocr.nothing = 1;
    ASSERT current_setting('server_version_num')::int < 150000;
EXCEPTION WHEN invalid_name THEN
END $$;
\set VERBOSITY terse

-- A text's length.
SET deepseek_ocr.max_tokens = 10;
SELECT text, finish, tokens FROM pages, ocr_detail(image) WHERE name = 'strip';
RESET deepseek_ocr.max_tokens;

-- The ban on repetition: no token may occur twice, and a digit is always one. The model is not sure of such texts.
SET deepseek_ocr.min_confidence = 0;
SET deepseek_ocr.no_repeat_ngram_size = 1;
SELECT bool_and(n = 1) AS "each once" FROM (
    SELECT c, count(*) AS n FROM pages, regexp_split_to_table(ocr(image), '') AS c WHERE name = 'strip' AND c ~ '[0-9]' GROUP BY c) AS used;
SELECT ocr(image) AS no_token_twice FROM pages WHERE name = 'strip' \gset
SET deepseek_ocr.no_repeat_ngram_window = 1;
SELECT ocr(image) <> :'no_token_twice' AS "a short window bans less" FROM pages WHERE name = 'strip';
RESET deepseek_ocr.no_repeat_ngram_window;
SET deepseek_ocr.no_repeat_ngram_whitelist = '0', '1', '2', '3', '4', '5', '6', '7', '8', '9';
SELECT bool_or(n > 1) AS "a whitelist bans none of its" FROM (
    SELECT c, count(*) AS n FROM pages, regexp_split_to_table(ocr(image), '') AS c WHERE name = 'strip' AND c ~ '[0-9]' GROUP BY c) AS used;
SET deepseek_ocr.no_repeat_ngram_size = 2;
SET deepseek_ocr.no_repeat_ngram_whitelist = 'e', '"no such token"';
SELECT ocr(image) FROM pages WHERE name = 'strip';
RESET deepseek_ocr.no_repeat_ngram_whitelist;
SET deepseek_ocr.no_repeat_ngram_size = 0;
SELECT ocr(image) FROM pages WHERE name = 'strip';
RESET deepseek_ocr.no_repeat_ngram_size;
RESET deepseek_ocr.min_confidence;

-- What the model must be sure of. It is, of this page, but not entirely.
SET deepseek_ocr.min_confidence = 0.9;
SELECT text, finish FROM pages, ocr_detail(image) WHERE name = 'strip';
SET deepseek_ocr.min_confidence = 1;
SELECT finish, length(text) < 40 AS cut, confidence > 0.9 AS sure FROM pages, ocr_detail(image) WHERE name = 'strip';
RESET deepseek_ocr.min_confidence;

-- Nor is it as sure as this, however the page is turned.
SET deepseek_ocr.turn_confidence = 1;
SELECT text, finish, turned FROM pages, ocr_detail(image) WHERE name = 'strip';
RESET deepseek_ocr.turn_confidence;

-- Limits.
SET deepseek_ocr.max_image_pixels = 100000;
SELECT name, t.text, t.error, t.sqlstate FROM pages, ocr_try(image) AS t WHERE name = 'strip';
SELECT vision_token_count(image) FROM pages WHERE name = 'strip';
RESET deepseek_ocr.max_image_pixels;
SET deepseek_ocr.max_session_memory = '1MB';
SELECT regexp_replace(t.error, '\d+ MB', 'many MB') AS error, t.sqlstate FROM pages, ocr_try(image) AS t WHERE name = 'strip';
RESET deepseek_ocr.max_session_memory;

-- The exact path reads the same.
SET deepseek_ocr.compute = 'f32';
SELECT ocr(image) FROM pages WHERE name = 'strip';
RESET deepseek_ocr.compute;

-- A model that is not there.
SET deepseek_ocr.model = 'missing';
\set VERBOSITY sqlstate
SELECT ocr('');
SELECT * FROM ocr_try('');
\set VERBOSITY terse
SELECT name, current, error IS NOT NULL AS broken FROM ocr_models() WHERE name = 'default';
RESET deepseek_ocr.model;
SELECT ocr(image) FROM pages WHERE name = 'strip';

-- A program that fails without a word.
SET deepseek_ocr.pdf_command = 'false';
SELECT error FROM ocr_try('%PDF-');
RESET deepseek_ocr.pdf_command;
