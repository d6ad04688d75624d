\echo Use "ALTER EXTENSION deepseek_ocr UPDATE TO '0.2'" to load this file. \quit

-- A new installation runs this script too, after the one of 0.1.
