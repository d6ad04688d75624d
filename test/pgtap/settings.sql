-- Where the library is not loaded, its settings are unknown, and anyone may give a value to a name. None of that counts
-- once the library is there: an ordinary role, and the owner of a database, neither chooses the program nor the model.
-- In sessions of their own, which leave what they saw in a table.
\set ON_ERROR_STOP on
CREATE ROLE ordinary LOGIN;
CREATE DATABASE owned OWNER ordinary;
\c owned
CREATE EXTENSION pgtap;
CREATE EXTENSION deepseek_ocr;
CREATE TABLE seen (how text, sqlstate text);
GRANT ALL ON seen TO PUBLIC;
GRANT CREATE ON SCHEMA public TO ordinary;

-- Of a PDF that is none, the proper program says that it is damaged: OC004. A program that is not there would be OC003, and a
-- model that is not there would end the statement.
\c owned ordinary
SET client_min_messages = error;
SET deepseek_ocr.pdf_command = '/nowhere/draw';
SET deepseek_ocr.model = '/nowhere/model';
INSERT INTO seen SELECT 'SET', t.sqlstate FROM ocr_try('%PDF-') AS t;

-- Since PostgreSQL 15 these are errors by themselves. None of them loads the library.
\c owned ordinary
DO $$
BEGIN
    ALTER ROLE ordinary SET deepseek_ocr.pdf_command = '/nowhere/draw';
EXCEPTION WHEN insufficient_privilege THEN
END $$;
DO $$
BEGIN
    ALTER DATABASE owned SET deepseek_ocr.model = '/nowhere/model';
EXCEPTION WHEN insufficient_privilege THEN
END $$;
DO $do$
BEGIN
    CREATE FUNCTION draw() RETURNS text LANGUAGE sql SET deepseek_ocr.pdf_command = '/nowhere/draw'
        AS $$SELECT sqlstate FROM ocr_try('%PDF-')$$;
EXCEPTION WHEN insufficient_privilege THEN
END $do$;

\c owned ordinary
SET client_min_messages = error;
INSERT INTO seen SELECT 'ALTER', t.sqlstate FROM ocr_try('%PDF-') AS t;
DO $$
BEGIN
    IF to_regproc('draw') IS NOT NULL THEN
        INSERT INTO seen SELECT 'a function', draw();
    END IF;
END $$;

\c "dbname=owned user=ordinary options='-c client_min_messages=error -c deepseek_ocr.pdf_command=/nowhere/draw -c deepseek_ocr.model=/nowhere/model'"
INSERT INTO seen SELECT 'options', t.sqlstate FROM ocr_try('%PDF-') AS t;

\c "dbname=owned user=postgres options=''"
SELECT * FROM no_plan();
SELECT ok(how = ANY (SELECT s.how FROM seen AS s), 'a page is read after: ' || how) FROM unnest(ARRAY['SET', 'ALTER', 'options']) AS how;
SELECT is(sqlstate, 'OC004', 'with the program and the model of the superuser: ' || how) FROM seen;

-- What would have been seen otherwise.
SET deepseek_ocr.pdf_command = '/nowhere/draw';
SELECT is((SELECT sqlstate FROM ocr_try('%PDF-')), 'OC003', 'another program is another error');
RESET deepseek_ocr.pdf_command;
SET deepseek_ocr.model = '/nowhere/model';
SELECT throws_ok($$SELECT ocr_try('%PDF-')$$, '58P01', NULL, 'and so is another model');

RESET deepseek_ocr.model;
SELECT * FROM finish();
\c postgres
DROP DATABASE owned;
DROP ROLE ordinary;
