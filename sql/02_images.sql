-- Images that are odd, and images that are wrong: a text or an SQLSTATE, never less.
\set VERBOSITY default
CREATE FUNCTION attempt(image bytea, mode text DEFAULT 'auto', prompt text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    RETURN ocr(image, mode::ocr_mode, prompt);
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ': ' || SQLERRM;
END $$;

-- Odd but readable.
\set page `base64 -w0 test/images/grey16.png`
SELECT attempt(decode(:'page', 'base64')) AS "16 bits of grey";
\set page `base64 -w0 test/images/cmyk_no_marker.jpg`
SELECT attempt(decode(:'page', 'base64')) AS "CMYK without Adobe's marker";
\set page `base64 -w0 test/images/broken_exif.jpg`
SELECT attempt(decode(:'page', 'base64')) AS "broken EXIF";
\set page `base64 -w0 test/images/exif6.jpg`
SELECT attempt(decode(:'page', 'base64')) AS "turned by EXIF";
\set page `base64 -w0 test/images/transparent.png`
SELECT attempt(decode(:'page', 'base64')) AS "black on transparent";
\set page `base64 -w0 test/images/fax.tif`
SELECT attempt(decode(:'page', 'base64'), 'base') AS "a fax, turned";
\set page `base64 -w0 test/images/tiles.tif`
SELECT attempt(decode(:'page', 'base64')) AS "16 bits of grey in tiles";
\set page `base64 -w0 test/images/lossy.webp`
SELECT attempt(decode(:'page', 'base64')) AS "a lossy WebP";

-- Wrong.
SELECT attempt('') AS "no bytes";
SELECT attempt('These bytes are no image.') AS "not an image";
SELECT left(attempt('%PDF-1.7'), 33) AS "a PDF without pages"; -- what follows is poppler's
SELECT attempt('\x89504e470d0a1a0a') AS "a PNG's first bytes";
SELECT attempt('\xffd8ffe0') AS "a JPEG's first bytes";
SELECT attempt(substr(image, 1, 2000)) AS "a PNG cut short" FROM pages WHERE name = 'letter';
SELECT attempt(substr(image, 1, 2000)) AS "a JPEG cut short" FROM pages WHERE name = 'scan';
SELECT attempt(overlay(image placing '\xdeadbeef' from 3000)) AS "a damaged PNG" FROM pages WHERE name = 'letter';

-- Headers of PNG files: 0 x 0, 100000 x 100000, and a size that no file can have.
SELECT attempt('\x89504e470d0a1a0a0000000d4948445200000000000000000802000000b4e9eb45') AS "0 x 0";
SELECT attempt('\x89504e470d0a1a0a0000000d49484452000186a0000186a0080200000027309c9f') AS "100000 x 100000";
SELECT attempt('\x89504e470d0a1a0a0000000d49484452ffffffffffffffff08020000005d94b969') AS "4294967295 x 4294967295";
SELECT vision_token_count('\x89504e470d0a1a0a0000000d49484452000186a0000186a0080200000027309c9f');

\set page `base64 -w0 test/images/line.png`
SELECT attempt(decode(:'page', 'base64')) AS "4200 x 1";
SELECT attempt(decode(:'page', 'base64'), 'gundam') AS "4200 x 1, tiled";

-- Prompts and modes.
SELECT attempt(image, 'huge') AS "unknown mode" FROM pages WHERE name = 'strip';
SELECT attempt(image, 'tiny', '<image> and <image>') AS "two images" FROM pages WHERE name = 'strip';
SELECT attempt(image, 'tiny', repeat('long ', 20000)) AS "a prompt beyond the context" FROM pages WHERE name = 'strip';
SELECT vision_token_count(image, 'tiny') FROM pages WHERE name = 'strip';

-- ocr_try() has the same messages as values.
SELECT t.* FROM unnest(ARRAY['', 'no image', '\xffd8ffe0']::bytea[]) AS image, ocr_try(image) AS t;
SELECT t.error, t.sqlstate FROM pages, ocr_try(image, 'tiny', '<image><image>') AS t WHERE name = 'strip';
