-- The structure of a page: markdown, blocks, boxes. What a model that knows them says is in the
-- server's tests; here it is the default one, which may say what it likes.
\set VERBOSITY default
SELECT ocr_markdown(NULL) IS NULL AS markdown, ocr_annotate(NULL) IS NULL AS annotate,
       (SELECT count(*) FROM ocr_layout(NULL)) AS layout, (SELECT count(*) FROM ocr_locate(NULL, 'a pear')) AS locate,
       (SELECT count(*) FROM ocr_locate('no image', NULL)) AS "no phrase";

SELECT count(*) > 0 AS rows, min(ord) AS first, bool_and(box IS NULL OR box <@ box '(0,0),(1000,120)') AS inside
FROM pages, ocr_layout(image) WHERE name = 'strip';
SELECT ocr_markdown(image, 'base') NOT LIKE '%<|det|>%' AS markdown FROM pages WHERE name = 'strip';

-- A picture: a JPEG of the same size, which is a picture again.
SELECT substr(jpeg, 1, 3) AS jpeg, vision_token_count(jpeg, 'gundam') = vision_token_count(image, 'gundam') AS size
FROM pages, ocr_annotate(image) AS jpeg WHERE name = 'strip';

-- Bad images and bad questions.
SELECT ocr_markdown('');
SELECT * FROM ocr_layout('no image');
SELECT ocr_annotate('\xffd8ffe0');
SELECT ocr_locate('no image', 'a pear');
SELECT ocr_locate('no image', '');
SELECT ocr_layout(image, 'huge') FROM pages WHERE name = 'strip';

-- A picture that can be read but is too long for a JPEG, and the limit on pixels.
SELECT ocr_annotate('\x89504e470d0a1a0a0000000d49484452000101d00000012c080200000067ca395a');
SET deepseek_ocr.max_image_pixels = 1000;
SELECT ocr_annotate(image) FROM pages WHERE name = 'strip';
RESET deepseek_ocr.max_image_pixels;
