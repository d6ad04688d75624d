\echo Use "CREATE EXTENSION deepseek_ocr" to load this file. \quit

CREATE TYPE ocr_mode AS ENUM ('auto', 'tiny', 'small', 'base', 'large', 'gundam', 'gundam-m');

COMMENT ON TYPE ocr_mode IS
  'how a picture is shown to the model: in one view of 512 (tiny), 640 (small), 1024 (base) or 1280 (large) pixels, or in tiles with an overview (gundam, gundam-m); auto is what the model recommends';

-- Costs are in units of an ordinary operator: reading a page takes from a
-- tenth of a second to several seconds, a look at its header some
-- microseconds. What reads pages is IMMUTABLE as to_tsvector(regconfig, text)
-- is: its result is fixed as long as the installed model and the settings are,
-- and only superusers can change those.

CREATE FUNCTION ocr(image bytea, mode ocr_mode DEFAULT 'auto', prompt text DEFAULT NULL)
  RETURNS text
  AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000000;

COMMENT ON FUNCTION ocr(bytea, ocr_mode, text) IS
  'the text of an image (JPEG or PNG)';

CREATE FUNCTION vision_tokens(image bytea, mode ocr_mode DEFAULT 'auto')
  RETURNS real[][]
  AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000000;

COMMENT ON FUNCTION vision_tokens(bytea, ocr_mode) IS
  'what the model''s decoder sees of an image: one row for each position of its sequence';

CREATE FUNCTION vision_token_count(image bytea, mode ocr_mode DEFAULT 'auto')
  RETURNS integer
  AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 100;

COMMENT ON FUNCTION vision_token_count(bytea, ocr_mode) IS
  'number of vision tokens that an image is compressed to, from its header alone';

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
    OUT decode_ms double precision)
  AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL SAFE COST 1000000;

COMMENT ON FUNCTION ocr_detail(bytea, ocr_mode, text) IS
  'the text of an image, why it ends (stop, length or loop), how sure the model was, and what it took';

CREATE FUNCTION ocr_try(image bytea, mode ocr_mode DEFAULT 'auto', prompt text DEFAULT NULL,
    OUT text text,
    OUT error text,
    OUT sqlstate text)
  AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000000;

COMMENT ON FUNCTION ocr_try(bytea, ocr_mode, text) IS
  'the text of an image, or what is wrong with it, without an end to the query';

CREATE FUNCTION ocr_load(
    OUT name text,
    OUT parameters bigint,
    OUT bytes bigint,
    OUT weight_type text,
    OUT context integer,
    OUT load_ms double precision)
  AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000;

COMMENT ON FUNCTION ocr_load() IS
  'read the model''s weights into memory and say what the model is';

CREATE FUNCTION ocr_models(
    OUT name text,
    OUT current boolean,
    OUT path text,
    OUT parameters bigint,
    OUT bytes bigint,
    OUT weight_type text,
    OUT context integer,
    OUT error text)
  RETURNS SETOF record
  AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 100000 ROWS 5;

COMMENT ON FUNCTION ocr_models() IS
  'the models that are installed';

CREATE FUNCTION ocr_quantize_model(source text, target text, type text DEFAULT 'q8')
  RETURNS bigint
  AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE COST 100000000;

COMMENT ON FUNCTION ocr_quantize_model(text, text, text) IS
  'write a copy of a model with weights in 8 bits (q8) or 4 (q4), and return its size in bytes';

-- It writes files with the rights of the server.
REVOKE ALL ON FUNCTION ocr_quantize_model(text, text, text) FROM PUBLIC;
