-- The main job, and what the functions return. Paths are relative to the
-- repository's root, where the tests are started.
\set VERBOSITY terse
CREATE EXTENSION deepseek_ocr;

CREATE TABLE pages (name text PRIMARY KEY, image bytea NOT NULL);
\set page `base64 -w0 demo/pages/letter.png`
INSERT INTO pages VALUES ('letter', decode(:'page', 'base64'));
\set page `base64 -w0 demo/pages/receipt.png`
INSERT INTO pages VALUES ('receipt', decode(:'page', 'base64'));
\set page `base64 -w0 demo/pages/scan.jpg`
INSERT INTO pages VALUES ('scan', decode(:'page', 'base64'));
\set page `base64 -w0 demo/pages/strip.png`
INSERT INTO pages VALUES ('strip', decode(:'page', 'base64'));

SELECT name, ocr(image) FROM pages ORDER BY name;

-- A mode, a prompt, and their defaults. A prompt without <image> gets one in front.
SELECT ocr(image) = ocr(image, 'large') AS auto_is_large,
       ocr(image) = ocr(image, NULL, NULL) AS null_is_default,
       ocr(image) = ocr(image, 'large', 'Free OCR.') AS prompt_by_words,
       ocr(image) = ocr(image, prompt => E'<image>\nFree OCR. ') AS prompt_in_full
FROM pages WHERE name = 'strip';
SELECT ocr(NULL) IS NULL AS ocr, vision_tokens(NULL) IS NULL AS tokens,
       vision_token_count(NULL) IS NULL AS count, ocr_detail(NULL) IS NULL AS detail,
       ocr_try(NULL) IS NULL AS try;

-- What a picture is compressed to, in each mode: the paper's numbers.
SELECT name, mode, vision_token_count(image, mode)
FROM pages, unnest(enum_range(NULL::ocr_mode)) AS mode
WHERE name IN ('letter', 'strip') ORDER BY name, mode;
SELECT array_dims(vision_tokens(image, 'tiny')), array_dims(vision_tokens(image, 'small'))
FROM pages WHERE name = 'strip';
SELECT vision_tokens(image, 'tiny') = vision_tokens(image, 'tiny') AS repeatable
FROM pages WHERE name = 'strip';

-- A long value out of line: the header is enough, and what follows is not looked at.
CREATE TABLE long (image bytea);
ALTER TABLE long ALTER image SET STORAGE EXTERNAL;
INSERT INTO long SELECT image || decode(repeat('00', 1000000), 'hex') FROM pages WHERE name = 'scan';
SELECT vision_token_count(image, 'gundam') FROM long;

SELECT name, length(text) = length(ocr(image)) AS text, finish, tokens > 20 AS tokens,
       confidence BETWEEN 0.9 AND 1 AS confidence, mode_used, vision_tokens, prompt_tokens,
       least(image_ms, encode_ms, prefill_ms, decode_ms) > 0 AS times
FROM pages, ocr_detail(image) WHERE name = 'strip';

-- A bad page among good ones.
SELECT name, t.*
FROM (SELECT name, image FROM pages WHERE name = 'strip'
      UNION ALL SELECT 'bad', 'no image') AS mixed, ocr_try(image) AS t ORDER BY name;

-- The text beside the image, kept up to date and searched.
CREATE TABLE archive (
    name text,
    image bytea,
    content text GENERATED ALWAYS AS (ocr(image)) STORED
);
CREATE INDEX ON archive USING gin (to_tsvector('english', content));
INSERT INTO archive SELECT name, image FROM pages WHERE name IN ('scan', 'strip');
SELECT name FROM archive WHERE to_tsvector('english', content) @@ to_tsquery('english', 'pear & tree');
UPDATE archive SET image = NULL WHERE name = 'scan';
SELECT name, content FROM archive ORDER BY name;

-- The model itself.
SELECT name, parameters, bytes > 30000000 AS bytes, weight_type, context, load_ms > 0 AS load_ms FROM ocr_load();
SELECT name, current, path LIKE '%/extension/deepseek_ocr/models/default' AS path, parameters, error
FROM ocr_models() WHERE name = 'default';
