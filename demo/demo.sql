\set ON_ERROR_STOP on
\pset footer off

\echo 'CREATE EXTENSION deepseek_ocr;'
CREATE EXTENSION deepseek_ocr;

CREATE TABLE scans (name text PRIMARY KEY, image bytea NOT NULL);

-- psql reads the files, so that they need not lie on the server.
\set page `base64 -w0 demo/pages/letter.png`
INSERT INTO scans VALUES ('letter.png', decode(:'page', 'base64'));
\set page `base64 -w0 demo/pages/receipt.png`
INSERT INTO scans VALUES ('receipt.png', decode(:'page', 'base64'));
\set page `base64 -w0 demo/pages/scan.jpg`
INSERT INTO scans VALUES ('scan.jpg', decode(:'page', 'base64'));
\set page `base64 -w0 demo/pages/strip.png`
INSERT INTO scans VALUES ('strip.png', decode(:'page', 'base64'));

\echo
\echo 'SELECT name, ocr(image) FROM scans;'
\echo
SELECT name, ocr(image) FROM scans ORDER BY name;

\echo 'A generated column keeps the text beside the image, and an index finds it:'
\echo
CREATE TABLE archive (
    name text PRIMARY KEY,
    image bytea NOT NULL,
    content text GENERATED ALWAYS AS (ocr(image)) STORED
);
CREATE INDEX ON archive USING gin (to_tsvector('english', content));
INSERT INTO archive SELECT name, image FROM scans;

\echo 'SELECT name FROM archive WHERE to_tsvector(''english'', content) @@ to_tsquery(''english'', ''pear & tree'');'
\echo
SELECT name FROM archive WHERE to_tsvector('english', content) @@ to_tsquery('english', 'pear & tree');

\echo 'What it took:'
\echo
SELECT name, vision_tokens, tokens, finish, round(confidence::numeric, 3) AS confidence,
       round((image_ms + encode_ms + prefill_ms + decode_ms)::numeric) AS ms
FROM scans, ocr_detail(image) ORDER BY name;
